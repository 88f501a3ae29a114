import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments.depth import EXPERIMENT, Block, network, small
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, pictures=60, test_pictures=40, depths=(4, 6, 8), steps=4, every=2, batch=20
)


def made_up(reached):
    """`reached`: (depth, shortcut, bn) -> accuracy; else 0.7."""
    rows = []
    for case in EXPERIMENT.cases(TINY):
        key = (case["depth"], case["shortcut"], case["bn"])
        for what, value in (("loss", 1.0), ("test_acc", reached.get(key, 0.7)), ("diverged", 0.0)):
            rows.append({**case.settings, "what": what, "step": 4, "value": value})
    return Table(rows)


PLAIN_FAILS = {(8, False, False): 0.1, (8, False, True): 0.3}


@pytest.mark.parametrize(
    ("reached", "held"),
    [
        (PLAIN_FAILS, True),
        ({}, None),  # everything trains: depth does no harm
        ({**PLAIN_FAILS, (8, True, True): 0.4}, None),
        ({(8, True, True): 0.4}, False),
    ],
)
def test_judge(reached, held):
    findings = EXPERIMENT.judge(TINY, made_up(reached))
    assert findings.held is held
    assert findings.verdict.startswith(
        {True: "held: ", None: "held in part: ", False: "did not hold: "}[held]
    )


def test_divergence_is_told():
    rows = [{**row, "value": 1.0} if row["what"] == "diverged" else row for row in made_up({})]
    assert "1 diverged" in EXPERIMENT.judge(TINY, Table(rows)).measured["8 layers, shortcuts"]


@pytest.mark.parametrize("depth", [10, 20, 56, 110])
@pytest.mark.parametrize("bn", [False, True])
def test_depth_counts_the_layers_with_weights(depth, bn):
    model = network(depth, 4, bn, shortcut=True)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(nn.Conv2d) + kinds.count(nn.Linear) == depth
    assert kinds.count(nn.BatchNorm2d) == (depth - 1 if bn else 0)


def test_shortcut_adds_the_input():
    x = mg.randn(2, 3, 4, 4)
    body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    y = body(x).detach().numpy()
    np.testing.assert_allclose(Block(body, False)(x).detach().numpy(), np.maximum(y, 0), rtol=1e-6)
    np.testing.assert_allclose(Block(body, True)(x).detach().numpy(), np.maximum(x.numpy() + y, 0), rtol=1e-6)


def test_small_pictures_are_means_of_four_pixels():
    x = np.random.default_rng(0).random((2, 1, 28, 28)).astype(np.float32)
    wanted = (x.reshape(2, 1, 14, 2, 14, 2).mean((3, 5)) - 0.29) / 0.33
    np.testing.assert_allclose(small(mg.tensor(x)).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert table.values("what") == ["loss", "test_acc", "diverged"]
    assert table.where(what="loss", depth=8, shortcut=True, bn=True).column("step").tolist() == [2, 4]
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 2


def test_a_loss_that_is_not_finite_counts_as_chance():
    recipe = dataclasses.replace(TINY, depths=(4,), rate=1e30)
    rows = Table(row for row in rows_of(EXPERIMENT, recipe) if not row["bn"])
    assert set(rows.where(what="diverged").column("value")) == {1.0}
    assert set(rows.where(what="test_acc").column("value")) == {0.1}
    assert np.isfinite(rows.column("value")).all()
