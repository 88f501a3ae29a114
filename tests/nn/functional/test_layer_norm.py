"""Layer norm and group norm: against the formulas, against PyTorch, and their gradients."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from tests import oracles
from tests.nn import support
from tests.nn.support import affine, affines, assert_close, check_gradients, compare, few, ordered


@st.composite
def normalised(draw: Any) -> tuple[np.ndarray, int]:
    """x (..., A, B), and over how many of its last dimensions to normalise."""
    shape = [draw(support.between(0 if i == 0 else 1, 4)) for i in range(draw(support.between(1, 3)))]
    shape.append(draw(support.between(2, 5)))
    x = np.random.default_rng(draw(support.seeds)).standard_normal(shape).astype(draw(support.dtypes))
    return ordered(x, draw(support.orders)), draw(support.between(1, len(shape) - 1))


def last(x: np.ndarray, ndim: int) -> tuple[tuple[int, ...], list[np.ndarray]]:
    """The normalised shape, and a weight and bias of it."""
    rng = np.random.default_rng(1)
    shape = x.shape[x.ndim - ndim :]
    return shape, [rng.standard_normal(shape).astype(x.dtype) for _ in range(2)]


@few
@given(normalised())
def test_layer_norm_equals_the_formula(case):
    x, ndim = case
    shape, (weight, bias) = last(x, ndim)
    plain = F.layer_norm(mg.Tensor(x), shape)
    tolerance = 1e-10 if x.dtype == np.float64 else 1e-4
    assert_close(plain.numpy(), oracles.layer_norm(x, ndim), tolerance)
    y = F.layer_norm(mg.Tensor(x), shape, mg.Tensor(weight), mg.Tensor(bias))
    assert_close(y.numpy(), oracles.layer_norm(x, ndim) * weight + bias, tolerance)


@pytest.mark.parity
@few
@given(case=normalised(), weighed=st.booleans())
def test_layer_norm_equals_torch(torch, case, weighed):
    x, ndim = case
    shape, parameters = last(x, ndim)
    compare(
        torch,
        lambda x, *p: F.layer_norm(x, shape, *p, eps=1e-4),
        lambda x, *p: torch.nn.functional.layer_norm(x, shape, *p, eps=1e-4),
        [x, *(parameters if weighed else [])],
        1e-9 if x.dtype == np.float64 else 2e-4,
    )


@few
@given(normalised())
def test_layer_norm_gradient(case):
    x, ndim = case
    x = x.astype(np.float64) * 3
    shape, parameters = last(x, ndim)
    if x.size:
        check_gradients(lambda x, *p: F.layer_norm(x, shape, *p, eps=0.1), [x, *parameters])


groups = st.sampled_from([1, 2, 3])


@st.composite
def grouped(draw: Any) -> tuple[np.ndarray, int]:
    G = draw(groups)
    shape = [
        draw(support.between(0, 3)),
        G * draw(support.between(1, 2)),
        *draw(st.lists(support.between(2, 4), max_size=2)),
    ]
    if len(shape) == 2:
        shape[1] = 2 * G
    x = np.random.default_rng(draw(support.seeds)).standard_normal(shape).astype(draw(support.dtypes))
    return ordered(x, draw(support.orders)), G


@few
@given(grouped())
def test_group_norm_equals_the_formula(case):
    x, G = case
    tolerance = 1e-10 if x.dtype == np.float64 else 1e-4
    assert_close(F.group_norm(mg.Tensor(x), G).numpy(), oracles.group_norm(x, G), tolerance)


@pytest.mark.parity
@few
@given(case=grouped(), kind=st.sampled_from(["both", "none"]))
def test_group_norm_equals_torch(torch, case, kind):
    x, G = case
    compare(
        torch,
        lambda x, *p: F.group_norm(x, G, *p, eps=1e-4),
        lambda x, *p: torch.nn.functional.group_norm(x, G, *p, eps=1e-4),
        [x, *affine(x, kind)],
        1e-9 if x.dtype == np.float64 else 2e-4,
    )


@few
@given(grouped(), affines)
def test_group_norm_gradient(case, kind):
    x, G = case
    if x.size:
        x = x.astype(np.float64)
        check_gradients(lambda x, *p: F.group_norm(x, G, *p, eps=0.1), [x, *affine(x, kind)])
