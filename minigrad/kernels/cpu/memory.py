"""Arrays whose memory is used again.

A fresh array of some megabytes costs more than its arithmetic: the operating system hands out its pages one
by one, each filled with zeros. `empty` takes memory that an earlier array has left behind. The array's base
is a `Lease`; when the last view of the array is gone, so is the lease, and the memory returns to the shelf.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

__all__ = ["empty", "run_dtype"]

SHELF_LIMIT = 64  # arrays kept for each size
SIZES = 64  # sizes that have a shelf; without a limit, batches of many different sizes would fill the memory
SMALLEST = 1 << 15  # below this many bytes a fresh array is cheaper

Piece = tuple[np.ndarray, int]  # memory and its address, which takes long to ask for
_shelves: dict[int, list[Piece]] = {}  # by size in bytes; the size used last stands last


class Lease:
    """Owns a piece of memory, and puts it back on the shelf when nobody uses it any more.

    NumPy makes an array of it as its `__array_interface__` says.
    """

    __slots__ = ("__array_interface__", "piece")

    def __init__(self, piece: Piece, shape: tuple[int, ...], dtype: np.dtype):
        self.piece = piece
        self.__array_interface__: dict[str, Any] = {
            "data": (piece[1], False),  # False: not read-only
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        # Each step is atomic. Where two threads meet, a shelf may get lost, and with it only spare memory.
        nbytes = self.piece[0].nbytes
        shelf = _shelves.pop(nbytes, [])
        if len(shelf) < SHELF_LIMIT:
            shelf.append(self.piece)
        _shelves[nbytes] = shelf
        for size in list(_shelves)[:-SIZES]:
            _shelves.pop(size, None)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, in memory that was used before where there is some of this size."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    try:
        piece = _shelves[nbytes].pop()  # list.pop is atomic
    except (KeyError, IndexError):
        memory = np.empty(nbytes, np.uint8)
        piece = memory, memory.ctypes.data
    return np.asarray(Lease(piece, shape, dtype))


@cache
def run_dtype(count: int, itemsize: int) -> np.dtype:
    """Neighbouring numbers as one item, which NumPy copies in one go: with 32 numbers that is twice as fast."""
    return np.dtype((np.void, count * itemsize))
