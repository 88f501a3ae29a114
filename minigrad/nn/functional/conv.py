"""Two-dimensional convolution (a cross-correlation, as everywhere in deep learning).

    y[n, o, p, q] = b[o] + sum over c, i, j of  W[o, c, i, j] x[n, c, p S + i D, q S + j D]

with stride S, dilation D, and x surrounded by `padding` zeros. All windows side by side form a matrix, and
the convolution is one matrix product ("im2col"):

    cols (C K L, P Q N)        W (O, C K L) @ cols -> y (O, P Q N)

The batch is the last dimension of `cols`, so that each row of a window is one long run of memory; y comes
out in the memory order C H W N, which users do not see. With groups, each group of channels is a product
of its own. Letters: docs/notation.md. The layer is in `nn/conv.py`.

This is the form to read, and it does everything everywhere. For the common case on the CPU (no dilation, no
groups) `conv2d` takes the same arithmetic from `kernels/cpu/conv.py`, which copies less, and with many channels and
many pictures from `kernels/cpu/rows.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd import Function
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.nn.functional.checks import check_positive, check_same_dtype, check_tensor
from minigrad.nn.functional.fused import BlockOptions, ConvBlock, runs_on_device
from minigrad.shapes import as_int, output_size, pair
from minigrad.tensor import Tensor

__all__ = ["conv2d"]

Pair = tuple[int, int]


# 1. The formula ---------------------------------------------------------------------------------------


def batch_last(xp: Any, x: Any) -> Any:
    """x (N, C, H, W) -> (C, H, W, N), contiguous; a copy only if the memory is not in that order yet."""
    return xp.ascontiguousarray(x.transpose(1, 2, 3, 0))


def im2col(xp: Any, x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    """x (N, C, H, W) -> cols (C, K, L, P, Q, N): every window, in one strided copy."""
    x = batch_last(xp, x)
    if padding != (0, 0):
        C, H, W, N = x.shape
        padded = xp.zeros((C, H + 2 * padding[0], W + 2 * padding[1], N), dtype=x.dtype)
        padded[:, padding[0] : padding[0] + H, padding[1] : padding[1] + W] = x
        x = padded
    C, H, W, N = x.shape
    P = output_size(H, kernel[0], stride[0], 0, dilation[0])
    Q = output_size(W, kernel[1], stride[1], 0, dilation[1])
    c, h, w, n = x.strides
    windows = xp.lib.stride_tricks.as_strided(
        x,
        shape=(C, *kernel, P, Q, N),
        strides=(c, dilation[0] * h, dilation[1] * w, stride[0] * h, stride[1] * w, n),
    )
    return xp.ascontiguousarray(windows)


def col2im(xp: Any, gcols: Any, shape: Any, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    """The backward of im2col: gcols (C, K, L, P, Q, N) -> gx (N, C, H, W), overlapping windows added up.

    One addition for each place (i, j) in the kernel: within one place no two windows overlap.
    """
    N, C, H, W = shape
    K, L, P, Q = gcols.shape[1:5]
    gx = xp.zeros((C, H + 2 * padding[0], W + 2 * padding[1], N), dtype=gcols.dtype)
    for i in range(K):
        rows = slice(i * dilation[0], i * dilation[0] + stride[0] * P, stride[0])
        for j in range(L):
            columns = slice(j * dilation[1], j * dilation[1] + stride[1] * Q, stride[1])
            gx[:, rows, columns] += gcols[:, i, j]
    return gx[:, padding[0] : padding[0] + H, padding[1] : padding[1] + W].transpose(3, 0, 1, 2)


# 2. The operation -------------------------------------------------------------------------------------


class Conv2d(Function):
    """gW = gy cols',  gcols = W' gy,  gx = col2im(gcols),  gb = sum of gy over N, P, Q."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, groups):
        xp = ctx.xp
        (N, C), (O, _, K, L) = x.shape[:2], weight.shape
        cols = im2col(xp, x, (K, L), stride, padding, dilation)
        P, Q = cols.shape[3:5]
        cols = cols.reshape(groups, C // groups * K * L, P * Q * N)  # (G, C/G*K*L, P*Q*N)
        w = weight.reshape(groups, O // groups, cols.shape[1])  # (G, O/G, C/G*K*L)
        y = xp.matmul(w, cols).reshape(O, P, Q, N)
        if bias is not None:
            y += bias.reshape(O, 1, 1, 1)
        ctx.save_for_backward(cols, weight)
        ctx.geometry = (x.shape, (K, L), (P, Q), stride, padding, dilation)
        return y.transpose(3, 0, 1, 2)

    @staticmethod
    def backward(ctx, gy):
        xp = ctx.xp
        cols, weight = ctx.saved_tensors  # (G, C/G*K*L, P*Q*N), (O, C/G, K, L)
        x_shape, kernel, (P, Q), stride, padding, dilation = ctx.geometry
        N, C = x_shape[:2]
        O, G = weight.shape[0], cols.shape[0]
        gy = batch_last(xp, gy).reshape(G, O // G, P * Q * N)
        gx = gweight = gbias = None
        if ctx.needs_input_grad[0]:
            w = weight.reshape(G, O // G, -1)
            gcols = xp.matmul(w.transpose(0, 2, 1), gy).reshape(C, *kernel, P, Q, N)
            gx = col2im(xp, gcols, x_shape, stride, padding, dilation)
        if ctx.needs_input_grad[1]:
            # (cols gy')', not gy cols': the same product, and BLAS is faster with the longer side in front
            gweight = xp.matmul(cols, gy.transpose(0, 2, 1)).transpose(0, 2, 1).reshape(weight.shape)
        if ctx.needs_input_grad[2]:
            gbias = gy.sum(axis=2).reshape(O)
        return gx, gweight, gbias


class Conv2dKernel(ConvBlock):
    """The same without dilation and groups, on the CPU, by the kernels: in half of Conv2d's time or less."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):  # type: ignore[override]
        options = BlockOptions("identity", stride=stride, padding=padding, alone=True)
        return ConvBlock.forward(ctx, x, weight, bias, None, None, options)

    @staticmethod
    def backward(ctx, gy):
        return ConvBlock.backward(ctx, gy)


# 3. What users call -----------------------------------------------------------------------------------


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve pictures with kernels.

    Args:
        input: (N, C, H, W), or (C, H, W) for one picture.
        weight: (O, C/groups, K, L).
        bias: (O,), or None.
        stride: distance between windows.
        padding: zeros added on each side; "valid" for none, "same" to keep H and W (stride 1 only).
        dilation: distance between the inputs of one window.
        groups: channels are split into so many groups that do not see each other.

    Returns:
        (N, O, P, Q) with P = floor((H + 2 padding - dilation (K - 1) - 1) / stride) + 1.

    >>> import minigrad as mg
    >>> conv2d(mg.ones(8, 1, 28, 28), mg.ones(6, 1, 5, 5)).shape
    (8, 6, 24, 24)
    """
    check_tensor("conv2d", "x", input)
    check_tensor("conv2d", "weight", weight)
    check_tensor("conv2d", "bias", bias, optional=True)
    stride, dilation, groups = pair(stride, "stride"), pair(dilation, "dilation"), as_int(groups, "groups")
    check_positive("conv2d", stride=stride, dilation=dilation, groups=(groups,))
    if input.ndim not in (3, 4) or weight.ndim != 4:
        raise ShapeError(
            describe(
                "conv2d: x and weight need 4 dimensions",
                [("x", input.shape, "N C H W"), ("weight", weight.shape, "O C/groups K L")],
                "reshape pictures to (N, C, H, W), for example x.reshape(-1, 1, 28, 28)",
            )
        )
    single = input.ndim == 3  # one picture without a batch
    O, per_group, K, L = weight.shape
    C, channels = input.shape[-3], per_group * groups
    facts = [
        ("x", input.shape, "C H W" if single else "N C H W"),
        ("weight", weight.shape, "O C/groups K L"),
        ("groups", groups, ""),
    ]
    if C != channels:
        hint = f"the layer before must output {channels} channels"
        if C and C % groups == 0:
            grouped = f", groups={groups}" if groups > 1 else ""
            hint += f", or use Conv2d({C}, {O}, {K if K == L else (K, L)}{grouped})"
        if single and channels == 1:
            hint = "for a batch of grey pictures use x.unsqueeze(1)"
        if single:
            hint = f"x was read as one picture (C, H, W); {hint}"
        raise ShapeError(
            describe(f"conv2d: weight expects {channels} input channels, x has {C}", facts, hint)
        )
    if O % groups:
        raise ShapeError(
            describe(
                f"conv2d: {O} output channels cannot be split into {groups} groups",
                facts,
                f"use a multiple of {groups} as the number of output channels",
            )
        )
    if bias is not None and bias.shape != (O,):
        raise ShapeError(f"conv2d: bias has shape {bias.shape}, expected ({O},)")
    check_same_dtype("conv2d", x=input, weight=weight, bias=bias)
    if single:
        input = input.unsqueeze(0)
    around = _padding(input, (K, L), stride, padding, dilation)
    if isinstance(around, Tensor):  # "same" with an even kernel: one side was padded by hand
        input, around = around, (0, 0)
    for size, k, s, p, d, axis in zip(input.shape[2:], (K, L), stride, around, dilation, "HW", strict=True):
        if output_size(size, k, s, p, d) < 1 or min(k, size + 2 * p) < 1:
            raise ShapeError(
                describe(
                    f"conv2d: the kernel spans {d * (k - 1) + 1} along {axis}, "
                    f"but x with its padding has {size + 2 * p}",
                    [*facts[:2], ("padding", around, "")],
                    "use a smaller kernel, more padding or larger pictures",
                )
            )
    if _has_a_kernel(input, dilation, groups):
        y = Conv2dKernel.apply(input, weight, bias, stride, around)
    else:
        y = Conv2d.apply(input, weight, bias, stride, around, dilation, groups)
    return y.squeeze(0) if single else y


def _has_a_kernel(x: Tensor, dilation: Pair, groups: int) -> bool:
    """Whether the CPU kernels can do it. Their results are Conv2d's, to float precision."""
    return (
        isinstance(x.array, np.ndarray)
        and not runs_on_device(x.array)
        and x.array.dtype.kind == "f"
        and x.array.size > 0
        and dilation == (1, 1)
        and groups == 1
    )


def _padding(x: Tensor, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Pair | Tensor:
    """The zeros on each side (height, width); for an uneven "same" the padded x itself."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        if stride != (1, 1):
            raise ArgumentError(f"conv2d: padding='same' needs stride 1, got {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if total[0] % 2 == 0 and total[1] % 2 == 0:
            return total[0] // 2, total[1] // 2
        # as PyTorch does: the extra row or column goes to the bottom or right
        return pad2d(x, (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2))
    if isinstance(padding, str):
        raise ArgumentError(f"conv2d: padding must be a number, a pair, 'valid' or 'same', got {padding!r}")
    around = pair(padding, "padding")
    if min(around) < 0:
        raise ArgumentError(f"conv2d: padding must be at least 0, got {around}")
    return around


class Pad2d(Function):
    """y = x surrounded by zeros; gx is the part of gy that x went to."""

    @staticmethod
    def forward(ctx, x, rows, columns):
        N, C, H, W = x.shape
        ctx.inner = (slice(rows[0], rows[0] + H), slice(columns[0], columns[0] + W))
        y = ctx.xp.zeros((N, C, H + sum(rows), W + sum(columns)), dtype=x.dtype)
        y[:, :, ctx.inner[0], ctx.inner[1]] = x
        return y

    @staticmethod
    def backward(ctx, gy):
        return gy[:, :, ctx.inner[0], ctx.inner[1]]


def pad2d(input: Tensor, rows: Pair, columns: Pair) -> Tensor:
    """Zeros around pictures: (above, below) rows and (left, right) columns."""
    check_tensor("pad2d", "x", input)
    return Pad2d.apply(input, rows, columns)
