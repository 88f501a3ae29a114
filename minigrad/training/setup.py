"""What a run needs before it starts: device, threads, data, model and optimizer, as the settings say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from minigrad import backend, checkpoint, data, optim
from minigrad.backend import Device, cuda
from minigrad.compiler import compile
from minigrad.data.garments import TEST_SIZE
from minigrad.errors import ArgumentError, CheckpointError
from minigrad.kernels.cpu.threads import get_num_threads, set_num_threads
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm1d, BatchNorm2d
from minigrad.training.report import Report
from minigrad.training.settings import Settings, build_model

__all__ = [
    "build",
    "check_last_batch",
    "device_of_settings",
    "load_data",
    "make_loader",
    "mixed_loader",
    "threads_of_run",
]


def device_of_settings(settings: Settings) -> Device:
    """Where the run calculates; "auto" is the GPU if there is one. It becomes the current one."""
    name = settings.device
    if name == "auto":
        name = "cuda" if cuda.is_available() else "cpu"
    device = backend.device(name)
    if device.type == "cuda":
        cuda.make_current(device.index)
    return device


@contextlib.contextmanager
def threads_of_run(settings: Settings) -> Iterator[None]:
    """The threads of a run, for a block; afterwards all is as before.

    `settings.threads` limits minigrad's threads, and in a run that is not compiled those of the linear
    algebra library. In a compiled run the library has one: its sums come out in an order that depends on
    its threads, and the fused operations, which have threads of their own, do not need them.
    """
    import threadpoolctl

    before = get_num_threads()
    try:
        if settings.threads is not None:
            set_num_threads(settings.threads)
        # limits=None: nothing is limited, and what the block changes is put back
        with threadpoolctl.threadpool_limits(limits=1 if settings.compile else settings.threads):
            yield
    finally:
        set_num_threads(before)


def check_last_batch(model: Module, examples: int, settings: Settings) -> None:
    """Batch norm refuses to train on one value per channel; says so before the first epoch is wasted."""
    size = settings.batch_size or 1
    last = examples % size or size  # of the last batch of an epoch
    if last == 1 and any(isinstance(layer, (BatchNorm1d, BatchNorm2d)) for layer in model.modules()):
        raise ArgumentError(
            f"the last batch of an epoch would be a single picture, which batch norm cannot train on: "
            f"{examples} pictures in batches of {size}; choose another --batch-size or --limit"
        )


def load_data(settings: Settings, report: Report) -> data.DataBundle:
    """The pictures; what there is to say about them goes to the report."""
    said = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("NOTE"):
            report.note(text)
        else:
            report.lines([text])

    limit = settings.limit
    bundle = data.load(
        settings.dataset,
        settings.data_dir,
        train_size=limit,
        test_size=None if limit is None else min(limit, TEST_SIZE),
        say=say,
    )
    if bundle.note and bundle.note not in said:
        report.note(bundle.note)
    return bundle


def build(settings: Settings) -> tuple[Module, optim.Optimizer]:
    """The model with its first weights, on its device, and its optimizer."""
    backend.random.manual_seed(settings.seed)
    model = build_model(settings)
    if settings.weights is not None:
        weights = checkpoint.load(settings.weights)
        if not isinstance(weights, Mapping):
            raise CheckpointError(f"{settings.weights} holds no weights by name")
        try:
            model.load_state_dict(weights)
        except CheckpointError as error:
            raise CheckpointError(f"{settings.weights}: {error}") from None
    model.to(device_of_settings(settings))
    if settings.compile:
        model = compile(model)
    make = {"sgd": optim.SGD, "adam": optim.Adam}[settings.optimizer]
    return model, make(model.parameters(), lr=settings.lr)


def make_loader(dataset: Any, settings: Settings, device: Device, shuffle: bool = False) -> data.DataLoader:
    """Batches on the device, in the order of the data set or mixed by minigrad's generator."""
    return data.DataLoader(dataset, settings.batch_size or 1, shuffle=shuffle, device=device)


def mixed_loader(dataset: Any, settings: Settings) -> data.DataLoader:
    """In random order, without touching the order of the next training epoch."""
    return data.DataLoader(
        dataset,
        settings.batch_size or 1,
        shuffle=True,
        generator=settings.seed,
        device=device_of_settings(settings),
    )
