"""The part of Tensor that is no calculation: what it is, conversions, printing."""

from __future__ import annotations

import builtins
import copy
from typing import Any, Self

import numpy as np

from minigrad import backend
from minigrad.autograd import Variable
from minigrad.backend import Device
from minigrad.dtypes import DEFAULT, as_dtype, bool_, float16, float64, int32, int64, is_float
from minigrad.errors import ArgumentError, DeviceError, DtypeError, GradientError, ShapeError
from minigrad.operands import cast
from minigrad.ops import elementwise
from minigrad.shapes import as_size, normalize_dim

__all__ = ["TensorBase", "floating"]


def floating(x: Any) -> Any:
    """x if it holds floating-point numbers, else x as float32."""
    return x if is_float(x.array.dtype) else cast(x, DEFAULT)


class TensorBase(Variable):
    """Properties, conversions and printing of a Tensor."""

    # NumPy is not to calculate with tensors element by element; `array * tensor` goes to Tensor.__rmul__
    __array_ufunc__ = None

    def __init__(self, array: Any, requires_grad: bool = False):
        if not isinstance(requires_grad, bool):
            raise ArgumentError("Tensor(array) wraps one array; for a tensor of a shape use zeros(2, 3)")
        if not backend.is_array(array):
            if isinstance(array, Variable):
                raise DtypeError(
                    "Tensor(x) wraps an array; x is a Tensor already (use x.detach() or x.clone())"
                )
            # torch.Tensor([1, 2]) is float32, too; a NumPy scalar keeps its dtype, as an array does
            array = np.asarray(array, dtype=None if isinstance(array, np.generic) else DEFAULT)
        if array.dtype.kind not in "fiub":
            raise DtypeError(f"a tensor holds real numbers or bools, not {array.dtype}")
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
        new = value if isinstance(value, Variable) else self._new(value)
        if self.requires_grad and not is_float(new.array.dtype):
            raise DtypeError(f"data: this tensor requires gradients, so it cannot hold {new.array.dtype}")
        self.array, self.version = new.array, new.version

    def _same_device(self, operation: str, other: Any) -> None:
        """Refuse an array that lives elsewhere; numbers live everywhere."""
        try:
            backend.namespace(self.array, *([other] if backend.is_array(other) else []))
        except DeviceError as error:
            raise DeviceError(f"{operation}: {error}") from None

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
        return x

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

    def __contains__(self, value: Any) -> bool:
        found = self == value
        return isinstance(found, Variable) and bool(found.array.any())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if not self.is_leaf:
            raise GradientError(
                "deepcopy: only leaves can be copied, this tensor is part of a graph; use .detach()"
            )
        twin = copy.copy(self)
        twin.array, twin.version, twin._hooks = self.array.copy(), [0], []
        twin.grad = copy.deepcopy(self.grad, memo)
        return twin

    # To another dtype or device

    def _destination(self, where: tuple[Any, ...]) -> tuple[Device | None, np.dtype | None]:
        """What the arguments of `to` ask for."""
        device: Device | None = None
        dtype: np.dtype | None = None
        for w in where:
            if isinstance(w, Variable):
                device, dtype = backend.device_of(w.array), w.array.dtype
            elif isinstance(w, (Device, builtins.int)) or (isinstance(w, str) and not hasattr(np, w)):
                device = backend.device(w)
            elif w is not None:
                dtype = as_dtype(w)
        return device, dtype

    def to(
        self,
        *where: Any,
        device: Any = None,
        dtype: Any = None,
        copy: bool = False,
        non_blocking: bool = False,
    ) -> Self:
        """In another dtype, on another device, or both: x.to("cuda"), x.to(minigrad.float64), x.to(y).

        Returns this tensor itself if nothing changes, unless `copy` asks for a new one. `non_blocking` is
        accepted for the sake of code written for PyTorch.
        """
        home, kind = self._destination((*where, device, dtype))
        x: Any = self
        if home is not None and home != self.device:
            x = elementwise.ToDevice.apply(x, home)
        if kind is not None:
            x = cast(x, kind)
        return elementwise.Clone.apply(x) if copy and x is self else x

    def clone(self) -> Self:
        """A copy in memory of its own, still part of the graph."""
        return elementwise.Clone.apply(self)

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, index: int = 0) -> Self:
        return self.to(f"cuda:{index}")

    def type(self, dtype: Any) -> Self:
        return self.to(dtype=as_dtype(dtype))

    astype = type

    def half(self) -> Self:
        return self.type(float16)

    def float(self) -> Self:
        return self.type(DEFAULT)

    def double(self) -> Self:
        return self.type(float64)

    def long(self) -> Self:
        return self.type(int64)

    def int(self) -> Self:
        return self.type(int32)

    def bool(self) -> Self:
        return self.type(bool_)

    # New tensors of this dtype on this device

    def new_full(
        self, size: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False
    ) -> Self:
        """A tensor of one value, with the dtype and device of this one."""
        shape = as_size("new_full", (size,))
        array = np.full(shape, fill_value, self.dtype if dtype is None else as_dtype(dtype))
        new = self._new(backend.to_device(array, self.device if device is None else device))
        return new.requires_grad_(requires_grad)

    def new_zeros(self, *size: Any, **options: Any) -> Self:
        return self.new_full(as_size("new_zeros", size), 0, **options)

    def new_ones(self, *size: Any, **options: Any) -> Self:
        return self.new_full(as_size("new_ones", size), 1, **options)

    new_empty = new_zeros

    # Indices

    def _index(self, index: Any) -> Any:
        """An index as the array library wants it: arrays for tensors and lists, on this device."""
        if isinstance(index, tuple):
            return tuple(self._index(part) for part in index)
        if isinstance(index, list):
            index = np.asarray(index, dtype=None if index else int64)
        array = index.array if isinstance(index, Variable) else index
        if not backend.is_array(array):
            return array
        if array.dtype.kind not in "biu":
            raise DtypeError(f"an array used as an index must hold integers or bools, not {array.dtype}")
        return backend.to_device(array, self.device)

    # Printing

    def __repr__(self) -> str:
        body = np.array2string(
            backend.to_numpy(self.array), separator=", ", prefix="tensor(", precision=4, threshold=1000
        )
        if self.numel() == 0:
            body = "[]" if self.ndim == 1 else f"[], size={self.shape}"
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
