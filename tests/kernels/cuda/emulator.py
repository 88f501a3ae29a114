"""Runs the CUDA kernels on NumPy arrays: a Launcher for machines without a GPU.

The sources are those that the GPU gets. A C++ compiler makes a library of them and of `shim.hpp`; for each kernel
a few lines are added that take its arguments out of a list of pointers.

Every array is copied between two margins of 0xff bytes first (NaN for floats), so that a kernel which reads
past an end gets NaN, and one which writes there is found out.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.kernels.cuda import module

SHIM = Path(__file__).with_name("shim.hpp")
ORDERS = {"forward": 0, "reverse": 1, "random": 2}
MARGIN = mmap.PAGESIZE  # bytes
COMPILER = shutil.which("g++")
NOTHING = -2  # the number of no barrier
FENCED: list[mmap.mmap] = []  # kept, because an array of NumPy does not keep what it looks at


def numbered(text: str) -> tuple[str, list[str]]:
    """The text with a number for each barrier, and the line of each."""
    sites: list[str] = []
    out = []
    for line in text.split("\n"):
        if "__syncthreads()" in line:
            line = line.replace("__syncthreads()", f"emulator::barrier({len(sites)})")
            sites.append(line.strip())
        out.append(line)
    return "\n".join(out), sites


def entry_points(text: str) -> str:
    """extern "C" functions run_NAME for all kernels."""
    lines = []
    for name, types in module.signatures(text).items():
        args = ", ".join(f"({t})a[{i}]" if t.endswith("*") else f"*({t}*)a[{i}]" for i, t in enumerate(types))
        lines.append(
            f'extern "C" int run_{name}(void** a, const unsigned* grid, const unsigned* block, int order, int skip)\n'
            f"{{ return emulator::run([](void** a) {{ {name}({args}); }}, a, grid, block, order, skip); }}"
        )
    return "\n".join(lines)


@cache
def build(dtype: str, text: str | None = None) -> tuple[ctypes.CDLL, list[str]]:
    """The library of all kernels for one dtype (or of `text`), and its barriers. Kept in the folder for such files."""
    text = module.source(dtype) if text is None else text
    body, sites = numbered(text)
    whole = SHIM.read_text(encoding="utf-8") + "\n" + body + "\n" + entry_points(text)
    whole = re.sub(r"^#line.*$", "", whole, flags=re.MULTILINE)
    key = hashlib.sha256(whole.encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"minigrad-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source, fresh = Path(scratch) / "kernels.cpp", Path(scratch) / "kernels.so"
            source.write_text(whole, encoding="utf-8")
            assert COMPILER is not None
            flags = ["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-fPIC", "-shared"]
            command = [COMPILER, *flags, str(source), "-o", str(fresh)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            os.replace(fresh, library)
    return ctypes.CDLL(str(library)), sites


def margins(size: int) -> np.ndarray:
    """Room for `size` bytes between two margins."""
    return np.full(size + 2 * MARGIN, 0xFF, np.uint8)


def fenced(size: int, side: str) -> np.ndarray:
    """The same, where one of the margins must not be touched; it is never given back, and MARGIN is a page."""
    pages = -(-size // MARGIN)
    memory = mmap.mmap(-1, (pages + 2) * MARGIN)
    memory.write(b"\xff" * len(memory))
    FENCED.append(memory)
    everything = np.frombuffer(memory, np.uint8)
    start = 0 if side == "before" else pages * MARGIN - size
    page = 0 if side == "before" else pages + 1
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(everything.ctypes.data + page * MARGIN), ctypes.c_size_t(MARGIN), 0) == 0
    return everything[start : start + size + 2 * MARGIN]


class CpuLauncher:
    """Runs each kernel at once, its threads one after another.

    Attributes:
        order: "forward", "reverse" or "random".
        fence: "" or, for a process that may be lost, "before" or "after": each array lies right behind, or right
            before, memory that ends the process when it is read.
        skip: the number of a barrier that is left out.
        visited: the barriers that kernels came through since it was emptied.
        started: the names of the kernels started.
    """

    def __init__(self, order: str = "forward", skip: int = NOTHING, fence: str = ""):
        self.order, self.skip, self.fence = order, skip, fence
        self.visited: set[int] = set()
        self.started: list[str] = []

    def serves(self, xp: Any) -> bool:
        return xp is np

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        out = np.empty(shape, dtype)
        out.reshape(-1).view(np.uint8)[...] = 0xFF
        return out

    def start(self, name: str, dtype: str, grid: Any, block: Any, args: Any, shared: int) -> None:
        assert shared == 0, "the kernels have no dynamic shared memory"
        library, sites = build(dtype)
        self.run(library, len(sites), name, grid, block, args)

    def run(self, library: ctypes.CDLL, sites: int, name: str, grid: Any, block: Any, args: Any) -> None:
        self.started.append(name)
        (gx, gy, gz), (bx, by, bz) = ((*sizes, 1, 1)[:3] for sizes in (grid, block))
        assert 0 < gx < 2**31, grid
        assert 0 < gy < 2**16, grid
        assert 0 < gz < 2**16, grid
        assert 0 < bx * by * bz <= 1024, block
        copies: list[tuple[np.ndarray, np.ndarray]] = []
        pointers = (ctypes.c_void_p * len(args))()
        alive = []
        by_address: dict[int, int] = {}  # an array given twice is one array in the kernel, too
        for i, value in enumerate(args):
            if isinstance(value, np.ndarray):
                if value.ctypes.data not in by_address or value.size == 0:
                    padded = fenced(value.nbytes, self.fence) if self.fence else margins(value.nbytes)
                    padded[MARGIN : MARGIN + value.nbytes] = value.reshape(-1).view(np.uint8)
                    copies.append((value, padded))
                    by_address[value.ctypes.data] = padded.ctypes.data + MARGIN
                pointers[i] = by_address[value.ctypes.data]
            elif value is module.NULL:
                pointers[i] = None
            else:  # a number: its address
                box = np.array([value])
                alive.append(box)
                pointers[i] = box.ctypes.data
        run = getattr(library, f"run_{name}")
        outcome = run(
            pointers,
            (ctypes.c_uint * 3)(gx, gy, gz),
            (ctypes.c_uint * 3)(bx, by, bz),
            ORDERS[self.order],
            self.skip,
        )
        self.visited |= {site for site in range(sites) if library.visits(site)}
        assert outcome == 0, f"{name}: not all threads came to the same barrier"
        for value, padded in copies:
            edges = padded[:MARGIN], padded[MARGIN + value.nbytes : 2 * MARGIN + value.nbytes]
            for side, edge in zip(("before", "after"), edges, strict=True):
                if self.fence == side:
                    continue
                assert (edge == 0xFF).all(), f"{name} wrote outside an array of shape {value.shape}"
            if value.flags.writeable:
                value.reshape(-1).view(np.uint8)[...] = padded[MARGIN : MARGIN + value.nbytes]
