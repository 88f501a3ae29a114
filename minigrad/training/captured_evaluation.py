"""Evaluation as one CUDA graph a batch: the accuracy on a data set that lies on the device. See `captured.py`.

`CapturedEvaluation` makes the graphs and starts them; `CapturedTesting` is what a run uses, with `evaluate` where
there can be none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.backend.graphs import Graphs
from minigrad.errors import NonFiniteError, ShapeError
from minigrad.grad_mode import no_grad
from minigrad.kernels.cuda import loss as loss_kernels
from minigrad.kernels.cuda import module as kernels
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.training.batches import ResidentBatches
from minigrad.training.captured import (
    WARM_UP,
    CannotCapture,
    check_classes,
    first_line,
    graphs_for,
    keeps_pictures,
    refuse_hooks,
    same_arrays,
)
from minigrad.training.loop import correct_on_device, device_of_model, evaluate, evaluation_mode

__all__ = ["CapturedEvaluation", "CapturedTesting"]

Array = Any


class CapturedEvaluation:
    """`evaluate` as CUDA graphs, which read the weights anew each time.

    Args:
        model: on the device.
        dataset: an `ArrayDataset` on the device.
        batch_size: of all batches but the last.
        graphs: who captures; default: CUDA.

    Raises:
        CannotCapture: there can be no graphs on this device.
    """

    def __init__(self, model: Module, dataset: Any, batch_size: int, graphs: Graphs | None = None):
        self.model, self.batch_size = model, batch_size
        self.graphs = graphs_for(model) if graphs is None else graphs
        self.batches = ResidentBatches(dataset, batch_size)
        self.xp = backend.namespace(dataset.images)
        self.fused = kernels.serves(self.xp)
        capacity = -(-len(dataset) // batch_size)
        # Of each batch a number that is finite if its outputs are; of all batches how many answers are right.
        self.finite = self.xp.zeros(capacity, next(iter(model.parameters())).array.dtype)
        self.counts = self.xp.zeros(3, np.int64)
        self._graphs: dict[int, Any] = {}
        self._bound: list[Array] = []  # the arrays that the graphs know

    def _look(self, size: int) -> None:
        """What is done with the batch that `counters` says, of `size` examples."""
        x, labels = self.batches.gather(size)
        outputs = self.model(Tensor(x))
        if outputs.ndim != 2:
            raise ShapeError(f"evaluate: the model must give (N, classes), got shape {outputs.shape}")
        check_classes(outputs, self.batches.dataset)
        array = outputs.array
        if self.fused and array.dtype == self.finite.dtype:
            rows = loss_kernels.cross_entropy(kernels.contiguous(array), labels, need_gradient=False)
            loss_kernels.finish_batch(rows, self.finite, None, self.counts, self.batches.counters)
            return
        self.finite[self.batches.position] = self.xp.where(self.xp.isfinite(array).all(), 0.0, np.nan)
        right = self.counts[:1]
        right += correct_on_device(outputs, Tensor(labels))
        self.batches.counters += 1

    def _graph(self, size: int) -> Any:
        """The graph for batches of `size`."""
        if size not in self._graphs:
            for _ in range(WARM_UP):
                self.batches.position.fill(0)  # there may be no further batch of this size
                self._look(size)
            try:
                self._graphs[size] = self.graphs.capture(lambda: self._look(size))
            except Exception as error:  # CuPy and CUDA have many classes for this
                raise CannotCapture(first_line(error)) from error
        return self._graphs[size]

    def epoch(self, order: np.ndarray | None = None) -> float:
        """The share of examples whose largest output is at the label, over `order` or the whole data set.

        Raises:
            NonFiniteError: outputs that are NaN or infinite, with the number of their batch.
            ShapeError: outputs that are not (N, classes).
            LabelError: the data set has more classes than the model.
            CannotCapture: the model cannot be captured.
        """
        refuse_hooks(self.model)
        order = np.arange(len(self.batches.dataset)) if order is None else order
        full, rest = divmod(len(order), self.batch_size)
        sizes = [self.batch_size] * full + [rest] * (rest > 0)
        held = [t.array for t in (*self.model.parameters(), *self.model.buffers())]
        if not same_arrays(held, self._bound):
            self._graphs.clear()
            self._bound = held
        self.graphs.synchronize()  # what was done to the weights elsewhere
        with evaluation_mode(self.model), no_grad(), self.graphs.working():
            self.batches.begin(order)
            graphs = {size: self._graph(size) for size in dict.fromkeys(sizes)}
            self.batches.position.fill(0)
            self.counts.fill(0)
            for size in sizes:
                self.graphs.launch(graphs[size])
            correct, finite = int(backend.to_numpy(self.counts)[0]), backend.to_numpy(self.finite)
        bad = ~np.isfinite(finite[: len(sizes)])
        if bad.any():
            number = int(bad.argmax()) + 1
            raise NonFiniteError(f"evaluate: the model's outputs for batch {number} are not finite numbers")
        return correct / len(order)


class CapturedTesting:
    """`evaluate` for a run: as CUDA graphs where there can be any, and otherwise as it is.

    Args:
        model, loader: as for `evaluate`.
        say: is told once why there are no graphs, if a GPU is there.
        graphs: who captures; default: CUDA on a CUDA device, nobody elsewhere.

    Attributes:
        reason: why there are no graphs; None as long as there are.
    """

    def __init__(
        self, model: Module, loader: Any, say: Callable[[str], None] = print, graphs: Graphs | None = None
    ):
        self.model, self.loader, self.say, self.graphs = model, loader, say, graphs
        self.evaluation: CapturedEvaluation | None = None
        self.reason: str | None = None
        if graphs is None and device_of_model(model).type != "cuda":
            self.reason = "the model is not on a GPU"  # nobody has to be told
        elif not keeps_pictures(loader):
            self._give_up("the loader does not keep pictures and labels on the device")

    def _give_up(self, reason: str) -> None:
        self.reason, self.evaluation = reason, None
        self.say(f"evaluation runs one kernel at a time and not as a CUDA graph: {reason}")

    def accuracy(self) -> float:
        """The share of examples in the loader whose largest output is at the label; see `evaluate`."""
        if self.reason is not None:
            return evaluate(self.model, self.loader)
        size = self.loader.batch_size
        order = self.loader.draw_order()
        try:
            if self.evaluation is None:
                self.evaluation = CapturedEvaluation(self.model, self.loader.resident, size, self.graphs)
            return self.evaluation.epoch(order[: len(self.loader) * size])  # drop_last leaves out the rest
        except CannotCapture as error:
            self._give_up(str(error))
            return evaluate(self.model, self.loader.in_order(order))
