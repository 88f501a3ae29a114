"""No kernel depends on the order of its threads, and none has a barrier that it does not need.

Every kernel is run once by `work`, and its arguments are kept. Then it runs again on copies of them: with its
threads forwards, backwards and in random order, where all bits have to be the same; and with each of its
barriers left out in turn, where in at least one order something has to come out differently. A barrier of
which that is not true is either useless, or the test does not see what it is for.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.kernels.cuda import conv, dense, gather, loss, module, norm, optim
from tests.kernels.cuda.emulator import COMPILER, ORDERS, CpuLauncher, build

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="needs g++, which compiles the CUDA sources for the CPU"
)
KERNELS = sorted(module.signatures(module.source("float32")))
DTYPES = ["float32", "float64"]
Start = tuple[str, Any, Any, list[Any]]


class Recorder(CpuLauncher):
    """Keeps what each kernel was first started with."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: dict[str, Start] = {}

    def start(self, name: str, dtype: str, grid: Any, block: Any, args: Any, shared: int) -> None:
        self.starts.setdefault(name, (dtype, grid, block, copies(args)))
        super().start(name, dtype, grid, block, args, shared)


def copies(args: Any) -> list[Any]:
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


def work(dtype: str) -> None:
    """Every kernel, on sizes at which all its barriers have something to do."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    x, weight, b = normal(3, 4, 7, 7), normal(18, 4, 3, 3), normal(18)
    s = conv.sizes(x.shape, weight.shape, (1, 1), (0, 0))
    partial = np.zeros((conv.partial_count(s.O, s.N * s.P * s.Q), s.O, 3), dtype)
    z = conv.convolve(x, weight, b, s, partial=partial)
    conv.grad_input(z, weight, s)
    conv.grad_weight(x, z, s)
    s = conv.sizes(x.shape, weight.shape, (2, 1), (1, 2))  # with padding, and windows that go beyond it
    z = conv.convolve(x, weight, b, s)
    conv.grad_input(z, weight, s)
    conv.grad_weight(x, z, s)
    x2, w2 = normal(40, 37), normal(35, 37)
    partial2 = np.zeros((conv.partial_count(35, 40), 35, 3), dtype)
    z2 = dense.multiply(x2, w2, None, partial=partial2)
    dense.grad_weight(x2, z2, bias_out=np.zeros(35, dtype))
    dense.grad_input(z2, w2)
    module.launch("sum_pieces", (7,), (256,), [normal(70, 50), np.zeros(50, dtype), 70, 50])

    stats = norm.merge(np.abs(normal(300, 4, 3)) + 1, 1e-5, normal(4))
    z, gamma, beta = normal(40, 4, 16, 16), normal(4), normal(4)
    norm.apply(z, stats, gamma, beta, "sigmoid")
    y, winner = norm.apply_pool(z, stats, gamma, beta, "tanh")
    norm.backward(normal(*y.shape), y, z, winner, stats, gamma, "tanh")
    norm.fold(normal(4, 70), normal(4), stats.mean, stats.var, gamma, beta, 1e-5)
    norm.track(stats.mean, stats.var, normal(4), normal(4), np.zeros(1, np.int64), 0.1, 5)

    rows = loss.cross_entropy(normal(3, 300), np.array([1, 299, 7]))
    rows = loss.Rows(normal(300), rng.integers(-1, 2, 300).astype(np.int32), None)
    figures = np.zeros(1, dtype), np.zeros(1), np.zeros(3, np.int64), np.zeros(2, np.int64)
    loss.finish_batch(rows, *figures)
    p, g, m, v, steps = normal(600), normal(600), normal(600), np.abs(normal(600)), np.ones(1, np.int64)
    optim.sgd(p, g, m, optim.sgd_hyper(0.1, 0.9), steps)
    optim.adam(p, g, m, v, optim.adam_hyper(0.1), steps)
    arrays = [normal(5), normal(300)]
    KEPT.extend(arrays)  # `pack` is given addresses
    optim.pack(
        np.array([a.ctypes.data for a in arrays]), np.array([0, 5, 305]), np.zeros(305, dtype), [5, 300]
    )
    images, table = rng.integers(0, 256, (9, 2, 6, 6)).astype(np.uint8), normal(2, 256)
    x, y = np.zeros((4, 2, 6, 6), dtype), np.zeros(4, np.int64)
    gather.gather_batch(images, np.arange(9), table, rng.permutation(9), np.ones(1, np.int64), x, y)


KEPT: list[np.ndarray] = []


def record(dtype: str) -> dict[str, Start]:
    """What `work` starts each kernel with."""
    recorder, usual = Recorder(), (module.tile_for, conv.weight_tile)
    before = module.set_launcher(recorder)
    try:
        for tile in module.TILES:
            module.tile_for = lambda rows, columns, tile=tile: tile
            conv.weight_tile = lambda s, tile=tile: tile
            work(dtype)
    finally:
        module.tile_for, conv.weight_tile = usual
        module.set_launcher(before)
    return recorder.starts


@pytest.fixture(scope="module", params=DTYPES)
def starts(request: Any) -> dict[str, Start]:
    return record(request.param)


def rerun(name: str, start: Start, order: str, skip: int | None = None) -> tuple[list[bytes], set[int]]:
    """All arrays afterwards, and the barriers that were met."""
    dtype, grid, block, args = start
    args = copies(args)
    launcher = CpuLauncher(order) if skip is None else CpuLauncher(order, skip)
    launcher.start(name, dtype, grid, block, args, 0)
    return [a.tobytes() for a in args if isinstance(a, np.ndarray)], launcher.visited


def notices(name: str, start: Start, site: int, right: list[bytes]) -> bool:
    for order in ORDERS:
        try:
            if rerun(name, start, order, site)[0] != right:
                return True
        except AssertionError:  # wrote outside an array, or threads at different barriers
            return True
    return False


def test_the_work_meets_every_kernel_and_every_barrier(starts):
    assert sorted(starts) == KERNELS
    dtype = next(iter(starts.values()))[0]
    met = set().union(*(rerun(name, start, "forward")[1] for name, start in starts.items()))
    assert met == set(range(len(build(dtype)[1])))


@pytest.mark.parametrize("name", KERNELS)
def test_the_order_of_the_threads_does_not_matter(name, starts):
    right, _ = rerun(name, starts[name], "forward")
    for order in ("reverse", "random"):
        assert rerun(name, starts[name], order)[0] == right, order


@pytest.mark.parametrize("name", KERNELS)
def test_each_barrier_is_missed_when_it_is_left_out(name, starts):
    right, met = rerun(name, starts[name], "forward")
    text = build(starts[name][0])[1]
    assert [text[site] for site in sorted(met) if not notices(name, starts[name], site, right)] == []


FENCES = """
import sys
from minigrad.kernels.cuda import conv, module
from tests.kernels.cuda.emulator import CpuLauncher
from tests.kernels.cuda.test_barriers import work

fence, dtype = sys.argv[1:]
module.set_launcher(CpuLauncher(fence=fence))
for tile in module.TILES:
    module.tile_for = lambda rows, columns, tile=tile: tile
    conv.weight_tile = lambda s, tile=tile: tile
    work(dtype)
print("fine")
"""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fence", ["before", "after"])
def test_nothing_outside_the_arrays_is_read(fence, dtype):
    """In a process of its own, which such a read would end."""
    command = [sys.executable, "-c", FENCES, fence, dtype]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[3])
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_which_kernels_have_barriers(starts):
    """So that the test above is not about nothing."""
    without = {name for name in KERNELS if not rerun(name, starts[name], "forward")[1]}
    assert without == {
        "fold_norm",
        "gather_batch",
        "norm_apply",
        "norm_apply_pool",
        "pack",
        "sgd",
        "track_statistics",
    }
