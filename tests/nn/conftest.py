"""The fixtures `torch`, skipped where PyTorch is not installed, and `device`: NumPy, stand-in, GPU."""

from typing import Any

import pytest

from tests.strict.fixtures import device

__all__ = ["device", "torch"]


@pytest.fixture(scope="session")
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the tensors are small; more threads would only wait for each other
    return torch
