"""SGD against its formula, number by number, and against PyTorch."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

STEPS = 25
OPTIONS = [
    {"lr": 0.1, "momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov,
     "maximize": maximize}
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        (0, 0.9), (0, 0.3), (0, 0.05), (False, True), (False, True)
    )
    if not nesterov or (momentum and not dampening)
]  # fmt: skip


def starts_and_gradients(seed=0):
    """Two parameters, one of them a single number, and a gradient of each for every step."""
    rng = np.random.default_rng(seed)
    starts = [rng.normal(size=(3, 2)), np.array(rng.normal())]
    return starts, [[rng.normal(size=w.shape) for w in starts] for _ in range(STEPS)]


def run(optimizer_class, options, starts, gradients):
    params = [mg.tensor(w, requires_grad=True) for w in starts]
    optimizer = optimizer_class(params, **options)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = mg.tensor(g)
        optimizer.step()
    return [p.detach().numpy() for p in params]


def by_formula(w, gradients, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """One number at a time, with Python's floats."""
    w, v = float(w), None
    for g in gradients:
        g = (-float(g) if maximize else float(g)) + weight_decay * w
        v = g if v is None else momentum * v + (1 - dampening) * g
        w -= lr * (g + momentum * v if nesterov else v if momentum else g)
    return w


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_formula(options):
    starts, gradients = starts_and_gradients()
    results = run(optim.SGD, options, starts, gradients)
    for k, (start, result) in enumerate(zip(starts, results, strict=True)):
        for index in np.ndindex(start.shape):
            expected = by_formula(start[index], [step[k][index] for step in gradients], **options)
            assert result[index] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_pytorch(options):
    torch = pytest.importorskip("torch")
    starts, gradients = starts_and_gradients(1)
    theirs = [torch.tensor(w, requires_grad=True) for w in starts]
    optimizer = torch.optim.SGD(theirs, **options)
    for step in gradients:
        for p, g in zip(theirs, step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
    for mine, p in zip(run(optim.SGD, options, starts, gradients), theirs, strict=True):
        np.testing.assert_allclose(mine, p.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_defaults():
    (group,) = optim.SGD([mg.zeros(1)]).param_groups
    del group["params"]
    assert group == {
        "lr": 1e-3,
        "momentum": 0,
        "dampening": 0,
        "weight_decay": 0,
        "nesterov": False,
        "maximize": False,
    }


def test_the_gradient_is_left_as_it_was():
    w = mg.tensor([1.0, -2.0], requires_grad=True)
    w.grad = mg.tensor([0.5, 0.5])
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer.step()
    optimizer.step()
    assert w.grad.tolist() == [0.5, 0.5]


def test_float32_stays_float32():
    w = mg.tensor([1.0], requires_grad=True)
    w.grad = mg.tensor([1.0])
    optimizer = optim.SGD([w], lr=np.float64(0.1), momentum=0.9)
    optimizer.step()
    assert w.dtype == mg.float32
    assert optimizer.state[w]["momentum_buffer"].dtype == mg.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "SGD: lr must be a number of at least 0, got -0.1"),
        ({"lr": float("nan")}, "lr must be a number of at least 0, got nan"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"momentum": -1}, "momentum must be a number of at least 0, got -1"),
        ({"weight_decay": -1}, "weight_decay must be a number of at least 0, got -1"),
        ({"nesterov": True}, "nesterov needs a momentum above 0 and a dampening of 0"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs a momentum above 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(mg.errors.ArgumentError, match=message):
        optim.SGD([mg.zeros(1)], **options)
    with pytest.raises(ValueError, match=message):  # in a group, too
        optim.SGD([{"params": [mg.zeros(1)], **options}])
