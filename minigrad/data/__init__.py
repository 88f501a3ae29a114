"""Data: pictures and labels, from a file, the network or drawn by code, to batches of Tensors.

    data = mg.data.load("auto")                          # Fashion-MNIST, or else the drawn garments
    train_iter = DataLoader(data.train, 256, shuffle=True)
    for X, y in train_iter: ...

Reading order: `dataset.py` and `loader.py` (what a batch is), `transforms.py`, `bundle.py` (`load`); then
where the bytes come from: `idx.py`, `catalog.py`, `sources.py`, `download.py`, and `garments.py`.
"""

from minigrad.data import transforms
from minigrad.data.bundle import MNIST, NAMES, DataBundle, FashionMNIST, load
from minigrad.data.catalog import ChecksumError
from minigrad.data.dataset import ArrayDataset, Dataset, Subset, TensorDataset, random_split
from minigrad.data.download import DataUnavailableError
from minigrad.data.garments import garments
from minigrad.data.idx import read_idx, write_idx
from minigrad.data.loader import DataLoader
from minigrad.data.transforms import Compose, Lambda, Normalize, Resize, Standardize, ToFloat, Transform

__all__ = [
    "MNIST",
    "NAMES",
    "ArrayDataset",
    "ChecksumError",
    "Compose",
    "DataBundle",
    "DataLoader",
    "DataUnavailableError",
    "Dataset",
    "FashionMNIST",
    "Lambda",
    "Normalize",
    "Resize",
    "Standardize",
    "Subset",
    "TensorDataset",
    "ToFloat",
    "Transform",
    "garments",
    "load",
    "random_split",
    "read_idx",
    "transforms",
    "write_idx",
]
