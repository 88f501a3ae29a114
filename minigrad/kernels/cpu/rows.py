"""Convolution row by row, for layers with many channels; memory order H W C N.

All that an output sees lies in L neighbouring columns of K rows. These K rows are laid side by side, column by
column, and with their padding:

    side[r, w, k, c, n] = x[(p + r) S + k - padding, w - padding, c, n]

Now the window of the output in column q is one piece of memory, a matrix (L K C, N) that begins at w = q S:

    z[p + r, q] = W (O, L K C) @ side[r, q S : q S + L]      (O, N)

Every output takes a product of its own. With few channels that would be too little for a product, and `conv.py`
has products for many outputs of a row; but there each number is copied L times, in runs of some examples, and the
results have to be brought into order. Here each is copied K / S times, in runs of C N, and the results lie where
they belong.

The gradient of x is a convolution again, of gz: see `turned`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from minigrad.kernels.cpu.memory import empty, run_of
from minigrad.kernels.cpu.threads import shards
from minigrad.shapes import Shape, output_size

__all__ = [
    "Plan",
    "Turned",
    "Windows",
    "convolve",
    "make_plan",
    "matrix_of",
    "suits",
    "turned",
    "weight_gradient",
    "weight_of",
    "x_gradient",
]

# Where this is the faster way (docs/benchmarks/cpu.md):
CHANNELS_OUT = 16  # with fewer a product has too few rows
CHANNELS_IN = 8  # with fewer so has the product for gx
CHANNELS_IN_SMALL_KERNEL = 3  # unless there is little to do for gx,
SMALL_KERNEL = 9  # since a window has so few places
EXAMPLES_LEAST = 64  # with fewer a product has too few columns
SMALL_PRODUCT = 1_000_000  # M N K up to which OpenBLAS uses its method for small products
COLUMNS_LEAST = 64  # a product with fewer columns is not worth its call
EXAMPLES = 256  # whose rows are laid side by side at once
BAND_BYTES = 1 << 20  # of rows side by side, so that they are still in the cache for the products
BAND_LEAST = 1 << 19  # below this, handing a band to another thread costs more than it saves


@dataclass(frozen=True)
class Windows:
    """The output in row p, column q sees K x L inputs: from row p stride - offset, column q stride - offset on.

    What lies outside of x is 0.
    """

    K: int
    L: int
    stride: Shape
    offset: Shape


@dataclass(frozen=True)
class Plan:
    """Sizes of a convolution, and how its rows are shared out."""

    H: int
    W: int
    P: int
    Q: int
    windows: Windows
    channels_first: (
        bool  # whether results shall lie in the order C H W N, for operations of their own that follow
    )
    bands: tuple[slice, ...]  # of the rows of z
    back_bands: tuple[slice, ...]  # of the rows of x, counted in strides


def suits(w_shape: Shape, N: int) -> bool:
    """Whether this is the faster way for N pictures and a weight (O, C, K, L)."""
    O, C, K, L = w_shape
    least = CHANNELS_IN_SMALL_KERNEL if K * L <= SMALL_KERNEL else CHANNELS_IN
    return O >= CHANNELS_OUT and C >= least and N >= EXAMPLES_LEAST


@cache
def make_plan(
    picture: Shape,
    w_shape: Shape,
    stride: Shape,
    padding: Shape,
    itemsize: int,
    N: int,
    channels_first: bool = False,
) -> Plan:
    """The convolution of N pictures (C, H, W) by a weight (O, C, K, L)."""
    C, H, W = picture
    O, _, K, L = w_shape
    P, Q = output_size(H, K, stride[0], padding[0]), output_size(W, L, stride[1], padding[1])
    of_all_channels = K * min(N, EXAMPLES) * itemsize
    bands = _bands(P, (W + 2 * padding[1]) * C * of_all_channels)
    back_bands = _bands(-(-H // stride[0]), (Q + L) * O * of_all_channels)
    return Plan(H, W, P, Q, Windows(K, L, stride, padding), channels_first, bands, back_bands)


def _bands(rows: int, bytes_each: int) -> tuple[slice, ...]:
    """Rows in bands, the same for every number of threads; an even number of bands, for two threads."""
    if rows * bytes_each <= BAND_LEAST:
        return (slice(0, rows),)
    count = 2 * -(-rows // (2 * max(1, BAND_BYTES // bytes_each)))
    return tuple(shards(rows, -(-rows // count)))


def matrix_of(weight: np.ndarray) -> np.ndarray:
    """W (O, C, K, L) -> (O, L K C), in the order of a window's numbers."""
    return weight.transpose(0, 3, 2, 1).reshape(len(weight), -1)


def weight_of(matrix: np.ndarray, w_shape: Shape) -> np.ndarray:
    """The reverse of `matrix_of`, from the transposed matrix (L K C, O)."""
    O, C, K, L = w_shape
    return matrix.reshape(L, K, C, O).transpose(3, 2, 1, 0)


def convolve(x: np.ndarray, matrix: np.ndarray, windows: Windows, first: int, z: np.ndarray) -> None:
    """Writes the rows of a convolution from `first` on into z (R, Q, O, N), for x (H, W, C, N), matrix (O, L K C)."""
    R, Q, O, N = z.shape
    for examples in shards(N, EXAMPLES):
        side = _side_by_side(x[..., examples], first, R, Q, windows)
        for inner, some, count in _products(O, side, windows):
            seen = _seen(side, Q, windows, inner, some, count)  # (count, R, Q, inner, n)
            target = z[..., examples][..., some].reshape(R, Q, O, count, -1).transpose(3, 0, 1, 2, 4)
            if inner.start == 0:
                np.matmul(matrix[:, inner], seen, out=target)
            else:
                target += np.matmul(matrix[:, inner], seen, out=empty(target.shape, z.dtype))


def weight_gradient(x: np.ndarray, gz: np.ndarray, windows: Windows, first: int) -> np.ndarray:
    """What the rows gz (R, Q, O, N) from `first` on give to the gradient of W, as a matrix (L K C, O)."""
    R, Q, O, N = gz.shape
    total = np.zeros((windows.L * windows.K * x.shape[2], O), gz.dtype)
    for examples in shards(N, EXAMPLES):
        side = _side_by_side(x[..., examples], first, R, Q, windows)
        last = empty((R, Q, side.shape[4], O), gz.dtype)  # channels last: BLAS is faster with this order
        if (
            gz.strides[2] > gz.strides[1]
        ):  # channels far apart in memory would share their places in the cache
            for o in range(O):
                last[..., o] = gz[:, :, o, examples]
        else:
            last[...] = gz[..., examples].swapaxes(2, 3)
        for inner, some, count in _products(O, side, windows):
            seen = _seen(side, Q, windows, inner, some, count)  # (count, R, Q, inner, n)
            gz_seen = last[:, :, some].reshape(R, Q, count, -1, O).transpose(2, 0, 1, 3, 4)
            found = np.matmul(seen, gz_seen, out=empty((*seen.shape[:4], O), gz.dtype))
            total[inner] += found.sum(axis=(0, 1, 2))
    return total


def _side_by_side(x: np.ndarray, first: int, R: int, Q: int, windows: Windows) -> np.ndarray:
    """x (H, W, C, n) -> (R, width, K, C, n): for each row of outputs the rows that it sees, column by column."""
    H, W, C, n = x.shape
    (stride, step), (top, left) = windows.stride, windows.offset
    K, width = windows.K, (Q - 1) * step + windows.L
    side = empty((R, width, K, C, n), x.dtype)
    together = C if x.strides[2] == n * x.itemsize else 1  # channels that are one run of memory in x, too
    run = run_of(together * n, x.itemsize)
    target = side.reshape(R, width, K, C // together, together * n).view(run)[..., 0]  # (R, width, K, runs)
    source = x.reshape(H, W, C // together, together * n).view(run)[..., 0]  # (H, W, runs)
    begin = min(max(left, 0), width)  # columns of x are there from here
    end = max(begin, min(W + left, width))  # to here
    side[:, :begin] = 0
    side[:, end:] = 0
    for r in range(R):
        h = (first + r) * stride - top
        above, below = min(max(-h, 0), K), min(max(H - h, 0), K)
        side[r, begin:end, :above] = 0
        side[r, begin:end, below:] = 0
        rows = source[h + above : h + below, begin - left : end - left]
        target[r, begin:end, above:below] = rows.swapaxes(0, 1)
    return side


def _products(O: int, side: np.ndarray, windows: Windows) -> Iterator[tuple[slice, slice, int]]:
    """The product of an output in parts that are small in OpenBLAS's sense, if they can be.

    Yields (rows of the window, examples, count): for these examples, in `count` parts of one size, there is a
    product each. Where a window is cut, it is cut into its L columns.
    """
    n, column = side.shape[4], side.shape[2] * side.shape[3]
    for pieces in (1, windows.L):
        rows = windows.L // pieces * column
        most = SMALL_PRODUCT // (O * rows)
        if most >= min(n, COLUMNS_LEAST):
            size = n if n <= most else 1 << most.bit_length() - 1  # a power of two
            break
    else:
        rows, size = windows.L * column, n
    whole = n // size
    for start in range(0, windows.L * column, rows):
        inner = slice(start, start + rows)
        yield inner, slice(0, whole * size), whole
        if whole * size < n:
            yield inner, slice(whole * size, n), 1


def _seen(side: np.ndarray, Q: int, windows: Windows, inner: slice, some: slice, count: int) -> np.ndarray:
    """What the products see: the rows `inner` of each window, and the examples `some` in `count` parts.

    A view (count, R, Q, rows, examples of a part).
    """
    band, column, _, row, item = side.strides
    size = (some.stop - some.start) // count
    shape = (count, side.shape[0], Q, inner.stop - inner.start, size)
    strides = (size * item, band, windows.stride[1] * column, row, item)
    return np.ndarray(shape, side.dtype, side, inner.start * row + some.start * item, strides)


@dataclass(frozen=True)
class Turned:
    """The convolution of gz that gives gx in the rows row, row + stride, ... and likewise columns.

    Without a matrix these inputs are seen by no output.
    """

    row: int
    column: int
    matrix: np.ndarray | None  # (C, L' K' O)
    windows: Windows


def turned(weight: np.ndarray, windows: Windows) -> list[Turned]:
    """The convolutions that make gx of gz, for W (O, C, K, L).

        gx[c, h, w] = sum over o, k, l of  W[o, c, k, l] gz[o, (h + padding - k) / S, (w + padding - l) / S]

    over those k and l for which S divides. Inputs that are a multiple of S apart are seen through the same k and
    l: with stride 1 that is one convolution, by the kernels turned by 180 degrees, with stride 2 it is four.
    """
    found = []
    by_row = [_taps(row, windows.K, windows.stride[0], windows.offset[0]) for row in range(windows.stride[0])]
    by_column = [_taps(w, windows.L, windows.stride[1], windows.offset[1]) for w in range(windows.stride[1])]
    for row, (ks, top) in enumerate(by_row):
        for column, (ls, left) in enumerate(by_column):
            matrix = None
            if ks and ls:
                matrix = matrix_of(weight[:, :, ks][:, :, :, ls].swapaxes(0, 1))
            found.append(Turned(row, column, matrix, Windows(len(ks), len(ls), (1, 1), (top, left))))
    return found


def _taps(h: int, K: int, stride: int, offset: int) -> tuple[list[int], int]:
    """The k through which the input h is seen, for rising p; and minus the first p."""
    ks = [k for k in reversed(range(K)) if (h + offset - k) % stride == 0]
    return ks, (-((h + offset - ks[0]) // stride) if ks else 0)


def x_gradient(gz: np.ndarray, back: list[Turned], stride: Shape, band: slice, gx: np.ndarray) -> None:
    """gz (P, Q, O, N) -> a band of gx (H, W, C, N). The rows of the band are counted in strides."""
    for one in back:
        target = gx[one.row :: stride[0], one.column :: stride[1]][band]
        if 0 in target.shape:  # a short last stride
            continue
        if one.matrix is None:
            target[...] = 0
        else:
            convolve(gz, one.matrix, one.windows, band.start, target)
