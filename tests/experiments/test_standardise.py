import dataclasses

import numpy as np
import pytest

from minigrad.experiments.standardise import CHANCE, EXPERIMENT, KINDS, guessing, houses
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, houses=60, width=4, steps=4, batch=20, every=2, rates=(1e-9, 0.01, 1.0), seeds=(0, 1)
)


def made_up(errors, diverged=()):
    """`errors`: kind -> the error at rate 0.01, which is the best; `diverged`: pairs (kind, rate)."""
    return Table(
        {
            **case.settings,
            "seed": seed,
            "step": step,
            "error": errors[case["kind"]] + (0.0 if case["rate"] == 0.01 else 1.0),
            "diverged": int((case["kind"], case["rate"]) in diverged),
        }
        for case in EXPERIMENT.cases(TINY)
        for seed in TINY.seeds
        for step in (0, 2, 4)
    )


@pytest.mark.parametrize(
    ("raw", "standardised", "held"), [(0.4, 0.15, True), (0.2, 0.17, None), (0.15, 0.2, False)]
)
def test_judge(raw, standardised, held):
    errors = dict(zip(KINDS, (raw, standardised, standardised), strict=True))
    findings = EXPERIMENT.judge(TINY, made_up(errors))
    assert findings.held is held
    assert findings.measured["raw: error"].endswith("at rate 0.01")
    assert findings.measured["raw: highest rate without divergence"] == "1"


def test_rates_that_diverged_do_not_count():
    table = made_up(dict.fromkeys(KINDS, 0.2), diverged={("raw", 0.01), ("raw", 1.0)})
    measured = EXPERIMENT.judge(TINY, table).measured
    assert measured["raw: error"].endswith("at rate 1e-09")
    assert measured["raw: highest rate without divergence"] == "1e-09"


def test_houses_are_on_very_different_scales_and_partly_chance():
    X, y = houses(4000, seed=0)
    again, _ = houses(4000, seed=0)
    np.testing.assert_array_equal(X, again)
    scales = X.std(0)
    assert scales.max() / scales.min() > 1000
    # linear regression leaves the chance and what is not linear, and explains most of the rest
    Z = np.column_stack([np.ones(4000), (X - X.mean(0)) / scales])
    left = (y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0]).std()
    assert CHANCE < left < 0.5 * y.std()


def test_guessing_is_the_deviation_of_the_prices():
    assert guessing(TINY) == pytest.approx(np.mean([houses(120, seed)[1][60:].std() for seed in (0, 1)]))


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert np.isfinite(table.column("error")).all()
    assert table.where(kind="standardised", rate=1e-9).column("step").tolist() == [0, 2, 4] * 2
    assert table.where(kind="raw", rate=1.0).column("diverged").any()
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 2
