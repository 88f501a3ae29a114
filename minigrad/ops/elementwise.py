"""Functions of one number, applied to every element.

Where the derivative is easiest to write with the result (exp, sqrt), the result is saved, otherwise the
input. Activations (sigmoid, relu, ...) are in `nn/functional/activation.py`.
"""

from __future__ import annotations

from minigrad import backend
from minigrad.autograd import Function

__all__ = ["Abs", "Cast", "Clip", "Clone", "Cos", "Exp", "Log", "Log1p", "Sin", "Sqrt", "ToDevice"]


class Exp(Function):
    """y = e**x; dy/dx = y."""

    @staticmethod
    def forward(ctx, x):
        y = ctx.xp.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        return gy * y


class Log(Function):
    """y = ln x; dy/dx = 1/x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return ctx.xp.log(x)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return gy / x


class Log1p(Function):
    """y = ln(1 + x), exact for small x; dy/dx = 1/(1 + x)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return ctx.xp.log1p(x)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return gy / (1 + x)


class Sqrt(Function):
    """y = sqrt(x); dy/dx = 1/(2 y)."""

    @staticmethod
    def forward(ctx, x):
        y = ctx.xp.sqrt(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        return gy / (2 * y)


class Abs(Function):
    """y = |x|; dy/dx = sign(x), which is 0 at 0."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return ctx.xp.abs(x)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return gy * ctx.xp.sign(x)


class Sin(Function):
    """y = sin x; dy/dx = cos x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return ctx.xp.sin(x)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return gy * ctx.xp.cos(x)


class Cos(Function):
    """y = cos x; dy/dx = -sin x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return ctx.xp.cos(x)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return -gy * ctx.xp.sin(x)


class Clip(Function):
    """y = x limited to [low, high]; dy/dx = 1 inside and on the limits, 0 outside."""

    @staticmethod
    def forward(ctx, x, low, high):
        inside = ctx.xp.ones(x.shape, dtype=bool)
        if low is not None:
            inside = inside & (x >= low)
        if high is not None:
            inside = inside & (x <= high)
        ctx.inside = inside
        return ctx.xp.clip(x, low, high)

    @staticmethod
    def backward(ctx, gy):
        return gy * ctx.inside


class Clone(Function):
    """y = x, in memory of its own."""

    @staticmethod
    def forward(ctx, x):
        return x.copy(order="K")  # in the memory order of x

    @staticmethod
    def backward(ctx, gy):
        return gy


class Cast(Function):
    """y = x in another dtype; the gradient goes back in the dtype of x, as every gradient does."""

    @staticmethod
    def forward(ctx, x, dtype):
        return x.astype(dtype)

    @staticmethod
    def backward(ctx, gy):
        return gy


class ToDevice(Function):
    """y = x on another device; the gradient goes back to the device of x."""

    @staticmethod
    def forward(ctx, x, device):
        ctx.home = backend.device_of(x)
        return backend.to_device(x, device)

    @staticmethod
    def backward(ctx, gy):
        return backend.to_device(gy, ctx.home)
