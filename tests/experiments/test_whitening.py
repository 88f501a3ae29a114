import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad.experiments.study import Table
from minigrad.experiments.whitening import (
    EXPERIMENT,
    ZCA,
    Whiten,
    input_correlation,
    network,
    operations,
    take_population,
)
from minigrad.testing import gradcheck
from tests.experiments.patterns import Patterns, rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick,
    train=100, test=50, population=60, width=8, batch=40, steps=4, every=2, widths=(8, 16), repeats=2, seeds=(0,),
)  # fmt: skip
RNG = np.random.default_rng(0)


def curves(correlations=(0.4, 0.2, 0.01), accuracies=(0.3, 0.8, 0.8), seeds=(0, 1)):
    kinds = zip(("none", "batch norm", "ZCA"), correlations, accuracies, strict=True)
    return Table(
        {
            "part": "training",
            "kind": kind,
            "seed": seed,
            "step": step,
            "accuracy": reached,
            "correlation": correlation,
        }
        for kind, correlation, reached in kinds
        for seed in seeds
        for step in (50, 100)
    )


@pytest.mark.parametrize(
    ("table", "held", "words"),
    [
        (curves(), True, "held:"),
        (curves(correlations=(0.4, 0.2, 0.15)), None, "not true: ZCA decorrelates"),
        (curves(correlations=(0.4, 0.015, 0.01)), None, "not true: ZCA decorrelates"),
        (curves(accuracies=(0.9, 0.8, 0.95)), False, "not true: batch norm is faster than none"),
    ],
)
def test_judge(table, held, words):
    findings = EXPERIMENT.judge(EXPERIMENT.full, table)
    assert findings.held is held
    assert words in findings.verdict


def test_cheap_whitening_is_told():
    # at width 2 a batch of 8 has so few products that the factor is under ten
    findings = EXPERIMENT.judge(dataclasses.replace(EXPERIMENT.full, width=2), curves())
    assert findings.held is None
    assert "not true: ZCA costs" in findings.verdict


def test_whitened_columns_are_uncorrelated_and_near_to_the_input():
    x = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4)) + 3
    y, mean, S = (t.numpy() for t in Whiten.apply(mg.from_numpy(x), 0.0))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(S, np.cov(x.T, bias=True), rtol=1e-10)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(4), atol=1e-10)
    cross = (x - x.mean(0)).T @ y / 50  # ZCA is the whitening whose cross-covariance is symmetric, positive
    np.testing.assert_allclose(cross, cross.T, atol=1e-10)
    assert np.linalg.eigvalsh(cross).min() > 0


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_gradient(eps):
    x = RNG.normal(size=(9, 3)) @ RNG.normal(size=(3, 3))
    assert gradcheck(lambda t: Whiten.apply(t, eps)[0], [mg.tensor(x, requires_grad=True)])


def test_gradient_where_eigenvalues_are_equal():
    corners = np.array(
        [[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)]
    )  # S is the identity
    assert gradcheck(lambda t: Whiten.apply(t, 0.0)[0], [mg.tensor(corners, requires_grad=True)])


def test_the_layer_predicts_with_what_it_was_given():
    x = mg.from_numpy((RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5))).astype(np.float32))
    layer = ZCA(5, eps=1e-5, momentum=1.0)
    trained = layer(x).detach().numpy()
    layer.eval()
    with mg.no_grad():
        np.testing.assert_allclose(layer(x).numpy(), trained, atol=2e-3)
        np.testing.assert_allclose(layer(x[:1]).numpy(), trained[:1], atol=2e-3)


def test_population_statistics_are_those_of_all_pictures():
    model = network("batch norm", 6, 1e-3)
    X = mg.rand(40, 1, 28, 28)
    take_population(model, X)
    with mg.no_grad():
        inputs = model[2](model[1](model[0](X))).numpy()  # what the first batch norm gets
    np.testing.assert_allclose(model[3].running_mean.numpy(), inputs.mean(0), rtol=1e-5)


def test_correlation_is_that_of_numpy():
    model = network("ZCA", 6, 1e-6)
    assert input_correlation(model, mg.rand(100, 1, 28, 28)) < 0.05
    constant = network("none", 6, 1e-3)
    for layer in (constant[1], constant[3]):
        mg.nn.init.zeros_(layer.weight)
    assert input_correlation(constant, mg.rand(20, 1, 28, 28)) == 0.0  # units that never change


def test_operations_grow_with_the_cube_of_the_width():
    assert operations("ZCA", 4000, 1000) / operations("ZCA", 400, 100) == pytest.approx(1000, rel=0.05)
    assert operations("batch norm", 4000, 1000) == 100 * operations("batch norm", 400, 100)


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    assert len(rows) == 3 * 2 + 2 * 2  # kinds x measurements, widths x kinds that cost anything
    table = Table(rows)
    findings = EXPERIMENT.judge(TINY, table)
    assert len(EXPERIMENT.draw(TINY, table, findings).axes) == 3


def test_times_are_noted_and_stay_out_of_the_rows():
    case = next(case for case in EXPERIMENT.cases(TINY) if case["part"] == "cost")
    context = Patterns()
    rows = EXPERIMENT.measure(TINY, case, context)
    assert [seconds > 0 for seconds in context.timings.values()] == [True]
    assert set(rows[0]) == {"part", "kind", "width", "operations"}
