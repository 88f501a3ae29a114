"""Sums, times and scores, as the tutorial keeps them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minigrad.errors import ShapeError
from minigrad.grad_mode import no_grad
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.training.loop import evaluate

__all__ = ["Accumulator", "Timer", "accuracy", "evaluate_accuracy", "evaluate_accuracy_gpu", "evaluate_loss"]


class Accumulator:
    """n sums.

    >>> metric = Accumulator(2)
    >>> metric.add(1, 10); metric.add(2, 20)
    >>> metric[0], metric[1]
    (3.0, 30.0)
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        self.data = [total + float(value) for total, value in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        self.data = [0.0] * len(self.data)

    def __getitem__(self, index: int) -> float:
        return self.data[index]


class Timer:
    """A stopwatch that keeps its laps; it starts when it is made."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Ends a lap; its seconds."""
        self.times.append(time.perf_counter() - self._started)
        return self.times[-1]

    def avg(self) -> float:
        return self.sum() / len(self.times)

    def sum(self) -> float:
        return sum(self.times)

    def cumsum(self) -> list[float]:
        return np.cumsum(self.times).tolist()


def accuracy(y_hat: Tensor, y: Tensor) -> float:
    """The number of right predictions: y_hat is (N, classes) scores, or (N,) classes."""
    if y_hat.ndim > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.detach().argmax(dim=1)
    if y_hat.shape != y.shape:
        raise ShapeError(f"accuracy: y_hat {y_hat.shape} and y {y.shape} do not fit together")
    return float((y_hat.detach().astype(y.dtype) == y).sum().item())


def evaluate_accuracy(net: Any, data_iter: Iterable[Any]) -> float:
    """The share of right predictions; a Module is put into evaluation mode for it."""
    if isinstance(net, Module):
        return evaluate(net, data_iter)
    metric = Accumulator(2)
    with no_grad():
        for X, y in data_iter:
            metric.add(accuracy(net(X), y), y.numel())
    return metric[0] / metric[1]


def evaluate_accuracy_gpu(net: Any, data_iter: Iterable[Any], device: Any = None) -> float:
    """The same on a device; default: that of the net's parameters."""
    if device is not None and isinstance(net, Module):
        net.to(device)
    return evaluate_accuracy(net, data_iter)


def evaluate_loss(net: Any, data_iter: Iterable[Any], loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean of a loss over all its elements; the loss gives one for each example, or their mean."""
    metric = Accumulator(2)
    with no_grad():
        for X, y in data_iter:
            out = net(X)
            value = loss(out, y.reshape(out.shape) if y.numel() == out.numel() else y)
            elements = value.numel() if value.ndim else y.shape[0]
            metric.add(value.mean().item() * elements, elements)
    return metric[0] / metric[1]
