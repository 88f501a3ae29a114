"""CUDA graphs as far as they can be tested without a GPU: a stand-in for CuPy notes what it is asked to do."""

import contextlib
from types import SimpleNamespace

import pytest

from minigrad.backend import cuda, graphs


class CUDARuntimeError(RuntimeError):
    """As in CuPy."""


class FakeCupy:
    """As much of CuPy as `CudaGraphs` touches. `failing`: how many of the next allocations find no memory."""

    def __init__(self):
        self.done, self.failing, self.pool = [], 0, None
        self.cuda = SimpleNamespace(
            Device=lambda index: Context(self, f"device {index}"),
            Stream=lambda non_blocking: Stream(self, f"stream {non_blocking}"),
            MemoryPool=self.make_pool,
            Memory=self.memory,
            MemoryPointer=lambda memory, offset: (memory, offset),
            using_allocator=lambda malloc: Context(self, f"allocator {malloc(0)[0]}"),
            runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
        )

    def make_pool(self, malloc):
        self.pool = SimpleNamespace(malloc=malloc, set_limit=lambda size: self.done.append(f"limit {size}"))
        return self.pool

    def memory(self, size):
        if self.failing:
            self.failing -= 1
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        return f"{size} bytes"

    def get_default_memory_pool(self):
        return SimpleNamespace(free_all_blocks=lambda: self.done.append("default pool freed"))


class Context(contextlib.AbstractContextManager):
    def __init__(self, cupy, name):
        self.cupy, self.name = cupy, name

    def __enter__(self):
        self.cupy.done.append(self.name)

    def __exit__(self, *error):
        self.cupy.done.append(f"end of {self.name}")

    def synchronize(self):
        self.cupy.done.append("synchronize")


class Stream(Context):
    def begin_capture(self):
        self.cupy.done.append("begin")

    def end_capture(self):
        self.cupy.done.append("end")
        return SimpleNamespace(
            upload=lambda stream: self.cupy.done.append(f"upload to {stream.name}"),
            launch=lambda stream: self.cupy.done.append(f"launch on {stream.name}"),
        )


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setattr(cuda, "load", lambda: fake)
    return fake


WORKING = ["device 3", "stream True", "allocator 0 bytes"]
DONE = [f"end of {name}" for name in reversed(WORKING)]


def test_what_is_done_in_which_order(cupy):
    made = graphs.CudaGraphs(3)
    assert cupy.done == ["device 3", "limit 0", "end of device 3"]
    cupy.done.clear()
    graph = made.capture(lambda: cupy.done.append("step"))
    made.launch(graph)
    made.synchronize()
    captured = [*WORKING, "begin", "step", "end", "upload to stream True", *DONE]
    assert cupy.done == [*captured, "launch on stream True", "synchronize"]


def test_a_capture_that_fails_is_ended_and_may_be_tried_again(cupy):
    made = graphs.CudaGraphs(3)
    cupy.done.clear()
    with pytest.raises(ZeroDivisionError):
        made.capture(lambda: 1 / 0)
    assert cupy.done == [*WORKING, "begin", "end", *DONE]
    assert cupy.pool.malloc(8) == ("8 bytes", 0)


def test_the_pool_grows_only_while_warming_up(cupy):
    made = graphs.CudaGraphs()
    assert cupy.pool.malloc(512) == ("512 bytes", 0)
    with pytest.raises(RuntimeError, match="takes 512 bytes more than it took while warming up"):
        made.capture(lambda: cupy.pool.malloc(512))


def test_without_memory_the_pool_keeps_what_graphs_write_into(cupy):
    """CuPy's pools answer an error of CUDA's by giving all their free blocks back; a graph may own them."""
    graphs.CudaGraphs()
    cupy.done.clear()
    cupy.failing = 1
    assert cupy.pool.malloc(64) == ("64 bytes", 0)
    assert cupy.done == ["default pool freed"]
    cupy.failing = 2
    with pytest.raises(MemoryError, match="64 bytes more do not fit into the GPU's memory: cudaErrorMemory"):
        cupy.pool.malloc(64)
