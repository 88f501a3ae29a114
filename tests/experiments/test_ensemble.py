import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments.ensemble import EXPERIMENT, probabilities
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, pictures=60, test_pictures=40, members=3, groups=(0, 1), steps=3, batch=20
)


def made_up(joint):
    """Members with errors 0.2, 0.3 and 0.4; `joint`: the error of all together, for each group."""
    rows = []
    for group, error in zip(TINY.groups, joint, strict=True):
        for size, values in ((1, (0.2, 0.3, 0.4)), (2, (0.2, 0.2, 0.2)), (3, (error,))):
            rows += [{"group": group, "size": size, "members": "", "error": e, "loss": 1.0} for e in values]
    return Table(rows)


@pytest.mark.parametrize(("joint", "held"), [((0.1, 0.19), True), ((0.1, 0.2), None), ((0.25, 0.2), False)])
def test_judge(joint, held):
    findings = EXPERIMENT.judge(TINY, made_up(joint))
    assert findings.held is held
    reduction = findings.measured["relative reduction against the mean member"]
    assert reduction == f"{1 - np.mean(joint) / 0.3:.1%}"


def test_probabilities_of_all_examples_in_order():
    X = mg.tensor(np.random.default_rng(0).normal(size=(2300, 4)).astype(np.float32))
    found = probabilities(nn.Identity(), X)
    wanted = np.exp(X.numpy()) / np.exp(X.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    for group in TINY.groups:
        mine = table.where(group=group)
        assert list(mine.column("members")) == ["0", "1", "2", "0-1", "0-2", "1-2", "0-1-2"]
        losses = mine.where(size=1).column("loss")
        # the logarithm is concave: the average's loss is at most the mean of the losses
        assert mine.where(size=3).column("loss")[0] <= losses.mean() + 1e-9
    assert set(table.where(group=0).column("loss")) != set(table.where(group=1).column("loss"))
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 1
