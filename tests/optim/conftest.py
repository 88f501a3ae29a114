"""The fixture `device`: NumPy, the strict stand-in for CuPy, a GPU where there is one."""

from tests.strict.fixtures import device  # noqa: F401
