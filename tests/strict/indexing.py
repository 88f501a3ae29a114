"""How CuPy indexes, on NumPy arrays: indices out of range wrap around, and duplicates race.

A key is what stands between the brackets, as a tuple, with plain NumPy arrays in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Key = tuple[Any, ...]


def is_advanced(key: Key) -> bool:
    """Whether the key has an index array, so that indexing copies instead of making a view."""
    return any(isinstance(part, np.ndarray) for part in key)


def wrap_around(key: Key, shape: tuple[int, ...]) -> Key:
    """The key with each index array taken modulo the length of its axis, as CuPy's kernels do.

    >>> wrap_around((slice(None), np.array([3, -5])), (2, 3))
    (slice(None, None, None), array([0, 1]))
    """
    taken = sum(axes_of(part) for part in key)
    axis, found = 0, []
    for part in key:
        if isinstance(part, np.ndarray) and part.dtype != bool and axis < len(shape) and shape[axis] > 0:
            found.append(np.asarray(part % shape[axis]))  # a 0-d array stays one
        else:
            found.append(part)
        axis += len(shape) - taken if part is Ellipsis else axes_of(part)
    return tuple(found)


def axes_of(part: Any) -> int:
    """How many axes of the array one part of a key uses up (an Ellipsis: those that are left)."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1


def has_duplicates(key: Key, shape: tuple[int, ...]) -> bool:
    """Whether the key names an element more than once."""
    chosen = np.arange(int(np.prod(shape))).reshape(shape)[key]
    return np.unique(chosen).size < chosen.size


def along_axis(indices: np.ndarray, shape: tuple[int, ...], axis: int) -> Key:
    """The key that `take_along_axis` and `put_along_axis` stand for."""
    axis = range(len(shape))[axis]
    return tuple(
        indices if i == axis else np.arange(n).reshape((-1,) + (1,) * (len(shape) - i - 1))
        for i, n in enumerate(shape)
    )
