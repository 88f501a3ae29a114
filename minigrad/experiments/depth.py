"""How deep may a network be, with and without shortcuts, with and without batch norm?

He, Zhang, Ren and Sun 2016, section 4.2: plain networks get worse with depth, in training too, though batch norm
is in every layer; with shortcuts, y = relu(x + f(x)), a network of 110 layers trains (6.6 % error on CIFAR-10,
against 8.8 % with 20 layers). All of their networks have batch norm. De and Smith 2020 say what it does there:
without it each block adds its variance to that of its input, and the sum grows as 2^blocks.

Measured: networks of 10, 20, 56 and 110 layers with weights (a convolution, half of depth - 2 blocks of two
convolutions, a linear layer), all four combinations of shortcuts and batch norm, very small for a CPU: pictures
of 14 x 14, 8 channels of 7 x 7 throughout, some hundred steps. So accuracies are below what the data set allows,
and only whether and how fast a network learns can be compared. Test accuracy is taken with population statistics:
over 110 layers, moving averages of so few steps would be far off. A loss that is no longer finite ends a
training; its accuracy counts as chance, 0.1.

How to read the figure: left, accuracy against depth, one line a kind of network; a line that falls says that
depth harms. Right, the training loss of the deepest networks; the dotted line is the loss of guessing, log 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, plot, training
from minigrad.errors import NonFiniteError
from minigrad.experiments.study import Case, Context, Experiment, Findings, Table
from minigrad.experiments.training import accuracy, mean_and_spread, subset, train_steps

__all__ = ["EXPERIMENT"]

CHANCE = 0.1
TRAINS, WORSE = 0.5, 0.05  # see judge


@dataclass(frozen=True)
class Recipe:
    pictures: int = 10000
    test_pictures: int = 2000
    depths: tuple[int, ...] = (10, 20, 56, 110)
    channels: int = 8
    steps: int = 300
    batch: int = 32
    rate: float = 0.03  # 0.003 and 0.01 are worse for 10 layers without batch norm
    momentum: float = 0.9
    every: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)


class Block(nn.Module):
    """y = relu(x + body(x)), or relu(body(x)) without the shortcut; shapes stay (N, C, H, W)."""

    def __init__(self, body: nn.Sequential, shortcut: bool):
        super().__init__()
        self.body, self.shortcut, self.relu = body, shortcut, nn.ReLU()

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        y = self.body(x)
        return self.relu(x + y if self.shortcut else y)


def network(depth: int, channels: int, bn: bool, shortcut: bool) -> nn.Sequential:
    """(N, 1, 14, 14) -> (N, channels, 7, 7), (depth - 2) / 2 blocks, mean of each channel -> 10."""

    def conv(inputs: int, stride: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=not bn)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return [layer, nn.BatchNorm2d(channels)] if bn else [layer]

    blocks = [
        Block(nn.Sequential(*conv(channels), nn.ReLU(), *conv(channels)), shortcut)
        for _ in range((depth - 2) // 2)
    ]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(*conv(1, stride=2), nn.ReLU(), *blocks, *head)


def cases(recipe: Recipe) -> list[Case]:
    return [
        Case(
            f"{depth} layers, {KINDS[shortcut, bn]}, seed {seed}",
            {"depth": depth, "shortcut": shortcut, "bn": bn, "seed": seed},
        )
        for depth in recipe.depths
        for shortcut in (False, True)
        for bn in (False, True)
        for seed in recipe.seeds
    ]


KINDS = {  # (shortcut, bn)
    (False, False): "plain",
    (False, True): "plain, batch norm",
    (True, False): "shortcuts",
    (True, True): "shortcuts, batch norm",
}


# 1. Measuring ---


def small(X: mg.Tensor) -> mg.Tensor:
    """(N, 1, 28, 28) -> (N, 1, 14, 14), means of four pixels, over all with mean 0 and deviation 1."""
    x = F.avg_pool2d(X, 2)
    return (x - 0.29) / 0.33  # about those of Fashion-MNIST


def measure(recipe: Recipe, case: Case, context: Context) -> list[dict[str, Any]]:
    X, y = subset(*context.data("fashion_mnist", "train"), recipe.pictures, case["seed"])
    X_test, y_test = subset(*context.data("fashion_mnist", "test"), recipe.test_pictures, 0)
    X, X_test = small(X), small(X_test)
    mg.manual_seed(case["seed"])
    model = mg.compile(network(case["depth"], recipe.channels, case["bn"], case["shortcut"]))
    losses: list[float] = []
    diverged = train_steps(
        model,
        X,
        y,
        steps=recipe.steps,
        batch=recipe.batch,
        lr=recipe.rate,
        momentum=recipe.momentum,
        seed=case["seed"],
        context=context,
        what=case.label,
        on_step=lambda step, loss: losses.append(loss),
    )
    rows: list[dict[str, Any]] = []

    def note(what: str, step: int, value: float) -> None:
        rows.append({**case.settings, "what": what, "step": step, "value": value})

    for start in range(0, len(losses), recipe.every):
        window = [loss for loss in losses[start : start + recipe.every] if np.isfinite(loss)]
        if window:
            note("loss", start + len(window), float(np.mean(window)))
    score = CHANCE
    if diverged is None:
        some = [(X[i : i + 100],) for i in range(0, min(len(X), 1000), 100)]
        try:
            training.population_statistics(model, some)
            score = accuracy(model, X_test, y_test)
        except NonFiniteError:  # the last step was the one too many
            diverged = recipe.steps
    note("test_acc", len(losses), score)
    note("diverged", len(losses), float(diverged is not None))
    return rows


# 2. What came out ---


def scores(table: Table, depth: int, shortcut: bool, bn: bool) -> np.ndarray:
    """The test accuracy of each seed."""
    return table.where(what="test_acc", depth=depth, shortcut=shortcut, bn=bn).column("value")


def judge(recipe: Recipe, table: Table) -> Findings:
    """A network trains if its accuracy is above 0.5 in every seed; guessing gives 0.1, and far smaller networks
    pass 0.7. The claim has two halves: the deepest network with shortcuts and batch norm trains; and depth harms
    plain networks, with batch norm too: the deepest is worse by more than 0.05 than the best of the shallower plain
    ones, and than the deepest with shortcuts and batch norm."""
    *shallower, deepest = recipe.depths
    measured: dict[str, Any] = {}
    for depth in recipe.depths:
        for (shortcut, bn), name in KINDS.items():
            lost = int(
                table.where(what="diverged", depth=depth, shortcut=shortcut, bn=bn).column("value").sum()
            )
            shown = mean_and_spread(scores(table, depth, shortcut, bn))
            measured[f"{depth} layers, {name}"] = shown + (f", {lost} diverged" if lost else "")
    residual = scores(table, deepest, True, True)
    trains = bool(residual.min() > TRAINS)
    harmed = all(
        better - scores(table, deepest, False, bn).mean() > WORSE
        for bn in (False, True)
        for better in (max(scores(table, n, False, bn).mean() for n in shallower), residual.mean())
    )
    held = True if trains and harmed else None if trains or harmed else False
    word = {True: "held", False: "did not hold", None: "held in part"}[held]
    plain = " and ".join(f"{scores(table, deepest, False, bn).mean():.3f}" for bn in (False, True))
    verdict = (
        f"{word}: {deepest} layers with shortcuts and batch norm {'train' if trains else 'do not train'}, test "
        f"accuracy {residual.mean():.3f}; {deepest} plain layers reach {plain} without and with batch norm, "
        f"shortcuts without batch norm {scores(table, deepest, True, False).mean():.3f}"
    )
    published = {
        "110 layers, shortcuts, batch norm": "6.61 ± 0.16 % error on CIFAR-10 (20 layers: 8.75 %)",
        "plain, batch norm": "56 layers have a larger training and test error than 20",
    }
    return Findings(measured, published, held, verdict)


STYLES = {
    (False, False): ("tab:orange", "o:"),
    (False, True): ("tab:red", "^--"),
    (True, False): ("tab:green", "D-."),
    (True, True): ("tab:blue", "s-"),
}


def draw(recipe: Recipe, table: Table, findings: Findings) -> Any:
    figure = plot.new_figure(10.5, 4)
    left, right = figure.subplots(1, 2)
    deepest = recipe.depths[-1]
    for (shortcut, bn), name in KINDS.items():
        colour, style = STYLES[shortcut, bn]
        reached = [scores(table, depth, shortcut, bn) for depth in recipe.depths]
        left.plot(recipe.depths, [values.mean() for values in reached], style, color=colour, label=name)
        for depth, values in zip(recipe.depths, reached, strict=True):
            left.plot([depth] * len(values), values, style[0], color=colour, alpha=0.35, markersize=4)
        runs = [
            run for _, run in table.where(what="loss", depth=deepest, shortcut=shortcut, bn=bn).groups("seed")
        ]
        for number, run in enumerate(runs):
            label = name if number == 0 else None
            line = style[1:]
            right.plot(run.column("step"), run.column("value"), line, color=colour, alpha=0.8, label=label)
            right.plot(run.column("step")[-1:], run.column("value")[-1:], style[0], color=colour)
    left.axhline(CHANCE, color="gray", linewidth=0.8)
    left.text(recipe.depths[0], CHANCE - 0.01, "chance", va="top", fontsize=8, color="dimgray")
    left.set(xlabel="layers with weights", ylabel="test accuracy", xscale="log", ylim=(0, 1))
    left.set_title("Accuracy against depth (faint: each seed)")
    left.set_xticks(recipe.depths, [str(depth) for depth in recipe.depths])
    left.minorticks_off()
    left.legend(frameon=False, loc="upper center", ncols=2)
    lost = [
        name
        for (shortcut, bn), name in KINDS.items()
        if table.where(what="diverged", depth=deepest, shortcut=shortcut, bn=bn).column("value").any()
    ]
    title = f"{deepest} layers, each seed" + (f" (diverged: {'; '.join(lost)})" if lost else "")
    right.axhline(np.log(10), color="gray", linewidth=0.8, linestyle=":")
    right.text(recipe.steps, np.log(10) + 0.06, "guessing, log 10", ha="right", fontsize=8, color="dimgray")
    right.set(xlabel="step", ylabel="training loss", ylim=(0, 3.5), title=title)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle("Deep networks with and without shortcuts and batch norm")
    return figure


EXPERIMENT = Experiment(
    name="depth",
    title="How deep may a network be, with and without shortcuts and batch norm?",
    claim="With residual connections (and batch norm) networks of more than 100 layers train, while plain networks "
    "get worse with depth.",
    source="He, Zhang, Ren and Sun 2016, section 4.2, Figure 6 and Table 6",
    full=Recipe(),
    quick=Recipe(pictures=2000, test_pictures=500, depths=(10, 20, 110), steps=40, every=5, seeds=(0,)),
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    text="Sixteen networks, four depths of four kinds, are trained for 300 steps with three seeds. Only with "
    "shortcuts and batch norm together does the accuracy stay where it is from 10 to 110 layers; the "
    "deepest of them trains in every seed, and 110 plain layers stay at chance with and without batch "
    "norm. Plain networks get worse from each depth to the next even with batch norm, in training too, "
    "as in the source. Two differences remain. In the source the deeper residual network is also the "
    "better one (8.75 % error with 20 layers, 6.61 % with 110), here 110 layers are about as good as "
    "10, for 300 steps of 32 pictures are one pass over the training set and not a training to the end; "
    "for the same reason the fall of the plain networks shows that they learn slowly, and not what they "
    "could reach. And shortcuts alone, which the source did not try, are no help here: without batch "
    "norm the sums grow from block to block, and from 56 layers on the loss overflows in every seed. "
    "All networks have the rate 0.03, which was taken after several had been tried on seed 0; smaller "
    "ones were worse for 10 layers without batch norm, but might keep shortcuts alone from diverging. "
    '"Plain networks get worse" is judged against the best of the shallower plain networks.',
)
