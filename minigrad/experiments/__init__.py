"""The evidence: what batch norm does, measured again. `python -m minigrad.experiments NAME`.

Each experiment takes a claim from the literature, measures, and says in one line whether it held. It leaves a
figure (PNG and SVG), a CSV of what was measured and a JSON of the findings.

    python -m minigrad.experiments --list
    python -m minigrad.experiments figure1
    python -m minigrad.experiments all --quick

All of them use the public API, each in one short file of its name. Reading order: `study.py` (what an
experiment is made of), `context.py`, `training.py`, then any experiment, such as `figure1.py`; and `runner.py`
and `report.py`, which run them and write the documentation's page of results.
"""

from minigrad.experiments.registry import get, names
from minigrad.experiments.runner import Outcome, run
from minigrad.experiments.study import Case, Context, Experiment, Findings, Table

__all__ = ["Case", "Context", "Experiment", "Findings", "Outcome", "Table", "get", "names", "run"]
