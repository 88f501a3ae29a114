"""The pieces of the fast convolution: windows, their reverse, tiled weights. Oracles are loops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.kernels.cpu.conv import (
    Plan,
    col2im,
    fold_weight,
    im2col,
    make_plan,
    padded_batch_last,
    tile_weight,
)
from tests import oracles
from tests.kernels.support import seeds, some
from tests.nn.support import ordered, orders


@st.composite
def plans(draw: Any) -> Plan:
    """Plans of small convolutions, with tiles of one or four outputs."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    outputs = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    picture = []
    for k, s, p, n in zip(kernel, stride, padding, outputs, strict=True):
        picture.append(max(1, (n - 1) * s + k + draw(st.integers(0, s - 1)) - 2 * p))
    C, O = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    plan = make_plan((C, *picture), (O, C, *kernel), stride, padding, False, 8)
    if draw(st.booleans()):
        return replace(plan, tile=(1, 1))
    even = plan.P % 2 == plan.Q % 2 == 0
    return replace(plan, tile=(2, 2)) if even else plan


def padded(plan: Plan, seed: int, n: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((plan.C, plan.H, plan.W, n))


# 1. Plans ------------------------------------------------------------------------------------------------


@some
@given(plans(), st.integers(1, 300))
def test_a_plan_has_all_outputs_of_the_convolution(plan, n):
    assert plan.P == oracles.windows_along(plan.H, plan.K, plan.stride[0], 0, 1, False)
    assert plan.Q == oracles.windows_along(plan.W, plan.L, plan.stride[1], 0, 1, False)
    assert plan.taps * plan.columns(n) == plan.P * plan.Q * n
    assert plan.shard >= 1


def test_pooled_tiles_are_the_windows_of_the_pooling():
    for O in (1, 200):
        plan = make_plan((3, 10, 12), (O, 3, 3, 3), (1, 1), (0, 0), True, 4)
        assert plan.tile == (2, 2)
        assert plan.grid == (4, 5)


# 2. Windows ----------------------------------------------------------------------------------------------


@some
@given(plans(), seeds)
def test_im2col_has_every_window(plan, seed):
    x = padded(plan, seed)
    cols = im2col(x, plan).reshape(plan.C, *plan.window, *plan.grid, 2)
    for c, i, j, p, q, n in np.ndindex(*cols.shape):
        h = p * plan.tile[0] * plan.stride[0] + i
        w = q * plan.tile[1] * plan.stride[1] + j
        assert cols[c, i, j, p, q, n] == x[c, h, w, n]


@some
@given(plans(), seeds)
def test_col2im_is_the_adjoint_of_im2col(plan, seed):
    """<im2col(x), c> = <x, col2im(c)> for all x and c; what lay in the memory before is gone."""
    x = padded(plan, seed)
    c = np.random.default_rng(seed + 1).standard_normal((plan.rows, plan.columns(2)))
    gx = np.full_like(x, np.nan)
    col2im(c, plan, gx)
    np.testing.assert_allclose((im2col(x, plan) * c).sum(), (x * gx).sum(), rtol=1e-10, atol=1e-12)


@some
@given(plans(), seeds)
def test_col2im_adds_up_the_windows(plan, seed):
    """Not only the sum: each value in its place."""
    c = np.random.default_rng(seed).standard_normal((plan.rows, plan.columns(1)))
    windows, expected = c.reshape(plan.C, *plan.window, *plan.grid), np.zeros((plan.C, plan.H, plan.W))
    for index in np.ndindex(*windows.shape):
        k, i, j, p, q = index
        h = p * plan.tile[0] * plan.stride[0] + i
        w = q * plan.tile[1] * plan.stride[1] + j
        expected[k, h, w] += windows[index]
    gx = np.empty((plan.C, plan.H, plan.W, 1))
    col2im(c, plan, gx)
    np.testing.assert_allclose(gx[..., 0], expected, rtol=0, atol=1e-12)


def test_windows_of_a_shard():
    """A shard is a slice of the batch, so its pixels lie apart in memory."""
    plan = make_plan((2, 6, 6), (3, 2, 3, 3), (1, 1), (0, 0), True, 8)
    x = padded(plan, 0, 7)
    np.testing.assert_array_equal(im2col(x[..., 2:5], plan), im2col(x[..., 2:5].copy(), plan))
    gx, expected = np.zeros_like(x), np.zeros((2, 6, 6, 3))
    c = np.random.default_rng(1).standard_normal((plan.rows, plan.columns(3)))
    col2im(c, plan, gx[..., 2:5])
    col2im(c, plan, expected)
    np.testing.assert_array_equal(gx[..., 2:5], expected)
    assert not gx[..., :2].any()
    assert not gx[..., 5:].any()


@some
@given(orders, st.tuples(st.integers(0, 2), st.integers(0, 2)), seeds)
def test_padding(order, padding, seed):
    x = np.random.default_rng(seed).standard_normal((3, 2, 4, 5))
    y = padded_batch_last(ordered(x, order), padding)
    assert y.flags.c_contiguous
    top, left = padding
    expected = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    np.testing.assert_array_equal(y, expected.transpose(1, 2, 3, 0))


# 3. Weights ----------------------------------------------------------------------------------------------


@some
@given(plans(), seeds)
def test_tiled_weights_times_windows_are_the_convolution(plan, seed):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((plan.O, plan.C, plan.K, plan.L))
    x = padded(plan, seed)
    z = (tile_weight(weight, plan) @ im2col(x, plan)).reshape(*plan.tile, plan.O, *plan.grid, 2)
    found = z.transpose(5, 2, 3, 0, 4, 1).reshape(2, plan.O, plan.P, plan.Q)
    expected = oracles.conv2d(x.transpose(3, 0, 1, 2), weight, stride=plan.stride)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@some
@given(plans(), seeds)
def test_fold_weight_is_the_adjoint_of_tile_weight(plan, seed):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((plan.O, plan.C, plan.K, plan.L))
    g = rng.standard_normal((plan.taps * plan.O, plan.rows))
    folded = fold_weight(g, plan)
    assert folded.shape == weight.shape
    np.testing.assert_allclose((tile_weight(weight, plan) * g).sum(), (weight * folded).sum(), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay(dtype):
    plan = make_plan((2, 6, 6), (3, 2, 3, 3), (1, 1), (1, 1), False, np.dtype(dtype).itemsize)
    weight = np.ones((3, 2, 3, 3), dtype)
    x = padded_batch_last(np.ones((2, 2, 6, 6), dtype), (1, 1))
    for array in (
        x,
        im2col(x, plan),
        tile_weight(weight, plan),
        fold_weight(tile_weight(weight, plan), plan),
    ):
        assert array.dtype == dtype
