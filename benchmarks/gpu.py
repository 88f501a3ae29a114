"""`make bench-gpu`: training and inference of lenet_bn on a GPU, beside PyTorch in three ways.

Needs Python, CuPy and PyTorch. Ends within 8 minutes: each contestant is a process of its own with a time limit.
The results go to docs/benchmarks/gpu.md.

The same for everybody: 60,000 pictures as bytes and their labels on the GPU, an order drawn by NumPy with the same
seed and copied once an epoch, batches of 256 gathered on the GPU (a last batch that is not full is left out), the
same starting weights, SGD, loss and right answers added up on the GPU and read once an epoch. A figure is the time
of an epoch divided by its batches, the median of several epochs after warming up. Compiling does not count.

    python -m benchmarks.gpu                              everything
    python -m benchmarks.gpu --rehearse                   small, on the CPU, only what runs there; writes nothing

The contestants from PyTorch are in `gpu_torch.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu_page
from benchmarks.children import Deadline, report, run_child

__all__ = ["CONTESTANTS", "collect", "main", "measure"]

OURS = "minigrad"
CONTESTANTS = {  # name in the tables -> (child, whether TF32 matters to it)
    OURS: ("minigrad", False),
    "minigrad, one kernel at a time": ("minigrad-eager", False),
    "PyTorch": ("torch-eager", True),
    "torch.compile(mode='reduce-overhead')": ("torch-compile", True),
    "PyTorch, step captured by hand": ("torch-graph", True),
}
OFF, DEFAULTS = "TF32 off", "PyTorch's defaults"
TOTAL, EACH = 450.0, 100.0  # seconds
BATCH, LR = 256, 0.1

Epoch = Callable[[np.ndarray], tuple[float, float]]  # order -> mean loss, accuracy; waits for the device


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--rehearse", action="store_true", help="small, on the CPU; writes nothing")
    parser.add_argument("--output", type=Path, help="page to write (default: docs/benchmarks/gpu.md)")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="time for everything")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default=OFF, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        run_contestant(options.child, options.precision, options.rehearse)
        return 0
    if not options.rehearse:
        from minigrad.backend import cuda

        reason = cuda.why_not()
        if reason is not None:
            print(f"nothing was measured: {reason}")
            return 2
    results, remarks, versions = collect(options.seconds, options.rehearse)
    machine = [*gpu_page.describe_machine(), *versions.items()]
    day = time.strftime("%Y-%m-%d")
    text = gpu_page.speed_part(f"make bench-gpu, {day}", machine, results, OURS, BATCH, remarks)
    print(text)
    path = options.output or (None if options.rehearse else gpu_page.PAGE)
    if path is not None:
        gpu_page.write_part(gpu_page.SPEED, text, path)
        print(f"written: {path}")
    return 0


def collect(seconds: float, rehearse: bool) -> tuple[dict, list[str], dict[str, str]]:
    """Runs all contestants: (figures by (what, precision), remarks, versions)."""
    deadline = Deadline(seconds)
    results: dict[tuple[str, str], dict[str, list[float]]] = {}
    remarks, versions, losses = [], {}, {}
    for precision in (OFF, DEFAULTS):
        for name, (child, has_tf32) in CONTESTANTS.items():
            if (
                not has_tf32 and precision == DEFAULTS
            ):  # minigrad's float32 is float32: the figures from before
                for what in ("training", "inference"):
                    results.setdefault((what, precision), {})[name] = results[what, OFF].get(name, [])
                continue
            print(f"{name}, {precision} ...", flush=True)
            command = ["-m", "benchmarks.gpu", "--child", child, "--precision", precision]
            outcome = run_child(command + ["--rehearse"] * rehearse, min(EACH, deadline.left()))
            if outcome.problem:
                remarks.append(f"{name}, {precision}: {outcome.problem}")
            for result in outcome.results:
                versions.update(result.pop("versions", {}))
                if "remark" in result:
                    remarks.append(f"{name}: {result['remark']}")
                    continue
                results.setdefault((result["what"], precision), {})[name] = result["seconds"]
                if result["what"] == "training":
                    losses[f"{name}, {precision}"] = result["loss"]
            for what in ("training", "inference"):
                results.setdefault((what, precision), {}).setdefault(name, [])
    remarks += same_losses(losses)
    return results, remarks, versions


def same_losses(losses: dict[str, float]) -> list[str]:
    """A remark on the loss of the first epoch, which has to be about the same for all."""
    if not losses:
        return []
    middle = statistics.median(losses.values())
    text = "mean loss of the first epoch: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
    odd = [name for name, loss in losses.items() if not abs(loss - middle) <= 0.02 * abs(middle)]
    return [text] + [f"**{name} computes something else; its time means nothing**" for name in odd]


# 1. In a child ---


def run_contestant(child: str, precision: str, rehearse: bool) -> None:
    """Measure one contestant and report."""
    examples, rounds = (1000, 3) if rehearse else (60000, 9)
    images, labels = data(examples)
    if child.startswith("minigrad"):
        training, inference, versions = ours(images, labels, child == "minigrad", rehearse)
    else:
        from benchmarks import gpu_torch

        made = gpu_torch.contestant(
            child.removeprefix("torch-"), images, labels, weights(), precision == OFF, BATCH, LR, rehearse
        )
        training, inference, versions = made
    for what, epoch in (("training", training), ("inference", inference)):
        seconds, first = measure(epoch, examples, rounds)
        report(what=what, seconds=seconds, loss=first[0], accuracy=first[1], versions=versions)


def data(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST if it is there, else the garments drawn by code: bytes (n, 28, 28) and int64 labels."""
    import minigrad as mg

    bundle = mg.data.load(
        "auto" if examples > 1000 else "garments", train_size=examples, say=lambda text: None
    )
    train = bundle.train
    return np.ascontiguousarray(train.images).reshape(-1, 28, 28), np.asarray(train.labels, np.int64)


def weights() -> dict[str, np.ndarray]:
    """The starting weights of all contestants."""
    import minigrad as mg
    from minigrad import models

    mg.manual_seed(0)
    return {name: value.numpy().copy() for name, value in models.get("lenet_bn").make().state_dict().items()}


def measure(epoch: Epoch, examples: int, rounds: int) -> tuple[list[float], tuple[float, float]]:
    """Seconds a step in each of `rounds` epochs, and the figures of the first epoch of all. Three warm up."""
    rng = np.random.default_rng(0)
    steps = examples // BATCH
    seconds, first = [], None
    for number in range(rounds + 3):
        order = rng.permutation(examples)[: steps * BATCH]
        started = time.perf_counter()
        figures = epoch(order)
        if number >= 3:
            seconds.append((time.perf_counter() - started) / steps)
        first = figures if first is None else first
    assert first is not None
    return seconds, first


def ours(images: np.ndarray, labels: np.ndarray, captured: bool, rehearse: bool) -> tuple[Epoch, Epoch, Any]:
    """minigrad: training and inference, with captured steps or one kernel at a time."""
    import minigrad as mg
    from minigrad import backend, models, optim
    from minigrad.data import ArrayDataset, DataLoader
    from minigrad.training import CapturedEvaluation, CapturedTraining, evaluate, train_epoch

    device = "cpu" if rehearse else "cuda"
    model = models.lenet_bn()
    model.load_state_dict(weights())
    model = mg.compile(model.to(device))
    optimizer = optim.SGD(model.parameters(), lr=LR)
    loader = DataLoader(
        ArrayDataset(images, labels), BATCH, device=None if rehearse else device, drop_last=True
    )
    said: list[str] = []
    training = CapturedTraining(model, loader, optimizer, say=said.append)
    evaluation = None if rehearse or not captured else CapturedEvaluation(model, loader.resident, BATCH)

    class Ordered:
        """The loader, with an order from outside."""

        resident, collate_fn, transform = loader.resident, None, None
        batch_size, drop_last, order = BATCH, True, np.zeros(0, np.int64)

        def draw_order(self) -> np.ndarray:
            return self.order

        def __len__(self) -> int:
            return len(self.order) // BATCH

        def __iter__(self) -> Any:
            return loader.in_order(self.order)

        def in_order(self, order: np.ndarray) -> Any:
            return loader.in_order(order)

    training.loader = ordered = Ordered()

    def train(order: np.ndarray) -> tuple[float, float]:
        ordered.order = order
        figures = training.epoch() if captured else train_epoch(model, ordered, optimizer)
        if said:
            report(remark=said.pop())
        return figures.loss, figures.accuracy

    def predict(order: np.ndarray) -> tuple[float, float]:
        ordered.order = order
        return 0.0, (evaluate(model, ordered) if evaluation is None else evaluation.epoch(order))

    versions = {"minigrad": mg.__version__, "NumPy": np.__version__}
    if not rehearse:
        versions["CuPy"] = backend.cuda.load().__version__
    return train, predict, versions


if __name__ == "__main__":
    sys.exit(main())
