"""Work in shards, by a few threads.

A shard is a fixed piece of the batch. How many shards there are depends on the batch alone, each shard is
computed in the same way by whichever thread takes it, and partial sums are added in the order of the
shards. So the result has the same bits for every number of threads.

NumPy releases Python's global lock inside large operations, which is what lets the threads overlap. BLAS has
threads of its own; they would fight with these, and they make the order of sums depend on their number. So
while shards run, BLAS is held to one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

import numpy as np

from minigrad.errors import ArgumentError
from minigrad.shapes import as_int

__all__ = ["add_in_order", "get_num_threads", "run_shards", "set_num_threads", "shards"]

Result = TypeVar("Result")


def _usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """The threads of this process; they are started when they are first needed."""

    def __init__(self) -> None:
        self.size = _usable_cores()
        self.executor: ThreadPoolExecutor | None = None

    def resize(self, size: int) -> None:
        if self.executor is not None and size != self.size:
            self.executor.shutdown()
            self.executor = None
        self.size = size

    def forget(self) -> None:
        """In a forked process, which gets a copy of this object but none of the threads."""
        self.executor = None

    def workers(self) -> ThreadPoolExecutor:
        if self.executor is None:  # the calling thread works too
            self.executor = ThreadPoolExecutor(self.size - 1, thread_name_prefix="minigrad")
        return self.executor


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


def set_num_threads(n: int) -> None:
    """How many threads compiled models use; the default is the number of usable cores.

    >>> import minigrad as mg
    >>> before = mg.get_num_threads()
    >>> mg.set_num_threads(1)
    >>> mg.get_num_threads()
    1
    >>> mg.set_num_threads(before)
    """
    size = as_int(n, "set_num_threads: n")
    if size < 1:
        raise ArgumentError(f"set_num_threads: n must be at least 1, got {n}")
    _pool.resize(size)


def get_num_threads() -> int:
    """How many threads compiled models use."""
    return _pool.size


def shards(N: int, size: int) -> list[slice]:
    """The batch 0 .. N-1 in pieces of `size`; the last one may be shorter.

    >>> shards(70, 32)
    [slice(0, 32, None), slice(32, 64, None), slice(64, 70, None)]
    """
    return [slice(start, min(start + size, N)) for start in range(0, N, size)]


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def one_blas_thread() -> AbstractContextManager[Any]:
    """Hold BLAS to one thread in a block."""
    for library in _blas().lib_controllers:
        if library.get_num_threads() != 1:
            return _blas().limit(limits=1)
    return nullcontext()  # it is held already: asking is cheap, setting is not


def run_shards(work: Callable[[int], Result], count: int) -> list[Result]:
    """[work(0), work(1), ..., work(count - 1)], on all threads; results in this order."""
    with one_blas_thread():
        threads = min(_pool.size, count)
        if threads <= 1:
            return [work(k) for k in range(count)]

        def every(first: int) -> list[Result]:
            return [work(k) for k in range(first, count, threads)]

        # each in a copy of the caller's context, where np.errstate keeps its settings
        others = [_pool.workers().submit(copy_context().run, every, first) for first in range(1, threads)]
        results: list[Any] = [None] * count
        try:
            results[::threads] = every(0)
        finally:
            wait(others)  # also after an error: nobody goes on writing behind the caller's back
        for first, other in enumerate(others, start=1):
            results[first::threads] = other.result()
        return results


def add_in_order(parts: list[np.ndarray]) -> np.ndarray:
    """The sum of the shards' results, always in the same order. Uses up the first one."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
