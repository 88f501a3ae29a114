import contextlib
import dataclasses

import numpy as np
import pytest

from minigrad import models, nn
from minigrad.experiments.prediction import (
    EXPERIMENT,
    accuracy_divided_by_M,
    answers_by_batch,
    one_at_a_time,
    restored,
)
from minigrad.experiments.study import Table
from tests.experiments.patterns import Patterns, rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, train=60, test=40, population=40, epochs=3, settled=2, batch=20, singles=5, seeds=(0,)
)


def curves(moving=(0.7, 0.80, 0.87, 0.79), population=(0.7, 0.86, 0.87, 0.87), alone=1e-7):
    series = zip(moving, population, strict=True)
    return Table(
        {
            "seed": 0, "epoch": i + 1, "loss": 0.3, "moving": a, "moving_M": a + 0.001, "batch": b, "changed": 0.02,
            "population": b, "alone_moving": alone, "alone_population": alone,
        }
        for i, (a, b) in enumerate(series)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("table", "held", "words"),
    [
        (
            curves(),
            True,
            "held: one at a time differs by 1e-07 from a batch; moving averages give 0.790 to 0.870",
        ),
        (curves(moving=(0.7, 0.85, 0.86, 0.85)), None, "not true: moving averages jump"),
        (curves(population=(0.7, 0.80, 0.87, 0.80)), None, "not true: population statistics are steadier"),
        (curves(alone=0.01), False, "not true: one at a time equals a batch"),
    ],
)
def test_judge(table, held, words):
    findings = EXPERIMENT.judge(dataclasses.replace(EXPERIMENT.full, epochs=4, settled=2), table)
    assert findings.held is held
    assert words in findings.verdict
    assert findings.measured["largest change of accuracy if variances are divided by M"] == 0.001


@pytest.fixture
def model():
    """After one forward pass in training mode; it is in training mode still."""
    net = models.lenet_bn()
    net(Patterns().data("fashion_mnist", "train")[0])
    return net


@pytest.fixture
def pictures():
    return Patterns().data("fashion_mnist", "test")


def state(model):
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def test_a_look_leaves_the_model_as_it_was(model, pictures):
    before = state(model)
    answers_by_batch(model, pictures[0], 50, np.arange(200))
    accuracy_divided_by_M(model, *pictures, 50)
    one_at_a_time(model, pictures[0][:5])
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert all(module.training for module in model.modules())


def test_restored_restores_after_an_error(model):
    before = state(model)
    with contextlib.suppress(ZeroDivisionError), restored(model):
        model[1].running_mean.fill_(7)
        _ = 1 / 0
    np.testing.assert_array_equal(state(model)["1.running_mean"], before["1.running_mean"])


def test_answers_come_back_in_the_order_of_the_pictures(model, pictures):
    whole = answers_by_batch(model, pictures[0], 200, np.arange(200))
    mixed = answers_by_batch(model, pictures[0], 200, np.random.default_rng(0).permutation(200))
    np.testing.assert_array_equal(whole, mixed)  # one batch of all: the same company


def test_one_at_a_time_tells_fixed_statistics_from_those_of_the_batch(model, pictures):
    assert one_at_a_time(model, pictures[0][:20]) < 1e-5
    untracked = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784, track_running_stats=False))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        one_at_a_time(untracked, pictures[0][:20])  # it would need statistics of one picture


def test_dividing_by_M_changes_dense_layers_only(model, pictures, monkeypatch):
    from minigrad.experiments import prediction

    seen = {}
    monkeypatch.setattr(prediction, "accuracy", lambda model, X, y: seen.update(state(model)) or 0.5)
    before = state(model)
    assert accuracy_divided_by_M(model, *pictures, 50) == 0.5
    changed = {name for name in before if not np.array_equal(before[name], seen[name])}
    assert changed == {
        f"{number}.running_var" for number, m in enumerate(model) if isinstance(m, nn.BatchNorm1d)
    }
    for name in changed:
        np.testing.assert_allclose(seen[name], before[name] * 49 / 50, rtol=1e-6)


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert 0 < rows[-1]["alone_population"] < 1e-4
    table = Table(rows)
    findings = EXPERIMENT.judge(TINY, table)
    assert len(EXPERIMENT.draw(TINY, table, findings).axes) == 1
