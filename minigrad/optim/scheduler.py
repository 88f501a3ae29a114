"""What all learning-rate plans share; the plans themselves are in `lr_scheduler.py`.

A plan is a formula for the learning rate at epoch t in terms of the rate that a group began with. If
somebody else has changed the learning rate since (another scheduler on the same optimizer, or a line of
yours), the plan goes on from there: it is scaled by the same factor. So two schedulers on one optimizer
multiply, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.errors import ArgumentError, DtypeError
from minigrad.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "between", "whole"]


def whole(owner: str, name: str, value: Any, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ArgumentError(f"{owner}: {name} must be a whole number of at least {low}, got {value!r}")
    return value


def between(owner: str, name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ArgumentError(f"{owner}: {name} must be between {low:g} and {high:g}, got {value}")
    return value


class LRScheduler:
    """Base of the plans; a subclass gives `get_lr`, the learning rate of each group at `self.last_epoch`.

    Args:
        optimizer: whose groups' "lr" are set.
        last_epoch: -1 to begin; the last finished epoch to go on, where each group holds its "initial_lr".

    Attributes:
        base_lrs: the learning rate of each group at the beginning.
        last_epoch: the epoch that the current learning rates are for, from 0.

    >>> import minigrad as mg
    >>> class Halving(mg.optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [lr * 0.5**self.last_epoch for lr in self.base_lrs]
    >>> optimizer = mg.optim.SGD([mg.zeros(1)], lr=1.0)
    >>> scheduler = Halving(optimizer)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    follows_others = True  # False: what others did to the learning rate is overwritten, as in PyTorch

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(f"{name}: expected an optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"{name}: group {i} has no 'initial_lr', which last_epoch={last_epoch} needs; "
                    "load the optimizer's state_dict first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = whole(name, "last_epoch", last_epoch, low=-1)
        self._last_lr = list(self.base_lrs) if last_epoch == -1 else self.get_lr()
        self.step()

    def get_lr(self) -> list[float]:
        """The learning rate of each group at `self.last_epoch`."""
        raise TypeError(f"{type(self).__name__} needs a method get_lr()")

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last step set, one a group."""
        return list(self._last_lr)

    def step(self) -> None:
        """Go to the next epoch: call it after the epoch's training."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                f"{type(self).__name__}: the optimizer had {len(self.base_lrs)} groups, now it has "
                f"{len(groups)}; make the scheduler after the last add_param_group"
            )
        if self.follows_others:
            for i, (group, mine) in enumerate(zip(groups, self._last_lr, strict=True)):
                if group["lr"] != mine and mine != 0:
                    self.base_lrs[i] *= group["lr"] / mine
        self.last_epoch += 1
        self._set(self.get_lr())

    def _set(self, rates: Sequence[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = list(rates)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions, as plain numbers."""
        return {k: v for k, v in vars(self).items() if k not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; the optimizer has a state of its own."""
        own = self.state_dict()
        if set(state_dict) != set(own):
            raise ArgumentError(
                f"{type(self).__name__}: the saved state is that of another scheduler: it holds "
                f"{', '.join(sorted(state_dict))}; needed are {', '.join(sorted(own))}"
            )
        vars(self).update({k: list(v) if isinstance(v, (list, tuple)) else v for k, v in state_dict.items()})
