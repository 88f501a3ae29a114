"""The helpers of `experiments/training.py`, the context, and the progress bar."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.errors import ArgumentError
from minigrad.experiments import context
from minigrad.experiments.bar import BarProgress
from minigrad.experiments.context import Context, Progress
from minigrad.experiments.training import accuracy, batches, mean_and_spread, subset, train_steps
from tests.experiments.pictures import drawn_pictures


def two_classes(n=40):
    """Points that a line tells apart."""
    x = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    y = np.arange(n) % 2
    x[:, 0] += 4 * y
    return mg.from_numpy(x), mg.from_numpy(y)


# 1. Training ---


def test_train_steps_is_plain_sgd():
    """Against the formula, written out: w -= lr * gradient of the mean cross-entropy."""
    X, y = two_classes(6)
    model = nn.Linear(2, 2)
    w, b = (p.detach().numpy().astype(np.float64) for p in (model.weight, model.bias))
    losses = []
    train_steps(model, X, y, steps=3, batch=6, lr=0.5, seed=0, on_step=lambda step, loss: losses.append(loss))
    expected = []
    for _ in range(3):
        z = X.numpy() @ w.T + b
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        expected.append(-np.log(p[np.arange(6), y.numpy()]).mean())
        p[np.arange(6), y.numpy()] -= 1
        w, b = w - 0.5 * p.T @ X.numpy() / 6, b - 0.5 * p.mean(0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(model.weight.detach().numpy(), w, rtol=1e-4, atol=1e-5)


def test_train_steps_takes_an_optimizer_or_momentum():
    X, y = two_classes()
    found = []
    for options in (0.0, 0.9, "given"):
        mg.manual_seed(0)
        model = nn.Linear(2, 2)
        given = optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if options == "given" else None
        momentum = 0.0 if options == "given" else options
        train_steps(model, X, y, steps=5, batch=10, lr=0.1, seed=0, momentum=momentum, optimizer=given)
        found.append(model.weight.detach().numpy())
    assert np.array_equal(found[1], found[2])
    assert not np.allclose(found[0], found[1])


def test_a_diverging_training_stops_quietly(recwarn):
    X, y = two_classes()
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    called = []
    stopped = train_steps(
        model,
        X * 1e30,
        y,
        steps=50,
        batch=10,
        lr=1e30,
        seed=0,
        on_step=lambda step, loss: called.append(step),
    )
    assert stopped is not None
    assert called == list(range(1, stopped))
    assert len(recwarn) == 0


def test_on_step_may_evaluate():
    """Training goes on in training mode after it."""
    X, y = two_classes()
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    modes = []
    model[1].register_forward_pre_hook(lambda layer, args: modes.append(layer.training))
    train_steps(model, X, y, steps=2, batch=10, lr=0.1, seed=0, on_step=lambda step, loss: model.eval())
    assert modes == [True, True]


def test_batches_are_full_and_an_epoch_has_each_example_once():
    X = mg.arange(10).reshape(10, 1).float()
    drawn = batches(X, mg.arange(10), 5, seed=1)
    epochs = [[next(drawn) for _ in range(2)] for _ in range(2)]
    orders = [[int(value) for _, y in epoch for value in y.tolist()] for epoch in epochs]
    assert [sorted(order) for order in orders] == [list(range(10))] * 2
    assert orders[0] != orders[1]
    assert all(Xb.numpy().ravel().tolist() == yb.tolist() for epoch in epochs for Xb, yb in epoch)
    few = batches(X, mg.arange(10), 4, seed=1)
    assert [len(next(few)[1]) for _ in range(6)] == [4] * 6
    assert len(next(batches(X, mg.arange(10), 99, seed=1))[1]) == 10


def test_accuracy():
    X, y = two_classes()
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    with mg.no_grad():
        model[1].weight.copy_(mg.tensor([[0.0, 0.0], [1.0, 0.0]]))
        model[1].bias.copy_(mg.tensor([2.0, 0.0]))
    expected = float(((X.numpy()[:, 0] > 2) == y.numpy()).mean())
    assert accuracy(model, X, y, batch=7) == pytest.approx(expected)
    assert model[0].training


# 2. Numbers ---


def test_subset_is_balanced_and_random():
    y = mg.from_numpy(np.repeat(np.arange(10), 30))
    X = mg.arange(300)
    few, labels = subset(X, y, 45, seed=0)
    counts = np.bincount(labels.numpy(), minlength=10)
    assert sorted(counts.tolist()) == [4] * 5 + [5] * 5
    assert len(set(few.tolist())) == 45
    assert y.numpy()[few.numpy()].tolist() == labels.tolist()
    assert subset(X, y, 45, seed=0)[0].tolist() == few.tolist()
    assert subset(X, y, 45, seed=1)[0].tolist() != few.tolist()
    assert subset(X, y, 300, seed=1)[0] is X
    with pytest.raises(ArgumentError, match="n must be at least 1, got 0"):
        subset(X, y, 0, seed=0)


def test_mean_and_spread():
    assert mean_and_spread([1.0, 2.0], digits=1) == "1.5 ± 0.7 (2 seeds)"
    with pytest.raises(ArgumentError, match="there are no values"):
        mean_and_spread([])


# 3. The context ---


def test_data_are_pictures_from_0_to_1(monkeypatch):
    drawn_pictures(monkeypatch)
    here = Context()
    X, y = here.data("mnist", "train")
    assert (X.shape, X.dtype, y.dtype) == ((600, 1, 28, 28), np.float32, np.int64)
    assert 0 <= X.numpy().min() < X.numpy().max() <= 1
    assert here.data("mnist", "train")[0] is X
    assert (here.used, here.dataset) == ({"mnist": "garments"}, "garments")


def test_garments_take_the_place_of_what_cannot_be_had(monkeypatch):
    def load(name, *args, **options):
        if name != "garments":
            raise data.DataUnavailableError("no network")
        return "the drawn ones"

    monkeypatch.setattr(context, "load", load)
    said = []
    assert Context(say=said.append)._load("mnist") == "the drawn ones"
    assert said[0].startswith("NOTE: mnist is not on this machine")


def test_steps_tell_the_progress():
    told = []

    class Telling(Progress):
        def begin(self, steps, what):
            told.append((steps, what))

        def advance(self):
            told.append("step")

        def end(self):
            told.append("end")

    for step in Context(progress=Telling()).steps(3, "work"):
        if step == 1:
            break
    assert told == [(3, "work"), "step", "end"]


def test_the_bar_leaves_nothing_behind(capsys):
    bar = BarProgress()
    bar.INTERVAL = 0.0
    for _ in Context(progress=bar).steps(3, "a case [with brackets]"):
        pass
    bar.end()  # a second time does no harm
    assert capsys.readouterr().err == ""
