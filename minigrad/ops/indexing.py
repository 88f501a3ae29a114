"""Taking elements by index: x[2], x[:, 1:3], x[rows, columns], x[mask].

Backward puts the gradients back where the elements came from. Where an index names an element twice,
its gradients add up.
"""

from __future__ import annotations

from typing import Any

from minigrad import backend
from minigrad.autograd import Function
from minigrad.errors import ArgumentError

__all__ = ["GetItem", "check_index"]


def is_advanced(index: Any) -> bool:
    """Whether an index holds arrays or lists, so that elements may repeat."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(backend.is_array(part) or isinstance(part, list) for part in parts)


def check_index(index: Any, shape: tuple[int, ...]) -> None:
    """Refuse integer arrays that reach outside; CuPy would wrap them round without a word.

    NumPy checks by itself, so this looks only at arrays of other libraries, and at the plain case in which
    array i indexes dimension i.
    """
    parts = index if isinstance(index, tuple) else (index,)
    for i, part in enumerate(parts):
        if (
            backend.is_array(part)
            and part.dtype.kind in "iu"
            and part.size
            and backend.device_of(part).type != "cpu"
        ):
            low, high = int(part.min()), int(part.max())
            if low < -shape[i] or high >= shape[i]:
                bad = low if low < -shape[i] else high
                raise ArgumentError(f"index {bad} is out of range for dimension {i} of size {shape[i]}")


class GetItem(Function):
    """y = x[index]."""

    @staticmethod
    def forward(ctx, x, index):
        ctx.shape, ctx.index = x.shape, index
        check_index(index, x.shape)
        return x[index]

    @staticmethod
    def backward(ctx, gy):
        gx = ctx.xp.zeros(ctx.shape, dtype=gy.dtype)
        if is_advanced(ctx.index):
            ctx.xp.add.at(gx, ctx.index, gy)  # adds up where an element was taken twice
        else:
            gx[ctx.index] = gy
        return gx
