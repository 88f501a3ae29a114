"""Work in shards, by a few threads.

A shard is a fixed piece of the batch, or of the rows of its pictures. How many there are depends on shapes alone,
each is computed in the same way by whichever thread takes it, and partial sums are added in the order of the
shards. So the result has the same bits for every number of threads.

NumPy releases Python's global lock inside large operations, which is what lets the threads overlap. BLAS has
threads of its own; they would fight with these, and they make the order of sums depend on their number. So
while shards run, BLAS is held to one thread.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from functools import cache, partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import numpy as np

from minigrad.errors import ArgumentError
from minigrad.shapes import as_int

__all__ = ["add_in_order", "get_num_threads", "run_shards", "set_num_threads", "shards"]

Result = TypeVar("Result")
WORTH_SHARING = 2 << 20  # bytes; below, waking another thread takes longer than what it could take over


def _usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """The threads of this process; they are started when they are first needed.

    Hardly more than a queue: with concurrent.futures, handing a shard over takes twice as long.
    """

    def __init__(self) -> None:
        self.size = _usable_cores()
        self.lock = Lock()
        self.tasks: SimpleQueue[Callable[[], None] | None] | None = None
        self.started = 0

    def resize(self, size: int) -> None:
        with self.lock:
            if self.tasks is not None and size != self.size:
                for _ in range(self.started):
                    self.tasks.put(None)  # one thread ends for each
                self.tasks = None
            self.size = size

    def forget(self) -> None:
        """In a forked process, which gets a copy of this object but none of the threads."""
        self.lock, self.tasks = Lock(), None

    def submit(self, task: Callable[[], None]) -> None:
        with self.lock:
            if self.tasks is None:
                self.started = max(1, self.size - 1)  # the calling thread works too
                self.tasks = _start(self.started)
            self.tasks.put(task)


def _start(count: int) -> SimpleQueue[Callable[[], None] | None]:
    """A queue of tasks, and threads that work on them."""
    tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    for number in range(count):
        try:
            Thread(target=_serve, args=(tasks,), name=f"minigrad_{number}", daemon=True).start()
        except BaseException:
            for _ in range(number):
                tasks.put(None)  # those that did start
            raise
    return tasks


def _serve(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """The life of a thread."""
    while (task := tasks.get()) is not None:
        task()
        del task  # and with it the arrays that it holds


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
    """0 .. N-1 in pieces of `size`; the last one may be shorter.

    >>> shards(70, 32)
    [slice(0, 32, None), slice(32, 64, None), slice(64, 70, None)]
    """
    return [slice(start, min(start + size, N)) for start in range(0, N, size)]


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def one_blas_thread() -> AbstractContextManager[Any]:
    """Hold BLAS to one thread inside a `with`.

    Through `limit`, although the libraries' own `set_num_threads` takes a quarter of the time: threadpoolctl lets one
    thread of the program alone set numbers, until it has given them back, and only `limit` gives them back.
    """
    for library in _blas().lib_controllers:
        if library.get_num_threads() != 1:
            return _blas().limit(limits=1)
    return nullcontext()  # it is held already: asking is cheap, setting is not


def run_shards(work: Callable[[int], Result], count: int, nbytes: float = math.inf) -> list[Result]:
    """[work(0), work(1), ..., work(count - 1)], on all threads; results in this order.

    After an error no further shard is begun, and the error is raised when nobody is working any more.

    Args:
        work: of one shard. It must not call `run_shards` itself: it would wait for threads that wait for it.
        count: how many shards there are.
        nbytes: what the work reads or writes in all; if that is little, this thread does it alone.
    """
    with one_blas_thread():
        threads = min(_pool.size, count) if nbytes >= WORTH_SHARING else 1
        if threads <= 1:
            return [work(k) for k in range(count)]
        left = deque(range(count))
        results: list[Any] = [None] * count
        finished: SimpleQueue[BaseException | None] = SimpleQueue()

        def take_shards() -> None:
            while left:
                try:
                    k = left.popleft()  # atomic
                except IndexError:  # another thread was faster
                    return
                results[k] = work(k)

        def help_out(context: Context) -> None:
            try:
                context.run(take_shards)
                finished.put(None)
            except BaseException as error:  # for the caller
                left.clear()
                finished.put(error)

        helpers = 0
        try:
            while helpers < threads - 1:
                # In a copy of the caller's context, where np.errstate keeps its settings
                _pool.submit(partial(help_out, copy_context()))
                helpers += 1
            take_shards()
        finally:
            left.clear()
            errors = [finished.get() for _ in range(helpers)]
        try:
            for error in errors:
                if error is not None:
                    raise error
        finally:
            del errors, error  # an error holds this frame, which would hold the error
        return results


def add_in_order(parts: list[np.ndarray]) -> np.ndarray:
    """The sum of the shards' results, always in the same order. Uses up the first one."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
