"""The fixtures `torch`, skipped where PyTorch is not installed, and `device`: NumPy, stand-in, GPU."""

from typing import Any

import pytest

from tests.strict.fixtures import device


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch")
