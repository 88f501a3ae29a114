"""The fixture `torch`, skipped where PyTorch is not installed."""

from typing import Any

import pytest


@pytest.fixture(scope="session")
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the tensors are small; more threads would only wait for each other
    return torch
