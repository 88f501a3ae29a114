"""Graphs and kernels for the stand-in: what a captured step needs, on a machine without a GPU.

`StrictGraphs` captures on a tape (`tape.py`). `StrictLauncher` lets the CUDA kernels, compiled by g++, work on the
stand-in's arrays, at once or on the tape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.kernels.cuda.emulator import CpuLauncher
from tests.strict import tape
from tests.strict.array import StrictArray
from tests.strict.namespace import xp as strict_xp


class StrictGraphs:
    """Acts as `minigrad.backend.graphs.CudaGraphs`.

    Attributes:
        captured: the tapes, in order.
        launched: how often a tape was played.
        depth: how many `working()` blocks we are in.
    """

    def __init__(self) -> None:
        self.captured: list[tape.Tape] = []
        self.launched = self.depth = 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def capture(self, function: Callable[[], Any]) -> tape.Tape:
        with tape.recording() as recorded:
            function()
        self.captured.append(recorded)
        return recorded

    def launch(self, graph: tape.Tape) -> None:
        self.launched += 1
        graph.play()

    def synchronize(self) -> None:
        pass


class StrictLauncher(CpuLauncher):
    """The kernels on arrays of the stand-in."""

    def serves(self, xp: Any) -> bool:
        return xp is strict_xp

    def empty(self, shape: tuple[int, ...], dtype: Any) -> StrictArray:  # type: ignore[override]
        return StrictArray(super().empty(shape, np.dtype(dtype)))

    def start(self, name: str, dtype: str, grid: Any, block: Any, args: Any, shared: int) -> None:
        host = [value._host if isinstance(value, StrictArray) else value for value in args]
        begin = super().start
        tape.launch(lambda: begin(name, dtype, grid, block, host, shared))
