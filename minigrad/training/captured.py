"""The captured step: forward, loss, backward and update as one CUDA graph, started with one call a batch.

On a GPU a step of a small network takes less time than Python needs to start its kernels one by one. So the step's
Python runs once while CUDA writes down which kernels it starts, and from then on the kernels are started from that
list. What changes from step to step lies on the device, where the kernels find it:

    images, labels    the data set, as bytes
    order             the order of the epoch, drawn on the host and copied once an epoch
    counters          the batch of the epoch, and the number of steps; the last kernel of a step adds 1
    hyper             learning rate and the like, see optim/flat.py
    losses            of each batch, read once an epoch
    counts            right answers so far (with a loss or outputs of your own: `correct`, of each batch)

`CapturedStep` makes the graphs, one for full batches and one for the short last batch. Each is made in this way:

1. warm up: a few eager steps, which compile kernels and fill the graph's memory pool; then all is put back;
2. capture;
3. check: one replay from the old state has to give what the eager step gave; then all is put back again.

What cannot be captured (a layer that waits for the device, random numbers of the host, hooks, an optimizer of your
own) is a `CannotCapture` with the reason. `CapturedTraining` then goes on with `train_epoch` and says so once.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.backend.graphs import CudaGraphs, Graphs
from minigrad.data.dataset import ArrayDataset
from minigrad.engine import seed, walk
from minigrad.errors import LabelError, MinigradError
from minigrad.kernels.cuda import loss as loss_kernels
from minigrad.kernels.cuda import module as kernels
from minigrad.nn import functional as F
from minigrad.nn.functional.loss import remember_range
from minigrad.nn.module import Module
from minigrad.optim.flat import FlatOptimizer, Table, why_not_flat
from minigrad.tensor import Tensor
from minigrad.training.batches import ResidentBatches
from minigrad.training.loop import (
    EpochFigures,
    EpochTotals,
    Loss,
    correct_on_device,
    device_of_model,
    train_epoch,
)

__all__ = ["CannotCapture", "CapturedStep", "CapturedTraining"]

Array = Any
WARM_UP = 3  # eager steps
TOLERANCE = 1e-4  # of the largest number in an array


class CannotCapture(MinigradError, RuntimeError):
    """A step that cannot run as a graph; the message is the reason."""


class CapturedStep:
    """Training steps on a data set that lies on the device, as CUDA graphs.

    Args:
        model: on the device; training mode is switched on.
        optimizer: SGD, Adam or AdamW of all parameters of the model. It stays true: its options may be changed
            between epochs, and its state may be saved.
        dataset: an `ArrayDataset` on the device.
        batch_size: of all batches but the last.
        loss_fn: as for `train_epoch`; without one, cross-entropy, which has a kernel of its own.
        graphs: who captures; default: CUDA.

    Raises:
        CannotCapture: an optimizer, or parameters, that `optim/flat.py` does not know.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Any,
        dataset: Any,
        batch_size: int,
        loss_fn: Loss | None = None,
        graphs: Graphs | None = None,
    ):
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.batch_size = batch_size
        self.graphs = graphs_for(model) if graphs is None else graphs
        self.batches = ResidentBatches(dataset, batch_size)
        self.fused = kernels.serves(backend.namespace(dataset.images))
        xp = self.xp = backend.namespace(dataset.images)
        capacity = -(-len(dataset) // batch_size)
        first = next(iter(model.parameters()))
        self.losses = xp.zeros(capacity, first.array.dtype)
        self.correct = xp.zeros(capacity, np.float64)
        self.counts = xp.zeros(3, np.int64)
        self._graphs: dict[int, Any] = {}
        self._bind()

    # 1. What the graphs are tied to ---

    def _bind(self) -> None:
        """Take over the optimizer's work; forget all graphs."""
        reason = why_not_flat(self.optimizer)
        if reason is not None:
            raise CannotCapture(reason)
        self._graphs.clear()
        self.flat = FlatOptimizer(self.optimizer, self.batches.counters[1:])
        self._structure = self.flat.structure()
        self._bound = self._arrays()

    def _arrays(self) -> list[Array]:
        """What model and optimizer hold."""
        return [*self.flat.bound(), *(b.array for b in self.model.buffers())]

    def _still_bound(self) -> bool:
        """Whether model and optimizer hold the arrays that the graphs know, and options of the same kind."""
        return same_arrays(self._arrays(), self._bound) and self.flat.structure() == self._structure

    def _state(self) -> list[Array]:
        """Everything that a step changes."""
        buffers = [b.array for b in self.model.buffers()]
        return [*self.flat.arrays(), *buffers, self.batches.counters, self.losses, self.correct, self.counts]

    # 2. A step ---

    def _step(self, size: int, table: Table, capturing: bool = False) -> None:
        """One step with the batch that `counters` says, of `size` examples."""
        x, labels = self.batches.gather(size)
        outputs = self.model(Tensor(x))
        fused = self.fused and self.loss_fn is None and _scores(outputs, self.losses.dtype)
        if fused:
            check_classes(outputs, self.batches.dataset)
            rows = loss_kernels.cross_entropy(kernels.contiguous(outputs.array), labels)
            gradients = walk(outputs, rows.gx, False)
        else:
            y = remember_range(Tensor(labels), *self.batches.dataset.label_range)
            loss = (self.loss_fn or F.cross_entropy)(outputs, y)
            gradients = walk(loss, seed(loss, None), False)
        idle = self.flat.without_gradient(gradients)
        if idle is not None:
            raise CannotCapture(f"parameter {idle} of the optimizer gets no gradient")
        self.flat.step(gradients, table, capturing)
        if fused:
            loss_kernels.finish_batch(rows, self.losses, None, self.counts, self.batches.counters)
            return
        self.losses[self.batches.position] = loss.array.reshape(1)
        self.correct[self.batches.position] = correct_on_device(outputs, y).reshape(1)
        self.batches.counters += 1

    def _make(self, size: int, table: Table) -> Any:
        """The graph for batches of `size`: warm up, capture, check. Nothing made in here may be kept: see `epoch`."""
        state = self._state()
        random = backend.random.get_state()
        with self.graphs.working():
            before = [a.copy() for a in state]
            try:
                for _ in range(WARM_UP):
                    _restore(state, before)
                    self._step(size, table)
                expected = [backend.to_numpy(a) for a in state]
                _restore(state, before)
                gc.collect()  # arrays that nobody uses go back to the pool
                graph = self._capture(size, table)
                table.upload()
                _restore(state, before)
                self.graphs.launch(graph)
                difference = _largest_difference([backend.to_numpy(a) for a in state], expected)
            except MemoryError as error:  # without a pool of its own a step needs less
                raise CannotCapture(first_line(error)) from error
            finally:
                _restore(state, before)
                backend.random.set_state(random)
                self.graphs.synchronize()
        if not difference <= TOLERANCE:
            raise CannotCapture(f"a replay differs from the step that was captured, by {difference:.1g}")
        return graph, table  # the graph reads the table

    def _capture(self, size: int, table: Table) -> Any:
        """Capture a step; a second time if the first one fails, since the pool may have to settle down."""
        for attempt in (1, 2):
            try:
                return self.graphs.capture(lambda: self._step(size, table, capturing=True))
            except Exception as error:  # CuPy and CUDA have many classes for this
                self.graphs.synchronize()
                if attempt == 2:
                    raise CannotCapture(first_line(error)) from error
                self._step(size, table)  # one more to warm up; the state is put back afterwards
        raise AssertionError

    # 3. An epoch ---

    def epoch(self, order: np.ndarray, epoch: int = 1, drop_last: bool = False) -> EpochFigures:
        """One pass over the examples `order`, with a step for each batch; nothing is read before the end.

        Args:
            order: numbers of examples, as many as the data set has.
            epoch: its number, for messages.
            drop_last: leave out a last batch that is not full.

        Raises:
            NonFiniteError: a loss that is NaN or infinite, with the number of its batch.
            LabelError: the data set has more classes than the model.
            CannotCapture: see above; model and optimizer are as they were.
        """
        refuse_hooks(self.model)
        self.model.train()
        if not self._still_bound():
            self._bind()
        self.batches.counters[1:].fill(
            FlatOptimizer.steps_made(self.optimizer)
        )  # perhaps there were eager ones
        self.graphs.synchronize()  # the graphs' stream does not wait for what was done to arrays on another one
        full, rest = divmod(len(order), self.batch_size)
        sizes = [self.batch_size] * full + [rest] * (rest > 0 and not drop_last)
        for size in dict.fromkeys(sizes):
            if size not in self._graphs:
                table = (
                    self.flat.table()
                )  # not from the graphs' pool, whose free memory other graphs write into
                self.graphs.synchronize()
                with self.graphs.working():
                    self.batches.begin(order)
                    self._graphs[size] = self._make(size, table)
        totals, started = EpochTotals(epoch, self.optimizer), 0
        with self.graphs.working():
            self.flat.refresh()
            self.batches.begin(order)
            self.counts.fill(0)
            try:
                for size in sizes:
                    self.graphs.launch(self._graphs[size][0])
                    started += 1
            finally:  # Ctrl-C may come at any time; whoever reads the weights then is on another stream
                self.graphs.synchronize()
                self._finished(started)
            losses, correct = backend.to_numpy(self.losses), self._read_correct(len(sizes))
        totals.add(zip(losses[: len(sizes)].tolist(), correct, strict=True), sizes)
        return totals.figures()

    def _finished(self, steps: int) -> None:
        """Tell the optimizer, and everybody who relies on old values of parameters and buffers."""
        self.flat.finished(steps)
        for buffer in self.model.buffers():
            buffer.version[0] += 1
        self._bound = self._arrays()  # after the first step the optimizer has something to remember

    def _read_correct(self, batches: int) -> list[float]:
        """Right answers of each batch; where a kernel has added them up, all of them with the first."""
        if self.fused and self.loss_fn is None:
            right, _, examples = backend.to_numpy(self.counts).tolist()
            if examples:  # the kernel for cross-entropy did the counting
                return [float(right)] + [0.0] * (batches - 1)
        return backend.to_numpy(self.correct)[:batches].tolist()


def graphs_for(model: Module) -> Graphs:
    """The graphs of the device that the model is on."""
    try:
        return CudaGraphs(device_of_model(model).index)
    except Exception as error:  # CuPy and CUDA have many classes for this
        raise CannotCapture(first_line(error)) from error


def refuse_hooks(model: Module) -> None:
    """Hooks are Python, which a graph does not repeat: they would be called while it is made, and then no more."""
    for name, layer in model.named_modules():
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise CannotCapture(f"layer {name!r} has hooks")
    for name, parameter in model.named_parameters():
        if parameter._hooks:
            raise CannotCapture(f"parameter {name!r} has hooks")


def check_classes(outputs: Tensor, dataset: Any) -> None:
    """Refuse outputs (N, classes) with fewer classes than the data set has."""
    high, classes = dataset.label_range[1], outputs.shape[1]
    if high >= classes:
        raise LabelError(
            f"the data set has label {high}: with {classes} classes labels go from 0 to {classes - 1}"
        )


def same_arrays(found: list[Array], expected: list[Array]) -> bool:
    return len(found) == len(expected) and all(a is b for a, b in zip(found, expected, strict=True))


def _scores(outputs: Any, dtype: Any) -> bool:
    """Whether the kernel for cross-entropy takes these outputs."""
    return isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.array.dtype == dtype


def _restore(arrays: list[Array], values: list[Array]) -> None:
    for array, value in zip(arrays, values, strict=True):
        array[...] = value


def _largest_difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Over all arrays: the largest difference, in units of the largest number of its array (at least 1e-3).

    Whole numbers have to be the same: a difference of 1 is a large one.
    """
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.size:
            scale = max(1e-3, float(np.abs(b).max())) if b.dtype.kind == "f" else 1e-3
            difference = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a.astype(np.float64) - b))
            worst = max(worst, float(difference.max() / scale), key=lambda v: (v != v, v))
    return worst


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def keeps_pictures(loader: Any) -> bool:
    """Whether `ResidentBatches` can give the batches of this loader."""
    dataset = getattr(loader, "resident", None)
    as_usual = isinstance(dataset, ArrayDataset) and type(dataset).gather is ArrayDataset.gather
    return as_usual and not (loader.collate_fn or loader.transform)


class CapturedTraining:
    """`train_epoch` for a run: with captured steps where there can be any, and otherwise as it is.

    Args:
        model, loader, optimizer, loss_fn: as for `train_epoch`.
        say: is told once why steps are not captured, if a GPU is there.
        graphs: who captures; default: CUDA on a CUDA device, nobody elsewhere.

    Attributes:
        reason: why steps are not captured; None as long as they are.
    """

    def __init__(
        self,
        model: Module,
        loader: Any,
        optimizer: Any,
        loss_fn: Loss | None = None,
        say: Callable[[str], None] = print,
        graphs: Graphs | None = None,
    ):
        self.model, self.loader, self.optimizer, self.loss_fn = model, loader, optimizer, loss_fn
        self.say, self.graphs = say, graphs
        self.step: CapturedStep | None = None
        self.reason: str | None = None
        if graphs is None and device_of_model(model).type != "cuda":
            self.reason = "the model is not on a GPU"  # nobody has to be told
        elif not keeps_pictures(loader):
            self._give_up("the loader does not keep pictures and labels on the device")

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self.say(f"steps run one kernel at a time and not as a CUDA graph: {reason}")

    def epoch(
        self, epoch: int = 1, on_batch: Callable[[int, EpochFigures], None] | None = None
    ) -> EpochFigures:
        """One pass over the loader. With captured steps `on_batch` is called once, at the end."""
        if self.reason is None:
            order = self.loader.draw_order()
            try:
                if self.step is None:
                    self.step = CapturedStep(
                        self.model,
                        self.optimizer,
                        self.loader.resident,
                        self.loader.batch_size,
                        self.loss_fn,
                        self.graphs,
                    )
                figures = self.step.epoch(order, epoch, self.loader.drop_last)
            except CannotCapture as error:
                self.step = None
                self._give_up(str(error))
                return self._eager(self.loader.in_order(order), epoch, on_batch)
            if on_batch is not None:
                on_batch(len(self.loader), figures)
            return figures
        return self._eager(self.loader, epoch, on_batch)

    def _eager(self, batches: Any, epoch: int, on_batch: Any) -> EpochFigures:
        return train_epoch(self.model, batches, self.optimizer, self.loss_fn, epoch=epoch, on_batch=on_batch)
