"""The test accuracy of weights, with moving averages and with population statistics.

`evaluate_weights` is `--eval-only`; `with_population` is also the end of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigrad import checkpoint
from minigrad.errors import ArgumentError, NonFiniteError
from minigrad.nn.module import Module
from minigrad.training.loop import evaluate
from minigrad.training.population import batch_norm_layers, using_population_statistics
from minigrad.training.report import Report
from minigrad.training.result import WHY
from minigrad.training.settings import Settings
from minigrad.training.setup import (
    build,
    device_of_settings,
    load_data,
    make_loader,
    mixed_loader,
    threads_of_run,
)

__all__ = ["Evaluation", "evaluate_weights", "with_population"]


@dataclass(frozen=True)
class Evaluation:
    """Test accuracy of saved weights, with their moving averages and, if asked for, population statistics."""

    test_acc: float
    population_acc: float | None
    dataset_title: str
    population_note: str | None = None  # why there are no population statistics, if they were asked for

    def summary(self) -> list[str]:
        """The figures as lines."""
        lines = [f"test acc {self.test_acc:.3f} on {self.dataset_title}"]
        if self.population_acc is not None:
            lines += [f"population statistics: test acc {self.population_acc:.3f}", WHY]
        if self.population_note is not None:
            lines.append(self.population_note)
        return lines


def evaluate_weights(settings: Settings, report: Report | None = None) -> Evaluation:
    """The test accuracy of `settings.weights`; nothing is trained and nothing written."""
    settings = settings.resolved()
    report = Report() if report is None else report
    if settings.weights is None:
        raise ArgumentError("evaluate_weights: settings.weights must name a file with weights")
    with threads_of_run(settings):
        model, _ = build(settings)
        bundle = load_data(settings, report)
        test_loader = make_loader(bundle.test, settings, device_of_settings(settings))
        test_acc = evaluate(model, test_loader)
        population_acc, note = None, None
        if settings.population_statistics:
            population_acc, note = with_population(model, bundle.train, test_loader, settings)
    return Evaluation(test_acc, population_acc, bundle.title, note)


def with_population(
    model: Module, train: Any, test_loader: Any, settings: Settings, path: Path | None = None
) -> tuple[float | None, str | None]:
    """(test accuracy with population statistics, None), or (None, the line that says why there is none).

    With a `path` the weights with these statistics are saved there.
    """
    if not batch_norm_layers(model):
        return None, f"population statistics: {settings.model} has no batch norm to put them in"
    try:
        with using_population_statistics(model, mixed_loader(train, settings)):
            accuracy = evaluate(model, test_loader)
            if path is not None:
                checkpoint.save(model, path)
    except (ArgumentError, NonFiniteError) as error:  # no reason to lose the rest of a long run
        return None, f"no population statistics: {error}"
    return accuracy, None
