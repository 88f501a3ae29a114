"""One epoch of training, and the accuracy on a test set: the two loops that everything else is built around.

    for epoch in range(1, 11):
        figures = train_epoch(model, train_loader, optimizer, epoch=epoch)
        print(epoch, figures.loss, figures.accuracy, evaluate(model, test_loader))

Loss and accuracy of an epoch are measured as the tutorial does: while the weights change, as the mean over
the examples of the epoch's batches, each seen by the weights of its moment.

On a GPU nothing in a step waits for the device: the figures of the batches stay there and are read at the end
of the epoch, see `readings.py`. So a loss that is no number is noticed later than on the CPU; the error names
the same batch.

Next: `population.py`, the statistics of batch norm for prediction; `runner.py`, a whole run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.backend import Device
from minigrad.errors import ArgumentError, LabelError, NonFiniteError, ShapeError, describe
from minigrad.grad_mode import no_grad
from minigrad.nn import functional as F
from minigrad.nn.functional.loss import check_labels
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.training.readings import Readings

__all__ = [
    "EpochFigures",
    "EpochTotals",
    "count_correct",
    "device_of_model",
    "evaluate",
    "evaluation_mode",
    "train_epoch",
]

Loss = Callable[[Tensor, Tensor], Tensor]
READ_EVERY = 50  # batches, on a GPU, if somebody wants to hear of the progress


@dataclass(frozen=True)
class EpochFigures:
    """What one pass over the training set gave.

    Attributes:
        loss, accuracy: means over the examples; accuracy is NaN where there are no classes to count, see
            `count_correct`.
        examples: how many there were.
        seconds: duration, with everything done on the device.
    """

    loss: float
    accuracy: float
    examples: int
    seconds: float


def train_epoch(
    model: Module,
    loader: Any,
    optimizer: Any,
    loss_fn: Loss | None = None,
    *,
    epoch: int = 1,
    on_batch: Callable[[int, EpochFigures], None] | None = None,
) -> EpochFigures:
    """One pass over `loader` in training mode, with a step of the optimizer for each batch.

    Args:
        loader: gives batches (X, y), which are moved to the model's device.
        optimizer: of the model's parameters.
        loss_fn: from outputs and y to a number; default: cross-entropy, of outputs (N, classes) and labels
            (N,). With outputs or y of another form, as in regression, the accuracy is NaN.
        epoch: its number, for messages.
        on_batch: called with the number of a batch, from 1, and the figures so far: on the CPU after each
            batch, on a GPU after every 50th and the last.

    Raises:
        NonFiniteError: a loss that is NaN or infinite. On the CPU no step is taken with it; on a GPU the
            steps after it were taken, too.
        LabelError: a label outside of the model's classes.
        ArgumentError: the loader is empty.

    >>> import minigrad as mg
    >>> from minigrad import nn, optim
    >>> model = nn.Linear(4, 2)
    >>> batches = [(mg.ones(3, 4), mg.tensor([0, 1, 0])), (mg.zeros(2, 4), mg.tensor([1, 1]))]
    >>> figures = train_epoch(model, batches, optim.SGD(model.parameters(), lr=0.1))
    >>> figures.examples
    5
    """
    loss_fn = F.cross_entropy if loss_fn is None else loss_fn
    device = device_of_model(model)
    on_host = device.type == "cpu"
    model.train()
    totals = EpochTotals(epoch, optimizer)
    readings = Readings()  # of the batches that totals does not have yet
    number, sizes = 0, []
    for number, (X, y) in enumerate(loader, start=1):
        X, y = X.to(device), y.to(device)
        with _quiet_arithmetic(), _naming_the_batch(epoch, number):
            optimizer.zero_grad()
            outputs = model(X)
            loss = loss_fn(outputs, y)
            if on_host:
                totals.check(loss.item())
            loss.backward()
            optimizer.step()
            readings.add(loss.array, correct_on_device(outputs, y))
        sizes.append(y.shape[0])
        if on_host or (on_batch is not None and number % READ_EVERY == 0):
            totals.add(readings.read(), sizes)
            if on_batch is not None:
                on_batch(number, totals.figures())
            sizes = []
    if number == 0:
        raise ArgumentError("train_epoch: the loader gave no examples")
    if sizes:
        totals.add(readings.read(), sizes)
        if on_batch is not None:
            on_batch(number, totals.figures())
    backend.synchronize(device)
    return totals.figures()


class EpochTotals:
    """The sums behind an epoch's figures; refuses a loss that is no finite number."""

    def __init__(self, epoch: int, optimizer: Any):
        self.epoch, self.optimizer = epoch, optimizer
        self.loss, self.correct, self.examples, self.batches = 0.0, 0.0, 0, 0
        self.started = time.perf_counter()

    def check(self, loss: float) -> None:
        """Of the batch that comes next."""
        if not math.isfinite(loss):
            raise NonFiniteError(_diverged(loss, self.epoch, self.batches + 1, self.optimizer))

    def add(self, rows: Iterable[tuple[float, ...]], sizes: Iterable[int]) -> None:
        """The next batches: (mean loss, right answers) and number of examples of each."""
        for (loss, correct), size in zip(rows, sizes, strict=True):
            self.check(loss)
            self.loss += loss * size
            self.correct += correct
            self.examples += size
            self.batches += 1

    def figures(self) -> EpochFigures:
        n = self.examples
        return EpochFigures(self.loss / n, self.correct / n, n, time.perf_counter() - self.started)


def evaluate(model: Module, loader: Any) -> float:
    """The share of examples in `loader` whose largest output is at the label, in evaluation mode.

    The model is left in the mode that it was in.

    Raises:
        ShapeError: outputs that are not (N, classes), or labels that are not (N,).
        DtypeError: labels that are not integers.
        NonFiniteError: outputs that are NaN or infinite.
        LabelError: a label outside of the model's classes.
        ArgumentError: the loader is empty.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> evaluate(nn.Identity(), [(mg.eye(4), mg.tensor([0, 1, 2, 0]))])
    0.75
    """
    device = device_of_model(model)
    examples = 0
    readings = Readings()
    rows: list[tuple[float, ...]] = []
    with evaluation_mode(model), no_grad():
        for number, (X, y) in enumerate(loader, start=1):
            X, y = X.to(device), y.to(device)
            with _quiet_arithmetic():
                outputs = model(X)
            if outputs.ndim != 2:
                raise ShapeError(f"evaluate: the model must give (N, classes), got shape {outputs.shape}")
            if y.shape != outputs.shape[:1]:
                raise ShapeError(f"evaluate: labels must be ({outputs.shape[0]},), got shape {y.shape}")
            with _naming_the_batch(None, number):
                check_labels("evaluate", y, outputs.shape[1])
            array = outputs.array
            readings.add(backend.namespace(array).isfinite(array).all(), correct_on_device(outputs, y))
            examples += y.shape[0]
            if device.type == "cpu":
                rows += _finite(readings.read(), len(rows))
    if examples == 0:
        raise ArgumentError("evaluate: the loader gave no examples")
    rows += _finite(readings.read(), len(rows))
    return sum(correct for _, correct in rows) / examples


def _finite(rows: list[tuple[float, ...]], before: int) -> list[tuple[float, ...]]:
    """`rows` of (whether the outputs are finite, right answers); the first one is of batch `before` + 1."""
    for number, (finite, _) in enumerate(rows, start=before + 1):
        if not finite:
            raise NonFiniteError(f"evaluate: the model's outputs for batch {number} are not finite numbers")
    return rows


def count_correct(outputs: Tensor, labels: Tensor) -> float:
    """How many rows of outputs (N, classes) are largest at the label; the first wins among equals.

    NaN if there is nothing to count: labels that are not integers of shape (N,), or other outputs. Targets
    (N, 1) of a regression, for one, would be compared with every row of the outputs.

    >>> import minigrad as mg
    >>> count_correct(mg.eye(3), mg.tensor([0, 1, 0]))
    2.0
    >>> count_correct(mg.zeros(3, 1), mg.zeros(3, 1))
    nan
    """
    return float(correct_on_device(outputs, labels))


def correct_on_device(outputs: Tensor, labels: Tensor) -> Any:
    """What `count_correct` counts, as an array of one number where the outputs are."""
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or labels.dtype.kind not in "iu":
        return backend.namespace(outputs.array).full((), math.nan)
    array = outputs.array
    return (array.argmax(axis=1) == labels.array).sum()


@contextmanager
def evaluation_mode(model: Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards each layer is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def device_of_model(model: Module) -> Device:
    """The device of the first parameter; the CPU for a model without any."""
    for parameter in model.parameters():
        return parameter.device
    return backend.device("cpu")


def _quiet_arithmetic() -> Any:
    """No warnings of overflow on stderr while a training diverges: the check of the loss says it better."""
    return np.errstate(all="ignore")


@contextmanager
def _naming_the_batch(epoch: int | None, number: int) -> Iterator[None]:
    """Adds to a LabelError where it happened."""
    try:
        yield
    except LabelError as error:
        where = f"batch {number}" if epoch is None else f"epoch {epoch}, batch {number}"
        raise LabelError(f"{where}: {error}") from None


def _diverged(value: float, epoch: int, number: int, optimizer: Any) -> str:
    rates = sorted({float(group["lr"]) for group in getattr(optimizer, "param_groups", [])})
    rows = [("learning rate", ", ".join(f"{rate:g}" for rate in rates), "")] if rates else []
    return describe(
        f"training diverged: the loss is {value} in epoch {epoch}, batch {number}",
        rows,
        "use a lower learning rate; if that does not help, look for NaN in the inputs",
    )
