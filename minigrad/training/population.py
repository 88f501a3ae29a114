"""Batch norm for prediction with the statistics of the whole training set.

In training a batch-norm layer uses the mean and variance of its batch. For prediction it needs fixed ones,
and there are two ways to get them:

1. Moving averages, collected during training. They are free, but they mix statistics from many steps, and the
   weights have changed in between. At a learning rate of 1.0 they lag far behind, and the test accuracy
   jumps from epoch to epoch.
2. Population statistics (Ioffe and Szegedy 2015, Algorithm 2): when training is over, the weights are
   frozen, the training set goes through the network once more, and for each layer

       E[x]   = mean over the batches of their means
       Var[x] = mean over the batches of m/(m - 1) * their variances       m values per channel and batch

`population_statistics` does the second. As in Algorithm 2 each batch is normalised by its own statistics
while it passes, so a layer sees what it saw in training, and all layers are measured in one pass. Batches may
differ in size: they are weighted by their values, which is the pooled variance

    Var[x] = sum of m * variance / sum of (m - 1)

and equals the paper's formula when all batches are of one size. Sums are kept in float64.

Any layer that has `running_mean` and `running_var`, or `moving_mean` and `moving_var`, counts as batch norm:
nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm, and one written by the reader.

Reading order: `Sums`, `measure`, then the two public functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.errors import ArgumentError, NonFiniteError
from minigrad.grad_mode import enable_grad, no_grad
from minigrad.nn.functional.norm import channel_axes
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.tensor import Tensor
from minigrad.training.loop import device_of_model, evaluation_mode

__all__ = ["Statistics", "batch_norm_layers", "population_statistics", "using_population_statistics"]

AVERAGES = (("running_mean", "running_var"), ("moving_mean", "moving_var"))


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of one layer's input over the whole training set, each (C,), float64 on the host."""

    mean: np.ndarray
    var: np.ndarray


class Sums:
    """Adds up the batches of one layer."""

    def __init__(self) -> None:
        self.values = 0  # sum of m
        self.freedom = 0  # sum of m - 1
        self.mean: Any = 0.0  # sum of m * mean
        self.var: Any = 0.0  # sum of m * var

    def add(self, x: Any) -> None:
        """Takes in one batch: an array (N, C) or (N, C, ...)."""
        axes = channel_axes(x.ndim)
        m = x.size // x.shape[1]
        if m == 0:
            return
        self.values += m
        self.freedom += m - 1
        self.mean = self.mean + m * x.mean(axis=axes, dtype=np.float64)
        self.var = self.var + m * x.var(axis=axes, dtype=np.float64)

    def statistics(self, name: str) -> Statistics:
        if self.freedom == 0:
            raise ArgumentError(
                f"population_statistics: layer {name} got one value per channel in each batch, which has no "
                "variance; use larger batches"
            )
        mean = backend.to_numpy(self.mean / self.values)
        var = backend.to_numpy(self.var / self.freedom)
        if not (np.isfinite(mean).all() and np.isfinite(var).all()):
            raise NonFiniteError(f"population_statistics: the inputs of layer {name} are not finite numbers")
        return Statistics(mean, var)


# 1. Measuring ---


def batch_norm_layers(model: Module) -> dict[str, tuple[Module, str, str]]:
    """Name -> (layer, name of its mean, name of its variance), for each layer that keeps averages.

    >>> from minigrad import nn
    >>> list(batch_norm_layers(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))))
    ['1']
    """
    found = {}
    for name, module in model.named_modules():
        for mean, var in AVERAGES:
            if isinstance(getattr(module, mean, None), Tensor) and isinstance(
                getattr(module, var, None), Tensor
            ):
                found[name] = (module, mean, var)
    return found


def measure(model: Module, loader: Any) -> dict[str, Statistics]:
    """The population statistics of each batch-norm layer that the model uses; the model is left as it was."""
    layers = batch_norm_layers(model)
    sums = {name: Sums() for name in layers}
    device = device_of_model(model)
    with _frozen(model), _state_kept([layer for layer, _, _ in layers.values()]), evaluation_mode(model):
        handles = []
        for name, (layer, _, _) in layers.items():
            layer.train()  # only these: dropout, for one, is off in prediction
            handles.append(layer.register_forward_pre_hook(_adding_to(sums[name])))
        try:
            for batch in loader if layers else ():
                model(batch[0].to(device))
        finally:
            for handle in handles:
                handle.remove()
    if layers and not any(total.values for total in sums.values()):
        raise ArgumentError("population_statistics: the loader gave no examples")
    return {name: total.statistics(name) for name, total in sums.items() if total.values}


def _adding_to(total: Sums) -> Any:
    def hook(module: Module, args: tuple[Any, ...]) -> None:
        total.add(args[0].array)

    return hook


@contextmanager
def _frozen(model: Module) -> Iterator[None]:
    """No gradients for the block, though they count as enabled.

    The tutorial's own layer asks `is_grad_enabled()` whether it is in training, so no_grad would not do here.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad = False
    try:
        with enable_grad():
            yield
    finally:
        for parameter in learned:
            parameter.requires_grad = True


@contextmanager
def _state_kept(layers: list[Module]) -> Iterator[None]:
    """Puts averages and counters of the layers back after the block."""
    kept = [
        (layer, name, value.array.copy())
        for layer in layers
        for name, value in vars(layer).items()
        if isinstance(value, Tensor) and not isinstance(value, Parameter)
    ]
    try:
        yield
    finally:
        for layer, name, array in kept:
            _write(layer, name, array)


def _write(layer: Module, name: str, array: Any) -> None:
    """Copies an array into a tensor of the layer."""
    with no_grad():
        target = getattr(layer, name)
        target.copy_(Tensor(array.reshape(target.shape)))


# 2. What users call ---


def population_statistics(model: Module, loader: Any) -> dict[str, Statistics]:
    """Replaces the moving averages of every batch-norm layer by the statistics of the whole training set.

    Weights, modes, counters and everything else stay as they are.

    Args:
        loader: batches of the training set, their first entry the input; mixed and of about the size used
            in training.

    Returns:
        What was measured, by the layer's name; empty for a model without batch norm.

    Raises:
        ArgumentError: the loader is empty, or no batch has more than one value per channel.
        NonFiniteError: a layer's input is NaN or infinite; the model is unchanged then.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.BatchNorm1d(1))
    >>> _ = population_statistics(model, [(mg.tensor([[1.0], [3.0]]),), (mg.tensor([[5.0], [7.0]]),)])
    >>> model[0].running_mean, model[0].running_var  # means 2 and 6; variances 1 and 1, times 2 / (2 - 1)
    (tensor([4.]), tensor([2.]))
    """
    found = measure(model, loader)
    layers = batch_norm_layers(model)
    for name, statistics in found.items():
        layer, mean, var = layers[name]
        _write(layer, mean, statistics.mean)
        _write(layer, var, statistics.var)
    return found


@contextmanager
def using_population_statistics(model: Module, loader: Any) -> Iterator[dict[str, Statistics]]:
    """Population statistics for the block; afterwards the moving averages are there again.

    with using_population_statistics(model, train_loader):
        print("with population statistics:", evaluate(model, test_loader))
    print("with moving averages:", evaluate(model, test_loader))
    """
    with _state_kept([layer for layer, _, _ in batch_norm_layers(model).values()]):
        yield population_statistics(model, loader)
