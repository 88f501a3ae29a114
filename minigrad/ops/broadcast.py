"""The backward of broadcasting: what was stretched in forward is summed in backward."""

from __future__ import annotations

from typing import Any

from minigrad.shapes import Shape

__all__ = ["sum_to"]


def sum_to(gy: Any, shape: Shape) -> Any:
    """Sum the gradient gy over the dimensions that broadcasting added to or stretched from `shape`.

    >>> import numpy
    >>> sum_to(numpy.ones((4, 3)), (3,)).tolist(), sum_to(numpy.ones((4, 3)), (4, 1)).shape
    ([4.0, 4.0, 4.0], (4, 1))
    """
    if gy.shape == shape:
        return gy
    added = gy.ndim - len(shape)
    stretched = tuple(i + added for i, size in enumerate(shape) if size == 1 and gy.shape[i + added] != 1)
    return gy.sum(axis=(*range(added), *stretched)).reshape(shape)
