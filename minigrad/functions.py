"""Operations under function names: `mg.exp(x)` beside `x.exp()`, and those that take several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.autograd import Variable
from minigrad.creation import as_tensor, tensor
from minigrad.dtypes import promote
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.operands import cast, operands
from minigrad.ops.arithmetic import Where
from minigrad.ops.linalg import Einsum
from minigrad.ops.shape import Concatenate
from minigrad.shapes import broadcast_shapes, normalize_dim
from minigrad.tensor import Tensor

__all__ = [
    "abs", "add", "allclose", "amax", "amin", "argmax", "argmin", "cat", "chunk", "clamp", "clip", "concat", "concatenate", "cos", "cumsum", "div", "einsum",
    "equal", "exp", "flatten", "is_tensor", "log", "log1p", "matmul", "max", "maximum", "mean", "min", "minimum", "mm", "mul",
    "norm", "numel", "permute", "pow", "reshape", "rsqrt", "sign", "sin", "split", "sqrt", "square", "squeeze", "stack", "std", "sub", "sum",
    "transpose", "unbind", "unsqueeze", "var", "where",
]  # fmt: skip


def _tensors(name: str, tensors: Sequence[Tensor]) -> list[Any]:
    """Several tensors brought to one dtype."""
    if isinstance(tensors, Variable) or not all(isinstance(x, Variable) for x in tensors):
        raise DtypeError(f"{name}: expected a list or tuple of tensors, got {type(tensors).__name__}")
    if not tensors:
        raise ArgumentError(f"{name}: expected at least one tensor")
    dtype = tensors[0].dtype
    for x in tensors[1:]:
        dtype = promote(dtype, x.dtype)
    return [cast(x, dtype) for x in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Join tensors along an existing dimension; the other dimensions must agree.

    >>> import minigrad as mg
    >>> mg.cat([mg.zeros(1, 3), mg.ones(2, 3)]).shape
    (3, 3)
    """
    xs = _tensors("cat", tensors)
    d = normalize_dim(dim if axis is None else axis, xs[0].ndim, "cat")
    for i, x in enumerate(xs):
        if (
            x.ndim != xs[0].ndim
            or x.ndim == 0
            or x.shape[:d] + x.shape[d + 1 :] != xs[0].shape[:d] + xs[0].shape[d + 1 :]
        ):
            raise ShapeError(
                f"cat: tensor {i} has shape {x.shape}, tensor 0 has {xs[0].shape}; they may differ in dimension {d} only"
            )
    return Concatenate.apply(d, *xs)


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Join tensors of one shape along a new dimension.

    >>> import minigrad as mg
    >>> mg.stack([mg.zeros(3), mg.ones(3)]).shape
    (2, 3)
    """
    xs = _tensors("stack", tensors)
    d = normalize_dim(dim if axis is None else axis, xs[0].ndim + 1, "stack")
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise ShapeError(
                f"stack: tensor {i} has shape {x.shape}, tensor 0 has {xs[0].shape}; they must be equal"
            )
    return Concatenate.apply(d, *[x.unsqueeze(d) for x in xs])


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """Elements of `input` where the condition holds, of `other` elsewhere; both may be numbers.

    >>> import minigrad as mg
    >>> x = mg.tensor([-1.0, 2.0])
    >>> mg.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    if condition.dtype.kind != "b":
        raise DtypeError(f"where: the condition must be a bool tensor, got {condition.dtype}")
    if isinstance(input, Variable):
        pair = operands("where", input, other)
    elif isinstance(other, Variable):
        swapped = operands("where", other, input)
        pair = swapped and swapped[::-1]
    else:
        pair = tensor(input, device=condition.device), tensor(other, device=condition.device)
    if pair is None:
        raise DtypeError(f"where: cannot choose between {type(input).__name__} and {type(other).__name__}")
    broadcast_shapes("where", condition.shape, *[p.shape for p in pair if isinstance(p, Variable)])
    return Where.apply(condition, *pair)


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Sums of products by index letters: einsum("ij,jk->ik", a, b) is a @ b.

    >>> import minigrad as mg
    >>> mg.einsum("ij,ij->i", mg.ones(2, 3), mg.ones(2, 3))
    tensor([3., 3.])
    """
    return Einsum.apply(equation, *_tensors("einsum", operands))


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def equal(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements."""
    return x.shape == y.shape and bool((x == y).all())


def allclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether |x - y| <= atol + rtol |y| holds everywhere."""
    x, y = x.detach(), y.detach()
    return bool(((x - y).abs() <= atol + rtol * y.abs()).all())


def numel(x: Tensor) -> int:
    return x.numel()


# The methods of Tensor as functions -------------------------------------------------------------------


def abs(x: Any) -> Tensor:
    return as_tensor(x).abs()


def exp(x: Any) -> Tensor:
    return as_tensor(x).exp()


def log(x: Any) -> Tensor:
    return as_tensor(x).log()


def log1p(x: Any) -> Tensor:
    return as_tensor(x).log1p()


def sqrt(x: Any) -> Tensor:
    return as_tensor(x).sqrt()


def rsqrt(x: Any) -> Tensor:
    return as_tensor(x).rsqrt()


def square(x: Any) -> Tensor:
    return as_tensor(x).square()


def sin(x: Any) -> Tensor:
    return as_tensor(x).sin()


def cos(x: Any) -> Tensor:
    return as_tensor(x).cos()


def sign(x: Any) -> Tensor:
    return as_tensor(x).sign()


def add(x: Any, y: Any) -> Tensor:
    return x + y


def sub(x: Any, y: Any) -> Tensor:
    return x - y


def mul(x: Any, y: Any) -> Tensor:
    return x * y


def div(x: Any, y: Any) -> Tensor:
    return x / y


def pow(x: Any, y: Any) -> Tensor:
    return x**y


def maximum(x: Any, y: Any) -> Tensor:
    return as_tensor(x).maximum(y)


def minimum(x: Any, y: Any) -> Tensor:
    return as_tensor(x).minimum(y)


def matmul(x: Any, y: Any) -> Tensor:
    return x @ y


mm = matmul


def sum(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.sum(*args, **options)


def mean(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.mean(*args, **options)


def var(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.var(*args, **options)


def std(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.std(*args, **options)


def amax(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.amax(*args, **options)


def amin(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.amin(*args, **options)


def max(x: Tensor, *args: Any, **options: Any) -> Any:
    return x.max(*args, **options)


def min(x: Tensor, *args: Any, **options: Any) -> Any:
    return x.min(*args, **options)


def argmax(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.argmax(*args, **options)


def argmin(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.argmin(*args, **options)


def norm(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.norm(*args, **options)


def squeeze(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.squeeze(*args, **options)


def split(x: Tensor, *args: Any, **options: Any) -> Any:
    return x.split(*args, **options)


def chunk(x: Tensor, *args: Any, **options: Any) -> Any:
    return x.chunk(*args, **options)


def unbind(x: Tensor, *args: Any, **options: Any) -> Any:
    return x.unbind(*args, **options)


def flatten(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.flatten(*args, **options)


def permute(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.permute(*args, **options)


def reshape(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.reshape(*args, **options)


def transpose(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.transpose(*args, **options)


def unsqueeze(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.unsqueeze(*args, **options)


def cumsum(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.cumsum(*args, **options)


def clip(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return x.clip(*args, **options)


clamp = clip
