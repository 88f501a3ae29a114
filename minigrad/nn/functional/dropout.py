"""Dropout (Srivastava et al. 2014): in training each value is 0 with probability p.

    y = x mask / (1 - p)     mask = 1 with probability 1 - p, else 0

Dividing by 1 - p keeps the expectation, so nothing has to be done in evaluation mode. The mask is drawn on
the host, so a seed gives the same mask on every device. The layer is in `nn/dropout.py`.
"""

from __future__ import annotations

from minigrad import backend
from minigrad.errors import ArgumentError
from minigrad.nn.functional.checks import check_tensor
from minigrad.tensor import Tensor

__all__ = ["dropout"]


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p, and scale the others by 1 / (1 - p).

    `inplace` is accepted and ignored: nothing is ever overwritten.

    >>> import minigrad as mg
    >>> y = dropout(mg.ones(1000), p=0.2)
    >>> sorted(set(y.tolist())) == [0.0, 1.25]
    True
    """
    check_tensor("dropout", "x", input)
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be between 0 and 1, got {p}")
    if not training or p == 0:
        return input
    kept = backend.random.generator().random(input.shape) >= p
    scale = 1 / (1 - p) if p < 1 else 0.0
    mask = Tensor((kept * scale).astype(input.dtype)).to(input.device)
    return input * mask
