"""Small helpers that many experiments use, over the public API.

train_steps       so many steps of SGD on shuffled batches
accuracy          of a model on pictures
subset            some examples of a data set, all classes alike
mean_and_spread   "0.874 ± 0.006 (3 seeds)"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import minigrad.nn.functional as F
from minigrad import data, optim, training
from minigrad.errors import ArgumentError
from minigrad.experiments.context import Context
from minigrad.nn.module import Module
from minigrad.tensor import Tensor

__all__ = ["accuracy", "batches", "mean_and_spread", "subset", "train_steps"]


def train_steps(
    model: Module,
    X: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    optimizer: Any = None,
    momentum: float = 0.0,
    context: Context | None = None,
    what: str = "",
    every: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> int | None:
    """`steps` steps on shuffled batches of X and labels y, with cross-entropy; the model is in training mode.

    Args:
        seed: of the order of the examples; an epoch ends where no full batch is left.
        optimizer: default: SGD with `lr` and `momentum`.
        context, what: for the progress bar.
        every: call `on_step` after each so many steps only, and after the last.
        on_step: called with the number of the step, from 1, and the loss of its batch. The model is in
            training mode again afterwards, whatever it did.

    Returns:
        None; or, if the loss is no longer a finite number, the number of that step, which was not taken.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> X, y = mg.randn(8, 3), mg.tensor([0, 1] * 4)
    >>> train_steps(nn.Linear(3, 2), X, y, steps=5, batch=4, lr=0.1, seed=0, every=2,
    ...             on_step=lambda step, loss: print(step))
    2
    4
    5
    """
    if optimizer is None:
        optimizer = optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    context = Context() if context is None else context
    drawn = batches(X, y, batch, seed)
    model.train()
    with np.errstate(all="ignore"):  # overflow shows in the loss; NumPy's warning would only repeat it
        for step in context.steps(steps, what):
            Xb, yb = next(drawn)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(Xb), yb)
            value = loss.item()
            if not math.isfinite(value):
                return step + 1
            loss.backward()
            optimizer.step()
            last = step + 1 == steps
            if on_step is not None and (every is None or (step + 1) % every == 0 or last):
                on_step(step + 1, value)
                model.train()
    return None


def batches(X: Tensor, y: Tensor, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end: epochs in random order, each without its last batch if that is not full.

    A batch larger than the data set is the data set.
    """
    loader = data.DataLoader(
        data.TensorDataset(X, y),
        min(batch, len(X)),
        shuffle=True,
        drop_last=True,
        generator=np.random.default_rng(seed),
    )
    while True:
        yield from loader


def accuracy(model: Module, X: Tensor, y: Tensor, batch: int = 1000) -> float:
    """The share of right answers in evaluation mode; the model's mode stays as it was."""
    return training.evaluate(model, data.DataLoader(data.TensorDataset(X, y), batch))


def subset(X: Tensor, y: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n random examples, as many of each class as there can be; all of them in their order if n is not smaller.

    >>> import minigrad as mg
    >>> X, y = mg.arange(10), mg.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    >>> sorted(subset(X, y, 4, seed=0)[1].tolist())
    [0, 0, 1, 1]
    """
    if n < 1:
        raise ArgumentError(f"subset: n must be at least 1, got {n}")
    if n >= len(y):
        return X, y
    labels = y.numpy()
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)  # the how-manieth of its class each example is
    for label in np.unique(labels):
        mine = labels[order] == label
        turn[mine] = np.arange(mine.sum())
    chosen = order[np.argsort(turn, kind="stable")[:n]]
    chosen = np.sort(chosen)
    return X[chosen], y[chosen]


def mean_and_spread(values: Iterable[float], digits: int = 3) -> str:
    """Mean and standard deviation (n - 1) over seeds, to read.

    >>> mean_and_spread([0.87, 0.88, 0.86])
    '0.870 ± 0.010 (3 seeds)'
    >>> mean_and_spread([0.5])
    '0.500 (1 seed)'
    """
    numbers = np.array(list(values), dtype=np.float64)
    if not len(numbers):
        raise ArgumentError("mean_and_spread: there are no values")
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f} (1 seed)"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f} ({len(numbers)} seeds)"
