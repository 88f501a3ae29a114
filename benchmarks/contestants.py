"""Who competes: minigrad compiled and as it is, PyTorch in its two memory formats, and torch.compile.

Everybody starts each step from the same batch of bytes as a NumPy array and makes floats of it the way that it
likes best, inside the timed step. All start from the same weights, use SGD, and read the loss as a number.
`first_step` compares the first outputs and the first loss before anything is timed, so that nobody wins by
computing something else.

The learning rate is small, so that the values stay what they are at the start of a training however many steps
are timed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as tF

import minigrad as mg
import minigrad.nn.functional as F
from benchmarks import torch_models
from benchmarks.timing import Contestant
from minigrad import models, optim
from minigrad.data import ArrayDataset, DataLoader

__all__ = [
    "CAN_COMPILE",
    "CHANNELS_LAST",
    "COMPILED",
    "EAGER",
    "MODELS",
    "PLAIN",
    "TORCH_COMPILE",
    "Batch",
    "Case",
    "Spec",
    "build",
    "first_step",
    "set_threads",
]

CAN_COMPILE = callable(getattr(mg, "compile", None))  # where it is missing, only the plain path is timed
LR = 0.01

COMPILED, PLAIN = "minigrad compiled", "minigrad"
EAGER, CHANNELS_LAST, TORCH_COMPILE = "PyTorch", "PyTorch channels_last", "torch.compile"

Batch = tuple[np.ndarray, np.ndarray]  # uint8 (N, 28, 28) or (N, C, H, W), and int64 (N,)


@dataclass(frozen=True)
class Spec:
    """A model for both: how minigrad builds it, and what it takes."""

    build: Callable[[], Any]
    input_shape: tuple[int, int, int] = (1, 28, 28)
    convolutions: bool = True


MODELS = {
    "lenet_bn": Spec(models.lenet_bn),
    "lenet_bn_scratch": Spec(models.lenet_bn_scratch),
    "lenet": Spec(models.lenet),
    "mlp_bn": Spec(models.mlp_bn, convolutions=False),
    "resnet8": Spec(models.resnet8, (3, 32, 32)),
}


@dataclass(frozen=True)
class Case:
    """One comparison."""

    model: str
    batch_size: int
    threads: int
    training: bool

    def __str__(self) -> str:
        kind = "training" if self.training else "inference"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{kind} {self.model}, batch {self.batch_size}, {threads}"


def set_threads(threads: int) -> None:
    """The same number for both; each contestant asks for its own again before every block."""
    _minigrad_threads(threads)
    torch.set_num_threads(threads)


def build(case: Case, batches: Sequence[Batch], torch_compile: bool) -> list[Contestant]:
    """The contestants of a case, warm-up not done.

    Args:
        batches: taken in turns.
        torch_compile: whether torch.compile takes part; it compiles during its first step.
    """
    set_threads(case.threads)
    torch.manual_seed(0)
    weights = torch_models.BUILDERS[case.model]().state_dict()
    contestants = []
    if CAN_COMPILE:
        contestants.append(_minigrad(case, batches, weights, compiled=True))
    contestants.append(_minigrad(case, batches, weights, compiled=False))
    contestants.append(_torch(EAGER, case, batches, weights))
    if MODELS[case.model].convolutions:
        contestants.append(_torch(CHANNELS_LAST, case, batches, weights))
    if torch_compile:
        contestants.append(_torch(TORCH_COMPILE, case, batches, weights))
    return contestants


def first_step(contestants: Sequence[Contestant]) -> tuple[list[Contestant], str]:
    """One step of each from the same weights: the same loss, or the same outputs, to float precision.

    Returns:
        Those who can take part, and why torch.compile cannot, or "". It needs a C++ compiler, for one.

    Raises:
        ValueError: somebody computes something else; its time would mean nothing.
    """
    fit, results, reason = [], [], ""
    for contestant in contestants:
        contestant.prepare()
        try:
            result = contestant.step()
        except Exception as error:
            if contestant.name != TORCH_COMPILE:
                raise
            reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        else:
            fit.append(contestant)
            results.append(np.asarray(result, dtype=np.float64))
    for contestant, result in zip(fit, results, strict=True):
        if not np.allclose(result, results[-1], rtol=1e-3, atol=1e-3):
            worst = np.abs(result - results[-1]).max()
            raise ValueError(f"{contestant.name} and {fit[-1].name} differ by {worst:.3g}")
    return fit, reason


# 1. minigrad ---


@functools.cache
def _blas() -> Any:
    """NumPy's BLAS; PyTorch has its own inside, which torch.set_num_threads governs."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _minigrad_threads(threads: int) -> None:
    _blas().limit(limits=threads)  # also outside of compiled models
    if callable(getattr(mg, "set_num_threads", None)):
        mg.set_num_threads(threads)


def _minigrad(case: Case, batches: Sequence[Batch], weights: dict[str, Any], compiled: bool) -> Contestant:
    model = MODELS[case.model].build()
    model.load_state_dict({name: value.numpy() for name, value in weights.items()})
    model.train(case.training)
    if compiled:
        model = mg.compile(model)
    # The loader is minigrad's way from bytes to floats; here it has one batch to deliver.
    loaders = itertools.cycle([DataLoader(ArrayDataset(*batch), case.batch_size) for batch in batches])
    optimizer = optim.SGD(model.parameters(), lr=LR)

    def train() -> float:
        ((X, y),) = next(loaders)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict() -> np.ndarray:
        ((X, _),) = next(loaders)
        with mg.no_grad():
            return model(X).numpy()

    return Contestant(
        COMPILED if compiled else PLAIN,
        train if case.training else predict,
        lambda: _minigrad_threads(case.threads),
    )


# 2. PyTorch ---


def _torch(name: str, case: Case, batches: Sequence[Batch], weights: dict[str, Any]) -> Contestant:
    model: Any = torch_models.BUILDERS[case.model]()
    model.load_state_dict(weights)
    model.train(case.training)
    shape = (-1, *MODELS[case.model].input_shape)
    order = torch.channels_last if name == CHANNELS_LAST else torch.contiguous_format
    model = model.to(memory_format=order)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, fused=True)  # one call for all parameters

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return tF.cross_entropy(model(x), y)

    forward, loss = _compiled_by_torch(model, loss_of) if name == TORCH_COMPILE else (model, loss_of)
    source = itertools.cycle(batches)

    def floats(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).view(shape).to(torch.float32, memory_format=order).div_(255)

    def train() -> float:
        images, labels = next(source)
        x, y = floats(images), torch.from_numpy(labels)
        optimizer.zero_grad()
        value = loss(x, y)
        value.backward()
        optimizer.step()
        return value.item()

    def predict() -> np.ndarray:
        images, _ = next(source)
        with torch.no_grad() if name == TORCH_COMPILE else torch.inference_mode():
            return forward(floats(images)).numpy()

    return Contestant(name, train if case.training else predict, lambda: torch.set_num_threads(case.threads))


def _compiled_by_torch(model: Any, loss_of: Any) -> tuple[Any, Any]:
    """Both functions under torch.compile, forgetting what was compiled for another number of threads.

    `freezing` lets it fold batch norm into convolutions for inference, as minigrad does.
    """
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    torch._inductor.config.freezing = not model.training
    return torch.compile(model), torch.compile(loss_of)
