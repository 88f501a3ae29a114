import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments.smoothness import EXPERIMENT, KINDS, Noise, along_the_gradient, network
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, pictures=60, test_pictures=40, channels=2, steps=4, batch=20, every=2
)


def made_up(rough=(4.0, 1.0), unsteady=(0.1, 0.01, 0.3), loss=(1.0, 0.4, 0.5), score=(0.6, 0.8, 0.75)):
    """`rough`: the three quantities without and with batch norm; the others for each kind."""
    rows = []
    for case in EXPERIMENT.cases(TINY):
        kind = KINDS.index(case["kind"])
        value = rough[min(kind, 1)]
        row = {"variation": value, "change": value, "beta": value, "unsteady": unsteady[kind]}
        for step in (2, 4):
            rows.append({**case.settings, "step": step, "loss": loss[kind], **row, "test_acc": score[kind]})
    return Table(rows)


@pytest.mark.parametrize(
    ("table", "held"),
    [
        (made_up(), True),
        (made_up(rough=(1.0, 4.0)), None),  # only the finding about noise
        (made_up(unsteady=(0.4, 0.01, 0.3)), None),  # noise did not make it less steady
        (made_up(loss=(1.0, 0.4, 0.9), score=(0.6, 0.8, 0.65)), None),  # noise did harm
        (made_up(rough=(1.0, 4.0), unsteady=(0.4, 0.01, 0.3)), False),
    ],
)
def test_judge(table, held):
    findings = EXPERIMENT.judge(TINY, table)
    assert findings.held is held
    assert "loss variation" in findings.verdict


class Parabola(nn.Module):
    """Outputs whose cross-entropy is easy: logits (w, 0) for each example, loss log(1 + exp(-w)) for label 0."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(mg.tensor([1.0]))

    def forward(self, x):
        return mg.stack([x * self.w, x * 0], 1)


def test_quantities_against_the_formula():
    model, recipe = Parabola(), dataclasses.replace(TINY, rate=0.5, factors=(1.0, 4.0))
    found = along_the_gradient(model, mg.ones(3), mg.zeros(3, dtype=mg.int64), recipe)
    w = np.array([1.0])
    loss, slope = lambda w: np.log1p(np.exp(-w)), lambda w: -1 / (1 + np.exp(w))
    points = w - np.array([0.0, 0.5, 2.0]) * slope(w)
    changes = np.abs(slope(points) - slope(w))
    assert found["variation"] == pytest.approx(np.ptp(loss(points)), rel=1e-4)
    assert found["change"] == pytest.approx(changes.max(), rel=1e-4)
    assert found["beta"] == pytest.approx((changes[1:] / np.abs(points[1:] - w)).max(), rel=1e-4)


def test_looking_along_the_gradient_changes_nothing():
    mg.manual_seed(0)
    model = network(TINY, "noisy batch norm", seed=0)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    along_the_gradient(model, mg.rand(10, 1, 14, 14), mg.arange(10), TINY)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)
    assert all(p.grad is None for p in model.parameters())


def test_noise_has_its_own_mean_for_each_unit_and_step():
    noise = Noise(EXPERIMENT.full, (0, 1))
    x = mg.tensor(np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32))
    first = noise(x).numpy()
    np.testing.assert_array_equal(noise(x).numpy(), first)
    means = first.mean(0)
    assert (np.abs(means) < 0.6).all()
    assert len(set(np.round(means, 2))) == 3
    assert (first.std(0) > 0.95).all()
    assert (first.std(0) < 1.35).all()
    noise.step = 1
    assert (np.abs(noise(x).numpy().mean(0) - means) > 0.01).all()
    noise.eval()
    np.testing.assert_array_equal(noise(x).numpy(), x.numpy())


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert table.values("step") == [2, 4]
    assert table.values("kind") == list(KINDS)
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 6
