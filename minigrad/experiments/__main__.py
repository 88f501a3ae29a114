"""The command: `python -m minigrad.experiments NAME`, `all`, or `report`.

The exit code is 0 if all went well, whatever the verdicts; 2 for a bad value or an experiment that failed (one
line on stderr says why); 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from minigrad.backend.memory import keep_freed_memory
from minigrad.errors import MinigradError
from minigrad.experiments import registry
from minigrad.experiments.bar import BarProgress
from minigrad.experiments.report import write_page
from minigrad.experiments.runner import run
from minigrad.train import Parser

__all__ = ["main"]

USAGE = """python -m minigrad.experiments NAME [NAME ...] [options]
       python -m minigrad.experiments report [--out-dir DIR] [--docs DIR]"""
FULL, QUICK = "runs/experiments", "runs/experiments-quick"


def build_parser() -> Parser:
    """All options, with their help."""
    parser = Parser(
        prog="python -m minigrad.experiments",
        usage=USAGE,
        description="Put claims about batch normalisation to the test. An interrupted experiment goes on where "
        "it was when it is started again.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="experiments, or all; or report, which writes the documentation's page of results",
    )
    parser.add_argument("--list", action="store_true", help="list the experiments, and stop")
    parser.add_argument(
        "--quick", action="store_true", help="small setting: to see that it runs, not to believe"
    )
    parser.add_argument(
        "--out-dir", metavar="DIR", help=f"folder for the files (default: {FULL}, and {QUICK} with --quick)"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the data sets (default: MINIGRAD_DATA, cache, download)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="measure everything anew, even what is there already"
    )
    parser.add_argument(
        "--docs", metavar="DIR", default="docs", help="folder of the documentation (default: docs)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; `arguments` default to those of the process. Returns the exit code, or exits with it."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    keep_freed_memory()
    try:
        return _act(parser, chosen)
    except KeyboardInterrupt:
        parser.exit(
            130, "interrupted; the cases that were done are kept, and the same command goes on from there\n"
        )
    except MinigradError as error:
        parser.error(str(error))
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, for one
        parser.error(f"{error.filename or 'file'}: {error.strerror or error}")


def _act(parser: Parser, chosen: Any) -> int:
    if chosen.list:
        print_list()
        return 0
    out_dir = chosen.out_dir or (QUICK if chosen.quick else FULL)
    if chosen.names == ["report"]:
        write_page(out_dir, chosen.docs)
        return 0
    if not chosen.names:
        print_list()
        parser.error("which experiment? choose one of the names above, or all")
    names = registry.names() if chosen.names == ["all"] else chosen.names
    experiments = [registry.get(name) for name in names]  # before the first one begins
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    verdicts = []
    started = time.perf_counter()
    for experiment in experiments:
        outcome = run(
            experiment,
            out_dir,
            quick=chosen.quick,
            data_dir=chosen.data_dir,
            fresh=chosen.fresh,
            progress=BarProgress() if terminal else None,
            say=_say,
        )
        verdicts.append((experiment.name, outcome.findings.verdict))
    if len(verdicts) > 1:
        _say(f"{len(verdicts)} experiments in {time.perf_counter() - started:.0f} s")
        for name, verdict in verdicts:
            _say(f"  {name:<15} {verdict}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def print_list() -> None:
    """Names and questions."""
    for name in registry.names():
        print(f"  {name:<15} {registry.get(name).title}")


if __name__ == "__main__":
    sys.exit(main())
