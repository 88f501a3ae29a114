"""The fixtures of the core's tests: `device` (NumPy, strict stand-in, GPU) and `rng`, seeded by the test's name."""

import zlib

import numpy as np
import pytest

from tests.strict.fixtures import device

__all__ = ["device", "rng"]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test's own: the same in every run, whichever tests run before."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
