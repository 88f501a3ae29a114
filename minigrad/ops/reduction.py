"""Reductions: many elements become one, along some dimensions or all of them.

`dims` is a tuple of dimensions in ascending order (see `shapes.normalize_dims`).
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Function
from minigrad.shapes import Shape, reduced_shape

__all__ = ["CumSum", "Max", "Mean", "Min", "Norm", "Prod", "Sum", "as_rows", "from_rows"]


def as_rows(x: Any, dims: tuple[int, ...]) -> Any:
    """x with the dimensions dims, in row-major order, merged into one last dimension: (kept..., L)."""
    kept = [i for i in range(x.ndim) if i not in dims]
    length = 1
    for d in dims:
        length *= x.shape[d]
    return x.transpose([*kept, *dims]).reshape([*(x.shape[i] for i in kept), length])


def from_rows(rows: Any, shape: Shape, dims: tuple[int, ...]) -> Any:
    """The way back from `as_rows` to an array of `shape`."""
    order = [i for i in range(len(shape)) if i not in dims] + list(dims)
    return rows.reshape([shape[i] for i in order]).transpose([order.index(i) for i in range(len(shape))])


def _wide(dtype: Any) -> str | None:
    """What to add up in: int64 for integers and bools, float32 for float16, which ends at 65504."""
    if dtype.kind in "bui":
        return "int64"
    return "float32" if dtype == "float16" else None


class Sum(Function):
    """y = sum of x over dims; every summand gets the gradient of the sum."""

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        ctx.shape, ctx.kept = x.shape, reduced_shape(x.shape, dims)
        total = x.sum(axis=dims, keepdims=keepdim, dtype=_wide(x.dtype))
        return total.astype(x.dtype) if x.dtype == "float16" else total

    @staticmethod
    def backward(ctx, gy):
        return ctx.xp.broadcast_to(gy.reshape(ctx.kept), ctx.shape)


class Mean(Function):
    """y = sum of x over dims / number of summands."""

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        ctx.shape, ctx.kept = x.shape, reduced_shape(x.shape, dims)
        ctx.count = 1
        for d in dims:
            ctx.count *= x.shape[d]
        total = x.sum(axis=dims, keepdims=keepdim, dtype=_wide(x.dtype))
        return (total / (ctx.count if ctx.count else float("nan"))).astype(x.dtype)

    @staticmethod
    def backward(ctx, gy):
        return ctx.xp.broadcast_to((gy / max(ctx.count, 1)).reshape(ctx.kept), ctx.shape)


class Norm(Function):
    """y = (sum of |x|^p over dims)^(1/p), for a finite p; p = 2 is the Euclidean length.

    gx = gy sign(x) (|x| / y)^(p-1), taken as 0 where y = 0.
    """

    @staticmethod
    def forward(ctx, x, p, dims, keepdim):
        ctx.p, ctx.kept = p, reduced_shape(x.shape, dims)
        if p == 2:
            y = ctx.xp.sqrt((x * x).sum(axis=dims, keepdims=keepdim))
        else:
            y = (ctx.xp.abs(x) ** p).sum(axis=dims, keepdims=keepdim) ** (1 / p)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, gy):
        x, y = ctx.saved_tensors
        xp = ctx.xp
        y, gy = y.reshape(ctx.kept), gy.reshape(ctx.kept)
        y = xp.where(y == 0, xp.ones_like(y), y)
        if ctx.p == 2:
            return x * (gy / y)
        size = xp.where(x == 0, xp.ones_like(x), xp.abs(x))  # anything but 0, whose powers may be infinite
        return gy * xp.sign(x) * (size / y) ** (ctx.p - 1)


class Max(Function):
    """y = largest element over dims; among equals the first in row-major order gets the gradient."""

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        rows = as_rows(x, dims)
        return _choose(ctx, x, dims, keepdim, rows, ctx.xp.argmax(rows, axis=-1))

    @staticmethod
    def backward(ctx, gy):
        chosen = ctx.xp.arange(ctx.length) == ctx.index[..., None]  # (kept..., L)
        rows = chosen * gy.reshape(ctx.index.shape)[..., None]
        return from_rows(rows, ctx.shape, ctx.dims)


class Min(Function):
    """y = smallest element over dims; among equals the first in row-major order gets the gradient."""

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        rows = as_rows(x, dims)
        return _choose(ctx, x, dims, keepdim, rows, ctx.xp.argmin(rows, axis=-1))

    backward = staticmethod(Max.backward)


def _choose(ctx: Any, x: Any, dims: tuple[int, ...], keepdim: bool, rows: Any, index: Any) -> Any:
    """The element of each row at `index` (kept...), remembered for backward."""
    ctx.shape, ctx.dims, ctx.index, ctx.length = x.shape, dims, index, rows.shape[-1]
    y = ctx.xp.take_along_axis(rows, index[..., None], axis=-1)[..., 0]
    return y.reshape(reduced_shape(x.shape, dims)) if keepdim else y


class Prod(Function):
    """y = product of x over dims; gx = gy * product of the others.

    That product is (all before) * (all after), not y / x, which would be 0 / 0 for an element 0.
    """

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        ctx.dims = dims
        ctx.save_for_backward(x)
        return x.prod(axis=dims, keepdims=keepdim, dtype="int64" if x.dtype.kind in "bui" else None)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        xp = ctx.xp
        rows = as_rows(x, ctx.dims)  # (kept..., L)
        one = xp.ones_like(rows[..., :1])
        before = xp.cumprod(xp.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
        after = xp.flip(
            xp.cumprod(xp.concatenate([one, xp.flip(rows[..., 1:], axis=-1)], axis=-1), axis=-1), axis=-1
        )
        gy = gy.reshape(rows.shape[:-1])[..., None]
        return from_rows(gy * before[..., : rows.shape[-1]] * after[..., : rows.shape[-1]], x.shape, ctx.dims)


class CumSum(Function):
    """y[i] = x[0] + ... + x[i] along one dimension; gx[i] = gy[i] + gy[i + 1] + ..."""

    @staticmethod
    def forward(ctx, x, dim):
        ctx.dim = dim
        return ctx.xp.cumsum(x, axis=dim, dtype="int64" if x.dtype.kind in "bui" else None)

    @staticmethod
    def backward(ctx, gy):
        flip = ctx.xp.flip
        return flip(ctx.xp.cumsum(flip(gy, axis=ctx.dim), axis=ctx.dim), axis=ctx.dim)
