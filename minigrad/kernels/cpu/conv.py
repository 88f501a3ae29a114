"""Convolution as matrix products, for arrays whose memory order is C H W N (batch last).

The readable form (`nn/functional/conv.py`) copies every window, K L times the picture. Here only the windows
*along a row* are copied, L times the picture:

    strips[h, c, l, (q, n)] = x[c, h, q s + l, n]

K neighbouring rows of strips lie one after the other in memory, so all windows of one output row are a view:

    windows[p] = strips[p s : p s + K]  as a matrix (K C L, Q n)
    z[p]       = W (O, K C L) @ windows[p]

If a 2 x 2 pooling follows, an output row is made of two *lanes*, the even columns and the odd ones, with a
product each. So what the pooling compares lies in long contiguous pieces, and the four values of a window come
from four products that differ in nothing but their windows: equal windows give equal values, to the last bit.

Two sizes are chosen for the sake of BLAS (OpenBLAS, mostly) and of the processor's caches:

* `group`: examples in one product. OpenBLAS has a second method for small products, without copying its
  operands first, which on processors with AVX-512 is up to twice as fast. So products are kept below its limit.
* `shard`: examples that one thread works on at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from minigrad.kernels.cpu.memory import empty
from minigrad.shapes import output_size

__all__ = [
    "Plan",
    "convolve",
    "make_plan",
    "padded_batch_last",
    "pieces",
    "strips",
    "weight_gradient",
    "x_gradient",
    "x_matrices",
]

Pair = tuple[int, int]
SMALL_PRODUCT = 1_000_000  # M N K up to which OpenBLAS uses its method for small products
TURNED_FROM = 8  # output channels from which on BLAS is faster with a transposed copy of gz
SHARD_BYTES = 6 << 20  # strips and outputs of one shard, at most
SHARD_LEAST = 1 << 20  # below this, handing a shard to another thread costs more than it saves


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
    lanes: int  # 2 if a pooling follows, else 1
    group: int  # examples in one product
    shard: int  # examples worked on at once, a multiple of group

    @property
    def pooled(self) -> bool:
        return self.lanes == 2

    @property
    def S(self) -> int:
        """Outputs of one lane in a row."""
        return self.Q // self.lanes

    @property
    def seen(self) -> int:
        """Inputs along a row that neighbouring outputs of all lanes see."""
        return self.L + (self.lanes - 1) * self.stride[1]


@cache
def make_plan(
    picture: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    pooled: bool,
    itemsize: int,
    N: int,
) -> Plan:
    """Sizes of a convolution of N pictures (C, H, W); with `pooled` a 2 x 2 max pooling follows."""
    C, H, W = picture
    O, _, K, L = w_shape
    H, W = H + 2 * padding[0], W + 2 * padding[1]
    P, Q = output_size(H, K, stride[0]), output_size(W, L, stride[1])
    lanes = 2 if pooled else 1
    plan = Plan(C, H, W, O, K, L, P, Q, stride, padding, lanes, 1, 1)
    product = lanes * O * K * C * plan.seen * plan.S  # M N K of one example: the larger one, in x_gradient
    group = min(128, SMALL_PRODUCT // product // 16 * 16)
    if group == 0:  # too much even for 16 examples: then BLAS is best with long rows
        group = 128
    bytes_each = (H * C * L + P * O) * Q * itemsize
    most = max(16, SHARD_BYTES // bytes_each)
    shards = 2 * -(-N // (2 * most)) if N * bytes_each > 2 * SHARD_LEAST else 1  # even, for two threads
    shard = -(-N // (16 * shards)) * 16
    count = -(-shard // group)
    group = -(-shard // (16 * count)) * 16
    return replace(plan, group=group, shard=group * count)


def pieces(N: int, plan: Plan) -> list[slice]:
    """The batch in shards; what is left over at the end in whole groups and a last short one.

    >>> plan = make_plan((1, 8, 8), (16, 1, 3, 3), (1, 1), (0, 0), False, 4, 64)
    >>> plan.group, plan.shard
    (64, 64)
    >>> pieces(70, plan)
    [slice(0, 64, None), slice(64, 70, None)]
    """
    parts = []
    start = 0
    while start < N:
        size = min(plan.shard, N - start)
        if size > plan.group:
            size -= size % plan.group
        parts.append(slice(start, start + size))
        start += size
    return parts


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


def strips(x: np.ndarray, part: slice, plan: Plan) -> np.ndarray:
    """The examples `part` of x (C, H, W, N), contiguous, as strips (G, lanes, H, C, L, S g) of G groups of g.

    One strided copy.
    """
    c, h, w, b = x.strides
    n = part.stop - part.start
    g = min(plan.group, n)
    step, lanes, S = plan.stride[1], plan.lanes, plan.S
    shape = (n // g, lanes, plan.H, plan.C, plan.L, S, g)
    strides = (g * b, step * w, h, c, w, lanes * step * w, b)
    out = empty(shape, x.dtype)
    out[...] = np.ndarray(shape, x.dtype, x, part.start * b, strides)
    return out.reshape(*shape[:5], S * g)


def _windows(a: np.ndarray, plan: Plan) -> np.ndarray:
    """Strips (G, lanes, H, C, L, m) -> (G, P, lanes, K C L, m): what each product sees, a view with overlaps."""
    G, lanes, _, C, L, m = a.shape
    group, lane, row, _, _, item = a.strides
    shape = (G, plan.P, lanes, plan.K * C * L, m)
    strides = (group, plan.stride[0] * row, lane, m * item, item)
    return np.ndarray(shape, a.dtype, a, 0, strides)  # as_strided, for a contiguous array: ten times faster


def convolve(a: np.ndarray, weight: np.ndarray, plan: Plan) -> np.ndarray:
    """Strips and W (O, C, K, L) -> z (G, P, lanes, O, S g)."""
    z = empty((a.shape[0], plan.P, plan.lanes, plan.O, a.shape[5]), a.dtype)
    return np.matmul(weight.transpose(0, 2, 1, 3).reshape(plan.O, -1), _windows(a, plan), out=z)


def weight_gradient(a: np.ndarray, gz: np.ndarray, plan: Plan) -> np.ndarray:
    """Strips and gz (G, P, lanes, O, S g) -> the gradient of W, (O, C, K, L)."""
    gz = gz.swapaxes(3, 4)
    if plan.O >= TURNED_FROM:
        turned = empty(gz.shape, gz.dtype)
        turned[...] = gz
        gz = turned
    windows = _windows(a, plan)
    found = np.matmul(windows, gz, out=empty((*windows.shape[:4], plan.O), gz.dtype))
    return found.sum(axis=(0, 1, 2)).reshape(plan.K, plan.C, plan.L, plan.O).transpose(3, 1, 0, 2)


@cache
def _seen_rows(plan: Plan) -> tuple[list[int], list[tuple[slice, int, slice]]]:
    """The K taps in an order, and [(input rows, first output row that sees the first of them, their taps)].

    An input row h is seen by the output rows p = (h - k) / s, with the taps k = h - p s. In the order by k % s
    and then downwards, these taps lie one after the other.
    """
    s = plan.stride[0]
    order = [k for start in range(s) for k in reversed(range(start, plan.K, s))]
    heights: dict[tuple[int, ...], list[int]] = {}
    for h in range(plan.H):
        first, last = max(0, -(-(h - plan.K + 1) // s)), min(plan.P - 1, h // s)
        heights.setdefault(tuple(h - p * s for p in range(first, last + 1)), []).append(h)
    found = []
    for taps, rows in heights.items():
        if taps:
            place = order.index(taps[0])
            same = slice(rows[0], rows[-1] + 1, s)
            found.append((same, (rows[0] - taps[0]) // s, slice(place, place + len(taps))))
    return order, found


def x_matrices(weight: np.ndarray, plan: Plan) -> list[tuple[slice, int, np.ndarray]]:
    """For `x_gradient`: (input rows, first output row that sees the first of them, matrix (C seen, taps lanes O)).

    Rows that are seen with the same taps have the same matrix. It gives what neighbouring outputs of all lanes
    send to the inputs that they see together.
    """
    order, found = _seen_rows(plan)
    step, lanes, O = plan.stride[1], plan.lanes, plan.O
    w = np.zeros((plan.C, plan.seen, plan.K, lanes, O), weight.dtype)
    turned = weight[:, :, order].transpose(1, 3, 2, 0)  # (C, L, K, O)
    for lane in range(lanes):
        w[:, lane * step : lane * step + plan.L, :, lane] = turned
    w = w.reshape(plan.C * plan.seen, -1)
    return [(rows, p, w[:, taps.start * lanes * O : taps.stop * lanes * O]) for rows, p, taps in found]


def x_gradient(
    matrices: list[tuple[slice, int, np.ndarray]], gz: np.ndarray, plan: Plan, gx: np.ndarray
) -> None:
    """Matrices of W and gz (G, P, lanes, O, S g) -> gx (C, H, W, n), padded, which is overwritten.

    For each input row that is one product with the gz of all output rows that see it, which are neighbours.
    Its results are then added to their places along the row.
    """
    G, P, lanes, O, m = gz.shape
    gz = gz.reshape(G, P, lanes * O, m)
    group, row, _, item = gz.strides
    found = empty((G, plan.H, plan.C * plan.seen, m), gz.dtype)
    if plan.stride[0] > 1:  # some rows may be seen by nobody
        found[...] = 0
    for rows, first, matrix in matrices:
        target = found[:, rows]
        shape = (G, target.shape[1], matrix.shape[1], m)
        outputs = np.ndarray(shape, gz.dtype, gz, first * row, (group, row, m * item, item))
        np.matmul(matrix, outputs, out=target)
    # Column w of gx is put at [w % apart, w // apart]: what is added together is then in one piece
    g, S, apart = gx.shape[3] // G, plan.S, lanes * plan.stride[1]
    sums = empty((G, plan.H, plan.C, apart, -(-plan.W // apart), g), gz.dtype)
    sums[...] = 0
    found = found.reshape(G, plan.H, plan.C, plan.seen, S, g)
    for l in range(plan.seen):
        sums[:, :, :, l % apart, l // apart : l // apart + S] += found[:, :, :, l]
    out = gx.reshape(plan.C, plan.H, plan.W, G, g)
    for place in range(apart):
        columns = out[:, :, place::apart]
        columns[...] = sums[:, :, :, place, : columns.shape[2]].transpose(2, 1, 3, 0, 4)
