"""Batch norm folded into the layer before it, against the layers' formula."""

import itertools

import numpy as np
import pytest

from minigrad.kernels.cpu.norm import fold


@pytest.mark.parametrize(
    ("has_bias", "has_gamma", "has_beta"), list(itertools.product([True, False], repeat=3))
)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_fold(shape, has_bias, has_gamma, has_beta):
    rng = np.random.default_rng(0)
    weight, (bias, mean, gamma, beta) = rng.standard_normal(shape), rng.standard_normal((4, 4))
    var, eps = rng.random(4), 0.1
    bias, gamma, beta = bias if has_bias else None, gamma if has_gamma else None, beta if has_beta else None
    x = rng.standard_normal((5, *shape[1:]))
    z = np.tensordot(x, weight, axes=(range(1, x.ndim), range(1, x.ndim)))  # (5, O)
    expected = (z + (0 if bias is None else bias) - mean) / np.sqrt(var + eps)
    expected = expected * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    arguments = [weight, bias, mean, var, gamma, beta]
    before = [None if a is None else a.copy() for a in arguments]
    folded, shift = fold(*arguments, eps)
    found = np.tensordot(x, folded, axes=(range(1, x.ndim), range(1, x.ndim))) + shift
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    for now, then in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_fold_keeps_the_precision():
    weight, vectors = np.ones((4, 3), np.float32), np.ones((5, 4), np.float32)
    folded, shift = fold(weight, *vectors, 1e-5)
    assert folded.dtype == shift.dtype == np.float32
