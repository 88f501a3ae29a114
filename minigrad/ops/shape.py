"""Operations that move or repeat elements without changing them.

Results are views of the same memory where the library can make them so.
"""

from __future__ import annotations

from minigrad.autograd import Function
from minigrad.ops.broadcast import sum_to

__all__ = ["Concatenate", "Expand", "Permute", "Reshape"]


class Reshape(Function):
    """y = the same elements, in row-major order, with another shape."""

    @staticmethod
    def forward(ctx, x, shape):
        ctx.shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx, gy):
        return gy.reshape(ctx.shape)


class Permute(Function):
    """y[i_order[0], i_order[1], ...] = x[i_0, i_1, ...]: dimension k of y is dimension order[k] of x."""

    @staticmethod
    def forward(ctx, x, order):
        ctx.order = order
        return x.transpose(order)

    @staticmethod
    def backward(ctx, gy):
        back = [ctx.order.index(i) for i in range(len(ctx.order))]
        return gy.transpose(back)


class Expand(Function):
    """y = x stretched to a larger shape by broadcasting."""

    @staticmethod
    def forward(ctx, x, shape):
        ctx.shape = x.shape
        return ctx.xp.broadcast_to(x, shape)

    @staticmethod
    def backward(ctx, gy):
        return sum_to(gy, ctx.shape)


class Concatenate(Function):
    """y = the given arrays one after the other along dim; each gets its part of the gradient."""

    @staticmethod
    def forward(ctx, dim, *xs):
        ctx.dim, ctx.sizes = dim, [x.shape[dim] for x in xs]
        return ctx.xp.concatenate(xs, axis=dim)

    @staticmethod
    def backward(ctx, gy):
        parts, start = [], 0
        for size in ctx.sizes:
            parts.append(gy[(slice(None),) * ctx.dim + (slice(start, start + size),)])
            start += size
        return (None, *parts)
