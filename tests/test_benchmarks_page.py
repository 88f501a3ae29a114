"""The benchmarks, second part: everybody computes the same, what the page looks like, the script.

Nothing here says who is faster: sizes are tiny and the machine may be busy.
"""

import doctest
import os
import re

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import Contestant, Timing
from tests.test_benchmarks import command


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


# 1. Contestants --------------------------------------------------------------------------------------------


@pytest.fixture
def threads(torch):
    """What set_threads changes, put back afterwards."""
    import threadpoolctl

    import minigrad as mg

    before = torch.get_num_threads(), mg.get_num_threads()
    with threadpoolctl.threadpool_limits():
        yield
    torch.set_num_threads(before[0])
    mg.set_num_threads(before[1])


def batches(shape, n=6):
    rng = np.random.default_rng(0)
    shape = shape if shape[0] > 1 else shape[1:]
    return [(rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n)) for _ in range(2)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("model", ["lenet_bn", "lenet_bn_scratch", "lenet", "mlp_bn", "resnet8"])
def test_everybody_computes_the_same(model, training, threads):
    """The loss of the second step shows that the first update was the same, too."""
    from benchmarks.contestants import CHANNELS_LAST, COMPILED, EAGER, MODELS, PLAIN, Case, build, first_step

    case = Case(model, 6, 1, training)
    people = build(case, batches(MODELS[model].input_shape), torch_compile=False)
    expected = [COMPILED, PLAIN, EAGER, *([CHANNELS_LAST] if model != "mlp_bn" else [])]
    assert [person.name for person in people] == expected
    assert first_step(people) == (people, "")
    second = [np.asarray(person.step()) for person in people]
    for result in second[1:]:
        np.testing.assert_allclose(result, second[0], rtol=2e-3, atol=2e-3)


def test_a_contestant_that_computes_something_else(threads):
    from benchmarks.contestants import first_step

    people = [Contestant(name, lambda v=v: v, lambda: None) for name, v in (("one", 2.5), ("other", 2.6))]
    with pytest.raises(ValueError, match="one and other differ by 0.1"):
        first_step(people)


def test_torch_compile_may_be_missing(threads):
    """Others may not."""
    from benchmarks.contestants import TORCH_COMPILE, first_step

    def fail():
        raise RuntimeError("no C++ compiler\nand more")

    fine = Contestant("fine", lambda: 1.0, lambda: None)
    assert first_step([fine, Contestant(TORCH_COMPILE, fail, lambda: None)]) == (
        [fine],
        "RuntimeError: no C++ compiler",
    )
    with pytest.raises(RuntimeError, match="no C"):
        first_step([fine, Contestant("PyTorch", fail, lambda: None)])


def test_an_older_minigrad_is_measured_without_compile(threads, monkeypatch):
    from benchmarks import contestants

    monkeypatch.setattr(contestants, "CAN_COMPILE", False)
    case = contestants.Case("mlp_bn", 6, 1, True)
    people = contestants.build(case, batches((1, 28, 28)), torch_compile=False)
    assert [person.name for person in people] == [contestants.PLAIN, contestants.EAGER]


def test_threads(torch, threads):
    """Both frameworks, and NumPy's BLAS, have what was asked for."""
    import threadpoolctl

    import minigrad as mg
    from benchmarks.contestants import set_threads

    for number in (1, 2):
        set_threads(number)
        assert torch.get_num_threads() == mg.get_num_threads() == number
        pools = [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
        assert all(threads == min(number, os.cpu_count()) for threads in pools)


# 2. The page and the whole script ----------------------------------------------------------------------------


def made_up_report():
    from benchmarks import page
    from benchmarks.contestants import CHANNELS_LAST, COMPILED, EAGER, PLAIN, TORCH_COMPILE, Case
    from benchmarks.processes import Run, WholeRuns

    times = {COMPILED: (1e-3, 2e-3), PLAIN: (4e-3, 4e-3), EAGER: (6e-3, 6e-3), CHANNELS_LAST: (4e-3, 6e-3)}
    timings = [Timing(name, rounds) for name, rounds in times.items()]
    cases = [
        page.CaseResult(Case("lenet_bn", 256, 1, True), (*timings, Timing(TORCH_COMPILE, (8e-3, 8e-3)))),
        page.CaseResult(Case("mlp_bn", 32, 1, True), (timings[0], timings[1], timings[2])),
        page.CaseResult(Case("lenet_bn", 256, 2, False), tuple(timings)),
    ]
    imports = [Timing("numpy", (0.1, 0.1)), Timing("minigrad", (0.11, 0.12))]
    runs = WholeRuns("lenet_bn, 10 epochs, 2 threads", (Run(20, 2**27),), (Run(60, 2**29),))
    return page.Report(
        "python -m benchmarks.cpu", "2026-01-02 03:04", [("CPU", "a fast one")], "Fashion-MNIST",
        cases, imports, runs, ["something was left out"], 12.3,
    )  # fmt: skip


def test_the_page(torch):
    from benchmarks import page

    text = page.render(made_up_report())
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Speed on the CPU",
        "## Training, 1 thread",
        "## Inference, 2 threads",
        "## From start to trained model",
        "## Import",
        "## Machine and method",
    ]
    # channels_last, 4 and 6 ms, is the faster format: 4/1 and 6/2 round by round
    assert "| lenet_bn | 256 | 3.50 (3.00 to 4.00) | 6.00 (4.00 to 8.00) | 1.25 (1.00 to 1.50) | 2.00" in text
    assert "| mlp_bn | 32 | 4.50 (3.00 to 6.00) | - | 1.50 (1.50 to 1.50) | - |" in text
    assert "| 1.50 ms, 170,667/s |" in text
    assert "| `python -m minigrad.train` | 20.0 s | 128 MiB |" in text
    assert "| PyTorch's over minigrad's | 3.00 (3.00 to 3.00) | 4.00 (4.00 to 4.00) |" in text
    assert "| `import minigrad` | 115 ms | 1.15 (1.10 to 1.20) |" in text
    assert "| CPU | a fast one |" in text
    assert "- something was left out" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_examples_in_the_docstrings(torch):
    """pytest collects those of the package only."""
    from benchmarks import page

    for module in (page, timing):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0


def test_what_people_wrote_stays(torch, tmp_path):
    from benchmarks import page

    path = tmp_path / "docs" / "cpu.md"
    report = made_up_report()
    page.write(path, report)
    first = path.read_text()
    begin, end = page.NOTES
    assert first.index(begin) < first.index(end)
    path.write_text(first.replace(begin, f"{begin}\n## Notes\n\nTried this and that."))
    report.date = "2027-01-01"
    page.write(path, report)
    second = path.read_text()
    assert f"{begin}\n## Notes\n\nTried this and that.\n{end}" in second
    assert "2027-01-01" in second
    assert "2026-01-02" not in second
    page.write(path, report)
    assert path.read_text() == second
    assert [p.name for p in path.parent.iterdir()] == ["cpu.md"]


@pytest.mark.slow
def test_the_script(torch, tmp_path):
    output = tmp_path / "cpu.md"
    run = command(
        *(
            "-m",
            "benchmarks.cpu",
            "--quick",
            "--models",
            "mlp_bn",
            "lenet_bn",
            "--batch",
            "8",
            "--threads",
            "1",
        ),
        *(
            "--rounds",
            "1",
            "--epochs",
            "0",
            "--import-runs",
            "1",
            "--dataset",
            "garments",
            "--output",
            output,
        ),
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("import: numpy ")
    starts = [line.partition(":")[0] for line in lines[1:-1:2]]
    assert starts == [
        f"{kind} {model}, batch 8, 1 thread"
        for kind in ("training", "inference")
        for model in ("lenet_bn", "mlp_bn")  # in the order of the tables, whatever the order of the options
    ]
    for line in lines[2:-1:2]:
        assert re.fullmatch(
            r"    ratios: compiled against PyTorch \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\), "
            r"plain against PyTorch \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)",
            line,
        )
    assert lines[-1].startswith(f"{output} written")
    text = output.read_text()
    assert "| model | batch | minigrad compiled | minigrad | PyTorch | PyTorch channels_last |" in text
    assert "| pictures | garments drawn by code |" in text
    assert "From start to trained model" not in text


@pytest.mark.slow
def test_the_script_without_files_for_the_whole_runs(torch, tmp_path):
    run = command(
        *(
            "-m",
            "benchmarks.cpu",
            "--quick",
            "--models",
            "mlp_bn",
            "--batch",
            "4",
            "--threads",
            "1",
            "--rounds",
            "1",
        ),
        *("--import-runs", "0", "--dataset", "garments", "--output", tmp_path / "cpu.md"),
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("No whole runs: they need the files of Fashion-MNIST")
    assert "- No whole runs" in (tmp_path / "cpu.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "alexnet"], "invalid choice: 'alexnet'"),
        (["--batch", "0"], "must be at least 1, got 0"),
        (["--threads", "-1"], "must be at least 1, got -1"),
    ],
)
def test_bad_options(torch, arguments, message, capsys):
    from benchmarks import cpu

    with pytest.raises(SystemExit) as caught:
        cpu.parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_quick_and_full(torch):
    from benchmarks import cpu

    full = cpu.parse([])
    assert (full.batch, full.rounds, full.epochs, full.torch_compile) == ([32, 256, 1024], 7, 10, True)
    assert full.threads[0] == 1
    quick = cpu.parse(["--quick", "--rounds", "5", "--batch", "64", "32"])
    assert (quick.batch, quick.rounds, quick.epochs, quick.torch_compile) == ([32, 64], 5, 1, False)
    assert not cpu.parse(["--no-torch-compile"]).torch_compile
    assert len(cpu.cases(full)) == 2 * len(full.threads) * len(full.models) * 3


def test_without_pytorch(tmp_path):
    """One line that says what to do."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    run = command("-m", "benchmarks.cpu", PYTHONPATH=str(tmp_path))
    assert run.returncode != 0
    assert run.stderr == (
        "benchmarks.cpu: PyTorch is missing; `make bench` installs it, or: pip install '.[bench]'\n"
    )
