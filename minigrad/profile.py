"""Where the time of a training step goes, layer by layer: `python -m minigrad.profile lenet_bn`.

Steps with stopwatches in all layers (`training/watch.py` says how) take turns with steps without, and the last
line compares the two: the difference is what watching costs, some microseconds a layer and a Function. In a
compiled model a fused run of layers is one row.

"(rest)" is what belongs to no layer: calling layers that only call others, adding up gradients, the engine.

    GFLOP/s  multiplications and additions of convolution and linear layers, counted by formula, over the time
    GB/s     each array that the layer must read or write, counted once, over the time:
             forward x, parameters and y; backward gy, x, parameters, and gradients of x and of the parameters

Both say what the layer has to do, not how it does it: a kernel that writes a large array in between and reads
it again shows fewer GB/s, not more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigrad import optim
from minigrad.backend import random
from minigrad.compiler import compile
from minigrad.data.dataset import batch_last
from minigrad.errors import ArgumentError, MinigradError
from minigrad.kernels.cpu.threads import get_num_threads
from minigrad.models import MODELS, ModelInfo, get, resnet8
from minigrad.nn import functional as F
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.train import Parser
from minigrad.training.watch import Layer, Watch, median

__all__ = ["Profile", "main", "print_table", "profile"]

# Models that the trainer has no pictures for, but that can be looked at here.
OTHERS = {
    "resnet8": ModelInfo(
        "resnet8", resnet8, "small residual network", lr=0.1, initialize=lambda m: m, input_shape=(3, 32, 32)
    )
}
LR = 0.01  # small, so that the weights stay about what they are


# 1. Profiling ---


@dataclass(frozen=True)
class Profile:
    """Where the time went.

    Attributes:
        layers: rows in the order of the forward pass; then loss, "(rest)", and the optimizer.
        batch_size, steps: of the measurement.
        watched, unwatched: seconds of the median step with and without stopwatches.
    """

    layers: tuple[Layer, ...]
    batch_size: int
    steps: int
    watched: float
    unwatched: float


def profile(model: Module, X: Tensor, y: Tensor, steps: int = 20) -> Profile:
    """Trains the model on one batch, plain SGD and cross-entropy, and says what each layer took.

    Args:
        model: on the CPU, compiled or not; its weights and running statistics change.
        X, y: the batch, pictures (N, ...) and labels (N,).
        steps: how many steps are timed; as many more run without stopwatches.

    Raises:
        ArgumentError: steps is not positive.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> found = profile(net, mg.ones(8, 4), mg.zeros(8, dtype=mg.int64), steps=2)
    >>> [(layer.name, layer.kind, layer.flops) for layer in found.layers if layer.flops]
    [('0', 'Linear', 384), ('2', 'Linear', 288)]
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ArgumentError(f"profile: steps must be a whole number of at least 1, got {steps!r}")
    model.train()
    optimizer = optim.SGD(model.parameters(), lr=LR)
    watch = Watch(model)
    loss_row, rest = Layer("loss", "cross_entropy"), Layer("(rest)", "between the layers")
    update = Layer("optimizer", "zero_grad, SGD")
    watched, unwatched = [], []
    for step in range(steps + 2):  # the first two warm up
        unwatched.append(_plain_step(model, optimizer, X, y))
        with watch.one_step():
            for row in (loss_row, rest, update):
                row.forward.append(0.0)
                row.backward.append(0.0)
            watched.append(_watched_step(watch, optimizer, X, y, loss_row, rest, update))
        if step < 2:
            watched.clear()
            unwatched.clear()
            for row in (*watch.layers.values(), loss_row, rest, update):
                row.forward.clear()
                row.backward.clear()
    update.bytes = 3 * sum(p.array.nbytes for p in model.parameters())  # reads p and its gradient, writes p
    rows = [row for row in watch.layers.values() if row.has_functions]
    return Profile((*rows, loss_row, rest, update), X.shape[0], steps, median(watched), median(unwatched))


def _plain_step(model: Module, optimizer: optim.Optimizer, X: Tensor, y: Tensor) -> float:
    start = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(model(X), y).backward()
    optimizer.step()
    return time.perf_counter() - start


def _watched_step(
    watch: Watch,
    optimizer: optim.Optimizer,
    X: Tensor,
    y: Tensor,
    loss_row: Layer,
    rest: Layer,
    update: Layer,
) -> float:
    clock = time.perf_counter
    layers = watch.layers.values()
    started = clock()
    optimizer.zero_grad()
    zeroed = clock()
    outputs = watch.model(X)
    modelled = clock()
    loss = F.cross_entropy(outputs, y)
    lost = clock()
    watch.claim(loss_row, (outputs,), loss)
    claimed = clock()
    loss.backward()
    pulled = clock()
    optimizer.step()
    ended = clock()
    loss_row.forward[-1] = lost - modelled
    rest.forward[-1] = sum(layer.forward[-1] for layer in layers if not layer.has_functions)
    rest.backward[-1] = pulled - claimed - sum(layer.backward[-1] for layer in (*layers, loss_row))
    update.forward[-1] = zeroed - started + ended - pulled
    return ended - started


# 2. The command ---


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m minigrad.profile MODEL`; returns the exit code, or exits with 2 for a bad value."""
    names = ", ".join([*MODELS, *OTHERS])
    parser = Parser(prog="python -m minigrad.profile", description="Where a training step's time goes.")
    parser.add_argument("model", metavar="MODEL", help=names)
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="layer by layer")
    chosen = parser.parse_args(arguments)
    if chosen.batch_size < 2:
        parser.error(f"--batch-size must be at least 2, which batch norm needs, got {chosen.batch_size}")
    try:
        random.manual_seed(0)
        info = OTHERS.get(chosen.model) or get(chosen.model)
        model = info.make()
        X, y = _batch(info, chosen.batch_size)
        found = profile(compile(model) if chosen.compile else model, X, y, chosen.steps)
    except MinigradError as error:
        parser.error(str(error))
    how = f"compiled, {get_num_threads()} threads" if chosen.compile else "not compiled"
    print(f"{chosen.model}, batch size {found.batch_size}, {how}: medians of {found.steps} training steps")
    print_table(found)
    return 0


def _batch(info: ModelInfo, batch_size: int) -> tuple[Tensor, Tensor]:
    """Random pictures, in memory as the loader delivers them, and random labels."""
    rng = random.generator()
    pictures = rng.random((batch_size, *info.input_shape), dtype=np.float32)
    return Tensor(batch_last(pictures)), Tensor(rng.integers(0, 10, batch_size))


def print_table(found: Profile) -> None:
    """The table and what watching cost, on stdout."""
    from rich.console import Console
    from rich.table import Table

    total = sum(layer.seconds for layer in found.layers)
    table = Table("layer", "kind", box=None)
    for heading in ("forward ms", "backward ms", "%", "GFLOP/s", "GB/s"):
        table.add_column(heading, justify="right")
    for layer in found.layers:
        speeds = [f"{n / 1e9 / layer.seconds:.1f}" if n else "" for n in (layer.flops, layer.bytes)]
        times = [f"{1e3 * median(values):.3f}" for values in (layer.forward, layer.backward)]
        table.add_row(
            layer.name or "(model)", layer.kind, *times, f"{100 * layer.seconds / total:.1f}", *speeds
        )
    forward, backward = (
        f"{1e3 * sum(median(getattr(layer, name)) for layer in found.layers):.3f}"
        for name in ("forward", "backward")
    )
    flops = sum(layer.flops for layer in found.layers) / 1e9 / total
    table.add_row("total", "", forward, backward, "100.0", f"{flops:.1f}", "")
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
    cost = 100 * (found.watched / found.unwatched - 1)
    print(
        f"a step takes {1e3 * found.unwatched:.3f} ms without stopwatches, "
        f"{1e3 * found.watched:.3f} ms with them ({cost:+.1f} %)"
    )


if __name__ == "__main__":
    sys.exit(main())
