"""Plans by which the learning rate changes from epoch to epoch.

    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
    for epoch in range(10):
        train_one_epoch()
        scheduler.step()

Names and values are PyTorch's. Each plan is a formula for lr at epoch t in terms of lr0, the learning rate
at the beginning. `SequentialLR` runs one plan after the other, for example a warm-up first.
`scheduler.py` holds what the plans share, `plateau.py` the one that looks at the loss instead of the clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigrad.errors import ArgumentError
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.plateau import ReduceLROnPlateau
from minigrad.optim.scheduler import LRScheduler, between, whole

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


# 1. Formulas --------------------------------------------------------------------------------------------


class LambdaLR(LRScheduler):
    """lr = lr0 f(t), with a function f of your own, or one a group.

    Functions are not saved by `state_dict`.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.zeros(1)], lr=1.0)
    >>> scheduler = mg.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> scheduler.step(); scheduler.get_last_lr()
    [0.5]
    """

    follows_others = False

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ):
        count = len(getattr(optimizer, "param_groups", [None]))
        functions = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(functions) != count:
            raise ArgumentError(f"LambdaLR: {len(functions)} functions for {count} parameter groups")
        self.lr_lambdas = functions
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [lr * f(self.last_epoch) for lr, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class _Factor(LRScheduler):
    """lr = lr0 factor(t), the same factor for each group."""

    def _factor(self, t: int) -> float:
        raise TypeError(f"{type(self).__name__} needs a method _factor(t)")

    def get_lr(self) -> list[float]:
        factor = self._factor(self.last_epoch)
        return [lr * factor for lr in self.base_lrs]


class StepLR(_Factor):
    """lr = lr0 gamma^(t // step_size): times gamma every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size, self.gamma = whole("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.gamma ** (t // self.step_size)


class MultiStepLR(_Factor):
    """lr = lr0 gamma^k, where k milestones have been reached."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ):
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.gamma ** bisect_right(self.milestones, t)


class ExponentialLR(_Factor):
    """lr = lr0 gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.gamma**t


class ConstantLR(_Factor):
    """lr = lr0 factor for the first total_iters epochs, then lr0."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1
    ):
        self.factor = between("ConstantLR", "factor", factor, 0, 1)
        self.total_iters = whole("ConstantLR", "total_iters", total_iters, low=0)
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.factor if t < self.total_iters else 1.0


class LinearLR(_Factor):
    """In a straight line from lr0 start_factor to lr0 end_factor within total_iters epochs: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 < start_factor <= 1:
            raise ArgumentError(f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}")
        self.start_factor = start_factor
        self.end_factor = between("LinearLR", "end_factor", end_factor, 0, 1)
        self.total_iters = whole("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        done = min(t, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class PolynomialLR(_Factor):
    """lr = lr0 (1 - t / total_iters)^power, then 0."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters = whole("PolynomialLR", "total_iters", total_iters)
        self.power = power
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return float((1 - min(t, self.total_iters) / self.total_iters) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (lr0 - eta_min) (1 + cos(pi t / T_max)) / 2: from lr0 down to eta_min in T_max epochs.

    Afterwards it rises again. I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", ICLR 2017, equation 5, without the restarts.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.zeros(1)], lr=1.0)
    >>> scheduler = mg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> scheduler.step(); round(scheduler.get_last_lr()[0], 6)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max, self.eta_min = whole("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        part = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (lr - self.eta_min) * part for lr in self.base_lrs]


# 2. Without a formula of their own -------------------------------------------------------------------------


class SequentialLR(LRScheduler):
    """One plan after the other: `schedulers[k]` begins, at its epoch 0, when `milestones[k - 1]` is reached.

    >>> import minigrad as mg
    >>> from minigrad.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR
    >>> optimizer = mg.optim.SGD([mg.zeros(1)], lr=1.0)
    >>> warm_up, decay = ConstantLR(optimizer, factor=0.25), ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = SequentialLR(optimizer, [warm_up, decay], milestones=[2])
    >>> rates = scheduler.get_last_lr()
    >>> for epoch in range(4):
    ...     scheduler.step(); rates += scheduler.get_last_lr()
    >>> rates
    [0.25, 0.25, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ):
        if len(schedulers) != len(milestones) + 1:
            raise ArgumentError(
                f"SequentialLR: needs one scheduler more than milestones, "
                f"got {len(schedulers)} schedulers and {len(milestones)} milestones"
            )
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
                raise ArgumentError(f"SequentialLR: cannot run scheduler {i}, a {type(scheduler).__name__}")
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(f"SequentialLR: scheduler {i} belongs to another optimizer")
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        for group in optimizer.param_groups:  # making the schedulers has changed it
            group["lr"] = group["initial_lr"]
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        k = bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[k]
        current.base_lrs = list(self.base_lrs)
        current.last_epoch = self.last_epoch - (self.milestones[k - 1] if k else 0)
        return current.get_lr()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        schedulers = self.schedulers
        super().load_state_dict(state_dict)
        self.schedulers = schedulers
        for scheduler, state in zip(schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)
