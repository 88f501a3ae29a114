"""What a run gives back, and the closing lines that the tutorial prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.nn.module import Module
from minigrad.training.population import batch_norm_layers
from minigrad.training.recorder import EpochRow
from minigrad.training.settings import Settings

__all__ = ["Result", "RunInterrupted", "examples_per_second", "first_batch_norm"]

WHY = (
    "why they differ: moving averages lag behind weights that change in every step; population statistics "
    "are measured on the whole training set with the final weights"
)


@dataclass
class Result:
    """A run: its settings, its model, and what was reached.

    Attributes:
        settings: all of them, resolved.
        model: trained, in evaluation mode, with the moving averages of its batch norms. After Ctrl-C in the
            middle of an epoch, the model of that moment; the folder has that of the last finished epoch.
        device: "cpu" or "cuda:0".
        dataset: name of the pictures that were really used; dataset_title: as people write it.
        history: one row for each finished epoch.
        folder: where the files are.
        population_acc: test accuracy with population statistics, if it was asked for.
        interrupted: whether Ctrl-C ended it.
    """

    settings: Settings
    model: Module
    device: str
    dataset: str
    dataset_title: str
    folder: Path
    history: list[EpochRow] = field(default_factory=list)
    population_acc: float | None = None
    interrupted: bool = False

    @property
    def loss(self) -> float:
        """Training loss of the last epoch."""
        return self.history[-1].train_loss

    @property
    def train_acc(self) -> float:
        """Training accuracy of the last epoch."""
        return self.history[-1].train_acc

    @property
    def test_acc(self) -> float:
        """Test accuracy after the last epoch, with the moving averages."""
        return self.history[-1].test_acc

    def figures(self) -> dict[str, Any]:
        """What was reached, for run.json; empty before the end of the first epoch."""
        if not self.history:
            return {}
        figures: dict[str, Any] = {
            "train_loss": self.loss,
            "train_acc": self.train_acc,
            "test_acc": self.test_acc,
            "examples_per_second": examples_per_second(self.history),
            "best_test_acc": max(row.test_acc for row in self.history),
        }
        if self.population_acc is not None:
            figures["population_test_acc"] = self.population_acc
        return figures

    def summary(self) -> list[str]:
        """The closing lines, the first two as the tutorial prints them."""
        lines = []
        if self.history:
            lines = [
                f"loss {self.loss:.3f}, train acc {self.train_acc:.3f}, test acc {self.test_acc:.3f}",
                f"{examples_per_second(self.history):.1f} examples/sec on {self.device}",
            ]
        if self.population_acc is not None:
            lines += [f"population statistics: test acc {self.population_acc:.3f}", WHY]
        for name, values in zip(("gamma", "beta"), first_batch_norm(self.model), strict=False):
            label = f"{name:<5} of the first batch norm: "
            text = np.array2string(values, 100, precision=4, separator=", ", threshold=40, prefix=label)
            lines.append(label + text)
        if self.dataset != "fashion_mnist":
            lines.append(f"data set: {self.dataset_title}; its figures are not those of Fashion-MNIST")
        return lines


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run. What the run had is saved; `result` says what and where."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"interrupted; what the run has so far is in {result.folder}")
        self.result = result


def examples_per_second(history: Sequence[EpochRow]) -> float:
    """Training speed over all epochs."""
    examples = sum(row.examples_per_second * row.seconds for row in history)
    return examples / max(sum(row.seconds for row in history), 1e-9)


def first_batch_norm(model: Module) -> list[np.ndarray]:
    """Gamma and beta of the first batch norm, each (C,); empty if the model has none.

    >>> from minigrad import nn
    >>> first_batch_norm(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    [array([1., 1., 1.], dtype=float32), array([0., 0., 0.], dtype=float32)]
    """
    for layer, _, _ in batch_norm_layers(model).values():
        for names in (("gamma", "beta"), ("weight", "bias")):
            pair = [getattr(layer, name, None) for name in names]
            if all(value is not None for value in pair):
                return [backend.to_numpy(value.array).reshape(-1) for value in pair if value is not None]
    return []
