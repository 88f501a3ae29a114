"""Write cupy_api.json: the names and parameters of the installed CuPy. Run by hand, for a new CuPy:

    pip install cupy-cuda13x
    python -m tests.strict.make_table

The wheel imports on a machine without a GPU, and that is enough. Parameters come from `inspect.signature`
and, for functions written in Cython, from the first line of the docstring. Which dtypes `ufunc.at` takes, and
which ufuncs can `reduce`, stands in neither, so it is tried out on an array in host memory: CuPy decides
this before it looks for a GPU.

One entry is a string: "a axis= / * out= *rest **options" is f(a, axis=..., /, *, out=..., *rest, **options);
a name with "=" has a default. null means that the parameters could not be found out.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("cupy_api.json")
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float16", "float32", "float64", "complex64", "complex128")  # fmt: skip

# What CuPy reads out of **kwargs in the body of the function, where no signature shows it.
BY_HAND = {
    "einsum": "*operands dtype= optimize=",
    "meshgrid": "*xi indexing= sparse= copy=",
    "pad": "array pad_width mode= constant_values= end_values= stat_length= reflect_type=",
}


def build(cupy: Any) -> dict[str, Any]:
    """The whole table as plain dicts, lists and strings."""
    from cupy.lib import stride_tricks

    public = {name: getattr(cupy, name) for name in dir(cupy) if not name.startswith("_")}
    ufuncs = {name: value for name, value in public.items() if isinstance(value, cupy.ufunc)}
    functions = {
        name: value
        for name, value in public.items()
        if name not in ufuncs and callable(value) and not isinstance(value, type)
    }
    numbers = {name for name, value in public.items() if value is None or isinstance(value, (int, float))}
    members = {name: getattr(cupy.ndarray, name) for name in dir(cupy.ndarray)}
    methods = {name: value for name, value in members.items() if not name.startswith("_") and callable(value)}
    return {
        "version": cupy.__version__,
        "constants": sorted(numbers),
        "types": sorted(name for name, value in public.items() if isinstance(value, type)),
        "functions": {name: BY_HAND.get(name, parameters(value)) for name, value in functions.items()},
        "linalg": submodule(cupy.linalg),
        "stride_tricks": submodule(stride_tricks),
        "ufuncs": {name: [value.nin, value.nout] for name, value in ufuncs.items()},
        "at": {name: found for name, value in ufuncs.items() if (found := at_dtypes(cupy, value))},
        "reduce": sorted(name for name, value in ufuncs.items() if can(cupy, value, "reduce")),
        "accumulate": sorted(name for name, value in ufuncs.items() if can(cupy, value, "accumulate")),
        "attributes": sorted(name for name in members if not name.startswith("_") and name not in methods),
        "methods": {name: parameters(value, method=True) for name, value in methods.items()},
        "special": sorted(name for name in members if re.fullmatch("__.*__", name)),
    }


def submodule(module: Any) -> dict[str, str | None]:
    """The functions of a module; its exceptions and its own submodules are left out."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {
        name: parameters(value)
        for name, value in found.items()
        if callable(value) and not isinstance(value, type)
    }


# 1. Parameters -------------------------------------------------------------------------------------------


def parameters(function: Any, method: bool = False) -> str | None:
    """The parameters of a function as one string, without `self`; None if they cannot be found out."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return from_docstring(function.__doc__ or "", method)
    kinds = [parameter.kind for parameter in found]
    if kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
        return None  # f(*args, **kwargs) hides what it takes
    words: list[str] = []
    for parameter, next_kind in zip(found, [*kinds, None][1:], strict=True):
        name = parameter.name if parameter.default is parameter.empty else parameter.name + "="
        if parameter.kind is parameter.VAR_POSITIONAL:
            name = "*" + name
        elif parameter.kind is parameter.VAR_KEYWORD:
            name = "**" + name
        elif parameter.kind is parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        words.append(name)
        if parameter.kind is parameter.POSITIONAL_ONLY and next_kind is not parameter.POSITIONAL_ONLY:
            words.append("/")
    if method:
        words.remove("self")
    return " ".join(words)


def from_docstring(text: str, method: bool) -> str | None:
    """Parameters from a line such as "_ndarray_base.sum(self, axis=None, int n=1) -> _ndarray_base"."""
    match = re.match(r"[\w.]+\((.*?)\)(?: ->.*)?(?:\n|$)", text)
    if match is None:
        return None
    words = []
    for part in filter(None, match[1].split(",")):
        left, equals, _ = part.partition("=")
        words.append(left.split()[-1] + equals)  # "_ndarray_base out=None" gives "out="
    return " ".join(words[1:] if method and words[0] == "self" else words)


# 2. What has to be tried out -----------------------------------------------------------------------------


def example(cupy: Any, host: np.ndarray) -> Any:
    """The array as a cupy.ndarray; without a GPU it stays in host memory, enough for CuPy's first checks."""
    if cupy.cuda.is_available():
        return cupy.asarray(host)
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, device_id=0)
    return cupy.ndarray(host.shape, host.dtype, cupy.cuda.MemoryPointer(memory, 0), host.strides)


def at_dtypes(cupy: Any, ufunc: Any) -> str:
    """The dtypes that `ufunc.at` takes, separated by spaces."""
    found = []
    for dtype in DTYPES:
        try:
            ufunc.at(*(example(cupy, np.zeros(4, t)) for t in (dtype, "int32", dtype)))
        except (TypeError, NotImplementedError):
            continue
        except cupy.cuda.runtime.CUDARuntimeError:
            pass  # it got as far as looking for the GPU, so it takes the dtype
        found.append(dtype)
    return " ".join(found)


def can(cupy: Any, ufunc: Any, method: str) -> bool:
    try:
        getattr(ufunc, method)(example(cupy, np.zeros(4, "float32")))
    except (TypeError, NotImplementedError):
        return False
    except cupy.cuda.runtime.CUDARuntimeError:
        pass
    return True


def to_text(table: dict[str, Any]) -> str:
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    import cupy

    FILE.write_text(to_text(build(cupy)), encoding="utf-8")
    print(f"wrote {FILE} for CuPy {cupy.__version__}")
