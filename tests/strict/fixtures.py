"""The fixture `device`: a test that asks for it runs on NumPy, on the strict stand-in and on a GPU."""

from __future__ import annotations

import pytest

from minigrad import backend
from tests import strict


@pytest.fixture(params=["cpu", "strict", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device; "cuda" is skipped, with the reason, where it cannot be used."""
    name: str = request.param
    if name == "strict":
        strict.install()
        strict.counts.reset()
    if name == "cuda" and (reason := backend.cuda.why_not()) is not None:
        pytest.skip(reason)
    return name
