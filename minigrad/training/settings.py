"""The settings of a run: what the user chose, and what edition and model fill in.

    Settings(model="lenet", edition="1.0").resolved().lr     # 0.1

None means "not chosen". `resolved` checks every value and leaves no None where a number is needed, so that
`run.json` says what was really done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from minigrad.data import NAMES
from minigrad.data.garments import TRAIN_SIZE
from minigrad.errors import ArgumentError, DataError
from minigrad.models import registry
from minigrad.nn.module import Module
from minigrad.training.editions import DEFAULT_EDITION, edition

__all__ = ["OPTIMIZERS", "RESUMABLE", "Settings", "build_model"]

OPTIMIZERS = ("sgd", "adam")
ADAM_LR = 1e-3

# What a resumed run may change; everything else it has from its run.json.
RESUMABLE = ("epochs", "device", "data_dir", "threads", "compile", "population_statistics", "plot")


@dataclass(frozen=True)
class Settings:
    """What a run is to do; the fields are the options of the command line.

    Attributes:
        model: a name in the registry of models.
        edition: published variant of the recipe; gives pooling, and what of the next three is None.
        epochs, batch_size: of the training.
        lr: learning rate; default: the edition's, or the model's own where the edition says nothing.
        optimizer: "sgd" or "adam".
        dataset: "auto", "fashion_mnist", "mnist" or "garments".
        data_dir: folder with its files.
        limit: use only the first so many training pictures, and at most as many test pictures.
        device: "auto", "cpu", "cuda" or "cuda:1".
        threads: to calculate with; default: all cores.
        compile: whether runs of layers become fused operations (`minigrad.compile`). They bring threads of
            their own, and the linear algebra library is held to one, so the threads do not change a bit.
        seed: of weights and order.
        output: the run's folder is made in this one.
        weights: file to start from, in place of random weights.
        population_statistics: measure them at the end.
        plot: draw curves.png.
    """

    model: str = "lenet_bn"
    edition: str = DEFAULT_EDITION
    epochs: int | None = None
    lr: float | None = None
    batch_size: int | None = None
    optimizer: str = "sgd"
    dataset: str = "auto"
    data_dir: str | None = None
    limit: int | None = None
    device: str = "auto"
    threads: int | None = None
    compile: bool = True
    seed: int = 0
    output: str = "runs"
    weights: str | None = None
    population_statistics: bool = False
    plot: bool = True

    def resolved(self) -> Settings:
        """The same with everything filled in.

        Raises:
            ArgumentError: a value that makes no sense; the message names the setting.

        >>> settings = Settings("lenet", epochs=3).resolved()
        >>> settings.epochs, settings.lr, settings.batch_size
        (3, 0.9, 256)
        """
        recipe, info = edition(self.edition), registry.get(self.model)
        if self.optimizer not in OPTIMIZERS:
            raise ArgumentError(f"unknown optimizer {self.optimizer!r}: use {', '.join(OPTIMIZERS)}")
        if self.dataset not in NAMES:
            raise ArgumentError(f"unknown data set {self.dataset!r}: use {', '.join(NAMES)}")
        lr = self.lr
        if lr is None:
            lr = ADAM_LR if self.optimizer == "adam" else recipe.learning_rate(self.model, info.lr)
        full = replace(
            self,
            epochs=recipe.epochs if self.epochs is None else self.epochs,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            lr=lr,
        )
        full._check()
        return full

    def _check(self) -> None:
        for name in ("epochs", "batch_size", "limit", "threads"):
            value = getattr(self, name)
            if value is not None:
                _check_integer(name, value, least=1)
        _check_integer("seed", self.seed, least=0)
        if self.limit is not None and self.limit > TRAIN_SIZE:
            raise ArgumentError(f"limit must be at most {TRAIN_SIZE}, got {self.limit}")
        if isinstance(self.lr, bool) or not isinstance(self.lr, (int, float)) or not 0 < self.lr < math.inf:
            raise ArgumentError(f"lr must be a number above 0, got {self.lr!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings as run.json keeps them.

        Raises:
            DataError: a name that is no setting.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise DataError(
                f"unknown setting {unknown[0]!r}; was this run made by another version of minigrad?"
            )
        return cls(**values)


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}")


def build_model(settings: Settings) -> Module:
    """The model that the settings name, in its edition's form, with random weights.

    >>> build_model(Settings("lenet_bn", edition="0.17"))[3]
    AvgPool2d(kernel_size=2, stride=2, padding=0)
    """
    recipe = edition(settings.edition)
    return registry.get(settings.model).make(pool=recipe.pool, eps=recipe.bn_eps, momentum=recipe.bn_momentum)
