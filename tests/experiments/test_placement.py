import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments.placement import EXPERIMENT, moments, network
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(EXPERIMENT.quick, pictures=40, test_pictures=20, steps=3, batch=20)


def made_up(scores, best=0.5):
    """`scores`: (activation, place) -> accuracy at the best rate; 0.05 less at the others; else 0.5."""
    return Table(
        {
            **case.settings,
            "diverged": 0,
            "loss": 1.0,
            "test_acc": scores.get((case["activation"], case["place"]), 0.5) - 0.05 * (case["rate"] != best),
            "skewness": {"before": 0.2, "after": 1.0, "none": 0.0}[case["place"]],
            "kurtosis": 0.5,
        }
        for case in EXPERIMENT.cases(TINY)
    )


@pytest.mark.parametrize(
    ("scores", "held"),
    [
        ({("sigmoid", "before"): 0.8, ("relu", "before"): 0.8}, True),
        ({("sigmoid", "before"): 0.8}, None),
        ({("sigmoid", "before"): 0.8, ("relu", "after"): 0.8}, None),
        ({}, False),
        ({("sigmoid", "before"): 0.503, ("relu", "before"): 0.503}, False),  # too little to count
        ({("sigmoid", "after"): 0.8, ("relu", "after"): 0.8}, False),
    ],
)
def test_judge(scores, held):
    findings = EXPERIMENT.judge(TINY, made_up(scores))
    assert findings.held is held
    assert "less skewed before the nonlinearity in both cases" in findings.verdict
    assert findings.measured["relu, before: test accuracy"].endswith("at rate 0.5")


def test_the_place_is_where_it_says():
    for place, wanted in (("before", nn.BatchNorm2d), ("after", nn.Sigmoid), ("none", nn.Sigmoid)):
        assert type(network("sigmoid", place)[1]) is wanted
    assert type(network("relu", "after")[2]) is nn.BatchNorm2d


def test_moments_against_formulas():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(4000, 2)).astype(np.float32)
    x[:, 1] = rng.normal(size=4000)
    skewness, kurtosis = moments(nn.Sequential(nn.BatchNorm1d(2)).eval(), mg.tensor(x))
    assert skewness == pytest.approx((2 + 0) / 2, abs=0.2)  # an exponential has 2, a Gaussian 0
    assert kurtosis == pytest.approx((6 + 0) / 2, abs=1.5)  # 6 and 0
    assert moments(nn.Sequential(nn.Linear(2, 1)), mg.tensor(x)) == (0.0, 0.0)


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert len(table) == 2 * 3 * 2
    assert (table.where(place="none").column("skewness") == 0).all()
    assert (table.where(place="after").column("skewness") > 0).all()
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 3
