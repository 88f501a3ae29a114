"""Tensor: a Variable with operators.

`autograd.py` is the graph; the arithmetic is in `ops/`. This file gives the operations the names that
NumPy's and PyTorch's users know: `x + y`, `x @ w`, `x.sum(dim=0, keepdim=True)`, `x.reshape(-1, 4)`.
Reductions take `dim`/`keepdim` and `axis`/`keepdims`, as PyTorch's do.

The class is built in three steps, a file each:

    Variable -> TensorBase (what it is, in-place writes, printing) -> Operators (element by element) -> Tensor
    autograd.py  tensor_base.py                                       tensor_operators.py            here
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minigrad.dtypes import is_float
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.operands import cast
from minigrad.ops import elementwise, indexing, reduction, shape
from minigrad.shapes import broadcast_shapes, normalize_dim, normalize_dims, resolve_reshape
from minigrad.tensor_base import TensorBase
from minigrad.tensor_operators import Operators

__all__ = ["Tensor", "ValuesAndIndices"]


class ValuesAndIndices(NamedTuple):
    """What `x.max(dim)` and `x.min(dim)` return."""

    values: Tensor
    indices: Tensor


def _sizes(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def _dims(x: Tensor, operation: str, dim: Any, axis: Any) -> tuple[int, ...]:
    if dim is not None and axis is not None:
        raise ArgumentError(f"{operation}: give dim or axis, not both (they mean the same)")
    return normalize_dims(dim if axis is None else axis, x.ndim, operation)


class Tensor(Operators):
    """An n-dimensional array with gradients.

    Make one with `minigrad.tensor`, `zeros`, `randn` ...; `Tensor(array)` wraps an array without copying.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> y, x.grad
    (tensor(30., grad_fn=<Sum>), tensor([[2., 4.],
            [6., 8.]]))
    """

    def _new(self, array: Any) -> Tensor:
        return Tensor(array)

    # Reductions

    def sum(
        self,
        dim: Any = None,
        keepdim: bool = False,
        dtype: Any = None,
        *,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Tensor:
        x = self if dtype is None else self.to(dtype)
        return reduction.Sum.apply(x, _dims(x, "sum", dim, axis), keepdim or keepdims)

    def mean(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Tensor:
        if not is_float(self.dtype):
            raise DtypeError(f"mean: needs floating-point numbers, got {self.dtype}; use .float().mean()")
        return reduction.Mean.apply(self, _dims(self, "mean", dim, axis), keepdim or keepdims)

    def var(
        self,
        dim: Any = None,
        correction: int = 1,
        keepdim: bool = False,
        *,
        unbiased: bool | None = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Tensor:
        """Mean squared distance from the mean: sum (x - mean)^2 / (M - correction).

        As in PyTorch the default divides by M - 1; `unbiased=False` or `correction=0` divides by M.
        """
        dims = _dims(self, "var", dim, axis)
        divisor = -(correction if unbiased is None else int(unbiased))
        count = 1
        for d in dims:
            count *= self.shape[d]
        centred = self - self.mean(dims, keepdim=True)
        divisor += count
        return (centred * centred).sum(dims, keepdim or keepdims) / (divisor if divisor > 0 else float("nan"))

    def std(
        self,
        dim: Any = None,
        correction: int = 1,
        keepdim: bool = False,
        *,
        unbiased: bool | None = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Tensor:
        """Square root of `var`."""
        return self.var(dim, correction, keepdim, unbiased=unbiased, axis=axis, keepdims=keepdims).sqrt()

    def amax(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Tensor:
        """Largest element; among equals the first in row-major order gets the gradient."""
        self._not_empty("max")
        return reduction.Max.apply(self, _dims(self, "max", dim, axis), keepdim or keepdims)

    def amin(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Tensor:
        """Smallest element; among equals the first in row-major order gets the gradient."""
        return -((-self).amax(dim, keepdim, axis=axis, keepdims=keepdims))

    def max(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Any:
        """Largest element; along one dimension also its index; with a tensor, `maximum` of the two."""
        if isinstance(dim, TensorBase):
            return self.maximum(dim)
        values = self.amax(dim, keepdim, axis=axis, keepdims=keepdims)
        dim = dim if axis is None else axis
        return values if dim is None else ValuesAndIndices(values, self.argmax(dim, keepdim or keepdims))

    def min(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Any:
        """Smallest element; along one dimension also its index; with a tensor, `minimum` of the two."""
        if isinstance(dim, TensorBase):
            return self.minimum(dim)
        values = self.amin(dim, keepdim, axis=axis, keepdims=keepdims)
        dim = dim if axis is None else axis
        return values if dim is None else ValuesAndIndices(values, self.argmin(dim, keepdim or keepdims))

    def argmax(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Tensor:
        """Index of the largest element, the first among equals; of the flattened tensor without a dim."""
        return self._arg(self._xp.argmax, "argmax", dim if axis is None else axis, keepdim or keepdims)

    def argmin(
        self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
    ) -> Tensor:
        """Index of the smallest element, the first among equals; of the flattened tensor without a dim."""
        return self._arg(self._xp.argmin, "argmin", dim if axis is None else axis, keepdim or keepdims)

    def _arg(self, function: Any, name: str, dim: Any, keepdim: bool) -> Tensor:
        self._not_empty(name)
        if dim is None:
            return self._new(self._xp.asarray(function(self.array.reshape(-1))))
        d = normalize_dim(dim, self.ndim, name)
        index = self._xp.asarray(function(self.array, axis=d))
        return self._new(self._xp.expand_dims(index, d) if keepdim else index)

    def _not_empty(self, name: str) -> None:
        if self.numel() == 0:
            raise ShapeError(f"{name}: an empty tensor of shape {self.shape} has no such element")

    def all(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        dims = _dims(self, "all", dim, None)
        return self._new(self._xp.asarray(self.array.all(axis=dims, keepdims=keepdim)))

    def any(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        dims = _dims(self, "any", dim, None)
        return self._new(self._xp.asarray(self.array.any(axis=dims, keepdims=keepdim)))

    def cumsum(self, dim: int) -> Tensor:
        return reduction.CumSum.apply(self, normalize_dim(dim, self.ndim, "cumsum"))

    def norm(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Euclidean length: sqrt(sum x^2)."""
        return (self * self).sum(dim, keepdim).sqrt()

    # Shape

    def reshape(self, *sizes: Any) -> Tensor:
        return shape.Reshape.apply(self, resolve_reshape(self.shape, _sizes(sizes)))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Merge the dimensions from start_dim to end_dim, both included, into one."""
        if self.ndim == 0:
            return self.reshape(1)
        first, last = (normalize_dim(d, self.ndim, "flatten") for d in (start_dim, end_dim))
        if first > last:
            raise ArgumentError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
        merged = 1
        for size in self.shape[first : last + 1]:
            merged *= size
        return self.reshape(*self.shape[:first], merged, *self.shape[last + 1 :])

    ravel = flatten

    def squeeze(self, dim: Any = None) -> Tensor:
        """Drop dimensions of size 1: all of them, or those in `dim`."""
        dims = normalize_dims(dim, self.ndim, "squeeze")
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if i not in dims or n != 1))

    def unsqueeze(self, dim: int) -> Tensor:
        """Insert a dimension of size 1 before dimension `dim`."""
        d = normalize_dim(dim, self.ndim + 1, "unsqueeze")
        return self.reshape((*self.shape[:d], 1, *self.shape[d:]))

    def permute(self, *dims: Any) -> Tensor:
        """Reorder the dimensions: dimension k of the result is dimension dims[k] of this tensor."""
        order = [normalize_dim(d, self.ndim, "permute") for d in _sizes(dims)]
        if sorted(order) != list(range(self.ndim)):
            raise ArgumentError(f"permute: {tuple(order)} must name each of the {self.ndim} dimensions once")
        return shape.Permute.apply(self, order)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Exchange two dimensions."""
        order = list(range(self.ndim))
        a, b = normalize_dim(dim0, self.ndim, "transpose"), normalize_dim(dim1, self.ndim, "transpose")
        if order:
            order[a], order[b] = b, a
        return shape.Permute.apply(self, order)

    swapaxes = transpose

    def t(self) -> Tensor:
        if self.ndim > 2:
            raise ShapeError(f"t: needs at most 2 dimensions, got shape {self.shape}; use permute")
        return self.transpose(0, 1) if self.ndim == 2 else self

    @property
    def T(self) -> Tensor:
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> Tensor:
        return self.transpose(-2, -1)

    def broadcast_to(self, *sizes: Any) -> Tensor:
        target = _sizes(sizes)
        if broadcast_shapes("broadcast_to", self.shape, target) != tuple(target):
            raise ShapeError(f"broadcast_to: shape {self.shape} cannot be stretched to {tuple(target)}")
        return shape.Expand.apply(self, tuple(target))

    def expand(self, *sizes: Any) -> Tensor:
        """Stretch dimensions of size 1; -1 keeps a size."""
        target = _sizes(sizes)
        own = (1,) * (len(target) - self.ndim) + self.shape
        return self.broadcast_to(tuple(o if n == -1 else n for n, o in zip(target, own, strict=False)))

    def expand_as(self, other: Tensor) -> Tensor:
        return self.expand(other.shape)

    def __getitem__(self, index: Any) -> Tensor:
        return indexing.GetItem.apply(self, self._index(index))

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        d = normalize_dim(dim, self.ndim, "unbind")
        return tuple(self[(slice(None),) * d + (i,)] for i in range(self.shape[d]))

    def split(self, size: int, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of `size` along dim; the last one may be shorter."""
        d = normalize_dim(dim, self.ndim, "split")
        if size < 1:
            raise ArgumentError(f"split: size must be at least 1, got {size}")
        return tuple(self[(slice(None),) * d + (slice(i, i + size),)] for i in range(0, self.shape[d], size))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of equal size along dim; the last one may be shorter."""
        if chunks < 1:
            raise ArgumentError(f"chunk: chunks must be at least 1, got {chunks}")
        return self.split(max(1, -(-self.shape[dim] // chunks)), dim)

    def to(self, *where: Any) -> Tensor:
        """In another dtype, on another device, or both: x.to("cuda"), x.to(minigrad.float64), x.to(y)."""
        device, dtype = self._destination(where)
        x = self if device is None or device == self.device else elementwise.ToDevice.apply(self, device)
        return x if dtype is None else cast(x, dtype)  # type: ignore[return-value]

    def clone(self) -> Tensor:
        """A copy in memory of its own, still part of the graph."""
        return elementwise.Clone.apply(self)
