"""The page docs/benchmarks/gpu.md: two parts of it are written by commands, the rest by people.

    make test-gpu     what stands between the two comments of CHECKS
    make bench-gpu    what stands between the two comments of SPEED

Only Python's own library is needed here.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["CHECKS", "PAGE", "SPEED", "describe_machine", "replace_part", "speed_part", "table", "write_part"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "gpu.md"
CHECKS = ("<!-- checks: begin (written by make test-gpu) -->", "<!-- checks: end -->")
SPEED = ("<!-- speed: begin (written by make bench-gpu) -->", "<!-- speed: end -->")

Medians = Mapping[str, Sequence[float]]  # contestant -> seconds a step, one for each epoch


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_part(page: str, marks: tuple[str, str], text: str) -> str:
    """The page with another text between the two comments.

    >>> replace_part("a <b> old <e> z", ("<b>", "<e>"), "new")
    'a <b>\\n\\nnew\\n\\n<e> z'
    """
    begin, end = marks
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no part between {begin} and {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def write_part(marks: tuple[str, str], text: str, path: Path = PAGE) -> None:
    """Write one part of the page; a page that another process reads is never half written."""
    page = replace_part(path.read_text(encoding="utf-8"), marks, text)
    scratch = path.with_suffix(".part")
    scratch.write_text(page, encoding="utf-8")
    os.replace(scratch, path)


def describe_machine() -> list[tuple[str, str]]:
    """(what, value): the cards and their driver, as nvidia-smi says, the processor, the system."""
    return [
        ("GPU", _nvidia_smi("name,driver_version,memory.total,power.limit")),
        ("processor", f"{_processor()}, {os.cpu_count()} logical cores"),
        ("system", platform.platform()),
        ("Python", platform.python_version()),
    ]


def _nvidia_smi(query: str) -> str:
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "nvidia-smi does not answer"
    return "; ".join(done.stdout.strip().splitlines()) or "nvidia-smi found none"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def speed_part(
    command: str,
    machine: Iterable[tuple[str, str]],
    results: Mapping[tuple[str, str], Medians],
    ours: str,
    batch_size: int,
    remarks: Sequence[str] = (),
) -> str:
    """What `make bench-gpu` writes.

    Args:
        results: for (what, precision), such as ("training", "TF32 off"), the figures of each contestant.
        ours: the contestant whose time the others' times are divided by.
    """
    parts = [f"`{command}`", table(["", ""], machine)]
    for (what, precision), medians in results.items():
        rows = []
        base = statistics.median(medians[ours]) if medians.get(ours) else None
        for name, seconds in medians.items():
            if not seconds:
                rows.append([name, "no figure", "", "", ""])
                continue
            middle = statistics.median(seconds)
            spread = f"{1e6 * min(seconds):.1f} to {1e6 * max(seconds):.1f}"
            factor = f"{middle / base:.2f}" if base else ""
            rows.append([name, f"{1e6 * middle:.1f}", spread, f"{batch_size / middle / 1e6:.2f}", factor])
        header = ["", "µs a step, median", "smallest to largest", "million examples/s", f"time / {ours}"]
        parts += [f"### {what.capitalize()}, {precision}", table(header, rows)]
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts)
