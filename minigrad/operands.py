"""What may stand beside a Tensor in an operation: another Tensor, a Python number, a NumPy array.

Brings the two operands to one dtype by the rules of `dtypes.promote`, and refuses the mixtures that would
change precision without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.autograd import Variable
from minigrad.dtypes import DEFAULT, as_dtype, is_float, promote
from minigrad.errors import DtypeError
from minigrad.ops.elementwise import Cast
from minigrad.shapes import broadcast_shapes

__all__ = ["cast", "operands", "to_operand"]


def cast(x: Variable, dtype: np.dtype) -> Variable:
    """x in another dtype; x itself if it has that dtype already."""
    return x if x.array.dtype == dtype else Cast.apply(x, dtype)


def to_operand(operation: str, x: Variable, other: Any) -> Any:
    """`other` as a Variable or a Python number, or NotImplemented if it is something else."""
    if isinstance(other, Variable):
        return other
    if isinstance(other, np.generic):
        return _numpy_scalar(operation, x, other)
    if isinstance(other, (bool, int, float)):
        return other
    if backend.is_array(other):
        as_dtype(other.dtype)  # refuses what no tensor can hold, complex numbers for instance
        if other.dtype != x.array.dtype and other.dtype.kind == "f" and x.array.dtype.kind == "f":
            raise DtypeError(
                f"{operation}: a {other.dtype} array meets a {x.array.dtype} tensor; "
                f"convert one of them, for example minigrad.tensor(array, dtype=minigrad.{x.array.dtype})"
            )
        return x._new(other)
    return NotImplemented


def _numpy_scalar(operation: str, x: Variable, other: np.generic) -> Any:
    """A NumPy scalar as a Python number, unless it would carry more precision than x has."""
    if (
        other.dtype.kind == "f"
        and is_float(x.array.dtype)
        and np.promote_types(other.dtype, x.array.dtype) != x.array.dtype
    ):
        raise DtypeError(
            f"{operation}: a NumPy {other.dtype} scalar meets a {x.array.dtype} tensor; "
            f"write float(value), or convert the tensor with .double()"
        )
    return other.item()


def operands(operation: str, x: Variable, other: Any, floating: bool = False) -> tuple[Any, Any] | None:
    """Both operands, ready for a primitive operation; None if `other` is nothing to calculate with.

    With `floating` (division) integers become floats first.
    """
    y = to_operand(operation, x, other)
    if y is NotImplemented:
        return None
    dtype = x.array.dtype
    if isinstance(y, Variable):
        broadcast_shapes(operation, x.array.shape, y.array.shape)
        dtype = promote(dtype, y.array.dtype, x.array.ndim, y.array.ndim)
    elif isinstance(y, float) and not is_float(dtype):
        dtype = DEFAULT
    elif not isinstance(y, bool) and dtype.kind == "b":
        dtype = np.dtype(np.int64)
    if floating and not is_float(dtype):
        dtype = DEFAULT
    return cast(x, dtype), cast(y, dtype) if isinstance(y, Variable) else y
