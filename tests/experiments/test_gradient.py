import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad.experiments.gradient import EXPERIMENT, Standardise, network, normalised
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick,
    pictures=60,
    fixed=40,
    width=8,
    bias_steps=6,
    steps=6,
    batch=20,
    rates=(0.5,),
    points=3,
    seeds=(0,),
)


def curves(bias_outside=5.0, loss_change=0.0, last_loss=0.5):
    """A made-up table of two steps for the smallest recipe."""
    rows = []
    for case in EXPERIMENT.cases(TINY):
        alone, inside = case["part"] == "biases only", case["inside"]
        first, last = 2.0, 2.0 + loss_change if alone else 0.3 if inside else last_loss
        for step, loss in ((0, first), (5, last)):
            bias = 0.0 if step == 0 else 1e-6 if inside else bias_outside
            rows.append({**case.settings, "step": step, "loss": loss, "bias": bias, "weight": 1.0})
    return Table(rows)


@pytest.mark.parametrize(
    ("table", "held", "words"),
    [
        (curves(last_loss=9.0), True, "blows up at rate 0.5, centre and at rate 0.5, centre and scale"),
        (curves(last_loss=float("inf")), True, "blows up"),
        (curves(last_loss=float("nan")), True, "blows up"),
        (curves(), None, "learns all the same"),
        (curves(loss_change=0.1), False, "did not hold"),
        (curves(bias_outside=2e-6), False, "did not hold"),
    ],
)
def test_judge(table, held, words):
    findings = EXPERIMENT.judge(TINY, table)
    assert findings.held is held
    assert words in findings.verdict


def test_every_side_has_a_partner():
    cases = EXPERIMENT.cases(EXPERIMENT.full)
    keys = [
        tuple(case[name] for name in ("part", "rate", "scale", "seed")) for case in cases if case["inside"]
    ]
    partners = [
        tuple(case[name] for name in ("part", "rate", "scale", "seed"))
        for case in cases
        if not case["inside"]
    ]
    assert sorted(keys) == sorted(partners)
    assert len(keys) == 2 * 3 * len(EXPERIMENT.full.seeds)


def test_both_sides_give_the_same_output_and_differ_in_the_gradient():
    x = np.random.default_rng(0).normal(3, 2, (20, 4))
    gy = mg.from_numpy(np.random.default_rng(1).normal(size=(20, 4)))
    found = {}
    for inside in (True, False):
        t = mg.tensor(x, requires_grad=True)
        y = Standardise(scale=True, inside=inside)(t)
        y.backward(gy)
        found[inside] = y.detach().numpy(), t.grad.numpy()
    np.testing.assert_array_equal(found[True][0], found[False][0])
    np.testing.assert_allclose(found[True][0], (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(found[True][1].sum(0), 0, atol=1e-12)  # why a bias gets no gradient
    np.testing.assert_allclose(found[False][1], gy.numpy() / np.sqrt(x.var(0) + 1e-5), rtol=1e-12)


def test_only_layers_in_front_of_normalisation_count():
    model = network(8, 3, scale=True, inside=True)
    assert [layer.out_features for layer in normalised(model)] == [8, 8, 8]


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert set(table.column("part")) == {"biases only", "all weights"}
    alone = table.where(part="biases only", inside=False, scale=False)
    assert alone.column("bias")[-1] > alone.column("bias")[0] == 0
    np.testing.assert_allclose(alone.column("loss"), alone.column("loss")[0], rtol=1e-5)
    findings = EXPERIMENT.judge(TINY, table)
    assert len(EXPERIMENT.draw(TINY, table, findings).axes) == 4
