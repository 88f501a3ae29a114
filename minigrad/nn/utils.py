"""Keeping gradients small: `clip_grad_norm_` and `clip_grad_value_`, between backward and the step.

loss.backward()
nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minigrad import backend
from minigrad.errors import ArgumentError, NonFiniteError
from minigrad.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    listed = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad.array for p in listed if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor so that together they are at most max_norm long.

        n = (sum |g|^p)^(1/p) over all gradients,    g = g min(1, max_norm / (n + 1e-6))

    Args:
        parameters: tensors; those without a gradient are passed over.
        max_norm: the length allowed.
        norm_type: p; math.inf stands for the largest absolute value.
        error_if_nonfinite: refuse to go on if n is NaN or infinite.

    Returns:
        n before clipping, a 0-d Tensor.

    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
    Algorithm 1.

    >>> import minigrad as mg
    >>> w = mg.tensor([0.0, 0.0], requires_grad=True)
    >>> (w * mg.tensor([3.0, 4.0])).sum().backward()
    >>> clip_grad_norm_([w], max_norm=1.0), w.grad
    (tensor(5.), tensor([0.6, 0.8]))
    """
    p = float(norm_type)
    if not p > 0:
        raise ArgumentError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type}")
    grads = _gradients(parameters)
    xp = backend.namespace(*grads)
    if not grads:
        return Tensor(xp.asarray(0.0, dtype=xp.float32))
    if p == math.inf:
        total = xp.stack([xp.abs(g).max() for g in grads if g.size]).max()
    else:
        total = xp.stack([(xp.abs(g) ** p).sum() for g in grads]).sum() ** (1 / p)
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        raise NonFiniteError(
            f"clip_grad_norm_: the gradients have the length {float(total)}, so they cannot be scaled"
        )
    factor = xp.minimum(max_norm / (total + 1e-6), 1.0)
    for g in grads:
        g *= factor.astype(g.dtype)
    return Tensor(xp.asarray(total))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Move every single gradient into -clip_value ... clip_value.

    >>> import minigrad as mg
    >>> w = mg.tensor([0.0, 0.0], requires_grad=True)
    >>> (w * mg.tensor([3.0, -0.5])).sum().backward()
    >>> clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([ 1. , -0.5])
    """
    limit = float(clip_value)
    for g in _gradients(parameters):
        backend.namespace(g).clip(g, -limit, limit, out=g)
