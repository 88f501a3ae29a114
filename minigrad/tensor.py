"""Tensor: a Variable with operators.

`autograd.py` is the graph; the arithmetic is in `ops/`. This file gives the operations the names that
NumPy's and PyTorch's users know: `x + y`, `x @ w`, `x.sum(dim=0, keepdim=True)`, `x.reshape(-1, 4)`.

The class is built in five steps, a file each:

    Variable     autograd.py           a value in the graph
    TensorBase   tensor_base.py        what it is, conversions, printing
    InPlace      tensor_inplace.py     x += y, x[index] = y, zero_ ...
    Operators    tensor_operators.py   element by element, and matmul
    Reductions   tensor_reductions.py  sum, mean, max, sort ...
    Tensor       here                  shape and selection
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Variable
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.ops import arithmetic, indexing, shape
from minigrad.shapes import as_int, broadcast_shapes, normalize_dim, normalize_dims, resolve_reshape
from minigrad.tensor_reductions import Reductions, ValuesAndIndices

__all__ = ["Tensor", "ValuesAndIndices"]


def _sizes(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


class Tensor(Reductions):
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

    # Shape

    def reshape(self, *sizes: Any) -> Tensor:
        return shape.Reshape.apply(self, resolve_reshape(self.shape, _sizes(sizes)))

    view = reshape

    def reshape_as(self, other: Tensor) -> Tensor:
        return self.reshape(other.shape)

    view_as = reshape_as

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

    def repeat(self, *sizes: Any) -> Tensor:
        """sizes[i] copies along dimension i, side by side; dimensions may be added in front."""
        times = [as_int(n, "repeat: size") for n in _sizes(sizes)]
        if len(times) < self.ndim or any(n < 0 for n in times):
            raise ArgumentError(f"repeat: needs at least {self.ndim} sizes, none below 0, got {tuple(times)}")
        own = (1,) * (len(times) - self.ndim) + self.shape
        pairs = [size for n, size in zip(times, own, strict=True) for size in (n, size)]
        stretched = self.reshape([k for size in own for k in (1, size)]).broadcast_to(pairs)
        return stretched.reshape([n * size for n, size in zip(times, own, strict=True)])

    def tile(self, *sizes: Any) -> Tensor:
        """`repeat` as in NumPy: missing sizes in front count as 1."""
        times = _sizes(sizes)
        return self.repeat((1,) * (self.ndim - len(times)) + tuple(times))

    def repeat_interleave(self, repeats: int, dim: int | None = None) -> Tensor:
        """Each element `repeats` times in a row: [a, b] -> [a, a, b, b]; flattened first without a dim."""
        if dim is None:
            return self.flatten().repeat_interleave(repeats, 0)
        d = normalize_dim(dim, self.ndim, "repeat_interleave")
        wide = self.unsqueeze(d + 1).broadcast_to((*self.shape[: d + 1], repeats, *self.shape[d + 1 :]))
        return wide.reshape((*self.shape[:d], self.shape[d] * repeats, *self.shape[d + 1 :]))

    # Selection

    def __getitem__(self, index: Any) -> Tensor:
        return indexing.GetItem.apply(self, self._index(index))

    def _along(self, dim: int, index: Any) -> Tensor:
        """x[:, ..., index], with the index in dimension dim."""
        return self[(slice(None),) * dim + (index,)]

    def index_select(self, dim: int, index: Any) -> Tensor:
        """The slices along dim that a vector of indices names, in its order."""
        return self._along(normalize_dim(dim, self.ndim, "index_select"), index)

    def masked_select(self, mask: Any) -> Tensor:
        """The elements where the mask holds, as a vector."""
        shape = broadcast_shapes("masked_select", self.shape, mask.shape)
        return self.broadcast_to(shape)[mask.broadcast_to(shape)]

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """y[i][j][k] = x[i][index[i][j][k]][k] for dim = 1; the result has the shape of the index.

        >>> import minigrad as mg
        >>> scores = mg.tensor([[0.1, 0.9], [0.7, 0.3]])
        >>> scores.gather(1, mg.tensor([[1], [0]]))  # the score of each row's label
        tensor([[0.9],
                [0.7]])
        """
        d = normalize_dim(dim, self.ndim, "gather")
        if not isinstance(index, Variable) or index.array.dtype.kind not in "iu":
            raise DtypeError(
                f"gather: the index must be an integer tensor, got {getattr(index, 'dtype', index)}"
            )
        if index.ndim != self.ndim or any(
            n > size for i, (n, size) in enumerate(zip(index.shape, self.shape, strict=True)) if i != d
        ):
            raise ShapeError(
                f"gather: an index of shape {index.shape} does not fit a tensor of shape {self.shape}: "
                f"it needs as many dimensions, none but dimension {d} larger"
            )
        if self.ndim == 0:
            return self.reshape(1)[index]
        places: list[Any] = [
            self._xp.arange(n).reshape([-1 if k == i else 1 for k in range(self.ndim)])
            for i, n in enumerate(index.shape)
        ]
        places[d] = index
        return self[tuple(places)]

    def flip(self, *dims: Any) -> Tensor:
        """The elements in reverse order along dims."""
        turned = normalize_dims(_sizes(dims), self.ndim, "flip")
        return self[tuple(slice(None, None, -1 if i in turned else 1) for i in range(self.ndim))]

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle of the last two dimensions, zeros above; diagonal=1 keeps one more diagonal."""
        return arithmetic.Where.apply(self._below_diagonal("tril", diagonal), self, 0)

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle of the last two dimensions, zeros below; diagonal=1 keeps one diagonal less."""
        return arithmetic.Where.apply(self._below_diagonal("triu", diagonal - 1), 0, self)

    def _below_diagonal(self, name: str, diagonal: int) -> Tensor:
        if self.ndim < 2:
            raise ShapeError(f"{name}: needs at least 2 dimensions, got shape {self.shape}")
        rows, columns = (self._xp.arange(n) for n in self.shape[-2:])
        return self._new(columns - rows[:, None] <= diagonal)

    def nonzero(self) -> Tensor:
        """The places of all elements that are not 0, one row of indices for each."""
        return self._new(self._xp.argwhere(self.array))

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        d = normalize_dim(dim, self.ndim, "unbind")
        return tuple(self._along(d, i) for i in range(self.shape[d]))

    def split(self, size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of `size` along dim, of which the last may be shorter; or a list of sizes, one for each."""
        d = normalize_dim(dim, self.ndim, "split")
        if self.ndim == 0:
            raise ShapeError("split: a 0-d tensor has no dimension to split")
        total = self.shape[d]
        if isinstance(size, (tuple, list)):
            sizes = [as_int(n, "split: size") for n in size]
            if sum(sizes) != total or any(n < 0 for n in sizes):
                raise ArgumentError(
                    f"split: sizes {sizes} do not add up to {total}, the size of dimension {d}"
                )
        elif as_int(size, "split: size") < 1:
            raise ArgumentError(f"split: size must be at least 1, got {size}")
        else:
            sizes = [min(size, total - start) for start in range(0, max(total, 1), size)]
        ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        return tuple(self._along(d, slice(end - n, end)) for n, end in zip(sizes, ends, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of equal size along dim; the last one may be shorter."""
        if chunks < 1:
            raise ArgumentError(f"chunk: chunks must be at least 1, got {chunks}")
        d = normalize_dim(dim, self.ndim, "chunk")
        return self.split(max(1, -(-self.shape[d] // chunks)) if self.ndim else 1, d)
