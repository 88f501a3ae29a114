"""Checks that several families share: arguments that must be Tensors, numbers that must be positive, dtypes
that must agree."""

from __future__ import annotations

from typing import Any

from minigrad.dtypes import is_float
from minigrad.errors import ArgumentError, DtypeError
from minigrad.tensor import Tensor

__all__ = ["check_floating", "check_positive", "check_same_dtype", "check_tensor", "type_name"]


def type_name(value: Any) -> str:
    """The type of a value as users write it: list, numpy.ndarray, torch.Tensor."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def check_tensor(operation: str, name: str, value: Any, optional: bool = False) -> None:
    """Refuse lists, NumPy arrays and whatever else is no Tensor; None is one of them unless `optional`."""
    if isinstance(value, Tensor) or (optional and value is None):
        return
    if value is None:
        raise DtypeError(
            f"{operation}: {name} must be a Tensor, got None; does the forward before it return its result?"
        )
    raise DtypeError(
        f"{operation}: {name} must be a Tensor, got {type_name(value)}; convert it with minigrad.tensor(...)"
    )


def check_positive(operation: str, **values: tuple[int, ...]) -> None:
    """Refuse strides, dilations and the like below 1."""
    for name, numbers in values.items():
        if min(numbers) < 1:
            shown = numbers[0] if len(set(numbers)) == 1 else numbers
            raise ArgumentError(f"{operation}: {name} must be at least 1, got {shown}")


def check_floating(operation: str, x: Tensor) -> None:
    """Refuse whole numbers where fractions come out."""
    if not is_float(x.dtype):
        raise DtypeError(f"{operation}: needs floating-point numbers, x is {x.dtype}; use x.float()")


def check_same_dtype(operation: str, **tensors: Tensor | None) -> None:
    """Refuse a mixture of dtypes, which would change the precision of the result without a word."""
    (first, x), *others = [(name, t) for name, t in tensors.items() if t is not None]
    for name, t in others:
        if t.dtype != x.dtype:
            raise DtypeError(
                f"{operation}: {first} is {x.dtype}, {name} is {t.dtype}; convert one, "
                f"for example {first}.to({name}.dtype) or model.double()"
            )
