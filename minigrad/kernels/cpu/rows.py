"""Convolution row by row, for layers with many channels. Without a word about it, arrays lie in the order H W C N.

An output sees L columns of K rows of x. For R rows of outputs, from row p on, we copy the K rows that each of them
sees into one array, ordered by column first, with zeros for the padding:

    side[r, w, k, c, n] = x[(p + r) S + k - padding, w - padding, c, n]      (R, (Q - 1) S + L, K, C, N)

Then side[r, q S : q S + L], which is (L, K, C, N), is one piece of memory, and can be read as a matrix without
another copy. Each output position is one product:

    z[p + r, q] = W (O, L K C) @ side[r, q S : q S + L] (L K C, N)      (O, N)

With few channels such a product is too small to be fast; `conv.py` then has one product for many outputs of a row.
But there each number is copied L / S times, in runs of one group of examples, and results have to be brought into
order. Here it is copied K / S times, in runs of C N numbers where x lies in the order H W C N, and the results lie
where they belong.

The gradient of x is a convolution again, of gz: see `back_convolutions`. (Of gz with its padding: an infinite weight,
times 0 on the padding, makes NaN of inputs near the border.)

Words: a *band* is some rows of the output that are worked on at once, by one thread; the *places* of a window are
its L K C numbers, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from minigrad.kernels.cpu.conv import COLUMNS_LEAST, SMALL_PRODUCT, Pair
from minigrad.kernels.cpu.memory import empty, run_dtype
from minigrad.kernels.cpu.threads import shards
from minigrad.shapes import Shape, output_size

__all__ = [
    "BackConvolution",
    "Plan",
    "Windows",
    "back_convolutions",
    "convolve",
    "make_plan",
    "matrix_of",
    "suits",
    "weight_gradient",
    "weight_of",
    "x_gradient",
]

# Where this is faster than conv.py; docs/benchmarks/cpu.md has the figures.
CHANNELS_OUT = 16  # rows of the product for z; fewer are slow
CHANNELS_IN = 8  # rows of the product for gx; fewer are slow
CHANNELS_IN_SMALL_KERNEL = 3  # enough for a small kernel, where the product for gx is short
SMALL_KERNEL = 9  # K L of a small kernel, at most
EXAMPLES_LEAST = 64  # columns of the products; fewer are slow
ROWS_LEAST = 4  # of the output, and so bands, at most; with fewer there is nothing to share

EXAMPLES_AT_ONCE = 256  # of a larger batch, so that `side` stays in the cache
BAND_BYTES = 1 << 20  # of `side` for a band, about
BAND_LEAST = 1 << 19  # below this, handing a band to another thread costs more than it saves


@dataclass(frozen=True)
class Windows:
    """Output (p, q) sees K x L inputs, from row p stride[0] - offset[0] and column q stride[1] - offset[1] on.

    What lies outside of x is 0. The offset is the padding; in `back_convolutions` it can be negative.
    """

    K: int
    L: int
    stride: Pair
    offset: Pair


@dataclass(frozen=True)
class Plan:
    """Sizes of a convolution, and how its rows are shared out."""

    P: int
    Q: int
    windows: Windows
    # Order of results in memory: C H W N if true, else H W C N
    channels_first: bool
    # Rows of the output
    bands: tuple[slice, ...]
    # Rows of x; slice(a, b) stands for the rows a S to b S - 1
    back_bands: tuple[slice, ...]


def suits(picture: Shape, w_shape: Shape, stride: Pair, padding: Pair, N: int) -> bool:
    """Whether this is faster than `conv.py`, for N pictures (C, H, W) and a weight (O, C, K, L)."""
    O, C, K, L = w_shape
    least = CHANNELS_IN_SMALL_KERNEL if K * L <= SMALL_KERNEL else CHANNELS_IN
    rows = output_size(picture[1], K, stride[0], padding[0])
    return O >= CHANNELS_OUT and C >= least and N >= EXAMPLES_LEAST and rows >= ROWS_LEAST


@cache
def make_plan(
    picture: Shape,
    w_shape: Shape,
    stride: Pair,
    padding: Pair,
    itemsize: int,
    N: int,
    channels_first: bool = False,
) -> Plan:
    """The convolution of N pictures (C, H, W) by a weight (O, C, K, L)."""
    C, H, W = picture
    O, _, K, L = w_shape
    P, Q = output_size(H, K, stride[0], padding[0]), output_size(W, L, stride[1], padding[1])
    of_one_channel = K * min(N, EXAMPLES_AT_ONCE) * itemsize  # bytes of a column of `side`
    bands = _bands(P, (W + 2 * padding[1]) * C * of_one_channel)
    # More than what it is: with a stride, fewer than K rows of gz are seen through one row of x
    back_bands = _bands(-(-H // stride[0]), (Q + L) * O * of_one_channel)
    return Plan(P, Q, Windows(K, L, stride, padding), channels_first, bands, back_bands)


def _bands(rows: int, bytes_each: int) -> tuple[slice, ...]:
    """Rows in bands of about BAND_BYTES, but at least a row; the same for any number of threads, so the bits are, too.

    Where the number of rows allows it, two threads get the same number of bands.
    """
    if rows * bytes_each <= BAND_LEAST:
        return (slice(0, rows),)
    count = 2 * -(-rows // (2 * max(1, BAND_BYTES // bytes_each)))
    return tuple(shards(rows, -(-rows // count)))


def matrix_of(weight: np.ndarray) -> np.ndarray:
    """W (O, C, K, L) -> (O, L K C), in the order of a window's places."""
    return weight.transpose(0, 3, 2, 1).reshape(len(weight), -1)


def weight_of(matrix: np.ndarray, w_shape: Shape) -> np.ndarray:
    """A matrix (L K C, O), as `weight_gradient` makes it -> (O, C, K, L)."""
    O, C, K, L = w_shape
    return matrix.reshape(L, K, C, O).transpose(3, 2, 1, 0)


def convolve(x: np.ndarray, matrix: np.ndarray, windows: Windows, first: int, z: np.ndarray) -> None:
    """x (H, W, C, N) and a matrix (O, L K C) -> the rows from `first` on, which are written into z (R, Q, O, N)."""
    R, Q, O, N = z.shape
    for examples in shards(N, EXAMPLES_AT_ONCE):
        side = _side_by_side(x[..., examples], first, R, Q, windows)
        for places, part, pieces in _products(O, side, windows):
            seen = _seen(side, Q, windows, places, part, pieces)  # (pieces, R, Q, places, m)
            # (pieces, R, Q, O, m): a view, since splitting an axis never copies; so this writes into z
            target = z[..., examples][..., part].reshape(R, Q, O, pieces, -1).transpose(3, 0, 1, 2, 4)
            if places.start == 0:  # the first places of the windows write, the others add
                np.matmul(matrix[:, places], seen, out=target)
            else:
                target += np.matmul(matrix[:, places], seen, out=empty(target.shape, z.dtype))


def weight_gradient(x: np.ndarray, gz: np.ndarray, windows: Windows, first: int) -> np.ndarray:
    """x (H, W, C, N) and gz (R, Q, O, N), the rows from `first` on -> what they add to gW, as a matrix (L K C, O)."""
    R, Q, O, N = gz.shape
    total = np.zeros((windows.L * windows.K * x.shape[2], O), gz.dtype)
    for examples in shards(N, EXAMPLES_AT_ONCE):
        side = _side_by_side(x[..., examples], first, R, Q, windows)
        channels_last = _channels_last(gz[..., examples])
        for places, part, pieces in _products(O, side, windows):
            seen = _seen(side, Q, windows, places, part, pieces)  # (pieces, R, Q, places, m)
            gz_seen = channels_last[:, :, part].reshape(R, Q, pieces, -1, O).transpose(2, 0, 1, 3, 4)
            found = np.matmul(seen, gz_seen, out=empty((*seen.shape[:4], O), gz.dtype))
            total[places] += found.sum(axis=(0, 1, 2))
    return total


def _channels_last(gz: np.ndarray) -> np.ndarray:
    """gz (R, Q, O, n) -> (R, Q, n, O), contiguous: BLAS is faster with this order."""
    R, Q, O, n = gz.shape
    out = empty((R, Q, n, O), gz.dtype)
    if gz.strides[2] < gz.strides[1]:
        out[...] = gz.swapaxes(2, 3)
    else:  # in the order C H W N, channels can lie a power of two apart and share places in the cache: one by one
        for o in range(O):
            out[..., o] = gz[:, :, o]
    return out


def _side_by_side(x: np.ndarray, first: int, R: int, Q: int, windows: Windows) -> np.ndarray:
    """x (H, W, C, n) -> side (R, width, K, C, n) for the R rows of outputs from `first` on."""
    H, W, C, n = x.shape
    (row_stride, column_stride), (top, left) = windows.stride, windows.offset
    K, width = windows.K, (Q - 1) * column_stride + windows.L
    side = empty((R, width, K, C, n), x.dtype)

    # What is one piece of memory in both arrays becomes one item, which NumPy copies in one go
    joined = C if x.strides[2] == n * x.itemsize else 1  # channels in a piece
    dtype = run_dtype(joined * n, x.itemsize)
    target = side.reshape(R, width, K, C // joined, joined * n).view(dtype)[..., 0]  # (R, width, K, items)
    source = x.reshape(H, W, C // joined, joined * n).view(dtype)[..., 0]  # (H, W, items)

    # The columns begin .. end of side lie in x, the others on the padding
    begin = min(max(left, 0), width)
    end = min(W + left, width)
    side[:, :begin] = 0
    side[:, end:] = 0
    for r in range(R):
        h = (first + r) * row_stride - top
        k_begin, k_end = min(max(-h, 0), K), min(max(H - h, 0), K)  # of the K rows, these lie in x
        side[r, begin:end, :k_begin] = 0
        side[r, begin:end, k_end:] = 0
        rows = source[h + k_begin : h + k_end, begin - left : end - left]
        target[r, begin:end, k_begin:k_end] = rows.swapaxes(0, 1)
    return side


def _products(O: int, side: np.ndarray, windows: Windows) -> list[tuple[slice, slice, int]]:
    """(places, part, pieces): products of these places of the window, with the examples `part` in equal pieces.

    They are small in OpenBLAS's sense, which makes them faster (see conv.py), if they can be. What different
    places give is to be added up.
    """
    _, _, K, C, n = side.shape
    some, m = _product_size(O, K * C, windows.L, n)
    whole = n // m
    found = []
    for start in range(0, windows.L * K * C, some):
        places = slice(start, start + some)
        found.append((places, slice(0, whole * m), whole))
        if whole * m < n:
            found.append((places, slice(whole * m, n), 1))
    return found


def _product_size(O: int, column: int, L: int, n: int) -> tuple[int, int]:
    """(places, examples) of one product, where a window has L columns of so many places each."""
    for places in (L * column, column):  # all, or those of one column
        columns = SMALL_PRODUCT // (O * places)
        if columns >= n:
            return places, n
        if columns >= COLUMNS_LEAST:
            # A power of two: most batches are a multiple of it
            return places, 1 << (columns.bit_length() - 1)
    return L * column, n


def _seen(side: np.ndarray, Q: int, windows: Windows, places: slice, part: slice, pieces: int) -> np.ndarray:
    """What the products see of side (R, width, K, C, n): a view (pieces, R, Q, places, examples of a piece)."""
    row, column, _, place, item = side.strides  # K and C lie one after the other: one stride for all places
    m = (part.stop - part.start) // pieces
    shape = (pieces, side.shape[0], Q, places.stop - places.start, m)
    strides = (m * item, row, windows.stride[1] * column, place, item)
    return np.ndarray(shape, side.dtype, side, places.start * place + part.start * item, strides)


@dataclass(frozen=True)
class BackConvolution:
    """A convolution of gz that gives gx in the rows row, row + S, ... and the columns column, column + S, ...

    If there is no matrix, no output sees these inputs, and gx is 0 there.
    """

    row: int
    column: int
    matrix: np.ndarray | None  # (C, L' K' O) for the K' x L' taps of the kernel that see these inputs
    windows: Windows


def back_convolutions(weight: np.ndarray, windows: Windows) -> list[BackConvolution]:
    """The convolutions that make gx of gz, for W (O, C, K, L).

        gx[h, w, c] = sum over o, k, l of  W[o, c, k, l] gz[(h + padding - k) / S, (w + padding - l) / S, o]

    over those k and l for which both divisions leave no rest. Inputs that lie a multiple of S apart are seen through
    the same k and l. With stride 1 that is one convolution, by the kernels turned by 180 degrees; with stride 2
    there are four, each by every second row and column of them.
    """
    found = []
    for row in range(windows.stride[0]):
        ks, top = _taps(row, windows.K, windows.stride[0], windows.offset[0])
        for column in range(windows.stride[1]):
            ls, left = _taps(column, windows.L, windows.stride[1], windows.offset[1])
            matrix = None
            if ks and ls:
                matrix = matrix_of(weight[:, :, ks][:, :, :, ls].swapaxes(0, 1))  # of (C, O, K', L')
            found.append(BackConvolution(row, column, matrix, Windows(len(ks), len(ls), (1, 1), (top, left))))
    return found


def _taps(h: int, K: int, stride: int, offset: int) -> tuple[list[int], int]:
    """The k through which outputs see the input row h < stride, and the offset of its windows on gz.

    The largest k comes first: then the outputs p = (h + offset - k) / stride rise. The first p is minus the offset.
    """
    ks = [k for k in reversed(range(K)) if (h + offset - k) % stride == 0]
    return ks, (-((h + offset - ks[0]) // stride) if ks else 0)


def x_gradient(
    gz: np.ndarray, back: list[BackConvolution], stride: Pair, band: slice, gx: np.ndarray
) -> None:
    """gz (P, Q, O, N) -> the rows band.start S to band.stop S - 1 of gx (H, W, C, N), which are written."""
    for one in back:
        target = gx[one.row :: stride[0], one.column :: stride[1]][band]
        if 0 in target.shape:  # the last stride can be a short one
            continue
        if one.matrix is None:
            target[...] = 0
        else:
            convolve(gz, one.matrix, one.windows, band.start, target)
