"""The training command: `python -m minigrad.train lenet_bn`.

This file reads the command line and prints; what is done is `minigrad.training.run`. The exit code is 0 if
all went well, 2 for a bad value or a run that failed (one line on stderr says why), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from minigrad._version import __version__
from minigrad.backend.memory import keep_freed_memory
from minigrad.data import NAMES
from minigrad.errors import MinigradError
from minigrad.models import registry
from minigrad.training import (
    EDITIONS,
    BarReport,
    LineReport,
    Report,
    RunInterrupted,
    Settings,
    evaluate_weights,
    resume,
    run,
)
from minigrad.training.editions import DEFAULT_EDITION
from minigrad.training.settings import OPTIMIZERS, RESUMABLE

__all__ = ["main"]

USAGE = """python -m minigrad.train MODEL [options]
       python -m minigrad.train --resume RUN [options]"""
EXAMPLES = """examples:
  python -m minigrad.train lenet_bn                          the tutorial's run: 10 epochs on Fashion-MNIST
  python -m minigrad.train lenet_bn --population-statistics  and a second look at its test accuracy
  python -m minigrad.train lenet --edition 1.0 --epochs 3    another model, another edition, shorter
  python -m minigrad.train lenet_bn --epochs 1 --limit 5000  a quick try
  python -m minigrad.train --resume runs/lenet_bn-20261121-101500 --epochs 20
  python -m minigrad.train lenet_bn --weights model.safetensors --eval-only
"""

# Options that say how to train and what to write: a test of saved weights has no use for them.
NOT_WITH_EVAL_ONLY = ("epochs", "lr", "optimizer", "output", "plot")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def build_parser() -> Parser:
    """All options, with their help."""
    parser = Parser(
        prog="python -m minigrad.train",
        usage=USAGE,
        description="Train one of minigrad's models, and keep weights, figures and curves in a folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given is not there: Settings has the defaults
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="name of a model; --list shows them")
    parser.add_argument("--list", action="store_true", help="list models and editions, and stop")
    parser.add_argument(
        "--version",
        action="version",
        version=f"minigrad {__version__}",
        help="print minigrad's version, and stop",
    )

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--edition",
        metavar="NAME",
        help=f"published variant of the recipe: {', '.join(EDITIONS)} (default: {DEFAULT_EDITION})",
    )
    recipe.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the data (default: the edition's)"
    )
    recipe.add_argument(
        "--lr", type=float, metavar="RATE", help="learning rate (default: edition's or model's)"
    )
    recipe.add_argument(
        "--batch-size", type=int, metavar="N", help="examples in a step (default: the edition's)"
    )
    recipe.add_argument(
        "--optimizer",
        metavar="NAME",
        help=f"{' or '.join(OPTIMIZERS)} (default: sgd; adam has a learning rate of 0.001)",
    )
    recipe.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the weights and of the order of the examples (default: 0)",
    )
    recipe.add_argument(
        "--weights", metavar="FILE", help="start from these weights (safetensors), not from random ones"
    )
    recipe.add_argument(
        "--population-statistics",
        action="store_true",
        help="at the end, measure the statistics of batch norm on the whole training set and report the test "
        "accuracy with them, too",
    )

    pictures = parser.add_argument_group("data")
    pictures.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"{', '.join(NAMES)} (default: auto, which is Fashion-MNIST if it can be had, else garments "
        "drawn by code)",
    )
    pictures.add_argument(
        "--data-dir", metavar="DIR", help="folder with the files (default: MINIGRAD_DATA, cache, download)"
    )
    pictures.add_argument(
        "--limit", type=int, metavar="N", help="use the first N training pictures and at most N test pictures"
    )

    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    machine.add_argument(
        "--threads", type=int, metavar="N", help="threads to calculate with (default: all cores)"
    )
    machine.add_argument(
        "--no-compile",
        dest="compile",
        action="store_false",
        help="run layer by layer, not with fused operations (slower; the results agree to float precision)",
    )

    output = parser.add_argument_group("output")
    output.add_argument("--output", metavar="DIR", help="make the run's folder in DIR (default: runs)")
    output.add_argument(
        "--resume", metavar="RUN", help="go on with the run in this folder, after its last finished epoch"
    )
    output.add_argument("--eval-only", action="store_true", help="only test the weights given by --weights")
    output.add_argument("--no-plot", dest="plot", action="store_false", help="draw no curves.png")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; `arguments` default to those of the process. Returns the exit code, or exits with it."""
    parser = build_parser()
    chosen = vars(parser.parse_args(arguments))
    if chosen.pop("list", False):
        print_list()
        return 0
    quiet = chosen.pop("quiet", False)
    keep_freed_memory()
    try:
        return _act(parser, chosen, _report(quiet))
    except RunInterrupted as interrupt:
        parser.exit(130, f"{_interrupted(interrupt)}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    except MinigradError as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        parser.error(f"{error}{notes}")
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, for one
        parser.error(f"{error.filename or 'file'}: {error.strerror or error}")


def _act(parser: Parser, chosen: dict[str, Any], report: Report) -> int:
    run_folder = chosen.pop("resume", None)
    eval_only = chosen.pop("eval_only", False)
    if run_folder is not None:
        for name in sorted(set(chosen) - set(RESUMABLE)):
            parser.error(
                f"{_spelled(name)} cannot be given with --resume: the run goes on with its own settings"
            )
        if eval_only:
            parser.error("--eval-only cannot be given with --resume; use --weights")
        resume(run_folder, report, **chosen)
        return 0
    if "model" not in chosen:
        if not isinstance(report, LineReport):
            parser.error("which model? --list shows them")
        print_list()
        parser.error("which model? choose one of the names above")
    settings = Settings(**chosen)
    if not eval_only:
        run(settings, report)
        return 0
    for name in sorted(set(chosen) & set(NOT_WITH_EVAL_ONLY)):
        parser.error(f"{_spelled(name)} cannot be given with --eval-only: nothing is trained or written")
    if settings.weights is None:
        parser.error("--eval-only needs --weights FILE")
    found = evaluate_weights(settings, report)
    report.lines(found.summary())
    return 0


def _spelled(name: str) -> str:
    """A setting as the command line writes it."""
    if name == "model":
        return "MODEL"
    no = "no-" if name in ("compile", "plot") else ""
    return f"--{no}{name.replace('_', '-')}"


def _report(quiet: bool) -> Report:
    if quiet:
        return Report()
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return BarReport() if terminal else LineReport()


def _interrupted(interrupt: RunInterrupted) -> str:
    result = interrupt.result
    epochs = len(result.history)
    if not epochs:
        return f"interrupted in the first epoch: the weights of this moment are in {result.folder}"
    return (
        f"interrupted after {epochs} finished epoch{'' if epochs == 1 else 's'}: "
        f"weights and figures are in {result.folder}\ngo on with: python -m minigrad.train --resume {result.folder}"
    )


def print_list() -> None:
    """Models with their learning rates, and editions."""
    print("models:")
    for info in registry.MODELS.values():
        print(f"  {info.name:<18} {info.description} (learning rate {info.lr:g})")
    print("editions (--edition):")
    for recipe in EDITIONS.values():
        default = ", the default" if recipe.name == DEFAULT_EDITION else ""
        print(f"  {recipe.name:<18} {recipe.describe()}{default}")


if __name__ == "__main__":
    sys.exit(main())
