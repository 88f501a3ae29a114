"""Arithmetic of two operands, with broadcasting; one of them may be a Python number.

    y = a + b, a - b, a * b, a / b, a ** b, max(a, b), min(a, b), and `where`, which chooses between two

The gradient of a broadcast operand is summed back to its shape by `sum_to`.
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Function
from minigrad.ops.broadcast import sum_to

__all__ = ["Add", "Div", "Maximum", "Minimum", "Mul", "Neg", "Pow", "Sub", "Where"]


def _shape(x: Any) -> tuple[int, ...]:
    return getattr(x, "shape", ())


def _gradients(ctx: Any, ga: Any, gb: Any) -> tuple[Any, Any]:
    """The two gradients, computed only where needed: `ga` and `gb` are functions without arguments."""
    need_a, need_b = ctx.needs_input_grad[:2]
    return (
        sum_to(ga(), ctx.a_shape) if need_a else None,
        sum_to(gb(), ctx.b_shape) if need_b else None,
    )


class Add(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        return a + b

    @staticmethod
    def backward(ctx, gy):
        return _gradients(ctx, lambda: gy, lambda: gy)


class Sub(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        return a - b

    @staticmethod
    def backward(ctx, gy):
        return _gradients(ctx, lambda: gy, lambda: -gy)


class Mul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, gy):
        a, b = ctx.saved_tensors
        return _gradients(ctx, lambda: gy * b, lambda: gy * a)


class Div(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        ctx.save_for_backward(a, b)
        return a / b

    @staticmethod
    def backward(ctx, gy):
        a, b = ctx.saved_tensors
        return _gradients(ctx, lambda: gy / b, lambda: -gy * a / (b * b))


class Pow(Function):
    """y = a ** b; dy/da = b a**(b-1), dy/db = y ln(a), which is taken as 0 where a = 0 and b >= 0."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        y = a**b
        ctx.save_for_backward(a, b, y)
        return y

    @staticmethod
    def backward(ctx, gy):
        a, b, y = ctx.saved_tensors
        xp = ctx.xp

        def ga():
            if not ctx.b_shape and not hasattr(b, "shape"):
                return xp.zeros_like(gy) if b == 0 else gy * (b * a ** (b - 1))
            zero = b == 0  # 0 * 0**-1 would be NaN
            return xp.where(zero, xp.zeros_like(gy), gy * b * a ** (xp.where(zero, xp.ones_like(b), b) - 1))

        def gb():
            if not hasattr(a, "shape"):  # a Python number
                return (
                    gy * y * (xp.log(xp.asarray(a, dtype=y.dtype)) if a > 0 else float("nan" if a < 0 else 0))
                )
            dead = (a == 0) & (b >= 0)
            return gy * xp.where(dead, xp.zeros_like(y), y * xp.log(xp.where(dead, xp.ones_like(a), a)))

        return _gradients(ctx, ga, gb)


class Neg(Function):
    @staticmethod
    def forward(ctx, x):
        return -x

    @staticmethod
    def backward(ctx, gy):
        return -gy


class Maximum(Function):
    """The larger of two; where they are equal each gets half of the gradient, as in PyTorch."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        ctx.save_for_backward(a, b)
        return ctx.xp.maximum(a, b)

    @staticmethod
    def backward(ctx, gy):
        a, b = ctx.saved_tensors
        return _gradients(ctx, lambda: gy * _share(a > b, a == b, gy), lambda: gy * _share(b > a, a == b, gy))


class Minimum(Function):
    """The smaller of two; where they are equal each gets half of the gradient, as in PyTorch."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        ctx.save_for_backward(a, b)
        return ctx.xp.minimum(a, b)

    @staticmethod
    def backward(ctx, gy):
        a, b = ctx.saved_tensors
        return _gradients(ctx, lambda: gy * _share(a < b, a == b, gy), lambda: gy * _share(b < a, a == b, gy))


def _share(wins: Any, ties: Any, gy: Any) -> Any:
    """1 where this operand wins, 1/2 where the two are equal, 0 elsewhere."""
    return wins.astype(gy.dtype) + ties.astype(gy.dtype) / 2


class Where(Function):
    """y = a where the condition holds, b elsewhere."""

    @staticmethod
    def forward(ctx, condition, a, b):
        ctx.a_shape, ctx.b_shape = _shape(a), _shape(b)
        ctx.save_for_backward(condition)
        return ctx.xp.where(condition, a, b)

    @staticmethod
    def backward(ctx, gy):
        (condition,) = ctx.saved_tensors
        zero = ctx.xp.zeros_like(gy)
        return (
            None,
            sum_to(ctx.xp.where(condition, gy, zero), ctx.a_shape) if ctx.needs_input_grad[1] else None,
            sum_to(ctx.xp.where(condition, zero, gy), ctx.b_shape) if ctx.needs_input_grad[2] else None,
        )
