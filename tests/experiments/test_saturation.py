import dataclasses

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.experiments.saturation import EXPERIMENT, flat_values, gradient_lengths, network
from minigrad.experiments.study import Table
from tests.experiments.patterns import rows_of

TINY = dataclasses.replace(
    EXPERIMENT.quick, pictures=60, probe=40, layers=2, width=8, steps=6, batch=20, every=3, seeds=(0,)
)


def made_up(shares, scores):
    """`shares` and `scores`: (scale, bn) -> a number for all steps and layers."""
    return Table(
        {
            **case.settings,
            "step": step,
            "layer": layer,
            "saturated": shares[case["scale"], case["bn"]],
            "stuck": 0.0,
            "gradient": 1.0,
            "test_acc": scores[case["scale"], case["bn"]],
        }
        for case in EXPERIMENT.cases(TINY)
        for step in (0, 3)
        for layer in (1, 2)
    )


BETTER = {(1.0, False): 0.5, (1.0, True): 0.8, (5.0, False): 0.5, (5.0, True): 0.8}
WORSE = {key: 1 - score for key, score in BETTER.items()}


@pytest.mark.parametrize(
    ("without", "with_bn", "scores", "held"),
    [
        ((0.4, 0.6), (0.1, 0.1), BETTER, True),
        ((0.4, 0.6), (0.3, 0.1), BETTER, None),  # not half as many
        ((0.0, 0.6), (0.0, 0.1), BETTER, None),  # nothing to prevent
        ((0.4, 0.6), (0.1, 0.1), WORSE, False),
        ((0.1, 0.1), (0.4, 0.6), BETTER, False),
    ],
)
def test_judge(without, with_bn, scores, held):
    shares = dict(zip([(1.0, False), (5.0, False), (1.0, True), (5.0, True)], without + with_bn, strict=True))
    findings = EXPERIMENT.judge(TINY, made_up(shares, scores))
    assert findings.held is held
    assert ("saturation is not what slows them" in findings.verdict) is (without[0] == 0.0)


def test_flat_means_far_from_zero():
    model = nn.Sequential(nn.Sigmoid())
    found = flat_values(model, mg.tensor([[-4.0, -3.6, 0.0, 3.6, 4.0]]))
    assert found[0].tolist() == [[True, False, False, False, True]]


def test_gradient_of_the_hidden_layers_only():
    mg.manual_seed(0)
    model = network(TINY, bn=False, scale=1.0)
    X, y = mg.rand(20, 1, 28, 28), mg.arange(20) % 10
    lengths = gradient_lengths(model, X, y)
    F.cross_entropy(model(X), y).backward()
    hidden = [layer.weight.grad.numpy() for layer in model if isinstance(layer, nn.Linear)][:-1]
    assert lengths == pytest.approx([np.sqrt((g.astype(np.float64) ** 2).sum()) for g in hidden], rel=1e-5)


def test_scale_multiplies_the_start():
    weights = []
    for scale in (1.0, 5.0):
        mg.manual_seed(0)
        weights.append(network(TINY, bn=True, scale=scale)[1].weight.detach().numpy())
    np.testing.assert_allclose(weights[1], 5 * weights[0], rtol=1e-5)


def test_measures_judges_and_draws_and_does_it_again():
    rows = rows_of(EXPERIMENT, TINY)
    assert rows == rows_of(EXPERIMENT, TINY)
    table = Table(rows)
    assert table.values("step") == [0, 3, 6]
    assert table.values("layer") == [1, 2]
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert len(figure.axes) == 6
