"""What an experiment is made of: its recipe, its cases, the table of what was measured, and the findings.

    Experiment   a claim, and the four functions that put it to the test
    Case         one unit of the work, such as "with batch norm, seed 0"
    Table        rows of numbers, one observation a row
    Findings     measured beside published, and whether the claim held

An experiment is one file: `cases` lists the work, `measure` does one case and returns rows, `judge` reads the
rows, `draw` makes the figure. `judge` and `draw` see nothing but recipe and rows, so they can be done again
without training anything.

Next: `context.py`, what `measure` is handed; `training.py`, helpers for experiments; `runner.py`, which runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, DataError
from minigrad.experiments.context import Context

__all__ = ["Case", "Context", "Experiment", "Findings", "Row", "Table"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One unit of work; its rows are saved when it is done.

    >>> case = Case("with batch norm, seed 0", {"bn": True, "seed": 0})
    >>> case["bn"]
    True
    """

    label: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]


class Table:
    """Rows, each a dict of str, int or float; rows of different kinds may lack one another's columns.

    Attributes:
        rows: as they are in the CSV file.
        timings: seconds by name, from `Context.time`; not in the CSV file, for they differ from run to run.

    >>> table = Table([{"bn": True, "acc": 0.9}, {"bn": False, "acc": 0.7}, {"bn": True, "acc": 0.8}])
    >>> table.where(bn=True).column("acc").tolist()
    [0.9, 0.8]
    >>> [(bn, len(part)) for (bn,), part in table.groups("bn")]
    [(True, 2), (False, 1)]
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]] = (), timings: Mapping[str, float] | None = None
    ) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]
        self.timings: dict[str, float] = dict(timings or {})

    def where(self, **equal: Any) -> Table:
        """The rows whose columns have these values; a row without the column does not match."""
        return Table(
            row
            for row in self.rows
            if all(name in row and row[name] == value for name, value in equal.items())
        )

    def column(self, name: str) -> np.ndarray:
        """The values of one column, as an array (rows,).

        Raises:
            DataError: a row does not have it.
        """
        missing = next((row for row in self.rows if name not in row), None)
        if missing is not None:
            raise DataError(f"Table: no column {name!r} in the row with {', '.join(missing)}")
        return np.array([row[name] for row in self.rows])

    def values(self, name: str) -> list[Any]:
        """The different values of one column, in the order of their first appearance."""
        return list(dict.fromkeys(row[name] for row in self.rows if name in row))

    def groups(self, *names: str) -> Iterator[tuple[tuple[Any, ...], Table]]:
        """(values, rows that have them) for each combination of values of these columns that occurs."""
        parts: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            if all(name in row for name in names):
                parts.setdefault(tuple(row[name] for name in names), []).append(row)
        for key, rows in parts.items():
            yield key, Table(rows)

    def columns(self) -> list[str]:
        """The names of all columns, in the order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.columns())})"


@dataclass(frozen=True)
class Findings:
    """What came out.

    Attributes:
        measured: numbers under names that can be read, with their spread where there are several seeds.
        published: what the source says, under the same names where it can be compared.
        held: whether the claim held; None: in part, or undecided.
        verdict: one line, measured beside published: "held: ...", "did not hold: ...", "held in part: ...".
    """

    measured: dict[str, Any]
    published: dict[str, Any]
    held: bool | None
    verdict: str

    def __post_init__(self) -> None:
        if "\n" in self.verdict or not self.verdict:
            raise ArgumentError("Findings: the verdict must be one line")


@dataclass(frozen=True)
class Experiment:
    """A claim and how it is put to the test.

    Attributes:
        name: as the command line takes it.
        title: the question, above the figure's section in the documentation.
        claim: one or two sentences: what the source says.
        source: paper or text, with section and figure.
        full: the recipe, a frozen dataclass of all settings, whose results the documentation shows.
        quick: the same with small numbers; done in seconds.
        cases: the work, in a fixed order.
        measure: the rows of one case: plain numbers and strings, and no times, for the same seed has to give
            the same rows; times go to `Context.time`.
        judge, draw: from the rows alone to findings and to a matplotlib Figure.
        text: a paragraph for the documentation, Markdown: what is seen and what it means.
    """

    name: str
    title: str
    claim: str
    source: str
    full: Any
    quick: Any
    cases: Callable[[Any], list[Case]]
    measure: Callable[[Any, Case, Context], list[Row]]
    judge: Callable[[Any, Table], Findings]
    draw: Callable[[Any, Table, Findings], Any]
    text: str = ""
