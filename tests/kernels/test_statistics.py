"""Means and variances of rows: exact far from 0, in long rows, and put together from pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.kernels.cpu.statistics import Moments, merge, row_moments, row_products
from tests.kernels.support import seeds, some


def exact(z):
    """(taps, O, m) -> mean and variance of each channel, in float64 from the numbers as they are."""
    rows = z.astype(np.float64).transpose(1, 0, 2).reshape(z.shape[1], -1)
    mean = rows.mean(axis=1)
    return mean, ((rows - mean[:, None]) ** 2).mean(axis=1)


def rows(taps=4, O=3, m=2000, mean=0.0, std=1.0, dtype=np.float32, seed=0):
    return (mean + std * np.random.default_rng(seed).standard_normal((taps, O, m))).astype(dtype)


def moments_of(z):
    """Of a copy, since `row_moments` may subtract something from what it is given."""
    return row_moments(z.copy())[0]


@pytest.mark.parametrize("taps", [1, 4])
@pytest.mark.parametrize("mean", [0, 1, -3.9, 4.1, 100, 1e4])
def test_float32(mean, taps):
    """On both sides of where the second pass begins. The mean is exact to a millionth of the spread."""
    z = rows(taps, mean=mean)
    found = moments_of(z)
    m, v = exact(z)
    assert found.count == taps * 2000
    np.testing.assert_allclose(found.mean, m, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.var, v, rtol=1e-5)


@pytest.mark.parametrize("mean", [0, 3, 1e4, -1e8])
def test_float64(mean):
    z = rows(mean=mean, dtype=np.float64)
    found = moments_of(z)
    m, v = exact(z)
    np.testing.assert_allclose(found.mean, m, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(found.var, v, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scaled(scale):
    z = rows(mean=scale, std=scale)
    m, v = exact(z)
    found = moments_of(z)
    np.testing.assert_allclose(found.mean, m, rtol=1e-5)
    np.testing.assert_allclose(found.var, v, rtol=1e-5)


def test_long_rows_that_are_mostly_one_value():
    """Adding up the same number makes the same rounding error each time: a picture's background does that."""
    rng = np.random.default_rng(0)
    z = np.where(rng.random((4, 2, 100_000)) < 0.8, 0.3, 0.3 * rng.random((4, 2, 100_000))).astype(np.float32)
    m, v = exact(z)
    found = moments_of(z)
    assert not found.far_from_zero  # one pass had to do
    np.testing.assert_allclose(found.mean, m, rtol=1e-6)
    np.testing.assert_allclose(found.var, v, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e-20])
def test_a_constant_row_has_no_variance(value, dtype):
    z = np.full((4, 2, 999), value, dtype)
    found = moments_of(z)
    np.testing.assert_allclose(found.mean, float(dtype(value)), rtol=1e-12)
    assert (found.var <= (1e-12 * value) ** 2).all()
    assert (found.var >= 0).all()


def test_no_variance_is_negative():
    """A difference of two sums that should be equal can come out below 0."""
    for seed in range(20):
        z = (np.random.default_rng(seed).random() + 1e-8 * rows(seed=seed, m=500)).astype(np.float32)
        assert (moments_of(z).var >= 0).all()


def test_channels_do_not_disturb_each_other():
    """The second pass of one channel does no harm to another."""
    z = rows(O=3)
    z[:, 1] += 1e4
    m, v = exact(z)
    found = moments_of(z)
    assert found.far_from_zero
    np.testing.assert_allclose(found.mean, m, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.var, v, rtol=1e-5)


@some
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6),
    st.sampled_from([0.0, 5.0, 1e4]),
    st.sampled_from([1, 4]),
    seeds,
)
def test_pieces_put_together_equal_the_whole(lengths, mean, taps, seed):
    z = rows(taps, m=sum(lengths), mean=mean, dtype=np.float64, seed=seed)
    z[..., : lengths[0]] += 3  # the pieces differ
    ends = np.cumsum(lengths)
    pieces = [moments_of(z[..., end - n : end]) for n, end in zip(lengths, ends, strict=True)]
    found, whole = merge(pieces), moments_of(z)
    m, v = exact(z)
    assert found.count == whole.count == taps * sum(lengths)
    for moments in (found, whole):
        np.testing.assert_allclose(moments.mean, m, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.var, v, rtol=1e-9, atol=1e-12 * (1 + mean**2))


def test_float32_pieces_far_from_zero():
    z = rows(m=1000, mean=1e4)
    found = merge([moments_of(z[..., k : k + 96]) for k in range(0, 1000, 96)])
    m, v = exact(z)
    np.testing.assert_allclose(found.mean, m, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.var, v, rtol=1e-5)


@pytest.mark.parametrize(
    ("mean", "far"), [(0.0, False), (1.0, False), (-1.0, False), (30.0, True), (-30.0, True)]
)
def test_far_from_zero(mean, far):
    found = Moments(10, np.array([0.0, mean]), np.array([10.0, 10.0]))
    assert found.far_from_zero == far


def test_means_far_from_zero_are_taken_away():
    z = rows(mean=1e4)
    whole = z.copy()
    found, lost = row_moments(z)
    assert lost.shape == (3,)
    assert lost.dtype == np.float32
    assert found.far_from_zero  # the moments are those of z as it came
    np.testing.assert_array_equal(z, whole - lost[:, None])
    assert abs(z.mean()) < 0.1


def test_means_near_zero_are_left():
    z = rows(mean=1)
    whole = z.copy()
    assert row_moments(z)[1] is None
    np.testing.assert_array_equal(z, whole)


def test_products():
    a, b = rows(seed=1, m=5000), rows(seed=2, m=5000, mean=1)
    expected = (a.astype(np.float64) * b).sum(axis=(0, 2))
    np.testing.assert_allclose(row_products(a, b), expected, rtol=0, atol=0.01)
    np.testing.assert_allclose(row_products(a.astype(float), b.astype(float)), expected, rtol=1e-10)
    assert row_products(a, b).dtype == np.float64
