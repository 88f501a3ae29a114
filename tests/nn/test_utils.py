"""Clipping of gradients, by formula and against PyTorch."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import utils
from tests import strict

SHAPES = [(3, 4), (5,), ()]


def with_gradients(device="cpu", scale=1.0):
    rng = np.random.default_rng(0)
    params = [mg.zeros(shape, dtype=mg.float64, device=device, requires_grad=True) for shape in SHAPES]
    for p in params:
        p.grad = mg.tensor(np.array(scale * rng.normal(size=p.shape)), device=device)
    return [*params, mg.zeros(2, device=device, requires_grad=True)]  # the last one has no gradient


def gradients(params):
    return [p.grad.cpu().numpy().copy() for p in params if p.grad is not None]


@pytest.mark.parametrize("p", [1, 2, 3.5, math.inf, 0.5])
@pytest.mark.parametrize("max_norm", [0.5, 100.0, 0])
def test_norm(p, max_norm, device):
    params = with_gradients(device)
    before = gradients(params)
    everything = np.concatenate([g.ravel() for g in before])
    length = np.abs(everything).max() if p == math.inf else (np.abs(everything) ** p).sum() ** (1 / p)
    strict.counts.reset()
    total = utils.clip_grad_norm_(params, max_norm, norm_type=p)
    assert device != "strict" or strict.counts.synchronisations == 0
    assert total.shape == ()
    assert total.item() == pytest.approx(length, rel=1e-12)
    factor = min(1, max_norm / (length + 1e-6))
    for old, new in zip(before, gradients(params), strict=True):
        np.testing.assert_allclose(new, old * factor, rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3.5, math.inf, "inf"])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_norm_like_pytorch(p, max_norm, torch):
    params = with_gradients()
    theirs = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    for a, b in zip(params, theirs, strict=False):
        b.grad = torch.tensor(a.grad.numpy())
    total = utils.clip_grad_norm_((q for q in params), max_norm, p)
    assert total.item() == pytest.approx(
        torch.nn.utils.clip_grad_norm_(theirs, max_norm, p).item(), rel=1e-12
    )
    for a, b in zip(params, theirs, strict=False):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("limit", [0.3, 100.0])
def test_value(limit, device):
    params = with_gradients(device)
    expected = [np.maximum(np.minimum(g, limit), -limit) for g in gradients(params)]
    utils.clip_grad_value_(params, limit)
    for old, new in zip(expected, gradients(params), strict=True):
        np.testing.assert_array_equal(new, old)


def test_value_like_pytorch(torch):
    params = with_gradients()
    theirs = torch.zeros(SHAPES[0], dtype=torch.float64)
    theirs.grad = torch.tensor(params[0].grad.numpy())
    utils.clip_grad_value_(params[0], 0.4)
    torch.nn.utils.clip_grad_value_(theirs, 0.4)
    np.testing.assert_array_equal(params[0].grad.numpy(), theirs.grad.numpy())


def test_one_tensor_and_none():
    w = mg.zeros(2, requires_grad=True)
    assert utils.clip_grad_norm_(w, 1.0).item() == 0.0
    assert utils.clip_grad_norm_([], 1.0).item() == 0.0
    assert w.grad is None
    w.grad = mg.tensor([3.0, 4.0])
    assert utils.clip_grad_norm_(w, 1.0).item() == 5.0
    assert w.grad.dtype == mg.float32


def test_a_length_that_is_no_number():
    w = mg.zeros(2, requires_grad=True)
    w.grad = mg.tensor([3.0, float("nan")])
    with pytest.raises(mg.errors.NonFiniteError, match="the gradients have the length nan"):
        utils.clip_grad_norm_(w, 1.0, error_if_nonfinite=True)
    assert w.grad.tolist()[0] == 3.0
    with pytest.raises(mg.errors.ArgumentError, match="norm_type must be above 0, got 0"):
        utils.clip_grad_norm_(w, 1.0, norm_type=0)
