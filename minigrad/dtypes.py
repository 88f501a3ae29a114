"""Names of dtypes, and which dtype comes out when two meet.

minigrad's dtypes are NumPy's. The rules are PyTorch's, which differ from NumPy's in one point that
matters here: an integer tensor never widens a float tensor (int64 with float32 is float32, not
float64). Python numbers are weak: `x * 2.0` keeps the dtype of x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import DtypeError

float16 = np.dtype(np.float16)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
uint8 = np.dtype(np.uint8)
int8 = np.dtype(np.int8)
int16 = np.dtype(np.int16)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
bool_ = np.dtype(np.bool_)

DEFAULT = float32
_SUPPORTED = {float16, float32, float64, uint8, int8, int16, int32, int64, bool_}

__all__ = [
    "DEFAULT",
    "as_dtype",
    "bool_",
    "can_hold",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_float",
    "promote",
    "uint8",
]


def as_dtype(value: Any) -> np.dtype:
    """The dtype that `value` names: a dtype, a NumPy type, `float`, `int`, `bool` or a string.

    >>> as_dtype("float64"), as_dtype(float)
    (dtype('float64'), dtype('float32'))
    """
    if value is float or (isinstance(value, str) and value == "float"):  # NumPy means float64 by these
        return DEFAULT
    try:
        if value is None:  # and by this
            raise TypeError
        dtype = np.dtype(value)
    except TypeError:
        raise DtypeError(f"{value!r} is not a dtype; use minigrad.float32, minigrad.int64, ...") from None
    if dtype not in _SUPPORTED:
        raise DtypeError(
            f"dtype {dtype} is not supported; use one of {', '.join(sorted(map(str, _SUPPORTED)))}"
        )
    return dtype


def is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f"


def _category(dtype: np.dtype) -> int:
    return {"b": 0, "u": 1, "i": 1, "f": 2}[dtype.kind]


def can_hold(dtype: np.dtype, value: np.dtype) -> bool:
    """Whether `dtype` may store a result of dtype `value`: no float in an int, and neither in a bool.

    >>> can_hold(float32, float64), can_hold(int64, float32)
    (True, False)
    """
    return _category(value) <= _category(dtype)


def promote(a: np.dtype, b: np.dtype, a_ndim: int = 1, b_ndim: int = 1) -> np.dtype:
    """The dtype of a result of two tensors.

    Floats beat integers beat bools; within a kind the wider one wins, except that a 0-d tensor does not
    widen one that has dimensions.

    >>> promote(float32, int64), promote(float32, float64), promote(float32, float64, 2, 0)
    (dtype('float32'), dtype('float64'), dtype('float32'))
    """
    if a == b:
        return a
    if _category(a) != _category(b):
        return a if _category(a) > _category(b) else b
    if (a_ndim == 0) != (b_ndim == 0):
        return b if a_ndim == 0 else a
    return np.promote_types(a, b)
