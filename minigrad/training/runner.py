"""A whole run: data, model, training, files, figures. What `python -m minigrad.train` does, as a function.

    from minigrad.training import Settings, run

    result = run(Settings(model="lenet_bn", epochs=2, seed=1))
    print(result.test_acc, result.folder)

Everything random is drawn from one generator, which the seed starts: the weights first, then the order of the
examples, epoch by epoch. After each epoch the folder has the weights and all that is needed to go on, so
Ctrl-C, an error or a power cut loses one epoch at most, and a resumed run continues bit for bit (on the CPU).
A compiled run gives the same bits with any number of threads, see `threads_of_run` in `setup.py`. On a GPU its
steps are CUDA graphs, see `captured.py`.

Reading order: `setup.py`, what is done before; here the two public functions, then the training.
"""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import checkpoint, data, optim, plot
from minigrad._version import __version__
from minigrad.errors import ArgumentError, CheckpointError, MinigradError
from minigrad.nn.module import Module
from minigrad.training.captured import CapturedTraining
from minigrad.training.captured_evaluation import CapturedTesting
from minigrad.training.evaluation import with_population
from minigrad.training.loop import EpochFigures, evaluate, train_epoch
from minigrad.training.recorder import EpochRow, RunFolder, check_writable
from minigrad.training.report import Report
from minigrad.training.result import Result, RunInterrupted
from minigrad.training.settings import RESUMABLE, Settings
from minigrad.training.setup import (
    build,
    check_last_batch,
    device_of_settings,
    load_data,
    make_loader,
    threads_of_run,
)

__all__ = ["resume", "run"]


# 1. What users call ---


def run(settings: Settings, report: Report | None = None) -> Result:
    """Trains a model and writes the run's folder.

    Args:
        settings: what to do; what is None is filled in from the edition and the model.
        report: is told what happens; default: nothing is printed.

    Raises:
        RunInterrupted: Ctrl-C; what the run has is saved. A KeyboardInterrupt, so a loop over seeds ends.
        MinigradError: bad settings or data, an output folder that cannot be written, a loss that became NaN.
    """
    settings = settings.resolved()
    report = Report() if report is None else report
    check_writable(settings.output)  # before anybody waits for data
    with threads_of_run(settings):
        model, optimizer = build(settings)
        bundle = load_data(settings, report)
        check_last_batch(model, len(bundle.train), settings)
        settings = replace(settings, dataset=bundle.name)
        folder = RunFolder.create(settings.output, settings.model)
        return _Job(settings, bundle, model, optimizer, folder, report).run(first_epoch=1)


def resume(path: str | Path, report: Report | None = None, **changes: Any) -> Result:
    """Goes on with the run in the folder `path`, after its last finished epoch, in the same folder.

    Args:
        changes: settings that may differ from then on: epochs, device, data_dir, threads, compile, plot,
            population_statistics.

    Raises:
        ArgumentError: nothing is left to do, or a setting that may not change.
        DataError, CheckpointError: the folder is not that of a run, or no epoch of it was finished.
    """
    for name in changes:
        if name not in RESUMABLE:
            raise ArgumentError(
                f"resume: {name} cannot be given: the run goes on with its own settings; "
                f"what may change is {', '.join(RESUMABLE)}"
            )
    report = Report() if report is None else report
    folder = RunFolder(Path(path).expanduser())
    before = Settings.from_dict(folder.read_run()["settings"])
    settings = replace(before, **changes).resolved()
    if not folder.state.is_file():
        raise CheckpointError(f"{folder.path}: no epoch of this run was finished; start it again")
    check_writable(folder.path)
    with threads_of_run(settings):
        model, optimizer = build(settings)
        epoch = checkpoint.load_training_state(folder.state, model=model, optimizer=optimizer)["epoch"]
        if epoch >= (settings.epochs or 0):
            raise ArgumentError(
                f"{folder.path}: all {epoch} epochs are done; ask for more with --epochs to go on"
            )
        bundle = load_data(settings, report)
        history = [row for row in folder.rows() if row.epoch <= epoch]
        folder.start_metrics(history)
        job = _Job(settings, bundle, model, optimizer, folder, report)
        job.result.history = history
        return job.run(first_epoch=epoch + 1)


# 2. The training ---


class _Job:
    """One run while it goes on."""

    def __init__(
        self,
        settings: Settings,
        bundle: data.DataBundle,
        model: Module,
        optimizer: optim.Optimizer,
        folder: RunFolder,
        report: Report,
    ) -> None:
        self.settings = settings
        self.bundle = bundle
        self.model = model
        self.optimizer = optimizer
        self.folder = folder
        self.report = report
        self.device = device_of_settings(settings)
        self.train_loader = make_loader(bundle.train, settings, self.device, shuffle=True)
        self.test_loader = make_loader(bundle.test, settings, self.device)
        # On a GPU a step is one CUDA graph, and so is a batch of the evaluation.
        self.captured: CapturedTraining | None = None
        self.testing: CapturedTesting | None = None
        if settings.compile and self.device.type != "cpu":

            def say(line: str) -> None:
                report.lines([line])

            self.captured = CapturedTraining(model, self.train_loader, optimizer, say=say)
            self.testing = CapturedTesting(model, self.test_loader, say=say)
        self.result = Result(settings, model, str(self.device), bundle.name, bundle.title, folder.path)
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.within_epoch = False  # the weights are not those of the last row of the history

    def run(self, first_epoch: int) -> Result:
        """Trains from `first_epoch` on; whatever happens, the folder is left in order."""
        try:
            self._write_run("running")
            self.report.lines(self._opening())
            for epoch in range(first_epoch, self.epochs + 1):
                self._epoch(epoch)
            self._finish()
        except KeyboardInterrupt:
            self.report.close()
            self.result.interrupted = True
            if not self.within_epoch or not self.result.history:  # else those of the last epoch stay
                checkpoint.save(self.model, self.folder.weights)
            self._write_run("interrupted")
            with contextlib.suppress(KeyboardInterrupt):  # impatient users press it twice
                self._draw()
            raise RunInterrupted(self.result) from None
        except MinigradError as error:
            self._write_run("failed", str(error))
            if self.result.history:
                error.add_note(f"what the run had before is in {self.folder.path}")
            raise
        finally:
            self.report.close()
        return self.result

    @property
    def epochs(self) -> int:
        return self.settings.epochs or 0

    def _epoch(self, epoch: int) -> None:
        self.report.epoch_started(epoch, self.epochs, len(self.train_loader))
        self.within_epoch = True
        # a report that shows no progress lets the figures of the batches stay on the GPU
        on_batch = None if type(self.report).batch is Report.batch else self.report.batch
        if self.captured is not None:
            figures = self.captured.epoch(epoch, on_batch)
        else:
            figures = train_epoch(
                self.model, self.train_loader, self.optimizer, epoch=epoch, on_batch=on_batch
            )
        if self.testing is not None:
            test_acc = self.testing.accuracy()
        else:
            test_acc = evaluate(self.model, self.test_loader)
        row = self._row(epoch, figures, test_acc)
        self.result.history.append(row)
        self.within_epoch = False
        self.folder.add_metrics(row)
        checkpoint.save(self.model, self.folder.weights)
        self.folder.population_weights.unlink(missing_ok=True)  # a resumed run: they are of older weights
        checkpoint.save_training_state(
            self.folder.state, model=self.model, optimizer=self.optimizer, epoch=epoch
        )
        self._write_run("running")
        self.report.epoch_finished(row, self.epochs)

    def _row(self, epoch: int, figures: EpochFigures, test_acc: float) -> EpochRow:
        lr = float(self.optimizer.param_groups[0]["lr"])
        speed = figures.examples / max(figures.seconds, 1e-9)
        return EpochRow(epoch, figures.loss, figures.accuracy, test_acc, lr, speed, figures.seconds)

    def _finish(self) -> None:
        self.model.eval()
        if self.settings.population_statistics:
            self.result.population_acc, note = with_population(
                self.model,
                self.bundle.train,
                self.test_loader,
                self.settings,
                self.folder.population_weights,
            )
            if note is not None:
                self.report.lines([note])
        self._draw()
        self._write_run("finished")
        self.report.lines(["", *self.result.summary(), "", *self._files()])

    # Files and lines

    def _draw(self) -> None:
        if self.settings.plot and self.result.history:
            rows = [asdict(row) for row in self.result.history]
            title = f"{self.settings.model} on {self.bundle.title}"
            plot.save(plot.curves(rows, title, self.result.population_acc), self.folder.curves)

    def _write_run(self, status: str, error: str | None = None) -> None:
        contents = {
            "status": status,
            "interrupted": self.result.interrupted,
            "dataset": {
                "name": self.bundle.name,
                "title": self.bundle.title,
                "origin": self.bundle.origin,
                "train": len(self.bundle.train),
                "test": len(self.bundle.test),
            },
            "device": str(self.device),
            "started": self.started,
            "epochs_done": len(self.result.history),
            "figures": self.result.figures(),
            "settings": asdict(self.settings),
            "versions": _versions(),
        }
        if error is not None:
            contents["error"] = error
        self.folder.write_run(contents)

    def _opening(self) -> list[str]:
        s = self.settings
        parameters = sum(p.numel() for p in self.model.parameters())
        return [
            f"{s.model} ({parameters:,} parameters), edition {s.edition}: {s.optimizer}, "
            f"learning rate {s.lr:g}, batch size {s.batch_size}, epochs {s.epochs}, seed {s.seed}",
            f"{self.bundle.title}: {len(self.bundle.train):,} training and {len(self.bundle.test):,} test "
            f"pictures ({self.bundle.origin}), on {self.device}",
            f"files: {self.folder.path}",
        ]

    def _files(self) -> list[str]:
        folder = self.folder
        files = [folder.weights, folder.population_weights, folder.metrics, folder.run, folder.curves]
        return [f"saved in {folder.path}: {', '.join(file.name for file in files if file.exists())}"]


def _versions() -> dict[str, str]:
    return {
        "minigrad": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
