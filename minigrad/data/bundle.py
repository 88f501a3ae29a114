"""`load`: the data for a training run by name, and the two published data sets as classes.

`load("auto")` takes Fashion-MNIST if it can be had, and otherwise the garments drawn by code, and says so.
`load("fashion_mnist")` and `load("mnist")` refuse instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigrad.data.catalog import FASHION_MNIST, SOURCES, Source
from minigrad.data.catalog import MNIST as MNIST_SOURCE
from minigrad.data.dataset import ArrayDataset
from minigrad.data.download import DataUnavailableError
from minigrad.data.garments import garments
from minigrad.data.sources import fetch, find_files
from minigrad.errors import ArgumentError

__all__ = ["MNIST", "NAMES", "DataBundle", "FashionMNIST", "load"]

NAMES = ("auto", "fashion_mnist", "mnist", "garments")
Say = Callable[[str], None] | None


@dataclass(frozen=True)
class DataBundle:
    """What `load` returns.

    Attributes:
        train, test: the two parts.
        name: "fashion_mnist", "mnist" or "garments": what the pictures really are, for every result.
        title: the same as people write it.
        origin: the folder that the files came from, or "drawn by code, seed 0".
        note: a line for the user if this is not what one would expect, else "".
    """

    train: ArrayDataset
    test: ArrayDataset
    name: str
    title: str
    origin: str
    note: str = ""


def load(
    name: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    transform: Callable[[Any], Any] | None = None,
    mirrors: Sequence[str] | None = None,
    say: Say = print,
) -> DataBundle:
    """Training and test set by name.

    Args:
        name: "auto", "fashion_mnist", "mnist" or "garments".
        data_dir: folder with the files; default: MINIGRAD_DATA, then the cache, then the network.
        download: whether the network may be used.
        train_size, test_size: only so many examples, the first ones.
        seed: for the garments.
        transform: for the pictures; None means ToFloat(), float32 from 0 to 1.
        mirrors: addresses to use in place of the known ones.
        say: called with a line when a download begins, and with the note, if any; None for silence.

    Raises:
        ArgumentError: an unknown name or a bad size.
        DataUnavailableError: the data set cannot be had (never for "auto" and "garments").
        DataError: the folder named does not hold the files, or a file is damaged or not the published one.

    >>> data = load("garments", train_size=100, test_size=10)
    >>> len(data.train), data.train.classes[0], data.note
    (100, 'T-shirt/top', '')
    """
    key = name.lower().replace("-", "_") if isinstance(name, str) else name
    if key not in NAMES:
        raise ArgumentError(f"unknown data set {name!r}: use {', '.join(NAMES)}")
    if key == "garments":
        return _drawn(train_size, test_size, seed, transform)
    source = FASHION_MNIST if key == "auto" else SOURCES[key]
    try:
        arrays, folder = fetch(source, source.files, data_dir, download=download, mirrors=mirrors, say=say)
    except DataUnavailableError:
        if key != "auto":
            raise
        note = (
            "NOTE: Fashion-MNIST is not on this machine and could not be downloaded. Using the built-in "
            "garments drawn by code instead: figures are not comparable. Set MINIGRAD_DATA to the folder "
            "with its files, or ask for fashion_mnist by name to see what was tried."
        )
        if say is not None:
            say(note)
        return _drawn(train_size, test_size, seed, transform, note)
    train = ArrayDataset(arrays[0], arrays[1], source.classes, transform)
    test = ArrayDataset(arrays[2], arrays[3], source.classes, transform)
    train = train if train_size is None else train.head(train_size)
    test = test if test_size is None else test.head(test_size)
    return DataBundle(train, test, source.name, source.title, str(folder))


def _drawn(
    train_size: int | None,
    test_size: int | None,
    seed: int,
    transform: Callable[[Any], Any] | None,
    note: str = "",
) -> DataBundle:
    classes = FASHION_MNIST.classes
    train = ArrayDataset(*garments(True, train_size, seed=seed), classes, transform)
    test = ArrayDataset(*garments(False, test_size, seed=seed), classes, transform)
    return DataBundle(train, test, "garments", "garments drawn by code", f"drawn by code, seed {seed}", note)


# The published data sets as classes ---


class _Published(ArrayDataset):
    """One part of a published data set; see `FashionMNIST`."""

    source: Source

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        *,
        download: bool = True,
        say: Say = print,
    ) -> None:
        files = self.source.split(train)
        here = root is not None and find_files(self.source, files, Path(root).expanduser())
        # Without leave to download, the folder named has to hold the files; fetch says so if it does not.
        data_dir = root if here or not download else None
        (images, labels), folder = fetch(self.source, files, data_dir, download=download, say=say)
        super().__init__(images, labels, self.source.classes, transform)
        self.train = train
        self.root = str(folder)

    @property
    def data(self) -> Any:
        """The raw pictures, uint8 (n, 28, 28); torchvision's name for `images`."""
        return self.images

    @property
    def targets(self) -> Any:
        """The labels, int64 (n,); torchvision's name for `labels`."""
        return self.labels


class FashionMNIST(_Published):
    """The training or test part of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), as torchvision has it.

    `dataset[i]` is (picture, label): a float32 Tensor (1, 28, 28) and an int.

    Args:
        root: folder to look in first. What is not there comes from MINIGRAD_DATA, from the cache or, into
            the cache, over the network, so that all projects share one copy.
        train: the 60,000 training pictures, else the 10,000 test pictures.
        transform: for each picture; None means ToFloat(), float32 from 0 to 1.
        download: whether anything but `root` (or, without it, MINIGRAD_DATA and the cache) may be used.
        say: called with a line when a download begins; None for silence.

    Raises:
        DataUnavailableError: the files cannot be had.
        DataError: a file is damaged or not the published one.
    """

    source = FASHION_MNIST


class MNIST(_Published):
    """The training or test part of MNIST (LeCun and Cortes), handwritten digits; used like `FashionMNIST`."""

    source = MNIST_SOURCE
