"""The models by name, each with what its recipe needs: `python -m minigrad.train --list` prints this table.

To add one, write a function that builds it and give it a line in `MODELS`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigrad import nn
from minigrad.errors import ArgumentError
from minigrad.models.initialization import init_xavier
from minigrad.models.lenet import lenet, lenet_bn, lenet_bn_scratch
from minigrad.models.mlp import mlp, mlp_bn

__all__ = ["MODELS", "ModelInfo", "get"]


@dataclass(frozen=True)
class ModelInfo:
    """One model and its recipe.

    Attributes:
        name: as the command line takes it.
        build: makes the model, with the layers' default weights.
        description: one line for `--list`.
        lr: the learning rate of plain SGD that suits it.
        initialize: writes the starting weights of the recipe.
        input_shape: of one example.
    """

    name: str
    build: Callable[..., nn.Module]
    description: str
    lr: float
    initialize: Callable[[nn.Module], nn.Module] = init_xavier
    input_shape: tuple[int, ...] = (1, 28, 28)

    @property
    def options(self) -> tuple[str, ...]:
        """What `build` takes.

        >>> get("lenet_bn").options
        ('pool', 'eps', 'momentum')
        """
        return tuple(inspect.signature(self.build).parameters)

    def make(self, **options: Any) -> nn.Module:
        """Build the model and give it the weights that its recipe starts from.

        Options that this model does not have are passed over: pooling means nothing to an MLP.
        """
        return self.initialize(self.build(**{k: v for k, v in options.items() if k in self.options}))


MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        ModelInfo("lenet_bn", lenet_bn, "LeNet with the framework's batch norm", lr=1.0),
        ModelInfo("lenet_bn_scratch", lenet_bn_scratch, "LeNet with batch norm written from scratch", lr=1.0),
        ModelInfo("lenet", lenet, "LeNet without batch norm, for comparison", lr=0.9),
        ModelInfo("mlp_bn", mlp_bn, "multilayer perceptron 784-256-10 with batch norm", lr=0.5),
        ModelInfo("mlp", mlp, "multilayer perceptron 784-256-10", lr=0.1),
    )
}


def get(name: str) -> ModelInfo:
    """The model with this name.

    Raises:
        ArgumentError: there is none; names the closest one.

    >>> get("lenet").lr
    0.9
    """
    if name not in MODELS:
        close = difflib.get_close_matches(str(name).lower(), MODELS, n=1)
        question = f"; did you mean {close[0]!r}?" if close else ""
        raise ArgumentError(f"unknown model {name!r}: there are {', '.join(MODELS)}{question}")
    return MODELS[name]
