"""How much `import minigrad` adds to `import numpy`: the ratio of two medians.

    python benchmarks/import_time.py --runs 21

Both imports are timed in fresh interpreters, one after the other in turns, so that a machine that slows down
or warms up does so for both. The first pair fills the file cache, writes the compiled modules where they are
missing, and is not counted. The time is that of the import statement; starting Python is not part of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

TIMER = "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"


def import_seconds(module: str) -> float:
    """Seconds that one import takes in a fresh interpreter."""
    command = [sys.executable, "-c", TIMER.format(module=module)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="time `import minigrad` against `import numpy`")
    parser.add_argument("--runs", type=int, default=21, help="pairs of runs (default: %(default)s)")
    runs = parser.parse_args().runs
    if runs < 1:
        parser.error(f"--runs must be at least 1, got {runs}")

    pairs = [(import_seconds("numpy"), import_seconds("minigrad")) for _ in range(runs + 1)][1:]
    numpy = statistics.median(seconds for seconds, _ in pairs)
    minigrad = statistics.median(seconds for _, seconds in pairs)
    print(f"numpy     {1000 * numpy:7.1f} ms")
    print(f"minigrad  {1000 * minigrad:7.1f} ms")
    print(f"ratio     {minigrad / numpy:7.2f}   (median of {runs} runs each)")


if __name__ == "__main__":
    main()
