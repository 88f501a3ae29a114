"""Convolution and its two gradients on the device; the formulas are in sources/products.cu.

All arrays are contiguous, x (N, C, H, W), weight (O, C, K, L), z and gz (N, O, P, Q). Results go to the arrays
given, or to new ones from `alloc`.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from minigrad.kernels.cuda import module
from minigrad.kernels.cuda.module import ACTIVATIONS, Alloc, Array, ceil_div, launch, launch_tiled
from minigrad.shapes import output_size

__all__ = ["Sizes", "convolve", "grad_input", "grad_weight", "sizes"]

TARGET = 2048  # blocks, of which all sums for the gradient of the weights may take about so many
SUMS = 8  # sums in a block, as in pieces.cu
LEAST = 128  # values of k in a piece, at least


@dataclass(frozen=True)
class Sizes:
    """The numbers that the kernels take, in their order."""

    N: int
    C: int
    H: int
    W: int
    O: int
    K: int
    L: int
    P: int
    Q: int
    si: int
    sj: int
    pi: int
    pj: int


def sizes(
    x: tuple[int, ...], weight: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> Sizes:
    """From the shapes of x and weight.

    >>> sizes((2, 1, 28, 28), (6, 1, 5, 5), (1, 1), (0, 0)).P
    24
    """
    N, C, H, W = x
    O, _, K, L = weight
    P, Q = output_size(H, K, stride[0], padding[0]), output_size(W, L, stride[1], padding[1])
    return Sizes(N, C, H, W, O, K, L, P, Q, *stride, *padding)


def partial_count(rows: int, columns: int) -> int:
    """Pieces in which a product of this size gives its moments: one for each tile along the columns."""
    return ceil_div(columns, module.tile_for(rows, columns)[1])


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    s: Sizes,
    activation: str = "identity",
    out: Array | None = None,
    partial: Array | None = None,
    alloc: Alloc | None = None,
) -> Array:
    """act(conv(x) + bias) (N, O, P, Q); with `partial` (pieces, O, 3) also the moments of conv(x) + bias."""
    alloc = alloc or module.empty
    z = alloc((s.N, s.O, s.P, s.Q), x.dtype) if out is None else out
    args = [x, weight, bias, z, partial, ACTIVATIONS[activation], *astuple(s)]
    launch_tiled("conv_forward", s.O, s.N * s.P * s.Q, args)
    return z


def grad_weight(
    x: Array,
    gz: Array,
    s: Sizes,
    out: Array | None = None,
    alloc: Alloc | None = None,
    parts: Array | None = None,
) -> Array:
    """(O, C, K, L). Long sums are divided among blocks: `parts` (pieces, O, C*K*L), see `piece_count`."""
    alloc = alloc or module.empty
    gw = alloc((s.O, s.C, s.K, s.L), x.dtype) if out is None else out
    rows, columns, depth = s.O, s.C * s.K * s.L, s.N * s.P * s.Q
    tile, pieces = weight_tile(s), piece_count(s)
    if pieces == 1:
        parts = gw
    elif parts is None:
        parts = alloc((pieces, rows, columns), x.dtype)
    piece = ceil_div(depth, pieces)
    launch_tiled("conv_grad_weight", rows, columns, [x, gz, parts, piece, *astuple(s)], pieces, tile)
    if pieces > 1:
        size = rows * columns
        launch("sum_pieces", (ceil_div(size, SUMS),), (256,), [parts, gw, pieces, size])
    return gw


def piece_count(s: Sizes) -> int:
    """Pieces of the sum over N, P and Q in the gradient of the weights."""
    R, C = weight_tile(s)
    tiles = ceil_div(s.O, R) * ceil_div(s.C * s.K * s.L, C)
    return max(1, min(TARGET // tiles, ceil_div(s.N * s.P * s.Q, LEAST)))


def weight_tile(s: Sizes) -> tuple[int, int]:
    """The size of tile for the gradient of the weights: the sum is divided, so there is work enough for any."""
    if s.C * s.K * s.L < 64:
        return 16, 16
    return (64, 64) if s.O >= 64 else (16, 64)


def grad_input(
    gz: Array, weight: Array, s: Sizes, out: Array | None = None, alloc: Alloc | None = None
) -> Array:
    """(N, C, H, W)."""
    gx = (alloc or module.empty)((s.N, s.C, s.H, s.W), gz.dtype) if out is None else out
    launch_tiled("conv_grad_input", s.C, s.N * s.H * s.W, [gz, weight, gx, *astuple(s)])
    return gx
