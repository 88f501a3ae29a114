"""The folder of a run: names, contents, and what happens when it cannot be written."""

import json
import time

import pytest

from minigrad.errors import ArgumentError, DataError
from minigrad.training import EpochRow, RunFolder, read_metrics
from minigrad.training.recorder import check_writable

HEADER = "epoch,train_loss,train_acc,test_acc,lr,examples_per_second,seconds\n"
ROW = EpochRow(1, 0.25, 0.9071234, 0.801, 1.0, 35560.7, 1.6871)
LINE = "1,0.250000,0.907123,0.801000,1,35560.7,1.687\n"


def test_folders_are_never_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda pattern: "20261121-101500")
    names = [RunFolder.create(tmp_path / "new" / "runs", "mlp").path.name for _ in range(3)]
    assert names == ["mlp-20261121-101500", "mlp-20261121-101500-2", "mlp-20261121-101500-3"]
    assert sorted(p.name for p in (tmp_path / "new" / "runs").iterdir()) == names


def test_metrics_line_by_line(tmp_path):
    folder = RunFolder.create(tmp_path, "mlp")
    assert folder.metrics.read_text() == HEADER
    folder.add_metrics(ROW)
    assert folder.metrics.read_text() == HEADER + LINE
    folder.add_metrics(ROW)
    assert folder.metrics.read_text() == HEADER + LINE + LINE
    folder.start_metrics([ROW])
    assert folder.metrics.read_text() == HEADER + LINE


def test_read_metrics_gives_the_same_lines_again(tmp_path):
    folder = RunFolder.create(tmp_path, "mlp")
    odd = EpochRow(12, 1 / 3, 2 / 3, 0.1, 0.0123456789, 1234.56, 0.0004)
    folder.start_metrics([ROW, odd])
    text = folder.metrics.read_text()
    rows = read_metrics(folder.metrics)
    assert rows[0] == EpochRow(1, 0.25, 0.907123, 0.801, 1.0, 35560.7, 1.687)
    folder.start_metrics(rows)
    assert folder.metrics.read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must be epoch,train_loss"),
        ("a,b\n1,2\n", "the first line must be epoch,train_loss"),
        (HEADER + LINE + "2,0.2\n", "line 3 is damaged: 2,0.2"),
        (HEADER + LINE.replace("0.8", "x"), "line 2 is damaged: 1,0.25"),
    ],
)
def test_damaged_metrics(tmp_path, text, message):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_metrics(path)


def test_missing_metrics(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv: cannot be read: .*No such file"):
        read_metrics(tmp_path / "nowhere.csv")


def test_run_json_is_replaced_whole(tmp_path):
    folder = RunFolder.create(tmp_path, "mlp")
    folder.write_run({"settings": {"model": "mlp"}})
    with pytest.raises(TypeError):
        folder.write_run({"settings": object()})  # fails half-way
    assert json.loads(folder.run.read_text()) == folder.read_run() == {"settings": {"model": "mlp"}}
    assert sorted(p.name for p in folder.path.iterdir()) == ["metrics.csv", "run.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not the folder of a run: run.json cannot be read: .*No such file"),
        ("{", "is not the folder of a run: run.json cannot be read"),
        ("[1]", "is not the folder of a run: run.json has no settings"),
        ('{"settings": 1}', "is not the folder of a run: run.json has no settings"),
    ],
)
def test_not_the_folder_of_a_run(tmp_path, text, message):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=message):
        RunFolder(tmp_path).read_run()


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ArgumentError, match=r"output folder .*file/runs cannot be written: Not a directory; choose"
    ):
        check_writable(tmp_path / "file" / "runs")
    with pytest.raises(ArgumentError, match=r"output folder .*file cannot be written: File exists; choose"):
        RunFolder.create(tmp_path / "file", "mlp")


def test_the_probe_leaves_nothing(tmp_path):
    assert list(check_writable(tmp_path / "a" / "b").iterdir()) == []
