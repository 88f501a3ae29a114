"""Batch norm: against the paper's formulas, against PyTorch, and far from 0. Errors of all three norms."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from tests import oracles
from tests.nn import support
from tests.nn.support import affine, affines, assert_close, check_gradients, compare, few, many, ordered, run


@st.composite
def batches(draw: Any, smallest: int = 0, largest: int = 5) -> np.ndarray:
    """x (N, C), (N, C, L) or (N, C, H, W) with at least 2 values a channel, or none at all."""
    ndim = draw(support.between(2, 4))
    shape = [draw(support.between(smallest, 4)), draw(support.between(1, 4))]
    shape += [draw(support.between(1, largest)) for _ in range(ndim - 2)]
    if shape[0] * int(np.prod(shape[2:])) == 1:
        shape[0] = 2
    rng = np.random.default_rng(draw(support.seeds))
    x = draw(st.sampled_from([0.1, 1.0, 10.0])) * rng.standard_normal(shape) + draw(
        st.sampled_from([0.0, 2.0])
    )
    return ordered(x.astype(draw(support.dtypes)), draw(support.orders))


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A running mean and variance (C,), not those of x."""
    rng = np.random.default_rng(2)
    return rng.standard_normal(x.shape[1]).astype(x.dtype), (0.1 + rng.random(x.shape[1])).astype(x.dtype)


def train(x: mg.Tensor, *parameters: mg.Tensor, **options: Any) -> mg.Tensor:
    return F.batch_norm_train(x, *parameters, **options)[0]


# 1. Batch norm in training -------------------------------------------------------------------------------


@few
@given(batches(smallest=1), affines, st.sampled_from([1e-5, 1e-3]))
def test_training_equals_algorithm_1_of_the_paper(x, kind, eps):
    parameters = affine(x, kind)
    y, mean, var = F.batch_norm_train(mg.Tensor(x), *map(mg.Tensor, parameters), eps=eps)
    expected, expected_mean, expected_var = oracles.batch_norm(x, *parameters, eps=eps)
    assert y.dtype == mean.dtype == var.dtype == x.dtype
    tolerance = 1e-10 if x.dtype == np.float64 else 1e-4
    assert_close(y.numpy(), expected, tolerance)
    assert_close(mean.numpy(), expected_mean, tolerance)
    assert_close(var.numpy(), expected_var, tolerance)


@few
@given(batches(smallest=1))
def test_training_gradients_equal_section_3_of_the_paper(x):
    x = x.astype(np.float64)
    gamma, beta = affine(x, "both")
    (y,), (gx, ggamma, gbeta) = run(train, [x, gamma, beta])
    gy = np.random.default_rng(0).standard_normal(y.shape)  # the cotangent that `run` draws
    expected = oracles.batch_norm_gradient(x, gamma, gy)
    for actual, wanted in zip((gx, ggamma, gbeta), expected, strict=True):
        assert_close(actual, wanted, 1e-9)


@pytest.mark.parity
@many
@given(x=batches(), kind=affines)
def test_training_equals_torch(torch, x, kind):
    """Results, gradients and running statistics; an empty batch moves nothing."""
    parameters = affine(x, kind)
    mean, var = statistics(x)
    ours = mg.Tensor(mean.copy()), mg.Tensor(var.copy())
    theirs = torch.tensor(mean), torch.tensor(var)
    compare(
        torch,
        lambda x, *p: F.batch_norm(x, *ours, *p, training=True, momentum=0.3),
        lambda x, *p: torch.nn.functional.batch_norm(x, *theirs, *p, training=True, momentum=0.3),
        [x, *parameters],
        1e-9 if x.dtype == np.float64 else 3e-4,
    )
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.numpy(), b.numpy(), 1e-10 if x.dtype == np.float64 else 1e-5)


@few
@given(batches(smallest=2, largest=3), affines)
def test_training_gradient(x, kind):
    x = np.asarray(x, dtype=np.float64) / x.std()
    check_gradients(train, [x, *affine(x, kind)])


def test_the_sum_of_the_result_does_not_depend_on_x():
    """Why gradients are checked with a random cotangent: with gy = 1 everything cancels."""
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 3))
    t = mg.Tensor(x, requires_grad=True)
    train(t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, -2.0])
def test_gamma_zero_and_negative(gamma):
    x = np.random.default_rng(0).standard_normal((6, 2))
    parameters = [np.full(2, gamma), np.array([0.5, -1.0])]
    (y,), (gx, ggamma, _) = run(train, [x, *parameters])
    xhat = oracles.batch_norm(x)[0]
    np.testing.assert_allclose(y, gamma * xhat + parameters[1], atol=1e-12)
    gy = np.random.default_rng(0).standard_normal(x.shape)
    np.testing.assert_allclose(ggamma, (gy * xhat).sum(axis=0), atol=1e-12)
    assert (np.abs(gx).max() == 0) == (gamma == 0)


@pytest.mark.parametrize("shape", [(256, 6), (64, 3, 12, 12)])
@pytest.mark.parametrize(("mean", "std"), [(1e4, 1.0), (1e4, 0.3), (-1e3, 0.01)])
def test_float32_far_from_zero_with_a_small_spread(shape, mean, std):
    """mean(x^2) - mean(x)^2 would have no digit left; two passes keep what float32 itself keeps of x.

    A float32 mean is right to a few units in its last place: half a unit from storing it, the others from
    adding up. So the error of xhat is a few of these units over the spread.
    """
    x = (mean + std * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    y, _, var = F.batch_norm_train(mg.Tensor(x), eps=1e-5)
    expected, _, expected_var = oracles.batch_norm(x)
    unit = np.spacing(np.float32(abs(mean))) / std
    np.testing.assert_allclose(y.numpy(), expected, atol=8 * unit)
    np.testing.assert_allclose(var.numpy(), expected_var, rtol=0.02)


def test_a_constant_channel_gives_beta():
    x = np.full((4, 2, 2, 2), 7.0, dtype=np.float32)
    (y,), (gx, _, _) = run(train, [x, np.ones(2, np.float32), np.array([3.0, -1.0], np.float32)])
    np.testing.assert_array_equal(y, np.broadcast_to(np.array([3.0, -1.0]).reshape(1, 2, 1, 1), y.shape))
    assert np.isfinite(gx).all()


def test_decision_variance_divided_by_M_for_normalisation_and_by_M_minus_1_for_the_running_one():
    """x = 1, 3 has the mean 2 and the variances 1 (M) and 2 (M - 1); momentum 0.1 weighs the new batch."""
    running_mean, running_var = mg.tensor([10.0]), mg.tensor([20.0])
    y = F.batch_norm(
        mg.tensor([[1.0], [3.0]]), running_mean, running_var, training=True, momentum=0.1, eps=0.0
    )
    assert y.tolist() == [[-1.0], [1.0]]
    assert running_mean.item() == pytest.approx(0.9 * 10 + 0.1 * 2)
    assert running_var.item() == pytest.approx(0.9 * 20 + 0.1 * 2)


def test_eps_is_added_to_the_variance():
    y, _, _ = F.batch_norm_train(mg.tensor([[1.0], [3.0]]), eps=3.0)
    assert y.tolist() == [[-0.5], [0.5]]  # 1 / sqrt(1 + 3)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1)])
def test_decision_one_value_per_channel_is_refused_in_training(shape):
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        F.batch_norm_train(mg.zeros(*shape))
    assert isinstance(caught.value, ArgumentError)
    for hint in (str(shape), "larger batch", "drop_last=True", ".eval()"):
        assert hint in str(caught.value)


def test_an_empty_batch_is_empty_and_moves_no_statistics():
    mean, var = mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0])
    y = F.batch_norm(mg.zeros(0, 2, 3, 3), mean, var, training=True)
    assert (y.shape, mean.tolist(), var.tolist()) == ((0, 2, 3, 3), [1.0, 2.0], [3.0, 4.0])


def test_the_statistics_of_the_batch_are_no_part_of_the_graph():
    """No gradient is known for them, so that none can be asked for."""
    y, mean, var = F.batch_norm_train(mg.randn(4, 2).requires_grad_())
    assert (y.requires_grad, mean.requires_grad, var.requires_grad) == (True, False, False)


def test_one_picture_of_several_values_is_a_batch():
    y, mean, _ = F.batch_norm_train(mg.tensor([[[[1.0, 3.0]]]]))
    assert mean.tolist() == [2.0]
    assert y.shape == (1, 1, 1, 2)


# 2. Batch norm in evaluation -----------------------------------------------------------------------------


@few
@given(batches(), affines)
def test_evaluation_equals_the_formula(x, kind):
    mean, var = statistics(x)
    parameters = affine(x, kind)
    y = F.batch_norm_eval(mg.Tensor(x), mg.Tensor(mean), mg.Tensor(var), *map(mg.Tensor, parameters))
    full = [*parameters, None, None][:2]
    assert_close(y.numpy(), oracles.batch_norm_eval(x, mean, var, *full))


@pytest.mark.parity
@few
@given(x=batches(), kind=affines)
def test_evaluation_equals_torch(torch, x, kind):
    mean, var = statistics(x)
    compare(
        torch,
        lambda x, *p: F.batch_norm(x, mg.Tensor(mean), mg.Tensor(var), *p),
        lambda x, *p: torch.nn.functional.batch_norm(x, torch.tensor(mean), torch.tensor(var), *p),
        [x, *affine(x, kind)],
    )


@few
@given(batches(smallest=1, largest=3), affines)
def test_decision_evaluation_has_its_own_backward(x, kind):
    """gx = gamma / sqrt(var + eps) gy: here the statistics do not depend on x."""
    x = x.astype(np.float64)
    mean, var = statistics(x)
    given_statistics = mg.Tensor(mean), mg.Tensor(var)
    check_gradients(lambda x, *p: F.batch_norm_eval(x, *given_statistics, *p), [x, *affine(x, kind)])
    (y,), (gx, *_) = run(lambda x, *p: F.batch_norm_eval(x, *given_statistics, *p), [x, *affine(x, kind)])
    gy = np.random.default_rng(0).standard_normal(y.shape)
    gamma = affine(x, "gamma")[0] if kind != "none" else np.ones(x.shape[1])
    scale = (gamma / np.sqrt(var + 1e-5)).reshape((1, -1) + (1,) * (x.ndim - 2))
    np.testing.assert_allclose(gx, gy * scale, atol=1e-12)


def test_given_statistics_are_plain_numbers():
    """Even when they come out of a graph."""
    x, mean = mg.randn(3, 2).requires_grad_(), mg.zeros(2).requires_grad_()
    F.batch_norm_eval(x, mean, mg.ones(2).requires_grad_()).sum().backward()
    assert x.grad is not None
    assert mean.grad is None


def test_evaluation_of_a_single_example_works():
    y = F.batch_norm(mg.tensor([[2.0]]), mg.tensor([1.0]), mg.tensor([4.0]), eps=0.0)
    assert y.tolist() == [[0.5]]


# 3. Errors -----------------------------------------------------------------------------------------------

one, two, three = mg.zeros(1), mg.zeros(2), mg.zeros(3)
double = mg.zeros(3, dtype=mg.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.batch_norm_train(mg.zeros(4, 3), two), ShapeError, "the layer has 2 channels, x has 3"),
        (
            lambda: F.batch_norm_eval(mg.zeros(4, 3), two, two),
            ShapeError,
            "use 3 as the layer's number of channels",
        ),
        (
            lambda: F.batch_norm(mg.zeros(4, 3), one, one, training=True),
            ShapeError,
            "the layer has 1 channels, x has 3",
        ),
        (lambda: F.batch_norm_train(three), ShapeError, r"must have shape \(N, C\), .* got \(3,\)"),
        (lambda: F.batch_norm_train(mg.zeros(1, 2, 3, 4, 5)), ShapeError, r"got \(1, 2, 3, 4, 5\)"),
        (lambda: F.batch_norm_train(mg.zeros(4, 3), double), DtypeError, "x is float32, layer is float64"),
        (
            lambda: F.batch_norm_train(mg.zeros(4, 3).long()),
            DtypeError,
            "needs floating-point numbers, x is int64",
        ),
        (
            lambda: F.batch_norm(mg.zeros(4, 3), None, None),
            ArgumentError,
            "needs running_mean and running_var",
        ),
        (lambda: F.layer_norm(mg.zeros(4, 3), 4), ShapeError, r"\(4, 3\), which does not end in \(4,\)"),
        (lambda: F.layer_norm(mg.zeros(4, 3), ()), ShapeError, r"which does not end in \(\)"),
        (
            lambda: F.layer_norm(mg.zeros(4, 3), 3, two),
            ShapeError,
            r"weight has shape \(2,\), expected \(3,\)",
        ),
        (lambda: F.layer_norm(mg.zeros(4, 3), 3, three, double), DtypeError, "x is float32, bias is float64"),
        (lambda: F.layer_norm(mg.zeros(4, 3).long(), 3), DtypeError, "layer_norm: needs floating-point"),
        (lambda: F.group_norm(mg.zeros(4, 3), 2), ArgumentError, "cannot be split into 2 groups of channels"),
        (lambda: F.group_norm(three, 1), ArgumentError, r"shape \(3,\) cannot be split into 1 groups"),
        (
            lambda: F.group_norm(mg.zeros(4, 4), 2, three),
            ShapeError,
            "group_norm: the layer has 3 channels, x has 4",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
