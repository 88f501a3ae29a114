"""Numbers that come one or two a batch, and lie on a device.

To read a number from a GPU, the host waits until everything started there is done, and meanwhile starts nothing
new: with a look at the loss in each step, both would wait for each other all the time. So the numbers of many
batches stay where they are, and `read` fetches them all in one go.

    readings = Readings()
    for ...:
        readings.add(loss.array, correct)      # starts nothing and waits for nothing
    for loss, correct in readings.read():      # waits once
        ...

On the CPU reading costs nothing, so `loop.py` reads after each batch there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend

__all__ = ["Readings"]

Array = Any


class Readings:
    """Rows of numbers: those that were not read yet on their device, `count` rows altogether.

    >>> readings = Readings()
    >>> readings.add(np.array(0.5), np.array(3))
    >>> readings.add(np.array(0.25), np.array(4))
    >>> readings.read(), readings.read(), readings.count
    ([(0.5, 3.0), (0.25, 4.0)], [], 2)
    """

    def __init__(self) -> None:
        self.count = 0
        self._unread: list[tuple[Array, ...]] = []

    def add(self, *numbers: Array) -> None:
        """One row: arrays of one element, as many as in every row."""
        self._unread.append(tuple(number.reshape(1) for number in numbers))
        self.count += 1

    def read(self) -> list[tuple[float, ...]]:
        """The rows added since the last reading, as Python floats. Waits for the device, once."""
        rows, self._unread = self._unread, []
        if not rows:
            return []
        xp = backend.namespace(rows[0][0])
        columns = [xp.concatenate(column).astype(np.float64) for column in zip(*rows, strict=True)]
        host = backend.to_numpy(xp.stack(columns))
        return [tuple(row) for row in host.T.tolist()]
