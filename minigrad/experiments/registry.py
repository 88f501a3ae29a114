"""The experiments by name, in the order of the documentation. A module is imported only when it is asked for.

To add one, write its file and give it a line here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from minigrad.errors import ArgumentError
from minigrad.experiments.study import Experiment

__all__ = ["MODULES", "get", "names"]

# The names are written out, and not put together from the keys, so that tests/test_architecture.py sees them.
MODULES: dict[str, Callable[[], ModuleType]] = {
    "figure1": lambda: import_module("minigrad.experiments.figure1"),
    "steps": lambda: import_module("minigrad.experiments.steps"),
    "rates": lambda: import_module("minigrad.experiments.rates"),
    "scratch": lambda: import_module("minigrad.experiments.scratch"),
    "lenet": lambda: import_module("minigrad.experiments.lenet"),
    "batchsize": lambda: import_module("minigrad.experiments.batchsize"),
    "prediction": lambda: import_module("minigrad.experiments.prediction"),
    "gradient": lambda: import_module("minigrad.experiments.gradient"),
    "whitening": lambda: import_module("minigrad.experiments.whitening"),
    "saturation": lambda: import_module("minigrad.experiments.saturation"),
    "depth": lambda: import_module("minigrad.experiments.depth"),
    "regularisation": lambda: import_module("minigrad.experiments.regularisation"),
    "placement": lambda: import_module("minigrad.experiments.placement"),
    "smoothness": lambda: import_module("minigrad.experiments.smoothness"),
    "ensemble": lambda: import_module("minigrad.experiments.ensemble"),
    "standardise": lambda: import_module("minigrad.experiments.standardise"),
}


def names() -> list[str]:
    """All names.

    >>> names()[:2]
    ['figure1', 'steps']
    """
    return list(MODULES)


def get(name: str) -> Experiment:
    """The experiment with this name.

    Raises:
        ArgumentError: there is none; names the closest one.

    >>> get("ensemble").name
    'ensemble'
    """
    if name not in MODULES:
        close = difflib.get_close_matches(str(name).lower(), MODULES, n=1)
        question = f"; did you mean {close[0]!r}?" if close else ""
        raise ArgumentError(f"unknown experiment {name!r}: there are {', '.join(MODULES)}{question}")
    experiment: Experiment = MODULES[name]().EXPERIMENT
    return experiment
