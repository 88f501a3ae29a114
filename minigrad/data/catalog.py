"""What Fashion-MNIST and MNIST consist of: files, shapes, checksums, classes, and where they are served.

Checksums are MD5 sums of the *uncompressed* bytes, so a file that a mirror or a colleague compressed again
is still the right file. Both data sets use the same four file names with the same sizes, which is why one is
now and then served in place of the other; `culprit` recognises that from the sum.

Next: `sources.py`, which looks for these files, and `download.py`, which fetches them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from minigrad.data.idx import idx_md5, read_idx
from minigrad.errors import DataError, describe

__all__ = [
    "FASHION_MNIST",
    "MNIST",
    "SOURCES",
    "ChecksumError",
    "DataFile",
    "Source",
    "culprit",
    "read_checked",
]


class ChecksumError(DataError):
    """A well-formed file that is not the one that was published."""


@dataclass(frozen=True)
class DataFile:
    """One IDX file: its name without `.gz`, the MD5 of its uncompressed bytes, its shape."""

    name: str
    md5: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes:
        name: as `minigrad.data.load` takes it.
        title: as people write it.
        folders: where its files lie inside a data directory, most specific first; "" is the directory itself.
        mirrors: https addresses of folders with the four `.gz` files, tried in this order.
        files: train images, train labels, test images, test labels.
        classes: names of the classes 0, 1, 2, ...
    """

    name: str
    title: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: tuple[DataFile, DataFile, DataFile, DataFile]
    classes: tuple[str, ...]

    def split(self, train: bool) -> tuple[DataFile, DataFile]:
        """Images and labels of the training or the test part."""
        return self.files[:2] if train else self.files[2:]


FASHION_MNIST = Source(
    name="fashion_mnist",
    title="Fashion-MNIST",
    folders=("fashion-mnist", "FashionMNIST/raw", "fashion_mnist", "FashionMNIST", "raw", ""),
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    files=(
        DataFile("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a", (60000, 28, 28)),
        DataFile("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9", (60000,)),
        DataFile("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a", (10000, 28, 28)),
        DataFile("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965", (10000,)),
    ),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

MNIST = Source(
    name="mnist",
    title="MNIST",
    folders=("mnist", "MNIST/raw", "MNIST", "raw", ""),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=(
        DataFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", (60000, 28, 28)),
        DataFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", (60000,)),
        DataFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", (10000, 28, 28)),
        DataFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", (10000,)),
    ),
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
)

SOURCES = {source.name: source for source in (FASHION_MNIST, MNIST)}


def culprit(md5: str) -> str:
    """The published file that has this checksum, in words, or "" if none has.

    >>> culprit("2646ac647ad5339dbf082846283269ea")
    'MNIST t10k-images-idx3-ubyte'
    """
    for source in SOURCES.values():
        for file in source.files:
            if file.md5 == md5:
                return f"{source.title} {file.name}"
    return ""


def read_checked(
    path: str | os.PathLike[str], file: DataFile, source: Source, *, name: str | None = None
) -> np.ndarray:
    """The array in the IDX file at `path`, once it is known to be `file` of `source`.

    Raises:
        ChecksumError: the bytes are those of another file; the message says which, if it is a known one.
        DataError: the file is missing, damaged or of another kind.
    """
    name = name or os.fspath(path)
    array = read_idx(path, ndim=len(file.shape), name=name)
    found = idx_md5(array)
    if found == file.md5:
        return array
    rows = [
        ("expected", file.md5, f"{source.title} {file.name}"),
        ("found", found, culprit(found) or "no file known to minigrad"),
    ]
    hint = "the file was changed or damaged; delete it and fetch it again"
    if culprit(found):
        hint = f"these are the bytes of {culprit(found)}; files, folders or mirrors were mixed up"
    raise ChecksumError(describe(f"{name}: wrong MD5 of the uncompressed bytes", rows, hint))
