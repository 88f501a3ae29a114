"""How much care do the learning rate and the starting weights need, with and without batch norm?

Ioffe and Szegedy 2015, section 3.3 and the abstract: batch norm "allows us to use much higher learning rates and be
less careful about initialization". The reason given: BN(Wu) = BN((aW)u), so the scale of the weights in front of
batch norm does not matter, and larger weights get smaller gradients.

LeNet with sigmoids, with and without batch norm, is trained with plain SGD for a fixed number of steps,

1. at learning rates from 0.003 to 100, with Xavier-uniform weights;
2. at the tutorial's learning rate (1.0 with batch norm, 0.9 without), with all starting weights multiplied by factors
   from 0.01 to 30.

Test accuracy at the end, with population statistics for batch norm, is shown as two heat maps with a row for each
network; a cell is the mean of the seeds and tells the range where they differ by more than 0.05. A setting *works*
for a network if it ends within a tenth of the best mean accuracy which that network has in either map; settings that
work are framed. So a network is not blamed for being slower, only for being choosy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import models, nn, plot, training
from minigrad.errors import NonFiniteError
from minigrad.experiments.study import Case, Context, Experiment, Findings, Table
from minigrad.experiments.training import accuracy, subset, train_steps

__all__ = ["EXPERIMENT"]

CHANCE = 0.1
WORKS = 0.9  # of the network's best accuracy
LEARNED = 3 * CHANCE  # a network whose best is lower has learned nowhere, and nothing works for it
NETWORKS = {"lenet_bn": "with batch norm", "lenet": "without"}
TUTORIAL = {"lenet_bn": 1.0, "lenet": 0.9}  # learning rates


@dataclass(frozen=True)
class Recipe:
    train: int = 60000
    test: int = 5000
    population: int = 2048
    batch: int = 64
    steps: int = 900
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
    scales: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
    seeds: tuple[int, ...] = (0, 1)


def cases(recipe: Recipe) -> list[Case]:
    grid = [("rate", value) for value in recipe.rates] + [("scale", value) for value in recipe.scales]
    return [
        Case(
            f"{NETWORKS[network]}, {varied} {value:g}, seed {seed}",
            {"network": network, "varied": varied, "value": float(value), "seed": seed},
        )
        for seed in recipe.seeds
        for varied, value in grid
        for network in NETWORKS
    ]


def measure(recipe: Recipe, case: Case, context: Context) -> list[dict[str, Any]]:
    X, y = subset(*context.data("fashion_mnist", "train"), recipe.train, case["seed"])
    X_test, y_test = subset(*context.data("fashion_mnist", "test"), recipe.test, 0)
    mg.manual_seed(case["seed"])
    model = models.get(case["network"]).make()
    if case["varied"] == "scale":
        with mg.no_grad():
            for layer in model.modules():
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    layer.weight *= case["value"]
    rate = case["value"] if case["varied"] == "rate" else TUTORIAL[case["network"]]
    fast = mg.compile(model)
    diverged = train_steps(
        fast, X, y, steps=recipe.steps, batch=recipe.batch, lr=rate, seed=case["seed"],
        context=context, what=case.label,
    )  # fmt: skip
    reached = CHANCE
    if diverged is None:
        with np.errstate(all="ignore"):  # weights that overflow are part of the question
            population = [
                (X[i : i + recipe.batch],) for i in range(0, min(recipe.population, len(X)), recipe.batch)
            ]
            try:
                with training.using_population_statistics(fast, population):
                    reached = accuracy(fast, X_test, y_test)
            except NonFiniteError:  # a guess is as good as weights that overflow
                pass
    return [{**case.settings, "diverged": int(diverged is not None), "accuracy": reached}]


# What came out ---


def means(table: Table, network: str, varied: str) -> dict[float, float]:
    """Value -> mean accuracy of the seeds."""
    mine = table.where(network=network, varied=varied)
    return {value: float(cell.column("accuracy").mean()) for (value,), cell in mine.groups("value")}


def working(table: Table, network: str, varied: str) -> list[float]:
    """The values with which the network works."""
    best = max(max(means(table, network, which).values()) for which in ("rate", "scale"))
    return [
        value for value, mean in means(table, network, varied).items() if mean >= max(WORKS * best, LEARNED)
    ]


def judge(recipe: Recipe, table: Table) -> Findings:
    """Higher rates: the largest rate that works with batch norm is at least three times the largest that works
    without, one step of the grid. Less care: at least one more weight scale of the grid works with batch norm than
    without. Both: held; one: in part. If nothing works without batch norm there is nothing to compare: undecided."""
    measured: dict[str, Any] = {}
    works = {
        (network, varied): working(table, network, varied)
        for network in NETWORKS
        for varied in ("rate", "scale")
    }
    for (network, varied), values in works.items():
        name = {"rate": "rates", "scale": "weight scales"}[varied]
        measured[f"{name} that work {NETWORKS[network]}"] = ", ".join(f"{v:g}" for v in values) or "none"
        best = max(means(table, network, varied).values())
        measured[f"best accuracy over {name} {NETWORKS[network]}"] = round(best, 3)
    top = {network: max(works[network, "rate"], default=0.0) for network in NETWORKS}
    count = {network: len(works[network, "scale"]) for network in NETWORKS}
    higher = top["lenet_bn"] >= 3 * top["lenet"]
    less_care = count["lenet_bn"] > count["lenet"]
    held = True if higher and less_care else None if higher or less_care else False
    word = {True: "held", False: "did not hold", None: "held in part"}[held]
    if not works["lenet", "rate"]:
        found = max(measured[f"best accuracy over {name} without"] for name in ("rates", "weight scales"))
        reason = (
            f"nothing was learned in {recipe.steps} steps"
            if found < LEARNED
            else f"no rate comes within a tenth of the {found:.2f} that other starting weights reach"
        )
        held, word = None, f"undecided, without batch norm {reason}"
    verdict = (
        f"{word}: highest rate that works {top['lenet_bn']:g} with batch norm, {top['lenet']:g} without; "
        f"{count['lenet_bn']} of {len(recipe.scales)} weight scales work with it, {count['lenet']} without"
    )
    published = {"rates": "much higher learning rates", "weight scales": "less careful about initialization"}
    return Findings(measured, published, held, verdict)


def draw(recipe: Recipe, table: Table, findings: Findings) -> Any:
    figure = plot.new_figure(9.5, 5.2)
    panels = figure.subplots(2, 1)
    titles = {
        "rate": "learning rate, weights from Xavier",
        "scale": "factor on Xavier weights, the tutorial's rate",
    }
    picture = None
    for axes, varied in zip(panels, ("rate", "scale"), strict=True):
        columns = recipe.rates if varied == "rate" else recipe.scales
        heat = np.array([[means(table, network, varied)[float(v)] for v in columns] for network in NETWORKS])
        picture = axes.imshow(heat, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for row, network in enumerate(NETWORKS):
            works = working(table, network, varied)
            for column, value in enumerate(columns):
                found = table.where(network=network, varied=varied, value=float(value)).column("accuracy")
                text = f"{found.mean():.2f}"
                if np.ptp(found) > 0.05:
                    text += f"\n{found.min():.2f}-{found.max():.2f}"
                dark = heat[row, column] < 0.6
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                    fontsize=9,
                )
                if value in works:
                    left, right, top, bottom = column - 0.46, column + 0.46, row - 0.46, row + 0.46
                    axes.plot(
                        [left, right, right, left, left], [top, top, bottom, bottom, top], "r", linewidth=2.5
                    )
        axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        axes.set_yticks(range(len(NETWORKS)), list(NETWORKS.values()))
        axes.set(xlabel=titles[varied], ylabel="LeNet")
    figure.colorbar(picture, ax=list(panels), label="test accuracy")
    figure.suptitle(f"LeNet after {recipe.steps} steps; framed: within a tenth of that network's best")
    return figure


EXPERIMENT = Experiment(
    name="rates",
    title="How much care do the learning rate and the starting weights need?",
    claim="Batch norm allows much higher learning rates and less care about initialisation.",
    source="Ioffe and Szegedy 2015, abstract and section 3.3",
    full=Recipe(),
    quick=Recipe(
        train=4000, test=500, population=512, steps=60, rates=(0.03, 1, 30), scales=(0.03, 1, 10), seeds=(0,)
    ),
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    text="Each network is trained for 900 steps in every setting, with two seeds; framed cells come within a "
    "tenth of the best that the same network reaches anywhere. With batch norm this is so for rates "
    "from 0.03 to 10, a factor of 300, and for all starting weights from a hundredth of Xavier's to "
    "thirty times Xavier's. Without batch norm 900 steps are too few for LeNet with sigmoids and "
    "Xavier's weights: the best of all rates is 0.60, and only weights three times as large bring it to "
    "0.79, the one cell that is framed. So by the rule that was written down before, which needs a rate "
    "that works without batch norm, the first half of the claim is undecided. What the map does show "
    "points the paper's way: the plain network learns something at 0.3, at 1 and in one of two seeds at "
    "3, and at nothing above, where batch norm still works at 10; the second half, less care with the "
    "weights, is plain to see. With more steps the plain network would work in more cells (in "
    "[`lenet`](#lenet), at a rate of 0.9, it needs about eight epochs to pass 0.8), so the map tells "
    "which settings train quickly, not which train at all. In the quick setting the plain network never "
    "begins to learn, so there the verdict is always undecided.",
)
