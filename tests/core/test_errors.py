"""The exceptions: each is also the built-in one that a user would catch."""

from __future__ import annotations

import pytest

import minigrad as mg
from minigrad import errors

BUILTINS = {
    "ArgumentError": ValueError,
    "CheckpointError": RuntimeError,
    "DataError": ValueError,
    "DeviceError": RuntimeError,
    "DimError": IndexError,
    "DtypeError": TypeError,
    "GradientError": RuntimeError,
    "LabelError": IndexError,
    "MinigradError": Exception,
    "NonFiniteError": FloatingPointError,
    "OutOfRangeError": IndexError,
    "ShapeError": ValueError,
}


def test_every_class_is_listed():
    assert set(BUILTINS) | {"describe"} == set(errors.__all__)


@pytest.mark.parametrize("name", BUILTINS)
def test_bases(name):
    error = getattr(errors, name)
    assert issubclass(error, errors.MinigradError)
    assert issubclass(error, BUILTINS[name])
    assert error.__doc__


def test_a_dimension_that_is_not_there_is_also_a_value_error():
    with pytest.raises(ValueError, match="dim 3"):
        mg.ones(2).sum(3)
    with pytest.raises(IndexError, match="dim 3"):
        mg.ones(2).sum(3)


def test_describe():
    rows = [("x", (2, 3), "N in"), ("weight", (15, 4), "")]
    assert errors.describe("title", rows, "hint") == (
        "title\n"
        "  x       (2, 3)   N in\n"
        "  weight  (15, 4)\n"
        "  hint: hint"
    )  # fmt: skip
    assert errors.describe("title") == "title"
    assert errors.describe("title", hint="way out") == "title\n  hint: way out"


def test_messages_are_one_piece():
    """An error says what came and what to do in the message itself: nothing on stderr, no chain to read."""
    with pytest.raises(errors.ShapeError) as caught:
        mg.tensor([1.0, 2.0]).item()
    assert caught.value.__cause__ is None
    with pytest.raises(errors.DtypeError) as caught2:
        mg.ones(2).type("nonsense64")
    assert caught2.value.__suppress_context__
