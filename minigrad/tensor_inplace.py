"""The part of Tensor that writes: `x += y`, `x[index] = y`, and the methods whose names end in `_`.

In-place writes are allowed on tensors outside of any graph (running averages, parameters under
`no_grad`) and refused inside one, where they would make an already remembered step wrong. Each write counts
up the tensor's version, so that a backward pass notices when a value that it needs has changed.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from minigrad import backend
from minigrad.autograd import Variable
from minigrad.dtypes import can_hold
from minigrad.errors import ArgumentError, DtypeError, GradientError, ShapeError
from minigrad.grad_mode import is_grad_enabled
from minigrad.operands import operands
from minigrad.ops.indexing import check_index
from minigrad.shapes import broadcast_shapes
from minigrad.tensor_base import TensorBase

__all__ = ["InPlace"]


class InPlace(TensorBase):
    """Writes into the memory of a Tensor."""

    def _writable(self, operation: str, other: Any = None) -> None:
        """Refuse to write into a tensor that a remembered operation may have used."""
        array = self.array
        # an empty array has steps of 0, too, but nothing in it to share
        stretched = array.size > 0 and any(
            n > 1 and step == 0 for n, step in zip(array.shape, array.strides, strict=True)
        )
        if stretched or not getattr(array.flags, "writeable", True):
            why = "several elements share one place in memory" if stretched else "its memory is read-only"
            raise ArgumentError(
                f"{operation}: this tensor cannot be changed in place, {why}; clone() it first"
            )
        if not is_grad_enabled():
            return
        if self.requires_grad:
            kind = "a leaf that requires gradients" if self.is_leaf else "part of a graph"
            raise GradientError(
                f"{operation}: this tensor of shape {self.shape} is {kind} and cannot be changed in place; "
                "make a new tensor (x = x + 1, not x += 1), or write inside `with no_grad():`"
            )
        if isinstance(other, Variable) and other.requires_grad:
            raise GradientError(
                f"{operation}: a value that requires gradients cannot be written into another tensor; "
                "make a new tensor (x = x + y, not x += y), or write y.detach()"
            )

    def _write(self, operation: str, other: Any, op: str) -> Self:
        """self = self op other, in the memory of self."""
        self._writable(operation, other)
        pair = operands(operation, self.detach(), other, floating=op == "__truediv__")
        if pair is None:
            raise DtypeError(
                f"{operation}: expected a tensor, an array or a number, got {type(other).__name__}"
            )
        a, b = (p.array if isinstance(p, Variable) else p for p in pair)
        self._same_device(operation, b)
        shape = getattr(b, "shape", ())
        if broadcast_shapes(operation, self.shape, shape) != self.shape:
            raise ShapeError(f"{operation}: shape {shape} does not fit into {self.shape} in place")
        result = getattr(a, op)(b)
        if not can_hold(self.dtype, result.dtype):
            raise DtypeError(
                f"{operation}: a {result.dtype} result cannot be stored in a {self.dtype} tensor"
            )
        self.array[...] = result
        self.version[0] += 1
        return self

    def __iadd__(self, other: Any) -> Self:
        return self._write("+=", other, "__add__")

    def __isub__(self, other: Any) -> Self:
        return self._write("-=", other, "__sub__")

    def __imul__(self, other: Any) -> Self:
        return self._write("*=", other, "__mul__")

    def __itruediv__(self, other: Any) -> Self:
        return self._write("/=", other, "__truediv__")

    def __setitem__(self, index: Any, value: Any) -> None:
        operation = "x[...] = value"
        self._writable(operation, value)
        array = self._xp.asarray(value) if isinstance(value, (list, tuple)) else value
        array = array.array if isinstance(array, Variable) else array
        self._same_device(operation, array)
        where = self._index(index)
        check_index(where, self.shape)
        try:
            self.array[where] = array
        except ValueError as error:
            raise ShapeError(f"{operation}: {error}") from None
        self.version[0] += 1

    def add_(self, other: Any, alpha: Any = 1) -> Self:
        return self._write("add_", other if alpha == 1 else other * alpha, "__add__")

    def sub_(self, other: Any, alpha: Any = 1) -> Self:
        return self._write("sub_", other if alpha == 1 else other * alpha, "__sub__")

    def mul_(self, other: Any) -> Self:
        return self._write("mul_", other, "__mul__")

    def div_(self, other: Any) -> Self:
        return self._write("div_", other, "__truediv__")

    def clamp_(self, min: Any = None, max: Any = None) -> Self:
        """Limit every element to [min, max]."""
        return self.copy_(self.detach().clip(min, max))  # type: ignore[attr-defined]

    def copy_(self, other: Any) -> Self:
        """Write the elements of `other`, from any device and dtype, into this tensor's memory."""
        self._writable("copy_", other)
        source = other.array if isinstance(other, Variable) else other
        source = source if backend.is_array(source) else np.asarray(source)
        if broadcast_shapes("copy_", self.shape, source.shape) != self.shape:
            raise ShapeError(f"copy_: shape {source.shape} does not fit into {self.shape}")
        self.array[...] = backend.to_device(source, self.device).astype(self.dtype)
        self.version[0] += 1
        return self

    def fill_(self, value: Any) -> Self:
        self._writable("fill_")
        self.array[...] = value.item() if isinstance(value, TensorBase) else value
        self.version[0] += 1
        return self

    def zero_(self) -> Self:
        return self.fill_(0)

    def normal_(self, mean: Any = 0.0, std: Any = 1.0) -> Self:
        """Fill with normally distributed random numbers."""
        return self.copy_(backend.random.generator().normal(mean, std, self.shape))

    def uniform_(self, low: Any = 0.0, high: Any = 1.0) -> Self:
        """Fill with uniform random numbers from low to high."""
        return self.copy_(backend.random.generator().uniform(low, high, self.shape))
