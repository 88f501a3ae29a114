"""The command `python -m minigrad.train`: what it prints, its exit codes, Ctrl-C."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad import train
from minigrad.errors import NonFiniteError
from minigrad.models import registry
from minigrad.training import EDITIONS, Settings, read_metrics

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def quick(tmp_path):
    """Arguments of a run of two short epochs."""
    return [
        *("mlp_bn", "--dataset", "garments", "--limit", "200", "--batch-size", "64", "--epochs", "2"),
        *("--lr", "0.05", "--no-plot", "--output", str(tmp_path / "runs")),
    ]


@pytest.fixture(autouse=True)
def no_data_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))


def folders(tmp_path):
    return sorted((tmp_path / "runs").iterdir())


def refused(capsys, *arguments):
    """The one line on stderr of a command that exits with 2."""
    with pytest.raises(SystemExit) as caught:
        train.main(list(arguments))
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    return err.removeprefix("error: ").removesuffix("\n")


def refused_after_lines(capsys, *arguments):
    """The same for a command that has printed something before."""
    with pytest.raises(SystemExit) as caught:
        train.main(list(arguments))
    assert caught.value.code == 2
    return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")


# 1. A run ---


def test_what_a_run_prints(capsys, quick, tmp_path):
    assert train.main([*quick, "--population-statistics"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    (folder,) = folders(tmp_path)
    rows = read_metrics(folder / "metrics.csv")
    figures = json.loads((folder / "run.json").read_text())["figures"]
    assert lines[0] == (
        "mlp_bn (204,042 parameters), edition 0.16: sgd, learning rate 0.05, batch size 64, epochs 2, seed 0"
    )
    assert lines[1] == (
        "garments drawn by code: 200 training and 200 test pictures (drawn by code, seed 0), on cpu"
    )
    assert lines[2] == f"files: {folder}"
    for line, row in zip(lines[3:5], rows, strict=True):
        assert re.fullmatch(
            rf"epoch {row.epoch}/2  loss {row.train_loss:.4f}  train acc {row.train_acc:.3f}  "
            rf"test acc {row.test_acc:.3f}  \d+ examples/s  \d+\.\d s",
            line,
        )
    last = rows[1]
    assert lines[6] == (
        f"loss {last.train_loss:.3f}, train acc {last.train_acc:.3f}, test acc {last.test_acc:.3f}"
    )
    assert re.fullmatch(r"\d+\.\d examples/sec on cpu", lines[7])
    assert f"population statistics: test acc {figures['population_test_acc']:.3f}" in lines
    assert sum(line.startswith("why they differ") for line in lines) == 1
    assert lines[-1].startswith(
        f"saved in {folder}: model.safetensors, model_population.safetensors, metrics.csv"
    )


def test_quiet_prints_nothing(capsys, quick, tmp_path):
    assert train.main([*quick, "--quiet", "--epochs", "1"]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(read_metrics(folders(tmp_path)[0] / "metrics.csv")) == 1
    with pytest.raises(SystemExit) as caught:
        train.main(["--quiet"])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: which model? --list shows them\n")


def test_three_steps_of_the_tutorials_network_lower_the_loss(capsys, tmp_path):
    """One batch, four epochs: three steps lie between the first loss and the last."""
    train.main(
        [
            *("lenet_bn", "--dataset", "garments", "--limit", "128", "--batch-size", "128", "--epochs", "4"),
            *("--no-plot", "--output", str(tmp_path / "runs")),
        ]
    )
    losses = [row.train_loss for row in read_metrics(folders(tmp_path)[0] / "metrics.csv")]
    assert losses[3] < losses[0]


def test_a_terminal_gets_a_bar_and_the_same_lines(capsys, monkeypatch, quick):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", terminal)
    train.main(quick)
    monkeypatch.undo()
    text = terminal.getvalue()
    assert "━" in text
    bars = re.findall(r"epoch (\d/2) .*?(\d/4) loss \d\.\d+  acc \d\.\d+  \d+ examples/s", text)
    assert ("1/2", "4/4") in bars
    assert ("2/2", "4/4") in bars
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 2  # the cursor came back each time
    assert re.search(r"epoch 2/2  loss", text)
    assert "examples/sec on cpu" in text


def test_a_dumb_terminal_gets_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert type(train._report(quiet=False)) is train.LineReport
    monkeypatch.setenv("TERM", "xterm")
    assert type(train._report(quiet=False)) is train.BarReport
    assert type(train._report(quiet=True)) is train.Report


def test_resume(capsys, quick, tmp_path):
    train.main(quick)
    (folder,) = folders(tmp_path)
    train.main(["--resume", str(folder), "--epochs", "3"])
    assert [row.epoch for row in read_metrics(folder / "metrics.csv")] == [1, 2, 3]
    assert "epoch 3/3" in capsys.readouterr().out
    message = refused(capsys, "--resume", str(folder), "--lr", "1")
    assert message == "--lr cannot be given with --resume: the run goes on with its own settings"
    assert refused(capsys, "mlp", "--resume", str(folder)).startswith("MODEL cannot be given with --resume")
    assert refused(capsys, "--resume", str(folder), "--eval-only").startswith("--eval-only cannot be given")
    assert "all 3 epochs are done; ask for more with --epochs" in refused(capsys, "--resume", str(folder))


def test_eval_only(capsys, quick, tmp_path):
    train.main(quick)
    (folder,) = folders(tmp_path)
    row = read_metrics(folder / "metrics.csv")[-1]
    capsys.readouterr()
    weights = str(folder / "model.safetensors")
    model_and_data = quick[:7]  # without the training's own options
    assert train.main([*model_and_data, "--weights", weights, "--eval-only", "--population-statistics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"test acc {row.test_acc:.3f} on garments drawn by code"
    assert lines[1].startswith("population statistics: test acc 0.")
    assert lines[2].startswith("why they differ")
    assert folders(tmp_path) == [folder]
    assert refused(capsys, "mlp", "--eval-only") == "--eval-only needs --weights FILE"


@pytest.mark.parametrize(
    "option", [["--epochs", "3"], ["--lr", "0.1"], ["--optimizer", "adam"], ["--output", "x"], ["--no-plot"]]
)
def test_eval_only_refuses_what_it_cannot_use(capsys, option):
    message = refused(capsys, "mlp", "--weights", "w.safetensors", "--eval-only", *option)
    assert message == f"{option[0]} cannot be given with --eval-only: nothing is trained or written"


def test_population_statistics_that_cannot_be_measured_are_a_line(capsys, tmp_path):
    arguments = ["--dataset", "garments", "--limit", "3", "--batch-size", "1", "--epochs", "1", "--no-plot"]
    arguments += ["--output", str(tmp_path / "runs"), "--population-statistics"]
    assert train.main(["lenet_bn_scratch", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "no population statistics: " in out
    assert "examples/sec on cpu" in out


def test_a_last_batch_of_one_is_one_line(capsys, quick):
    message = refused(capsys, *quick, "--limit", "65")
    assert message.endswith("65 pictures in batches of 64; choose another --batch-size or --limit")


# 2. Help ---


def test_list(capsys):
    assert train.main(["--list"]) == 0
    out = capsys.readouterr().out
    for name, info in registry.MODELS.items():
        assert re.search(
            rf"^  {name} +{re.escape(info.description)} \(learning rate {info.lr:g}\)$", out, re.M
        )
    for name in EDITIONS:
        assert re.search(rf"^  {re.escape(name)} +(max|average) pooling", out, re.M)
    assert out.count("the default") == 1


def test_no_model_shows_the_list_and_is_an_error(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main([])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "lenet_bn_scratch" in out
    assert err == "error: which model? choose one of the names above\n"


def test_help_names_every_option_and_every_setting_has_one(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for group in ("recipe:", "data:", "machine:", "output:", "examples:"):
        assert f"\n{group}\n" in out
    actions = train.build_parser()._actions
    assert all(action.help for action in actions)
    assert set(vars(Settings())) <= {action.dest for action in actions}
    assert max(len(line) for line in out.splitlines()) <= 110


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"minigrad \d+\.\d+.*\n", capsys.readouterr().out)


# 3. Bad values: one line, exit code 2 ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet_bm"], "unknown model 'lenet_bm': there are lenet_bn, .*; did you mean 'lenet_bn'?"),
        (["mlp", "--edition", "0.99"], "unknown edition '0.99': use zh1, 0.16, 0.17, 1.0"),
        (["mlp", "--epochs", "0"], "epochs must be a whole number of at least 1, got 0"),
        (["mlp", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["mlp", "--lr", "-1"], "lr must be a number above 0, got -1.0"),
        (["mlp", "--lr", "nan"], "lr must be a number above 0, got nan"),
        (["mlp", "--batch-size", "0"], "batch_size must be a whole number of at least 1, got 0"),
        (["mlp", "--limit", "0"], "limit must be a whole number of at least 1, got 0"),
        (["mlp", "--threads", "0"], "threads must be a whole number of at least 1, got 0"),
        (["mlp", "--seed", "-1"], "seed must be a whole number of at least 0, got -1"),
        (["mlp", "--optimizer", "lion"], "unknown optimizer 'lion': use sgd, adam"),
        (["mlp", "--dataset", "cifar"], "unknown data set 'cifar': use auto, fashion_mnist, mnist, garments"),
        (["mlp", "--device", "gpu"], "unknown device 'gpu': use 'cpu', 'cuda' or 'cuda:0'"),
        (["mlp", "--epoch", "1"], "unrecognized arguments: --epoch 1"),
        (["mlp", "lenet"], "unrecognized arguments: lenet"),
        (["--resume", "nowhere"], "nowhere is not the folder of a run: run.json cannot be read: .*"),
        (["mlp", "--weights", "nowhere.safetensors"], "load: there is no file nowhere.safetensors"),
    ],
)
def test_bad_values(capsys, tmp_path, arguments, message):
    if "--resume" not in arguments:
        arguments = [*arguments, "--output", str(tmp_path / "runs")]
    found = refused(capsys, *arguments)
    assert re.fullmatch(message.replace("?", r"\?"), found)
    assert not (tmp_path / "runs").exists() or folders(tmp_path) == []


def test_a_missing_gpu_explains_itself(capsys, quick, monkeypatch):
    from minigrad import backend

    if backend.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "pip install" in refused(capsys, *quick, "--device", "cuda")


def test_an_output_folder_that_cannot_be_written(capsys, quick, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(capsys, *quick, "--output", str(tmp_path / "file" / "runs"))
    assert "cannot be written: Not a directory; choose another one with --output" in message


def test_a_data_folder_without_the_files(capsys, quick, tmp_path):
    message = refused(capsys, *quick, "--dataset", "fashion_mnist", "--data-dir", str(tmp_path))
    assert message.startswith(f"Fashion-MNIST: files not found in {tmp_path}")


def test_a_failing_run_says_where_the_rest_is(capsys, quick, tmp_path, monkeypatch):
    def fails(self, row, epochs):
        raise NonFiniteError("training diverged")

    monkeypatch.setattr(train.LineReport, "epoch_finished", fails)
    message = refused_after_lines(capsys, *quick)
    (folder,) = folders(tmp_path)
    assert message == f"training diverged (what the run had before is in {folder})"


def test_a_run_that_diverges_in_the_first_epoch_has_nothing_before(capsys, quick, tmp_path):
    with pytest.raises(SystemExit) as caught:
        train.main([*quick, "--lr", "1e30"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert re.match(r"error: training diverged: the loss is (nan|inf) in epoch 1, batch 2\n", err)
    assert "hint: use a lower learning rate" in err
    assert "what the run had before" not in err
    assert "Traceback" not in err


def test_a_full_disk_is_one_line(capsys, quick, monkeypatch):
    from minigrad.training import RunFolder

    def full(self, row):
        raise OSError(28, "No space left on device", "metrics.csv")

    monkeypatch.setattr(RunFolder, "add_metrics", full)
    with pytest.raises(SystemExit) as caught:
        train.main([*quick, "--quiet"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: metrics.csv: No space left on device\n"


# 4. Ctrl-C ---


def test_ctrl_c_while_training(capsys, quick, tmp_path, monkeypatch):
    class Stops(train.LineReport):
        def batch(self, number, figures):
            if number == 2 and len(read_metrics(folders(tmp_path)[0] / "metrics.csv")) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(train, "LineReport", Stops)
    with pytest.raises(SystemExit) as caught:
        train.main(quick)
    assert caught.value.code == 130
    (folder,) = folders(tmp_path)
    assert capsys.readouterr().err == (
        f"interrupted after 1 finished epoch: weights and figures are in {folder}\n"
        f"go on with: python -m minigrad.train --resume {folder}\n"
    )


def test_ctrl_c_in_the_first_epoch(capsys, quick, tmp_path, monkeypatch):
    def stop(self, number, figures):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.LineReport, "batch", stop)
    with pytest.raises(SystemExit) as caught:
        train.main(quick)
    assert caught.value.code == 130
    (folder,) = folders(tmp_path)
    assert capsys.readouterr().err == (
        f"interrupted in the first epoch: the weights of this moment are in {folder}\n"
    )


def test_ctrl_c_before_the_training(capsys, quick, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minigrad.data.load", stop)
    with pytest.raises(SystemExit) as caught:
        train.main(quick)
    assert caught.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def start(*arguments):
    """The command as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "minigrad.train", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell's background job ignores Ctrl-C, and so would its children: listen to it again
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(process.stderr.read())


def test_a_real_sigint(quick, tmp_path):
    process = start(*quick, "--epochs", "100000")
    wait_for(process, "epoch      2/")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("interrupted after ")
    assert err.count("\n") == 2
    (folder,) = folders(tmp_path)
    written = json.loads((folder / "run.json").read_text())
    assert written["status"] == "interrupted"
    assert written["epochs_done"] >= 2
    assert not [p for p in folder.iterdir() if p.name.endswith(".tmp")]


@pytest.mark.skipif(os.name == "nt", reason="closed pipes are reported otherwise on Windows")
def test_a_reader_that_goes_away(quick):
    process = start(*quick, "--epochs", "100000")
    wait_for(process, "mlp_bn")
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
