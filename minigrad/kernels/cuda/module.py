"""The kernels as one compiled module for each dtype, and the one function that starts them.

    launch("sgd", (blocks,), (256,), [p, gradient, v, hyper, steps, n])

`source(dtype)` is the text of all files in `sources/`, one behind another. `signatures(text)` reads from it what
each kernel takes; `launch` holds the arguments against that, because a wrong type would not be noticed on
the device: an int has 4 bytes there, an array is a bare address.

A `Launcher` does the starting. CuPy's is the default; the tests put another in its place, which runs the
kernels on NumPy arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minigrad import backend
from minigrad.errors import DtypeError, ShapeError

__all__ = [
    "ACTIVATIONS",
    "BLOCK",
    "TILES",
    "Alloc",
    "Launcher",
    "contiguous",
    "launch",
    "serves",
    "set_launcher",
    "signatures",
    "source",
]

Array = Any  # a CuPy array, in tests a NumPy array
Alloc = Callable[[tuple[int, ...], Any], Array]  # (shape, dtype) -> an array, not initialised
Grid = tuple[int, ...]

SOURCES = Path(__file__).parent / "sources"
BEFORE, TILED, AFTER = (
    ("common.cuh", "product.cuh", "operands.cuh"),
    "products.cu",  # once for each size of tile
    ("pieces.cu", "norm.cu", "loss.cu", "optim.cu", "gather.cu"),
)
TILES = {  # (rows, columns): how many of them each thread computes
    (16, 16): (2, 2),
    (16, 64): (2, 4),
    (64, 64): (4, 4),
}
BLOCK = 256  # as in common.cuh
ACTIVATIONS = {"identity": 0, "relu": 1, "sigmoid": 2, "tanh": 3}  # as in common.cuh
REALS = {"float32": "float", "float64": "double"}
OPTIONS = ("--std=c++17",)  # no fast math: exp and division keep their accuracy
POINTERS = {"unsigned char": "uint8", "int": "int32", "long long": "int64", "double": "float64"}
NULL = np.uint64(0)  # 8 bytes of 0; None would arrive as another address (CuPy's issue 9046)


# 1. The text -------------------------------------------------------------------------------------------------


@cache
def source(dtype: str) -> str:
    """All sources for one dtype, as the compiler gets them."""
    parts = [f"#define REAL {REALS[dtype]}\n"]
    parts += [_file(name) for name in BEFORE]
    for (rows, columns), (r, c) in TILES.items():
        parts += [
            f"#define TILE Product<{rows}, {columns}, {r}, {c}>\n#define TILED(name) name##_{rows}x{columns}\n",
            _file(TILED),
            "#undef TILE\n#undef TILED\n",
        ]
    return "".join([*parts, *(_file(name) for name in AFTER)])


def _file(name: str) -> str:
    return f'#line 1 "{name}"\n' + (SOURCES / name).read_text(encoding="utf-8")


@cache
def signatures(text: str) -> dict[str, list[str]]:
    """The types that each kernel takes, in order: {"sgd": ["real*", "real*", ..., "int"], ...}."""
    found: dict[str, list[str]] = {}
    tile = ""
    pattern = (
        r"#define TILED\(name\) name##(\w+)"
        r"|extern \"C\" __global__ void (?:__launch_bounds__\(.*\)\s+)?(?:TILED\((\w+)\)|(\w+))\(([^)]*)\)"
    )
    for match in re.finditer(pattern, text):
        suffix, tiled, plain, parameters = match.groups()
        if suffix:
            tile = suffix
            continue
        types = []
        for parameter in parameters.split(","):
            words = re.sub(r"\bconst\b", "", parameter).replace("*", " * ").split()
            types.append(" ".join(words[:-1]).replace(" *", "*"))
        found[plain or tiled + tile] = types
    return found


# 2. Starting a kernel ----------------------------------------------------------------------------------------


class Launcher(Protocol):
    """Starts kernels on arrays of one library."""

    def serves(self, xp: Any) -> bool:
        """Whether the arrays of the library `xp` are its arrays."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array that is not initialised."""

    def start(self, name: str, dtype: str, grid: Grid, block: Grid, args: Sequence[Any], shared: int) -> None:
        """Start a kernel of the module for `dtype`; the arguments have been checked."""


class CupyLauncher:
    """CuPy compiles the module when a kernel is first needed, keeps the binary on disk, and loads it on each device."""

    def __init__(self) -> None:
        self._cupy: Any = None
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}

    def serves(self, xp: Any) -> bool:
        return getattr(xp, "__name__", "") == "cupy"

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.cupy.empty(shape, dtype)

    @property
    def cupy(self) -> Any:
        if self._cupy is None:
            self._cupy = backend.cuda.load()
        return self._cupy

    def start(self, name: str, dtype: str, grid: Grid, block: Grid, args: Sequence[Any], shared: int) -> None:
        kernel = self._kernels.get((name, dtype))
        if kernel is None:
            kernel = self._kernels[name, dtype] = self._module(dtype).get_function(name)
        kernel(grid, block, tuple(args), shared_mem=shared)

    def _module(self, dtype: str) -> Any:
        if dtype not in self._modules:
            self._modules[dtype] = self.cupy.RawModule(code=source(dtype), options=OPTIONS)
        return self._modules[dtype]


_launcher: Launcher = CupyLauncher()


def set_launcher(launcher: Launcher) -> Launcher:
    """Put another launcher in place; returns the one before."""
    global _launcher
    before, _launcher = _launcher, launcher
    return before


def serves(xp: Any) -> bool:
    """Whether the kernels can work on arrays of the library `xp`."""
    return _launcher.serves(xp)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of the launcher's library, not initialised: the default of every `alloc`."""
    return _launcher.empty(shape, dtype)


def launch(name: str, grid: Grid, block: Grid, args: Sequence[Any], shared: int = 0) -> None:
    """Start the kernel `name` with `grid` blocks of `block` threads and `shared` bytes of dynamic shared memory.

    Arrays are given as they are, None stands for a null pointer, numbers become what the kernel takes. The
    dtype of the first array that is `real*` to the kernel says which module is meant.
    """
    types = signatures(source("float32"))[name]
    if len(types) != len(args):
        raise ShapeError(f"kernel {name}: takes {len(types)} arguments, got {len(args)}")
    first = next(a for kind, a in zip(types, args, strict=True) if kind == "real*" and a is not None)
    dtype = str(first.dtype)
    if dtype not in REALS:
        raise DtypeError(f"kernel {name}: takes float32 or float64, got {dtype}")
    wanted = _kinds(dtype)[name]
    checked = [_argument(name, kind, value) for kind, value in zip(wanted, args, strict=True)]
    _launcher.start(name, dtype, grid, block, checked, shared)


@cache
def _kinds(dtype: str) -> dict[str, list[tuple[bool, np.dtype]]]:
    """For each kernel and argument: whether it is an array, and its dtype."""
    types = {"real": dtype, **POINTERS}
    return {
        name: [(kind.endswith("*"), np.dtype(types[kind.rstrip("*")])) for kind in kinds]
        for name, kinds in signatures(source(dtype)).items()
    }


def _argument(name: str, kind: tuple[bool, np.dtype], value: Any) -> Any:
    """One argument as the kernel takes it."""
    is_array, dtype = kind
    if not is_array:
        return dtype.type(value)
    if value is None:
        return NULL
    if value.dtype != dtype:
        raise DtypeError(f"kernel {name}: takes an array of {dtype}, got {value.dtype}")
    if not value.flags.c_contiguous:
        raise ShapeError(
            f"kernel {name}: takes contiguous arrays, got strides {value.strides} of {value.shape}"
        )
    return value


# 3. What the wrappers share ----------------------------------------------------------------------------------


def contiguous(array: Array) -> Array:
    """The array in the order N C H W: itself if it is so already, a copy otherwise."""
    return array if array.flags.c_contiguous else backend.namespace(array).ascontiguousarray(array)


def tile_for(rows: int, columns: int) -> tuple[int, int]:
    """A size of tile for a product of this size: large ones where there is enough work to go round.

    Decided by the sizes alone, so that every card adds up in the same order.
    """
    for tile in ((64, 64), (16, 64)):
        if rows >= tile[0] and ceil_div(rows, tile[0]) * ceil_div(columns, tile[1]) >= 128:
            return tile
    return (16, 64) if ceil_div(rows, 16) * ceil_div(columns, 64) >= 128 else (16, 16)


def launch_tiled(
    name: str,
    rows: int,
    columns: int,
    args: Sequence[Any],
    pieces: int = 1,
    tile: tuple[int, int] | None = None,
) -> None:
    """Start a kernel of products.cu whose result is (rows, columns), the sum over k in `pieces`."""
    R, C = tile_for(rows, columns) if tile is None else tile
    r, c = TILES[R, C]
    grid = (ceil_div(columns, C), ceil_div(rows, R), pieces)
    launch(f"{name}_{R}x{C}", grid, ((R // r) * (C // c),), args)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def blocks(elements: int, each: int = 1, most: int = 64) -> int:
    """How many blocks share the elements of a channel, `each` for every thread if `most` is not reached."""
    return max(1, min(most, ceil_div(elements, BLOCK * each)))
