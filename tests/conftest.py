"""What holds for all tests."""

import os
import re
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no window opens, with or without a screen

# No deadline: tests do not look at the clock. In CI hypothesis draws the same examples each time, so that a
# change is not held up by a find that has nothing to do with it; elsewhere it goes on looking.
hypothesis.settings.register_profile("minigrad", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("minigrad")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every file that names PyTorch, so that `make parity` runs it where PyTorch is installed."""
    sources: dict[Path, str] = {}
    for item in items:
        if item.path not in sources:
            sources[item.path] = item.path.read_text(encoding="utf-8")
        if re.search(r"\btorch\b", sources[item.path]):
            item.add_marker(pytest.mark.parity)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Each test starts from the same seed and leaves gradients switched on."""
    import minigrad as mg

    mg.manual_seed(0)
    yield
    assert mg.is_grad_enabled(), "this test left gradients switched off"
