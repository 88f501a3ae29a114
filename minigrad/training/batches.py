"""The batches of a data set on the device, gathered there by an order that lies there: the begin of a captured step."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.data.transforms import Compose, Normalize, ToFloat
from minigrad.kernels.cuda import gather as kernels
from minigrad.kernels.cuda import module

__all__ = ["ResidentBatches"]

Array = Any


class ResidentBatches:
    """Batches of an `ArrayDataset` on a device, in the order of `begin`.

    Args:
        dataset: on the device.
        batch_size: batch number k begins with example order[k * batch_size].

    Attributes:
        counters: int64 (2,) on the device: batches of this epoch, and steps altogether; whoever takes a batch
            adds 1 to both.
    """

    def __init__(self, dataset: Any, batch_size: int):
        self.dataset, self.batch_size = dataset, batch_size
        xp = self.xp = backend.namespace(dataset.images)
        self.counters = xp.zeros(2, np.int64)
        self.order = xp.zeros(len(dataset), np.int64)
        self._ramp = xp.arange(batch_size)
        channels = 1 if dataset.images.ndim == 3 else dataset.images.shape[1]
        self.shape = (channels, *dataset.images.shape[-2:])
        self._table = self._images = None
        if module.serves(xp) and dataset.images.dtype == np.uint8 and pixelwise(dataset.transform):
            table = kernels.byte_table(dataset.transform, channels)
            self._table = backend.to_device(table, backend.device_of(dataset.images))
            self._images = module.contiguous(dataset.images)

    @property
    def position(self) -> Array:
        """The number of the next batch, (1,), on the device."""
        return self.counters[:1]

    def begin(self, order: np.ndarray) -> None:
        """Start an epoch, over all examples or fewer."""
        self.order[: len(order)].set(np.ascontiguousarray(order, np.int64))
        self.position.fill(0)

    def gather(self, size: int) -> tuple[Array, Array]:
        """Pictures (size, C, H, W) and labels (size,) of the next batch."""
        if self._table is None:
            rows = self.order.take(self.position * self.batch_size + self._ramp[:size], 0)
            return self.dataset.gather(rows)
        x = module.empty((size, *self.shape), self._table.dtype)
        y = module.empty((size,), np.int64)
        images, labels = self._images, self.dataset.labels
        kernels.gather_batch(images, labels, self._table, self.order, self.position, x, y, self.batch_size)
        return x, y


def pixelwise(transform: Any) -> bool:
    """Whether each number that comes out depends on one byte alone, so that a table can take its place.

    >>> pixelwise(Compose([ToFloat(), Normalize(0.5, 0.5)]))
    True
    """
    if type(transform) is Compose:
        return all(pixelwise(part) for part in transform.transforms)
    return type(transform) in (ToFloat, Normalize)
