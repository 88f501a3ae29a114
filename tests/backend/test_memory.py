"""Asking the C library to keep freed memory."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from minigrad.backend.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    [np.ones(2 << 20, np.float32) for _ in range(8)]  # 8 times 8 MB at once, as in a training step


for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}  # small pages, which are easier to count
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be asked")
def test_arrays_get_the_memory_of_earlier_ones():
    assert page_faults("keep") < 100
    assert page_faults("do not") > 10 * 10_000  # 64 MB are 16384 pages, in each of ten rounds
