"""Do the batch norm from scratch and the framework's layer agree, and which one is faster?

The tutorial writes batch norm with plain tensor arithmetic, trains LeNet with it, and then does the same with the
layer of its framework. It prints loss, accuracies, the speed on its GPU, and gamma and beta of the first layer.

Measured here: `nn.BatchNorm`, whose gradient autograd finds, and `nn.BatchNorm1d`/`2d`, whose gradient is a formula.
Both networks start from the same weights and see the same batches. That does not make them end at the same numbers:
at a learning rate of 1.0 a difference in the last digit grows until only the statistics of the two runs are alike. So
the built-in layer is trained with another seed as well, which shows how much a run differs from another by itself. For
the speed, training steps of both take turns, layer by layer; the third bar is the built-in layer in a model that has
gone through `mg.compile`, as the trainer does it.

How to read the figure: left, training loss by epoch; middle, gamma and beta of the first layer, channel by channel:
on the diagonal both agree; right, pictures a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import data, models, optim, plot, training
from minigrad.experiments.study import Case, Context, Experiment, Findings, Table
from minigrad.experiments.training import accuracy, batches, subset

__all__ = ["EXPERIMENT"]

MODELS = {"scratch": "lenet_bn_scratch", "built-in": "lenet_bn"}
FIRST = "1"  # the first batch-norm layer of LeNet
PUBLISHED_SPEED = {"scratch": 35561, "built-in": 60220}  # examples/s on the tutorial's GPU
AGREE = 0.01  # of loss and accuracy; the tutorial's two differ by 0.002 and 0.001
GAMMA, BETA = ("gamma", "weight"), ("beta", "bias")


@dataclass(frozen=True)
class Recipe:
    train: int = 60000
    test: int = 10000
    epochs: int = 10
    batch: int = 256
    rate: float = 1.0
    seed: int = 0
    more_seeds: tuple[int, ...] = (1,)
    timed: int = 20


def cases(recipe: Recipe) -> list[Case]:
    runs = [("scratch", recipe.seed), *(("built-in", seed) for seed in (recipe.seed, *recipe.more_seeds))]
    training_runs = [Case(f"{layer}, seed {seed}", {"layer": layer, "seed": seed}) for layer, seed in runs]
    return [*training_runs, Case("speed", {"layer": "speed", "seed": recipe.seed})]


def measure(recipe: Recipe, case: Case, context: Context) -> list[dict[str, Any]]:
    X, y = subset(*context.data("fashion_mnist", "train"), recipe.train, 0)
    if case["layer"] == "speed":
        return measure_speed(recipe, context, X, y)
    X_test, y_test = subset(*context.data("fashion_mnist", "test"), recipe.test, 0)
    mg.manual_seed(case["seed"])
    model = mg.compile(models.get(MODELS[case["layer"]]).make())
    optimizer = optim.SGD(model.parameters(), lr=recipe.rate)
    order = np.random.default_rng(case["seed"])
    loader = data.DataLoader(
        data.TensorDataset(X, y), recipe.batch, shuffle=True, generator=order, drop_last=True
    )
    rows: list[dict[str, Any]] = []
    for epoch in context.steps(recipe.epochs, case.label):
        figures = training.train_epoch(model, loader, optimizer, epoch=epoch + 1)
        rows.append({
            "kind": "epoch", **case.settings, "epoch": epoch + 1, "train_loss": figures.loss,
            "train_acc": figures.accuracy, "test_acc": accuracy(model, X_test, y_test),
        })  # fmt: skip
    with training.using_population_statistics(model, loader):
        rows[-1]["population_acc"] = accuracy(model, X_test, y_test)
    learned = dict(model.named_parameters())
    for number, names in enumerate((GAMMA, BETA)):
        name = names[case["layer"] == "built-in"]
        for channel, value in enumerate(learned[f"{FIRST}.{name}"].detach().numpy().ravel()):
            rows.append({
                "kind": "parameter", **case.settings, "parameter": ("gamma", "beta")[number],
                "channel": channel, "value": float(value),
            })  # fmt: skip
    return rows


def measure_speed(recipe: Recipe, context: Context, X: mg.Tensor, y: mg.Tensor) -> list[dict[str, Any]]:
    """Seconds of the median step, taking turns; they go to the timings, and there are no rows."""
    nets = {layer: models.get(name).make() for layer, name in MODELS.items()}
    nets["compiled"] = mg.compile(models.get("lenet_bn").make())
    optimizers = {layer: optim.SGD(net.parameters(), lr=0.1) for layer, net in nets.items()}
    seconds: dict[str, list[float]] = {layer: [] for layer in nets}
    drawn = batches(X, y, recipe.batch, recipe.seed)
    for _ in context.steps(recipe.timed, "speed"):
        Xb, yb = next(drawn)
        for layer, net in nets.items():
            started = time.perf_counter()
            optimizers[layer].zero_grad()
            F.cross_entropy(net(Xb), yb).backward()
            optimizers[layer].step()
            seconds[layer].append(time.perf_counter() - started)
    for layer, taken in seconds.items():
        context.time(f"step, {layer}", float(np.median(taken)))
    return []


def last(recipe: Recipe, table: Table, layer: str, seed: int, name: str) -> float:
    row = table.where(kind="epoch", layer=layer, seed=seed, epoch=recipe.epochs)
    return float(row.column(name)[0])


def parameters(recipe: Recipe, table: Table, layer: str, name: str) -> np.ndarray:
    """gamma or beta of the first layer, (channels,)."""
    return table.where(kind="parameter", layer=layer, seed=recipe.seed, parameter=name).column("value")


def speeds(recipe: Recipe, table: Table) -> dict[str, float]:
    """Examples a second."""
    return {layer: recipe.batch / table.timings[f"step, {layer}"] for layer in (*MODELS, "compiled")}


def judge(recipe: Recipe, table: Table) -> Findings:
    """Two claims. They agree: with the same seed the last training loss and training accuracy differ by less than
    AGREE. (Test accuracy is not asked: with moving averages it jumps by hundredths from epoch to epoch.) The built-in
    layer is faster: layer by layer, without compiling. Both: held; one: in part."""
    measured: dict[str, Any] = {}
    titles = {
        "train_loss": "training loss", "train_acc": "training accuracy", "test_acc": "test accuracy",
        "population_acc": "test accuracy, population statistics",
    }  # fmt: skip
    for layer in MODELS:
        for name, title in titles.items():
            measured[f"{title}, {layer}"] = round(last(recipe, table, layer, recipe.seed, name), 4)
    for seed in recipe.more_seeds:
        measured[f"training loss, built-in, seed {seed}"] = round(
            last(recipe, table, "built-in", seed, "train_loss"), 4
        )
    for name in ("gamma", "beta"):
        pair = [parameters(recipe, table, layer, name) for layer in MODELS]
        measured[f"{name} of the first layer, largest difference"] = round(
            float(np.abs(pair[0] - pair[1]).max()), 4
        )
    speed = speeds(recipe, table)
    for layer, value in speed.items():
        measured[f"examples/s, {layer}"] = f"{value:,.0f}"
    published = {
        "training loss, scratch": 0.250, "training loss, built-in": 0.248,
        "training accuracy, scratch": 0.907, "training accuracy, built-in": 0.908,
        "test accuracy, scratch": 0.801, "test accuracy, built-in": 0.869,
        **{f"examples/s, {layer}": f"{value:,} (its GPU)" for layer, value in PUBLISHED_SPEED.items()},
    }  # fmt: skip
    gaps = [
        abs(
            last(recipe, table, "scratch", recipe.seed, name)
            - last(recipe, table, "built-in", recipe.seed, name)
        )
        for name in ("train_loss", "train_acc")
    ]
    agree, faster = max(gaps) < AGREE, speed["built-in"] > speed["scratch"]
    held = True if agree and faster else None if agree or faster else False
    word = {True: "held", False: "did not hold", None: "held in part"}[held]
    ratio = PUBLISHED_SPEED["built-in"] / PUBLISHED_SPEED["scratch"]
    verdict = (
        f"{word}: training loss {measured['training loss, scratch']:.3f} from scratch, "
        f"{measured['training loss, built-in']:.3f} built-in (published 0.250, 0.248); the built-in layer gives "
        f"{speed['built-in'] / speed['scratch']:.2f} times the speed (published {ratio:.2f}), compiled "
        f"{speed['compiled'] / speed['scratch']:.2f} times"
    )
    return Findings(measured, published, held, verdict)


def draw(recipe: Recipe, table: Table, findings: Findings) -> Any:
    figure = plot.new_figure(11.5, 3.8)
    left, middle, right = figure.subplots(1, 3)
    epochs = np.arange(1, recipe.epochs + 1)
    for seed in recipe.more_seeds:
        losses = table.where(kind="epoch", layer="built-in", seed=seed).column("train_loss")
        label = "built-in, another seed" if seed == recipe.more_seeds[0] else None
        left.plot(epochs, losses, ":", color="gray", label=label)
    for layer, style in (("built-in", "-"), ("scratch", "--")):
        losses = table.where(kind="epoch", layer=layer, seed=recipe.seed).column("train_loss")
        colour, marker = {"built-in": ("tab:blue", "o"), "scratch": ("tab:orange", "s")}[layer]
        left.plot(epochs, losses, style, color=colour, marker=marker, markersize=4, label=layer)
    left.set(xlabel="epoch", ylabel="training loss", title="same start, same batches")
    left.legend(frameon=False)
    for name, marker, colour in (("gamma", "o", "tab:blue"), ("beta", "^", "tab:orange")):
        pair = [parameters(recipe, table, layer, name) for layer in MODELS]
        middle.plot(pair[0], pair[1], marker, color=colour, linestyle="", label=name)
    middle.axline((0, 0), slope=1, color="gray", linewidth=1)
    middle.set(xlabel="from scratch", ylabel="built-in", title="first layer, after training")
    middle.legend(frameon=False)
    speed = speeds(recipe, table)
    bars = right.bar(
        list(speed), list(speed.values()), color=["tab:orange", "tab:blue", "tab:green"], edgecolor="black"
    )
    for bar, hatch in zip(bars, ("//", "", ".."), strict=True):
        bar.set_hatch(hatch)
    right.bar_label(bars, [f"{value:,.0f}" for value in speed.values()])
    right.set(ylabel="pictures/s, training, CPU", title="speed", ylim=(0, 1.15 * max(speed.values())))
    for axes in (left, middle):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(min_n_ticks=1, integer=axes is left)
    figure.suptitle("LeNet with batch norm from scratch and built-in")
    return figure


EXPERIMENT = Experiment(
    name="scratch",
    title="Do the batch norm from scratch and the built-in layer agree, and which is faster?",
    claim="Batch norm from scratch and the framework's layer reach the same loss and accuracy; the layer is 1.7 times "
    "as fast.",
    source="Zhang, Lipton, Li and Smola, Dive into Deep Learning, section on batch normalization",
    full=Recipe(),
    quick=Recipe(train=4000, test=1000, epochs=3, batch=64, more_seeds=(1,), timed=5),
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    text="LeNet with batch norm is trained three times for ten epochs: with the layer from scratch, with the "
    "built-in layer from the same weights on the same batches, and with the built-in layer from another "
    "seed. The first two agree as far as can be asked: their loss curves lie on each other, loss and "
    "training accuracy differ by less than two seeds do, and in the middle panel gamma and beta of the "
    "first layer lie near the diagonal, though not on it, since differences in the last digit grow at a "
    "rate of 1.0. The tutorial's two test accuracies, 0.801 and 0.869, are further apart than ours; why "
    "is the subject of [`prediction`](#prediction). Speed is another matter than agreement, as it "
    "depends on what else the machine does: it was measured with nothing beside it, after a run with another "
    "experiment on the same two cores had found scratch and built-in equally fast. The tutorial's factor "
    "of 1.7 is that of its GPU and its framework. The larger gain is that of `mg.compile`, which fuses "
    "the layers around batch norm as well: about twice the speed of the layer from scratch.",
)
