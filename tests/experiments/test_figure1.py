"""figure1: movement of percentiles, the judge on made-up tables, and a tiny run."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments import figure1
from minigrad.experiments.context import Context
from minigrad.experiments.figure1 import EXPERIMENT, Recipe, movement, network, sigmoid_inputs
from minigrad.experiments.study import Case, Table
from tests.experiments.pictures import drawn_pictures

TINY = Recipe(train=300, test=100, probe=50, population=200, steps=12, every=4, early=(1,), seeds=(0,))


def made_up(better, steadier):
    """Two seeds; with batch norm better at each step, or not, and steadier, or not."""
    rows = []
    for seed in (0, 1):
        for bn in (True, False):
            gain = 0.05 * (bn == better)
            for step in range(1000, 11000, 1000):
                acc = 0.8 + step / 1e5 + gain
                values = {"p15": -1.0, "p50": 0.0, "p85": 1.0}
                rows.append({"what": "step", "bn": bn, "seed": seed, "step": step, "accuracy": acc, **values})
            for unit in range(3):
                moved = 0.1 if bn == steadier else 0.5
                rows.append({"what": "unit", "bn": bn, "seed": seed, "unit": unit, "movement": moved})
    return Table(rows)


@pytest.mark.parametrize(
    ("better", "steadier", "held", "begins"),
    [
        (True, True, True, "held: accuracy 0.9300 with batch norm, 0.8800 without (higher)"),
        (True, False, None, "held in part: "),
        (False, True, None, "held in part: "),
        (False, False, False, "did not hold: accuracy 0.8800 with batch norm, 0.9300 without (not higher)"),
    ],
)
def test_judge(better, steadier, held, begins):
    findings = EXPERIMENT.judge(Recipe(), made_up(better, steadier))
    assert findings.held is held
    assert findings.verdict.startswith(begins)


def test_a_network_that_never_gets_there():
    findings = EXPERIMENT.judge(Recipe(), made_up(False, True))
    name = "steps to the plain network's last accuracy, with batch norm"
    assert findings.measured[name] == "never, never"


def test_movement_is_in_widths():
    """The median of unit 1 goes from 0 to 2 and back, and its width is 4: all percentiles vary by 1."""
    shift = np.array([0.0, 2.0, 0.0, 2.0])
    still = np.tile(np.array([-1.0, 0.0, 1.0]), (4, 1))
    moving = np.stack([shift - 2, shift, shift + 2], axis=1)
    assert movement(np.stack([still, moving], axis=2)).tolist() == [0.0, 0.25]


def test_sigmoid_inputs_are_those_of_a_training_step():
    mg.manual_seed(0)
    model, X = network(True, 8, 0.5), mg.rand(20, 784)
    seen = []
    list(model)[-2].register_forward_pre_hook(
        lambda layer, args: seen.append(args[0].detach().numpy().copy())
    )
    found = sigmoid_inputs(model, X)
    assert all(layer.num_batches_tracked.item() == 0 for layer in model if isinstance(layer, nn.BatchNorm1d))
    model(X)
    np.testing.assert_allclose(found, seen[0], rtol=1e-5, atol=1e-5)


def test_pictures_become_binary():
    x = figure1.binary(mg.tensor(np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 1, 28, 28)))
    assert x.shape == (1, 784)
    assert sorted(set(x.numpy().ravel().tolist())) == [0.0, 1.0]


@pytest.mark.parametrize("bn", [True, False])
def test_tiny_run_twice(bn, monkeypatch):
    drawn_pictures(monkeypatch)
    case = Case("tiny", {"bn": bn, "seed": 0})
    rows = EXPERIMENT.measure(TINY, case, Context())
    assert [row["step"] for row in rows if row["what"] == "step"] == [1, 4, 8, 12]
    assert len([row for row in rows if row["what"] == "unit"]) == 100
    assert rows == EXPERIMENT.measure(TINY, case, Context())


def test_draw(monkeypatch):
    drawn_pictures(monkeypatch)
    rows = [row for case in EXPERIMENT.cases(TINY) for row in EXPERIMENT.measure(TINY, case, Context())]
    table = Table(rows)
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["training step", *["training step (thousands)"] * 2]
    assert figure.axes[1].get_lines()[0].get_xdata()[-1] == TINY.steps / 1000
    assert figure.axes[1].get_ylim() == figure.axes[2].get_ylim()
