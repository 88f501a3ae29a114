"""The fixture `device` (NumPy, strict stand-in, GPU)."""

from tests.strict.fixtures import device  # noqa: F401
