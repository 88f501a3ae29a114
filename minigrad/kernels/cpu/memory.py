"""Arrays whose memory is used again.

A fresh array of some megabytes costs more than its arithmetic: the operating system hands out its pages one
by one, each filled with zeros. `empty` takes memory that an earlier array has left behind. The array's base
is a `Lease`; when the last view of the array is gone, so is the lease, and the memory returns to the shelf.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["empty"]

SHELF_LIMIT = 64  # arrays kept for each size
SIZES = 64  # sizes that have a shelf; without a limit, batches of many different sizes would fill the memory
SMALLEST = 1 << 15  # below this many bytes a fresh array is cheaper

_shelves: dict[int, list[np.ndarray]] = {}  # the size used last stands last


class Lease:
    """Owns a piece of memory, and puts it back on the shelf when nobody uses it any more."""

    def __init__(self, memory: np.ndarray):
        self.memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        # Each step is atomic. Where two threads meet, a shelf may get lost, and with it only spare memory.
        shelf = _shelves.pop(self.memory.nbytes, [])
        if len(shelf) < SHELF_LIMIT:
            shelf.append(self.memory)
        _shelves[self.memory.nbytes] = shelf
        for size in list(_shelves)[:-SIZES]:
            _shelves.pop(size, None)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, in memory that was used before where there is some of this size."""
    dtype = np.dtype(dtype)
    count = 1
    for size in shape:
        count *= size
    nbytes = count * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    try:
        memory = _shelves[nbytes].pop()  # list.pop is atomic
    except (KeyError, IndexError):
        memory = np.empty(nbytes, np.uint8)
    return np.asarray(Lease(memory)).view(dtype).reshape(shape)
