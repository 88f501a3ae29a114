"""Convolution as matrix products, for arrays whose memory order is C H W N (batch last).

The readable form (`nn/functional/conv.py`) copies every window, K L times the picture. Here only the windows
*along a row* are copied, L times the picture:

    strips[h, c, l, (q, n)] = x[c, h, q s + l, n]        x with its padding

K neighbouring rows of strips lie one after the other in memory, so all windows of one output row are a view:

    windows[p] = strips[p s : p s + K]  as a matrix (K C L, Q n)
    z[p]       = W (O, K C L) @ windows[p]

If a 2 x 2 pooling follows, an output row is made of two *lanes*, the even columns and the odd ones, with a
product each. So what the pooling compares lies in long contiguous pieces, and the four values of a window come
from four products that differ in nothing but their windows: equal windows give equal values, to the last bit.

Three sizes are chosen for the sake of BLAS (OpenBLAS, mostly) and of the processor's caches:

* `group`: examples that lie side by side, as (q, n) in a row of strips.
* `split`: a product has the columns of a whole row, or one of `split` parts of them. OpenBLAS has a second method
  for small products, without copying its operands first, which on processors with AVX-512 is up to twice as
  fast. So products are kept below its limit, where that leaves them enough columns.
* `shard`: examples that one thread works on at once.

Views of contiguous memory are made by np.ndarray(shape, dtype, memory, start, strides); `as_strided` does the same
and takes ten times as long.

With many channels and many pictures `rows.py` is faster.

The letters are those of docs/notation.md, but for two: G counts groups of g examples, and S the outputs of a lane
in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from minigrad.kernels.cpu.memory import empty, run_dtype
from minigrad.shapes import output_size

__all__ = [
    "Plan",
    "back_plan",
    "convolve",
    "load",
    "make_plan",
    "pieces",
    "store",
    "strips",
    "weight_gradient",
    "x_gradient",
]

Pair = tuple[int, int]
SMALL_PRODUCT = 1_000_000  # M N K up to which OpenBLAS uses its method for small products
COLUMNS_LEAST = 64  # a product with fewer columns is not worth its call
GROUP = 32  # examples in a group where a whole row is too much for a small product
GAP = 16  # unused numbers after each row of strips: rows a power of two apart share their places in the cache
NEAR = 1 << 20  # bytes of a shard's pictures that stay in the cache while they are copied piece by piece
TRANSPOSED_FROM = 8  # output channels from which on BLAS is faster with a transposed copy of gz
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
    group: int  # examples side by side in a row of strips
    shard: int  # examples worked on at once, a multiple of group
    split: int = 1  # products for the columns of a lane, a divisor of S

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
    if group == 0:  # too much even for 16 examples
        group = GROUP
    bytes_each = (H * C * L + P * O) * Q * itemsize
    most = max(16, SHARD_BYTES // bytes_each)
    shards = 2 * -(-N // (2 * most)) if N * bytes_each > 2 * SHARD_LEAST else 1  # even, for two threads
    shard = -(-N // (16 * shards)) * 16
    count = -(-shard // group)
    group = -(-shard // (16 * count)) * 16
    return _with_split(replace(plan, group=group, shard=group * count))


def _with_split(plan: Plan) -> Plan:
    """The plan with products that are small in OpenBLAS's sense, if they can be."""
    row = plan.S * plan.group
    # of a small product, at most
    columns = SMALL_PRODUCT // (plan.lanes * plan.O * plan.K * plan.C * plan.seen)
    if columns < COLUMNS_LEAST:
        return replace(plan, split=1)
    fits = [d for d in range(1, plan.S + 1) if plan.S % d == 0 and row <= columns * d]
    return replace(plan, split=fits[0] if fits else 1)


@cache
def back_plan(plan: Plan) -> Plan | None:
    """The plan of the convolution that makes gx of gz, or None where adding results to their places is faster.

        gx[c, h, w] = sum over o, k, l of  W[o, c, k, l] gz[o, h - k, w - l]

    With stride 1 that is a convolution of gz by the kernels turned by 180 degrees.
    """
    top, left = (size - 1 - p for size, p in zip((plan.K, plan.L), plan.padding, strict=True))
    if plan.stride != (1, 1) or plan.pooled or min(top, left) < 0 or plan.O > 2 * plan.C:
        return None
    H, W = plan.P + 2 * top, plan.Q + 2 * left
    back = replace(
        plan, C=plan.O, O=plan.C, H=H, W=W, P=H - plan.K + 1, Q=W - plan.L + 1, padding=(top, left)
    )
    return _with_split(back)


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


def strips(x: np.ndarray, part: slice, plan: Plan) -> np.ndarray:
    """The examples `part` of x (C, H, W, N), contiguous and without padding -> strips of the padded pictures.

    Their shape is (G, lanes, H, C, L, S g + GAP).
    """
    C, H, W, _ = x.shape
    c, h, w, b = x.strides
    n = part.stop - part.start
    g = min(plan.group, n)
    return _strips(x, part.start * b, (n // g, H, C, W, g), (g * b, h, c, w, b), plan)


def _strips(
    memory: np.ndarray, start: int, shape: tuple[int, ...], strides: tuple[int, ...], plan: Plan
) -> np.ndarray:
    """Strips of pictures (G, H, C, W, g), a view of contiguous `memory` from the byte `start` on; g side by side.

    With padding, and where pictures are too large for the cache, they come together first. Then most of what is
    copied are long runs of memory in the cache.
    """
    if plan.padding != (0, 0) or math.prod(shape) * memory.itemsize > NEAR:
        together = _together(np.ndarray(shape, memory.dtype, memory, start, strides), plan)
        memory, start, shape, strides = together, 0, together.shape, together.strides
    G, H, C, _, g = shape
    group, row, channel, column, _ = strides
    lanes, step = plan.lanes, plan.stride[1] * column
    out = empty((G, lanes, H, C, plan.L, plan.S * g + GAP), memory.dtype)
    run = run_dtype(g, out.itemsize)
    windows_shape = (G, lanes, H, C, plan.L, plan.S)
    windows_strides = (group, step, row, channel, column, lanes * step)
    windows = np.ndarray(windows_shape, run, memory, start, windows_strides)
    np.ndarray(windows_shape, run, out, 0, (*out.strides[:5], run.itemsize))[...] = windows
    return out


def _together(pictures: np.ndarray, plan: Plan) -> np.ndarray:
    """Pictures (G, H, C, W, g) with their padding, contiguous."""
    H, W, (top, left) = plan.H, plan.W, plan.padding
    G, _, C, _, g = pictures.shape
    padded = empty((G, H, C, W, g), pictures.dtype)
    for border in (
        padded[:, :top],
        padded[:, H - top :],
        padded[:, :, :, :left],
        padded[:, :, :, W - left :],
    ):
        border[...] = 0
    _copy(padded[:, top : H - top, :, left : W - left], pictures)
    return padded


def _copy(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source. With one dtype and contiguous last axes, a row of the last axis is copied as one item."""
    item = target.itemsize
    if target.strides[-1] == source.strides[-1] == item and target.dtype == source.dtype:
        run = run_dtype(target.shape[-1], item)
        target, source = target.view(run), source.view(run)
    target[...] = source


def _windows(a: np.ndarray, plan: Plan) -> np.ndarray:
    """Strips (G, lanes, H, C, L, S g + GAP) -> what each product sees, in a view with overlaps.

    Its shape is (G, P, lanes, split, K C L, S g / split).
    """
    G, lanes, _, C, L, m = a.shape
    group, lane, row, _, run, item = a.strides
    columns = (m - GAP) // plan.split
    shape = (G, plan.P, lanes, plan.split, plan.K * C * L, columns)
    strides = (group, plan.stride[0] * row, lane, columns * item, run, item)
    return np.ndarray(shape, a.dtype, a, 0, strides)


def _in_products(z: np.ndarray, plan: Plan) -> np.ndarray:
    """(G, rows, lanes, O, S g) -> (G, rows, lanes, split, O, S g / split), a view."""
    return z.reshape(*z.shape[:4], plan.split, -1).swapaxes(3, 4)


def convolve(a: np.ndarray, weight: np.ndarray, plan: Plan) -> np.ndarray:
    """Strips and W (O, C, K, L) -> z (G, P, lanes, O, S g)."""
    z = empty((a.shape[0], plan.P, plan.lanes, plan.O, a.shape[5] - GAP), a.dtype)
    matrix = weight.transpose(0, 2, 1, 3).reshape(plan.O, -1)
    np.matmul(matrix, _windows(a, plan), out=_in_products(z, plan))
    return z


def weight_gradient(a: np.ndarray, gz: np.ndarray, plan: Plan) -> np.ndarray:
    """Strips and gz (G, P, lanes, O, S g) -> the gradient of W, (O, C, K, L)."""
    gz = _in_products(gz, plan).swapaxes(4, 5)
    if plan.O >= TRANSPOSED_FROM:
        transposed = empty(gz.shape, gz.dtype)
        transposed[...] = gz
        gz = transposed
    windows = _windows(a, plan)
    found = np.matmul(windows, gz, out=empty((*windows.shape[:5], plan.O), gz.dtype))
    return found.sum(axis=(0, 1, 2, 3)).reshape(plan.K, plan.C, plan.L, plan.O).transpose(3, 1, 0, 2)


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


def x_gradient(weight: np.ndarray, plan: Plan) -> Callable[[np.ndarray, np.ndarray], None]:
    """The function of gz (G, P, lanes, O, S g), contiguous, that writes a shard of gx (C, H, W, n), without padding.

    What depends on W alone is done here, once for all shards.
    """
    back = back_plan(plan)
    if back is not None:
        turned = weight[:, :, ::-1, ::-1].swapaxes(0, 1)

        def write(gz: np.ndarray, gx: np.ndarray) -> None:
            G, P, _, O, _ = gz.shape
            pictures = gz.reshape(G, P, O, plan.Q, -1)
            a = _strips(pictures, 0, pictures.shape, pictures.strides, back)
            store(convolve(a, turned, back)[:, :, 0], gx)

        return write
    matrices = _x_matrices(weight, plan)
    return lambda gz, gx: _add_to_places(matrices, gz, plan, gx)


def _x_matrices(weight: np.ndarray, plan: Plan) -> list[tuple[slice, int, np.ndarray]]:
    """For `_add_to_places`: (input rows, first output row that sees the first of them, matrix (C seen, taps lanes O)).

    Input rows that are seen through the same taps have the same matrix. Times gz, the matrix gives what neighbouring
    outputs of all lanes send to the inputs that they see together.
    """
    order, found = _seen_rows(plan)
    step, lanes, O = plan.stride[1], plan.lanes, plan.O
    w = np.zeros((plan.C, plan.seen, plan.K, lanes, O), weight.dtype)
    in_order = weight[:, :, order].transpose(1, 3, 2, 0)  # (C, L, K, O)
    for lane in range(lanes):
        w[:, lane * step : lane * step + plan.L, :, lane] = in_order
    w = w.reshape(plan.C * plan.seen, -1)
    return [(rows, p, w[:, taps.start * lanes * O : taps.stop * lanes * O]) for rows, p, taps in found]


def _add_to_places(
    matrices: list[tuple[slice, int, np.ndarray]], gz: np.ndarray, plan: Plan, gx: np.ndarray
) -> None:
    """Matrices of W and gz (G, P, lanes, O, S g) -> gx (C, H, W, n), without padding, which is overwritten.

    Each input row takes one product, with the gz of all output rows that see it; these are neighbours. What the
    product gives is then added to its places along the row.
    """
    G, _, lanes, _, m = gz.shape
    group, row, _, run, item = gz.strides
    found = empty((G, plan.H, 1, plan.C * plan.seen, m), gz.dtype)
    if plan.stride[0] > 1:  # some rows may be seen by nobody
        found[...] = 0
    columns = m // plan.split
    for rows, first, matrix in matrices:
        target = _in_products(found[:, rows], plan)
        shape = (*target.shape[:4], matrix.shape[1], columns)
        strides = (group, row, 0, columns * item, run, item)
        np.matmul(matrix, np.ndarray(shape, gz.dtype, gz, first * row, strides), out=target)
    # Column w of gx is put at [w % apart, w // apart]: what is added together is then in one piece
    g, S, apart = gx.shape[3] // G, plan.S, lanes * plan.stride[1]
    sums = empty((G, plan.H, plan.C, apart, -(-plan.W // apart), g), gz.dtype)
    sums[...] = 0
    found = found.reshape(G, plan.H, plan.C, plan.seen, S, g)
    for l in range(0, plan.seen, apart):
        some = found[:, :, :, l : l + apart]
        sums[:, :, :, : some.shape[3], l // apart : l // apart + S] += some
    top, left = plan.padding
    inner = sums[:, top : plan.H - top]
    for w in range(min(apart, gx.shape[2])):
        columns_of_gx = gx[:, :, w::apart]
        first = (w + left) // apart
        last = first + columns_of_gx.shape[2]
        store(inner[:, :, :, (w + left) % apart, first:last], columns_of_gx)


def store(values: np.ndarray, y: np.ndarray) -> None:
    """One shard of a result: (G, R, O, S g), or (G, R, O, S, g) -> y (O, R, S, n)."""
    G, R, O = values.shape[:3]
    _copy(_in_groups(y, G), values.reshape(G, R, O, y.shape[2], -1))


def load(y: np.ndarray, plan: Plan) -> np.ndarray:
    """The reverse of `store`: y (O, R, S, n) -> (G, R, O, S g), contiguous."""
    groups = _in_groups(y, max(1, y.shape[3] // plan.group))
    out = empty(groups.shape, y.dtype)
    _copy(out, groups)
    return out.reshape(*groups.shape[:3], -1)


def _in_groups(y: np.ndarray, G: int) -> np.ndarray:
    """y (O, R, S, n) -> (G, R, O, S, g), a view."""
    return y.reshape(*y.shape[:3], G, -1).transpose(3, 1, 0, 2, 4)
