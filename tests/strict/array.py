"""The array of the stand-in: NumPy's numbers, CuPy's rules.

What a `StrictArray` refuses is what a `cupy.ndarray` refuses, and a little more: everything that works with
NumPy by accident and on a GPU not at all, or slowly. In reading order: the counters; what may go into a
function (`unwrap`) and how its result comes out (`wrap`); the class; its operators and methods.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from tests.strict import tape
from tests.strict.indexing import has_duplicates, is_advanced, wrap_around
from tests.strict.table import API, CUPY, signature

# 1. Counters ---------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What makes a GPU wait: values that the host asked for, and host data copied to the device."""

    synchronisations: int = 0
    uploads: int = 0

    def reset(self) -> None:
        self.synchronisations = self.uploads = 0


counts = Counts()


def synchronise() -> None:
    tape.forbid("waiting for the device")
    counts.synchronisations += 1


def upload(value: Any, dtype: Any = None) -> StrictArray:
    """A copy of host data. As in CuPy, only C and Fortran order survive the copy."""
    host = np.array(value, dtype=dtype, order="A")
    if host.dtype.char not in "?bhilqBHILQefdFD":
        raise ValueError(f"{CUPY} has no arrays of dtype {host.dtype}")
    host = host.astype(host.dtype.newbyteorder("="), copy=False)
    if host.ndim:
        tape.forbid("copying host data to the device")
        counts.uploads += 1
        return StrictArray(host)
    return StrictArray(tape.run(host.copy))  # a single number travels with the kernel that fills the array


# 2. Into a function and out again ------------------------------------------------------------------------

SCALARS = (bool, int, float, complex, np.number, np.bool_)
# Parameters that take arrays only, where NumPy would convert a list, and those that need numbers of the host.
ARRAYS = frozenset("a a1 a2 arr array ary b condition indices m mask out v values weights x x1 x2 y".split())
HOST = frozenset(
    "axes axis axis1 axis2 decimals ddof indices_or_sections k keepdims kth N n ndmin newshape num offset "
    "order pad_width reps shape shift side strides window_shape".split()
)
# Functions that fail on a plain number as their first argument, which NumPy takes for a 0-d array.
NEED_ARRAY = frozenset({"a", "arr", "array", "ary", "m"})
TAKE_NUMBERS = frozenset("array asarray asanyarray isclose allclose ndim shape".split())
# Functions that keep the memory order of their argument; every other new array is in C order.
KEEP_ORDER = frozenset(
    "array asarray asanyarray asfortranarray astype copy empty_like full_like ones_like zeros_like".split()
)


def unwrap(value: Any, what: str, arrays: list[StrictArray]) -> Any:
    """`value` with NumPy arrays for the StrictArrays in it, which are added to `arrays`."""
    if isinstance(value, StrictArray):
        arrays.append(value)
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"{what}: got a numpy.ndarray; copy it to the device first")
    if isinstance(value, (list, tuple)):
        items = [unwrap(item, what, arrays) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if hasattr(type(value), "__array__") and not isinstance(value, np.generic):
        raise TypeError(f"{what}: got a {type(value).__name__}, which is not an array of the device")
    return value


def has_array(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(has_array(item) for item in value)
    return isinstance(value, StrictArray)


def check_parameter(what: str, function: str, name: str, value: Any) -> None:
    """Refuse a list for an array, and an array for a number of the host."""
    if name in HOST and has_array(value):
        raise TypeError(f"{what}: {name} must be a number of the host, got an array")
    if name in ARRAYS and isinstance(value, (list, tuple)) and function not in TAKE_NUMBERS:
        raise TypeError(f"{what}: {name} must be an array, got a {type(value).__name__}")


def bind(
    what: str, parameters: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], list[StrictArray]]:
    """Check a call against CuPy's parameters; give NumPy's arguments and the arrays among them."""
    function = what.rpartition(".")[2]
    try:
        bound = signature(parameters).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{CUPY}: {what}({parameters}): {error}") from None
    for position, (name, value) in enumerate(bound.arguments.items()):
        check_parameter(what, function, name, value)
        if position == 0 and name in NEED_ARRAY and isinstance(value, SCALARS):
            if function not in TAKE_NUMBERS and not what.startswith("ndarray."):
                raise TypeError(f"{what}: {name} must be an array, got the number {value!r}")
    arrays: list[StrictArray] = []
    host_args = tuple(unwrap(value, what, arrays) for value in args)
    host_kwargs = {name: unwrap(value, what, arrays) for name, value in kwargs.items()}
    return host_args, host_kwargs, arrays


def wrap(result: Any, arrays: Sequence[StrictArray] = (), keep_order: bool = False) -> Any:
    """NumPy's result as CuPy would give it: 0-d arrays, no host numbers, new arrays in C order."""
    if isinstance(result, (tuple, list)):
        items = [wrap(item, arrays, keep_order) for item in result]
        return items if isinstance(result, list) else tuple(items)
    if isinstance(result, np.generic):
        return StrictArray(np.asarray(result))
    if not isinstance(result, np.ndarray):
        return result
    for array in arrays:
        if result is array._host:  # out=, or nothing to do
            return array
    is_view = any(np.may_share_memory(result, array._host) for array in arrays)
    if not (is_view or keep_order or result.flags.c_contiguous):
        result = result.copy(order="C")
    return StrictArray(result)


# 3. The class --------------------------------------------------------------------------------------------


class StrictArray:
    """An array that acts as cupy.ndarray does. Made by `upload` and by the functions of `xp`."""

    __slots__ = ("__weakref__", "_host")
    __array_ufunc__ = None  # np.exp(x), numpy_array + x: refused
    __hash__ = None  # type: ignore[assignment]
    __contains__ = None  # cupy 14 has none: Python would compare one element after the other on the host

    def __init__(self, host: np.ndarray):
        self._host = host

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_function__(self, func: Any, *rest: Any) -> NoReturn:
        raise TypeError(f"numpy.{func.__name__} called with an array of the device; use xp.{func.__name__}")

    def __getattr__(self, name: str) -> Any:
        known = name in API["attributes"] or name in API["methods"]
        reason = "the stand-in does not imitate" if known else f"{CUPY} has no"
        raise AttributeError(f"{reason} ndarray.{name}")

    # Facts that cost nothing, and views
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    device = property(lambda self: SimpleNamespace(id=0))
    T = property(lambda self: wrap(self._host.T, [self]))
    mT = property(lambda self: wrap(self._host.mT, [self]))
    real = property(lambda self: wrap(self._host.real, [self]))
    imag = property(lambda self: wrap(self._host.imag, [self]))

    @property
    def flags(self) -> SimpleNamespace:
        """Only the three that CuPy has: no `writeable`."""
        flags = self._host.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata
        )

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[StrictArray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # Values on the host: each of these waits for the device
    def _synchronise(self) -> np.ndarray:
        synchronise()
        return self._host

    def get(self, order: str = "C") -> np.ndarray:
        return np.array(self._synchronise(), order=order)  # type: ignore[call-overload]

    def item(self) -> Any:
        return self._synchronise().item()

    def tolist(self) -> Any:
        return self._synchronise().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self._synchronise().tobytes(order)  # type: ignore[arg-type]

    def __float__(self) -> float:
        return float(self._synchronise())

    def __int__(self) -> int:
        return int(self._synchronise())

    def __bool__(self) -> bool:
        return bool(self._synchronise())

    def __complex__(self) -> complex:
        return complex(self._synchronise())

    def __repr__(self) -> str:
        return repr(self._synchronise()).replace("array", "StrictArray", 1)

    def __str__(self) -> str:
        return str(self._synchronise())

    def __format__(self, spec: str) -> str:
        return format(self._synchronise(), spec)

    # Host data written into the array
    def set(self, arr: np.ndarray) -> None:
        if not isinstance(arr, np.ndarray) or (arr.shape, arr.dtype) != (self.shape, self.dtype):
            raise TypeError("ndarray.set: needs a numpy.ndarray of the same shape and dtype")
        tape.forbid("copying host data to the device")
        counts.uploads += 1
        self._host[...] = arr

    def __copy__(self) -> StrictArray:
        return StrictArray(tape.run(lambda: self._host.copy(order="C")))

    def __deepcopy__(self, memo: Any) -> StrictArray:
        return self.__copy__()

    # Indexing
    def _key(self, key: Any) -> tuple[Any, ...]:
        """The key with NumPy arrays; lists are uploaded, masks synchronise, large indices wrap."""
        found: list[Any] = []
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, list):
                part = upload(part, dtype=None if part else np.int64)
            if isinstance(part, StrictArray):
                if part.dtype.kind not in "biu":
                    raise IndexError(f"an index array must be of integers or bools, got {part.dtype}")
                if part.dtype == bool:
                    synchronise()  # the shape of the result is on the device
                found.append(part._host)
            elif part is None or part is Ellipsis or isinstance(part, (slice, int, np.integer)):
                found.append(part)
            else:
                raise TypeError(f"an array of the device cannot be indexed by a {type(part).__name__}")
        return tuple(found)

    def _wrapped(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        return wrap_around(key, self.shape)

    def __getitem__(self, key: Any) -> StrictArray:
        key = self._key(key)
        if is_advanced(key):
            return StrictArray(tape.run(lambda: np.array(self._host[self._wrapped(key)], order="C")))
        if Ellipsis not in key:
            key += (Ellipsis,)  # also a[0] of a vector is a view in CuPy
        return StrictArray(self._host[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        key, value = self._key(key), operand(value, "a[key] = value")
        if value is NotImplemented:
            raise TypeError("a[key] = value: the value must be an array of the device or a number")
        tape.launch(lambda: self._assign(self._wrapped(key), value))

    def _assign(self, key: tuple[Any, ...], value: Any) -> None:
        if is_advanced(key) and np.size(value) > 1 and has_duplicates(key, self.shape):
            raise ValueError("a[key] = value: the same element twice; which value stays is undefined in CuPy")
        self._host[key] = value


# 4. Operators --------------------------------------------------------------------------------------------


def operand(value: Any, what: str) -> Any:
    """An array or a number for NumPy; NotImplemented for a class that may know what to do."""
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, SCALARS):
        return value
    if value is None or isinstance(value, (np.ndarray, list, tuple)):
        raise TypeError(f"{what}: an array of the device meets a {type(value).__name__}; copy it there first")
    return NotImplemented


def binary(ufunc: np.ufunc, reflected: bool = False) -> Callable[[StrictArray, Any], Any]:
    def method(self: StrictArray, other: Any) -> Any:
        other = operand(other, ufunc.__name__)
        if other is NotImplemented:
            return NotImplemented
        pair = (other, self._host) if reflected else (self._host, other)
        return wrap(tape.run(lambda: ufunc(*pair)))

    return method


def in_place(ufunc: np.ufunc) -> Callable[[StrictArray, Any], Any]:
    def method(self: StrictArray, other: Any) -> Any:
        other = operand(other, ufunc.__name__)
        if other is NotImplemented:
            return NotImplemented
        tape.launch(lambda: ufunc(self._host, other, out=self._host))
        return self

    return method


def unary(function: Callable[[Any], Any]) -> Callable[[StrictArray], Any]:
    return lambda self: wrap(tape.run(lambda: function(self._host)))


def no_in_place_matmul(self: StrictArray, other: Any) -> NoReturn:
    raise TypeError(f"{CUPY} has no in-place matmul: a @= b would make a new array, not write into a")


UFUNCS: dict[str, np.ufunc] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
}  # fmt: skip
for _name, _ufunc in UFUNCS.items():
    setattr(StrictArray, f"__{_name}__", binary(_ufunc))
    setattr(StrictArray, f"__r{_name}__", binary(_ufunc, reflected=True))
    setattr(StrictArray, f"__i{_name}__", in_place(_ufunc))
for _name, _ufunc in {"matmul": np.matmul, "divmod": np.divmod}.items():
    setattr(StrictArray, f"__{_name}__", binary(_ufunc))
    setattr(StrictArray, f"__r{_name}__", binary(_ufunc, reflected=True))
for _name, _ufunc in {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
}.items():  # fmt: skip
    setattr(StrictArray, f"__{_name}__", binary(_ufunc))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", unary(getattr(operator, _name)))
StrictArray.__imatmul__ = no_in_place_matmul  # type: ignore[attr-defined]

# 5. Methods ----------------------------------------------------------------------------------------------

SYNCHRONISE = frozenset({"compress", "nonzero"})
NOT_IMITATED = frozenset("byteswap choose dump dumps mdspan partition argpartition tofile toDlpack".split())


def method(name: str, parameters: str) -> Callable[..., Any]:
    """The method of that name: CuPy's parameters, NumPy's numbers."""

    def call(self: StrictArray, *args: Any, **kwargs: Any) -> Any:
        host_args, host_kwargs, arrays = bind(f"ndarray.{name}", parameters, args, kwargs)
        if name == "dot" and not arrays:
            raise TypeError("ndarray.dot: b must be an array")
        if name in SYNCHRONISE or (name == "repeat" and arrays):
            synchronise()
        if name in ("take", "put"):  # CuPy wraps indices that are out of range
            host_kwargs["mode"] = "wrap"
        if name in ("fill", "put", "sort"):
            return tape.launch(lambda: getattr(self._host, name)(*host_args, **host_kwargs))
        used = [self, *arrays]
        result = tape.run(
            lambda: getattr(self._host, name)(*host_args, **host_kwargs),
            [array._host for array in used],
            host_kwargs.get("out"),
        )
        return wrap(result, used, keep_order=name in ("astype", "copy"))

    call.__name__ = name
    call.__signature__ = signature("self " + parameters)  # type: ignore[attr-defined]
    return call


# Keywords that CuPy's signature has and its body refuses.
REFUSED = {"astype": " casting= subok=", "view": " type="}
for _name, _parameters in API["methods"].items():
    for _word in REFUSED.get(_name, "").split():
        _parameters = _parameters.replace(" " + _word, "")
    if hasattr(np.ndarray, _name) and _name not in StrictArray.__dict__ and _name not in NOT_IMITATED:
        setattr(StrictArray, _name, method(_name, _parameters))
