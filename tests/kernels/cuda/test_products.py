"""Convolutions and linear layers as tiled products, for each size of tile, beside sums written out with NumPy."""

import numpy as np
import pytest

from minigrad.kernels.cuda import conv, dense, module
from tests import oracles

DTYPES = [np.float32, np.float64]
LIMIT = {np.float32: 2e-5, np.float64: 1e-12}
pytestmark = pytest.mark.usefixtures("launcher")

# x, weight, stride, padding: sizes on both sides of the tiles' edges, sums of one and of several slices
CONVOLUTIONS = [
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0)),
    ((2, 1, 8, 8), (6, 1, 5, 5), (1, 1), (0, 0)),
    ((2, 4, 9, 7), (17, 4, 3, 2), (2, 1), (1, 2)),
    ((3, 5, 6, 6), (16, 5, 3, 3), (1, 1), (1, 1)),
    ((1, 3, 11, 10), (65, 3, 4, 3), (3, 2), (0, 1)),
    ((2, 17, 5, 5), (3, 17, 1, 1), (1, 1), (0, 0)),
    ((1, 2, 3, 3), (2, 2, 5, 5), (2, 2), (3, 3)),
]
LINEAR = [(1, 1, 1), (3, 17, 5), (16, 16, 16), (65, 33, 18), (20, 70, 66)]


@pytest.fixture(params=list(module.TILES), ids=lambda tile: "x".join(map(str, tile)))
def tile(request, monkeypatch):
    monkeypatch.setattr(module, "tile_for", lambda rows, columns: request.param)
    monkeypatch.setattr(conv, "weight_tile", lambda s: request.param)
    return request.param


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def near(found, expected, dtype):
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT[dtype] * max(1, np.abs(expected).max()))


def merged(partial):
    """Count, mean and variance of each channel from (pieces, C, 3), by the plain formulas in float64."""
    count, mean, squares = np.moveaxis(partial.astype(np.float64), 2, 0)
    total = count.sum(0)
    average = (count * mean).sum(0) / total
    return total, average, (squares + count * (mean - average) ** 2).sum(0) / total


def gradients_by_windows(x, weight, gz, stride, padding):
    """gx and gw, with each place of the window in turn: what it reads forward it adds to backward."""
    (si, sj), (pi, pj) = stride, padding
    K, L = weight.shape[2:]
    P, Q = gz.shape[2:]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pi, pi), (pj, pj)))
    gpadded, gw = np.zeros_like(padded), np.zeros(weight.shape)
    for u in range(K):
        for v in range(L):
            part = (..., slice(u, u + (P - 1) * si + 1, si), slice(v, v + (Q - 1) * sj + 1, sj))
            gw[:, :, u, v] = np.einsum("nopq,ncpq->oc", gz, padded[part])
            gpadded[part] += np.einsum("nopq,oc->ncpq", gz, weight[:, :, u, v])
    return gpadded[:, :, pi : pi + x.shape[2], pj : pj + x.shape[3]], gw


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_and_its_gradients(case, dtype, tile):
    x_shape, w_shape, stride, padding = case
    rng = np.random.default_rng(0)
    x, w, b = (normal(rng, shape, dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    s = conv.sizes(x_shape, w_shape, stride, padding)
    expected = np.asarray(oracles.conv2d(x.astype(float), w.astype(float), b.astype(float), stride, padding))
    z = conv.convolve(x, w, b, s)
    assert z.shape == expected.shape
    near(z, expected, dtype)
    near(conv.convolve(x, w, None, s, "tanh"), np.tanh(expected - b.astype(float)[:, None, None]), dtype)

    gz = normal(rng, z.shape, dtype)
    gx, gw = gradients_by_windows(x, w, gz, stride, padding)
    near(conv.grad_input(gz, w, s), gx, dtype)
    near(conv.grad_weight(x, gz, s), gw, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_moments_beside_a_convolution(case, dtype, tile):
    x_shape, w_shape, stride, padding = case
    rng = np.random.default_rng(1)
    x, w = normal(rng, x_shape, dtype), normal(rng, w_shape, dtype)
    s = conv.sizes(x_shape, w_shape, stride, padding)
    partial = np.full((conv.partial_count(s.O, s.N * s.P * s.Q), s.O, 3), np.nan, dtype)
    z = conv.convolve(x, w, None, s, partial=partial)
    count, mean, var = merged(partial)
    np.testing.assert_array_equal(count, s.N * s.P * s.Q)
    near(mean.astype(dtype), z.mean((0, 2, 3), dtype=np.float64), dtype)
    near(var.astype(dtype), z.var((0, 2, 3), dtype=np.float64), dtype)


def test_the_sum_for_the_weights_in_pieces(tile, launcher):
    """So many pictures that the sum over them is divided; a piece may be empty, and the last one short."""
    rng = np.random.default_rng(2)
    x, w = normal(rng, (41, 2, 6, 5), np.float64), normal(rng, (3, 2, 2, 2), np.float64)
    s = conv.sizes(x.shape, w.shape, (1, 1), (0, 0))
    gz = normal(rng, (41, 3, 5, 4), np.float64)
    assert conv.piece_count(s) == 7
    near(conv.grad_weight(x, gz, s), gradients_by_windows(x, w, gz, (1, 1), (0, 0))[1], np.float64)
    assert "sum_pieces" in launcher.started


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100])
@pytest.mark.parametrize("pieces", [2, 31, 32, 33, 100])
def test_pieces_are_added_up(pieces, size):
    parts, whole = np.random.default_rng(0).standard_normal((pieces, size)), np.full(size, np.nan)
    module.launch("sum_pieces", (-(-size // conv.SUMS),), (256,), [parts, whole, pieces, size])
    near(whole, parts.sum(0), np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear_and_its_gradients(case, dtype, tile):
    N, I, O = case
    rng = np.random.default_rng(0)
    x, w, b, gz = (normal(rng, shape, dtype) for shape in ((N, I), (O, I), (O,), (N, O)))
    expected = np.einsum("ni,oi->no", x.astype(np.float64), w) + b
    near(dense.multiply(x, w, b), expected, dtype)
    near(dense.multiply(x, w, b, "relu"), np.maximum(expected, 0), dtype)
    gbias = np.full(O, np.nan, dtype)
    gw = np.einsum("no,ni->oi", gz.astype(np.float64), x)
    near(dense.grad_weight(x, gz, bias_out=gbias), gw, dtype)
    near(gbias, gz.sum(0, dtype=np.float64), dtype)
    near(dense.grad_weight(x, gz), gw, dtype)
    near(dense.grad_input(gz, w), np.einsum("no,oi->ni", gz.astype(np.float64), w), dtype)

    partial = np.full((conv.partial_count(O, N), O, 3), np.nan, dtype)
    z = dense.multiply(x, w, None, partial=partial)
    count, mean, var = merged(partial)
    np.testing.assert_array_equal(count, N)
    near(mean.astype(dtype), z.mean(0, dtype=np.float64), dtype)
    near(var.astype(dtype), z.var(0, dtype=np.float64), dtype)


def test_results_go_where_they_are_told(launcher):
    """With out= nothing is allocated."""
    rng = np.random.default_rng(0)
    x, w, b = (
        normal(rng, (2, 3, 5, 5), np.float32),
        normal(rng, (4, 3, 3, 3), np.float32),
        np.ones(4, np.float32),
    )
    s = conv.sizes(x.shape, w.shape, (1, 1), (0, 0))
    z, gx, gw = np.empty((2, 4, 3, 3), np.float32), np.empty_like(x), np.empty_like(w)

    def refuse(shape, dtype):
        raise AssertionError(f"allocates {shape}")

    assert conv.convolve(x, w, b, s, out=z, alloc=refuse) is z
    assert conv.grad_input(z, w, s, out=gx, alloc=refuse) is gx
    assert conv.grad_weight(x, z, s, out=gw, alloc=refuse) is gw
    assert launcher.started == ["conv_forward_16x16", "conv_grad_input_16x16", "conv_grad_weight_16x16"]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (1, 1, (16, 16)),
        (6, 147456, (16, 64)),
        (16, 16384, (16, 64)),
        (120, 256, (16, 16)),
        (64, 100_000, (64, 64)),
    ],
)
def test_tiles_fit_the_product(rows, columns, expected):
    assert module.tile_for(rows, columns) == expected


@pytest.mark.parametrize(
    ("x", "weight", "tile", "pieces"),
    [
        ((256, 1, 28, 28), (6, 1, 5, 5), (16, 16), 1024),
        ((256, 6, 12, 12), (16, 6, 5, 5), (16, 64), 128),
        ((32, 64, 30, 30), (128, 64, 3, 3), (64, 64), 113),
        ((2, 512, 3, 3), (512, 512, 3, 3), (64, 64), 1),
    ],
)
def test_the_work_on_the_weights_is_divided(x, weight, tile, pieces):
    s = conv.sizes(x, weight, (1, 1), (0, 0))
    assert conv.weight_tile(s) == tile
    assert conv.piece_count(s) == pieces
