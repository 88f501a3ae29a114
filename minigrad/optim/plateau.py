"""A learning rate that falls when a figure stops improving; plans with a formula are in `lr_scheduler.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigrad.errors import ArgumentError, DtypeError
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.scheduler import LRScheduler

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Times `factor` when a figure has not become better for more than `patience` epochs.

    Args:
        optimizer: whose groups' "lr" are set.
        mode: "min" if smaller is better (a loss), "max" if larger is (an accuracy).
        factor: below 1.
        patience: epochs without improvement that are put up with.
        threshold: what counts as better: by this part of the best ("rel") or by this much ("abs").
        threshold_mode: "rel" or "abs".
        cooldown: epochs after a reduction in which nothing is counted.
        min_lr: no learning rate goes below this; a number, or one for each group.
        eps: a change smaller than this is not made.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.zeros(1)], lr=1.0)
    >>> scheduler = mg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.5, 2.5):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ):
        name = "ReduceLROnPlateau"
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(f"{name}: expected an optimizer, got {type(optimizer).__name__}")
        if factor >= 1:
            raise ArgumentError(f"{name}: factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ArgumentError(f"{name}: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(f"{name}: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        count = len(optimizer.param_groups)
        self.min_lrs = [float(lr) for lr in (min_lr if isinstance(min_lr, Sequence) else [min_lr] * count)]
        if len(self.min_lrs) != count:
            raise ArgumentError(f"{name}: {len(self.min_lrs)} values of min_lr for {count} parameter groups")
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.eps = threshold, threshold_mode, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Report the figure of one more epoch."""
        self.last_epoch += 1
        value = float(metrics)
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for i, lr in enumerate(rates):
                lower = max(lr * self.factor, self.min_lrs[i])
                rates[i] = lower if lr - lower > self.eps else lr
        self._set(rates)
