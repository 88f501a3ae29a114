"""Activations: against Python's math, against PyTorch, at the ends of the range, and their gradients."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import ArgumentError, DimError
from tests import oracles
from tests.nn import support
from tests.nn.support import assert_close, check_gradients, compare, few, ordered, run

# name: (minigrad's, PyTorch's, the formula on one number, whether it has a kink at 0)
ELEMENTWISE: dict[str, tuple[Any, Any, Any, bool]] = {
    "sigmoid": (F.sigmoid, lambda t, x: t.sigmoid(x), oracles.sigmoid, False),
    "tanh": (F.tanh, lambda t, x: t.tanh(x), math.tanh, False),
    "relu": (F.relu, lambda t, x: t.nn.functional.relu(x), lambda v: max(v, 0.0), True),
    "leaky_relu": (
        F.leaky_relu,
        lambda t, x: t.nn.functional.leaky_relu(x),
        lambda v: v if v > 0 else 0.01 * v,
        True,
    ),
    "leaky_relu 0.3": (
        lambda x: F.leaky_relu(x, 0.3),
        lambda t, x: t.nn.functional.leaky_relu(x, 0.3),
        lambda v: v if v > 0 else 0.3 * v,
        True,
    ),
    "gelu": (F.gelu, lambda t, x: t.nn.functional.gelu(x), oracles.gelu, False),
    "gelu tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
        oracles.gelu_tanh,
        False,
    ),
    "softplus": (F.softplus, lambda t, x: t.nn.functional.softplus(x, threshold=40), oracles.softplus, False),
    "softplus beta": (
        lambda x: F.softplus(x, beta=2.0),
        lambda t, x: t.nn.functional.softplus(x, beta=2, threshold=80),
        lambda v: oracles.softplus(2 * v) / 2,
        False,
    ),
}
# name: (minigrad's, PyTorch's), functions of x and a dimension
ALONG: dict[str, tuple[Any, Any]] = {
    "softmax": (F.softmax, lambda t, x, dim: t.softmax(x, dim)),
    "log_softmax": (F.log_softmax, lambda t, x, dim: t.log_softmax(x, dim)),
    "logsumexp": (F.logsumexp, lambda t, x, dim: t.logsumexp(x, dim)),
    "logsumexp keepdim": (
        lambda x, dim: F.logsumexp(x, dim, keepdim=True),
        lambda t, x, dim: t.logsumexp(x, dim, keepdim=True),
    ),
}
each = pytest.mark.parametrize("name", ELEMENTWISE)
along = pytest.mark.parametrize("name", ALONG)


@st.composite
def tensors(draw: Any, smallest: int = 0, scale: float = 3.0) -> np.ndarray:
    shape = [draw(support.between(smallest if i == 0 else 1, 4)) for i in range(draw(support.between(1, 4)))]
    x = scale * np.random.default_rng(draw(support.seeds)).standard_normal(shape)
    return ordered(x.astype(draw(support.dtypes)), draw(support.orders))


# 1. Element by element -----------------------------------------------------------------------------------


@each
@few
@given(x=tensors())
def test_equals_the_formula(name, x):
    ours, _, formula, _ = ELEMENTWISE[name]
    y = ours(mg.Tensor(x))
    assert y.dtype == x.dtype
    assert_close(y.numpy(), oracles.elementwise(formula, x))


@pytest.mark.parity
@each
@few
@given(x=tensors())
def test_elementwise_equals_torch(torch, name, x):
    ours, theirs, _, _ = ELEMENTWISE[name]
    compare(torch, ours, lambda x: theirs(torch, x), [x])


@each
@few
@given(x=tensors(smallest=1))
def test_elementwise_gradient(name, x):
    ours, _, _, kink = ELEMENTWISE[name]
    x = x.astype(np.float64)
    check_gradients(ours, [np.where(np.abs(x) < 1e-3, 1.0, x) if kink else x])


def ulps(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest error, in units of the last digit of the number expected."""
    return float(
        (
            np.abs(actual.astype(np.float64) - expected) / np.spacing(np.abs(expected).astype(actual.dtype))
        ).max()
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "softplus"])
def test_decision_no_overflow_no_warning_exact_far_out(name, dtype):
    """From -1000 to 1000 every digit is right, also where the result is tiny."""
    ours, _, formula, _ = ELEMENTWISE[name]
    ends = [-1000.0, -800.0, -740.0, -104.0, -90.0, -30.0, -1e-6, 1e-6, 0.5, 20.5, 30.0, 90.0, 800.0, 1000.0]
    x = np.array([*ends, *np.linspace(-1000, 1000, 2001)], dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (y,), (gx,) = run(ours, [x])
    expected = oracles.elementwise(formula, x)
    normal = np.abs(expected) > np.finfo(dtype).tiny
    assert ulps(y[normal], expected[normal]) <= 4
    assert np.all(np.abs(y[~normal]) <= np.finfo(dtype).tiny)
    assert np.isfinite(gx).all()


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "gelu", "gelu tanh", "tanh"])
def test_gradients_far_out_are_exact_limits(name):
    ours, _, _, _ = ELEMENTWISE[name]
    x = mg.tensor([-1000.0, 1000.0], requires_grad=True)
    ours(x).sum().backward()
    assert x.grad.tolist() == ([0.0, 0.0] if name in ("sigmoid", "tanh") else [0.0, 1.0])


def test_sigmoid_of_minus_x_is_one_minus_sigmoid_without_cancellation():
    y = F.sigmoid(mg.tensor([-40.0], dtype=mg.float64)).item()
    assert y == pytest.approx(math.exp(-40), rel=1e-14)


def test_decision_relu_slope_at_zero_is_zero():
    x = mg.tensor([-1.0, -0.0, 0.0, 1.0], requires_grad=True)
    F.relu(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parity
def test_slopes_at_zero_equal_torch(torch):
    x = np.array([-0.0, 0.0], dtype=np.float32)
    for name in ELEMENTWISE:
        ours, theirs, _, _ = ELEMENTWISE[name]
        compare(torch, ours, lambda x, theirs=theirs: theirs(torch, x), [x])


@each
def test_nan_stays_nan(name):
    assert np.isnan(ELEMENTWISE[name][0](mg.tensor([math.nan])).item())


def test_integers_become_float32():
    for name in ("sigmoid", "tanh", "gelu", "gelu tanh", "softplus", "leaky_relu"):
        assert ELEMENTWISE[name][0](mg.tensor([-1, 2])).dtype == mg.float32, name
    assert F.relu(mg.tensor([-1, 2])).tolist() == [0, 2]
    assert F.relu(mg.tensor([-1, 2])).dtype == mg.int64
    for name in ALONG:
        assert ALONG[name][0](mg.tensor([1, 2]), 0).dtype == mg.float32, name


# 2. Along a dimension ------------------------------------------------------------------------------------


@few
@given(tensors(smallest=1), support.between(0, 3))
def test_softmax_family_equals_the_formula(x, k):
    dim = k % x.ndim
    rows = np.moveaxis(x, dim, -1)
    log_p = np.array([oracles.log_softmax(row.tolist()) for row in rows.reshape(-1, rows.shape[-1])])
    log_p = np.moveaxis(log_p.reshape(rows.shape), -1, dim)
    assert_close(F.log_softmax(mg.Tensor(x), dim).numpy(), log_p)
    assert_close(F.softmax(mg.Tensor(x), dim).numpy(), np.exp(log_p))
    total = (x - log_p).mean(axis=dim)  # x_i - ln softmax_i is the same for all i
    assert_close(F.logsumexp(mg.Tensor(x), dim).numpy(), total)


@pytest.mark.parity
@along
@settings(few, max_examples=15)
@given(x=tensors(), k=support.between(-4, 3))
def test_along_a_dimension_equals_torch(torch, name, x, k):
    ours, theirs = ALONG[name]
    dim = k % x.ndim - x.ndim * (k < 0)
    if name.startswith("logsumexp") and x.shape[dim] == 0:
        return  # PyTorch gives -inf, minigrad refuses the maximum of nothing
    compare(torch, lambda x: ours(x, dim), lambda x: theirs(torch, x, dim), [x])


@along
@settings(few, max_examples=10)
@given(x=tensors(smallest=1), k=support.between(0, 3))
def test_along_a_dimension_gradient(name, x, k):
    check_gradients(lambda x: ALONG[name][0](x, k % x.ndim), [x.astype(np.float64)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decision_softmax_family_no_overflow_no_warning_exact_far_out(dtype):
    rows = np.array(
        [
            [1000.0, 1000.0, -1000.0],
            [-1000.0, -1000.0, -1000.0],
            [1000.0, 999.0, 0.0],
            [-1000.0, 0.0, 1000.0],
        ],
        dtype=dtype,
    )
    log_p = np.array([oracles.log_softmax(row.tolist()) for row in rows])
    total = [max(row) + math.log(sum(math.exp(v - max(row)) for v in row)) for row in rows.tolist()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (p,), _ = run(lambda x: F.softmax(x, 1), [rows])
        (log,), (gx,) = run(lambda x: F.log_softmax(x, 1), [rows])
        (lse,), _ = run(lambda x: F.logsumexp(x, 1), [rows])
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(p, np.exp(log_p), rtol=4 * eps, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(log, log_p, rtol=4 * eps, atol=4 * eps)
    np.testing.assert_allclose(lse, total, rtol=4 * eps)
    assert np.isfinite(gx).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=4 * eps)


def test_masked_scores_get_probability_zero():
    x = mg.tensor([[0.0, -math.inf, 0.0]], requires_grad=True)
    p = F.softmax(x, 1)
    (p * mg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert p.tolist() == [[0.5, 0.0, 0.5]]
    assert x.grad.tolist() == [[-0.5, 0.0, 0.5]]


def test_logsumexp_over_several_dimensions():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    expected = np.log(np.exp(x).sum(axis=(0, 2)))
    np.testing.assert_allclose(F.logsumexp(mg.Tensor(x), (0, 2)).numpy(), expected)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_no_numbers_along_the_dimension_give_no_numbers(function):
    assert function(mg.zeros(3, 0), 1).shape == (3, 0)
    assert function(mg.zeros(0, 3), 1).shape == (0, 3)


# 3. Errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_a_dimension_that_is_not_there(function):
    with pytest.raises(DimError, match="softmax: dim 2 is out of range for a tensor with 2 dimensions"):
        function(mg.zeros(2, 3), 2)


def test_unknown_gelu():
    with pytest.raises(ArgumentError, match="gelu: approximate must be 'none' or 'tanh', got 'erf'"):
        F.gelu(mg.zeros(2), approximate="erf")


def test_softplus_needs_a_positive_beta():
    with pytest.raises(ArgumentError, match="softplus: beta must be above 0, got 0"):
        F.softplus(mg.zeros(2), beta=0.0)
