"""Random numbers, all of them drawn on the host by one NumPy generator.

Weights, dropout masks and the order of batches are drawn here and then copied to the device, so a
seed gives the same numbers on the CPU and on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import ArgumentError

__all__ = ["generator", "get_state", "manual_seed", "set_state"]

_generator: np.random.Generator | None = None  # made when first needed: numpy.random takes a while to import


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the generator of this process from `seed` (a whole number, at least 0).

    >>> a = manual_seed(0).random(); b = manual_seed(0).random(); a == b
    True
    """
    global _generator
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"manual_seed: the seed must be a whole number of at least 0, got {seed!r}")
    _generator = np.random.default_rng(int(seed))
    return _generator


def generator() -> np.random.Generator:
    """The generator that everything random in minigrad draws from."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def get_state() -> dict[str, Any]:
    """The generator's state, as plain numbers and strings, for saving."""
    return dict(generator().bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Go on from a state that `get_state` gave."""
    generator().bit_generator.state = state
