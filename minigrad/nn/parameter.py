"""The two kinds of tensors that a layer owns.

A `Parameter` is learned: optimizers see it. A `Buffer` is state that is not learned (the running mean of a
batch norm): it is saved, and moves with the layer, but no optimizer touches it.
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Variable
from minigrad.tensor import Tensor

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor that requires gradients and is learned, once it is an attribute of a Module.

    >>> import minigrad as mg
    >>> Parameter(mg.zeros(2))
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    def __init__(self, data: Any, requires_grad: bool = True):
        super().__init__(data.array if isinstance(data, Variable) else data, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that is saved with its Module but not learned."""

    def __init__(self, data: Any, persistent: bool = True):
        super().__init__(data.array if isinstance(data, Variable) else data)
        self.persistent = persistent  # whether state_dict holds it
