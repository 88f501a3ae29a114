"""Runs one experiment and writes its files: DIR/NAME.csv, .json, .png and .svg.

Each case is kept in DIR/NAME/cases/ as soon as it is done, so an interrupted experiment goes on where it was. A
kept case counts if recipe, case and data set are the same; code is not compared, and `fresh` does all anew.

The same recipe gives the same CSV: all random numbers have seeds, and times go to the JSON file. As in the
trainer the linear algebra library has one thread, and the fused operations have all.

Next: `report.py`, which makes a page of the documentation from these files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import plot
from minigrad._version import __version__
from minigrad.data.files import atomic_path
from minigrad.errors import ArgumentError, DataError, describe
from minigrad.experiments.context import Context, Progress
from minigrad.experiments.study import Case, Experiment, Findings, Row, Table

__all__ = ["Outcome", "fingerprint", "run", "write_csv", "write_text"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What an experiment gave, and the files that hold it."""

    experiment: Experiment
    table: Table
    findings: Findings
    seconds: float
    files: tuple[Path, ...]


def run(
    experiment: Experiment,
    out_dir: str | os.PathLike[str],
    *,
    quick: bool = False,
    data_dir: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    say: Say = print,
) -> Outcome:
    """Measures all cases, judges, draws, and writes the files.

    Args:
        out_dir: folder for the files; made if it is not there.
        quick: the small recipe in place of the full one.
        data_dir: folder with the data sets; default: MINIGRAD_DATA, the cache, the network.
        fresh: measure the cases anew that are there already.
        progress: what shows the steps.
        say: called with each line for the user.

    Raises:
        ArgumentError: `out_dir` cannot be written to, or two cases have the same settings.
        DataError: a row holds something else than str, bool, int and float.
    """
    import threadpoolctl

    folder = Path(out_dir)
    kept = folder / experiment.name / "cases"
    make_folder(kept)
    recipe = experiment.quick if quick else experiment.full
    say(f"{experiment.name}: {experiment.title}")
    say(f"  claim: {experiment.claim} ({experiment.source})")
    rows: list[Row] = []
    seconds = 0.0
    timings: dict[str, float] = {}
    used: dict[str, str] = {}
    cases = experiment.cases(recipe)
    check_cases(cases)
    for number, case in enumerate(cases, start=1):
        context = Context(data_dir, progress, lambda text: say(f"  {text}"))
        path = kept / f"{_file_name(case)}-{fingerprint(recipe, case)[:12]}.json"
        done = None if fresh else _read_case(path, recipe, case, context)
        if done is None:
            started = time.perf_counter()
            with threadpoolctl.threadpool_limits(limits=1):
                found = [_plain(row) for row in experiment.measure(recipe, case, context)]
            done = {
                "fingerprint": fingerprint(recipe, case),
                "label": case.label,
                "data": context.used,
                "seconds": time.perf_counter() - started,
                "timings": context.timings,
                "rows": found,
            }
            write_text(path, json.dumps(done))
            remark = f"{done['seconds']:.1f} s"
        else:
            remark = "measured before"
        say(f"  [{number}/{len(cases)}] {case.label}: {remark}")
        rows += done["rows"]
        seconds += done["seconds"]
        timings |= done["timings"]
        used |= done["data"]
    table = Table(rows, timings)
    stand_in = data_note(used)
    findings = experiment.judge(recipe, table)
    findings = replace(findings, verdict=findings.verdict + stand_in)
    files = tuple(folder / f"{experiment.name}.{ending}" for ending in ("csv", "json", "png", "svg"))
    write_csv(files[0], table)
    figure = experiment.draw(recipe, table, findings)
    if stand_in:
        figure.text(0.99, 0.01, stand_in.strip(), ha="right", va="bottom", fontsize=7)
    plot.save(figure, files[2])
    plot.save(figure, files[3])
    summary = _summary(experiment, recipe, quick, cases, findings, used, seconds, timings)
    write_text(files[1], json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=True) + "\n")
    for line in findings_lines(findings):
        say(f"  {line}")
    say(f"  files: {folder / experiment.name}.csv, .json, .png, .svg")
    return Outcome(experiment, table, findings, seconds, files)


# 1. Cases that are kept ---


def fingerprint(recipe: Any, case: Case) -> str:
    """The same for the same recipe and case."""
    text = json.dumps([asdict(recipe), case.label, case.settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_name(case: Case) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", case.label.lower()).strip("-")[:60] or "case"


def _read_case(path: Path, recipe: Any, case: Case, context: Context) -> dict[str, Any] | None:
    """What was kept, if it is of this recipe and of the data that would be used now; else None."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = {"fingerprint", "rows", "seconds", "timings", "data"} <= kept.keys()
    except (OSError, ValueError, AttributeError):
        return None
    same = (
        complete
        and kept["fingerprint"] == fingerprint(recipe, case)
        and all(context.available(asked) == got for asked, got in kept["data"].items())
    )
    return kept if same else None


def check_cases(cases: Iterable[Case]) -> None:
    """Cases with the same name would overwrite each other."""
    seen: set[str] = set()
    for case in cases:
        if case.label in seen:
            raise ArgumentError(f"two cases are called {case.label!r}")
        seen.add(case.label)


def _plain(row: Mapping[str, Any]) -> Row:
    """The row with Python's numbers in place of NumPy's."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    for name, value in plain.items():
        if not isinstance(value, (str, bool, int, float)):
            raise DataError(f"a row has {type(value).__name__} in column {name!r}: use str, int or float")
    return plain


# 2. Files ---


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "try") as temporary:
            temporary.touch()
        (folder / "try").unlink()
    except OSError as error:
        raise ArgumentError(
            describe(
                f"cannot write to {folder}: {error.strerror or error}",
                (),
                "choose another folder with --out-dir",
            )
        ) from None


def write_text(path: Path, text: str) -> None:
    """Writes the file so that it is there whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, table: Table) -> None:
    """All rows; a column that a row does not have is empty. Numbers are written so that they can be read back."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.columns(), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(path, text.getvalue())


def _summary(
    experiment: Experiment,
    recipe: Any,
    quick: bool,
    cases: list[Case],
    findings: Findings,
    used: dict[str, str],
    seconds: float,
    timings: dict[str, float],
) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "title": experiment.title,
        "claim": experiment.claim,
        "source": experiment.source,
        "setting": "quick" if quick else "full",
        "verdict": findings.verdict,
        "held": findings.held,
        "measured": _json_value(findings.measured),
        "published": _json_value(findings.published),
        "dataset": ", ".join(dict.fromkeys(used.values())) or "made by code",
        "seeds": seeds(recipe, cases),
        "recipe": asdict(recipe),
        "seconds": round(seconds, 1),
        "timings": timings,
        "versions": {
            "minigrad": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "cores": os.cpu_count(),
    }


def seeds(recipe: Any, cases: Iterable[Case]) -> list[int]:
    """The seeds of the cases; of the recipe where the cases do not name them."""
    found = list(dict.fromkeys(int(case["seed"]) for case in cases if "seed" in case.settings))
    settings = asdict(recipe)
    listed = settings.get("seeds", settings.get("groups", [settings["seed"]] if "seed" in settings else []))
    return found or [int(seed) for seed in listed]


def data_note(used: Mapping[str, str]) -> str:
    """What a verdict has to add if the pictures were not those that were asked for.

    >>> data_note({"mnist": "mnist"}), data_note({"mnist": "garments"})
    ('', ' [measured with garments, not mnist: numbers are not comparable]')
    """
    missing = [asked for asked, got in used.items() if asked != got]
    if not missing:
        return ""
    stand_ins = dict.fromkeys(used[asked] for asked in missing)
    return f" [measured with {', '.join(stand_ins)}, not {', '.join(missing)}: numbers are not comparable]"


def _json_value(value: Any) -> Any:
    """NumPy's numbers as Python's, all the way down."""
    if isinstance(value, Mapping):
        return {str(name): _json_value(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(inner) for inner in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value if isinstance(value, (str, bool, int, float, type(None))) else str(value)


# 3. What is printed ---


def show(value: Any) -> str:
    """A number with four digits, anything else as it is; | would end a cell of a table.

    >>> show(0.8712345), show("0.87 ± 0.01"), show(60)
    ('0.8712', '0.87 ± 0.01', '60')
    """
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def findings_lines(findings: Findings) -> list[str]:
    """Measured beside published, and the verdict."""
    names = list(dict.fromkeys([*findings.measured, *findings.published]))
    table = [("", "measured", "published")]
    table += [
        (name, show(findings.measured.get(name, "")), show(findings.published.get(name, "")))
        for name in names
    ]
    widths = [min(max(len(row[column]) for row in table), 56) for column in range(2)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in table]
    return [*lines, f"verdict: {findings.verdict}"]
