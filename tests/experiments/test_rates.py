import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad.experiments.rates import CHANCE, EXPERIMENT, working
from minigrad.experiments.study import Case, Table
from tests.experiments.patterns import Patterns, rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick,
    train=100,
    test=50,
    population=40,
    batch=20,
    steps=3,
    rates=(0.1, 1),
    scales=(0.1, 1),
    seeds=(0,),
)
FOUR = dataclasses.replace(EXPERIMENT.full, rates=(0.1, 1, 3), scales=(0.1, 1, 10), seeds=(0, 1))


def cells(bn_rates, rates, bn_scales, scales):
    """A made-up table: accuracies for the values of FOUR, the same for both seeds."""
    given = {("lenet_bn", "rate"): bn_rates, ("lenet", "rate"): rates}
    given |= {("lenet_bn", "scale"): bn_scales, ("lenet", "scale"): scales}
    values = {"rate": FOUR.rates, "scale": FOUR.scales}
    return Table(
        {
            "network": network,
            "varied": varied,
            "value": float(value),
            "seed": seed,
            "diverged": 0,
            "accuracy": reached,
        }
        for (network, varied), found in given.items()
        for value, reached in zip(values[varied], found, strict=True)
        for seed in FOUR.seeds
    )


HIGHER = ([0.8, 0.8, 0.8], [0.7, 0.7, 0.1])  # the rates up to 3 work with batch norm, up to 1 without
ALIKE = ([0.8, 0.8, 0.1], [0.7, 0.7, 0.1])


@pytest.mark.parametrize(
    ("table", "held", "words"),
    [
        (cells(*HIGHER, *HIGHER), True, "held: highest rate that works 3 with batch norm, 1 without; 3 of 3"),
        (cells(*HIGHER, *ALIKE), None, "held in part"),
        (cells(*ALIKE, *HIGHER), None, "held in part"),
        (cells(*ALIKE, *ALIKE), False, "did not hold"),
        (cells([0.8] * 3, [0.1] * 3, [0.8] * 3, [0.1] * 3), None, "undecided"),
    ],
)
def test_judge(table, held, words):
    findings = EXPERIMENT.judge(FOUR, table)
    assert findings.held is held
    assert words in findings.verdict


def test_each_network_is_measured_against_its_own_best():
    table = cells([0.9, 0.82, 0.80], [0.5, 0.44, 0.46], [0.9] * 3, [0.5] * 3)
    assert working(table, "lenet_bn", "rate") == [0.1, 1.0]  # 0.81 is what it takes
    assert working(table, "lenet", "rate") == [0.1, 3.0]  # 0.45


def test_a_network_that_guesses_works_nowhere():
    assert working(cells([0.8] * 3, [0.1] * 3, [0.8] * 3, [0.12] * 3), "lenet", "scale") == []


def test_both_networks_get_the_same_values():
    cases = EXPERIMENT.cases(EXPERIMENT.full)
    of = {
        name: [(c["varied"], c["value"], c["seed"]) for c in cases if c["network"] == name]
        for name in ("lenet", "lenet_bn")
    }
    assert of["lenet"] == of["lenet_bn"]
    assert (
        len(set(of["lenet"]))
        == len(of["lenet"])
        == 2 * (len(EXPERIMENT.full.rates) + len(EXPERIMENT.full.scales))
    )


def test_divergence_counts_as_a_guess():
    case = Case("too high", {"network": "lenet", "varied": "rate", "value": 1e38, "seed": 0})
    (row,) = EXPERIMENT.measure(TINY, case, Patterns())
    assert row["accuracy"] == CHANCE


def test_a_scale_multiplies_the_weights_and_not_the_biases(monkeypatch):
    from minigrad.experiments import rates

    seen = []
    monkeypatch.setattr(rates, "train_steps", lambda model, *args, **options: seen.append(model))
    for value in (1.0, 10.0):
        EXPERIMENT.measure(
            TINY, Case("x", {"network": "lenet", "varied": "scale", "value": value, "seed": 0}), Patterns()
        )
    one, ten = (dict(model.named_parameters()) for model in seen)
    for name in one:
        factor = 10 if name.endswith("weight") else 1
        np.testing.assert_allclose(ten[name].detach().numpy(), factor * one[name].detach().numpy(), rtol=1e-6)
    assert not mg.allclose(one["0.bias"], mg.zeros_like(one["0.bias"]))


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    assert len(rows) == 2 * 4
    table = Table(rows)
    findings = EXPERIMENT.judge(TINY, table)
    figure = EXPERIMENT.draw(TINY, table, findings)
    assert len(figure.axes) == 3  # two maps and the colour scale
