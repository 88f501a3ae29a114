"""The exceptions of minigrad.

Every class is also the built-in exception that a Python or PyTorch user would expect to catch:
`except ValueError` still catches a `ShapeError`. A message names the operation, what came and the way
out; `describe` lays out the longer ones.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "DataError",
    "DeviceError",
    "DimError",
    "DtypeError",
    "GradientError",
    "LabelError",
    "MinigradError",
    "NonFiniteError",
    "OutOfRangeError",
    "ShapeError",
    "describe",
]


class MinigradError(Exception):
    """Base of all errors that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """Shapes that do not fit together."""


class DimError(ShapeError, IndexError):
    """A dimension that the tensor does not have."""


class DtypeError(MinigradError, TypeError):
    """A dtype that the operation does not take, or a mixture that would lose digits silently."""


class ArgumentError(MinigradError, ValueError):
    """An argument or option outside its range."""


class OutOfRangeError(ArgumentError, IndexError):
    """An index beyond the end of a dimension."""


class DeviceError(MinigradError, RuntimeError):
    """A device that is not there, or arrays that live on different ones."""


class GradientError(MinigradError, RuntimeError):
    """A backward pass that cannot be done, or a `Function.backward` that returned the wrong thing."""


class LabelError(MinigradError, IndexError):
    """A class label outside 0 .. classes - 1."""


class DataError(MinigradError, ValueError):
    """A data file that is missing, damaged or of the wrong kind."""


class CheckpointError(MinigradError, RuntimeError):
    """Saved weights that cannot be read or do not fit the model."""


class NonFiniteError(MinigradError, FloatingPointError):
    """A loss that became NaN or infinite."""


def describe(title: str, rows: Sequence[tuple[str, object, str]] = (), hint: str = "") -> str:
    """One message in the house layout: a title, a row (name, value, remark) for each fact, a hint.

    >>> print(describe("linear: x has 3 features, weight expects 4",
    ...                [("x", (2, 3), "N in"), ("weight", (5, 4), "out in")], "use Linear(3, 5)"))
    linear: x has 3 features, weight expects 4
      x       (2, 3)  N in
      weight  (5, 4)  out in
      hint: use Linear(3, 5)
    """
    lines = [title]
    cells = [(name, str(value), remark) for name, value, remark in rows]
    wide_name = max((len(name) for name, _, _ in cells), default=0)
    wide_value = max((len(value) for _, value, _ in cells), default=0)
    for name, value, remark in cells:
        lines.append(f"  {name:<{wide_name}}  {value:<{wide_value}}  {remark}".rstrip())
    if hint:
        lines.append(f"  hint: {hint}")
    return "\n".join(lines)
