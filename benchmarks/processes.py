"""What only whole processes show: import time, peak memory, and the time from start to trained model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.import_time import import_seconds
from benchmarks.timing import Ratio, Timing, ratio

__all__ = ["Run", "WholeRuns", "import_times", "median_run", "whole_runs"]

ROOT = Path(__file__).resolve().parents[1]


def import_times(runs: int) -> list[Timing]:
    """Seconds of `import numpy`, `import minigrad` and `import torch` in fresh interpreters, in turns."""
    modules = ("numpy", "minigrad", "torch")
    rounds = [[import_seconds(module) for module in modules] for _ in range(runs + 1)]
    del rounds[0]  # it filled the file cache
    return [Timing(module, tuple(row[i] for row in rounds)) for i, module in enumerate(modules)]


@dataclass(frozen=True)
class Run:
    """One process from start to exit."""

    seconds: float
    peak_bytes: float


@dataclass(frozen=True)
class WholeRuns:
    """The same training by both, several times in turns.

    Attributes:
        what: model, epochs, data, threads, in words.
        minigrad, torch: one Run for each repetition.
    """

    what: str
    minigrad: tuple[Run, ...]
    torch: tuple[Run, ...]

    def seconds(self) -> Ratio:
        """How many times sooner minigrad is done."""
        return self._ratio(lambda run: run.seconds)

    def memory(self) -> Ratio:
        """How many times the memory PyTorch needs."""
        return self._ratio(lambda run: run.peak_bytes)

    def _ratio(self, figure: Callable[[Run], float]) -> Ratio:
        theirs, ours = (Timing("", tuple(map(figure, runs))) for runs in (self.torch, self.minigrad))
        return ratio(theirs, ours)


def median_run(runs: tuple[Run, ...]) -> Run:
    """The median of each figure."""
    return Run(
        statistics.median(run.seconds for run in runs), statistics.median(run.peak_bytes for run in runs)
    )


def whole_runs(
    data_dir: str, dataset: str, epochs: int, threads: int, repetitions: int, limit: int | None = None
) -> WholeRuns:
    """Trains lenet_bn with minigrad's command and with `torch_lenet.py`, in turns.

    minigrad's command is the one that a user types: it also draws the curves, which the other does not.

    Args:
        data_dir: folder with the four IDX files.
        dataset: what they are, by minigrad's name.
        limit: only so many pictures.

    Raises:
        RuntimeError: a command failed; the message has the end of its output.
    """
    common = ["--epochs", str(epochs), "--threads", str(threads), "--data-dir", data_dir]
    common += [] if limit is None else ["--limit", str(limit)]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        out = ["--output", folder]
        for _ in range(repetitions):
            minigrad = [sys.executable, "-m", "minigrad.train", "lenet_bn", "--dataset", dataset]
            ours.append(_measured([*minigrad, *common, *out]))
            torch = [sys.executable, str(ROOT / "benchmarks" / "torch_lenet.py")]
            theirs.append(_measured([*torch, *common, *out]))
    pictures = "" if limit is None else f" on {limit} pictures"
    what = f"lenet_bn, {_count(epochs, 'epoch')}{pictures}, {_count(threads, 'thread')}"
    return WholeRuns(what, tuple(ours), tuple(theirs))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _measured(command: list[str]) -> Run:
    """Runs a command through `measured.py`."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.measured", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,  # where `benchmarks` and `minigrad` are found
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{process.stderr[-2000:]}")
    return Run(**json.loads(process.stdout.splitlines()[-1]))
