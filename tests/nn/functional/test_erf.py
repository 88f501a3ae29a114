"""erf against Python's own, over the whole range and beyond it."""

import math

import numpy as np
import pytest

from minigrad.nn.functional.erf import erf


def reference(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(float(v)) for v in x.reshape(-1)]).reshape(x.shape)


def test_equals_math_erf_to_the_last_digits():
    x = np.concatenate([np.linspace(-7, 7, 40001), np.random.default_rng(0).normal(size=10000)])
    np.testing.assert_allclose(erf(np, x), reference(x), rtol=4e-16, atol=0)


def test_keeps_its_digits_near_zero():
    """erf(x) = 2 x / sqrt(pi) for tiny x: the result is as small as x, not rounded to a grid."""
    x = np.array([1e-300, 1e-30, 1e-10, 1e-5, 1 / 128, 1 / 128 + 1e-12, 1 / 64])
    np.testing.assert_allclose(erf(np, x), reference(x), rtol=4e-16, atol=0)


def test_float32_in_float32_out_and_rounded_correctly():
    x = np.linspace(-5, 5, 5001, dtype=np.float32)
    y = erf(np, x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, reference(x).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_infinite_and_nan(dtype):
    x = np.array([0.0, -0.0, 6.0, -6.0, 1000.0, -1000.0, 1e30, np.inf, -np.inf, np.nan], dtype=dtype)
    expected = np.array([0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, np.nan], dtype=dtype)
    np.testing.assert_array_equal(erf(np, x), expected)


def test_is_odd():
    x = np.random.default_rng(1).normal(size=1000) * 3
    np.testing.assert_array_equal(erf(np, -x), -erf(np, x))


def test_scalars_empty_arrays_and_any_memory_order():
    assert erf(np, np.array(0.5)).shape == ()
    assert erf(np, np.zeros((0, 3))).shape == (0, 3)
    x = np.random.default_rng(2).normal(size=(4, 6))
    np.testing.assert_array_equal(erf(np, x.T[::-1, 1:]), erf(np, np.ascontiguousarray(x.T[::-1, 1:])))
