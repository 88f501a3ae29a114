"""The fixture `device`, also when these tests run alone."""

from tests.strict.fixtures import device

__all__ = ["device"]
