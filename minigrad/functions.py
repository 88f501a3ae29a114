"""Operations under function names: `mg.exp(x)` beside `x.exp()`, and those that take several tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.autograd import Variable
from minigrad.creation import as_tensor
from minigrad.dtypes import promote
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.operands import cast, operands
from minigrad.ops.arithmetic import Where
from minigrad.ops.linalg import Einsum
from minigrad.ops.shape import Concatenate
from minigrad.shapes import broadcast_shapes, normalize_dim
from minigrad.tensor import Tensor

__all__ = [
    "abs",
    "add",
    "all",
    "allclose",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "bmm",
    "broadcast_to",
    "cat",
    "ceil",
    "chunk",
    "clamp",
    "clip",
    "concat",
    "concatenate",
    "cos",
    "cumsum",
    "div",
    "dot",
    "einsum",
    "eq",
    "equal",
    "exp",
    "flatten",
    "flip",
    "floor",
    "gather",
    "ge",
    "gt",
    "hstack",
    "index_select",
    "is_tensor",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "masked_select",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "mul",
    "mv",
    "ne",
    "neg",
    "nonzero",
    "norm",
    "numel",
    "outer",
    "permute",
    "pow",
    "prod",
    "reciprocal",
    "repeat_interleave",
    "reshape",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "tile",
    "topk",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unsqueeze",
    "var",
    "vstack",
    "where",
]


def _tensors(name: str, tensors: Sequence[Tensor]) -> list[Any]:
    """Several tensors brought to one dtype."""
    if not isinstance(tensors, (list, tuple)):
        raise DtypeError(f"{name}: expected a list or tuple of tensors, got {type(tensors).__name__}")
    for i, x in enumerate(tensors):
        if not isinstance(x, Variable):
            raise DtypeError(
                f"{name}: element {i} is no tensor but {type(x).__name__}; use minigrad.tensor(...)"
            )
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
    rest = [n for i, n in enumerate(xs[0].shape) if i != d]
    for i, x in enumerate(xs):
        if x.ndim == 0:
            raise ShapeError(f"cat: tensor {i} has no dimension to join along; use stack for single numbers")
        if x.ndim != xs[0].ndim or [n for i, n in enumerate(x.shape) if i != d] != rest:
            raise ShapeError(
                f"cat: tensor {i} has shape {x.shape}, tensor 0 has {xs[0].shape}; "
                f"they may differ in dimension {d} only"
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


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along dimension 0; vectors become rows first."""
    return cat([x if x.ndim > 1 else x.reshape(1, -1) for x in _tensors("vstack", tensors)])


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along dimension 1; vectors along their only one."""
    xs = [x if x.ndim else x.reshape(1) for x in _tensors("hstack", tensors)]
    return cat(xs, 1 if xs[0].ndim > 1 else 0)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """Elements of `input` where the condition holds, of `other` elsewhere; both may be numbers.

    >>> import minigrad as mg
    >>> x = mg.tensor([-1.0, 2.0])
    >>> mg.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    condition = as_tensor(condition)
    if condition.dtype.kind != "b":
        raise DtypeError(f"where: the condition must be a bool tensor, got {condition.dtype}")
    if not isinstance(input, Variable) and not isinstance(other, Variable):
        input = as_tensor(input, device=condition.device)
    if isinstance(input, Variable):
        pair = operands("where", input, other)
    else:
        swapped = operands("where", other, input)
        pair = swapped and swapped[::-1]
    if pair is None:
        raise DtypeError(f"where: cannot choose between {type(input).__name__} and {type(other).__name__}")
    broadcast_shapes("where", condition.shape, *[x.shape for x in pair if isinstance(x, Tensor)])
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
    return x.shape == y.shape and bool((x == y).array.all())


def allclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |x - y| <= atol + rtol |y| holds everywhere; infinities have to be equal."""
    a, b = backend.to_numpy(x.array), backend.to_numpy(y.array)
    return bool(np.allclose(a, b, rtol, atol, equal_nan))


def numel(x: Tensor) -> int:
    return x.numel()


# Operators as functions; the first operand may be a number ---------------------------------------------


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


def matmul(x: Any, y: Any) -> Tensor:
    """Product of matrices, of batches of them, or of vectors."""
    return x @ y


mm = bmm = mv = dot = matmul


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two, element by element; equal elements share the gradient."""
    return x.maximum(y) if isinstance(x, Tensor) else as_tensor(y).maximum(x)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of two, element by element; equal elements share the gradient."""
    return x.minimum(y) if isinstance(x, Tensor) else as_tensor(y).minimum(x)


# The methods of Tensor as functions: exp(x) is x.exp() ---------------------------------------------------


def _function(name: str) -> Callable[..., Any]:
    """The function that calls method `name` of its first argument, with the method's documentation."""
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def function(x: Any, *args: Any, **options: Any) -> Any:
        return method(as_tensor(x), *args, **options)

    function.__name__ = function.__qualname__ = name
    function.__module__ = __name__
    return function


abs = _function("abs")
all = _function("all")
amax = _function("amax")
amin = _function("amin")
any = _function("any")
argmax = _function("argmax")
argmin = _function("argmin")
argsort = _function("argsort")
broadcast_to = _function("broadcast_to")
ceil = _function("ceil")
chunk = _function("chunk")
clip = clamp = _function("clip")
cos = _function("cos")
cumsum = _function("cumsum")
eq = _function("eq")
exp = _function("exp")
flatten = _function("flatten")
flip = _function("flip")
floor = _function("floor")
gather = _function("gather")
ge = _function("ge")
gt = _function("gt")
index_select = _function("index_select")
isfinite = _function("isfinite")
isinf = _function("isinf")
isnan = _function("isnan")
le = _function("le")
log = _function("log")
log1p = _function("log1p")
logical_and = _function("logical_and")
logical_not = _function("logical_not")
logical_or = _function("logical_or")
lt = _function("lt")
masked_select = _function("masked_select")
max = _function("max")
mean = _function("mean")
min = _function("min")
ne = _function("ne")
neg = _function("neg")
nonzero = _function("nonzero")
norm = _function("norm")
outer = _function("outer")
permute = _function("permute")
prod = _function("prod")
reciprocal = _function("reciprocal")
repeat_interleave = _function("repeat_interleave")
reshape = _function("reshape")
round = _function("round")
rsqrt = _function("rsqrt")
sign = _function("sign")
sin = _function("sin")
sort = _function("sort")
split = _function("split")
sqrt = _function("sqrt")
square = _function("square")
squeeze = _function("squeeze")
std = _function("std")
sum = _function("sum")
tile = _function("tile")
topk = _function("topk")
transpose = _function("transpose")
tril = _function("tril")
triu = _function("triu")
unbind = _function("unbind")
unsqueeze = _function("unsqueeze")
var = _function("var")
