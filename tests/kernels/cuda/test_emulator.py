"""The emulator notices what a GPU would not tell: here are kernels with mistakes in them."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.cuda.emulator import COMPILER, CpuLauncher, build

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="needs g++, which compiles the CUDA sources for the CPU"
)

KERNELS = """
typedef float real;
extern "C" __global__ void indices(real* x, int n)
{
    int i = (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) x[i] = i;
}
extern "C" __global__ void one_too_far(real* x, int n)
{
    for (int i = threadIdx.x; i <= n; i += blockDim.x) x[i] = 1;
}
extern "C" __global__ void reads_behind(const real* x, real* y, int n)
{
    y[0] = x[n];
}
extern "C" __global__ void shared_memory_as_found(real* x)
{
    __shared__ real scratch[64];
    x[threadIdx.x] = scratch[threadIdx.x];
    scratch[threadIdx.x] = 1;
}
extern "C" __global__ void half_of_them_wait(real* x)
{
    if (threadIdx.x % 2 == 0)
        __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void last_one_stays(real* x)
{
    x[0] = threadIdx.x;
}
extern "C" __global__ void neighbour(real* x, int reversed)
{
    __shared__ real scratch[64];
    scratch[threadIdx.x] = threadIdx.x;
    __syncthreads();
    x[threadIdx.x] = scratch[(threadIdx.x + (reversed ? 63 : 1)) % 64];
}
"""


def start(name, *args, grid=(1,), block=(64,), order="forward", skip=-2):
    library, sites = build("float32", KERNELS)
    launcher = CpuLauncher(order, skip)
    launcher.run(library, len(sites), name, grid, block, args)
    return launcher


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_grids(order):
    x = np.full(50, np.nan, np.float32)
    start("indices", x, np.int32(50), grid=(3, 4), block=(5,), order=order)
    np.testing.assert_array_equal(x, np.arange(50))


def test_writing_past_the_end():
    with pytest.raises(AssertionError, match="one_too_far wrote outside an array of shape"):
        start("one_too_far", np.zeros(7, np.float32), np.int32(7))


def test_reading_past_the_end():
    y = np.zeros(1, np.float32)
    start("reads_behind", np.zeros(7, np.float32), y, np.int32(7))
    assert np.isnan(y[0])


@pytest.mark.parametrize("fence", ["before", "after"])
def test_fences(fence):
    """A read behind the end ends the process if the fence is there; before the fence all is as usual."""
    script = f"""
import numpy as np
from tests.kernels.cuda import test_emulator
from tests.kernels.cuda.emulator import CpuLauncher, build
library, sites = build("float32", test_emulator.KERNELS)
launcher = CpuLauncher(fence={fence!r})
x, y = np.ones(7, np.float32), np.zeros(1, np.float32)
for n in (6, 7):
    launcher.run(library, len(sites), "reads_behind", (1,), (1,), [x, y, np.int32(n)])
    print(y[0], flush=True)
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.stdout.split() == (["1.0", "nan"] if fence == "before" else ["1.0"])
    assert done.returncode == (0 if fence == "before" else -signal.SIGSEGV)


def test_shared_memory_is_filled_before_each_block():
    x = np.zeros(64, np.float32)
    start("shared_memory_as_found", x, grid=(2,))
    assert np.isnan(x).all()


def test_threads_that_do_not_come_to_the_barrier():
    with pytest.raises(AssertionError, match="not all threads came to the same barrier"):
        start("half_of_them_wait", np.zeros(64, np.float32))


def test_orders():
    found = {}
    for order in ("forward", "reverse", "random"):
        x = np.zeros(1, np.float32)
        start("last_one_stays", x, order=order)
        found[order] = x[0]
    assert found["forward"] == 63
    assert found["reverse"] == 0
    assert 0 < found["random"] < 63


@pytest.mark.parametrize("reversed_", [0, 1])
def test_leaving_out_a_barrier(reversed_):
    """What is missing shows in one of the orders."""
    site = 1  # the second barrier of the text above
    expected = (np.arange(64) + (63 if reversed_ else 1)) % 64
    wrong = []
    for order in ("forward", "reverse"):
        x = np.zeros(64, np.float32)
        assert start("neighbour", x, np.int32(reversed_), order=order).visited == {site}
        np.testing.assert_array_equal(x, expected)
        start("neighbour", x, np.int32(reversed_), order=order, skip=site)
        wrong.append(int((x != expected).sum()))
    assert max(wrong) == 63
    assert min(wrong) == 1
