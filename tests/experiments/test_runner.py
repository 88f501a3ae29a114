"""The runner: files, resuming, the same seed twice, and the command line; on an experiment made up here."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from minigrad import plot
from minigrad.errors import ArgumentError, DataError
from minigrad.experiments import __main__ as command
from minigrad.experiments import context, registry, report
from minigrad.experiments.runner import findings_lines, fingerprint, run, seeds
from minigrad.experiments.study import Case, Experiment, Findings, Table

NAMES = (
    "figure1 steps rates scratch lenet batchsize prediction gradient whitening saturation depth regularisation "
    "placement smoothness ensemble standardise"
).split()


@dataclass(frozen=True)
class Recipe:
    size: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)


class Made:
    """An experiment that notes which cases it measured, and stops in one of them if told so."""

    def __init__(self, stop_in=None, error=KeyboardInterrupt):
        self.measured, self.stop_in, self.error = [], stop_in, error

    def measure(self, recipe, case, context):
        self.measured.append(case["seed"])
        if case["seed"] == self.stop_in:
            raise self.error("stopped")
        rng = np.random.default_rng(case["seed"])
        context.time(f"case {case['seed']}", 0.25)
        return [{**case.settings, "step": s, "value": rng.normal()} for s in context.steps(recipe.size)]

    def experiment(self, **changes):
        made = Experiment(
            name="made",
            title="Is it so?",
            claim="It is so.",
            source="Nobody 2026",
            full=Recipe(),
            quick=Recipe(size=2, seeds=(0,)),
            cases=lambda recipe: [Case(f"seed {seed}", {"seed": seed}) for seed in recipe.seeds],
            measure=self.measure,
            judge=judge,
            draw=draw,
        )
        return replace(made, **changes)


def judge(recipe, table):
    mean = float(table.column("value").mean())
    return Findings(
        {"mean": mean, "rows": len(table)}, {"mean": 0}, mean < 0, f"held: mean {mean:.3f}, published 0"
    )


def draw(recipe, table, findings):
    figure = plot.new_figure()
    plot.band(figure.subplots(), [0, 1], [[0, 1], [1, 2]], "line", "tab:blue")
    return figure


def quiet(text):
    pass


def run_made(folder, made=None, **options):
    return run((made or Made()).experiment(), folder, say=quiet, **options)


# 1. What it writes ---


def test_files(tmp_path):
    outcome = run_made(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "made",
        "made.csv",
        "made.json",
        "made.png",
        "made.svg",
    ]
    assert len(list((tmp_path / "made" / "cases").iterdir())) == 3
    with open(tmp_path / "made.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    assert [float(row["value"]) for row in rows] == outcome.table.column("value").tolist()  # digit for digit
    summary = json.loads((tmp_path / "made.json").read_text())
    assert summary["recipe"] == {"size": 4, "seeds": [0, 1, 2]}
    assert (summary["setting"], summary["seeds"], summary["dataset"]) == ("full", [0, 1, 2], "made by code")
    assert summary["timings"] == {"case 0": 0.25, "case 1": 0.25, "case 2": 0.25}
    assert summary["verdict"] == outcome.findings.verdict
    assert summary["measured"]["rows"] == 12
    assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "made.svg").read_text()


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in ("one", "two"):
        run_made(tmp_path / name)
    for ending in ("csv", "svg"):
        assert (tmp_path / "one" / f"made.{ending}").read_bytes() == (
            tmp_path / "two" / f"made.{ending}"
        ).read_bytes()


def test_judge_sees_the_timings(tmp_path):
    found = {}
    experiment = Made().experiment(
        judge=lambda recipe, table: found.update(table.timings) or judge(recipe, table)
    )
    run(experiment, tmp_path, say=quiet)
    assert found == {"case 0": 0.25, "case 1": 0.25, "case 2": 0.25}


def test_what_is_said(tmp_path):
    said = []
    run(Made().experiment(), tmp_path, quick=True, say=said.append)
    assert said[0] == "made: Is it so?"
    assert said[1] == "  claim: It is so. (Nobody 2026)"
    assert re.fullmatch(r"  \[1/1\] seed 0: \d+\.\d s", said[2])
    assert said[3].split() == ["measured", "published"]
    assert said[-2].startswith("  verdict: held: mean ")


def test_findings_side_by_side():
    lines = findings_lines(
        Findings({"a": 0.123456, "longer": "x"}, {"a": 2, "only published": "y"}, None, "in part")
    )
    assert lines[1].split() == ["a", "0.1235", "2"]
    assert lines[3].split() == ["only", "published", "y"]


def test_numpy_numbers_become_plain(tmp_path):
    rows = [{"value": np.float32(0.5), "step": np.int64(3), "word": np.str_("x")}]
    table = run(Made().experiment(measure=lambda *_: rows), tmp_path, say=quiet, quick=True).table
    assert [type(value) for value in table.rows[0].values()] == [float, int, str]


def test_a_row_must_be_plain(tmp_path):
    experiment = Made().experiment(measure=lambda recipe, case, context: [{"value": [1, 2]}])
    with pytest.raises(DataError, match="a row has list in column 'value'"):
        run(experiment, tmp_path, say=quiet)


def test_two_cases_of_one_name(tmp_path):
    experiment = Made().experiment(cases=lambda recipe: [Case("a", {"seed": 0}), Case("a", {"seed": 1})])
    with pytest.raises(ArgumentError, match="two cases are called 'a'"):
        run(experiment, tmp_path, say=quiet)


# 2. Resuming ---


def test_an_interrupted_experiment_goes_on(tmp_path):
    stopped = Made(stop_in=1)
    with pytest.raises(KeyboardInterrupt):
        run_made(tmp_path, stopped)
    assert stopped.measured == [0, 1]
    assert not (tmp_path / "made.csv").exists()
    resumed = Made()
    run_made(tmp_path, resumed)
    assert resumed.measured == [1, 2]
    run_made(tmp_path / "at once")
    assert (tmp_path / "made.csv").read_bytes() == (tmp_path / "at once" / "made.csv").read_bytes()


def test_nothing_is_measured_twice_unless_fresh(tmp_path):
    run_made(tmp_path)
    again, fresh = Made(), Made()
    run_made(tmp_path, again)
    run_made(tmp_path, fresh, fresh=True)
    assert (again.measured, fresh.measured) == ([], [0, 1, 2])


def test_another_recipe_is_measured_anew(tmp_path):
    run_made(tmp_path)
    other = Made()
    run(other.experiment(full=Recipe(size=5)), tmp_path, say=quiet)
    assert other.measured == [0, 1, 2]
    assert fingerprint(Recipe(), Case("a", {"x": 1})) != fingerprint(Recipe(), Case("a", {"x": 2}))


def test_another_data_set_is_measured_anew(tmp_path, monkeypatch):
    used = ["fashion_mnist"]

    def available(self, name):
        self.used[name] = used[-1]
        return used[-1]

    monkeypatch.setattr(context.Context, "available", available)
    made = Made()

    def measure(recipe, case, context):
        context.available("fashion_mnist")
        return made.measure(recipe, case, context)

    for _ in range(2):
        run(made.experiment(measure=measure), tmp_path, quick=True, say=quiet)
    assert made.measured == [0]
    used.append("garments")
    run(made.experiment(measure=measure), tmp_path, quick=True, say=quiet)
    assert made.measured == [0, 0]
    summary = json.loads((tmp_path / "made.json").read_text())
    assert summary["dataset"] == "garments"
    assert summary["verdict"].endswith(
        " [measured with garments, not fashion_mnist: numbers are not comparable]"
    )
    assert "not fashion_mnist" not in (tmp_path / "made.csv").read_text()


def test_a_damaged_case_is_measured_anew(tmp_path):
    run_made(tmp_path, quick=True)
    path = next((tmp_path / "made" / "cases").iterdir())
    for damage in ("{", "[]", "{}"):
        path.write_text(damage)
        made = Made()
        run_made(tmp_path, made, quick=True)
        assert made.measured == [0]


def test_seeds_of_recipes():
    assert seeds(Recipe(seeds=(5,)), [Case("a", {"seed": 3}), Case("b", {"seed": 3})]) == [3]
    assert seeds(Recipe(seeds=(5, 6)), [Case("a")]) == [5, 6]


# 3. The command ---


def command_of(monkeypatch, made):
    monkeypatch.setitem(registry.MODULES, "made", lambda: made)
    made.EXPERIMENT = made.experiment()


def test_command_runs_and_reports_the_verdict(tmp_path, monkeypatch, capsys):
    command_of(monkeypatch, Made())
    assert command.main(["made", "--out-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "verdict: held: mean" in printed.out
    assert printed.err == ""


def test_interrupt_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    command_of(monkeypatch, Made(stop_in=1))
    with pytest.raises(SystemExit) as stopped:
        command.main(["made", "--out-dir", str(tmp_path)])
    assert stopped.value.code == 130
    assert "the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["figure2"],
            "error: unknown experiment 'figure2': there are figure1, steps, .*; did you mean 'figure1'?\n",
        ),
        (["ensemble", "xyz"], "error: unknown experiment 'xyz': there are [^;]*\n"),
        ([], "error: which experiment? choose one of the names above, or all\n"),
        (
            ["report", "--out-dir", "nowhere"],
            "error: no experiment has left its results in nowhere; run .*\n",
        ),
    ],
)
def test_bad_commands(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert re.fullmatch(message.replace("?", r"\?"), capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    made = Made()
    command_of(monkeypatch, made)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        command.main(["made", "--out-dir", str(tmp_path / "file")])
    assert stopped.value.code == 2
    assert "cannot write to" in capsys.readouterr().err
    assert made.measured == []


def test_list_has_all_names_and_questions(capsys):
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line.split()) > 3 for line in lines)


def test_asking_for_the_names_imports_no_experiment():
    code = (
        "import sys; from minigrad.experiments import names; names();"
        "sys.exit('minigrad.experiments.figure1' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_is_complete(name):
    experiment = registry.get(name)
    assert experiment.name == name
    assert type(experiment.full) is type(experiment.quick)
    assert experiment.full != experiment.quick
    assert experiment.title.endswith("?")
    for recipe in (experiment.full, experiment.quick):
        labels = [case.label for case in experiment.cases(recipe)]
        assert labels
        assert len(set(labels)) == len(labels)


# 4. The page of results ---


def summary_of(made, folder, monkeypatch):
    command_of(monkeypatch, made)
    run(made.EXPERIMENT, folder, say=quiet)


def test_page(tmp_path, monkeypatch, capsys):
    summary_of(Made(), tmp_path / "out", monkeypatch)
    report.write_page(tmp_path / "out", tmp_path / "docs")
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "## Is it so?" in text
    assert "**Claim.** It is so. (Nobody 2026)" in text
    assert re.search(r"\*\*Verdict\.\*\* Held: mean -?\d\.\d{3}, published 0\.", text)
    assert "`python -m minigrad.experiments made` · data: made by code · seeds: 0, 1, 2 ·" in text
    assert "| mean | " in text
    figure = re.search(r"```\{image\} (\S+)", text).group(1)
    assert (tmp_path / "docs" / figure).read_text() == (tmp_path / "out" / "made.svg").read_text()
    assert "not run yet: figure1" in capsys.readouterr().out


def test_page_refuses_quick_results(tmp_path, monkeypatch):
    made = Made()
    command_of(monkeypatch, made)
    run(made.EXPERIMENT, tmp_path, quick=True, say=quiet)
    with pytest.raises(DataError, match="the page shows full settings only, and in .* these are quick: made"):
        report.write_page(tmp_path, tmp_path / "docs")


def test_page_names_a_damaged_file(tmp_path, monkeypatch):
    summary_of(Made(), tmp_path, monkeypatch)
    (tmp_path / "made.json").write_text("{")
    with pytest.raises(DataError, match="made.json is damaged; run the experiment again"):
        report.write_page(tmp_path, tmp_path / "docs")


# 5. Tables ---


def test_table():
    table = Table([{"a": 1, "b": True}, {"a": 2}, {"a": 1, "b": False}])
    assert table.where(a=1, b=True).rows == [{"a": 1, "b": True}]
    assert table.where(b=False).rows == [{"a": 1, "b": False}]
    assert table.values("b") == [True, False]
    assert [(key, len(part)) for key, part in table.groups("a", "b")] == [((1, True), 1), ((1, False), 1)]
    assert table.columns() == ["a", "b"]
    with pytest.raises(DataError, match="no column 'b' in the row with a"):
        table.column("b")


def test_the_verdict_is_one_line():
    with pytest.raises(ArgumentError, match="one line"):
        Findings({}, {}, True, "held\nand more")


def test_data_by_name(monkeypatch):
    with pytest.raises(
        ArgumentError, match="expected fashion_mnist or mnist, and train or test; got 'cifar', 'train'"
    ):
        context.Context().data("cifar", "train")
