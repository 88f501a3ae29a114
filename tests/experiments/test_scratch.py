"""scratch: both start from the same weights; the judge on made-up tables; a tiny run."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import models
from minigrad.experiments.context import Context
from minigrad.experiments.scratch import EXPERIMENT, MODELS, Recipe
from minigrad.experiments.study import Case, Table
from tests.experiments.pictures import drawn_pictures

TINY = Recipe(train=200, test=100, epochs=2, batch=50, more_seeds=(1,), timed=2)


def made_up(gap, speedup):
    """The losses differ by `gap`, and the built-in layer is `speedup` times as fast."""
    rows = []
    for layer, seed, loss in (("scratch", 0, 0.25 + gap), ("built-in", 0, 0.25), ("built-in", 1, 0.26)):
        row = {
            "kind": "epoch",
            "layer": layer,
            "seed": seed,
            "epoch": 1,
            "train_loss": loss,
            "train_acc": 0.9,
        }
        rows.append(row | {"test_acc": 0.8, "population_acc": 0.88})
        for name in ("gamma", "beta"):
            for channel in range(6):
                row = {
                    "kind": "parameter",
                    "layer": layer,
                    "seed": seed,
                    "parameter": name,
                    "channel": channel,
                }
                rows.append(row | {"value": 1.0 + channel * (1 + gap * (layer == "scratch"))})
    timings = {"step, scratch": 0.030, "step, built-in": 0.030 / speedup, "step, compiled": 0.010}
    return Table(rows, timings)


@pytest.mark.parametrize(
    ("gap", "speedup", "held", "says"),
    [
        (
            0.002,
            1.5,
            True,
            "held: training loss 0.252 from scratch, 0.250 built-in (published 0.250, 0.248); the",
        ),
        (0.002, 0.9, None, "0.90 times the speed (published 1.69), compiled 3.00 times"),
        (0.02, 1.5, None, "held in part: "),
        (0.02, 0.9, False, "did not hold: "),
    ],
)
def test_judge(gap, speedup, held, says):
    recipe = Recipe(epochs=1, more_seeds=(1,))
    findings = EXPERIMENT.judge(recipe, made_up(gap, speedup))
    assert findings.held is held
    assert says in findings.verdict
    assert findings.measured["gamma of the first layer, largest difference"] == pytest.approx(5 * gap)


def test_the_same_weights_at_the_start():
    weights = []
    for name in MODELS.values():
        mg.manual_seed(3)
        weights.append([p.detach().numpy().ravel() for p in models.get(name).make().parameters()])
    assert [w.size for w in weights[0]] == [w.size for w in weights[1]]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_first_step_is_the_same(monkeypatch):
    """Float32 and a learning rate of 1.0 drive long runs apart; one step must agree."""
    drawn_pictures(monkeypatch)
    recipe = Recipe(train=50, test=50, epochs=1, batch=50)
    first = [
        EXPERIMENT.measure(recipe, Case(layer, {"layer": layer, "seed": 0}), Context()) for layer in MODELS
    ]
    assert first[0][0]["train_loss"] == pytest.approx(first[1][0]["train_loss"], rel=1e-5)
    for one, other in zip(first[0][1:], first[1][1:], strict=True):
        assert (one["parameter"], one["channel"]) == (other["parameter"], other["channel"])
        assert one["value"] == pytest.approx(other["value"], abs=1e-4)


def test_tiny_run_twice_and_figure(monkeypatch):
    drawn_pictures(monkeypatch)
    found = []
    for _ in "ab":
        context = Context()
        found.append(
            [row for case in EXPERIMENT.cases(TINY) for row in EXPERIMENT.measure(TINY, case, context)]
        )
    assert found[0] == found[1]
    table = Table(found[0], context.timings)
    assert set(table.timings) == {"step, scratch", "step, built-in", "step, compiled"}
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss",
        "built-in",
        "pictures/s, training, CPU",
    ]
