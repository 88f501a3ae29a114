"""lenet: the judge on made-up tables, and a tiny run."""

import pytest

from minigrad.experiments.context import Context
from minigrad.experiments.lenet import EXPERIMENT, Recipe, first_epoch
from minigrad.experiments.study import Table
from tests.experiments.pictures import drawn_pictures

TINY = Recipe(train=200, test=100, epochs=2, batch=50, seeds=(0,))


def made_up(loss, acc, epochs=3, seeds=(0, 1)):
    """Loss and test accuracy with batch norm; without it 0.5 and 0.8."""
    rows = []
    for seed in seeds:
        for network, end, reached in (("lenet_bn", loss, acc), ("lenet", 0.5, 0.8)):
            for epoch in range(1, epochs + 1):
                row = {
                    "network": network,
                    "seed": seed,
                    "epoch": epoch,
                    "train_loss": end,
                    "test_acc": reached,
                }
                rows.append(row | {"train_acc": reached - 0.1 * (epochs - epoch)})
            rows[-1]["population_acc"] = reached
    return Table(rows)


@pytest.mark.parametrize(
    ("loss", "acc", "held", "begins"),
    [
        (
            0.25,
            0.9,
            True,
            "held: after 3 epochs training loss 0.250 with batch norm (published 0.248), 0.500 without",
        ),
        (0.25, 0.7, None, "held in part: "),
        (0.75, 0.9, None, "held in part: "),
        (0.75, 0.7, False, "did not hold: "),
    ],
)
def test_judge(loss, acc, held, begins):
    findings = EXPERIMENT.judge(Recipe(epochs=3, seeds=(0, 1)), made_up(loss, acc))
    assert findings.held is held
    assert findings.verdict.startswith(begins)


def test_one_seed_that_differs_counts():
    rows = made_up(0.25, 0.9).rows
    rows[5]["population_acc"] = 0.95  # LeNet with seed 0
    assert EXPERIMENT.judge(Recipe(epochs=3, seeds=(0, 1)), Table(rows)).held is None


def test_first_epoch():
    table = made_up(0.25, 0.9)  # 0.7, 0.8, 0.9
    assert first_epoch(table, "lenet_bn", 0, 0.75) == 2
    assert first_epoch(table, "lenet_bn", 0, 0.95) is None


def test_tiny_run_twice_and_figure(monkeypatch):
    drawn_pictures(monkeypatch)
    rows, again = (
        [row for case in EXPERIMENT.cases(TINY) for row in EXPERIMENT.measure(TINY, case, Context())]
        for _ in "ab"
    )
    assert rows == again
    assert [row["epoch"] for row in rows] == [1, 2, 1, 2]
    assert "population_acc" in rows[1]
    table = Table(rows)
    figure = EXPERIMENT.draw(TINY, table, EXPERIMENT.judge(TINY, table))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss",
        "training accuracy",
        "test accuracy",
    ]
