"""The benchmarks: how ratios are formed, and what whole processes took.

`test_benchmarks_page.py` goes on with the contestants, the page and the script.

Nothing here says who is faster: sizes are tiny and the machine may be busy.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import Contestant, Pace, Ratio, Timing, interleave, ratio
from minigrad.data.garments import garments
from minigrad.data.idx import write_idx

ROOT = Path(__file__).resolve().parents[1]


def command(*arguments, **environment):
    """A finished process of this interpreter, in the root of the repository."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


# 1. Timing -------------------------------------------------------------------------------------------------


class Clock:
    """Stands in for the module `time`; it moves when somebody works or sleeps."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def worker(clock, name, seconds, log):
    """A contestant whose steps take the given seconds, one after the other, and begin again."""
    seconds = itertools.cycle(seconds)

    def step():
        log.append(name)
        clock.now += next(seconds)

    return Contestant(name, step, lambda: log.append(f"prepare {name}"))


def test_ratio_is_taken_round_by_round():
    """A machine that slows down for everybody leaves the ratio alone."""
    found = ratio(Timing("theirs", (3.0, 30.0, 6.0)), Timing("ours", (1.0, 10.0, 1.5)))
    assert found == Ratio(3.0, 3.0, 4.0)
    assert str(found) == "3.00 (3.00 to 4.00)"
    with pytest.raises(ValueError, match="longer"):
        ratio(Timing("theirs", (1.0,)), Timing("ours", (1.0, 2.0)))


def test_interleave(clock):
    log = []
    people = [worker(clock, name, [seconds], log) for name, seconds in (("a", 0.25), ("b", 0.5), ("c", 1.0))]
    found = interleave(people, Pace(rounds=4, block=0.001, settle=0.0, budget=1e9))
    assert [(t.name, t.rounds) for t in found] == [("a", (0.25,) * 4), ("b", (0.5,) * 4), ("c", (1.0,) * 4)]
    prepared = [entry[-1] for entry in log if entry.startswith("prepare")]
    assert "".join(prepared[3:]) == "abcbcacababc"  # everybody is first once in a while


def test_a_block_counts_by_its_median(clock):
    """Of five steps; those that warm up do not count, and one slow step does not either."""
    log = []
    # warm-up and estimate: 1 + 4 steps; a block: 1 step that does not count (a settle of 0), then 5
    people = [worker(clock, "a", [1.0] * 5 + [50.0] + [1.0, 3.0, 2.0, 90.0, 1.5], log)]
    (found,) = interleave(people, Pace(rounds=1, least_rounds=1, block=5.0, settle=0.0, budget=1e9))
    assert found.rounds == (2.0,)
    assert log.count("a") == 11


def test_long_steps_are_not_repeated(clock):
    """One to know how long it takes, and one for each round."""
    log = []
    (found,) = interleave([worker(clock, "a", [30.0], log)], Pace(rounds=7, least_rounds=3, budget=20))
    assert found.rounds == (30.0,) * 3
    assert log.count("a") == 1 + 3


@pytest.mark.parametrize(("budget", "rounds"), [(1e9, 9), (5.5, 5), (0.1, 3)])
def test_the_budget_shortens_long_measurements(clock, budget, rounds):
    log = []
    pace = Pace(rounds=9, least_rounds=3, block=0.1, settle=0.0, budget=budget)
    (found,) = interleave([worker(clock, "a", [1.0], log)], pace)
    assert len(found.rounds) == rounds


# 2. Processes ----------------------------------------------------------------------------------------------


def measured(*arguments):
    run = command("-m", "benchmarks.measured", sys.executable, *arguments)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_peak_memory_and_time_of_a_command():
    """100 MB that are written to must show, also after they have been given back; so must a pause."""
    small = measured("-c", "print('hello')")
    large = measured("-c", "import time; x = b'x' * 100_000_000; del x; time.sleep(0.25)")
    assert 90e6 < large["peak_bytes"] - small["peak_bytes"] < 130e6
    assert small["peak_bytes"] < 60e6
    assert large["seconds"] >= 0.25
    assert set(large) == {"seconds", "peak_bytes"}


def test_peak_memory_is_not_that_of_who_asks():
    """This process has far more memory than a bare interpreter; it must not be counted."""
    ballast = np.ones(150_000_000, dtype=np.uint8)
    small = measured("-c", "pass")
    assert small["peak_bytes"] < ballast.nbytes / 2


def test_a_command_that_fails():
    run = command("-m", "benchmarks.measured", sys.executable, "-c", "import sys; sys.exit(3)")
    assert run.returncode != 0
    assert "ended with 3" in run.stderr
    assert run.stdout == ""


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory):
    """IDX files of a few drawn garments under the published names, two of them compressed."""
    folder = tmp_path_factory.mktemp("idx")
    for part, train, ending in (("train", True, ".gz"), ("t10k", False, "")):
        images, labels = garments(train, 300 if train else 100, seed=0)
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", labels.astype(np.uint8))
    return folder


@pytest.mark.slow
def test_the_pytorch_script_trains(torch, idx_folder, tmp_path):
    run = command(
        *("benchmarks/torch_lenet.py", "--data-dir", idx_folder, "--epochs", 2, "--batch-size", 32),
        *("--threads", 1, "--lr", 0.5, "--output", tmp_path),
    )
    assert run.returncode == 0, run.stderr
    figures = [list(map(float, re.findall(r"\d+\.\d+", line))) for line in run.stdout.splitlines()]
    assert [line.split()[:2] for line in run.stdout.splitlines()] == [["epoch", "1/2"], ["epoch", "2/2"]]
    (loss, accuracy, _), (later_loss, later_accuracy, _) = figures
    assert later_loss < loss
    assert later_accuracy > accuracy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "state.pt"]
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {name: tuple(value.shape) for name, value in weights.items() if name.startswith("0.")} == {
        "0.weight": (6, 1, 5, 5),
        "0.bias": (6,),
    }


def test_the_pytorch_script_reads_what_minigrad_reads(torch, idx_folder):
    from benchmarks.torch_lenet import batch_of, read_idx
    from minigrad.data import ArrayDataset, DataLoader

    images, labels = (read_idx(idx_folder, f"t10k-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    X, y = batch_of(images, labels, np.arange(10))
    ((ours, our_labels),) = DataLoader(ArrayDataset(images[:10], labels[:10]), 10)
    np.testing.assert_array_equal(X.numpy(), ours.numpy())
    np.testing.assert_array_equal(y.numpy(), our_labels.numpy())
    np.testing.assert_array_equal(read_idx(idx_folder, "train-images-idx3-ubyte"), garments(True, 300)[0])


@pytest.mark.slow
def test_whole_runs(torch):
    if not os.environ.get("MINIGRAD_DATA"):
        pytest.skip("MINIGRAD_DATA does not name a folder with Fashion-MNIST")
    from benchmarks.processes import whole_runs
    from minigrad import data

    bundle = data.load("fashion_mnist", train_size=1)
    found = whole_runs(bundle.origin, bundle.name, epochs=1, threads=1, repetitions=1, limit=500)
    assert found.what == "lenet_bn, 1 epoch on 500 pictures, 1 thread"
    assert len(found.minigrad) == len(found.torch) == 1
    assert all(run.seconds > 0 and run.peak_bytes > 1e7 for run in (*found.minigrad, *found.torch))
    assert found.seconds().median == found.torch[0].seconds / found.minigrad[0].seconds
    assert found.memory().median == found.torch[0].peak_bytes / found.minigrad[0].peak_bytes


def test_a_training_that_fails_says_why(torch, tmp_path):
    from benchmarks.processes import whole_runs

    with pytest.raises(RuntimeError, match=r"minigrad.train .* failed(.|\n)*does not exist"):
        whole_runs(str(tmp_path / "nowhere"), "fashion_mnist", epochs=1, threads=1, repetitions=1)
