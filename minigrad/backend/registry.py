"""Devices, and the array libraries behind them.

A `Backend` is one array library: what it is called, the type of its arrays, and how to copy from and
to the host. NumPy is always there; CuPy joins when a CUDA device is first asked for; the tests add a
stand-in that allows only what CuPy has. All other code asks here and never imports an array library
for tensor data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.backend import cuda
from minigrad.errors import ArgumentError, DeviceError

__all__ = [
    "CPU",
    "Backend",
    "Device",
    "backend_of",
    "device",
    "device_of",
    "is_array",
    "namespace",
    "register",
    "synchronize",
    "to_device",
    "to_numpy",
]

Array = Any  # a NumPy or CuPy array; they share no base class


@dataclass(frozen=True)
class Backend:
    """One array library.

    Attributes:
        name: the device type that users write, "cpu" or "cuda".
        xp: the module with the functions (numpy, cupy).
        array_type: the class of its arrays.
        asarray: host array and device index -> array on that device.
        to_numpy: array -> host array.
        device_index: array -> index of its device.
        synchronize: waits until everything that was started is done.
        address: of an array's first element in its memory, for kernels that take a table of arrays.
    """

    name: str
    xp: Any
    array_type: type
    asarray: Callable[[np.ndarray, int], Array]
    to_numpy: Callable[[Array], np.ndarray]
    device_index: Callable[[Array], int]
    synchronize: Callable[[], None]
    address: Callable[[Array], int]


class Device:
    """Where a tensor lives: a type ("cpu", "cuda") and an index.

    Equal to its own spelling, so that `x.device == "cpu"` reads as it looks.

    >>> str(Device("cuda", 1)), Device("cpu") == "cpu"
    ('cuda:1', True)
    """

    __slots__ = ("index", "type")

    def __init__(self, type: str, index: int = 0):
        self.type = type
        self.index = index

    def __str__(self) -> str:
        return self.type if self.type == "cpu" else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return (
            f"device(type={self.type!r})"
            if self.type == "cpu"
            else f"device(type={self.type!r}, index={self.index})"
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == str(self) or (other == self.type and self.index == 0)
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash(str(self))  # as its spelling, to which it is equal


CPU = Device("cpu")

_by_name: dict[str, Backend] = {}
_by_type: dict[type, Backend] = {}


def register(backend: Backend) -> Backend:
    """Make an array library known. Registering the same name again replaces it."""
    replaced = _by_name.get(backend.name)
    if replaced is not None:
        _by_type.pop(replaced.array_type, None)
    _by_name[backend.name] = backend
    _by_type[backend.array_type] = backend
    return backend


register(
    Backend(
        name="cpu",
        xp=np,
        array_type=np.ndarray,
        asarray=lambda array, index: array,
        to_numpy=lambda array: array,
        device_index=lambda array: 0,
        synchronize=lambda: None,
        address=lambda array: int(array.ctypes.data),
    )
)


def device(spec: Device | str | int | None = None) -> Device:
    """A device by name: "cpu", "cuda", "cuda:1", or None for the CPU.

    A CUDA device that cannot be used is an error that says what is missing. Before anything is calculated on
    another one than the first, call `backend.cuda.make_current(index)`, as the trainer does.

    >>> device("cpu")
    device(type='cpu')
    """
    if spec is None:
        return CPU
    if isinstance(spec, Device):
        kind, index = spec.type, spec.index
    elif isinstance(spec, int) and not isinstance(spec, bool):
        kind, index = "cuda", spec
    else:
        match = re.fullmatch(r"([a-z]+)(?::(\d+))?", spec) if isinstance(spec, str) else None
        kind, index = (match[1], int(match[2] or 0)) if match else ("", 0)
    if kind != "cuda" and kind not in _by_name:
        raise ArgumentError(f"unknown device {spec!r}: use 'cpu', 'cuda' or 'cuda:0'")
    if kind == "cuda":
        _load_cuda()
        count = cuda.device_count()
        if not 0 <= index < count:
            raise DeviceError(
                f"device cuda:{index} does not exist: this machine has {count} CUDA device(s), "
                f"0 to {count - 1}"
            )
    elif index != 0:
        raise ArgumentError(f"unknown device {spec!r}: {kind!r} has no index other than 0")
    return Device(kind, index)


def _load_cuda() -> Backend:
    """The CuPy backend, made when it is first needed."""
    if "cuda" not in _by_name:
        cupy = cuda.load()

        def asarray(array: np.ndarray, index: int) -> Array:
            with cupy.cuda.Device(index):
                return cupy.asarray(array)

        register(
            Backend(
                name="cuda",
                xp=cupy,
                array_type=cupy.ndarray,
                asarray=asarray,
                to_numpy=lambda array: array.get(),
                device_index=lambda array: int(array.device.id),
                synchronize=lambda: cupy.cuda.get_current_stream().synchronize(),
                address=lambda array: int(array.data.ptr),
            )
        )
    return _by_name["cuda"]


def is_array(value: object) -> bool:
    """Whether `value` is an array of a known library."""
    return type(value) in _by_type or isinstance(value, tuple(_by_type))


def backend_of(array: Array) -> Backend:
    """The library that `array` belongs to."""
    found = _by_type.get(type(array))
    if found is not None:
        return found
    for array_type, backend in _by_type.items():  # a subclass, such as numpy.memmap
        if isinstance(array, array_type):
            return backend
    if type(array).__module__.partition(".")[0] == "cupy":  # somebody brought a CuPy array along
        return _load_cuda()
    raise DeviceError(f"expected an array, got {type(array).__name__}")


def namespace(*arrays: Array) -> Any:
    """The array library that all `arrays` belong to; a mixture is refused.

    >>> namespace(np.ones(3)).__name__
    'numpy'
    """
    if not arrays:
        return np
    first = backend_of(arrays[0])
    for array in arrays[1:]:
        if type(array) is not first.array_type and backend_of(array) is not first:
            raise _mixture(arrays)
    if first.name != "cpu" and len(arrays) > 1 and len({first.device_index(a) for a in arrays}) > 1:
        raise _mixture(arrays)
    return first.xp


def _mixture(arrays: tuple[Array, ...]) -> DeviceError:
    devices = [device_of(a) for a in arrays]
    names = sorted({d.type for d in devices})
    if len(names) == 1:  # two devices of one type: cuda:0 and cuda:1
        names = sorted({str(d) for d in devices})
    return DeviceError(
        f"arrays live on different devices: {' and '.join(names)}; move them together with .to({names[0]!r})"
    )


def device_of(array: Array) -> Device:
    """The device that holds `array`."""
    backend = backend_of(array)
    return CPU if backend.name == "cpu" else Device(backend.name, backend.device_index(array))


def to_numpy(array: Array) -> np.ndarray:
    """`array` on the host: itself if it is there already, a copy otherwise."""
    return backend_of(array).to_numpy(array)


def to_device(array: Array, where: Device | str | None) -> Array:
    """`array` on the device `where`: itself if it is there already, a copy otherwise."""
    target = device(where)
    if device_of(array) == target:
        return array
    host = to_numpy(array)
    return host if target.type == "cpu" else _by_name[target.type].asarray(host, target.index)


def synchronize(where: Device | str | None = None) -> None:
    """Wait until everything started on the device is done; needed before a clock is read."""
    _by_name[device(where).type].synchronize()
