"""Ends with an error unless a folder has the results of every experiment: python .ci/check_experiments.py FOLDER."""

import csv
import json
import sys
from pathlib import Path

from minigrad.experiments import registry


def complaints(folder: Path) -> list[str]:
    found = []
    for name in registry.names():
        for ending in ("csv", "json", "png", "svg"):
            path = folder / f"{name}.{ending}"
            if not path.is_file() or path.stat().st_size == 0:
                found.append(f"{path} is missing or empty")
    for name in registry.names() if not found else []:
        with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
            if not list(csv.DictReader(file)):
                found.append(f"{name}: the table has no rows")
        findings = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        if not findings["verdict"] or not findings["measured"]:
            found.append(f"{name}: no verdict, or nothing measured")
    return found


if __name__ == "__main__":
    wrong = complaints(Path(sys.argv[1]))
    print("\n".join(wrong) or f"{len(registry.names())} experiments left their results")
    sys.exit(1 if wrong else 0)
