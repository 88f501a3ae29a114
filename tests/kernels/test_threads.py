"""Shards and the threads that work on them."""

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError
from minigrad.kernels.cpu.threads import run_shards, shards
from tests.kernels.support import threads

COUNTS = [1, 2, 3]


def blas_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    found = [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]
    if not found:
        pytest.skip("NumPy was built with a BLAS that threadpoolctl does not know")
    return found


@pytest.mark.parametrize(("N", "size"), [(0, 4), (1, 4), (3, 4), (4, 4), (5, 4), (96, 32), (257, 64)])
def test_shards_cover_the_batch_once_and_in_order(N, size):
    pieces = shards(N, size)
    assert [n for piece in pieces for n in range(N)[piece]] == list(range(N))
    lengths = [piece.stop - piece.start for piece in pieces]
    assert all(n == size for n in lengths[:-1])
    assert all(0 < n <= size for n in lengths)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("n", COUNTS)
def test_results_come_in_the_order_of_the_shards(n, count):
    with threads(n):
        assert run_shards(lambda k: k * k, count) == [k * k for k in range(count)]


@pytest.mark.parametrize("n", COUNTS)
def test_so_many_threads_work_at_the_same_time(n):
    """Each piece of work waits until n of them have begun."""
    meeting = threading.Barrier(n, timeout=60)
    with threads(n):
        names = run_shards(lambda k: (meeting.wait(), threading.get_ident())[1], n)
    assert len(set(names)) == n
    assert threading.get_ident() in names  # the calling thread does not wait idly


def test_no_more_threads_than_set():
    with threads(2):
        assert len(set(run_shards(lambda k: threading.get_ident(), 50))) <= 2


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("bad", [0, 1, 2, 5])
def test_an_error_in_a_shard_reaches_the_caller(n, bad):
    def work(k):
        if k == bad:
            raise ValueError(f"shard {k}")
        return k

    with threads(n):
        with pytest.raises(ValueError, match=f"shard {bad}"):
            run_shards(work, 6)
        assert run_shards(lambda k: k, 6) == list(range(6))  # and the threads go on working


def both_at_once():
    """Work whose two shards wait for each other, so that each has a thread of its own."""
    meeting = threading.Barrier(2, timeout=60)
    return lambda k: (meeting.wait(), threading.current_thread())[1]


def test_an_error_in_a_helping_thread_reaches_the_caller():
    caller, meet = threading.current_thread(), both_at_once()

    def work(k):
        if meet(k) is not caller:
            raise ValueError("in the other thread")

    with threads(2):
        with pytest.raises(ValueError, match="in the other thread"):
            run_shards(work, 2)
        assert run_shards(lambda k: k, 2) == [0, 1]


def dies(reference):
    """Whether an object is gone soon: a thread that has just finished may hold it for a moment."""
    until = time.monotonic() + 30
    while reference() is not None and time.monotonic() < until:
        time.sleep(0.001)
    return reference() is None


def test_idle_threads_hold_no_arrays():
    with threads(2):
        x, meet = np.ones(3), both_at_once()
        reference = weakref.ref(x)
        run_shards(lambda k, x=x: (meet(k), x.sum())[1], 2)
        del x
        assert dies(reference)


def test_an_error_that_was_dealt_with_holds_no_arrays():
    """Not even until the garbage collector comes: it could be gigabytes."""
    gc.disable()
    try:
        with threads(2):
            x, meet = np.ones(3), both_at_once()
            reference, caller = weakref.ref(x), threading.current_thread()

            def work(k, x=x):
                if meet(k) is not caller:
                    raise ValueError(x.sum())

            with contextlib.suppress(ValueError):
                run_shards(work, 2)
            del x, work
            assert dies(reference)
    finally:
        gc.enable()


def test_as_many_threads_are_started_as_are_set_and_they_end():
    before = set(threading.enumerate())
    meeting = threading.Barrier(3, timeout=60)
    with threads(3):
        run_shards(lambda k: meeting.wait(), 3)
        started = set(threading.enumerate()) - before
        assert len(started) == 2  # and the calling thread
    for thread in started:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_little_work_is_not_shared():
    with threads(2):
        found = run_shards(lambda k: (time.sleep(0.002), threading.current_thread())[1], 10, nbytes=1000)
    assert set(found) == {threading.current_thread()}


def test_after_an_error_nobody_is_still_working():
    """Otherwise a thread could write into memory that has a new owner."""
    finished, meet = [], both_at_once()

    def work(k):
        meet(k)
        if k == 0:
            raise ValueError("shard 0")
        for _ in range(200):
            np.sort(np.arange(1000)[::-1])
        finished.append(k)

    with threads(2):
        with pytest.raises(ValueError, match="shard 0"):
            run_shards(work, 2)
        assert finished == [1]


@pytest.mark.parametrize("fails", ["the caller", "the other"])
def test_after_an_error_no_shard_is_begun(fails):
    caller, meet, begun = threading.current_thread(), both_at_once(), []

    def work(k):
        begun.append(k)
        if k > 1:
            time.sleep(0.01)
        elif (meet(k) is caller) == (fails == "the caller"):
            raise ValueError("failed")

    with threads(2), pytest.raises(ValueError, match="failed"):
        run_shards(work, 1000)
    assert len(begun) < 100


def test_a_thread_that_cannot_start_is_an_error_once(monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "minigrad_1":
            raise RuntimeError("can't start new thread")
        start(thread)

    with threads(3):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                run_shards(lambda k: k, 6)
        assert run_shards(lambda k: k, 6) == list(range(6))


def test_blas_has_one_thread_in_shards_and_gets_its_own_back():
    blas_threads()
    with pytest.importorskip("threadpoolctl").threadpool_limits(2), threads(2):
        before = blas_threads()
        assert 2 in before
        inside = run_shards(lambda k: blas_threads(), 2)
        assert all(set(found) == {1} for found in inside)
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError):
            run_shards(lambda k: 1 // 0, 2)
        assert blas_threads() == before


def test_blas_has_one_thread_whichever_thread_of_the_program_asks():
    """One after the other, while the first is still there."""
    blas_threads()
    code = """if True:
        from concurrent.futures import ThreadPoolExecutor
        from tests.kernels.test_threads import blas_threads, run_shards

        def seen():
            return [run_shards(lambda k: blas_threads(), 2)[1], blas_threads()]

        with ThreadPoolExecutor(1) as other:
            for found in (seen(), other.submit(seen).result(), seen(), other.submit(seen).result()):
                assert set(found[0]) == {1}, found
                assert 2 in found[1], found
    """
    env = os.environ | {f"{name}_NUM_THREADS": "2" for name in ("OPENBLAS", "MKL", "OMP", "BLIS")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_the_default_is_the_number_of_usable_cores():
    code = "import minigrad as mg; print(mg.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == usable
    assert done.stderr == ""


def test_set_num_threads_takes_whole_numbers():
    with threads(np.int64(3)):
        assert mg.get_num_threads() == 3
        assert type(mg.get_num_threads()) is int


@pytest.mark.parametrize("n", [0, -1])
def test_set_num_threads_refuses_less_than_one(n):
    before = mg.get_num_threads()
    with pytest.raises(ArgumentError, match=f"^set_num_threads: n must be at least 1, got {n}$"):
        mg.set_num_threads(n)
    assert mg.get_num_threads() == before


@pytest.mark.parametrize("n", [1.5, "2", None, True])
def test_set_num_threads_refuses_what_is_no_whole_number(n):
    with pytest.raises(ArgumentError, match=f"^set_num_threads: n must be a whole number, got {n!r}$"):
        mg.set_num_threads(n)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
def test_a_forked_process_has_threads_of_its_own():
    """fork copies the pool, but none of its threads: waiting for them would take forever."""
    code = """
import os, signal, warnings
warnings.simplefilter("ignore")  # Python warns of fork where there are threads, which is the point here
from minigrad.kernels.cpu.threads import run_shards, set_num_threads
set_num_threads(2)
assert run_shards(lambda k: k, 4) == [0, 1, 2, 3]
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if run_shards(lambda k: k, 4) == [0, 1, 2, 3] else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_threads_keep_the_settings_of_numpy_s_warnings():
    """np.errstate holds in one thread only, unless it is handed on."""
    meet = both_at_once()
    with threads(2), np.errstate(over="raise"):
        before = np.geterr()
        assert run_shards(lambda k: (meet(k), np.geterr())[1], 2) == [before] * 2
