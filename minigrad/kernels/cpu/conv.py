"""Convolution as few large matrix products, for arrays whose memory order is C H W N (batch last).

The readable form (`nn/functional/conv.py`) multiplies W (O, C K L) with cols (C K L, P Q N). With 6 output
channels that product has 6 rows, and BLAS is at its best with many. So a *tile* of neighbouring outputs,
2 x 2 of them, is computed from one window that holds all their inputs:

    tile 1 x 1, K = 5:    1 output for a channel from a  5 x 5 window
    tile 2 x 2, K = 5:    4 outputs           from a  6 x 6 window

The weights of the four are written into one matrix with 4 O rows, zero where an output does not see an
input. That is 36/25 of the multiplications, but four times the rows, and windows that are a third as many
bytes. Where there are many output channels anyway, the tile is 1 x 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.kernels.cpu.memory import empty
from minigrad.shapes import output_size

__all__ = ["Plan", "col2im", "fold_weight", "im2col", "make_plan", "padded_batch_last", "tile_weight"]

Pair = tuple[int, int]
ROWS_ENOUGH = 64  # output channels from which on BLAS needs no tiles
SHARD_BYTES = 3 << 19  # 1.5 MB: windows of one shard, which should stay in a core's cache


@dataclass(frozen=True)
class Plan:
    """All sizes of one convolution; H and W include the padding."""

    C: int
    H: int
    W: int
    O: int
    K: int
    L: int
    P: int
    Q: int
    stride: Pair
    padding: Pair
    tile: Pair
    shard: int  # examples worked on at once

    @property
    def window(self) -> Pair:
        """Height and width of what one tile sees."""
        return (self.tile[0] - 1) * self.stride[0] + self.K, (self.tile[1] - 1) * self.stride[1] + self.L

    @property
    def grid(self) -> Pair:
        """Tiles along height and width."""
        return self.P // self.tile[0], self.Q // self.tile[1]

    @property
    def taps(self) -> int:
        """Outputs in a tile."""
        return self.tile[0] * self.tile[1]

    @property
    def rows(self) -> int:
        """Rows of the windows' matrix."""
        return self.C * self.window[0] * self.window[1]

    def columns(self, n: int) -> int:
        """Columns of the windows' matrix for n examples."""
        return self.grid[0] * self.grid[1] * n


@cache
def make_plan(
    picture: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    pooled: bool,
    itemsize: int,
) -> Plan:
    """Sizes, tile and shard of a convolution of pictures (C, H, W); with `pooled` a tile is a 2 x 2 pooling window."""
    C, H, W = picture
    O, _, K, L = w_shape
    H, W = H + 2 * padding[0], W + 2 * padding[1]
    P, Q = output_size(H, K, stride[0]), output_size(W, L, stride[1])
    if pooled or (O < ROWS_ENOUGH and P % 2 == 0 and Q % 2 == 0 and K * L > 1):
        tile = (2, 2)
    else:
        tile = (1, 1)
    draft = Plan(C, H, W, O, K, L, P, Q, stride, padding, tile, 1)
    bytes_each = draft.rows * draft.columns(1) * itemsize
    shard = max(16, min(256, SHARD_BYTES // bytes_each // 16 * 16))
    return Plan(C, H, W, O, K, L, P, Q, stride, padding, tile, shard)


def padded_batch_last(x: np.ndarray, padding: Pair) -> np.ndarray:
    """x (N, C, H, W) -> (C, H + 2 p, W + 2 p, N), contiguous; copied only where that is needed."""
    x = x.transpose(1, 2, 3, 0)
    if padding == (0, 0):
        return np.ascontiguousarray(x)
    C, H, W, N = x.shape
    top, left = padding
    y = np.zeros((C, H + 2 * top, W + 2 * left, N), x.dtype)
    y[:, top : top + H, left : left + W] = x
    return y


def tile_weight(weight: np.ndarray, plan: Plan) -> np.ndarray:
    """W (O, C, K, L) -> (taps*O, C*window): the weights of all outputs of a tile."""
    (ti, tj), (si, sj), (wi, wj) = plan.tile, plan.stride, plan.window
    tiled = np.zeros((ti, tj, plan.O, plan.C, wi, wj), weight.dtype)
    for i in range(ti):
        for j in range(tj):
            tiled[i, j, :, :, i * si : i * si + plan.K, j * sj : j * sj + plan.L] = weight
    return tiled.reshape(plan.taps * plan.O, plan.rows)


def fold_weight(gtiled: np.ndarray, plan: Plan) -> np.ndarray:
    """The backward of tile_weight: (taps*O, C*window) -> (O, C, K, L)."""
    (ti, tj), (si, sj), (wi, wj) = plan.tile, plan.stride, plan.window
    gtiled = gtiled.reshape(ti, tj, plan.O, plan.C, wi, wj)
    gweight = np.zeros((plan.O, plan.C, plan.K, plan.L), gtiled.dtype)
    for i in range(ti):
        for j in range(tj):
            gweight += gtiled[i, j, :, :, i * si : i * si + plan.K, j * sj : j * sj + plan.L]
    return gweight


def im2col(x: np.ndarray, plan: Plan) -> np.ndarray:
    """x (C, H, W, n), padded -> windows (rows, columns), in one strided copy."""
    c, h, w, n = x.strides
    (wi, wj), (gi, gj) = plan.window, plan.grid
    di, dj = plan.tile[0] * plan.stride[0], plan.tile[1] * plan.stride[1]
    shape = (plan.C, wi, wj, gi, gj, x.shape[3])
    cols = empty(shape, x.dtype)
    np.copyto(cols, as_strided(x, shape, (c, h, w, di * h, dj * w, n)))
    return cols.reshape(plan.rows, -1)


def col2im(gcols: np.ndarray, plan: Plan, gx: np.ndarray) -> None:
    """Add windows (rows, columns) back to gx (C, H, W, n), padded, which is overwritten."""
    (wi, wj), (gi, gj) = plan.window, plan.grid
    di, dj = plan.tile[0] * plan.stride[0], plan.tile[1] * plan.stride[1]
    windows = gcols.reshape(plan.C, wi, wj, gi, gj, gx.shape[3])
    gx[...] = 0
    for i in range(wi):
        for j in range(wj):
            gx[:, i : i + di * (gi - 1) + 1 : di, j : j + dj * (gj - 1) + 1 : dj] += windows[:, i, j]
