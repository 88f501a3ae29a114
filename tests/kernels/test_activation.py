"""Activations in place, and derivatives from the result, against the layers."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.kernels.cpu.activation import NAMES, activate, scale_by_derivative

FUNCTIONS = {"sigmoid": F.sigmoid, "tanh": F.tanh, "relu": F.relu, "identity": lambda x: x * 1}
VALUES = [0.0, -0.0, 1e-30, -1e-30, 0.5, -0.5, 3.0, -3.0, 20.0, -20.0, 90.0, -90.0, 1000.0, -1000.0]
SPECIAL = [*VALUES, np.inf, -np.inf, np.nan]


def test_every_name_is_tested():
    assert set(NAMES) == set(FUNCTIONS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_values(name, dtype):
    """As the layer, also at +-1000, at infinity and for NaN, and without a warning.

    What is less than the smallest normal number may be taken for another such number.
    """
    x = np.array(SPECIAL, dtype).reshape(1, -1).repeat(3, axis=0)
    expected = FUNCTIONS[name](mg.Tensor(x.copy())).numpy()
    y = activate(name, x)
    assert y is x  # in its own memory
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_scale_and_shift(name, scale, shift, own):
    """Each channel has its own; without memory for the result x itself is written into."""
    x, a, b = (np.random.default_rng(0).standard_normal(shape) for shape in ((2, 3, 4), (3, 1), (3, 1)))
    values = x * (a if scale else 1) + (b if shift else 0)
    expected = FUNCTIONS[name](mg.Tensor(values)).numpy()
    out = None if own else np.full_like(x, np.nan)
    before = x.copy()
    y = activate(name, x, a if scale else None, b if shift else None, out)
    assert y is (x if own else out)
    assert own or np.array_equal(x, before)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name, dtype):
    values = np.array(VALUES, dtype)
    x = mg.Tensor(values, requires_grad=True)
    gy = np.random.default_rng(0).standard_normal(values.shape).astype(dtype)
    y = FUNCTIONS[name](x)
    y.backward(gy)
    out = np.full_like(values, np.nan)
    before = gy.copy()
    found = scale_by_derivative(name, y.detach().numpy(), gy, out)
    assert found is out
    np.testing.assert_array_equal(gy, before)
    np.testing.assert_allclose(
        found, x.grad.numpy(), rtol=8 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).tiny
    )


@pytest.mark.parametrize("name", NAMES)
def test_they_increase(name):
    """Pooling may come first for no other reason."""
    x = np.sort(np.random.default_rng(0).standard_normal(1000) * 10)
    y = activate(name, x.copy())
    assert (np.diff(y) >= 0).all()
    assert y[-1] > y[0]
