"""The part of Tensor that works element by element: arithmetic, comparison, exp and log, and `@`.

Each method brings the operands to one dtype (`operands.py`) and applies an operation from `ops/`. An operator
that does not know the other operand returns NotImplemented, so that Python asks the other one; a method with
a name (`x.maximum(y)`) has nobody else to ask and raises.
"""

from __future__ import annotations

from typing import Any, Self

from minigrad.dtypes import is_float
from minigrad.errors import ArgumentError, DtypeError
from minigrad.operands import operands, to_operand
from minigrad.ops import arithmetic, elementwise, linalg
from minigrad.shapes import broadcast_shapes
from minigrad.tensor_base import TensorBase, floating
from minigrad.tensor_inplace import InPlace

__all__ = ["Operators"]


class Operators(InPlace):
    """Operators and functions of each element."""

    # Arithmetic

    def _binary(self, op: Any, name: str, other: Any, swap: bool = False, division: bool = False) -> Any:
        pair = operands(name, self, other, division)
        if pair is None:
            if isinstance(other, (str, list, tuple)):  # Python would take `other * self` for repetition
                kind = type(other).__name__
                raise DtypeError(f"{name}: expected a tensor, an array or a number, got {kind}")
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
        if not is_float(self.dtype) and isinstance(other, int) and other < 0:
            raise DtypeError(
                f"pow: {self.dtype} to the power {other} is not a whole number; use .float() first"
            )
        return self._binary(arithmetic.Pow, "pow", other)

    def __rpow__(self, other: Any) -> Self:
        return self._binary(arithmetic.Pow, "pow", other, swap=True)

    def __floordiv__(self, other: Any) -> Self:
        """The quotient rounded down; outside of any graph, since it is flat almost everywhere."""
        return self._compare("floor_divide", "__floordiv__", other)

    def __rfloordiv__(self, other: Any) -> Self:
        return self._compare("floor_divide", "__rfloordiv__", other)

    def __mod__(self, other: Any) -> Self:
        return self - (self // other) * other

    def __rmod__(self, other: Any) -> Self:
        return other - (other // self) * self

    def __neg__(self) -> Self:
        if self.dtype.kind == "b":
            raise DtypeError("neg: a bool tensor has no negative; use ~x for the opposite")
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

    def mul(self, other: Any) -> Self:
        return self * other

    def div(self, other: Any) -> Self:
        return self / other

    def pow(self, other: Any) -> Self:
        return self**other

    def matmul(self, other: Any) -> Self:
        """Product of matrices, of batches of them, or of vectors: `self @ other`."""
        return self @ other

    def outer(self, other: Any) -> Self:
        """All products of an element of one vector with one of another: (n,), (m,) -> (n, m)."""
        return self.reshape(-1, 1) * other.reshape(1, -1)  # type: ignore[attr-defined]

    subtract, multiply, divide, true_divide = sub, mul, div, div
    dot = mm = bmm = mv = matmul
    neg = negative = __neg__
    abs = __abs__

    def maximum(self, other: Any) -> Self:
        """The larger of two, element by element; equal elements share the gradient."""
        return self._known("maximum", other, self._binary(arithmetic.Maximum, "maximum", other))

    def minimum(self, other: Any) -> Self:
        """The smaller of two, element by element; equal elements share the gradient."""
        return self._known("minimum", other, self._binary(arithmetic.Minimum, "minimum", other))

    # Comparison: the result is a bool tensor, outside of any graph

    def _compare(self, name: str, method: str, other: Any) -> Any:
        pair = operands(name, self.detach(), other)
        if pair is None:
            return NotImplemented
        a, b = (p.array if isinstance(p, TensorBase) else p for p in pair)
        self._same_device(name, b)
        return self._new(self._xp.asarray(getattr(a, method)(b)))

    def _bitwise(self, name: str, method: str, other: Any) -> Any:
        """& | ^: bit by bit for integers, which for bools means and, or, exclusive or."""
        if is_float(self.dtype) or is_float(getattr(other, "dtype", self.dtype)) or isinstance(other, float):
            raise DtypeError(
                f"{name}: needs bools or integers; write (x > 0) & (y > 0) to combine conditions"
            )
        return self._compare(name, method, other)

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
        return self._bitwise("and", "__and__", other)

    def __or__(self, other: Any) -> Any:
        return self._bitwise("or", "__or__", other)

    def __xor__(self, other: Any) -> Any:
        return self._bitwise("xor", "__xor__", other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Self:
        if is_float(self.dtype):
            raise DtypeError(f"~x: needs bools or integers, got {self.dtype}")
        return self._new(~self.array)

    __hash__ = TensorBase.__hash__  # by identity; defining __eq__ would drop it

    def eq(self, other: Any) -> Self:
        return self._known("eq", other, self == other)

    def ne(self, other: Any) -> Self:
        return self._known("ne", other, self != other)

    def lt(self, other: Any) -> Self:
        return self < other

    def le(self, other: Any) -> Self:
        return self <= other

    def gt(self, other: Any) -> Self:
        return self > other

    def ge(self, other: Any) -> Self:
        return self >= other

    def logical_and(self, other: Any) -> Self:
        """Whether both elements differ from 0."""
        return self.ne(0) & other.ne(0)

    def logical_or(self, other: Any) -> Self:
        """Whether at least one of two elements differs from 0."""
        return self.ne(0) | other.ne(0)

    def logical_not(self) -> Self:
        """Whether an element is 0."""
        return self.eq(0)

    def _known(self, name: str, other: Any, result: Any) -> Any:
        """The result of a method, or an error if `other` is nothing to calculate with."""
        if not isinstance(result, TensorBase):
            raise DtypeError(f"{name}: expected a tensor, an array or a number, got {type(other).__name__}")
        return result

    # Functions of each element

    def exp(self) -> Self:
        return elementwise.Exp.apply(floating(self))

    def log(self) -> Self:
        """The natural logarithm; -inf at 0 and NaN below."""
        return elementwise.Log.apply(floating(self))

    def log1p(self) -> Self:
        """log(1 + x), exact where x is close to 0."""
        return elementwise.Log1p.apply(floating(self))

    def sqrt(self) -> Self:
        return elementwise.Sqrt.apply(floating(self))

    def rsqrt(self) -> Self:
        """1 / sqrt(x)."""
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
        """Every element limited to [min, max]: numbers, or tensors that broadcast; either may be left out."""
        if min is None and max is None:
            raise ArgumentError("clip: give min, max or both")
        low, high = (limit if limit is None else to_operand("clip", self, limit) for limit in (min, max))
        if low is NotImplemented or high is NotImplemented:
            raise DtypeError("clip: min and max have to be numbers or tensors")
        if isinstance(low, TensorBase) or isinstance(high, TensorBase):
            x = self if low is None else self.masked_fill(self < low, low)
            return x if high is None else x.masked_fill(x > high, high)
        x = floating(self) if isinstance(low, float) or isinstance(high, float) else self
        return elementwise.Clip.apply(x, low, high)

    clamp = clip

    # Flat almost everywhere: the result is outside of any graph

    def sign(self) -> Self:
        """-1, 0 or 1."""
        return self._new(self.array.copy() if self.dtype.kind == "b" else self._xp.sign(self.array))

    def floor(self) -> Self:
        return self._rounded("floor")

    def ceil(self) -> Self:
        return self._rounded("ceil")

    def round(self) -> Self:
        """The nearest whole number; halves go to the even one."""
        return self._rounded("rint")

    def _rounded(self, function: str) -> Self:
        array = self.array
        return self._new(getattr(self._xp, function)(array) if is_float(array.dtype) else array.copy())

    def isnan(self) -> Self:
        return self._new(self._xp.isnan(self.array))

    def isinf(self) -> Self:
        return self._new(self._xp.isinf(self.array))

    def isfinite(self) -> Self:
        return self._new(self._xp.isfinite(self.array))

    def masked_fill(self, mask: Any, value: Any) -> Self:
        """`value` where the mask holds, this tensor elsewhere."""
        condition = to_operand("masked_fill", self, mask)
        if not isinstance(condition, TensorBase) or condition.dtype.kind != "b":
            raise DtypeError(
                f"masked_fill: the mask must be a bool tensor, got {getattr(mask, 'dtype', mask)}"
            )
        pair = operands("masked_fill", self, value)
        if pair is None:
            raise DtypeError(f"masked_fill: expected a number or a tensor, got {type(value).__name__}")
        self._same_device("masked_fill", condition.array)
        broadcast_shapes("masked_fill", self.shape, condition.shape)
        return arithmetic.Where.apply(condition, pair[1], pair[0])
