"""Evaluation as one CUDA graph a batch: the accuracy on a data set that lies on the device. See `captured.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.backend.graphs import CudaGraphs, Graphs
from minigrad.errors import LabelError, NonFiniteError
from minigrad.grad_mode import no_grad
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.training.batches import ResidentBatches
from minigrad.training.captured import WARM_UP, CannotCapture
from minigrad.training.loop import correct_on_device, device_of_model, evaluation_mode

__all__ = ["CapturedEvaluation"]


class CapturedEvaluation:
    """`evaluate` as CUDA graphs. The weights are read anew each time; arrays may not be exchanged for others.

    Args:
        model: on the device.
        dataset: an `ArrayDataset` on the device.
        batch_size: of all batches but the last.
        graphs: who captures; default: CUDA.
    """

    def __init__(self, model: Module, dataset: Any, batch_size: int, graphs: Graphs | None = None):
        self.model, self.batch_size = model, batch_size
        self.graphs: Graphs = CudaGraphs(device_of_model(model).index) if graphs is None else graphs
        self.batches = ResidentBatches(dataset, batch_size)
        xp = backend.namespace(dataset.images)
        self.correct, self.finite = xp.zeros(1, np.int64), xp.ones(1, bool)
        self._graphs: dict[int, Any] = {}

    def _look(self, size: int) -> None:
        x, labels = self.batches.gather(size)
        outputs = self.model(Tensor(x))
        high = self.batches.dataset.label_range[1]
        if outputs.ndim != 2 or high >= outputs.shape[1]:
            raise LabelError(f"the data set has label {high}, the model gives shape {outputs.shape}")
        self.correct += correct_on_device(outputs, Tensor(labels))
        self.finite &= backend.namespace(x).isfinite(outputs.array).all()
        self.batches.counters += 1

    def _graph(self, size: int) -> Any:
        if size not in self._graphs:
            for _ in range(WARM_UP):
                self._look(size)
            try:
                self._graphs[size] = self.graphs.capture(lambda: self._look(size))
            except Exception as error:  # CuPy and CUDA have many classes for this
                raise CannotCapture(f"{type(error).__name__}: {error}") from error
        return self._graphs[size]

    def epoch(self, order: np.ndarray | None = None) -> float:
        """The share of examples whose largest output is at the label, over `order` or the whole data set.

        Raises:
            NonFiniteError: outputs that are NaN or infinite.
            LabelError: the data set has more classes than the model.
            CannotCapture: the model cannot be captured.
        """
        order = np.arange(len(self.batches.dataset)) if order is None else order
        full, rest = divmod(len(order), self.batch_size)
        sizes = [self.batch_size] * full + [rest] * (rest > 0)
        self.graphs.synchronize()  # what was done to the weights elsewhere
        with evaluation_mode(self.model), no_grad(), self.graphs.working():
            self.batches.begin(order)
            graphs = {size: self._graph(size) for size in dict.fromkeys(sizes)}
            self.batches.begin(order)
            self.correct.fill(0)
            self.finite.fill(True)
            for size in sizes:
                self.graphs.launch(graphs[size])
            correct, finite = int(backend.to_numpy(self.correct)[0]), bool(backend.to_numpy(self.finite)[0])
        if not finite:
            raise NonFiniteError("evaluate: the model's outputs are not finite numbers")
        return correct / len(order)
