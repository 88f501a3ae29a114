"""Captured evaluation without a GPU, see `test_captured.py`: the accuracy of `evaluate`, and its errors."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.backend import graphs as backend_graphs
from minigrad.data import ArrayDataset, DataLoader
from minigrad.errors import LabelError, NonFiniteError, ShapeError
from minigrad.training import CannotCapture, CapturedEvaluation, CapturedTesting, captured, evaluate
from tests import strict
from tests.strict.capture import StrictGraphs
from tests.training.test_captured import Looks, kernels

__all__ = ["kernels"]  # the fixture: each test runs with and without the CUDA kernels

RNG = np.random.default_rng(0)
DATA = ArrayDataset(RNG.integers(0, 256, (22, 28, 28), dtype=np.uint8), np.arange(22) % 10)


def lenet():
    mg.manual_seed(0)
    return mg.compile(models.lenet_bn().to("strict"))


def linear(classes, *more):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes), *more).to("strict")


def loader(data=DATA, batch_size=8, **options):
    return DataLoader(data, batch_size, device="strict", **options)


def test_it_is_evaluate(kernels):
    model, data = lenet(), loader()
    found = CapturedEvaluation(model, data.resident, 8, StrictGraphs())
    assert found.epoch() == evaluate(model, data)
    with mg.no_grad():
        model[0].weight += 0.3  # the graph reads the weights anew
        model[4].weight *= -1.0
    assert found.epoch() == evaluate(model, data)
    assert len(found.graphs.captured) == 2  # batches of 8, and of 6
    assert found.epoch(np.arange(16)) == evaluate(model, loader(DATA.head(16)))
    if kernels:
        assert len(found.graphs.captured[0].launches) == 14


def test_arrays_that_were_exchanged_make_new_graphs():
    model, data = lenet(), loader()
    found = CapturedEvaluation(model, data.resident, 8, StrictGraphs())
    found.epoch()
    model[0].weight.array = -3 * model[0].weight.array
    assert found.epoch() == evaluate(model, data)
    assert len(found.graphs.captured) == 4


@pytest.mark.parametrize("examples", [1, 8, 9])
def test_few_examples(examples):
    """Warming up must not go on to batches that are not there: a kernel would read beyond the order."""
    model, data = lenet(), loader(DATA.head(examples))
    assert CapturedEvaluation(model, data.resident, 8, StrictGraphs()).epoch() == evaluate(model, data)


def test_an_epoch_waits_for_two_arrays():
    found = CapturedEvaluation(lenet(), loader().resident, 8, StrictGraphs())
    found.epoch()
    strict.counts.reset()
    found.epoch()
    assert (strict.counts.synchronisations, strict.counts.uploads) == (2, 1)  # the order goes up


def test_errors():
    images = np.zeros((22, 28, 28), np.float32)
    images[9] = np.nan
    data = ArrayDataset(images, DATA.labels).to("strict")
    with pytest.raises(NonFiniteError, match="outputs for batch 2 are not finite"):
        CapturedEvaluation(linear(10), data, 8, StrictGraphs()).epoch()
    resident = loader().resident
    with pytest.raises(LabelError, match="label 9: with 5 classes"):
        CapturedEvaluation(linear(5), resident, 8, StrictGraphs()).epoch()
    with pytest.raises(ShapeError, match=r"must give \(N, classes\), got shape \(8, 1, 28, 10\)"):
        CapturedEvaluation(nn.Linear(28, 10).to("strict"), resident, 8, StrictGraphs()).epoch()
    with pytest.raises(CannotCapture, match="waiting for the device"):
        CapturedEvaluation(linear(10, Looks()), resident, 8, StrictGraphs()).epoch()


# In a run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
def test_testing_is_evaluate(drop_last):
    model, data, said = lenet(), loader(drop_last=drop_last), []
    testing = CapturedTesting(model, data, said.append, StrictGraphs())
    assert testing.accuracy() == testing.accuracy() == evaluate(model, data)
    assert (said, testing.reason) == ([], None)
    assert testing.evaluation.graphs.launched == 2 * len(data)


def test_what_cannot_be_captured_is_said_once():
    model, said = linear(10, Looks()), []
    testing = CapturedTesting(model, loader(), said.append, StrictGraphs())
    assert testing.accuracy() == testing.accuracy() == evaluate(model, loader())
    assert len(said) == 1
    assert said[0].startswith("evaluation runs one kernel at a time and not as a CUDA graph: RuntimeError: ")


def test_hooks_are_called_for_each_batch():
    model, calls, said = lenet(), [], []
    model[4].register_forward_hook(lambda layer, x, y: calls.append(1))
    CapturedTesting(model, loader(), said.append, StrictGraphs()).accuracy()
    assert len(calls) == 3
    assert "layer '4' has hooks" in said[0]


def test_a_device_without_graphs(monkeypatch):
    """A stream that cannot be made is no reason to end a run."""

    def broken(index):
        raise MemoryError("no stream left")

    assert captured.CudaGraphs is backend_graphs.CudaGraphs
    monkeypatch.setattr(captured, "CudaGraphs", broken)
    with pytest.raises(CannotCapture, match=r"^MemoryError: no stream left$"):
        CapturedEvaluation(lenet(), loader().resident, 8)


def test_on_the_cpu_nothing_is_said(capsys):
    testing = CapturedTesting(models.lenet_bn(), DataLoader(DATA, 8))
    assert 0 <= testing.accuracy() <= 1
    assert testing.reason == "the model is not on a GPU"
    assert capsys.readouterr().out == ""
