"""The fully connected layer.

    y[n, o] = sum over i of x[n, i] W[o, i]  +  b[o]        y = x W' + b

The layer is in `nn/linear.py`.
"""

from __future__ import annotations

from minigrad.autograd import Function
from minigrad.errors import ShapeError, describe
from minigrad.nn.functional.checks import check_same_dtype, check_tensor
from minigrad.tensor import Tensor

__all__ = ["linear"]


class Linear(Function):
    """gx = gy W,  gW = gy' x,  gb = sum of gy over all but the last dimension."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        y = x @ weight.T
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx, gy):
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        rows = gy.reshape(-1, gy.shape[-1])  # (N, out)
        return (
            gy @ weight if need_x else None,
            rows.T @ x.reshape(-1, x.shape[-1]) if need_weight else None,
            rows.sum(axis=0) if need_bias else None,
        )


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b.

    Args:
        input: (..., in), usually (N, in).
        weight: (out, in).
        bias: (out,), or None.

    Returns:
        (..., out).

    >>> import minigrad as mg
    >>> linear(mg.ones(2, 3), mg.ones(4, 3)).shape
    (2, 4)
    """
    check_tensor("linear", "x", input)
    check_tensor("linear", "weight", weight)
    check_tensor("linear", "bias", bias, optional=True)
    if weight.ndim != 2 or input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        features = weight.shape[1] if weight.ndim == 2 else "?"
        hint = f"use Linear({input.shape[-1]}, {weight.shape[0]})" if input.ndim and weight.ndim == 2 else ""
        if input.ndim == 4 and weight.ndim == 2:
            hint = "put nn.Flatten() before the first Linear"
        raise ShapeError(
            describe(
                f"linear: weight expects {features} input features, x has "
                f"{input.shape[-1] if input.ndim else 'no dimension'}",
                [("x", input.shape, "... in"), ("weight", weight.shape, "out in")],
                hint,
            )
        )
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ShapeError(f"linear: bias has shape {bias.shape}, expected ({weight.shape[0]},)")
    check_same_dtype("linear", x=input, weight=weight, bias=bias)
    return Linear.apply(input, weight, bias)
