"""Runs parts of a long job in processes of their own, and ends them when their time is up.

A kernel that never ends, a crash of the driver or a deadlock must not take the whole job with it: whoever watches
has to be another process. A child prints one result a line, as JSON, and everything else as it likes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Deadline", "Outcome", "report", "run_child"]

ROOT = Path(__file__).resolve().parents[1]
MARK = "@result "


class Deadline:
    """The time that is left for everything.

    >>> 0 < Deadline(60.0).left() <= 60
    True
    """

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())


@dataclass
class Outcome:
    """What became of a child.

    Attributes:
        results: what it reported, in order; also that of a child that did not end well.
        problem: how it ended, if not well.
        seconds: how long it took.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    seconds: float = 0.0


def report(**result: Any) -> None:
    """Called in a child: hands one result to the parent."""
    print(MARK + json.dumps(result), flush=True)


def run_child(arguments: Sequence[str], timeout: float) -> Outcome:
    """`python arguments...` in the root of the repository, for `timeout` seconds at most."""
    started = time.monotonic()
    if timeout < 1:
        return Outcome(problem="not started: no time was left")
    child = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, so that what it started ends with it
    )
    problem = None
    try:
        output, _ = child.communicate(timeout=timeout)
        if child.returncode:
            problem = f"ended with code {child.returncode}: {_last_line(output)}"
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        problem = f"ended after {timeout:.0f} seconds, which was all the time it had"
    lines = [line[len(MARK) :] for line in output.splitlines() if line.startswith(MARK)]
    return Outcome([json.loads(line) for line in lines], problem, time.monotonic() - started)


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith(MARK)]
    return lines[-1][:300] if lines else "without a word"
