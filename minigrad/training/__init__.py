"""Training: the two loops, population statistics for batch norm, and whole runs with their files.

    from minigrad import training

    training.train_epoch(model, loader, optimizer)
    training.evaluate(model, test_loader)
    training.population_statistics(model, loader)
    training.run(training.Settings("lenet_bn", epochs=2))

Reading order: `loop.py` with `readings.py`, `population.py`; for a GPU `captured.py` with `batches.py` and
`captured_evaluation.py`; then for a run `settings.py` with `editions.py`, `recorder.py` (its files), `report.py`
(what is printed), `result.py`, `setup.py`, `evaluation.py`, and `runner.py`, which joins them.
"""

from minigrad.training.captured import CannotCapture, CapturedStep, CapturedTraining
from minigrad.training.captured_evaluation import CapturedEvaluation, CapturedTesting
from minigrad.training.editions import EDITIONS, Edition
from minigrad.training.evaluation import Evaluation, evaluate_weights
from minigrad.training.loop import EpochFigures, evaluate, train_epoch
from minigrad.training.population import Statistics, population_statistics, using_population_statistics
from minigrad.training.recorder import EpochRow, RunFolder, read_metrics
from minigrad.training.report import BarReport, LineReport, Report
from minigrad.training.result import Result, RunInterrupted
from minigrad.training.runner import resume, run
from minigrad.training.settings import Settings

__all__ = [
    "EDITIONS",
    "BarReport",
    "CannotCapture",
    "CapturedEvaluation",
    "CapturedStep",
    "CapturedTesting",
    "CapturedTraining",
    "Edition",
    "EpochFigures",
    "EpochRow",
    "Evaluation",
    "LineReport",
    "Report",
    "Result",
    "RunFolder",
    "RunInterrupted",
    "Settings",
    "Statistics",
    "evaluate",
    "evaluate_weights",
    "population_statistics",
    "read_metrics",
    "resume",
    "run",
    "train_epoch",
    "using_population_statistics",
]
