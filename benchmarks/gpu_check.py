"""`make test-gpu`: does minigrad give the same on this GPU as on the CPU?

Needs Python, NumPy and CuPy; pytest and compute-sanitizer are used where they are installed. Ends within 8 minutes,
whatever happens: each section is a process of its own with a time limit. The results go to
docs/benchmarks/gpu.md.

    python -m benchmarks.gpu_check                        all sections
    python -m benchmarks.gpu_check --only operations      one of them
    python -m benchmarks.gpu_check --device strict        a rehearsal without a GPU, on the stand-in of the tests

The sections are in `gpu_sections.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from pathlib import Path

from benchmarks import gpu_page
from benchmarks.children import Deadline, Outcome, run_child

__all__ = ["SECTIONS", "checks_part", "main"]

TOTAL = 450.0  # seconds; the page has to be written, too
# Section -> the most seconds that it may take. The important ones come first.
SECTIONS = {
    "machine": 60,
    "operations": 100,
    "layers": 100,
    "blocks": 60,
    "steps": 100,
    "captured": 100,
    "epochs": 150,
    "sanitizer": 120,
    "pytest": 150,
}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code, 1 if a check failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--device", default="cuda", help="cuda, or strict for a rehearsal without a GPU")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="run this section (may be repeated)"
    )
    parser.add_argument("--output", type=Path, help="page to write (default: docs/benchmarks/gpu.md)")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="time for everything")
    parser.add_argument("--section", help=argparse.SUPPRESS)  # in a child: run this and nothing else
    options = parser.parse_args(arguments)
    if options.section:
        from benchmarks import gpu_sections

        return gpu_sections.run_section(options.section, options.device)
    if options.device == "cuda":
        from minigrad.backend import cuda

        reason = cuda.why_not()
        if reason is not None:
            print(f"no check ran: {reason}")
            return 2
    deadline = Deadline(options.seconds)
    outcomes = {}
    for name in options.only or SECTIONS:
        print(f"{name} ...", flush=True)
        outcomes[name] = run_one(name, options.device, min(SECTIONS[name], deadline.left()))
        for line in lines_of(outcomes[name]):
            print("  " + line, flush=True)
    bad = [name for name, outcome in outcomes.items() if not passed(outcome)]
    # A rehearsal and a part of the sections are no result for the page.
    path = options.output or (gpu_page.PAGE if options.device == "cuda" and not options.only else None)
    if path is not None:
        gpu_page.write_part(gpu_page.CHECKS, checks_part(outcomes, time.strftime("%Y-%m-%d")), path)
        print(f"written: {path}")
    print("all checks passed" if not bad else f"FAILED: {', '.join(bad)}")
    return 1 if bad else 0


def run_one(name: str, device: str, seconds: float) -> Outcome:
    command = ["-m", "benchmarks.gpu_check", "--device", device, "--section", name]
    if name != "sanitizer":
        return run_child(command, seconds)
    program = sanitizer()
    if program is None or device != "cuda":
        return Outcome(
            [{"check": "compute-sanitizer", "ok": True, "note": "not run: it is not installed here"}]
        )
    # run_child starts Python; this Python becomes the sanitizer, which starts Python
    inner = [sys.executable, "-m", "benchmarks.gpu_check", "--device", device, "--section", "sanitized"]
    become = f"import os; os.execv({program!r}, {[program, '--error-exitcode', '9', *inner]!r})"
    return run_child(["-c", become], seconds)


def sanitizer() -> str | None:
    """The path of compute-sanitizer, or None."""
    usual = Path("/usr/local/cuda/bin/compute-sanitizer")
    found = shutil.which("compute-sanitizer")
    with contextlib.suppress(OSError):
        found = found or (str(usual) if usual.is_file() else None)
    return found


def passed(outcome: Outcome) -> bool:
    """Whether a section ended well, reported something, and nothing in it failed."""
    return outcome.problem is None and bool(outcome.results) and all(r["ok"] for r in outcome.results)


def lines_of(outcome: Outcome) -> list[str]:
    """What failed, and the notes."""
    lines = [f"{r['check']}: {r['note']}" for r in outcome.results if not r["ok"] or r.get("note")]
    counted = f"{sum(r['ok'] for r in outcome.results)} of {len(outcome.results)} good"
    problem = [] if outcome.problem is None else [outcome.problem]
    return [f"{counted}, {outcome.seconds:.0f} s", *lines, *problem]


def checks_part(outcomes: dict[str, Outcome], day: str) -> str:
    """What is written into the page."""
    rows = []
    for name, outcome in outcomes.items():
        verdict = "passed" if passed(outcome) else "**failed**"
        rows.append([name, verdict, str(len(outcome.results)), f"{outcome.seconds:.0f} s"])
    bullets = [f"- {name}: {line}" for name, outcome in outcomes.items() for line in lines_of(outcome)[1:]]
    return "\n\n".join(
        [
            f"`make test-gpu`, {day}",
            gpu_page.table(["", ""], gpu_page.describe_machine()),
            gpu_page.table(["section", "", "checks", "time"], rows),
            "\n".join(bullets),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
