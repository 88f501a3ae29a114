"""The pieces of the fast convolution: strips, products, gradients. Oracles are loops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.kernels.cpu import conv
from minigrad.kernels.cpu.conv import (
    GAP,
    Plan,
    back_plan,
    convolve,
    load,
    make_plan,
    pieces,
    store,
    strips,
    weight_gradient,
    x_gradient,
)
from tests import oracles
from tests.kernels.support import seeds, some

N = 6  # examples; groups of 1, 2, 3 or 6


@st.composite
def plans(draw: Any) -> Plan:
    """Plans of small convolutions, with and without pooling, of one or several groups."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    pooled = draw(st.booleans())
    outputs = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    if pooled:
        outputs = (2 * outputs[0], 2 * outputs[1])
    picture = []
    for k, s, p, n in zip(kernel, stride, padding, outputs, strict=True):
        picture.append(max(1, (n - 1) * s + k + draw(st.integers(0, s - 1)) - 2 * p))
    C, O = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 4, 9]))
    plan = make_plan((C, *picture), (O, C, *kernel), stride, padding, pooled, 8, N)
    if pooled and (plan.P % 2 or plan.Q % 2):  # a small picture with much padding
        plan = make_plan((C, *picture), (O, C, *kernel), stride, padding, False, 8, N)
    group = draw(st.sampled_from([1, 2, 3, 6]))
    split = draw(st.sampled_from([d for d in range(1, plan.S + 1) if plan.S % d == 0]))
    return replace(plan, group=group, shard=group, split=split)


def pictures(plan: Plan, seed: int) -> np.ndarray:
    """x (C, H, W, N), without the padding."""
    H, W = (size - 2 * p for size, p in zip((plan.H, plan.W), plan.padding, strict=True))
    return np.random.default_rng(seed).standard_normal((plan.C, H, W, N))


def padded(x: np.ndarray, plan: Plan) -> np.ndarray:
    top, left = plan.padding
    return np.pad(x, ((0, 0), (top, top), (left, left), (0, 0)))


def all_strips(x: np.ndarray, plan: Plan) -> np.ndarray:
    return strips(x, slice(0, N), plan)


def strips_one_by_one(x: np.ndarray, plan: Plan) -> np.ndarray:
    """The strips of x (C, H, W, n), without what lies between their rows."""
    n = x.shape[3]
    g = min(plan.group, n)
    x = padded(x, plan)
    a = np.empty((n // g, plan.lanes, plan.H, plan.C, plan.L, plan.S, g), x.dtype)
    for k, lane, h, c, l, s, i in np.ndindex(*a.shape):
        a[k, lane, h, c, l, s, i] = x[c, h, (s * plan.lanes + lane) * plan.stride[1] + l, k * g + i]
    return a.reshape(*a.shape[:5], -1)


def weights(plan: Plan, seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 1).standard_normal((plan.O, plan.C, plan.K, plan.L))


def in_order(z: np.ndarray, plan: Plan) -> np.ndarray:
    """z (G, P, lanes, O, S g) -> (N, O, P, Q): example by example, column by column."""
    G, P, lanes, O, _ = z.shape
    out = np.empty((N, O, P, plan.Q), z.dtype)
    g = N // G
    for k, p, lane, o, s, n in np.ndindex(G, P, lanes, O, plan.S, g):
        out[k * g + n, o, p, s * lanes + lane] = z[k, p, lane, o, s * g + n]
    return out


def out_of_order(gy: np.ndarray, plan: Plan) -> np.ndarray:
    """The reverse of in_order."""
    g = plan.group
    z = np.empty((N // g, plan.P, plan.lanes, plan.O, plan.S * g), gy.dtype)
    for k, p, lane, o, s, n in np.ndindex(*z.shape[:4], plan.S, g):
        z[k, p, lane, o, s * g + n] = gy[k * g + n, o, p, s * plan.lanes + lane]
    return z


# 1. Plans ------------------------------------------------------------------------------------------------


@some
@given(plans())
def test_a_plan_has_all_outputs_of_the_convolution(plan):
    assert plan.P == oracles.windows_along(plan.H, plan.K, plan.stride[0], 0, 1, False)
    assert plan.Q == oracles.windows_along(plan.W, plan.L, plan.stride[1], 0, 1, False)
    assert plan.S * plan.lanes == plan.Q


@some
@given(
    st.integers(1, 3000), st.sampled_from([(1, 28, 6), (6, 12, 16), (8, 7, 8), (64, 32, 64)]), st.booleans()
)
def test_pieces_cover_the_batch_once_in_whole_groups(n, sizes, pooled):
    C, H, O = sizes
    plan = make_plan((C, H, H), (O, C, 4, 3), (1, 1), (0, 0), pooled, 4, n)
    assert plan.group % 16 == 0
    assert plan.shard % plan.group == 0
    parts = pieces(n, plan)
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[part] for part in parts]), np.arange(n))
    sizes = [part.stop - part.start for part in parts]
    assert all(
        size % plan.group == 0 or (size < plan.group and i == len(sizes) - 1) for i, size in enumerate(sizes)
    )
    assert max(sizes) <= plan.shard


def test_large_batches_have_an_even_number_of_shards():
    """So that two threads have the same to do."""
    for n in (256, 512, 1024):
        plan = make_plan((6, 12, 12), (16, 6, 5, 5), (1, 1), (0, 0), True, 4, n)
        sizes = [part.stop - part.start for part in pieces(n, plan)]
        assert len(sizes) % 2 == 0
        assert len(set(sizes)) == 1


def test_small_batches_stay_in_one_piece():
    plan = make_plan((8, 7, 7), (8, 8, 3, 3), (1, 1), (1, 1), False, 4, 32)
    assert pieces(32, plan) == [slice(0, 32)]


# 2. Strips -----------------------------------------------------------------------------------------------


@some
@given(plans(), seeds)
def test_strips_have_every_window_along_a_row(plan, seed):
    x = pictures(plan, seed)
    np.testing.assert_array_equal(all_strips(x, plan)[..., :-GAP], strips_one_by_one(x, plan))


@pytest.mark.parametrize("near", [0, 1 << 20])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_strips_of_a_shard(padding, near, monkeypatch):
    """A shard is a slice of the batch, so its pixels lie apart in memory. At the end it may be smaller than a group.

    Where pictures are too large for the cache, or have a padding, they come together first.
    """
    calls, together = [], conv._together
    monkeypatch.setattr(conv, "NEAR", near)
    monkeypatch.setattr(conv, "_together", lambda *args: calls.append(args) or together(*args))
    plan = replace(make_plan((2, 6, 5), (3, 2, 3, 3), (1, 1), padding, False, 8, 8), group=2)
    x = np.random.default_rng(0).standard_normal((2, 6, 5, 8))
    for part in (slice(2, 6), slice(7, 8)):
        alone = np.ascontiguousarray(x[..., part])
        found, expected = strips(x, part, plan), strips(alone, slice(0, part.stop - part.start), plan)
        np.testing.assert_array_equal(found[..., :-GAP], expected[..., :-GAP])
        np.testing.assert_array_equal(found[..., :-GAP], strips_one_by_one(alone, plan))
    assert bool(calls) == (near == 0 or padding != (0, 0))


@some
@given(plans(), seeds)
def test_store_and_load(plan, seed):
    gy = np.random.default_rng(seed).standard_normal((N, plan.O, plan.P, plan.Q))
    y = np.full((plan.O, plan.P, plan.Q, N), np.nan)
    values = out_of_order(gy, replace(plan, lanes=1))[:, :, 0]
    store(values, y)
    np.testing.assert_array_equal(y, gy.transpose(1, 2, 3, 0))
    np.testing.assert_array_equal(load(y, plan), values)


def test_store_and_load_in_another_order_and_precision():
    """Runs of numbers are copied as one, but only where they are runs, and of one kind."""
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 10)).astype(np.float32)  # (G, R, O, S g)
    expected = values.reshape(2, 3, 4, 5, 2).transpose(2, 1, 3, 0, 4).reshape(4, 3, 5, 4)  # (O, R, S, N)
    plan = replace(make_plan((1, 3, 5), (4, 1, 1, 1), (1, 1), (0, 0), False, 4, 4), group=2)
    for dtype in (np.float32, np.float64, ">f4"):
        for y in (
            np.full((4, 3, 5, 4), np.nan, dtype),
            np.full((4, 4, 3, 5), np.nan, dtype).transpose(1, 2, 3, 0),
        ):
            store(values, y)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(load(y, plan), values)


# 3. Products ---------------------------------------------------------------------------------------------


@some
@given(plans(), seeds)
def test_convolve(plan, seed):
    x, weight = pictures(plan, seed), weights(plan, seed)
    found = in_order(convolve(all_strips(x, plan), weight, plan), plan)
    expected = oracles.conv2d(padded(x, plan).transpose(3, 0, 1, 2), weight, stride=plan.stride)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@some
@given(plans(), seeds)
def test_weight_gradient(plan, seed):
    """Each weight's gradient is the sum over all places of what it multiplies times gy."""
    pixels = pictures(plan, seed)
    x = padded(pixels, plan)
    gy = np.random.default_rng(seed + 2).standard_normal((N, plan.O, plan.P, plan.Q))
    expected = np.zeros((plan.O, plan.C, plan.K, plan.L))
    for k, l, p, q in np.ndindex(plan.K, plan.L, plan.P, plan.Q):
        seen = x[:, p * plan.stride[0] + k, q * plan.stride[1] + l]  # (C, N)
        expected[:, :, k, l] += gy[:, :, p, q].T @ seen.T
    found = weight_gradient(all_strips(pixels, plan), out_of_order(gy, plan), plan)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@some
@given(plans(), seeds)
def test_x_gradient(plan, seed):
    """Each output sends gy times the weights to what it has seen; what lay in the memory before is gone."""
    weight = weights(plan, seed)
    gy = np.random.default_rng(seed + 2).standard_normal((N, plan.O, plan.P, plan.Q))
    expected = np.zeros((plan.C, plan.H, plan.W, N))
    for k, l, p, q in np.ndindex(plan.K, plan.L, plan.P, plan.Q):
        sent = weight[:, :, k, l].T @ gy[:, :, p, q].T  # (C, N)
        expected[:, p * plan.stride[0] + k, q * plan.stride[1] + l] += sent
    top, left = plan.padding
    expected = expected[:, top : plan.H - top, left : plan.W - left]
    gx = np.full_like(expected, np.nan)
    x_gradient(weight, plan)(out_of_order(gy, plan), gx)
    np.testing.assert_allclose(gx, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("pooled", [False, True])
def test_x_gradient_of_a_shard(pooled):
    plan = replace(make_plan((2, 6, 6), (3, 2, 3, 3), (1, 1), (0, 0), pooled, 8, 8), group=2)
    gy = np.random.default_rng(1).standard_normal((N, 3, 4, 4))
    gx, expected = np.zeros((2, 6, 6, 12)), np.empty((2, 6, 6, N))
    write = x_gradient(weights(plan, 0), plan)
    write(out_of_order(gy, plan), gx[..., 4 : 4 + N])
    write(out_of_order(gy, plan), expected)
    np.testing.assert_array_equal(gx[..., 4 : 4 + N], expected)
    assert not gx[..., :4].any()
    assert not gx[..., 4 + N :].any()


def test_which_gradients_of_x_are_convolutions():
    """The tests above have to see both ways; with pooling, a stride or many outputs there is only the other."""
    plan = make_plan((4, 8, 8), (4, 4, 3, 3), (1, 1), (1, 1), False, 4, 8)
    assert back_plan(plan) is not None
    assert back_plan(replace(plan, lanes=2)) is None
    assert back_plan(replace(plan, stride=(1, 2))) is None
    assert back_plan(replace(plan, padding=(0, 3))) is None
    assert back_plan(replace(plan, O=9)) is None


def test_large_products_are_split():
    """16 x 144 @ 144 x 1024 is too much for OpenBLAS's method for small products; a quarter of it is not."""
    plan = make_plan((16, 32, 32), (16, 16, 3, 3), (1, 1), (1, 1), False, 4, 256)
    assert plan.group == 32
    assert plan.split == 4
    assert back_plan(plan).split == 4
    assert make_plan((1, 28, 28), (6, 1, 5, 5), (1, 1), (0, 0), True, 4, 256).split == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("O", [3, 12])
def test_dtypes_stay(O, dtype):
    plan = make_plan((2, 6, 6), (O, 2, 3, 3), (1, 1), (1, 1), False, np.dtype(dtype).itemsize, 2)
    weight = np.ones((O, 2, 3, 3), dtype)
    x = np.ones((2, 6, 6, 2), dtype)
    a = strips(x, slice(0, 2), plan)
    z = convolve(a, weight, plan)
    for array in (a, z, load(x, plan), weight_gradient(a, z, plan)):
        assert array.dtype == dtype
