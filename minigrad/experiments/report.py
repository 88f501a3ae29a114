"""docs/results.md, from the files that the experiments have left.

    python -m minigrad.experiments all
    python -m minigrad.experiments report --docs docs

What stands on the page comes from three places: the numbers, verdicts, seeds and times from NAME.json; how it
was measured and how to read the figure from the docstring of the experiment's module; and what to make of the
result from `Experiment.text`. The figures are the SVG files, copied.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigrad.errors import DataError
from minigrad.experiments import registry
from minigrad.experiments.runner import make_folder, show, write_text
from minigrad.experiments.study import Experiment

__all__ = ["page", "write_page"]

FIGURES = "figures/results"  # below the documentation's folder
LARGE = 300_000  # bytes; a page with sixteen of them would load slowly
VERDICTS = {True: "held", False: "did not hold", None: "in part"}

TOP = """% Written by `python -m minigrad.experiments report`; what is edited here is lost.

# Results

Claims about batch normalisation, from the paper that introduced it, from later ones and from the tutorial, each
measured again with minigrad. `python -m minigrad.experiments NAME` repeats one of them, and
`python -m minigrad.experiments all` (or `make experiments`) all of them; `--quick` runs a small setting that shows
that everything works, and proves nothing. What would count as holding is written in each experiment's `judge`.

"""


def write_page(out_dir: str | os.PathLike[str], docs: str | os.PathLike[str]) -> Path:
    """Writes DOCS/results.md and copies the figures; returns the path of the page.

    Raises:
        DataError: no experiment has left its files in `out_dir`, or one of them was quick.
    """
    source, target = Path(out_dir), Path(docs)
    summaries = read_summaries(source)
    make_folder(target / FIGURES)
    for name in summaries:
        picture = (source / f"{name}.svg").read_text(encoding="utf-8")
        write_text(target / FIGURES / f"{name}.svg", picture)
        if len(picture) > LARGE:
            print(f"{name}.svg has {len(picture) // 1000} kB, more than {LARGE // 1000}: draw fewer points")
    path = target / "results.md"
    write_text(path, page(summaries))
    missing = [name for name in registry.names() if name not in summaries]
    print(
        f"{path}: {len(summaries)} experiments" + (f"; not run yet: {', '.join(missing)}" if missing else "")
    )
    return path


def read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """What each experiment has left, in the order of the registry."""
    found = {}
    for name in registry.names():
        path = folder / f"{name}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                raise DataError(f"{path} is damaged; run the experiment again") from None
    if not found:
        raise DataError(
            f"no experiment has left its results in {folder}; run python -m minigrad.experiments all first"
        )
    quick = [name for name, summary in found.items() if summary["setting"] != "full"]
    if quick:
        raise DataError(
            f"the page shows full settings only, and in {folder} these are quick: {', '.join(quick)}"
        )
    return found


def page(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page, Markdown."""
    total = sum(summary["seconds"] for summary in summaries.values())
    versions = next(iter(summaries.values()))["versions"]
    cores = sorted({summary["cores"] for summary in summaries.values()})
    lines = [
        f"This page: minigrad {versions['minigrad']}, NumPy {versions['numpy']}, Python {versions['python']}, "
        f"{' or '.join(str(n) for n in cores)} cores, {_minutes(total)} in all.",
        "",
        "| experiment | the claim | verdict |",
        "| --- | --- | --- |",
    ]
    for name, summary in summaries.items():
        held = VERDICTS[summary["held"]]
        lines.append(f"| [`{name}`](#{name}) | {_cell(summary['claim'])} | {held} |")
    sections = [section(registry.get(name), summary) for name, summary in summaries.items()]
    return TOP + "\n".join(lines) + "\n\n" + "\n".join(sections)


def section(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """One experiment."""
    name = experiment.name
    measured, published = summary["measured"], summary["published"]
    rows = list(dict.fromkeys([*measured, *published]))
    seeds = ", ".join(str(seed) for seed in summary["seeds"]) or "none"
    parts = [
        f"({name})=\n## {experiment.title}",
        f"**Claim.** {experiment.claim} ({experiment.source})",
        f"**Verdict.** {_sentence(summary['verdict'])}",
        f"```{{image}} {FIGURES}/{name}.svg\n:alt: {_alt(experiment, summary)}\n:width: 100%\n```",
        experiment.text.strip(),
        f"**How it was measured.** {measured_how(experiment)}",
        "\n".join([
            "| | measured | published |",
            "| --- | --- | --- |",
            *(f"| {_cell(row)} | {_cell(measured.get(row, ''))} | {_cell(published.get(row, ''))} |" for row in rows),
        ]),
        f"`python -m minigrad.experiments {name}` · data: {summary['dataset']} · seeds: {seeds} · "
        f"{_minutes(summary['seconds'])}",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def measured_how(experiment: Experiment) -> str:
    """The module's docstring without its first line, as Markdown: indented lines become blocks of text."""
    docstring = inspect.getdoc(sys.modules[experiment.measure.__module__]) or ""
    _, _, body = docstring.partition("\n")
    blocks = []
    for block in body.strip().split("\n\n"):
        indented = all(line.startswith("    ") for line in block.split("\n"))
        blocks.append(f"```text\n{textwrap.dedent(block)}\n```" if indented else block)
    return "\n\n".join(blocks)


def _alt(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    return f"{experiment.title} {summary['verdict']}".replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _cell(value: Any) -> str:
    return show(value).replace("|", "\\|")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
