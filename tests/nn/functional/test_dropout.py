"""dropout: what is kept, what it becomes, and where the randomness comes from."""

import math

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import ArgumentError


def test_kept_values_are_scaled_and_the_others_are_zero():
    mg.manual_seed(0)
    x = np.random.default_rng(0).random((40, 50)) + 1
    y = F.dropout(mg.Tensor(x), 0.3).numpy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.7)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p(p):
    """Within five standard deviations of a binomial count."""
    mg.manual_seed(0)
    n = 100_000
    dropped = int((F.dropout(mg.ones(n), p) == 0).sum())
    assert abs(dropped - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_the_expectation_stays():
    mg.manual_seed(0)
    y = F.dropout(mg.ones(100_000), 0.5)
    assert float(y.mean()) == pytest.approx(1, abs=0.02)


def test_the_gradient_goes_where_the_value_went():
    mg.manual_seed(1)
    x = mg.ones(100, dtype=mg.float64).requires_grad_()
    y = F.dropout(x, 0.5)
    gy = np.random.default_rng(0).standard_normal(100)
    y.backward(gy)
    np.testing.assert_array_equal(x.grad.numpy(), gy * y.detach().numpy())


def test_nothing_happens_in_evaluation_or_for_p_zero():
    x = mg.randn(5)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x


def test_p_one_drops_everything():
    x = mg.ones(5).requires_grad_()
    y = F.dropout(x, 1.0)
    y.sum().backward()
    assert y.tolist() == x.grad.tolist() == [0.0] * 5


def test_one_seed_one_mask_and_masks_differ_from_call_to_call():
    def masks() -> list[list[float]]:
        mg.manual_seed(7)
        return [F.dropout(mg.ones(50)).tolist() for _ in range(2)]

    first, second = masks()
    assert masks() == [first, second]
    assert first != second


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_the_dtype_stays(dtype):
    assert F.dropout(mg.ones(3, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_p_has_to_be_a_probability(p):
    with pytest.raises(ArgumentError, match=f"dropout: p must be between 0 and 1, got {p}"):
        F.dropout(mg.ones(3), p)


def test_an_empty_batch():
    assert F.dropout(mg.zeros(0, 3)).shape == (0, 3)
