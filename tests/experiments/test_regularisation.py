import dataclasses

import numpy as np
import pytest

from minigrad import nn
from minigrad.experiments.regularisation import EXPERIMENT, KINDS, network, surely_positive
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(EXPERIMENT.quick, pictures=60, test_pictures=40, steps=4, batch=20, every=2)


def made_up(scores):
    """`scores`: kind -> test accuracy, in both networks; the seeds differ by little."""
    return Table(
        {
            **case.settings,
            "step": step,
            "loss": 0.1,
            "train_acc": 1.0,
            "test_acc": scores[case["kind"]] + seed,
        }
        for case in EXPERIMENT.cases(TINY)
        for seed in (0.001 * case["seed"],)
        for step in (2, 4)
    )


@pytest.mark.parametrize(
    ("scores", "held", "words"),
    [
        ({"none": 0.7, "dropout": 0.75, "batch norm": 0.8, "both": 0.79}, True, "needs no dropout"),
        ({"none": 0.7, "dropout": 0.75, "batch norm": 0.8, "both": 0.85}, None, "surely worse than: both"),
        ({"none": 0.7, "dropout": 0.85, "batch norm": 0.8, "both": 0.79}, None, "surely worse than: dropout"),
        (
            {"none": 0.8, "dropout": 0.7, "batch norm": 0.75, "both": 0.7},
            False,
            "not surely better than none",
        ),
    ],
)
def test_judge(scores, held, words):
    findings = EXPERIMENT.judge(TINY, made_up(scores))
    assert findings.held is held
    assert words in findings.verdict
    assert float(findings.measured["dense, none: gap"].split()[0]) == pytest.approx(
        1 - scores["none"], abs=0.002
    )


def test_surely_positive_is_two_standard_errors():
    assert surely_positive(np.array([0.01, 0.02, 0.03]))  # mean 0.02, standard error 0.0058
    assert not surely_positive(np.array([-0.02, 0.02, 0.06]))  # mean 0.02, standard error 0.023
    assert surely_positive(np.array([0.01, 0.02]))
    assert not surely_positive(np.array([0.04, 0.0]))


@pytest.mark.parametrize("name", ["dense", "convolutional"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_networks_have_what_they_are_named_after(name, kind):
    bn, dropout = KINDS[kind]
    kinds = [type(layer) for layer in network(name, bn, 0.5 if dropout else 0.0)]
    assert (nn.BatchNorm1d in kinds) is bn
    assert (nn.Dropout in kinds) is dropout


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert table.values("step") == [2, 4]
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 4
