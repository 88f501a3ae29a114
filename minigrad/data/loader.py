"""DataLoader: a data set in batches, in a new random order each epoch.

The order is drawn on the host, so a seed gives the same batches on every device. A batch of a data set that
is held in arrays is gathered in one step; that is why there are no worker processes.

With a GPU as `device` an `ArrayDataset` lies there as bytes. An epoch copies its order there, and then its
batches are gathered without a word between host and device: also the labels, which were checked when the data
set was made, are not looked at again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.data.dataset import batch_last, gather, random_generator
from minigrad.errors import ArgumentError
from minigrad.nn.functional.loss import remember_range
from minigrad.tensor import Tensor

__all__ = ["DataLoader"]


class DataLoader:
    """Iterates over a data set in batches. Names and defaults are PyTorch's.

    Each batch is a tuple of Tensors; for pictures with labels (X, y), X float32 (N, C, H, W) and y int64
    (N,). On the CPU images are batch-last in memory (see `dataset.py`).

    Args:
        dataset: anything with `__len__` and `__getitem__`; fast if it also has `gather`.
        batch_size: examples in a batch; the last batch has what is left.
        shuffle: a new random order at the start of each epoch.
        drop_last: leave out a last batch that is not full.
        num_workers, pin_memory: accepted so that code written for PyTorch runs; nothing depends on them.
        collate_fn: makes a batch of a list of examples, in place of the usual way.
        generator: numpy.random.Generator or seed for the order; default: the one of `minigrad.manual_seed`.
        device: where the batches go. An `ArrayDataset` is copied there once, and batches are gathered there.
        transform: applied to the first field of each batch, an array (N, ...).

    Raises:
        ArgumentError: a bad option, an empty data set, or no full batch with drop_last.

    >>> from minigrad.data import ArrayDataset
    >>> data = ArrayDataset(np.zeros((10, 28, 28), dtype=np.uint8), np.arange(10))
    >>> loader = DataLoader(data, batch_size=4, shuffle=True)
    >>> [X.shape for X, y in loader]
    [(4, 1, 28, 28), (4, 1, 28, 28), (2, 1, 28, 28)]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        generator: np.random.Generator | int | None = None,
        device: Any = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        for name in ("__len__", "__getitem__"):
            if not hasattr(dataset, name):
                kind = type(dataset).__name__
                raise ArgumentError(f"DataLoader: {kind} is not a data set: it has no {name}")
        if len(dataset) == 0:
            raise ArgumentError("DataLoader: the data set is empty")
        self.dataset = dataset
        self.batch_size = _positive_integer(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.generator = generator if generator is None else random_generator(generator)
        self.device = None if device is None else backend.device(device)
        self.transform = transform
        if len(self) == 0:
            raise ArgumentError(
                f"DataLoader: {len(dataset)} examples make no full batch of {batch_size}, and drop_last "
                "leaves out the rest; use a smaller batch_size"
            )
        self._resident = self.device is not None and self.device.type != "cpu" and hasattr(dataset, "to")
        self._source = dataset.to(self.device) if self._resident else dataset

    def __len__(self) -> int:
        """Number of batches."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def draw_order(self) -> np.ndarray:
        """The order of the next epoch: the numbers of all examples, on the host."""
        n = len(self.dataset)
        return random_generator(self.generator).permutation(n) if self.shuffle else np.arange(n)

    @property
    def resident(self) -> Any:
        """The data set on `device`, if that is a GPU and the data set can be moved there; else None."""
        return self._source if self._resident else None

    def __iter__(self) -> Iterator[Any]:
        return self._batches(self.draw_order())

    def in_order(self, order: np.ndarray) -> Iterator[Any]:
        """The batches of an epoch whose order is drawn already."""
        return self._batches(order)

    def _batches(self, order: Any) -> Iterator[Any]:
        if self._resident and self.collate_fn is None:
            order = backend.to_device(order, self.device)  # once an epoch, and not for each batch
        for number in range(len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            if self.collate_fn is not None:
                yield self.collate_fn([self.dataset[int(index)] for index in indices])
            else:
                yield self._batch(indices)

    def _batch(self, indices: Any) -> tuple[Tensor, ...]:
        first, *others = gather(self._source, indices)
        if self.transform is not None:
            first = self.transform(first)
            first = first.array if isinstance(first, Tensor) else first
        arrays = (first, *others)
        if self.device is not None:
            arrays = tuple(backend.to_device(array, self.device) for array in arrays)
        batch = tuple(Tensor(batch_last(array)) for array in arrays)
        if self._resident and hasattr(self._source, "label_range"):
            remember_range(batch[1], *self._source.label_range)
        return batch


def _positive_integer(batch_size: Any) -> int:
    try:
        number = 0 if isinstance(batch_size, bool) else operator.index(batch_size)
    except TypeError:
        number = 0
    if number < 1:
        raise ArgumentError(f"DataLoader: batch_size must be an integer of at least 1, got {batch_size!r}")
    return number
