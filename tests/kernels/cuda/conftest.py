"""The kernels of kernels/cuda run on the CPU in these tests; without a C++ compiler they are skipped."""

from collections.abc import Iterator

import pytest

from minigrad.kernels.cuda import module
from tests.kernels.cuda.emulator import COMPILER, CpuLauncher


@pytest.fixture
def launcher() -> Iterator[CpuLauncher]:
    """A launcher for NumPy arrays, put in place for one test."""
    if COMPILER is None:
        pytest.skip("needs g++, which compiles the CUDA sources for the CPU")
    cpu = CpuLauncher()
    before = module.set_launcher(cpu)
    yield cpu
    module.set_launcher(before)
