"""The progress bar of an experiment, for terminals. rich is imported only when a bar is drawn."""

from __future__ import annotations

import time
from typing import Any

from minigrad.experiments.context import Progress

__all__ = ["BarProgress"]


class BarProgress(Progress):
    """A bar that is drawn ten times a second at most, and goes away at the end."""

    INTERVAL = 0.1  # seconds

    def __init__(self) -> None:
        self._bar: Any = None
        self._done = 0
        self._drawn_at = 0.0

    def begin(self, steps: int, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.end()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=Console(highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._bar.add_task(what[:36], total=steps)
        self._bar.start()
        self._done, self._drawn_at = 0, time.monotonic()

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        if self._bar is not None and now - self._drawn_at >= self.INTERVAL:
            self._drawn_at = now
            self._bar.update(self._bar.task_ids[0], completed=self._done)
            self._bar.refresh()

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
