"""Runs a command and prints, as its last line, what it took: {"seconds": ..., "peak_bytes": ...} as JSON.

    python -m benchmarks.measured python -m minigrad.train lenet_bn --epochs 1

This is a process of its own because of how Unix counts: a process begins with the peak memory of the one that
started it, and the benchmark, with two frameworks in it, is large. This one is small: it loads next to nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

__all__ = ["run"]


def run(command: list[str]) -> dict[str, float]:
    """Seconds from start to exit of a command and its peak memory in bytes; its output goes to stderr.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return {"seconds": seconds, "peak_bytes": usage.ru_maxrss * unit}


if __name__ == "__main__":
    try:
        print(json.dumps(run(sys.argv[1:])))
    except subprocess.CalledProcessError as error:
        sys.exit(f"benchmarks.measured: {' '.join(error.cmd)} ended with {error.returncode}")
