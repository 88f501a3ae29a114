"""The part of Tensor that is no calculation: what it is, conversions, in-place writes, printing.

In-place writes are allowed on tensors outside of any graph (running averages, parameters under
`no_grad`) and refused inside one, where they would make an already remembered step wrong.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np

from minigrad import backend
from minigrad.autograd import Variable
from minigrad.backend import Device
from minigrad.dtypes import DEFAULT, as_dtype, float64, int32, int64, is_float
from minigrad.errors import ArgumentError, DeviceError, DtypeError, GradientError, ShapeError
from minigrad.grad_mode import is_grad_enabled
from minigrad.operands import cast, operands
from minigrad.shapes import broadcast_shapes, normalize_dim

__all__ = ["TensorBase", "floating"]


def floating(x: Any) -> Any:
    """x if it holds floating-point numbers, else x as float32."""
    return x if is_float(x.array.dtype) else cast(x, DEFAULT)


class TensorBase(Variable):
    """Properties, conversions, in-place writes and printing of a Tensor."""

    # NumPy is not to calculate with tensors element by element; `array * tensor` goes to Tensor.__rmul__
    __array_ufunc__ = None

    def __init__(self, array: Any, requires_grad: bool = False):
        if not backend.is_array(array):
            if isinstance(array, Variable):
                raise DtypeError(
                    "Tensor(x) wraps an array; x is a Tensor already (use x.detach() or x.clone())"
                )
            array = np.asarray(array, dtype=DEFAULT)  # torch.Tensor([1, 2]) is float32, too
        super().__init__(array, requires_grad)

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def device(self) -> Device:
        return backend.device_of(self.array)

    @property
    def ndim(self) -> int:
        return int(self.array.ndim)

    @property
    def _xp(self) -> Any:
        return backend.namespace(self.array)

    @property
    def data(self) -> Self:
        """This tensor outside of the graph: the same memory, no history. Assigning replaces the array."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        self.array = value.array if isinstance(value, Variable) else value

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def dim(self) -> int:
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[normalize_dim(dim, self.ndim, "size")]

    def numel(self) -> int:
        return int(self.array.size)

    nelement = numel

    def element_size(self) -> int:
        return int(self.array.dtype.itemsize)

    def is_floating_point(self) -> bool:
        return is_float(self.dtype)

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    def contiguous(self) -> Self:
        return self  # memory order is free in minigrad: every operation takes every order

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        self.requires_grad = requires_grad
        return self

    # Out of the graph, to the host, to Python

    def detach(self) -> Self:
        """The same memory without history; later in-place writes through either are noticed by both."""
        x = self._new(self.array)
        x.version = self.version
        return x  # type: ignore[return-value]

    def numpy(self) -> np.ndarray:
        """The NumPy array of a CPU tensor outside of the graph; it shares memory."""
        if self.requires_grad:
            raise GradientError("numpy: this tensor requires gradients; use .detach().numpy()")
        if self.device.type != "cpu":
            raise DeviceError(f"numpy: this tensor is on {self.device}; use .cpu().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The one number in this tensor as a Python number."""
        if self.numel() != 1:
            raise ShapeError(f"item: needs a tensor with one element, this one has shape {self.shape}")
        return backend.to_numpy(self.array).item()

    def tolist(self) -> Any:
        return backend.to_numpy(self.array).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DtypeError(f"only an integer tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use .any(), .all() or an element"
            )
        return bool(self.item())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise DtypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise DtypeError("a 0-d tensor cannot be iterated over; use .item()")
        return (self[i] for i in range(self.shape[0]))  # type: ignore[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if not self.is_leaf:
            raise GradientError(
                "deepcopy: only leaves can be copied, this tensor is part of a graph; use .detach()"
            )
        twin = copy.copy(self)
        twin.array, twin.version, twin._hooks = self.array.copy(), [0], []
        twin.grad = copy.deepcopy(self.grad, memo)
        memo[id(self)] = twin
        return twin

    # To another dtype or device

    def _destination(self, where: tuple[Any, ...]) -> tuple[Device | None, np.dtype | None]:
        """What the arguments of `to` ask for."""
        device: Device | None = None
        dtype: np.dtype | None = None
        for w in where:
            if isinstance(w, Variable):
                device, dtype = backend.device_of(w.array), w.array.dtype
            elif isinstance(w, Device) or (isinstance(w, str) and not hasattr(np, w)):
                device = backend.device(w)
            elif w is not None:
                dtype = as_dtype(w)
        return device, dtype

    def cpu(self) -> Self:
        return self.to("cpu")  # type: ignore[attr-defined]

    def cuda(self, index: int = 0) -> Self:
        return self.to(f"cuda:{index}")  # type: ignore[attr-defined]

    def type(self, dtype: Any) -> Self:
        return self.to(as_dtype(dtype))  # type: ignore[attr-defined]

    def astype(self, dtype: Any) -> Self:
        return self.to(as_dtype(dtype))  # type: ignore[attr-defined]

    def float(self) -> Self:
        return self.type(DEFAULT)

    def double(self) -> Self:
        return self.type(float64)

    def long(self) -> Self:
        return self.type(int64)

    def int(self) -> Self:
        return self.type(int32)

    def bool(self) -> Self:
        return self.type("bool")

    # In-place writes

    def _writable(self, operation: str, other: Any = None) -> None:
        """Refuse to write into a tensor that a remembered operation may have used."""
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
        pair = operands(operation, self.detach(), other)
        if pair is None:
            return NotImplemented
        a, b = (p.array if isinstance(p, Variable) else p for p in pair)
        if (
            isinstance(pair[1], Variable)
            and broadcast_shapes(operation, self.shape, pair[1].array.shape) != self.shape
        ):
            raise ShapeError(
                f"{operation}: shape {pair[1].array.shape} does not fit into {self.shape} in place"
            )
        result = getattr(a, op)(b)
        if is_float(result.dtype) and not is_float(self.dtype):
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
        self._writable("x[...] = value", value)
        array = value.array if isinstance(value, Variable) else value
        try:
            self.array[self._index(index)] = array
        except ValueError as error:
            raise ShapeError(f"x[...] = value: {error}") from None
        self.version[0] += 1

    def _index(self, index: Any) -> Any:
        """An index with the tensors in it replaced by their arrays."""
        if isinstance(index, tuple):
            return tuple(self._index(part) for part in index)
        if isinstance(index, Variable):
            if is_float(index.array.dtype):
                raise DtypeError(
                    f"a tensor used as an index must hold integers or bools, not {index.array.dtype}"
                )
            return index.array
        if isinstance(index, list):
            return self._xp.asarray(index)
        return index

    def add_(self, other: Any, alpha: Any = 1) -> Self:
        return self._write("add_", other if alpha == 1 else other * alpha, "__add__")

    def sub_(self, other: Any, alpha: Any = 1) -> Self:
        return self._write("sub_", other if alpha == 1 else other * alpha, "__sub__")

    def mul_(self, other: Any) -> Self:
        return self._write("mul_", other, "__mul__")

    def div_(self, other: Any) -> Self:
        return self._write("div_", other, "__truediv__")

    def copy_(self, other: Any) -> Self:
        """Write the elements of `other`, from any device and dtype, into this tensor's memory."""
        self._writable("copy_", other)
        source = other.array if isinstance(other, Variable) else np.asarray(other)
        if broadcast_shapes("copy_", self.shape, source.shape) != self.shape:
            raise ShapeError(f"copy_: shape {source.shape} does not fit into {self.shape}")
        self.array[...] = backend.to_device(source, self.device).astype(self.dtype)
        self.version[0] += 1
        return self

    def fill_(self, value: Any) -> Self:
        self._writable("fill_")
        self.array[...] = value
        self.version[0] += 1
        return self

    def zero_(self) -> Self:
        return self.fill_(0)

    def normal_(self, mean: Any = 0.0, std: Any = 1.0) -> Self:
        return self.copy_(backend.random.generator().normal(mean, std, self.shape))

    def uniform_(self, low: Any = 0.0, high: Any = 1.0) -> Self:
        return self.copy_(backend.random.generator().uniform(low, high, self.shape))

    # Printing

    def __repr__(self) -> str:
        body = np.array2string(
            backend.to_numpy(self.array), separator=", ", prefix="tensor(", precision=4, threshold=1000
        )
        if self.numel() == 0:
            body = f"[], size={self.shape}"
        parts = [body]
        if self.device.type != "cpu":
            parts.append(f"device='{self.device}'")
        if self.dtype not in (DEFAULT, int64, np.dtype(bool)):
            parts.append(f"dtype={self.dtype}")
        if self.grad_fn is not None:
            parts.append(f"grad_fn=<{type(self.grad_fn).__name__}>")
        elif self.requires_grad:
            parts.append("requires_grad=True")
        return f"tensor({', '.join(parts)})"

    def __format__(self, spec: str) -> str:
        if spec and self.numel() == 1:
            return format(self.item(), spec)
        if spec:
            raise ArgumentError(
                f"format {spec!r} needs a tensor with one element, this one has shape {self.shape}"
            )
        return repr(self)
