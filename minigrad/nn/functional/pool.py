"""Pooling: one number for each window of a picture.

    max:      y[n, c, p, q] = max over i, j of x[n, c, p S + i D, q S + j D]
    average:  y[n, c, p, q] = sum over i, j of x[n, c, p S + i, q S + j] / (K L)

A kernel has K*L places ("taps"). Over all windows, one tap is a strided slice of x, so pooling is a loop
over taps, not over windows. The gradient of a maximum goes to the tap that won; among equals, to the first
in row-major order (docs/conventions.md). The layers are in `nn/pool.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd import Function
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.nn.functional.checks import check_positive, check_tensor
from minigrad.shapes import as_int, output_size, pair
from minigrad.tensor import Tensor
from minigrad.tensor_base import floating

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]

Pair = tuple[int, int]


# 1. The formulas --------------------------------------------------------------------------------------


def surround(
    xp: Any, x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, out: Pair, value: Any
) -> Any:
    """x (N, C, H, W) with `value` around it as far as the last window reaches; x itself if that is inside."""
    N, C, H, W = x.shape
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(out, stride, dilation, kernel, strict=True)]
    if padding == (0, 0) and reach[0] <= H and reach[1] <= W:
        return x
    height, width = max(H + padding[0], reach[0]), max(W + padding[1], reach[1])
    framed = xp.full((C, height, width, N), value, dtype=x.dtype).transpose(3, 0, 1, 2)
    framed[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W] = x
    return framed


def taps(kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> list[tuple[slice, slice]]:
    """For each tap in row-major order: the rows and columns of x that it sees."""
    return [
        (
            slice(i * dilation[0], i * dilation[0] + stride[0] * (out[0] - 1) + 1, stride[0]),
            slice(j * dilation[1], j * dilation[1] + stride[1] * (out[1] - 1) + 1, stride[1]),
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def first_inside(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, out: Pair) -> np.ndarray:
    """The number of the first tap of each window (P, Q) that lies in the picture and not in the padding."""
    rows, columns = (
        np.maximum(0, -((np.arange(n) * s - p) // d))  # the smallest i >= 0 with i d >= p - n s
        for n, s, p, d in zip(out, stride, padding, dilation, strict=True)
    )
    return rows[:, None] * kernel[1] + columns


def max_pool_forward(xp: Any, x: Any, windows: list[tuple[slice, slice]]) -> tuple[Any, Any]:
    """Framed x -> y (N, C, P, Q) and the number of the winning tap (N, C, P, Q).

    The winner is the first tap that equals the maximum, so its number is how many taps before it do not.
    A NaN wins over everything; it equals nothing, so it counts as the last tap.
    """
    values = [x[:, :, rows, columns] for rows, columns in windows]
    y = values[0] if len(values) > 1 else values[0].copy()  # never a view of x
    for value in values[1:]:
        y = xp.maximum(y, value)
    winner = xp.zeros_like(y, dtype="uint8" if len(windows) <= 256 else "int64")
    missed = True  # whether all taps so far are smaller than the maximum
    for value in values[:-1]:
        missed = missed & (value != y)
        winner = winner + missed
    return y, winner


# 2. The operations ------------------------------------------------------------------------------------


class MaxPool2d(Function):
    """gx gets gy at the winner of each window; a value that wins several windows gets the sum."""

    @staticmethod
    def forward(ctx, x, kernel, stride, padding, dilation, out, return_indices):
        xp = ctx.xp
        lowest = -float("inf") if x.dtype.kind == "f" else int(np.iinfo(x.dtype).min)
        framed = surround(xp, x, kernel, stride, padding, dilation, out, lowest)
        ctx.windows = taps(kernel, stride, dilation, out)
        y, ctx.winner = max_pool_forward(xp, framed, ctx.windows)
        if padding != (0, 0):  # a picture may be as low as the padding, which must not win even then
            first = first_inside(kernel, stride, padding, dilation, out)
            ctx.winner = xp.maximum(ctx.winner, xp.asarray(first.astype(ctx.winner.dtype)))
        ctx.x_shape, ctx.framed_shape, ctx.padding = x.shape, framed.shape, padding
        if not return_indices:
            return y
        # where the winner lies in one picture, counted row by row
        winner = ctx.winner.astype("int64")
        W = x.shape[3]
        row = xp.arange(out[0]).reshape(-1, 1) * stride[0] - padding[0] + winner // kernel[1] * dilation[0]
        column = xp.arange(out[1]) * stride[1] - padding[1] + winner % kernel[1] * dilation[1]
        return y, row * W + column

    @staticmethod
    def backward(ctx, gy, *_):  # the second output, the indices, has no gradient
        xp = ctx.xp
        N, C, H, W = ctx.framed_shape
        gx = xp.zeros((C, H, W, N), dtype=gy.dtype).transpose(3, 0, 1, 2)
        # After a Flatten gy has another memory order: changed once here, not for every tap
        to_share = xp.empty_like(ctx.winner, dtype=gy.dtype)
        to_share[...] = gy
        share = xp.empty_like(to_share)
        for t, (rows, columns) in enumerate(ctx.windows):
            xp.multiply(to_share, ctx.winner == t, out=share)
            gx[:, :, rows, columns] += share
        top, left = ctx.padding
        return gx[:, :, top : top + ctx.x_shape[2], left : left + ctx.x_shape[3]]


class AvgPool2d(Function):
    """Every value of a window gets gy / divisor."""

    @staticmethod
    def forward(ctx, x, kernel, stride, padding, out, divisor):
        xp = ctx.xp
        framed = surround(xp, x, kernel, stride, padding, (1, 1), out, 0)
        ctx.windows = taps(kernel, stride, (1, 1), out)
        ctx.divisor = xp.asarray(divisor, dtype=x.dtype)  # (P, Q)
        ctx.x_shape, ctx.framed_shape, ctx.padding = x.shape, framed.shape, padding
        total = framed[:, :, ctx.windows[0][0], ctx.windows[0][1]].copy(order="K")  # the memory order of x
        for rows, columns in ctx.windows[1:]:
            total += framed[:, :, rows, columns]
        return total / ctx.divisor

    @staticmethod
    def backward(ctx, gy):
        N, C, H, W = ctx.framed_shape
        gx = ctx.xp.zeros((C, H, W, N), dtype=gy.dtype).transpose(3, 0, 1, 2)
        share = ctx.xp.empty_like(gx[:, :, : gy.shape[2], : gy.shape[3]])  # in the memory order of gx
        ctx.xp.divide(gy, ctx.divisor, out=share)
        for rows, columns in ctx.windows:
            gx[:, :, rows, columns] += share
        top, left = ctx.padding
        return gx[:, :, top : top + ctx.x_shape[2], left : left + ctx.x_shape[3]]


# 3. What users call -----------------------------------------------------------------------------------


def _geometry(
    name: str, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    """Kernel, stride, padding, dilation and output size as pairs, all checked."""
    kernel = pair(kernel_size, "kernel_size")
    steps = kernel if stride is None else pair(stride, "stride")
    around, spread = pair(padding, "padding"), pair(dilation, "dilation")
    check_positive(name, kernel_size=kernel, stride=steps, dilation=spread)
    if min(around) < 0 or any(2 * p > k for p, k in zip(around, kernel, strict=True)):
        raise ArgumentError(
            f"{name}: padding must be between 0 and half of kernel_size, "
            f"got padding {around} for kernel_size {kernel}"
        )
    if x.ndim != 4:
        raise ShapeError(f"{name}: x must have shape (N, C, H, W) or (C, H, W), got {x.shape}")
    sizes = [
        output_size(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip(x.shape[2:], kernel, steps, around, spread, strict=True)
    ]
    if min(sizes) < 1 or min(x.shape[2:]) < 1:
        raise ShapeError(
            describe(
                f"{name}: the window does not fit into the picture",
                [
                    ("x", x.shape, "N C H W"),
                    ("kernel_size", kernel, ""),
                    ("padding", around, ""),
                    ("dilation", spread, ""),
                ],
                "use a smaller window, or fewer pooling layers",
            )
        )
    return kernel, steps, around, spread, (sizes[0], sizes[1])


def max_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value of every window.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: height and width of the window.
        stride: distance between windows; kernel_size when left out, so that they do not overlap.
        padding: how far windows may begin outside; what is outside never wins.
        dilation: distance between the values of one window.
        ceil_mode: also count a last window that reaches beyond the edge.
        return_indices: also return where each maximum was found, as row * W + column.

    Returns:
        (N, C, P, Q) with P = floor((H + 2 padding - dilation (K - 1) - 1) / stride) + 1.

    >>> import minigrad as mg
    >>> max_pool2d(mg.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    check_tensor("max_pool2d", "x", input)
    if input.ndim == 3:
        one = input.unsqueeze(0)
        found = max_pool2d(one, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return (found[0].squeeze(0), found[1].squeeze(0)) if return_indices else found.squeeze(0)
    geometry = _geometry("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return MaxPool2d.apply(input, *geometry, return_indices)


def avg_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Mean of every window.

    Args and result as for `max_pool2d`. `count_include_pad`: zeros of the padding count as values;
    `divisor_override`: divide by this number instead of the size of the window.

    >>> import minigrad as mg
    >>> avg_pool2d(mg.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[ 2.5,  4.5],
              [10.5, 12.5]]]])
    """
    check_tensor("avg_pool2d", "x", input)
    if input.ndim == 3:
        one = input.unsqueeze(0)
        return avg_pool2d(
            one, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        ).squeeze(0)
    kernel, steps, around, _, out = _geometry("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None:
        if as_int(divisor_override, "divisor_override") == 0:
            raise ArgumentError("avg_pool2d: divisor_override must not be 0")
        divisor = np.full(out, divisor_override)
    else:
        rows, columns = (
            _counts(n, k, s, p, m, count_include_pad)
            for n, k, s, p, m in zip(input.shape[2:], kernel, steps, around, out, strict=True)
        )
        divisor = rows[:, None] * columns  # (P, Q)
    return AvgPool2d.apply(floating(input), kernel, steps, around, out, divisor)


def _counts(size: int, kernel: int, stride: int, padding: int, out: int, include_pad: bool) -> np.ndarray:
    """How many values each window covers along one direction; never those beyond the padding."""
    start = np.arange(out) * stride - padding
    end = np.minimum(start + kernel, size + padding)
    if not include_pad:
        start, end = np.maximum(start, 0), np.minimum(end, size)
    return end - start


def adaptive_avg_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """Mean over a grid of P x Q windows that cover the picture, whatever its size.

    Window p covers the rows floor(p H / P) to ceil((p + 1) H / P). Along each direction that is a matrix of
    averages A (P, H), so y = A x B'.

    >>> import minigrad as mg
    >>> adaptive_avg_pool2d(mg.arange(16.0).reshape(1, 1, 4, 4), 1)
    tensor([[[[7.5]]]])
    """
    check_tensor("adaptive_avg_pool2d", "x", input)
    if input.ndim not in (3, 4):
        raise ShapeError(
            f"adaptive_avg_pool2d: x must have shape (N, C, H, W) or (C, H, W), got {input.shape}"
        )
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) != 2:
        raise ArgumentError(
            f"adaptive_avg_pool2d: output_size must be one whole number or two, got {output_size!r}"
        )
    input = floating(input)
    H, W = input.shape[-2:]
    P, Q = (n if w is None else as_int(w, "output_size") for w, n in zip(wanted, (H, W), strict=True))
    check_positive("adaptive_avg_pool2d", output_size=(P, Q))
    if min(H, W) < 1:
        raise ShapeError(f"adaptive_avg_pool2d: an empty picture of shape {input.shape} has no mean")
    rows, columns = (
        Tensor(_averages(n, m).astype(input.dtype)).to(input.device) for n, m in ((H, P), (W, Q))
    )
    return rows @ input @ columns.T  # (P, H) @ (N, C, H, W) @ (W, Q)


def _averages(size: int, out: int) -> np.ndarray:
    """The matrix (out, size) whose row p averages the values that window p covers."""
    matrix = np.zeros((out, size))
    for p in range(out):
        start, end = p * size // out, -(-(p + 1) * size // out)
        matrix[p, start:end] = 1 / (end - start)
    return matrix
