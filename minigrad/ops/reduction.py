"""Reductions: many elements become one, along some dimensions or all of them.

`dims` is a tuple of dimensions in ascending order (see `shapes.normalize_dims`).
"""

from __future__ import annotations

from minigrad.autograd import Function
from minigrad.shapes import reduced_shape

__all__ = ["CumSum", "Max", "Mean", "Sum", "winner"]


class Sum(Function):
    """y = sum of x over dims; every summand gets the gradient of the sum."""

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        ctx.shape, ctx.kept = x.shape, reduced_shape(x.shape, dims)
        integer = x.dtype.kind in "bui"
        return x.sum(axis=dims, keepdims=keepdim, dtype="int64" if integer else None)

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
        return x.sum(axis=dims, keepdims=keepdim) / (ctx.count if ctx.count else float("nan"))

    @staticmethod
    def backward(ctx, gy):
        return ctx.xp.broadcast_to((gy / max(ctx.count, 1)).reshape(ctx.kept), ctx.shape)


def winner(xp, x, dims):
    """Place of the largest element over dims, and x with dims moved to one last axis.

    Among equals the first in row-major order wins.
    x (kept..., dims...) -> index (kept...), rows (kept..., L)
    """
    kept = [i for i in range(x.ndim) if i not in dims]
    rows = x.transpose([*kept, *dims]).reshape([x.shape[i] for i in kept] + [-1])
    return xp.argmax(rows, axis=-1), rows


class Max(Function):
    """y = largest element over dims; the gradient goes to the winner alone. The minimum is -max(-x)."""

    @staticmethod
    def forward(ctx, x, dims, keepdim):
        ctx.shape, ctx.dims = x.shape, dims
        ctx.index, rows = winner(ctx.xp, x, dims)
        y = ctx.xp.take_along_axis(rows, ctx.index[..., None], axis=-1)[..., 0]
        return y.reshape(reduced_shape(x.shape, dims)) if keepdim else y

    @staticmethod
    def backward(ctx, gy):
        shape, dims = ctx.shape, ctx.dims
        kept = [i for i in range(len(shape)) if i not in dims]
        length = 1
        for d in dims:
            length *= shape[d]
        chosen = ctx.xp.arange(length) == ctx.index[..., None]  # (kept..., L)
        rows = chosen * gy.reshape(ctx.index.shape)[..., None]
        order = [*kept, *dims]
        back = [order.index(i) for i in range(len(shape))]
        return rows.reshape([shape[i] for i in order]).transpose(back)


class CumSum(Function):
    """y[i] = x[0] + ... + x[i] along one dimension; gx[i] = gy[i] + gy[i + 1] + ..."""

    @staticmethod
    def forward(ctx, x, dim):
        ctx.dim = dim
        return ctx.xp.cumsum(x, axis=dim)

    @staticmethod
    def backward(ctx, gy):
        flip = ctx.xp.flip
        return flip(ctx.xp.cumsum(flip(gy, axis=ctx.dim), axis=ctx.dim), axis=ctx.dim)
