"""`xp` of the stand-in: the functions that NumPy and CuPy both have, with CuPy's parameters.

A name that is missing in either library is an AttributeError that says in which. Results come from NumPy and
are made to look like CuPy's by `wrap`; what differs further is in section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.strict import tape
from tests.strict.array import (
    KEEP_ORDER,
    SCALARS,
    StrictArray,
    bind,
    has_array,
    synchronise,
    unwrap,
    upload,
    wrap,
)
from tests.strict.indexing import along_axis, has_duplicates, wrap_around
from tests.strict.table import API, CUPY

# 1. Ufuncs -----------------------------------------------------------------------------------------------


class StrictUfunc:
    """An elementwise function: arrays and numbers in; only out=, dtype= and casting= besides."""

    def __init__(self, name: str):
        self.__name__ = name
        self._ufunc = getattr(np, name)
        self.nin, self.nout = API["ufuncs"][name]

    def __repr__(self) -> str:
        return f"<strict ufunc {self.__name__!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__
        unknown = sorted(set(kwargs) - {"out", "dtype", "casting"})
        if unknown:
            raise TypeError(f"{CUPY}: {name} takes only out=, dtype= and casting=, got {', '.join(unknown)}")
        if not self.nin <= len(args) <= self.nin + self.nout:
            raise TypeError(f"{name}: takes {self.nin} arrays, got {len(args)} arguments")
        for value in args[: self.nin]:
            if not isinstance(value, (StrictArray, np.ndarray, *SCALARS)):
                raise TypeError(f"{CUPY}: {name} takes arrays and numbers, got a {type(value).__name__}")
        arrays: list[StrictArray] = []
        host_args = [unwrap(value, name, arrays) for value in args]
        host_kwargs = {key: unwrap(value, name, arrays) for key, value in kwargs.items()}
        outs = host_args[self.nin :] or host_kwargs.get("out")
        outs = outs[0] if isinstance(outs, (list, tuple)) and len(outs) == 1 else outs
        return wrap(tape.run(lambda: self._ufunc(*host_args, **host_kwargs), writes=outs), arrays)

    def at(self, a: StrictArray, indices: Any, b: Any = None) -> None:
        """a[indices] = ufunc(a[indices], b), duplicates one by one; CuPy has it for few ufuncs and dtypes."""
        dtypes = API["at"].get(self.__name__, "").split()
        if not dtypes:
            raise NotImplementedError(f"{CUPY}: {self.__name__}.at is not supported")
        if not isinstance(a, StrictArray):
            raise TypeError(f"{self.__name__}.at: needs an array of the device, got a {type(a).__name__}")
        key, value = a._key(indices), unwrap(b, f"{self.__name__}.at", [])
        if a.dtype.name not in dtypes:
            raise TypeError(f"{CUPY}: {self.__name__}.at only supports {', '.join(dtypes)}, got {a.dtype}")
        tape.launch(lambda: self._ufunc.at(a._host, a._wrapped(key), value))

    def reduce(
        self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return self._method("reduce", array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        return self._method("accumulate", array, axis=axis, dtype=dtype, out=out)

    def _method(self, method: str, array: Any, **options: Any) -> Any:
        what = f"{self.__name__}.{method}"
        if self.__name__ not in API[method]:
            raise NotImplementedError(f"{CUPY}: {what} is not supported")
        if not isinstance(array, StrictArray):
            raise TypeError(f"{what}: needs an array of the device, got a {type(array).__name__}")
        arrays = [array]
        options = {name: unwrap(value, what, arrays) for name, value in options.items()}
        out = options.get("out")
        return wrap(
            tape.run(lambda: getattr(self._ufunc, method)(array._host, **options), writes=out), arrays
        )


# 2. Functions --------------------------------------------------------------------------------------------

# The host has to know a number before the next kernel can start.
SYNCHRONISE = frozenset(
    "argwhere bincount compress extract flatnonzero histogram nonzero place setdiff1d intersect1d "
    "trim_zeros union1d unique unique_all unique_counts unique_inverse unique_values".split()
)
GIVE_ARRAYS = frozenset("allclose array_equal array_equiv count_nonzero".split())  # NumPy: bool and int
ONLY_ARRAYS = frozenset("dot inner kron matmul outer tensordot vdot".split())


def function(name: str, parameters: str, numpy_function: Callable[..., Any]) -> Callable[..., Any]:
    """CuPy's parameters, NumPy's numbers."""
    short = name.rpartition(".")[2]

    def call(*args: Any, **kwargs: Any) -> Any:
        host_args, host_kwargs, arrays = bind(name, parameters, args, kwargs)
        if short in ONLY_ARRAYS and any(isinstance(value, SCALARS) for value in args[:2]):
            raise TypeError(f"{name}: both operands must be arrays")
        if short in SYNCHRONISE or (short == "repeat" and has_array(kwargs.get("repeats", args[1:2]))):
            synchronise()
        result = tape.run(
            lambda: numpy_function(*host_args, **host_kwargs),
            [array._host for array in arrays],
            host_kwargs.get("out"),
        )
        if short in GIVE_ARRAYS:
            result = np.asarray(result)
        return wrap(result, arrays, keep_order=short in KEEP_ORDER)

    call.__name__ = short
    call.__doc__ = f"{name}({parameters})"
    return call


# 3. Functions that differ from NumPy's in more than parameters -------------------------------------------


def array(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """An array from host data (counted as an upload), or a copy of one on the device."""
    if has_array(obj):
        if not all(isinstance(leaf, StrictArray) for leaf in leaves(obj)):
            raise TypeError("array: a list must not mix arrays of the device with numbers")
        host_args, host_kwargs, arrays = bind("array", API["functions"]["array"], (obj, *args), kwargs)
        used = [array._host for array in arrays]
        return wrap(
            tape.run(lambda: np.array(*host_args, **host_kwargs), used), arrays, isinstance(obj, StrictArray)
        )
    if not isinstance(obj, np.ndarray):
        unwrap(obj, "array", [])  # refuses a list with a numpy.ndarray in it
    bind("array", API["functions"]["array"], (0, *args), kwargs)
    return upload(np.array(obj, *args, **kwargs))


def leaves(value: Any) -> Iterator[Any]:
    """What a nested list holds at its ends."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None) -> Any:
    """`a` itself if it is an array of that dtype and order already; host data are uploaded."""
    if isinstance(a, StrictArray):
        found = tape.run(lambda: np.asarray(a._host, dtype, order, copy=copy), [a._host])
        return wrap(found, [a], keep_order=True)
    return array(a, dtype, order=order or "K")


def unwritten(numpy_function: Callable[..., np.ndarray], name: str) -> Callable[..., Any]:
    """`empty` and `empty_like`: memory that nobody wrote is nan, or a number that is noticed."""
    plain = function(name, API["functions"][name], numpy_function)

    def call(*args: Any, **kwargs: Any) -> Any:
        result = plain(*args, **kwargs)
        host = result._host
        host[...] = (
            np.nan if host.dtype.kind in "fc" else np.iinfo(host.dtype).max if host.dtype.kind in "iu" else 1
        )
        return result

    return call


def where(condition: Any, *rest: Any, **kwargs: Any) -> Any:
    if not rest and not kwargs:
        synchronise()  # the indices of the True elements
    return function("where", API["functions"]["where"], np.where)(condition, *rest, **kwargs)


def take(a: Any, indices: Any, axis: int | None = None, out: Any = None) -> Any:
    """Indices out of range wrap around."""
    return function("take", "a indices axis= out= mode=", np.take)(a, indices, axis, out, mode="wrap")


def take_along_axis(a: StrictArray, indices: StrictArray, axis: int | None) -> Any:
    if not (isinstance(a, StrictArray) and isinstance(indices, StrictArray)):
        raise TypeError("take_along_axis: a and indices must be arrays of the device")
    if axis is None:
        a, axis = a.ravel(), 0
    if a.ndim != indices.ndim:
        raise ValueError("take_along_axis: a and indices must have the same number of dimensions")
    return wrap(tape.run(lambda: a._host[wrap_around(along_axis(indices._host, a.shape, axis), a.shape)]))


def put_along_axis(arr: StrictArray, indices: StrictArray, values: Any, axis: int | None) -> None:
    if not (isinstance(arr, StrictArray) and isinstance(indices, StrictArray)):
        raise TypeError("put_along_axis: arr and indices must be arrays of the device")
    if axis is None or arr.ndim != indices.ndim:
        raise ValueError("put_along_axis: needs an axis, and indices with as many dimensions as arr")
    tape.launch(lambda: assign_along_axis(arr, indices, unwrap(values, "put_along_axis", []), axis))


def assign_along_axis(arr: StrictArray, indices: StrictArray, values: Any, axis: int) -> None:
    key = wrap_around(along_axis(indices._host, arr.shape, axis), arr.shape)
    if has_duplicates(key, arr.shape):
        raise ValueError("put_along_axis: the same element twice; which value stays is undefined in CuPy")
    arr._host[key] = values


def as_strided(x: StrictArray, shape: Any = None, strides: Any = None) -> Any:
    """A view with these strides, refused where it would leave the memory of `x`."""
    result = function("as_strided", API["stride_tricks"]["as_strided"], np.lib.stride_tricks.as_strided)(
        x, shape, strides
    )
    owner = x._host
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    low, high = np.lib.array_utils.byte_bounds(owner)
    first, last = np.lib.array_utils.byte_bounds(result._host)
    if result.size and not (low <= first and last <= high):
        raise ValueError("as_strided: the view reaches beyond the memory of x")
    return result


SPECIAL: dict[str, Any] = {
    "array": array,
    "asarray": asarray,
    "empty": unwritten(np.empty, "empty"),
    "empty_like": unwritten(np.empty_like, "empty_like"),
    "ndarray": StrictArray,
    "put_along_axis": put_along_axis,
    "take": take,
    "take_along_axis": take_along_axis,
    "ufunc": StrictUfunc,
    "where": where,
}
# There in both libraries, and left out on purpose or because nobody needed them.
NOT_IMITATED = frozenset("fft polynomial random testing typing c_ r_ mgrid ogrid".split()) | frozenset(
    "broadcast cuda flatiter load poly1d put save savetxt savez savez_compressed vectorize".split()
)

# 4. The namespace ----------------------------------------------------------------------------------------


class Namespace:
    """Acts as the module `cupy` does. Names are looked up when they are first asked for."""

    def __init__(
        self, name: str, special: dict[str, Any], parameters: dict[str, str | None], numpy_module: Any
    ):
        self.__name__ = name
        self._prefix = "" if name == "strict" else name + "."
        self._parameters = parameters
        self._numpy = numpy_module
        self.__dict__.update(special)

    def __repr__(self) -> str:
        return f"<namespace {self.__name__!r}: what NumPy and {CUPY} both have>"

    def __getattr__(self, name: str) -> Any:
        value = self._find(name)
        setattr(self, name, value)
        return value

    def _find(self, name: str) -> Any:
        top = not self._prefix
        if top and name in NOT_IMITATED:
            raise AttributeError(f"the stand-in does not imitate {name}" + RANDOM * (name == "random"))
        if name not in self._parameters and not (top and name in OTHER_NAMES):
            raise AttributeError(f"{CUPY} has no {self._prefix}{name}")
        if not hasattr(self._numpy, name):
            raise AttributeError(f"NumPy has no {self._prefix}{name}, only {CUPY} has")
        found = getattr(self._numpy, name)
        if top and name in API["ufuncs"]:  # a few, such as sinc, are plain functions in NumPy
            return StrictUfunc(name) if isinstance(found, np.ufunc) else function(name, "*x", found)
        if name not in self._parameters:
            return found  # a constant or a dtype
        parameters = self._parameters[name]
        if parameters is None:
            raise AttributeError(f"the stand-in does not know the parameters of {name}")
        return function(self._prefix + name, parameters, found)


RANDOM = ": everything random is drawn on the host, see minigrad.backend.random"
OTHER_NAMES = frozenset([*API["ufuncs"], *API["constants"], *API["types"], "index_exp", "s_"])

stride_tricks = Namespace(
    "lib.stride_tricks", {"as_strided": as_strided}, API["stride_tricks"], np.lib.stride_tricks
)
xp = Namespace(
    "strict",
    {
        **SPECIAL,
        "lib": Namespace("lib", {"stride_tricks": stride_tricks}, {}, np.lib),
        "linalg": Namespace("linalg", {}, API["linalg"], np.linalg),
    },
    API["functions"],
    np,
)
