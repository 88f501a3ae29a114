"""Taking elements by index: x[2], x[:, 1:3], x[rows, columns], x[mask].

Backward puts the gradients back where the elements came from. Where an index names an element twice,
its gradients add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minigrad import backend
from minigrad.autograd import Function
from minigrad.errors import OutOfRangeError
from minigrad.shapes import Shape

__all__ = ["GetItem", "check_index"]


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _own(index: Any) -> Any:
    """The index with arrays of its own: a later write to the caller's must not redirect the gradients."""
    if isinstance(index, tuple):
        return tuple(_own(part) for part in index)
    return index.copy() if backend.is_array(index) else index


def may_repeat(index: Any) -> bool:
    """Whether an index can name an element twice: arrays of integers can, slices and masks cannot."""
    return any(backend.is_array(part) and part.dtype.kind in "iu" for part in _parts(index))


def _consumed(part: Any) -> int:
    """How many dimensions one part of an index takes; an Ellipsis takes what the others leave."""
    if part is None or part is Ellipsis:
        return 0
    return int(part.ndim) if backend.is_array(part) and part.dtype.kind == "b" else 1


def _with_dimension(index: Any, ndim: int) -> Iterator[tuple[Any, int]]:
    """Each part of an index with the dimension that it starts at."""
    parts = _parts(index)
    dim = 0
    for part in parts:
        yield part, dim
        dim += ndim - sum(map(_consumed, parts)) if part is Ellipsis else _consumed(part)


def check_index(index: Any, shape: Shape) -> None:
    """Refuse integer arrays that reach outside; CuPy would wrap them round without a word.

    NumPy checks by itself, so this looks only at arrays of other libraries.

    Raises:
        OutOfRangeError: an index outside -size .. size - 1 of its dimension.
    """
    for part, dim in _with_dimension(index, len(shape)):
        if not backend.is_array(part) or part.dtype.kind == "b" or dim >= len(shape):
            continue
        if part.size and backend.device_of(part) != backend.CPU:
            low, high = int(part.min()), int(part.max())
            if low < -shape[dim] or high >= shape[dim]:
                bad = low if low < -shape[dim] else high
                raise OutOfRangeError(f"index {bad} is out of range for dimension {dim} of size {shape[dim]}")


class GetItem(Function):
    """y = x[index]."""

    @staticmethod
    def forward(ctx, x, index):
        check_index(index, x.shape)
        if ctx.needs_input_grad[0]:
            ctx.shape, ctx.index = x.shape, _own(index)
        return x[index]

    @staticmethod
    def backward(ctx, gy):
        gx = ctx.xp.zeros(ctx.shape, dtype=gy.dtype)
        if may_repeat(ctx.index):
            ctx.xp.add.at(gx, ctx.index, gy)  # adds up where an element was taken twice
        else:
            gx[ctx.index] = gy
        return gx
