"""Integer arithmetic on shapes: no arrays here, so everything can be checked with pencil and paper.

Convolution and pooling share `output_size`; operators share `broadcast_shapes`; reductions share
`normalize_dims`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from minigrad.errors import ArgumentError, DimError, ShapeError

Shape = tuple[int, ...]

__all__ = [
    "Shape",
    "as_int",
    "as_size",
    "broadcast_shapes",
    "normalize_dim",
    "normalize_dims",
    "output_size",
    "pair",
    "reduced_shape",
    "resolve_reshape",
]


def as_int(value: object, name: str) -> int:
    """`value` as a Python int, or an error that names the argument.

    >>> as_int(3, "stride")
    3
    """
    if isinstance(value, bool):
        raise ArgumentError(f"{name} must be a whole number, got {value!r}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(f"{name} must be a whole number, got {value!r}") from None


def as_size(name: str, size: Sequence[object]) -> Shape:
    """The shape that the arguments of `name(*size)` ask for; zeros(2, 3) and zeros((2, 3)) mean the same.

    >>> as_size("zeros", (2, 3)), as_size("zeros", ((2, 3),))
    ((2, 3), (2, 3))
    """
    given = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    sizes = tuple(as_int(n, f"{name}: size") for n in given)
    if any(n < 0 for n in sizes):
        raise ArgumentError(f"{name}: sizes must be at least 0, got {sizes}")
    return sizes


def pair(value: object, name: str = "value") -> tuple[int, int]:
    """One whole number for both directions, or two: (height, width).

    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ArgumentError(f"{name} must be one whole number or two (height, width), got {value!r}")
        return as_int(value[0], name), as_int(value[1], name)
    number = as_int(value, name)
    return number, number


def broadcast_shapes(operation: str, *shapes: Shape) -> Shape:
    """The common shape by NumPy's rule: align at the right; a 1 stretches.

    >>> broadcast_shapes("add", (8, 1, 6), (7, 1))
    (8, 7, 6)
    """
    ndim = max((len(shape) for shape in shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for i, size in enumerate(shape, start=ndim - len(shape)):
            if size == 1:
                continue
            if result[i] not in (1, size):
                listed = " and ".join(str(s) for s in shapes)
                raise ShapeError(
                    f"{operation}: shapes {listed} do not broadcast: aligned at the right, "
                    f"dimension {i - ndim} has sizes {result[i]} and {size} and neither is 1"
                )
            result[i] = size
    return tuple(result)


def normalize_dim(dim: object, ndim: int, operation: str) -> int:
    """A dimension counted from the front; -1 is the last.

    >>> normalize_dim(-1, 4, "sum")
    3
    """
    number = as_int(dim, f"{operation}: dim")
    limit = max(ndim, 1)  # a 0-d tensor accepts 0 and -1, as in PyTorch
    if not -limit <= number < limit:
        raise DimError(
            f"{operation}: dim {number} is out of range for a tensor with {ndim} dimensions "
            f"(use {-limit} to {limit - 1})"
        )
    return number % limit


def normalize_dims(dim: object, ndim: int, operation: str) -> tuple[int, ...]:
    """The dimensions to reduce, each once, in ascending order; None means all of them.

    >>> normalize_dims((0, -1), 4, "sum"), normalize_dims(None, 2, "sum")
    ((0, 3), (0, 1))
    """
    if dim is None:
        return tuple(range(ndim))
    given: Sequence[object] = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = [normalize_dim(d, ndim, operation) for d in given]
    if len(set(dims)) != len(dims):
        raise ArgumentError(f"{operation}: dim {dim!r} names a dimension twice")
    return tuple(d for d in sorted(dims) if d < ndim)


def reduced_shape(shape: Shape, dims: tuple[int, ...]) -> Shape:
    """The shape after reducing `dims` with keepdim: each becomes 1.

    >>> reduced_shape((2, 3, 4), (0, 2))
    (1, 3, 1)
    """
    return tuple(1 if i in dims else size for i, size in enumerate(shape))


def resolve_reshape(shape: Shape, new: Sequence[int]) -> Shape:
    """The target of a reshape, with one -1 worked out.

    >>> resolve_reshape((2, 3, 4), (6, -1))
    (6, 4)
    """
    sizes = [as_int(size, "reshape: size") for size in new]
    total = 1
    for size in shape:
        total *= size
    known, unknown = 1, None
    for i, size in enumerate(sizes):
        if size == -1 and unknown is None:
            unknown = i
        elif size < 0:
            raise ShapeError(f"reshape: sizes must be at least 0, with one -1 at most; got {tuple(sizes)}")
        else:
            known *= size
    if unknown is not None:
        if known == 0 or total % known:
            raise ShapeError(
                f"reshape: cannot fit {total} elements of shape {shape} into {tuple(sizes)}: "
                f"{total} is not a multiple of {known}"
            )
        sizes[unknown] = total // known
        known *= sizes[unknown]
    if known != total:
        raise ShapeError(f"reshape: shape {shape} has {total} elements, {tuple(sizes)} would have {known}")
    return tuple(sizes)


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Windows that fit along one direction: floor((H + 2 p - d (K - 1) - 1) / s) + 1.

    With `ceil_mode` the last window may reach beyond the end, but has to start inside the input or
    the padding before it (PyTorch's rule).

    >>> output_size(28, 5), output_size(24, 2, stride=2), output_size(7, 2, stride=2, ceil_mode=True)
    (24, 12, 4)
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count
