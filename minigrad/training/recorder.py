"""The folder of a run, `runs/<model>-<time>/`, and the files in it.

    metrics.csv                   one line an epoch, written when the epoch is over
    run.json                      settings, versions, data set, device, and the figures reached
    model.safetensors             the weights after the last finished epoch, with PyTorch's names
    model_population.safetensors  the same with population statistics, if they were asked for
    training_state.safetensors    all that is needed to go on (--resume)
    curves.png                    loss and accuracy over the epochs

A folder is made for one run and never used for another. All files but the CSV are replaced in one step, and
the CSV grows by whole lines, so whatever stops the run, what is there can be read.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from minigrad.data.files import atomic_path
from minigrad.errors import ArgumentError, DataError

__all__ = ["EpochRow", "RunFolder", "check_writable", "read_metrics"]

METRICS, RUN, WEIGHTS, POPULATION_WEIGHTS, STATE, CURVES = (
    "metrics.csv",
    "run.json",
    "model.safetensors",
    "model_population.safetensors",
    "training_state.safetensors",
    "curves.png",
)


# 1. The figures of an epoch ---


@dataclass(frozen=True)
class EpochRow:
    """One line of metrics.csv.

    Attributes:
        train_loss, train_acc: means over the epoch, while the weights change, as in the tutorial.
        test_acc: after the epoch.
        examples_per_second, seconds: of training alone, without the test.
    """

    epoch: int
    train_loss: float
    train_acc: float
    test_acc: float
    lr: float
    examples_per_second: float
    seconds: float

    def as_text(self) -> list[str]:
        """The cells of the line; six digits are enough to compare runs, and short enough to read."""
        return [
            str(self.epoch),
            f"{self.train_loss:.6f}",
            f"{self.train_acc:.6f}",
            f"{self.test_acc:.6f}",
            f"{self.lr:.10g}",
            f"{self.examples_per_second:.1f}",
            f"{self.seconds:.3f}",
        ]


COLUMNS = [field.name for field in fields(EpochRow)]


def read_metrics(path: str | os.PathLike[str]) -> list[EpochRow]:
    """The rows of a metrics.csv.

    Raises:
        DataError: the file is missing or is not a metrics.csv; the message names the line.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not lines or lines[0] != COLUMNS:
        raise DataError(f"{path}: the first line must be {','.join(COLUMNS)}")
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            epoch, *figures = cells
            rows.append(EpochRow(int(epoch), *map(float, figures)))
        except (TypeError, ValueError):
            raise DataError(f"{path}: line {number} is damaged: {','.join(cells)}") from None
    return rows


# 2. The folder ---


def check_writable(output: str | os.PathLike[str]) -> Path:
    """Makes the folder `output` if need be and tries to write there, before anybody waits for a training.

    Raises:
        ArgumentError: the folder cannot be made or written.
    """
    folder = Path(output).expanduser()
    probe = folder / f".minigrad-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ArgumentError(
            f"output folder {folder} cannot be written: {error.strerror}; choose another one with --output"
        ) from None
    return folder


class RunFolder:
    """The files of one run.

    Args:
        path: an existing folder. `RunFolder.create` makes a new one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metrics = self.path / METRICS
        self.run = self.path / RUN
        self.weights = self.path / WEIGHTS
        self.population_weights = self.path / POPULATION_WEIGHTS
        self.state = self.path / STATE
        self.curves = self.path / CURVES

    @classmethod
    def create(cls, output: str | os.PathLike[str], model: str) -> RunFolder:
        """A new folder `<model>-<time>` in `output`; `-2`, `-3` ... is added if there is one of that name."""
        base = check_writable(output) / f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
        path, number = base, 1
        while True:
            try:
                path.mkdir()  # fails if the folder exists, so two runs never share one
                break
            except FileExistsError:
                number += 1
                path = base.with_name(f"{base.name}-{number}")
        folder = cls(path)
        folder.start_metrics([])
        return folder

    def start_metrics(self, rows: Sequence[EpochRow]) -> None:
        """Writes metrics.csv with these rows, none for a new run."""
        with atomic_path(self.metrics) as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(row.as_text() for row in rows)])

    def add_metrics(self, row: EpochRow) -> None:
        """Adds one line; it is on the disk when this returns."""
        with open(self.metrics, "a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row.as_text())

    def write_run(self, contents: dict[str, Any]) -> None:
        """Writes run.json."""
        with atomic_path(self.run) as temporary:
            temporary.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")

    def read_run(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            DataError: there is none, or it is not one of a run.
        """
        try:
            contents = json.loads(self.run.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path} is not the folder of a run: {RUN} cannot be read: {error}"
            ) from None
        if not isinstance(contents, dict) or not isinstance(contents.get("settings"), dict):
            raise DataError(f"{self.path} is not the folder of a run: {RUN} has no settings")
        return contents

    def rows(self) -> list[EpochRow]:
        """The epochs in metrics.csv."""
        return read_metrics(self.metrics)

    @staticmethod
    def figures(row: EpochRow) -> dict[str, float]:
        """One epoch for run.json."""
        return asdict(row)
