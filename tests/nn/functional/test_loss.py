"""Losses of numbers: every argument against PyTorch and the formulas, shapes, gradients."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import ArgumentError, ShapeError
from tests import oracles
from tests.nn import support
from tests.nn.support import assert_close, check_gradients, compare, few, fewer, ordered

reductions = st.sampled_from(["mean", "sum", "none"])


# 1. Differences ---------------------------------------------------------------------------------------------

NUMBERS: dict[str, Any] = {
    "mse_loss": lambda d: d * d,
    "l1_loss": abs,
    "smooth_l1_loss": lambda d: 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5,
}


@st.composite
def regressions(draw: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(draw(support.seeds))
    shape = draw(st.lists(support.between(0, 4), max_size=3))
    dtype = draw(support.dtypes)
    return [
        ordered(np.asarray(2 * rng.standard_normal(shape)).astype(dtype), draw(support.orders))
        for _ in range(2)
    ]


@pytest.mark.parametrize("name", NUMBERS)
@few
@given(arrays=regressions(), reduction=reductions)
def test_losses_of_numbers_equal_the_formula(name, arrays, reduction):
    x, t = (mg.Tensor(a) for a in arrays)
    losses = oracles.elementwise(NUMBERS[name], arrays[0].astype(np.float64) - arrays[1])
    loss = getattr(F, name)(x, t, reduction=reduction)
    assert loss.dtype == arrays[0].dtype
    if losses.size or reduction != "mean":
        assert_close(
            loss.numpy(),
            {"none": losses, "sum": losses.sum(), "mean": losses.mean() if losses.size else 0}[reduction],
        )
    else:
        assert math.isnan(loss.item())


@pytest.mark.parity
@pytest.mark.parametrize("name", NUMBERS)
@few
@given(arrays=regressions(), reduction=reductions, beta=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_losses_of_numbers_equal_torch(torch, name, arrays, reduction, beta):
    options = {"reduction": reduction} | ({"beta": beta} if name == "smooth_l1_loss" else {})
    compare(
        torch,
        lambda x, t: getattr(F, name)(x, t, **options),
        lambda x, t: getattr(torch.nn.functional, name)(x, t, **options),
        arrays,
    )


@pytest.mark.parametrize("name", NUMBERS)
@fewer
@given(arrays=regressions(), reduction=reductions)
def test_losses_of_numbers_gradient(name, arrays, reduction):
    if arrays[0].size:
        x, t = (a.astype(np.float64) for a in arrays)
        t = np.where(np.abs(x - t) < 1e-3, t + 1, t)  # away from the kink of |d|
        check_gradients(lambda x, t: getattr(F, name)(x, t, reduction=reduction), [x, t])


@st.composite
def binary(draw: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray], str]:
    """[logits, truth] (N, C), and perhaps weight (N, 1) and pos_weight (C,)."""
    rng = np.random.default_rng(draw(support.seeds))
    dtype, N, C = draw(support.dtypes), draw(support.between(0, 4)), draw(support.between(1, 3))
    arrays = [ordered((s * rng.standard_normal((N, C))).astype(dtype), draw(support.orders)) for s in (3, 1)]
    arrays[1] = rng.random((N, C)).round(draw(support.between(0, 1))).astype(dtype)
    weights = {"weight": rng.random((N, 1)).astype(dtype), "pos_weight": 3 * rng.random(C).astype(dtype)}
    return arrays, {k: v for k, v in weights.items() if draw(st.booleans())}, draw(reductions)


@few
@given(binary())
def test_binary_cross_entropy_equals_the_formula(case):
    (x, t), weights, _ = case
    s = np.vectorize(oracles.sigmoid, otypes=[float])(x)
    expected = -(weights.get("pos_weight", 1) * t * np.log(s) + (1 - t) * np.log1p(-s)) * weights.get(
        "weight", 1
    )
    wrapped = {k: mg.Tensor(v) for k, v in weights.items()}
    loss = F.binary_cross_entropy_with_logits(mg.Tensor(x), mg.Tensor(t), **wrapped, reduction="none")
    assert_close(loss.numpy(), expected)


@pytest.mark.parity
@few
@given(case=binary())
def test_binary_cross_entropy_equals_torch(torch, case):
    arrays, weights, reduction = case
    mine = {k: mg.Tensor(v) for k, v in weights.items()}
    other = {k: torch.tensor(v) for k, v in weights.items()}
    compare(
        torch,
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, **mine, reduction=reduction),
        lambda x, t: torch.nn.functional.binary_cross_entropy_with_logits(x, t, **other, reduction=reduction),
        arrays,
    )


@fewer
@given(binary())
def test_binary_cross_entropy_gradient(case):
    arrays, weights, reduction = case
    if arrays[0].size:
        wrapped = {k: mg.Tensor(v.astype(np.float64)) for k, v in weights.items()}
        check_gradients(
            lambda x, t: F.binary_cross_entropy_with_logits(x, t, **wrapped, reduction=reduction),
            [a.astype(np.float64) for a in arrays],
        )


def test_binary_cross_entropy_does_not_overflow():
    x = mg.tensor([1000.0, -1000.0, 1000.0, -1000.0], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = F.binary_cross_entropy_with_logits(x, mg.tensor([1.0, 0.0, 0.0, 1.0]), reduction="none")
        loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0, 1000.0, 1000.0]
    assert x.grad.tolist() == [0.0, 0.0, 1.0, -1.0]


@pytest.mark.parametrize("name", [*NUMBERS, "binary_cross_entropy_with_logits"])
def test_shapes_are_not_broadcast(name):
    """(N, 1) against (N,) would silently compare every prediction with every truth."""
    with pytest.raises(
        ShapeError, match=rf"{name}: input has shape \(4, 1\), target \(4,\); they must be equal"
    ):
        getattr(F, name)(mg.zeros(4, 1), mg.zeros(4))
    with pytest.raises(ArgumentError, match="reduction must be"):
        getattr(F, name)(mg.zeros(4), mg.zeros(4), reduction="max")


def test_smooth_l1_needs_a_beta_of_at_least_zero():
    with pytest.raises(ArgumentError, match="smooth_l1_loss: beta must be at least 0, got -1"):
        F.smooth_l1_loss(mg.zeros(1), mg.zeros(1), beta=-1)
