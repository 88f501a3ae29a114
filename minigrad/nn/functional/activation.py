"""Activation functions.

    sigmoid(x) = 1 / (1 + e^-x)                relu(x)  = max(x, 0)
    tanh(x)    = (e^x - e^-x) / (e^x + e^-x)   gelu(x)  = x Phi(x), Phi the normal distribution function
    softmax(x)_i = e^x_i / sum_j e^x_j         softplus(x) = ln(1 + e^x)

None of them overflows: e is only ever raised to a power of at most 0. The layers are in
`nn/activation.py`.
"""

from __future__ import annotations

import math
from typing import Any

from minigrad.autograd import Function
from minigrad.errors import ArgumentError
from minigrad.nn.functional.checks import check_tensor
from minigrad.nn.functional.erf import erf
from minigrad.shapes import normalize_dim
from minigrad.tensor import Tensor
from minigrad.tensor_base import floating

__all__ = [
    "gelu",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]


# 1. The formulas --------------------------------------------------------------------------------------


def sigmoid_forward(xp: Any, x: Any) -> Any:
    """1 / (1 + e^-x) for x >= 0 and e^x / (1 + e^x) for x < 0: the same number, never an overflow.

    With e = e^-|x| that is 1 / (1 + e) and e / (1 + e). Written into few arrays: a fresh one of some megabytes
    costs as much as its arithmetic.
    """
    e = xp.exp(-xp.abs(x))
    y = xp.maximum(e, x >= 0)  # 1 or e, which is at most 1
    e += 1
    y /= e
    return y


def softmax_forward(xp: Any, x: Any, axis: int) -> Any:
    """Softmax does not change when a constant is subtracted; with the maximum no power is above 0."""
    e = xp.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax_forward(xp: Any, x: Any, axis: int) -> Any:
    """ln softmax(x) = (x - max) - ln sum e^(x - max)."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


# 2. The operations ------------------------------------------------------------------------------------


class Sigmoid(Function):
    """dy/dx = y (1 - y)."""

    @staticmethod
    def forward(ctx, x):
        y = sigmoid_forward(ctx.xp, x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        gx = 1 - y
        gx *= y
        gx *= gy
        return gx


class Tanh(Function):
    """dy/dx = 1 - y^2."""

    @staticmethod
    def forward(ctx, x):
        y = ctx.xp.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        return gy * (1 - y * y)


class ReLU(Function):
    """dy/dx = 1 where x > 0, else 0; at 0 it is 0."""

    @staticmethod
    def forward(ctx, x):
        y = ctx.xp.maximum(x, 0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        return gy * (y > 0)


class LeakyReLU(Function):
    """y = x where x > 0, else slope x; at 0 the slope is `slope`."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        ctx.save_for_backward(x)
        return ctx.xp.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return ctx.xp.where(x > 0, gy, ctx.slope * gy)


class GELU(Function):
    """y = x Phi(x); dy/dx = Phi(x) + x phi(x), phi the normal density."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * (1 + erf(ctx.xp, x / math.sqrt(2))) / 2

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        phi = ctx.xp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return gy * ((1 + erf(ctx.xp, x / math.sqrt(2))) / 2 + x * phi)


class Softplus(Function):
    """y = ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|); dy/dx = sigmoid(x)."""

    @staticmethod
    def forward(ctx, x):
        xp = ctx.xp
        ctx.save_for_backward(x)
        return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return gy * sigmoid_forward(ctx.xp, x)


class Softmax(Function):
    """gx = y (gy - sum of y gy): raising one input lowers the other outputs."""

    @staticmethod
    def forward(ctx, x, axis):
        ctx.axis = axis
        y = softmax_forward(ctx.xp, x, axis)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        return y * (gy - (y * gy).sum(axis=ctx.axis, keepdims=True))


class LogSoftmax(Function):
    """gx = gy - softmax(x) sum of gy."""

    @staticmethod
    def forward(ctx, x, axis):
        ctx.axis = axis
        y = log_softmax_forward(ctx.xp, x, axis)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gy):
        (y,) = ctx.saved_tensors
        return gy - ctx.xp.exp(y) * gy.sum(axis=ctx.axis, keepdims=True)


# 3. What users call -----------------------------------------------------------------------------------


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-x) of every element.

    >>> import minigrad as mg
    >>> sigmoid(mg.tensor([-1000.0, 0.0, 1000.0]))
    tensor([0. , 0.5, 1. ])
    """
    check_tensor("sigmoid", "x", input)
    return Sigmoid.apply(floating(input))


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent of every element."""
    check_tensor("tanh", "x", input)
    return Tanh.apply(floating(input))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0) of every element; the gradient at 0 is 0.

    `inplace`, here and below, is accepted and ignored: nothing is ever overwritten.
    """
    check_tensor("relu", "x", input)
    return ReLU.apply(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, negative_slope * x elsewhere (Maas, Hannun and Ng 2013)."""
    check_tensor("leaky_relu", "x", input)
    return LeakyReLU.apply(floating(input), float(negative_slope))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x) of every element (Hendrycks and Gimpel 2016).

    With approximate="tanh": x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """
    check_tensor("gelu", "x", input)
    if approximate == "none":
        return GELU.apply(floating(input))
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input**3)
        return 0.5 * input * (1 + tanh(inner))
    raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^(beta x)) / beta of every element: a smooth relu, the sharper the larger beta.

    PyTorch returns x itself where beta x > threshold. Here the formula holds everywhere, so that threshold is
    accepted and ignored; for the default the difference is below 3e-9.
    """
    check_tensor("softplus", "x", input)
    if not beta > 0:
        raise ArgumentError(f"softplus: beta must be above 0, got {beta}")
    return Softplus.apply(floating(input)) if beta == 1 else Softplus.apply(floating(input) * beta) / beta


def softmax(input: Tensor, dim: int = -1) -> Tensor:
    """e^x / sum of e^x along `dim`: positive numbers that add up to 1.

    >>> import minigrad as mg
    >>> softmax(mg.tensor([1000.0, 1000.0]))
    tensor([0.5, 0.5])
    """
    check_tensor("softmax", "x", input)
    axis = normalize_dim(dim, input.ndim, "softmax")
    return Softmax.apply(floating(input), axis) if input.numel() else floating(input).clone()


def log_softmax(input: Tensor, dim: int = -1) -> Tensor:
    """ln softmax(x) along `dim`, exact also where softmax is too small for a float."""
    check_tensor("log_softmax", "x", input)
    axis = normalize_dim(dim, input.ndim, "log_softmax")
    return LogSoftmax.apply(floating(input), axis) if input.numel() else floating(input).clone()


def logsumexp(input: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """ln sum of e^x along `dim`, without overflow."""
    check_tensor("logsumexp", "x", input)
    highest = input.detach().amax(dim, keepdim=True)
    total = (input - highest).exp().sum(dim, keepdim=True).log() + highest
    return total if keepdim else total.squeeze(dim)
