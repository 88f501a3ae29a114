import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.experiments.steps import CHANCE, EXPERIMENT, NETWORKS, network, reduced, steps_to
from minigrad.experiments.study import Case, Table
from tests.experiments.patterns import Patterns, rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, train=100, test=50, population=64, channels=2, steps=4, every=2, batch=20, seeds=(0,)
)

# accuracy at steps 100, 200, 300, 400 of a run in which everything is as in the paper
PAPER = {
    "baseline": [0.3, 0.5, 0.6, 0.7],
    "baseline-x5": [0.1, 0.1, 0.1, 0.1],
    "BN": [0.5, 0.6, 0.75, 0.76],
    "BN-x5": [0.6, 0.75, 0.77, 0.77],
    "BN-x30": [0.5, 0.75, 0.8, 0.82],
    "BN-x5-sigmoid": [0.2, 0.4, 0.6, 0.65],
    "sigmoid": [0.1, 0.1, 0.1, 0.1],
}


def curves(**changed):
    """The table of such a run, with the curves of some networks changed (BN_x30 for BN-x30)."""
    found = PAPER | {name.replace("_", "-"): values for name, values in changed.items()}
    return Table(
        {"network": name, "seed": seed, "step": 100 * (i + 1), "accuracy": value}
        for name, values in found.items()
        for seed in (0, 1)
        for i, value in enumerate(values)
    )


@pytest.mark.parametrize(
    ("table", "held", "words"),
    [
        (curves(), True, "BN 1.3 times fewer (paper 2.3), BN-x5 2.0 times fewer (14.8)"),
        (curves(BN_x5=[0.1, 0.1, 0.75, 0.8]), None, "not true: BN-x5 needs fewer than BN"),
        (curves(BN_x30=[0.1, 0.1, 0.1, 0.1]), None, "BN-x30 never got there"),
        (curves(BN=[0.1, 0.2, 0.3, 0.4]), False, "not true: BN needs fewer steps"),
        (curves(sigmoid=[0.1, 0.2, 0.3, 0.4]), False, "not true: sigmoids train only with BN"),
        (curves(BN_x5_sigmoid=[0.1, 0.1, 0.1, 0.1]), False, "not true: sigmoids train only with BN"),
    ],
)
def test_judge(table, held, words):
    findings = EXPERIMENT.judge(dataclasses.replace(EXPERIMENT.full, steps=400), table)
    assert findings.held is held
    assert words in findings.verdict


def test_steps_to_the_first_measurement_that_is_high_enough():
    curve = Table(
        {"step": step, "accuracy": value} for step, value in ((10, 0.2), (20, 0.6), (30, 0.5), (40, 0.7))
    )
    assert steps_to(curve, 0.5) == 20
    assert steps_to(curve, 0.65) == 40
    assert steps_to(curve, 0.9) is None


def test_pictures_are_halved():
    x = np.random.default_rng(0).random((2, 1, 28, 28)).astype(np.float32)
    expected = np.array(
        [
            [[[x[n, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(14)] for i in range(14)]]
            for n in range(2)
        ]
    )
    np.testing.assert_allclose(reduced(mg.from_numpy(x)).numpy(), expected - 0.29, atol=1e-6)


@pytest.mark.parametrize("norm", [True, False])
def test_the_network_is_eight_layers_deep_and_normalised_before_each_activation(norm):
    model = network(norm, nn.ReLU, 4)
    assert model(mg.zeros(3, 1, 14, 14)).shape == (3, 10)
    assert model[-1].in_features == 16
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convolutions) == 1 + 2 * 7
    assert [m.num_features for m in norms] == ([m.out_channels for m in convolutions] if norm else [])


def test_compiling_changes_nothing():
    mg.manual_seed(0)
    model = network(True, nn.ReLU, 4)
    X = mg.rand(20, 1, 14, 14)
    with mg.no_grad():
        np.testing.assert_allclose(mg.compile(model)(X).numpy(), model(X).numpy(), atol=1e-4)


def test_cases():
    cases = EXPERIMENT.cases(EXPERIMENT.full)
    assert len(cases) == len(NETWORKS) * len(EXPERIMENT.full.seeds)
    assert {case["network"] for case in cases} == set(NETWORKS)
    assert EXPERIMENT.full.steps % EXPERIMENT.full.every == 0


def test_after_divergence_the_curve_goes_on_at_chance(monkeypatch):
    from minigrad.experiments import steps

    def two_steps(*args, on_step, **options):
        on_step(1, 2.0)
        on_step(2, 2.0)
        return 3

    monkeypatch.setattr(steps, "train_steps", two_steps)
    monkeypatch.setattr(steps, "accuracy", lambda *args: 0.7)
    rows = EXPERIMENT.measure(TINY, Case("hot", {"network": "baseline-x5", "seed": 0}), Patterns())
    assert [(row["step"], row["accuracy"]) for row in rows] == [(2, 0.7), (4, CHANCE)]


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    assert len(rows) == 2 * len(NETWORKS)
    table = Table(rows)
    findings = EXPERIMENT.judge(TINY, table)
    (axes,) = EXPERIMENT.draw(TINY, table, findings).axes
    assert axes.get_ylabel() == "test accuracy"
