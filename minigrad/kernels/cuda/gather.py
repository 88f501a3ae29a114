"""The next batch of a data set that lies on the device as bytes; see sources/gather.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels.cuda.module import BLOCK, Array, blocks, launch

__all__ = ["byte_table", "gather_batch"]


def byte_table(transform: Callable[[Any], Any], channels: int, dtype: Any = np.float32) -> np.ndarray:
    """The value of each byte in each channel, (channels, 256), by the transform itself, on the host.

    The transform gets pictures (256, channels, 1, 1), each of one byte everywhere. It must change pixels one by one.

    >>> byte_table(lambda x: x / 255, 1)[0, [0, 51, 255]]
    array([0. , 0.2, 1. ], dtype=float32)
    """
    pictures = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, channels, 1, 1))
    values = np.asarray(transform(pictures.copy()), dtype)
    return np.ascontiguousarray(values.reshape(256, channels).T)


def gather_batch(
    images: Array,
    labels: Array,
    table: Array,
    order: Array,
    position: Array,
    x: Array,
    y: Array,
    batch: int | None = None,
) -> None:
    """x[n], y[n] = example order[position * batch + n], for all rows of x (N, C, H, W) and y (N,) int64.

    images (examples, [C,] H, W) uint8, labels (examples,) int64, table (C, 256), order (examples,) int64,
    position (1,) int64: how many batches of `batch` examples came before (default: as many as x has rows).
    """
    N, C = x.shape[:2]
    S = x.size // (N * C)
    args = [images, labels, table, order, position, x, y, N if batch is None else batch, C, S]
    launch("gather_batch", (N, blocks(C * S)), (BLOCK,), args)
