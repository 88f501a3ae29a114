"""The fixture `torch`, skipped where PyTorch is not installed."""

from typing import Any

import pytest


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch")
