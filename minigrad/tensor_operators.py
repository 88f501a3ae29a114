"""The part of Tensor that works element by element: arithmetic, comparison, exp and log, and `@`.

Each method brings the operands to one dtype (`operands.py`) and applies an operation from `ops/`.
"""

from __future__ import annotations

from typing import Any, Self

from minigrad.errors import ArgumentError, DtypeError
from minigrad.operands import operands, to_operand
from minigrad.ops import arithmetic, elementwise, linalg
from minigrad.shapes import broadcast_shapes
from minigrad.tensor_base import TensorBase, floating

__all__ = ["Operators"]


class Operators(TensorBase):
    """Operators and functions of each element."""

    # Arithmetic

    def _binary(self, op: Any, name: str, other: Any, swap: bool = False, division: bool = False) -> Any:
        pair = operands(name, self, other, division)
        if pair is None:
            return NotImplemented
        return op.apply(*(pair[::-1] if swap else pair))

    def __add__(self, other: Any) -> Self:
        return self._binary(arithmetic.Add, "add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Self:
        return self._binary(arithmetic.Sub, "sub", other)

    def __rsub__(self, other: Any) -> Self:
        return self._binary(arithmetic.Sub, "sub", other, swap=True)

    def __mul__(self, other: Any) -> Self:
        return self._binary(arithmetic.Mul, "mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Self:
        return self._binary(arithmetic.Div, "div", other, division=True)

    def __rtruediv__(self, other: Any) -> Self:
        return self._binary(arithmetic.Div, "div", other, swap=True, division=True)

    def __pow__(self, other: Any) -> Self:
        return self._binary(arithmetic.Pow, "pow", other)

    def __rpow__(self, other: Any) -> Self:
        return self._binary(arithmetic.Pow, "pow", other, swap=True)

    def __floordiv__(self, other: Any) -> Self:
        return self._compare("floor_divide", "__floordiv__", other)

    def __mod__(self, other: Any) -> Self:
        return self - (self // other) * other  # type: ignore[no-any-return]

    def __neg__(self) -> Self:
        return arithmetic.Neg.apply(self)

    def __pos__(self) -> Self:
        return self

    def __matmul__(self, other: Any) -> Self:
        x, y = self, to_operand("matmul", self, other)
        if not isinstance(y, TensorBase):
            return NotImplemented
        if x.dtype != y.dtype:
            raise DtypeError(
                f"matmul: dtypes differ, {x.dtype} and {y.dtype}; convert one, for example with .to()"
            )
        return linalg.MatMul.apply(x, y)

    def __rmatmul__(self, other: Any) -> Self:
        y = to_operand("matmul", self, other)
        return y @ self if isinstance(y, Operators) else NotImplemented

    def __abs__(self) -> Self:
        return elementwise.Abs.apply(self)

    def add(self, other: Any, alpha: float = 1) -> Self:
        return self + (other if alpha == 1 else other * alpha)

    def sub(self, other: Any, alpha: float = 1) -> Self:
        return self - (other if alpha == 1 else other * alpha)

    mul = multiply = __mul__
    div = divide = true_divide = __truediv__
    pow = __pow__
    neg = negative = __neg__
    matmul = __matmul__
    abs = __abs__

    def maximum(self, other: Any) -> Self:
        """The larger of two, element by element; equal elements share the gradient."""
        return self._binary(arithmetic.Maximum, "maximum", other)

    def minimum(self, other: Any) -> Self:
        """The smaller of two, element by element; equal elements share the gradient."""
        return self._binary(arithmetic.Minimum, "minimum", other)

    # Comparison: the result is a bool tensor, outside of any graph

    def _compare(self, name: str, method: str, other: Any) -> Any:
        pair = operands(name, self.detach(), other)
        if pair is None:
            return NotImplemented
        a, b = (p.array if isinstance(p, TensorBase) else p for p in pair)
        return self._new(self._xp.asarray(getattr(a, method)(b)))

    def __eq__(self, other: Any) -> Any:
        return self._compare("eq", "__eq__", other)

    def __ne__(self, other: Any) -> Any:
        return self._compare("ne", "__ne__", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("lt", "__lt__", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("le", "__le__", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare("gt", "__gt__", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare("ge", "__ge__", other)

    def __and__(self, other: Any) -> Any:
        return self._compare("and", "__and__", other)

    def __or__(self, other: Any) -> Any:
        return self._compare("or", "__or__", other)

    def __xor__(self, other: Any) -> Any:
        return self._compare("xor", "__xor__", other)

    def __invert__(self) -> Self:
        return self._new(~self.array)

    __hash__ = TensorBase.__hash__  # by identity; defining __eq__ would drop it
    eq, ne, lt, le, gt, ge = __eq__, __ne__, __lt__, __le__, __gt__, __ge__
    logical_and, logical_or, logical_not = __and__, __or__, __invert__

    # Functions of each element

    def exp(self) -> Self:
        return elementwise.Exp.apply(floating(self))

    def log(self) -> Self:
        return elementwise.Log.apply(floating(self))

    def log1p(self) -> Self:
        return elementwise.Log1p.apply(floating(self))

    def sqrt(self) -> Self:
        return elementwise.Sqrt.apply(floating(self))

    def rsqrt(self) -> Self:
        return 1 / self.sqrt()

    def square(self) -> Self:
        return self * self

    def reciprocal(self) -> Self:
        return 1 / self

    def sin(self) -> Self:
        return elementwise.Sin.apply(floating(self))

    def cos(self) -> Self:
        return elementwise.Cos.apply(floating(self))

    def clip(self, min: Any = None, max: Any = None) -> Self:
        """Every element limited to [min, max]."""
        if min is None and max is None:
            raise ArgumentError("clip: give min, max or both")
        return elementwise.Clip.apply(self, min, max)

    clamp = clip

    def sign(self) -> Self:
        return self._new(self._xp.sign(self.array))

    def floor(self) -> Self:
        return self._new(self._xp.floor(self.array))

    def ceil(self) -> Self:
        return self._new(self._xp.ceil(self.array))

    def round(self) -> Self:
        return self._new(self._xp.rint(self.array))

    def isnan(self) -> Self:
        return self._new(self._xp.isnan(self.array))

    def isfinite(self) -> Self:
        return self._new(self._xp.isfinite(self.array))

    def masked_fill(self, mask: Any, value: float) -> Self:
        """`value` where the mask holds, this tensor elsewhere."""
        broadcast_shapes("masked_fill", self.shape, mask.shape)
        return arithmetic.Where.apply(mask, value, self)
