"""Adam and AdamW against their papers' formulas, number by number, and against PyTorch."""

import itertools
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

STEPS = 25
OPTIONS = [
    {"lr": 0.1, "betas": betas, "eps": 1e-6, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for betas, decay, amsgrad, maximize in itertools.product(
        ((0.9, 0.999), (0.0, 0.5)), (0, 0.05), (False, True), (False, True)
    )
]


def starts_and_gradients(seed=0):
    """Two parameters, one of them a single number, and a gradient of each for every step."""
    rng = np.random.default_rng(seed)
    starts = [rng.normal(size=(3, 2)), np.array(rng.normal())]
    sizes = np.exp(rng.normal(size=STEPS))  # so that the largest mean square is not the last one
    return starts, [[size * rng.normal(size=w.shape) for w in starts] for size in sizes]


def run(optimizer_class, options, starts, gradients):
    params = [mg.tensor(w, requires_grad=True) for w in starts]
    optimizer = optimizer_class(params, **options)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = mg.tensor(g)
        optimizer.step()
    return [p.detach().numpy() for p in params]


def by_formula(w, gradients, decoupled, lr, betas, eps, weight_decay, amsgrad, maximize):
    """One number at a time, with Python's floats: Kingma and Ba's Algorithm 1, Loshchilov and Hutter's 2."""
    w, m, v, largest = float(w), 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        g = -float(g) if maximize else float(g)
        if decoupled:
            w -= lr * weight_decay * w
        else:
            g += weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = max(largest, v)
        m_hat = m / (1 - betas[0] ** t)
        v_hat = (largest if amsgrad else v) / (1 - betas[1] ** t)
        w -= lr * m_hat / (math.sqrt(v_hat) + eps)
    return w


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_formula(name, options):
    starts, gradients = starts_and_gradients()
    results = run(getattr(optim, name), options, starts, gradients)
    for k, (start, result) in enumerate(zip(starts, results, strict=True)):
        for index in np.ndindex(start.shape):
            numbers = [step[k][index] for step in gradients]
            expected = by_formula(start[index], numbers, name == "AdamW", **options)
            assert result[index] == pytest.approx(expected, rel=1e-11)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_pytorch(name, options):
    torch = pytest.importorskip("torch")
    starts, gradients = starts_and_gradients(1)
    theirs = [torch.tensor(w, requires_grad=True) for w in starts]
    optimizer = getattr(torch.optim, name)(theirs, **options)
    for step in gradients:
        for p, g in zip(theirs, step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
    for mine, p in zip(run(getattr(optim, name), options, starts, gradients), theirs, strict=True):
        np.testing.assert_allclose(mine, p.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "decay"), [("Adam", 0), ("AdamW", 0.01)])
def test_defaults(name, decay):
    (group,) = getattr(optim, name)([mg.zeros(1)]).param_groups
    del group["params"]
    assert group == {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": decay,
        "amsgrad": False,
        "maximize": False,
    }


def test_the_first_step_has_the_length_lr():
    """m / sqrt(v) is g / |g| then, however large or small the gradient."""
    w = mg.tensor([0.0, 0.0], dtype=mg.float64, requires_grad=True)
    w.grad = mg.tensor([1e4, -1e-3], dtype=mg.float64)
    optim.Adam([w], lr=0.01, eps=0).step()
    np.testing.assert_allclose(w.detach().numpy(), [-0.01, 0.01], rtol=1e-12)


def test_float32_stays_float32():
    w = mg.tensor([1.0], requires_grad=True)
    w.grad = mg.tensor([1.0])
    optimizer = optim.AdamW([w], amsgrad=True)
    optimizer.step()
    assert w.dtype == mg.float32
    arrays = {name: value for name, value in optimizer.state[w].items() if name != "step"}
    assert {name: value.dtype for name, value in arrays.items()} == {
        "exp_avg": mg.float32,
        "exp_avg_sq": mg.float32,
        "max_exp_avg_sq": mg.float32,
    }


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1}, "lr must be a number of at least 0, got -1"),
        ({"eps": -1}, "eps must be a number of at least 0, got -1"),
        ({"weight_decay": -1}, "weight_decay must be a number of at least 0, got -1"),
        ({"betas": 0.9}, "betas must be two numbers, got 0.9"),
        ({"betas": (0.9,)}, r"betas must be two numbers, got \(0.9,\)"),
        ({"betas": (1.0, 0.999)}, r"betas must be at least 0 and below 1, got \(1.0, 0.999\)"),
        ({"betas": (0.9, -0.1)}, "betas must be at least 0 and below 1"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(mg.errors.ArgumentError, match=f"{name}: {message}"):
        getattr(optim, name)([mg.zeros(1)], **options)
