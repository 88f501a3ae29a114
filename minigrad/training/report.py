"""What the user sees while a run goes on: nothing, a line an epoch, or a progress bar as well.

`run` tells a Report what happens; the kinds of Report differ in what they print. All of it goes to stdout.
rich, which draws the bar, is imported only when a bar is drawn.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from typing import Any

from minigrad.training.loop import EpochFigures
from minigrad.training.recorder import EpochRow

__all__ = ["BarReport", "LineReport", "Report"]


class Report:
    """Prints nothing. Derive from it to do something else with what happens."""

    def lines(self, lines: Sequence[str]) -> None:
        """Something to read: the run's settings at the start, its summary at the end."""

    def note(self, text: str) -> None:
        """Something that must not be missed."""

    def epoch_started(self, epoch: int, epochs: int, batches: int) -> None:
        """Epoch number `epoch` of `epochs`, with so many batches, begins."""

    def batch(self, number: int, figures: EpochFigures) -> None:
        """Batch `number` is done; the epoch's figures so far."""

    def epoch_finished(self, row: EpochRow, epochs: int) -> None:
        """An epoch is over and recorded."""

    def close(self) -> None:
        """Nothing more comes, perhaps because of an error."""


class LineReport(Report):
    """Prints a line an epoch; for files, pipes and notebooks."""

    def lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            print(line, flush=True)

    def note(self, text: str) -> None:
        print("\n" + "!" * 80, textwrap.fill(text, 80), "!" * 80 + "\n", sep="\n", flush=True)

    def epoch_finished(self, row: EpochRow, epochs: int) -> None:
        number = f"{row.epoch:>{len(str(epochs))}}/{epochs}"
        print(
            f"epoch {number}  loss {row.train_loss:.4f}  train acc {row.train_acc:.3f}  "
            f"test acc {row.test_acc:.3f}  {row.examples_per_second:.0f} examples/s  {row.seconds:.1f} s",
            flush=True,
        )


class BarReport(LineReport):
    """Shows a progress bar during an epoch as well; for terminals.

    The bar fits into 80 columns. It is drawn from here, ten times a second at most, and not by a thread of
    its own, which would take time from the training.
    """

    INTERVAL = 0.1  # seconds

    def __init__(self) -> None:
        self._bar: Any = None
        self._batches = 0
        self._drawn_at = 0.0

    def epoch_started(self, epoch: int, epochs: int, batches: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[figures]}"),
            console=Console(highlight=False),
            auto_refresh=False,
            transient=True,  # the line of the epoch takes its place
        )
        self._bar.add_task(f"epoch {epoch}/{epochs}", total=batches, figures="")
        self._bar.start()
        self._drawn_at = 0.0
        self._batches = batches

    def batch(self, number: int, figures: EpochFigures) -> None:
        now = time.monotonic()
        if now - self._drawn_at < self.INTERVAL and number < self._batches:
            return
        self._drawn_at = now
        speed = figures.examples / max(figures.seconds, 1e-9)
        text = f"loss {figures.loss:.3f}  acc {figures.accuracy:.3f}  {speed:.0f} examples/s"
        self._bar.update(self._bar.task_ids[0], completed=number, figures=text)
        self._bar.refresh()

    def epoch_finished(self, row: EpochRow, epochs: int) -> None:
        self.close()
        super().epoch_finished(row, epochs)

    def close(self) -> None:
        """Takes the bar away and gives the terminal its cursor back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
