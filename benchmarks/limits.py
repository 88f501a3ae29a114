"""What NumPy and its BLAS can do on this machine: the figures on which the kernels' choices rest.

    python -m benchmarks.limits

Prints how fast matrix products of the network's shapes are by their length, what a copy between them costs, which
of the two ways to convolve is faster by channels and batch size, how NumPy's operations share two cores by their
size, and what it costs to hand work to another thread. Nothing else should run. `docs/benchmarks/cpu.md` says what
follows from it.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import Manager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import minigrad as mg
from minigrad.backend.memory import keep_freed_memory
from minigrad.kernels.cpu import block, conv, row_block, rows
from minigrad.kernels.cpu.threads import run_shards

FLOPS = 6e7  # of one measurement of a product, about
LENGTHS = (32, 128, 320, 400, 640, 1280, 3584)

# name: rows and inner size of (rows, inner) @ (inner, length)
FORWARD = {
    "conv 1, forward": (6, 25),
    "conv 1, two rows at once": (12, 30),
    "conv 1, tiles of 2 x 2": (24, 36),
    "conv 2, forward": (16, 150),
    "conv 2, tiles of 2 x 2": (64, 216),
    "conv 2, gradient of x": (36, 160),
}
# name: rows and columns of (rows, length) @ (length, columns)
WEIGHTS = {"conv 1, gradient of W": (25, 6), "conv 2, gradient of W": (150, 16)}


def seconds(work: Callable[[], object], times: int = 15) -> float:
    """The median of some runs, after one that does not count."""
    work()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def rate(a: np.ndarray, b: np.ndarray) -> float:
    """GFLOP/s of a @ b, with one thread and the operands in the cache."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    flops = 2 * a.shape[0] * a.shape[1] * b.shape[1]
    repeat = max(1, int(FLOPS / flops))

    def work() -> None:
        for _ in range(repeat):
            np.matmul(a, b, out=out)

    return repeat * flops / seconds(work) / 1e9


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def print_row(name: str, values: Sequence[float], form: str) -> None:
    """A line of a table, each value in the format `form`."""
    print(f"{name:40}" + "".join(format(value, form) for value in values))


def products() -> None:
    print(
        "GFLOP/s of products by their length, one thread; BLAS's method for small ones ends at M N K = 10^6"
    )
    print_row("", LENGTHS, ">6")
    for name, (height, inner) in FORWARD.items():
        rates = [rate(random(height, inner), random(inner, n)) for n in LENGTHS]
        print_row(f"{name} ({height} x {inner})", rates, "6.0f")
    for name, (height, columns) in WEIGHTS.items():
        rates = [rate(random(height, n), random(columns, n).T) for n in LENGTHS]
        print_row(f"{name} ({height} x {columns})", rates, "6.0f")
        rates = [rate(random(height, n), random(n, columns)) for n in LENGTHS]
        print_row("  the same, with gz copied first", rates, "6.0f")


# Channels in and out, size of the picture, size of the kernel, stride, padding
CONVOLUTIONS = [
    (1, 16, 28, 3, 1, 1),
    (3, 16, 32, 3, 1, 1),
    (3, 32, 32, 5, 1, 2),
    (6, 16, 12, 5, 1, 0),
    (8, 8, 16, 3, 1, 1),
    (8, 16, 16, 3, 1, 1),
    (16, 8, 16, 3, 1, 1),
    (16, 16, 32, 3, 1, 1),
    (64, 64, 8, 3, 1, 1),
    (128, 128, 4, 3, 1, 1),
    (16, 32, 32, 3, 2, 1),
    (16, 32, 32, 1, 2, 0),
]
BATCHES = (16, 32, 64, 128, 256)


def convolutions() -> None:
    """Strips (kernels/cpu/conv.py) against rows (kernels/cpu/rows.py): forward and backward with batch norm."""
    keep_freed_memory()
    print("\nConvolution, batch norm and ReLU, one thread: time by strips over time by rows, by batch size")
    print_row("", BATCHES, ">6")
    for C, O, H, K, stride, padding in CONVOLUTIONS:
        ratios = [_ratio(C, O, H, K, stride, padding, N) for N in BATCHES]
        print_row(f"{C} -> {O}, {H} x {H}, kernel {K}, stride {stride}", ratios, "6.2f")


def _ratio(C: int, O: int, H: int, K: int, stride: int, padding: int, N: int) -> float:
    geometry = ((C, H, H), (O, C, K, K), (stride, stride), (padding, padding))
    weight, gamma = random(O, C, K, K), np.ones(O, np.float32)
    norm = block.Normalisation(gamma, gamma, 1e-5)
    ways: list[tuple[Any, Any, tuple[int, ...]]] = [  # each with the order of memory that it makes itself
        (block, conv.make_plan(*geometry, False, 4, N), (1, 2, 3, 0)),
        (row_block, rows.make_plan(*geometry, 4, N), (2, 3, 1, 0)),
    ]
    took: list[list[float]] = [[], []]
    for turn in range(9):
        for (kernel, plan, order), times in zip(ways, took, strict=True):
            back = np.argsort(order)
            x = random(*np.take((N, C, H, H), order)).transpose(back)
            gy = random(*np.take((N, O, plan.P, plan.Q), order)).transpose(back)
            start = time.perf_counter()
            _, saved, _, _ = kernel.forward(x, weight, None, norm, "relu", plan, True)
            kernel.backward(saved, gy, C > 3)  # pictures with up to three channels are the first layer's
            if turn > 1:
                times.append(time.perf_counter() - start)
    return statistics.median(strips / by_rows for strips, by_rows in zip(*took, strict=True))


def times_asleep() -> float:
    """How often this thread has waited asleep so far; nan where the system does not count it for threads."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):  # Windows, macOS
        return math.nan


def additions(kilo: int, repeat: int, start: Any) -> tuple[float, float]:
    """Microseconds of an addition of `kilo` K floats, and how often this thread went to sleep in one of them."""
    x, y = np.ones(kilo << 10, np.float32), np.ones(kilo << 10, np.float32)
    start.wait()
    slept, began = times_asleep(), time.perf_counter()
    for _ in range(repeat):
        np.add(x, 1, out=y)
    return (time.perf_counter() - began) / repeat * 1e6, (times_asleep() - slept) / repeat


def sharing() -> None:
    """Two threads, and two processes, that do the same at once, against one."""
    print(
        "\nA NumPy addition by its size, in microseconds: alone, by each of two at once; * sleeps for an addition"
    )
    print(f"{'':15} alone   two processes   two threads   sleeps*")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes, Manager() as manager:
        for kilo in (4, 8, 16, 32, 64, 128, 512, 8192):
            repeat = max(4, (1 << 17) // kilo)
            found: dict[int, list[tuple[float, float]]] = {1: [], 2: [], 3: []}
            for _ in range(5):
                found[1].append(additions(kilo, repeat, threading.Barrier(1)))
                for kind, pool, start in (
                    (2, processes, manager.Barrier(2)),
                    (3, threads, threading.Barrier(2)),
                ):
                    both = [pool.submit(additions, kilo, repeat, start) for _ in range(2)]
                    found[kind] += [future.result() for future in both]
            one, two, three = (statistics.median(us for us, _ in found[kind]) for kind in (1, 2, 3))
            sleeps = statistics.median(count for _, count in found[3])
            print(f"{kilo:>6} K floats {one:7.1f} {two:15.1f} {three:13.1f} {sleeps:9.2f}")


def handing_over() -> None:
    mg.set_num_threads(2)
    nothing = seconds(lambda: run_shards(lambda k: None, 2), 200)
    print(f"\nTwo shards without work, on two threads: {nothing * 1e6:.0f} us")
    for reps in (1, 5, 10, 40):
        a, b = random(16, 150), random(2, reps, 150, 320)
        out = np.empty((2, reps, 16, 320), np.float32)

        def work(k: int, a: np.ndarray = a, b: np.ndarray = b, out: np.ndarray = out) -> None:
            np.matmul(a, b[k], out=out[k])

        took = []
        for n in (1, 2):
            mg.set_num_threads(n)
            took.append(seconds(lambda work=work: run_shards(work, 2), 100))  # type: ignore[misc]
        print(
            f"{2 * reps:>4} products: {took[0] * 1e6:6.0f} us with one thread, {took[1] * 1e6:6.0f} with two"
        )


if __name__ == "__main__":
    with threadpool_limits(1):
        products()
        convolutions()
        sharing()
        handing_over()
