"""The page docs/benchmarks/cpu.md, made of what was measured.

What stands between the two comments of NOTES is written by people: a new measurement keeps it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contestants import CHANNELS_LAST, COMPILED, EAGER, PLAIN, TORCH_COMPILE, Case
from benchmarks.processes import WholeRuns, median_run
from benchmarks.timing import Ratio, Timing, ratio

__all__ = ["CaseResult", "Report", "render", "write"]

NOTES = ("<!-- notes: begin (kept when the page is written anew) -->", "<!-- notes: end -->")
NAMES = (COMPILED, PLAIN, EAGER, CHANNELS_LAST, TORCH_COMPILE)

INTRO = """\
# Speed on the CPU

Written by `make bench`: minigrad and PyTorch side by side, in one process and in turns. A ratio is PyTorch's
time over minigrad's, so above 1 minigrad is faster: the median over the rounds, and in brackets the smallest and
the largest. "PyTorch" without further words is the faster of its two memory formats. "compiled" is
`minigrad.compile`, which the trainer uses; "plain" is minigrad without it.
"""

METHOD = """\
- A training step starts from a batch of bytes as a NumPy array, and goes through the conversion to floats,
  forward, cross-entropy, backward and an update by SGD, to the loss as a Python number. Inference starts from the
  same bytes and ends at the outputs as a NumPy array, in evaluation mode without gradients. All in float32.
- All contestants have the same weights to begin with, and their first losses (or outputs) are compared before
  anything is timed.
- PyTorch has `fused=True` in its SGD, `inference_mode`, in-place ReLUs, and in `torch.compile` the folding of
  batch norm for inference, since each of these makes it faster. Compiling and warming up are not counted.
- Each round gives every contestant a block of steps, each time in another order; a block counts by its median.
  The two frameworks have the same number of threads. `benchmarks/timing.py` says why there are pauses.
- The process asks the C library to keep freed memory, as minigrad's trainer does; it holds for everybody in it.
- Peak memory and whole runs are those of processes of their own, import times those of fresh interpreters.
"""


@dataclass(frozen=True)
class CaseResult:
    """A case and what its contestants needed."""

    case: Case
    timings: tuple[Timing, ...]

    def timing(self, name: str) -> Timing | None:
        return next((timing for timing in self.timings if timing.name == name), None)

    def eager(self) -> Timing:
        """PyTorch in the faster of its memory formats."""
        both = [self.timing(EAGER), self.timing(CHANNELS_LAST)]
        return min((timing for timing in both if timing is not None), key=lambda timing: timing.median)

    def ratios(self) -> dict[str, Ratio]:
        """All that can be said about this case, by name."""
        found = {}
        for ours, name in ((COMPILED, "compiled"), (PLAIN, "plain")):
            for theirs, other in ((self.eager(), "PyTorch"), (self.timing(TORCH_COMPILE), "torch.compile")):
                timing = self.timing(ours)
                if timing is not None and theirs is not None:
                    found[f"{name} against {other}"] = ratio(theirs, timing)
        return found


@dataclass
class Report:
    """Everything that was measured.

    Attributes:
        command: as it was typed.
        date: when.
        machine: rows (what, value).
        pictures: what the data were.
        cases: in the order of the tables.
        imports: of NumPy, minigrad and PyTorch.
        runs: whole trainings, if there were any.
        remarks: what was left out and why.
        minutes: how long it all took.
    """

    command: str
    date: str
    machine: Sequence[tuple[str, str]]
    pictures: str
    cases: list[CaseResult] = field(default_factory=list)
    imports: Sequence[Timing] = ()
    runs: WholeRuns | None = None
    remarks: list[str] = field(default_factory=list)
    minutes: float = 0.0


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---:") -> str:
    """Markdown; all columns but the first are aligned to the right, as numbers are.

    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    lines = [header, ["---"] + [align] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def render(report: Report, notes: str = "") -> str:
    """The whole page; `notes` is what people wrote."""
    parts = [INTRO, "\n".join([NOTES[0], notes.strip(), NOTES[1]])]
    for training in (True, False):
        for threads in sorted({r.case.threads for r in report.cases if r.case.training == training}):
            chosen = [r for r in report.cases if (r.case.training, r.case.threads) == (training, threads)]
            kind = "Training" if training else "Inference"
            parts.append(f"## {kind}, {threads} thread{'s' if threads > 1 else ''}")
            parts += [_ratios(chosen), "Milliseconds a step, and examples a second:", _times(chosen)]
    if report.runs is not None:
        parts += ["## From start to trained model", *_whole_runs(report.runs)]
    if report.imports:
        parts += ["## Import", _imports(report.imports)]
    parts += [
        "## Machine and method",
        table(["", ""], [*report.machine, *_circumstances(report)], "---"),
        METHOD,
    ]
    parts[-1] += "".join(f"- {remark}\n" for remark in report.remarks)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def write(path: Path, report: Report) -> None:
    """Writes the page; keeps the notes of the one that was there."""
    notes = ""
    if path.exists():
        found = re.search("(.*)".join(map(re.escape, NOTES)), path.read_text(encoding="utf-8"), re.DOTALL)
        notes = found.group(1) if found else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(render(report, notes), encoding="utf-8")
    os.replace(temporary, path)


# The tables ---


def _ratios(results: Sequence[CaseResult]) -> str:
    names = list(dict.fromkeys(name for result in results for name in result.ratios()))
    rows = []
    for result in results:
        ratios = result.ratios()
        cells = [str(ratios[name]) if name in ratios else "-" for name in names]
        rows.append([result.case.model, str(result.case.batch_size), *cells])
    return table(["model", "batch", *names], rows)


def _times(results: Sequence[CaseResult]) -> str:
    names = [name for name in NAMES if any(result.timing(name) for result in results)]
    rows = []
    for result in results:
        cells = [_time(result.timing(name), result.case.batch_size) for name in names]
        rows.append([result.case.model, str(result.case.batch_size), *cells])
    return table(["model", "batch", *names], rows)


def _time(timing: Timing | None, batch_size: int) -> str:
    if timing is None:
        return "-"
    return f"{1e3 * timing.median:.2f} ms, {batch_size / timing.median:,.0f}/s"


def _whole_runs(runs: WholeRuns) -> list[str]:
    rows = []
    commands = ("python -m minigrad.train", "benchmarks/torch_lenet.py")
    for command, several in zip(commands, (runs.minigrad, runs.torch), strict=True):
        middle = median_run(several)
        rows.append([f"`{command}`", f"{middle.seconds:.1f} s", f"{middle.peak_bytes / 2**20:.0f} MiB"])
    rows.append(["PyTorch's over minigrad's", str(runs.seconds()), str(runs.memory())])
    times = len(runs.minigrad)
    what = f"{runs.what}, {'once' if times == 1 else f'{times} times in turns'}:"
    return [what, table(["", "start to exit", "peak memory"], rows)]


def _imports(imports: Sequence[Timing]) -> str:
    first = imports[0]
    rows = [
        [f"`import {timing.name}`", f"{1e3 * timing.median:.0f} ms", str(ratio(timing, first))]
        for timing in imports
    ]
    return table(["", "median", f"over {first.name}'s"], rows)


def _circumstances(report: Report) -> list[tuple[str, str]]:
    return [
        ("pictures", report.pictures),
        ("date", report.date),
        ("command", f"`{report.command}`"),
        ("took", f"{report.minutes:.0f} minutes"),
    ]
