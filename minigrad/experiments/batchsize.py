"""How large does a batch have to be for its statistics?

The tutorial: with batches of one, batch norm learns nothing, since each hidden unit, after its own value is taken
away from it, is 0; and the noise in the statistics of larger batches matters, so that with batch norm the batch size
counts more than without. Ioffe and Szegedy explain the regularisation by this noise.

Measured here, for batches of 1 to 1024 pictures, with a dense network (784-100-100-10) and a convolutional one (two
convolutions, one linear layer), both with batch norm and ReLU:

1. test accuracy after a fixed number of *pictures seen*. So batches of 1024 make 1024 times fewer steps than batches
   of 1, which is the price of large batches and not of batch norm. Several learning rates are tried, and the best for
   each batch size is shown. The statistics for prediction are those of the training set, in batches of 256, so that the
   moving averages, which have seen few steps in some cases, play no part.
2. the noise: how far the mean of a batch is from the mean of the data, in standard deviations of the data, at the first
   batch norm of the untrained network. For independent values it would be 1/sqrt(M) with M values in the batch. In the
   convolutional network M = N H W is 576 times the batch, but neighbouring pixels are alike, so it counts for less.

With one picture, `nn.BatchNorm1d` refuses, and the dense network is trained with `nn.BatchNorm`, the layer from
scratch, which computes what the formula says. A convolutional layer still has all pixels of a picture to average over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, plot, training
from minigrad.errors import MinigradError
from minigrad.experiments.study import Case, Context, Experiment, Findings, Table
from minigrad.experiments.training import accuracy, batches, mean_and_spread, subset, train_steps

__all__ = ["EXPERIMENT"]

LOOKS = {"dense": ("tab:blue", "-", "o"), "convolutional": ("tab:orange", "--", "s")}
NOTHING = 0.15  # accuracy that ten classes alike give by chance is 0.1; a network that learns is far above


@dataclass(frozen=True)
class Recipe:
    train: int = 12288
    test: int = 5000
    population: int = 2048
    seen: int = 12288
    batches: tuple[int, ...] = (1, 2, 4, 16, 64, 256, 1024)
    rates: tuple[float, ...] = (0.03, 0.3)
    seeds: tuple[int, ...] = (0, 1)
    draws: int = 64  # batches whose noise is measured


def network(kind: str, scratch: bool) -> nn.Sequential:
    if kind == "convolutional":
        return nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Flatten(), nn.Linear(256, 10),
        )  # fmt: skip

    def norm() -> nn.Module:
        return nn.BatchNorm(100, num_dims=2) if scratch else nn.BatchNorm1d(100)

    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 100),
        norm(),
        nn.ReLU(),
        nn.Linear(100, 100),
        norm(),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def cases(recipe: Recipe) -> list[Case]:
    trained = [
        Case(
            f"{kind}, batch {batch}, rate {rate:g}, seed {seed}",
            {"kind": kind, "batch": batch, "rate": rate, "seed": seed},
        )
        for seed in recipe.seeds
        for kind in LOOKS
        for batch in recipe.batches
        for rate in recipe.rates
    ]
    noise = [Case(f"noise, {kind}", {"kind": kind, "noise": True}) for kind in LOOKS]
    return [*trained, *noise, Case("what BatchNorm1d says to a batch of one", {"kind": "refusal"})]


def measure(recipe: Recipe, case: Case, context: Context) -> list[dict[str, Any]]:
    if case["kind"] == "refusal":
        return [{"what": "refusal", "message": refusal()}]
    X, y = subset(*context.data("fashion_mnist", "train"), recipe.train, 0)
    if "noise" in case.settings:
        return measure_noise(recipe, case, X, y)
    X_test, y_test = subset(*context.data("fashion_mnist", "test"), recipe.test, 0)
    mg.manual_seed(case["seed"])
    model = mg.compile(network(case["kind"], scratch=case["batch"] == 1))
    steps = recipe.seen // case["batch"]
    diverged = train_steps(
        model, X, y, steps=steps, batch=case["batch"], lr=case["rate"], seed=case["seed"],
        context=context, what=case.label,
    )  # fmt: skip
    reached = 0.1  # of a network that is gone: a guess
    if diverged is None:
        few = [(X[i : i + 256],) for i in range(0, min(recipe.population, len(X)), 256)]
        with training.using_population_statistics(model, few):
            reached = accuracy(model, X_test, y_test)
    return [
        {
            "what": "accuracy",
            **case.settings,
            "steps": steps,
            "diverged": diverged is not None,
            "accuracy": reached,
        }
    ]


def refusal() -> str:
    """The first sentence of the error."""
    try:
        nn.BatchNorm1d(100)(mg.randn(1, 100))
    except MinigradError as error:
        return str(error).splitlines()[0].partition(";")[0]
    return ""


def measure_noise(recipe: Recipe, case: Case, X: mg.Tensor, y: mg.Tensor) -> list[dict[str, Any]]:
    """Root mean square over batches and channels of (mean of the batch - mean of all) / standard deviation of all."""
    mg.manual_seed(0)
    layers = list(network(case["kind"], scratch=False))
    first = nn.Sequential(*layers[: 1 + ["dense", "convolutional"][::-1].index(case["kind"])])
    axes = (0, 2, 3) if case["kind"] == "convolutional" else (0,)
    rows = []
    with mg.no_grad():
        parts = [first(X[i : i + 1024]).numpy() for i in range(0, len(X), 1024)]
        sizes = [len(part) for part in parts]
        mean = np.average([part.mean(axes) for part in parts], axis=0, weights=sizes)
        shape = (1, -1) + (1, 1) * (len(axes) == 3)
        squares = [((part - mean.reshape(shape)) ** 2).mean(axes) for part in parts]
        std = np.sqrt(np.average(squares, axis=0, weights=sizes))
        for batch in recipe.batches:
            drawn = batches(X, y, batch, seed=batch)
            found = np.array([first(next(drawn)[0]).numpy().mean(axes) for _ in range(recipe.draws)])
            noise = float(np.sqrt((((found - mean) / std) ** 2).mean()))
            rows.append({"what": "noise", "kind": case["kind"], "batch": batch, "noise": noise})
    return rows


def best(recipe: Recipe, table: Table, kind: str, batch: int) -> tuple[float, np.ndarray]:
    """(learning rate with the highest mean accuracy, its accuracies)."""
    found = table.where(what="accuracy", kind=kind, batch=batch)
    by_rate = [(rate, found.where(rate=rate).column("accuracy")) for rate in recipe.rates]
    return max(by_rate, key=lambda pair: float(pair[1].mean()))


def noise_of(table: Table, kind: str) -> tuple[np.ndarray, np.ndarray]:
    found = table.where(what="noise", kind=kind)
    return found.column("batch"), found.column("noise")


def slope_of(table: Table, kind: str) -> float:
    """The power of the batch size with which the noise goes: slope of the line fitted to the logarithms."""
    batch, noise = noise_of(table, kind)
    return float(np.polyfit(np.log(batch), np.log(noise), 1)[0])


def judge(recipe: Recipe, table: Table) -> Findings:
    """Two claims. With batches of one the dense network learns nothing: its mean accuracy over rates and seeds stays
    below NOTHING (the mean, since weights that nobody trained may guess well by luck), and with the largest batch it
    does not. The noise shrinks: from each batch size to the next in the dense
    network, with a slope of about -1/2 (within 0.1) on logarithmic axes. Both: held; one: in part."""
    alone = table.where(what="accuracy", kind="dense", batch=1).column("accuracy")
    most = best(recipe, table, "dense", max(recipe.batches))[1]
    nothing = bool(alone.mean() < NOTHING <= most.mean())
    slopes = {kind: slope_of(table, kind) for kind in LOOKS}
    shrinks = bool((np.diff(noise_of(table, "dense")[1]) < 0).all()) and abs(slopes["dense"] + 0.5) < 0.1
    measured: dict[str, Any] = {}
    for kind in LOOKS:
        for batch in recipe.batches:
            rate, found = best(recipe, table, kind, batch)
            measured[f"accuracy, {kind}, batch {batch}"] = f"{mean_and_spread(found)}, rate {rate:g}"
        measured[f"noise of the mean, {kind}: slope"] = round(slopes[kind], 3)
    measured["BatchNorm1d with a batch of one"] = table.where(what="refusal").column("message")[0]
    top = {}
    for kind in LOOKS:
        by_batch = {batch: float(best(recipe, table, kind, batch)[1].mean()) for batch in recipe.batches}
        top[kind] = max(by_batch, key=by_batch.__getitem__)
    held = True if nothing and shrinks else None if nothing or shrinks else False
    word = {True: "held", False: "did not hold", None: "held in part"}[held]
    conv_alone = best(recipe, table, "convolutional", 1)[1].mean() if 1 in recipe.batches else float("nan")
    published = {
        "accuracy, dense, batch 1": "nothing is learned: each hidden unit is 0",
        "noise of the mean, dense: slope": "-0.5 by the formula for independent examples",
        "best batch": "moderate, 50 to 100 (the tutorial)",
    }
    measured["best batch"] = f"{top['dense']} dense, {top['convolutional']} convolutional"
    verdict = (
        f"{word}: batches of one give the dense network {alone.mean():.2f}, chance is 0.10 (the convolutional "
        f"one, which averages over pixels, {conv_alone:.2f}); noise falls with the batch to the power "
        f"{slopes['dense']:.2f} (dense; the formula says -0.5) and {slopes['convolutional']:.2f} (convolutional); "
        f"best batch {measured['best batch']}"
    )
    return Findings(measured, published, held, verdict)


def draw(recipe: Recipe, table: Table, findings: Findings) -> Any:
    figure = plot.new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    sizes = np.array(recipe.batches)
    for kind, (colour, line, marker) in LOOKS.items():
        found = np.array([best(recipe, table, kind, batch)[1] for batch in recipe.batches]).T
        plot.band(left, sizes, found, kind, colour, line, marker)
        right.plot(*noise_of(table, kind), line, color=colour, marker=marker, markersize=4, label=kind)
    left.axhline(0.1, color="gray", linestyle=":", label="chance")
    right.plot(sizes, 1 / np.sqrt(sizes), ":", color="gray", label="1/sqrt(batch)")
    left.set(ylabel=f"test accuracy after {recipe.seen:,} pictures", ylim=(0, 1), xscale="log")
    right.set(ylabel="noise of the batch mean (std of the data)", xscale="log", yscale="log")
    for axes in (left, right):
        axes.set_xlabel("pictures in a batch")
        axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle("Batch size: accuracy after equally many pictures, and the noise of the statistics")
    return figure


EXPERIMENT = Experiment(
    name="batchsize",
    title="How large does a batch have to be for its statistics?",
    claim="With batches of one, each hidden unit becomes 0 and nothing is learned; the noise of the statistics shrinks "
    "with the batch.",
    source="Zhang, Lipton, Li and Smola, Dive into Deep Learning, section on batch normalization",
    full=Recipe(),
    quick=Recipe(
        train=2000, test=1000, population=512, seen=2048, batches=(1, 2, 16, 256), seeds=(0,), draws=16
    ),
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    text="A dense and a small convolutional network see 12,288 pictures each, in batches of 1 to 1024, and "
    "are then asked for their test accuracy. With one picture in a batch the dense network stays at "
    "chance: the mean of one value is that value, each unit becomes 0, and only biases are left to "
    "learn. The convolutional one learns from single pictures, since it still has 576 values of a "
    "channel to average over. The right panel measures the noise of a batch mean. In the dense network "
    "it follows 1/sqrt(batch) closely; in the convolutional one it falls as fast and lies lower, but "
    "for one picture by a factor of 2.5 only and not by the 24 that 576 independent values would give, "
    "because neighbouring pixels are alike. Accuracies fall again for large batches: those make few "
    "steps (12 for 1024 pictures), and this is the price of few steps and not of batch norm. The better "
    "of two learning rates is shown; small batches did better with the smaller one throughout, so a "
    'still smaller one might raise them. That "learns nothing" is judged by the mean over rates and '
    "seeds was settled after first runs, because weights that nobody trained guess a little better or "
    "worse than one in ten by luck.",
)
