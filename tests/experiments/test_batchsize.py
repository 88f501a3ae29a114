"""batchsize: noise against a formula, the judge on made-up tables, and a tiny run."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments import batchsize
from minigrad.experiments.batchsize import EXPERIMENT, Recipe, best, network
from minigrad.experiments.context import Context
from minigrad.experiments.study import Case, Table
from tests.experiments.pictures import drawn_pictures

TINY = Recipe(
    train=200, test=100, population=200, seen=64, batches=(1, 16, 64), rates=(0.1,), seeds=(0,), draws=4
)  # fmt: skip


def made_up(alone=0.1, power=-0.5):
    """Accuracy of the dense network with batches of one, and how its noise falls."""
    rows = [{"what": "refusal", "message": "no"}]
    for kind in ("dense", "convolutional"):
        for batch in (1, 4, 64):
            for rate in (0.1, 1.0):
                for seed in (0, 1):
                    acc = alone if (kind, batch) == ("dense", 1) else 0.7 + 0.1 * (batch == 4) - 0.1 * rate
                    where = {"kind": kind, "batch": batch, "rate": rate, "seed": seed}
                    rows.append({"what": "accuracy", **where, "accuracy": acc})
            rows.append({"what": "noise", "kind": kind, "batch": batch, "noise": batch**power})
    return Table(rows)


MADE_UP = Recipe(batches=(1, 4, 64), rates=(0.1, 1.0), seeds=(0, 1))


@pytest.mark.parametrize(
    ("alone", "power", "held", "begins"),
    [
        (0.1, -0.5, True, "held: batches of one give the dense network 0.10, chance is 0.10"),
        (0.4, -0.5, None, "held in part: batches of one give the dense network 0.40"),
        (0.1, -0.2, None, "held in part: "),
        (0.4, 0.1, False, "did not hold: "),
    ],
)
def test_judge(alone, power, held, begins):
    findings = EXPERIMENT.judge(MADE_UP, made_up(alone, power))
    assert findings.held is held
    assert findings.verdict.startswith(begins)
    assert findings.verdict.endswith("best batch 4 dense, 4 convolutional")


def test_a_network_that_never_learns_proves_nothing():
    """If the largest batch learns nothing either, it is not the batch of one that is to blame."""
    rows = [row | ({"accuracy": 0.1} if row["what"] == "accuracy" else {}) for row in made_up()]
    assert EXPERIMENT.judge(MADE_UP, Table(rows)).held is None


def test_best_rate():
    rate, found = best(MADE_UP, made_up(), "dense", 64)
    assert rate == 0.1
    assert found == pytest.approx([0.69, 0.69])


def test_batch_of_one():
    """The framework's layer refuses; the one from scratch gives 0 in each unit, so that nothing can be learned."""
    assert "BatchNorm1d" in batchsize.refusal() or "batch_norm" in batchsize.refusal()
    model = network("dense", scratch=True)
    assert np.abs(nn.Sequential(*list(model)[:3])(mg.randn(1, 1, 28, 28)).detach().numpy()).max() == 0
    nn.functional.cross_entropy(model(mg.randn(1, 1, 28, 28)), mg.tensor([3])).backward()
    assert not list(model)[1].weight.grad.numpy().any()
    assert list(model)[-1].bias.grad.numpy().any()


def test_noise_of_independent_values(monkeypatch):
    """1/sqrt(M), for pictures of which each has one colour: then pixels count for nothing."""
    X = mg.randn(4000, 1, 1, 1).expand(4000, 1, 28, 28)
    recipe = Recipe(population=4000, batches=(4, 64), draws=300)
    for kind in ("dense", "convolutional"):
        case = Case(kind, {"kind": kind, "noise": True})
        rows = batchsize.measure_noise(recipe, case, X, mg.zeros(4000).long())
        assert [row["noise"] for row in rows] == pytest.approx([1 / 2, 1 / 8], rel=0.2)


def test_tiny_run_twice_and_figure(monkeypatch):
    drawn_pictures(monkeypatch)
    rows, again = (
        [row for case in EXPERIMENT.cases(TINY) for row in EXPERIMENT.measure(TINY, case, Context())]
        for _ in "ab"
    )
    assert rows == again
    assert [row["steps"] for row in rows if row["what"] == "accuracy"] == [64, 4, 1] * 2
    table = Table(rows)
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert [axes.get_xlabel() for axes in figure.axes] == ["pictures in a batch"] * 2
