"""The part of Tensor that makes one number of many: sums, averages, extremes, and what is like them.

Every reduction takes `dim` (one, several as a tuple, or None for all) and `keepdim`, or `axis` and
`keepdims`, which mean the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from minigrad.dtypes import is_float
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.ops import reduction
from minigrad.shapes import normalize_dim, normalize_dims
from minigrad.tensor_base import TensorBase, floating
from minigrad.tensor_operators import Operators

__all__ = ["Reductions", "ValuesAndIndices"]


class ValuesAndIndices(NamedTuple):
    """What `x.max(dim)`, `x.min(dim)`, `x.sort()` and `x.topk(k)` return."""

    values: Any
    indices: Any


def _either(operation: str, dim: Any, axis: Any) -> Any:
    if dim is not None and axis is not None:
        raise ArgumentError(f"{operation}: give dim or axis, not both (they mean the same)")
    return dim if axis is None else axis


class Reductions(Operators):
    """Reductions, running sums and sorting."""

    def _dims(self, operation: str, dim: Any, axis: Any) -> tuple[int, ...]:
        return normalize_dims(_either(operation, dim, axis), self.ndim, operation)

    # Sums and averages

    def sum(
        self,
        dim: Any = None,
        keepdim: bool = False,
        dtype: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Self:
        """Sum; that of bools and integers is int64."""
        x = self if dtype is None else self.to(dtype=dtype)
        return reduction.Sum.apply(x, self._dims("sum", dim, axis), keepdim or keepdims)

    def mean(
        self,
        dim: Any = None,
        keepdim: bool = False,
        dtype: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Self:
        """Sum divided by the number of summands; NaN if there are none."""
        x = self if dtype is None else self.to(dtype=dtype)
        if not is_float(x.dtype):
            raise DtypeError(f"mean: needs floating-point numbers, got {x.dtype}; use .float().mean()")
        return reduction.Mean.apply(x, self._dims("mean", dim, axis), keepdim or keepdims)

    def prod(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Product; that of bools and integers is int64."""
        return reduction.Prod.apply(self, self._dims("prod", dim, axis), keepdim or keepdims)

    def var(
        self,
        dim: Any = None,
        correction: int = 1,
        keepdim: bool = False,
        *,
        unbiased: bool | None = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Self:
        """Mean squared distance from the mean: sum (x - mean)^2 / (M - correction).

        As in PyTorch the default divides by M - 1; `unbiased=False` or `correction=0` divides by M.
        """
        centred, dims, divisor = self._centred("var", dim, axis, correction, unbiased)
        return (centred * centred).sum(dims, keepdim or keepdims) / divisor

    def std(
        self,
        dim: Any = None,
        correction: int = 1,
        keepdim: bool = False,
        *,
        unbiased: bool | None = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Self:
        """Square root of `var`; its gradient is taken as 0 where all elements are equal."""
        centred, dims, divisor = self._centred("std", dim, axis, correction, unbiased)
        return reduction.Norm.apply(centred, 2, dims, keepdim or keepdims) / divisor**0.5

    def _centred(
        self, name: str, dim: Any, axis: Any, correction: int, unbiased: bool | None
    ) -> tuple[Self, tuple[int, ...], float]:
        """x - mean, the dimensions of the mean, and what to divide by (NaN if that is not above 0)."""
        if not is_float(self.dtype):
            raise DtypeError(f"{name}: needs floating-point numbers, got {self.dtype}; use .float().{name}()")
        dims = self._dims(name, dim, axis)
        divisor = 1
        for d in dims:
            divisor *= self.shape[d]
        divisor -= correction if unbiased is None else int(unbiased)
        return self - self.mean(dims, keepdim=True), dims, divisor if divisor > 0 else float("nan")

    def norm(
        self,
        p: Any = 2,
        dim: Any = None,
        keepdim: bool = False,
        *,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Self:
        """(sum |x|^p)^(1/p): the Euclidean length for p = 2, the largest |x| for p = inf."""
        x, keep = floating(self), keepdim or keepdims
        dims = self._dims("norm", dim, axis)
        if p == float("inf"):
            return x.abs().amax(dims, keep)
        if p == "fro":
            p = 2
        if isinstance(p, str) or not p > 0:
            raise ArgumentError(f"norm: p must be a number above 0, or 'fro' for 2, got {p!r}")
        return reduction.Norm.apply(x, p, dims, keep)

    def cumsum(self, dim: Any = None, *, axis: Any = None) -> Self:
        """Running sum along one dimension: y[i] = x[0] + ... + x[i]."""
        return reduction.CumSum.apply(self, normalize_dim(_either("cumsum", dim, axis), self.ndim, "cumsum"))

    # Extremes

    def amax(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Largest element; among equals the first in row-major order gets the gradient."""
        dims = self._dims("max", dim, axis)
        self._not_empty("max", dims)
        return reduction.Max.apply(self, dims, keepdim or keepdims)

    def amin(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Smallest element; among equals the first in row-major order gets the gradient."""
        dims = self._dims("min", dim, axis)
        self._not_empty("min", dims)
        return reduction.Min.apply(self, dims, keepdim or keepdims)

    def max(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Any:
        """Largest element; along one dimension also its index; with a tensor, `maximum` of the two."""
        if isinstance(dim, TensorBase):
            return self.maximum(dim)
        dim, keep = _either("max", dim, axis), keepdim or keepdims
        return self.amax(dim, keep) if dim is None else self._with_index(self.amax, self.argmax, dim, keep)

    def min(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Any:
        """Smallest element; along one dimension also its index; with a tensor, `minimum` of the two."""
        if isinstance(dim, TensorBase):
            return self.minimum(dim)
        dim, keep = _either("min", dim, axis), keepdim or keepdims
        return self.amin(dim, keep) if dim is None else self._with_index(self.amin, self.argmin, dim, keep)

    def _with_index(self, values: Any, indices: Any, dim: Any, keepdim: bool) -> ValuesAndIndices:
        if isinstance(dim, (tuple, list)):
            raise ArgumentError(f"max and min give indices along one dimension, not {dim}; use amax or amin")
        return ValuesAndIndices(values(dim, keepdim), indices(dim, keepdim))

    def argmax(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Index of the largest element, the first among equals; of the flattened tensor without a dim."""
        return self._arg("argmax", _either("argmax", dim, axis), keepdim or keepdims)

    def argmin(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Index of the smallest element, the first among equals; of the flattened tensor without a dim."""
        return self._arg("argmin", _either("argmin", dim, axis), keepdim or keepdims)

    def _arg(self, name: str, dim: Any, keepdim: bool) -> Self:
        dims = normalize_dims(None if dim is None else normalize_dim(dim, self.ndim, name), self.ndim, name)
        self._not_empty(name, dims)
        index = self._xp.asarray(getattr(self._xp, name)(reduction.as_rows(self.array, dims), axis=-1))
        return self._new(self._xp.expand_dims(index, dims) if keepdim else index)

    def _not_empty(self, name: str, dims: tuple[int, ...]) -> None:
        if any(self.shape[d] == 0 for d in dims):
            raise ShapeError(
                f"{name}: there is no such element among none, in a tensor of shape {self.shape}"
            )

    def all(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Whether all elements differ from 0."""
        return self._new(self._xp.all(self.array, self._dims("all", dim, axis), keepdims=keepdim or keepdims))

    def any(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Self:
        """Whether at least one element differs from 0."""
        return self._new(self._xp.any(self.array, self._dims("any", dim, axis), keepdims=keepdim or keepdims))

    # Order

    def argsort(self, dim: int = -1, descending: bool = False) -> Self:
        """The indices that sort along dim; equal elements keep their order."""
        xp, d = self._xp, normalize_dim(dim, self.ndim, "argsort")
        array = self.array.reshape(1) if self.ndim == 0 else self.array
        if not descending:
            order = xp.argsort(array, axis=d, kind="stable")
        else:  # sorted backwards and turned round, which keeps the order of equal elements
            order = array.shape[d] - 1 - xp.argsort(xp.flip(array, axis=d), axis=d, kind="stable")
            order = xp.flip(order, axis=d)
        return self._new(order.reshape(self.shape))

    def sort(self, dim: int = -1, descending: bool = False) -> ValuesAndIndices:
        """The elements in order along dim, and where they stood; equal elements keep their order."""
        indices = self.argsort(dim, descending)
        return ValuesAndIndices(self.gather(dim, indices), indices)  # type: ignore[attr-defined]

    def topk(self, k: int, dim: int = -1, largest: bool = True) -> ValuesAndIndices:
        """The k largest elements along dim in order, and where they stand; largest=False: the smallest."""
        d = normalize_dim(dim, self.ndim, "topk")
        size = self.shape[d] if self.ndim else 1
        if not 0 <= k <= size:
            raise ArgumentError(f"topk: k must be between 0 and {size}, the size of dimension {d}, got {k}")
        indices: Any = self.argsort(d, descending=largest)
        if self.ndim:
            indices = indices[(slice(None),) * d + (slice(0, k),)]
        return ValuesAndIndices(self.gather(d, indices), indices)  # type: ignore[attr-defined]
