"""Batch norm folded into the layer before it, against the layers' formula."""

import itertools

import numpy as np
import pytest

from minigrad.kernels.cpu.norm import fold


@pytest.mark.parametrize(("bias", "gamma", "beta"), list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_fold(shape, bias, gamma, beta):
    rng = np.random.default_rng(0)
    weight, (b, mean, g, shift) = rng.standard_normal(shape), rng.standard_normal((4, 4))
    var, eps = rng.random(4), 0.1
    x = rng.standard_normal((5, *shape[1:]))
    z = np.tensordot(x, weight, axes=(range(1, x.ndim), range(1, x.ndim)))  # (5, O)
    expected = (z + (b if bias else 0) - mean) / np.sqrt(var + eps) * (g if gamma else 1) + (
        shift if beta else 0
    )
    arguments = [weight, b if bias else None, mean, var, g if gamma else None, shift if beta else None]
    before = [None if a is None else a.copy() for a in arguments]
    folded, level = fold(*arguments, eps)
    found = np.tensordot(x, folded, axes=(range(1, x.ndim), range(1, x.ndim))) + level
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    for now, then in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(now, then)
