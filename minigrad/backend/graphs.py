"""CUDA graphs: a sequence of kernels that is written down once and then started with one call.

    graphs = CudaGraphs()
    with graphs.working():
        step()                        # twice or more: compiles kernels, fills the memory pool
        graph = graphs.capture(step)  # runs the Python once more; the kernels are noted and not run
        graphs.launch(graph)          # now they run, on the same memory as they were noted with

A graph knows addresses, not arrays. So all memory that is taken inside `working()` comes from a pool that
nobody else uses and that lives as long as this object: what the graph writes into can never be given to somebody
else. While a graph is captured the pool may not grow; the warm-up has filled it.

Not allowed in `capture`: waiting for the device, copies between host and device, and CuPy's matrix products,
which go to cuBLAS (CuPy 14 refuses it there). Each is an error of CuPy's, which ends the capture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from minigrad.backend import cuda

__all__ = ["CudaGraphs", "Graphs"]


class Graphs(Protocol):
    """What a captured step needs; the tests have another one, for machines without a GPU."""

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, work goes to the stream that is captured, and memory comes from its pool."""

    def capture(self, function: Callable[[], Any]) -> Any:
        """Call `function`; what it starts on the device becomes a graph and is not run."""

    def launch(self, graph: Any) -> None:
        """Start a graph. Does not wait for it."""

    def synchronize(self) -> None:
        """Wait until everything on the device is done."""


class CudaGraphs:
    """Graphs on one CUDA device."""

    def __init__(self, index: int = 0):
        self._cupy = cuda.load()
        self._device = self._cupy.cuda.Device(index)
        self._capturing = False
        self._pool = self._cupy.cuda.MemoryPool(self._malloc)
        with self._device:
            # At a limit (CUPY_GPU_MEMORY_LIMIT) the pool would give back blocks that graphs write into.
            self._pool.set_limit(size=0)
            # A blocking stream would have to wait for the default stream, which a capture forbids.
            self._stream = self._cupy.cuda.Stream(non_blocking=True)

    def _malloc(self, size: int) -> Any:
        """Where the pool gets new memory from."""
        if self._capturing:
            raise RuntimeError(f"the captured function takes {size} bytes more than it took while warming up")
        cuda = self._cupy.cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError:
            self._cupy.get_default_memory_pool().free_all_blocks()
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            # Not CUDA's error: at that the pool, too, would give back all its free blocks and try again.
            raise MemoryError(f"{size} bytes more do not fit into the GPU's memory: {error}") from None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        with self._device, self._stream, self._cupy.cuda.using_allocator(self._pool.malloc):
            yield

    def capture(self, function: Callable[[], Any]) -> Any:
        with self.working():
            self._stream.begin_capture()
            self._capturing = True
            try:
                function()
            except BaseException:
                with contextlib.suppress(Exception):  # the capture is spoilt; the first error says why
                    self._stream.end_capture()
                raise
            finally:
                self._capturing = False
            graph = self._stream.end_capture()
            graph.upload(self._stream)
            return graph

    def launch(self, graph: Any) -> None:
        graph.launch(self._stream)

    def synchronize(self) -> None:
        self._device.synchronize()
