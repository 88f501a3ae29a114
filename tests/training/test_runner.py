"""Whole runs on a few drawn garments: files, seeds, resuming, interruption, failure."""

import contextlib
import csv
import json
import re

import numpy as np
import pytest
import threadpoolctl

import minigrad as mg
from minigrad import checkpoint, data
from minigrad.errors import ArgumentError, CheckpointError, DataError, NonFiniteError
from minigrad.training import (
    Report,
    RunFolder,
    RunInterrupted,
    Settings,
    evaluate,
    evaluate_weights,
    population_statistics,
    resume,
    run,
)
from minigrad.training.settings import build_model


@pytest.fixture
def settings(tmp_path):
    return {
        "model": "mlp_bn",
        "dataset": "garments",
        "limit": 200,
        "batch_size": 64,
        "epochs": 2,
        "lr": 0.05,
        "plot": False,
        "output": str(tmp_path / "runs"),
    }


class Recording(Report):
    """Keeps what a run tells it; `on_batch` may interfere."""

    def __init__(self, on_batch=lambda epoch, number: None):
        self.told, self.text, self.epoch = [], [], 0
        self.on_batch = on_batch

    def lines(self, lines):
        self.text += lines

    def note(self, text):
        self.told.append(("note", text))

    def epoch_started(self, epoch, epochs, batches):
        self.epoch = epoch
        self.told.append(("start", epoch, epochs, batches))

    def batch(self, number, figures):
        self.told.append(("batch", number, figures.examples))
        self.on_batch(self.epoch, number)

    def epoch_finished(self, row, epochs):
        self.told.append(("end", row.epoch, epochs))

    def close(self):
        self.told.append(("close",))


def interrupt_at(epoch, batch):
    def on_batch(e, number):
        if (e, number) == (epoch, batch):
            raise KeyboardInterrupt

    return Recording(on_batch)


def weights_of(folder):
    return {name: value.numpy() for name, value in checkpoint.load(RunFolder(folder).weights).items()}


def without_timing(folder):
    with open(RunFolder(folder).metrics, newline="") as file:
        return [row[:5] for row in csv.reader(file)]


# 1. What a run leaves behind ---


def test_the_files_of_a_run(settings):
    result = run(Settings(**{**settings, "plot": True, "population_statistics": True}))
    folder = result.folder
    assert sorted(p.name for p in folder.iterdir()) == [
        "curves.png",
        "metrics.csv",
        "model.safetensors",
        "model_population.safetensors",
        "run.json",
        "training_state.safetensors",
    ]
    assert folder.parent.name == "runs"
    assert folder.name.startswith("mlp_bn-")
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((folder / "run.json").read_text())
    assert written["status"] == "finished"
    assert written["interrupted"] is False
    assert written["epochs_done"] == 2
    assert written["device"] == "cpu"
    assert written["dataset"] == {
        "name": "garments",
        "title": "garments drawn by code",
        "origin": "drawn by code, seed 0",
        "train": 200,
        "test": 200,
    }
    assert written["settings"]["lr"] == 0.05
    assert written["settings"]["batch_size"] == 64
    assert set(written["versions"]) == {"minigrad", "numpy", "python", "platform"}
    last = result.history[-1]
    assert written["figures"]["train_loss"] == result.loss == last.train_loss
    assert written["figures"]["test_acc"] == result.test_acc == last.test_acc
    assert written["figures"]["population_test_acc"] == result.population_acc
    assert [row.epoch for row in RunFolder(folder).rows()] == [1, 2]


def test_the_figures_are_those_of_the_weights(settings):
    """Both test accuracies, measured again from the files."""
    result = run(Settings(**settings, population_statistics=True))
    bundle = data.load("garments", train_size=200, test_size=200)
    test_loader = data.DataLoader(bundle.test, 50)
    for path, expected in (("model", result.test_acc), ("model_population", result.population_acc)):
        model = build_model(Settings("mlp_bn"))
        model.load_state_dict(checkpoint.load(result.folder / f"{path}.safetensors"))
        assert evaluate(model, test_loader) == expected
    assert result.test_acc != result.population_acc
    for name, value in result.model.state_dict().items():  # the model that comes back has the moving averages
        np.testing.assert_array_equal(value.numpy(), weights_of(result.folder)[name])
    assert not result.model.training


def test_population_statistics_can_be_had_again(settings):
    """The order of the pass comes from the seed: weights and seed give the same statistics, bit for bit."""
    result = run(Settings(**settings, population_statistics=True))
    train = data.load("garments", train_size=200, test_size=200).train
    with threadpoolctl.threadpool_limits(limits=1):  # as in the run
        population_statistics(result.model, data.DataLoader(train, 64, shuffle=True, generator=0))
    saved = checkpoint.load(result.folder / "model_population.safetensors")
    for name, value in result.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), saved[name].numpy())


def test_population_statistics_do_not_depend_on_the_order(settings):
    """The trainer's shuffled pass and an ordered one agree closely: they measure the same pictures."""
    result = run(Settings(**settings, population_statistics=True))
    bundle = data.load("garments", train_size=200, test_size=200)
    population_statistics(result.model, data.DataLoader(bundle.train, 64))
    assert abs(evaluate(result.model, data.DataLoader(bundle.test, 64)) - result.population_acc) <= 0.03


def test_losses_fall(settings):
    report = Recording()
    result = run(Settings(**{**settings, "epochs": 4}), report)
    losses = [row.train_loss for row in result.history]
    assert losses[3] < losses[2] < losses[1] < losses[0]
    assert [told for told in report.told if told[0] == "start"] == [("start", e, 4, 4) for e in (1, 2, 3, 4)]
    assert [t[1:] for t in report.told if t[0] == "batch"][:4] == [(1, 64), (2, 128), (3, 192), (4, 200)]
    assert report.told[-1] == ("close",)


def test_the_summary(settings):
    result = run(Settings(**settings, population_statistics=True), report := Recording())
    first, second, third, why, gamma, beta, dataset = result.summary()
    assert (
        first == f"loss {result.loss:.3f}, train acc {result.train_acc:.3f}, test acc {result.test_acc:.3f}"
    )
    assert second.endswith(" examples/sec on cpu")
    assert float(second.split()[0]) > 0
    assert third == f"population statistics: test acc {result.population_acc:.3f}"
    assert why.startswith("why they differ: moving averages lag behind")
    assert gamma.startswith("gamma of the first batch norm: [")
    assert beta.startswith("beta  of the first batch norm: [")
    assert dataset == "data set: garments drawn by code; its figures are not those of Fashion-MNIST"
    assert report.text[-9:] == [*result.summary(), "", report.text[-1]]
    assert report.text[-1].startswith(f"saved in {result.folder}: model.safetensors, model_population")


def test_a_model_without_batch_norm_has_no_such_lines(settings):
    report = Recording()
    result = run(Settings(**{**settings, "model": "mlp", "population_statistics": True}), report)
    assert result.population_acc is None
    assert len(result.summary()) == 3
    assert "population statistics: mlp has no batch norm to put them in" in report.text
    assert not (result.folder / "model_population.safetensors").exists()


def test_batches_too_small_for_population_statistics_cost_nothing_else(settings):
    """One value per channel has no variance; the from-scratch layer trains on it all the same."""
    settings.update(model="lenet_bn_scratch", batch_size=1, limit=3, epochs=1, population_statistics=True)
    report = Recording()
    result = run(Settings(**{**settings, "plot": True}), report)
    assert result.population_acc is None
    (line,) = [line for line in report.text if "no population statistics" in line]
    assert re.search(r"layer 10 got one value per channel in each batch.*use larger batches", line)
    assert report.text[-1] == (
        f"saved in {result.folder}: model.safetensors, metrics.csv, run.json, curves.png"
    )
    assert result.summary()[0] in report.text
    assert json.loads((result.folder / "run.json").read_text())["status"] == "finished"
    found = evaluate_weights(Settings(**{**settings, "weights": str(result.folder / "model.safetensors")}))
    assert found.summary() == [f"test acc {result.test_acc:.3f} on garments drawn by code", line]


@pytest.mark.parametrize(("limit", "batch_size"), [(129, 64), (5, 1), (1, 64)])
def test_a_last_batch_of_one_is_refused_before_the_training(settings, tmp_path, limit, batch_size):
    settings.update(limit=limit, batch_size=batch_size, epochs=1)
    message = (
        rf"a single picture, which batch norm cannot train on: {limit} pictures in batches of {batch_size}; "
        r"choose another --batch-size or --limit"
    )
    with pytest.raises(ArgumentError, match=message):
        run(Settings(**settings))
    assert list((tmp_path / "runs").iterdir()) == []  # nothing was begun
    run(Settings(**{**settings, "model": "mlp"}))  # no batch norm, no trouble


def test_without_fashion_mnist_the_note_cannot_be_missed(settings, monkeypatch):
    def drawn(name, *args, say, **options):
        say("Downloading something")
        say("NOTE: not the real thing")
        return data.bundle._drawn(100, 50, 0, None, "NOTE: not the real thing")

    monkeypatch.setattr(data, "load", drawn)
    report = Recording()
    result = run(Settings(**{**settings, "dataset": "auto"}), report)
    assert [told for told in report.told if told[0] == "note"] == [("note", "NOTE: not the real thing")]
    assert "Downloading something" in report.text
    assert result.dataset == result.settings.dataset == "garments"  # and so it stays for a resumed run
    assert json.loads((result.folder / "run.json").read_text())["dataset"]["name"] == "garments"


def test_weights_to_start_from(settings, tmp_path):
    first = run(Settings(**settings))
    second = run(Settings(**{**settings, "weights": str(first.folder / "model.safetensors"), "epochs": 1}))
    assert second.loss < first.history[0].train_loss
    found = evaluate_weights(
        Settings(
            **{**settings, "weights": str(first.folder / "model.safetensors"), "population_statistics": True}
        )
    )
    assert found.test_acc == first.test_acc
    assert found.population_acc is not None
    assert found.summary()[0] == f"test acc {first.test_acc:.3f} on garments drawn by code"
    before = sorted((tmp_path / "runs").iterdir())
    assert before == sorted([first.folder, second.folder])  # evaluating made no folder


def test_weights_that_do_not_fit(settings, tmp_path):
    path = tmp_path / "w.safetensors"
    mg.checkpoint.save({"1.weight": mg.zeros(2, 2)}, path)
    with pytest.raises(
        CheckpointError, match=r"w.safetensors: the weights do not fit Sequential\n  missing: 1.bias"
    ):
        run(Settings(**settings, weights=str(path)))
    mg.checkpoint.save([mg.zeros(2)], path)
    with pytest.raises(CheckpointError, match=r"w.safetensors holds no weights by name"):
        run(Settings(**settings, weights=str(path)))
    assert list((tmp_path / "runs").iterdir()) == []  # nothing was begun


def test_adam(settings):
    result = run(Settings(**{**settings, "optimizer": "adam", "lr": None}))
    assert result.history[1].train_loss < result.history[0].train_loss
    assert result.history[0].lr == 0.001


# 2. Seeds and resuming ---


def test_same_seed_same_bits(settings):
    a, b = (run(Settings(**settings, seed=4)).folder for _ in range(2))
    other = run(Settings(**settings, seed=5)).folder
    assert without_timing(a) == without_timing(b) != without_timing(other)
    for name, value in weights_of(a).items():
        np.testing.assert_array_equal(value, weights_of(b)[name])


def test_population_statistics_do_not_disturb_the_training(settings):
    with_them = run(Settings(**settings, population_statistics=True)).folder
    assert without_timing(with_them) == without_timing(run(Settings(**settings)).folder)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("model", ["mlp_bn", "lenet_bn_scratch"])
def test_a_resumed_run_is_the_uninterrupted_one(settings, model, optimizer):
    settings.update(model=model, optimizer=optimizer, limit=80, batch_size=32)
    whole = run(Settings(**{**settings, "epochs": 4})).folder
    part = run(Settings(**settings)).folder
    mg.manual_seed(99)  # whatever happened in between
    result = resume(part, epochs=4)
    assert result.folder == part
    assert [row.epoch for row in result.history] == [1, 2, 3, 4]
    assert without_timing(part) == without_timing(whole)
    for name, value in weights_of(whole).items():
        np.testing.assert_array_equal(value, weights_of(part)[name])


@pytest.mark.parametrize("batch", [1, 3])
def test_an_interrupted_run_goes_on_bit_for_bit(settings, batch):
    settings["epochs"] = 3
    whole = run(Settings(**settings)).folder
    report = interrupt_at(2, batch)
    with pytest.raises(RunInterrupted) as caught:
        run(Settings(**settings), report)
    result = caught.value.result
    assert report.told[-1] == ("close",)
    assert result.interrupted
    assert [row.epoch for row in result.history] == [1]
    written = json.loads((result.folder / "run.json").read_text())
    assert (written["status"], written["interrupted"], written["epochs_done"]) == ("interrupted", True, 1)
    assert written["figures"]["train_loss"] == result.loss
    first_epoch = weights_of(run(Settings(**{**settings, "epochs": 1})).folder)
    for name, value in weights_of(result.folder).items():  # those that the figures belong to
        np.testing.assert_array_equal(value, first_epoch[name])
    assert str(result.folder) in str(caught.value)

    resume(result.folder)
    assert without_timing(result.folder) == without_timing(whole)
    for name, value in weights_of(whole).items():
        np.testing.assert_array_equal(value, weights_of(result.folder)[name])
    assert json.loads((result.folder / "run.json").read_text())["status"] == "finished"


def test_a_line_without_its_state_is_written_anew(settings):
    """Stopped between metrics.csv and the state: the line is dropped, the epoch is done again."""
    folder = run(Settings(**settings)).folder
    expected = without_timing(run(Settings(**{**settings, "epochs": 3})).folder)
    with open(folder / "metrics.csv", "a") as file:
        file.write("3,9,9,9,9,9,9\n")
    resume(folder, epochs=3)
    assert without_timing(folder) == expected


def test_population_weights_of_an_older_epoch_do_not_stay(settings):
    folder = run(Settings(**settings, population_statistics=True)).folder
    resume(folder, epochs=3, population_statistics=False)
    assert not (folder / "model_population.safetensors").exists()


def test_what_cannot_be_resumed(settings, tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not the folder of a run: run.json cannot be read"):
        resume(tmp_path / "nowhere")
    folder = run(Settings(**settings)).folder
    with pytest.raises(ArgumentError, match="all 2 epochs are done; ask for more with --epochs"):
        resume(folder)
    with pytest.raises(RunInterrupted) as caught:
        run(Settings(**settings), interrupt_at(1, 2))
    with pytest.raises(CheckpointError, match="no epoch of this run was finished; start it again"):
        resume(caught.value.result.folder)


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"model": "mlp"}, {"colour": 1}])
def test_settings_that_a_resumed_run_may_not_change(settings, change):
    folder = run(Settings(**settings)).folder
    before = (folder / "run.json").read_text()
    (name,) = change
    with pytest.raises(ArgumentError, match=f"resume: {name} cannot be given.*what may change is epochs, "):
        resume(folder, epochs=3, **change)
    assert (folder / "run.json").read_text() == before
    assert len(resume(folder, epochs=3, compile=False, threads=1, plot=False).history) == 3


# 3. Failure ---


def test_ctrl_c_in_the_first_epoch_keeps_the_weights(settings):
    with pytest.raises(RunInterrupted) as caught:
        run(Settings(**{**settings, "plot": True}), interrupt_at(1, 2))
    folder = caught.value.result.folder
    for name, value in caught.value.result.model.state_dict().items():  # of the moment: there are no others
        np.testing.assert_array_equal(value.numpy(), weights_of(folder)[name])
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.csv", "model.safetensors", "run.json"]
    assert without_timing(folder) == [["epoch", "train_loss", "train_acc", "test_acc", "lr"]]


def test_ctrl_c_while_an_epoch_is_written_saves_its_weights(settings, monkeypatch):
    """The history has the epoch already, the weights' file does not."""
    expected = weights_of(run(Settings(**{**settings, "epochs": 2})).folder)

    def stop(self, row):
        if row.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "add_metrics", stop)
    with pytest.raises(RunInterrupted) as caught:
        run(Settings(**settings))
    assert len(caught.value.result.history) == 2
    for name, value in weights_of(caught.value.result.folder).items():
        np.testing.assert_array_equal(value, expected[name])


def test_a_loop_over_seeds_ends_with_ctrl_c(settings):
    """RunInterrupted passes through the usual `except Exception`."""
    begun = []

    def several_runs():
        for seed in range(3):
            begun.append(seed)
            with contextlib.suppress(Exception):
                run(Settings(**settings, seed=seed), interrupt_at(1, 1))

    with pytest.raises(KeyboardInterrupt):
        several_runs()
    assert begun == [0]


def test_a_loss_that_became_nan_leaves_the_last_good_weights(settings):
    kept = {}

    def spoil(epoch, number):
        if (epoch, number) == (2, 1):
            kept.update(weights_of(next(iter(RunFolder(settings["output"]).path.iterdir()))))
            report.model[1].weight.array[...] = np.nan

    report = Recording(spoil)

    def build(settings):
        report.model = build_model(settings)
        return report.model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minigrad.training.setup.build_model", build)
        with pytest.raises(NonFiniteError, match="the loss is nan in epoch 2, batch 2") as caught:
            run(Settings(**settings), report)
    (folder,) = RunFolder(settings["output"]).path.iterdir()
    assert caught.value.__notes__ == [f"what the run had before is in {folder}"]
    written = json.loads((folder / "run.json").read_text())
    assert written["status"] == "failed"
    assert written["error"].startswith("training diverged: the loss is nan in epoch 2, batch 2")
    assert written["epochs_done"] == 1
    for name, value in weights_of(folder).items():
        np.testing.assert_array_equal(value, kept[name])
    assert report.told[-1] == ("close",)


def test_an_unwritable_output_folder_is_found_before_anything_is_done(settings, tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("the data was loaded first")

    monkeypatch.setattr(data, "load", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"output folder .*file/runs cannot be written"):
        run(Settings(**{**settings, "output": str(tmp_path / "file" / "runs")}))


def test_a_device_that_is_not_there(settings, monkeypatch, tmp_path):
    with pytest.raises(ArgumentError, match="unknown device 'gpu': use 'cpu', 'cuda'"):
        run(Settings(**{**settings, "device": "gpu"}))
    assert list((tmp_path / "runs").iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_threads_are_limited_during_the_run_only(settings):
    def threads():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    before, seen = threads(), []
    run(Settings(**settings, threads=1), Recording(lambda epoch, number: seen.append(threads())))
    assert seen[0] == {1}
    assert threads() == before


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("asked", [None, 1, 3])
def test_what_a_run_does_with_threads_ends_with_it(settings, compile, asked):
    """A compiled run leaves BLAS one thread; a report that changes the threads does so for the run."""

    def blas():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    def meddle(epoch, number):
        seen.append((mg.get_num_threads(), blas()))
        mg.set_num_threads(5)
        threadpoolctl.threadpool_limits(limits=2, user_api="blas")

    mine, library, seen = mg.get_num_threads(), blas(), []
    with pytest.raises(NonFiniteError):  # also when the run fails
        run(Settings(**{**settings, "threads": asked, "compile": compile, "lr": 1e30}), Recording(meddle))
    assert seen[0] == (asked or mine, {1} if compile else {asked} if asked else library)
    assert (mg.get_num_threads(), blas()) == (mine, library)


@pytest.mark.parametrize("model", ["lenet_bn", "lenet_bn_scratch", "mlp_bn"])
def test_a_compiled_run_has_the_same_bits_with_any_number_of_threads(settings, model):
    """Where layers are not fused, as in the pass for the population statistics, BLAS must not use threads."""
    one, two = (
        run(Settings(**{**settings, "model": model, "population_statistics": True, "threads": threads}))
        for threads in (1, 2)
    )
    assert without_timing(one.folder) == without_timing(two.folder)
    assert one.population_acc == two.population_acc
    for file in ("model.safetensors", "model_population.safetensors"):
        ours, theirs = checkpoint.load(one.folder / file), checkpoint.load(two.folder / file)
        for name, value in ours.items():
            np.testing.assert_array_equal(value.numpy(), theirs[name].numpy())
