"""The commands for a machine with a GPU, as far as they can be tested without one."""

import os
import time

import numpy as np
import pytest

from benchmarks import children, gpu, gpu_check, gpu_page, gpu_sections
from benchmarks.children import Outcome
from minigrad.backend import cuda
from tests.strict.capture import StrictGraphs

no_gpu = pytest.mark.skipif(cuda.is_available(), reason="there is a GPU")

# 1. Children ---------------------------------------------------------------------------------------------


def test_a_child_reports_and_its_noise_is_passed_over():
    code = "from benchmarks.children import report\nprint('hello')\nreport(a=1)\nreport(b=[2.5])"
    outcome = children.run_child(["-c", code], 60)
    assert (outcome.results, outcome.problem) == ([{"a": 1}, {"b": [2.5]}], None)


def test_a_child_that_fails_keeps_what_it_reported():
    code = "from benchmarks.children import report\nreport(a=1)\nraise ValueError('no luck')"
    outcome = children.run_child(["-c", code], 60)
    assert outcome.results == [{"a": 1}]
    assert outcome.problem == "ended with code 1: ValueError: no luck"


def test_a_child_that_does_not_end_is_ended_with_its_own_children():
    code = (
        "import subprocess, sys, time\nfrom benchmarks.children import report\n"
        "report(pid=subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)\ntime.sleep(600)"
    )
    outcome = children.run_child(["-c", code], 3)
    assert outcome.problem == "ended after 3 seconds, which was all the time it had"
    for _ in range(50):  # the grandchild is gone, too, or waits to be collected
        try:
            with open(f"/proc/{outcome.results[0]['pid']}/stat") as status:
                if status.read().rpartition(")")[2].split()[0] == "Z":
                    break
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child's child goes on")


def test_without_time_nothing_is_started():
    assert children.run_child(["-c", "raise SystemExit(3)"], 0.0).problem == "not started: no time was left"


# 2. The page -----------------------------------------------------------------------------------------------

RESULTS = {
    ("training", "TF32 off"): {"minigrad": [50e-6, 60e-6, 40e-6], "PyTorch": [500e-6], "compile": []},
    ("inference", "TF32 off"): {"minigrad": [], "PyTorch": [1e-4]},
}


def test_the_part_with_the_speeds():
    text = gpu_page.speed_part("make", [("GPU", "none")], RESULTS, "minigrad", 256, ["a remark"])
    assert "| minigrad | 50.0 | 40.0 to 60.0 | 5.12 | 1.00 |" in text
    assert "| PyTorch | 500.0 | 500.0 to 500.0 | 0.51 | 10.00 |" in text
    assert "| compile | no figure |  |  |  |" in text
    assert "### Inference, TF32 off" in text
    assert "| PyTorch | 100.0 | 100.0 to 100.0 | 2.56 |  |" in text
    assert text.endswith("- a remark")


def test_the_page_keeps_what_people_wrote(tmp_path):
    page = tmp_path / "gpu.md"
    page.write_text(gpu_page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    before = page.read_text(encoding="utf-8")
    gpu_page.write_part(gpu_page.SPEED, "fast", page)
    gpu_page.write_part(gpu_page.CHECKS, "good", page)
    after = page.read_text(encoding="utf-8")
    assert "\n\nfast\n\n" in after
    assert "\n\ngood\n\n" in after
    for line in before.splitlines():
        assert line in after or line in ("Not measured yet.", "Not run yet.")
    assert os.listdir(tmp_path) == ["gpu.md"]
    with pytest.raises(ValueError, match="the page has no part between"):
        gpu_page.replace_part("nothing", gpu_page.SPEED, "x")


def test_other_losses_are_remarked():
    (same,) = gpu.same_losses({"a": 2.30, "b": 2.31})
    assert same.startswith("mean loss of the first epoch: a 2.3000, b 2.3100")
    assert gpu.same_losses({"a": 2.3, "b": 2.3, "c": 1.0})[1].startswith("**c computes something else")
    assert gpu.same_losses({"a": 2.3, "b": 2.3, "c": float("nan")})[1:] != []


# 3. The checks ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rehearsal_of_the_checks(capsys):
    code = gpu_check.main(
        ["--device", "strict", "--only", "machine", "--only", "operations", "--only", "blocks"]
    )
    out = capsys.readouterr().out
    assert code == 0, out
    assert "all checks passed" in out
    assert "written" not in out


@pytest.mark.parametrize("section", ["steps", "captured", "layers"])
def test_sections_on_the_stand_in(section, capsys, monkeypatch):
    """The others run in the rehearsal."""
    monkeypatch.setattr(gpu_sections, "OPTIMIZERS", {"SGD": gpu_sections.OPTIMIZERS["SGD"]})
    monkeypatch.setattr(gpu_sections, "pictures", lambda n: PICTURES(24))
    if section == "captured":
        training = gpu_sections.CapturedTraining
        monkeypatch.setattr(
            gpu_sections, "CapturedTraining", lambda *a, **k: training(*a, graphs=StrictGraphs(), **k)
        )
    assert gpu_sections.run_section(section, "strict") == 0
    out = capsys.readouterr().out
    assert '"ok": true' in out
    assert '"ok": false' not in out


def PICTURES(n):
    from minigrad.data import ArrayDataset, garments

    return ArrayDataset(*garments(True, n))


def test_a_wrong_result_is_a_failed_check(capsys):
    gpu_sections.check("wrong", lambda: gpu_sections.close(np.ones(2), np.zeros(2), 1e-3))
    gpu_sections.check("dtype", lambda: gpu_sections.close(np.ones(2), np.ones(2, np.float32), 1e-3))
    assert capsys.readouterr().out.count('"ok": false') == 2


def test_verdicts():
    good = Outcome([{"check": "a", "ok": True, "note": ""}])
    bad = Outcome([{"check": "b", "ok": False, "note": "AssertionError: 3"}], seconds=2.0)
    hung = Outcome([{"check": "a", "ok": True, "note": ""}], "ended after 9 seconds")
    assert [gpu_check.passed(o) for o in (good, bad, hung, Outcome())] == [True, False, False, False]
    part = gpu_check.checks_part({"one": good, "two": bad, "three": hung}, "today")
    assert "| one | passed | 1 | 0 s |" in part
    assert "| two | **failed** | 1 | 2 s |" in part
    assert "- two: b: AssertionError: 3" in part
    assert "- three: ended after 9 seconds" in part


@no_gpu
@pytest.mark.parametrize("command", [gpu_check.main, gpu.main])
def test_without_a_gpu_one_line_says_what_is_missing(command, capsys):
    assert command([]) == 2
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert cuda.why_not() in out
