"""Making tensors: from data, filled with one value, in steps, at random.

Floats become float32 and whole numbers int64, as in PyTorch; NumPy arrays keep their dtype. Random numbers
come from the generator that `minigrad.manual_seed` restarts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.autograd import Variable
from minigrad.dtypes import DEFAULT, as_dtype, int64, is_float
from minigrad.errors import ArgumentError, DtypeError
from minigrad.shapes import as_int, as_size
from minigrad.tensor import Tensor

__all__ = [
    "arange",
    "as_tensor",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "normal",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "tensor",
    "zeros",
    "zeros_like",
]


def _make(array: np.ndarray, device: Any, requires_grad: bool) -> Tensor:
    return Tensor(backend.to_device(array, device), requires_grad=requires_grad)


def _size(name: str, sizes: tuple[Any, ...], size: Any) -> tuple[int, ...]:
    """f(2, 3), f((2, 3)) and f(size=(2, 3)) mean the same."""
    if size is not None and sizes:
        raise ArgumentError(f"{name}: give the sizes or size=, not both")
    return as_size(name, sizes if size is None else (size,))


def _host(data: Any, dtype: Any) -> np.ndarray:
    """`data` as a new NumPy array with minigrad's default dtypes."""
    if isinstance(data, Variable):
        array = backend.to_numpy(data.array)
    elif backend.is_array(data):
        array = backend.to_numpy(data)
    else:
        if isinstance(data, (list, tuple)) and data and isinstance(data[0], Variable):
            data = [backend.to_numpy(x.array) for x in data]
        try:
            array = np.array(data)
        except ValueError:
            raise ArgumentError("tensor: the rows of a nested list must all have the same length") from None
        if array.dtype.kind not in "bifu":
            raise DtypeError(
                f"tensor: cannot make a tensor of numbers from {type(data).__name__} {data!r:.60}"
            )
        if dtype is None and not isinstance(data, np.generic) and array.dtype.kind in "if":
            array = array.astype(DEFAULT if array.dtype.kind == "f" or array.size == 0 else int64)
    return np.array(array, dtype=as_dtype(array.dtype if dtype is None else dtype))


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: a number, nested lists, an array, another tensor.

    >>> tensor([1, 2]).dtype, tensor([1.0, 2]).dtype
    (dtype('int64'), dtype('float32'))
    """
    if device is None and isinstance(data, Variable):
        device = backend.device_of(data.array)
    return _make(_host(data, dtype), device, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, without a copy where that is possible."""
    if backend.is_array(data):
        as_dtype(data.dtype)
        data = Tensor(data)
    if isinstance(data, Tensor):
        return data.to(device, dtype)
    return tensor(data, dtype, device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise DtypeError(f"from_numpy: expected a NumPy array, got {type(array).__name__}")
    as_dtype(array.dtype)
    return Tensor(array)


def full(
    size: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of one value."""
    sizes = as_size("full", (size,))
    return _make(np.full(sizes, fill_value, _host(fill_value, dtype).dtype), device, requires_grad)


def zeros(
    *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    return _make(np.zeros(_size("zeros", sizes, size), as_dtype(dtype or DEFAULT)), device, requires_grad)


def ones(
    *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ones: ones(2, 3) or ones((2, 3))."""
    return _make(np.ones(_size("ones", sizes, size), as_dtype(dtype or DEFAULT)), device, requires_grad)


empty = zeros  # a few zeros more cost nothing, and uninitialised numbers have surprised many


def full_like(
    x: Tensor, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    return full(x.shape, fill_value, dtype or x.dtype, device or x.device, requires_grad)


def zeros_like(x: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return full_like(x, 0, dtype, device, requires_grad)


empty_like = zeros_like


def ones_like(x: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    return full_like(x, 1, dtype, device, requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to but without `end`; arange(n) counts from 0.

    >>> arange(3), arange(1, 2, 0.5)
    (tensor([0, 1, 2]), tensor([1. , 1.5]))
    """
    if end is None:
        start, end = 0, start
    if step == 0:
        raise ArgumentError("arange: step must not be 0")
    values = np.arange(start, end, step)
    default = DEFAULT if values.dtype.kind == "f" else int64
    return _make(values.astype(as_dtype(dtype or default)), device, requires_grad)


def linspace(
    start: float, end: float, steps: int, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included, at equal distances."""
    return _make(np.linspace(start, end, steps).astype(as_dtype(dtype or DEFAULT)), device, requires_grad)


def eye(
    n: int, m: int | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The identity matrix."""
    return _make(np.eye(n, m, dtype=as_dtype(dtype or DEFAULT)), device, requires_grad)


def rand(
    *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform random numbers in [0, 1)."""
    kind = as_dtype(dtype or DEFAULT)
    if not is_float(kind):
        raise DtypeError(f"rand: {kind} has no numbers between 0 and 1; use randint for whole numbers")
    values = backend.random.generator().random(_size("rand", sizes, size)).astype(kind)
    below_one = kind.type(1) - np.finfo(kind).epsneg  # rounding to fewer digits may have made a 1
    return _make(np.minimum(values, below_one), device, requires_grad)


def randn(
    *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normally distributed random numbers with mean 0 and variance 1."""
    return normal(0.0, 1.0, _size("randn", sizes, size), dtype, device, requires_grad)


def rand_like(x: Tensor) -> Tensor:
    return rand(x.shape, dtype=x.dtype, device=x.device)


def randn_like(x: Tensor) -> Tensor:
    return randn(x.shape, dtype=x.dtype, device=x.device)


def normal(
    mean: float, std: float, size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normally distributed random numbers."""
    values = backend.random.generator().normal(mean, std, as_size("normal", (size,)))
    return _make(values.astype(as_dtype(dtype or DEFAULT)), device, requires_grad)


def randint(low: Any, high: Any, size: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Random whole numbers from low up to but without high; randint(high, size) starts at 0.

    >>> randint(0, 10, (2, 3)).shape, randint(10, (2, 3)).shape
    ((2, 3), (2, 3))
    """
    if size is None:
        low, high, size = 0, low, high
    low, high = as_int(low, "randint: low"), as_int(high, "randint: high")
    if low >= high:
        raise ArgumentError(f"randint: low must be below high, got {low} and {high}")
    values = backend.random.generator().integers(low, high, as_size("randint", (size,)))
    return _make(values.astype(as_dtype(dtype or int64)), device, False)


def randperm(n: int, device: Any = None) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    return _make(backend.random.generator().permutation(n).astype(int64), device, False)
