"""minigrad against PyTorch on the CPU; `make bench` runs it and it writes docs/benchmarks/cpu.md.

    python -m benchmarks.cpu                                     all of it, 15 to 20 minutes on two cores
    python -m benchmarks.cpu --quick --output /tmp/cpu.md        a first look, two minutes
    python -m benchmarks.cpu --models lenet_bn --batch 256 --threads 1 --epochs 0 --output /tmp/cpu.md

Read `contestants.py` (who does what in a step), `timing.py` (how it is timed) and `processes.py` (whole
processes). Run it on a machine that does nothing else: the ratios bear some disturbance, the times do not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

try:
    import torch  # noqa: F401
except ImportError:
    sys.exit("benchmarks.cpu: PyTorch is missing; `make bench` installs it, or: pip install '.[bench]'")

from benchmarks import contestants, machine, page, processes
from benchmarks.contestants import CAN_COMPILE, MODELS, Batch, Case
from benchmarks.timing import Pace, interleave
from minigrad import data
from minigrad.backend.memory import keep_freed_memory

NO_COMPILE = "minigrad.compile is missing in this version: only the plain path is measured"
TORCH_COMPILE_BATCH = 256
BATCHES = 8  # different ones, taken in turns

FULL = {"batch": [32, 256, 1024], "rounds": 7, "epochs": 10, "repetitions": 2, "import_runs": 11}
QUICK = {"batch": [256], "rounds": 3, "epochs": 1, "repetitions": 1, "import_runs": 3, "torch_compile": False}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu", description="minigrad and PyTorch side by side on the CPU"
    )
    cores = machine.usable_cores()
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--batch", nargs="+", type=positive, metavar="N", help="default: 32 256 1024")
    parser.add_argument(
        "--threads", nargs="+", type=positive, metavar="N", help=f"default: 1 and all, here {cores}"
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="default: 7")
    parser.add_argument(
        "--no-torch-compile", dest="torch_compile", action="store_false", default=None,
        help=f"leave torch.compile out; else it takes part at batch {TORCH_COMPILE_BATCH}",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, metavar="N", help="of the whole runs; 0: none (default: 10)")
    parser.add_argument("--limit", type=positive, metavar="N", help="pictures of the whole runs")
    parser.add_argument("--repetitions", type=positive, metavar="N", help="of the whole runs (default: 2)")
    parser.add_argument("--import-runs", type=int, metavar="N", help="0: none (default: 11)")
    parser.add_argument("--dataset", choices=data.NAMES, default="auto", help="default: auto")
    parser.add_argument("--data-dir", metavar="DIR", help="default: MINIGRAD_DATA, cache, download")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/cpu.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    for name, value in {**FULL, "torch_compile": True, **(QUICK if options.quick else {})}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.threads = sorted(set(options.threads or (1, cores)))
    options.models = [name for name in MODELS if name in options.models]  # in one order, however asked for
    options.batch = sorted(set(options.batch))
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.perf_counter()
    options = parse(arguments)
    keep_freed_memory()  # for everybody here, as the trainer does it for itself
    command = ["python -m benchmarks.cpu", *(sys.argv[1:] if arguments is None else arguments)]
    bundle = data.load(options.dataset, options.data_dir, train_size=_pictures_needed(options))
    report = page.Report(
        " ".join(command), time.strftime("%Y-%m-%d %H:%M"), machine.describe(), _pictures(bundle, options)
    )
    if not CAN_COMPILE:
        say(NO_COMPILE)
        report.remarks.append(NO_COMPILE)
    measure_imports(options, report)
    measure_whole_runs(options, report, bundle)
    for case in cases(options):
        measure(case, options, report, bundle.train)
    report.minutes = (time.perf_counter() - started) / 60
    page.write(options.output, report)
    say(f"{options.output} written after {report.minutes:.1f} minutes")


def say(text: str) -> None:
    print(text, flush=True)


# 1. Steps ---


def cases(options: argparse.Namespace) -> list[Case]:
    """All comparisons in the order of the page's tables."""
    return [
        Case(model, batch, threads, training)
        for training in (True, False)
        for threads in options.threads
        for model in options.models
        for batch in options.batch
    ]


def measure(
    case: Case, options: argparse.Namespace, report: page.Report, pictures: data.ArrayDataset
) -> None:
    """One comparison: told in a line, kept in the report."""
    wanted = options.torch_compile and case.batch_size == TORCH_COMPILE_BATCH
    people = contestants.build(case, make_batches(case, pictures), wanted)
    people, reason = contestants.first_step(people)
    if reason:
        options.torch_compile = False  # it would fail in every case
        report.remarks.append(f"torch.compile did not work here ({reason}).")
        say(report.remarks[-1])
    result = page.CaseResult(case, tuple(interleave(people, Pace(rounds=options.rounds))))
    report.cases.append(result)
    times = ", ".join(f"{timing.name} {1e3 * timing.median:.2f} ms" for timing in result.timings)
    ratios = ", ".join(f"{name} {value}" for name, value in result.ratios().items())
    say(f"{case}: {times}\n    ratios: {ratios}")


def make_batches(case: Case, pictures: data.ArrayDataset) -> list[Batch]:
    """Pictures as bytes and their labels; random bytes for a model that takes other shapes than 28 x 28."""
    rng = np.random.default_rng(0)
    n, shape = case.batch_size, MODELS[case.model].input_shape
    if shape != (1, 28, 28):
        return [
            (rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n))
            for _ in range(BATCHES)
        ]
    order = rng.permutation(BATCHES * n) % len(pictures)
    chosen = [order[start : start + n] for start in range(0, BATCHES * n, n)]
    return [(pictures.images[rows], pictures.labels[rows]) for rows in chosen]


def _pictures_needed(options: argparse.Namespace) -> int:
    return BATCHES * max(options.batch)


def _pictures(bundle: data.DataBundle, options: argparse.Namespace) -> str:
    others = [name for name in options.models if MODELS[name].input_shape != (1, 28, 28)]
    return bundle.title + (f"; random bytes for {', '.join(others)}" if others else "")


# 2. Processes ---


def measure_imports(options: argparse.Namespace, report: page.Report) -> None:
    if options.import_runs < 1:
        return
    report.imports = processes.import_times(options.import_runs)
    say("import: " + ", ".join(f"{t.name} {1e3 * t.median:.0f} ms" for t in report.imports))


def measure_whole_runs(options: argparse.Namespace, report: page.Report, bundle: data.DataBundle) -> None:
    """Before the steps: the machine is as cool as it was for a user who types the command."""
    if options.epochs < 1:
        return
    if bundle.name == "garments":
        reason = (
            "No whole runs: they need the files of Fashion-MNIST, which both can read; set MINIGRAD_DATA."
        )
        report.remarks.append(reason)
        say(reason)
        return
    report.runs = processes.whole_runs(
        bundle.origin, bundle.name, options.epochs, max(options.threads), options.repetitions, options.limit
    )
    say(f"{report.runs.what}: ratio of times {report.runs.seconds()}, of peak memory {report.runs.memory()}")


if __name__ == "__main__":
    main()
