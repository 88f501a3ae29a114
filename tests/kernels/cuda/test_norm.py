"""Batch norm, activation and pooling kernels one by one, beside the formulas in float64."""

import numpy as np
import pytest

from minigrad.kernels.cuda import norm
from minigrad.kernels.cuda.norm import Statistics

DTYPES = [np.float32, np.float64]
LIMIT = {np.float32: 1e-5, np.float64: 1e-12}
ACTIVATIONS = {
    "identity": (lambda v: v, lambda y: np.ones_like(y)),
    "relu": (lambda v: np.maximum(v, 0), lambda y: (y > 0).astype(float)),
    "sigmoid": (lambda v: 1 / (1 + np.exp(-v)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}
pytestmark = pytest.mark.usefixtures("launcher")


def near(found, expected, dtype):
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT[dtype] * max(1, np.abs(expected).max()))


def statistics(rng, C, dtype):
    return Statistics(*(rng.random(C).astype(dtype) + dtype(0.5) for _ in range(4)))


def column(v):
    """(C,) -> (C, 1, 1) in float64."""
    return v.astype(np.float64)[:, None, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", [1, 2, 255, 256, 257, 700])
def test_moments_are_merged(pieces, dtype):
    """Pieces of different sizes, some empty, some far from the others."""
    rng = np.random.default_rng(0)
    C, sizes = 3, rng.integers(0, 5, pieces)
    sizes[0] = 3
    values = [rng.standard_normal((size, C)) + 10 * rng.standard_normal() for size in sizes]
    partial = np.zeros((pieces, C, 3), dtype)
    for piece, v in zip(partial, values, strict=True):
        if len(v):
            piece[:, 0], piece[:, 1], piece[:, 2] = len(v), v.mean(0), ((v - v.mean(0)) ** 2).sum(0)
    bias = rng.standard_normal(C).astype(dtype)
    found = norm.merge(partial, 0.25, bias)
    all_values = np.concatenate(values)
    near(found.centre, all_values.mean(0), dtype)
    near(found.mean, all_values.mean(0) + bias, dtype)
    near(found.var, all_values.var(0), dtype)
    near(found.inv_std, 1 / np.sqrt(all_values.var(0) + 0.25), dtype)
    near(norm.merge(partial, 0.25, None).mean, all_values.mean(0), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("affine", [True, False])
def test_apply(affine, activation, dtype):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((5, 3, 17, 9)).astype(dtype)  # more values than one block has threads
    stats = statistics(rng, 3, dtype)
    gamma, beta = (rng.standard_normal(3).astype(dtype) for _ in range(2)) if affine else (None, None)
    v = (z - column(stats.centre)) * column(stats.inv_std)
    if affine:
        v = column(gamma) * v + column(beta)
    near(norm.apply(z, stats, gamma, beta, activation), ACTIVATIONS[activation][0](v), dtype)


def pool_by_rule(z, gamma):
    """Winner 0..3 of each window: the largest z, for gamma < 0 the smallest, of equals the first."""
    N, C, P, Q = z.shape
    windows = (
        z.reshape(N, C, P // 2, 2, Q // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, P // 2, Q // 2, 4)
    )
    return (windows * np.sign(gamma)[:, None, None, None]).argmax(-1), windows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_apply_and_pool(activation, dtype):
    rng = np.random.default_rng(0)
    gamma = np.array([1.5, -0.5, 0.0], dtype)
    z = (rng.integers(-3, 4, (5, 3, 12, 14)) / 4).astype(dtype)  # full of ties
    stats, beta = statistics(rng, 3, dtype), rng.standard_normal(3).astype(dtype)
    won, windows = pool_by_rule(z, gamma)
    best = np.take_along_axis(windows, won[..., None], -1)[..., 0]
    v = column(gamma) * (best - column(stats.centre)) * column(stats.inv_std) + column(beta)
    y, winner = norm.apply_pool(z, stats, gamma, beta, activation)
    np.testing.assert_array_equal(winner, won)
    near(y, ACTIVATIONS[activation][0](v), dtype)

    y, winner = norm.apply_pool(z, None, None, None, activation)
    won, windows = pool_by_rule(z, np.ones(3))
    np.testing.assert_array_equal(winner, won)
    near(y, ACTIVATIONS[activation][0](windows.max(-1)), dtype)


def test_nan_wins_the_window():
    z = np.zeros((1, 2, 2, 4))
    z[0, :, 1, :2] = np.nan  # the first of two
    z[0, :, 0, 3] = [5, -5]
    stats = Statistics(*(np.ones(2) for _ in range(4)))
    y, winner = norm.apply_pool(z, stats, np.array([1.0, -1.0]), None, "identity")
    np.testing.assert_array_equal(winner[0, :, 0], [[2, 1], [2, 1]])
    assert np.isnan(y[0, :, 0, 0]).all()
    assert np.isfinite(y[0, :, 0, 1]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_that_are_not_finite_go_through_activations(activation):
    """NaN stays NaN; the ends of sigmoid and tanh are reached without NaN."""
    z = np.array([[np.nan], [-np.inf], [np.inf], [-1000.0], [1000.0]])
    stats = Statistics(*(np.array([v]) for v in (0.0, 1.0, 0.0, 1.0)))
    with np.errstate(over="ignore"):
        expected = ACTIVATIONS[activation][0](z)
    np.testing.assert_array_equal(norm.apply(z, stats, None, None, activation), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("shape", [(5, 3, 12, 14), (300, 2, 2, 2)])
def test_backward(shape, normalised, pooled, activation, dtype):
    rng = np.random.default_rng(0)
    N, C, P, Q = shape
    z = rng.standard_normal(shape).astype(dtype)
    stats = statistics(rng, C, dtype) if normalised else None
    gamma = rng.standard_normal(C).astype(dtype) if normalised else None
    size = (N, C, P // 2, Q // 2) if pooled else shape
    y, gy = (rng.standard_normal(size).astype(dtype) for _ in range(2))
    winner = rng.integers(0, 4, size).astype(np.uint8) if pooled else None
    found = norm.backward(gy, y, z, winner, stats, gamma, activation)

    t = gy.astype(np.float64) * ACTIVATIONS[activation][1](y.astype(np.float64))
    if pooled:  # to its place in each window
        spread = t[..., None] * (winner[..., None] == np.arange(4))
        t = spread.reshape(N, C, P // 2, Q // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(shape)
    sums = t.sum((0, 2, 3))
    if not normalised:
        assert found.gamma is None
        assert found.beta is None
        near(found.bias, sums, dtype)
        near(found.gz, t, dtype)
        return
    xhat = (z - column(stats.centre)) * column(stats.inv_std)
    ggamma, M = (t * xhat).sum((0, 2, 3)), N * P * Q
    near(found.beta, sums, dtype)
    near(found.gamma, ggamma, dtype)
    np.testing.assert_array_equal(found.bias, 0)
    scale = column(gamma) * column(stats.inv_std)
    near(found.gz, scale * (t - column(sums) / M - xhat * column(ggamma) / M), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [1, 256, 300])
def test_running_statistics(C, dtype):
    rng = np.random.default_rng(0)
    mean, var, running_mean, running_var = (rng.random(C).astype(dtype) for _ in range(4))
    expected_mean = running_mean + 0.3 * (mean - running_mean)
    expected_var = running_var + 0.3 * (var * 8 / 7 - running_var)
    tracked = np.array(4, np.int64)
    norm.track(mean, var, running_mean, running_var, tracked, 0.3, 8)
    near(running_mean, expected_mean, dtype)
    near(running_var, expected_var, dtype)
    assert tracked == 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (5, 2, 3, 3)])
def test_folding(shape, dtype):
    """Each of bias, gamma and beta may be missing."""
    rng = np.random.default_rng(0)
    weight, O = rng.standard_normal(shape).astype(dtype), shape[0]
    mean, var = rng.standard_normal(O).astype(dtype), rng.random(O).astype(dtype)
    for left_out in ("nothing", "bias", "gamma", "beta"):
        given = {name: rng.standard_normal(O).astype(dtype) for name in ("bias", "gamma", "beta")}
        given.pop(left_out, None)
        bias, gamma, beta = (given.get(name) for name in ("bias", "gamma", "beta"))
        folded, shift = norm.fold(weight, bias, mean, var, gamma, beta, 1e-3)
        scale = (1 if gamma is None else gamma.astype(float)) / np.sqrt(var.astype(float) + 1e-3)
        near(folded, scale.reshape(-1, *[1] * (len(shape) - 1)) * weight, dtype)
        centre = (0 if bias is None else bias.astype(float)) - mean
        near(shift, scale * centre + (0 if beta is None else beta), dtype)
