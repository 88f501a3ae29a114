"""Captured steps without a GPU: a tape stands for the CUDA graph, g++ compiles the kernels.

Each test runs twice: with the generic operations, and with the CUDA kernels where there is a C++ compiler.
"""

import functools

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn, optim
from minigrad.data import ArrayDataset, Compose, DataLoader, Normalize, ToFloat
from minigrad.errors import LabelError, NonFiniteError
from minigrad.kernels.cuda import module
from minigrad.optim.flat import FlatOptimizer, why_not_flat
from minigrad.training import (
    CannotCapture,
    CapturedStep,
    CapturedTesting,
    CapturedTraining,
    Settings,
    resume,
    run,
    runner,
    train_epoch,
)
from minigrad.training import captured as captured_module
from minigrad.training.batches import ResidentBatches
from tests import strict
from tests.kernels.cuda.emulator import COMPILER
from tests.strict.capture import StrictGraphs, StrictLauncher

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (14, 12, 12), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 14)

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD, all options": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "SGD, uphill": lambda p: optim.SGD(p, lr=0.01, momentum=0.5, dampening=0.3, maximize=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.01),
    "AdamW, amsgrad": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
}


@pytest.fixture(params=["operations", "kernels"], autouse=True)
def kernels(request):
    """Whether the CUDA kernels take part."""
    strict.install()
    if request.param == "operations":
        yield False
        return
    if COMPILER is None:
        pytest.skip("needs g++, which compiles the CUDA sources for the CPU")
    before = module.set_launcher(StrictLauncher())
    yield True
    module.set_launcher(before)


def small(compiled=True, last=4):
    """Convolution, both batch norms, all kinds of layers that lenet_bn has, on pictures of 12 x 12.

    No biases before batch norm: their gradient is rounding error, which Adam would make large.
    """
    mg.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Sigmoid(), nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(108, 6, bias=False), nn.BatchNorm1d(6), nn.Sigmoid(),
        nn.Linear(6, last),
    )  # fmt: skip
    return mg.compile(model) if compiled else model


def loader(device=None, labels=LABELS, transform=None, **options):
    options = {"shuffle": True, "generator": 7, **options}
    return DataLoader(ArrayDataset(IMAGES, labels, transform=transform), 5, device=device, **options)


def numbers(model):
    return {name: value.cpu().numpy().copy() for name, value in model.state_dict().items()}


def same(found, expected, tolerance=2e-4):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance / 10, err_msg=name)


def captured(optimizer="SGD", say=None, model=None, **options):
    """(CapturedTraining on the stand-in, its model, its optimizer, what it said)."""
    said = []
    model = (small() if model is None else model).to("strict")
    made = (
        OPTIMIZERS[optimizer](model.parameters())
        if isinstance(optimizer, str)
        else optimizer(model.parameters())
    )
    graphs = StrictGraphs()
    training = CapturedTraining(
        model, loader("strict", **options), made, say=said.append if say is None else say, graphs=graphs
    )
    return training, model, made, said


def eager(optimizer="SGD", epochs=1, model=None, change=None, **options):
    """The same on the CPU, with train_epoch."""
    model = small() if model is None else model
    made = OPTIMIZERS[optimizer](model.parameters())
    data, figures = loader(**options), []
    for epoch in range(1, epochs + 1):
        if change and epoch > 1:
            change(made)
        figures.append(train_epoch(model, data, made, epoch=epoch))
    return model, made, figures


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_epochs_are_the_epochs_of_the_cpu(name):
    """The same batches, the short last one too; weights, statistics, loss, accuracy, optimizer state."""
    training, model, made, said = captured(name)
    reference, expected_made, expected = eager(name, epochs=3)
    for epoch in (1, 2, 3):
        figures = training.epoch(epoch)
        wanted = expected[epoch - 1]
        assert figures.loss == pytest.approx(wanted.loss, rel=1e-4)
        assert (figures.accuracy, figures.examples) == (wanted.accuracy, wanted.examples)
    assert (said, training.reason) == ([], None)
    assert len(training.graphs.captured) == 2  # batches of 5, and of 4
    assert training.graphs.launched == 2 + 3 * 3  # two checks; three epochs of three batches
    same(numbers(model), numbers(reference))
    state, wanted_state = made.state_dict()["state"], expected_made.state_dict()["state"]
    assert list(state) == list(wanted_state)
    for i, kept in wanted_state.items():
        assert list(state[i]) == list(kept) or sorted(state[i]) == sorted(kept)
        for key, value in kept.items():
            found = state[i][key]
            found = found if isinstance(found, int) else mg.backend.to_numpy(found)
            np.testing.assert_allclose(found, value, rtol=2e-3, atol=2e-5)


def test_lenet_bn_itself(kernels):
    images = RNG.integers(0, 256, (14, 28, 28), dtype=np.uint8)
    data = ArrayDataset(images, np.arange(14) % 10)
    mg.manual_seed(0)
    here = models.lenet_bn()
    there = models.lenet_bn()
    there.load_state_dict(here.state_dict())
    there = mg.compile(there.to("strict"))
    figures = train_epoch(here, DataLoader(data, 8), optim.SGD(here.parameters(), lr=0.1))
    said = []
    training = CapturedTraining(
        there,
        DataLoader(data, 8, device="strict"),
        optim.SGD(there.parameters(), lr=0.1),
        say=said.append,
        graphs=StrictGraphs(),
    )
    found = training.epoch()
    assert said == []
    assert found.loss == pytest.approx(figures.loss, rel=1e-4)
    same(numbers(there), numbers(here), 1e-3)
    if kernels:  # launches of a step: what a GPU has to do one after the other
        assert len(training.graphs.captured[0].launches) == 41


def test_an_epoch_waits_once_for_each_array_that_is_read():
    training, *_ = captured()
    training.epoch(1)
    strict.counts.reset()
    training.epoch(2)
    assert strict.counts.synchronisations <= 3  # losses, right answers
    assert strict.counts.uploads == 1  # the order


def test_what_is_kept_is_not_from_the_graphs_pool(monkeypatch):
    """What a graph had in the pool is free again after the capture, and each replay writes into it. An array that
    is kept must not lie there; what a step writes, on the other hand, must be made there."""
    training, _, made, _ = captured("SGD, all options")
    depths = {"table": [], "__init__": [], "begin": [], "step": []}
    for kind, name in ((FlatOptimizer, "table"), (FlatOptimizer, "__init__"), (FlatOptimizer, "step"),
                       (ResidentBatches, "begin")):  # fmt: skip
        original = getattr(kind, name)

        def noted(self, *args, name=name, original=original, **options):
            depths[name].append(training.graphs.depth)
            return original(self, *args, **options)

        monkeypatch.setattr(kind, name, noted)
    training.epoch(1)
    made.param_groups[0]["momentum"] = 0.0
    made.param_groups[0]["nesterov"] = False
    training.epoch(2)
    assert set(depths["table"]) == set(depths["__init__"]) == {0}
    assert min(depths["step"]) >= 1  # eager steps fill the pool
    assert set(depths["begin"]) == {1}  # on the stream that the kernels follow on


def test_a_changed_learning_rate_reaches_the_graph():
    """Baked into the graph it would stay what it was."""

    def change(optimizer):
        optimizer.param_groups[0]["lr"] *= 0.1

    training, model, made, _ = captured()
    training.epoch(1)
    change(made)
    training.epoch(2)
    reference, _, _ = eager(epochs=2, change=change)
    assert len(training.graphs.captured) == 2
    same(numbers(model), numbers(reference))


def test_an_option_of_another_kind_makes_new_graphs():
    """Momentum from now on: there are arrays and formulas that the graph does not have."""

    def change(optimizer):
        optimizer.param_groups[0]["momentum"] = 0.9

    training, model, made, _ = captured()
    training.epoch(1)
    change(made)
    training.epoch(2)
    reference, _, _ = eager(epochs=2, change=change)
    assert len(training.graphs.captured) == 4
    same(numbers(model), numbers(reference))


def test_weights_may_be_written_between_epochs_and_arrays_exchanged():
    training, model, _, _ = captured()
    training.epoch(1)
    with mg.no_grad():
        model[0].weight.fill_(0.25)  # in place: the graph sees it
    training.epoch(2)
    assert len(training.graphs.captured) == 2
    start = numbers(model)
    model[0].weight.array = model[0].weight.array.copy()  # another array: the graph would not
    training.epoch(3)
    assert len(training.graphs.captured) == 4
    assert (numbers(model)["0.weight"] != start["0.weight"]).any()


@pytest.mark.parametrize("name", ["SGD, all options", "Adam"])
def test_state_goes_on_after_saving_and_loading(name):
    training, model, made, _ = captured(name)
    training.epoch(1)
    weights, state = numbers(model), made.state_dict()
    other = small().to("strict")
    other.load_state_dict(weights)
    optimizer = OPTIMIZERS[name](other.parameters())
    optimizer.load_state_dict(state)
    data = loader("strict")
    data.draw_order()  # the first epoch's
    CapturedTraining(other, data, optimizer, graphs=StrictGraphs()).epoch(2)
    training.epoch(2)
    same(numbers(other), numbers(model), 1e-5)


def test_eager_steps_may_follow():
    training, model, made, _ = captured("Adam")
    training.epoch(1)
    train_epoch(model, loader("strict"), made)
    _, expected, _ = eager("Adam", epochs=2)
    assert made.state_dict()["state"][0]["step"] == expected.state_dict()["state"][0]["step"] == 6


@pytest.mark.parametrize("name", ["Adam", "SGD, uphill"])
def test_eager_steps_in_between(name):
    """The number of steps lies on the device for the graphs, and with the optimizer for everybody else."""
    training, model, made, _ = captured(name)
    training.epoch(1)
    train_epoch(model, training.loader, made, epoch=2)
    training.epoch(3)
    reference, _, _ = eager(name, epochs=3)
    assert len(training.graphs.captured) == 2
    same(numbers(model), numbers(reference))


def test_a_parameter_that_is_frozen_later_stays_as_it_is():
    """Its gradient is in the graph, which must not be used any more."""
    training, model, _, said = captured()
    training.epoch(1)
    model[0].weight.requires_grad = False
    before = numbers(model)["0.weight"]
    training.epoch(2)
    assert "parameter 0 of the optimizer gets no gradient" in said[0]
    np.testing.assert_array_equal(numbers(model)["0.weight"], before)


def test_a_group_of_parameters_that_comes_later():
    training, model, made, _ = captured(optimizer=lambda p: optim.SGD(list(p)[:-1], lr=0.1))
    training.epoch(1)
    before = numbers(model)
    made.add_param_group({"params": list(model.parameters())[-1:]})
    training.epoch(2)
    assert (numbers(model)["8.bias"] != before["8.bias"]).all()


def test_an_interrupted_epoch_counts_the_steps_that_were_started(monkeypatch):
    training, _, made, _ = captured("Adam")
    training.epoch(1)
    original, calls = StrictGraphs.launch, []

    def launch(self, graph):
        calls.append("launch")
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(self, graph)

    monkeypatch.setattr(StrictGraphs, "launch", launch)
    monkeypatch.setattr(StrictGraphs, "synchronize", lambda self: calls.append("wait"))
    with pytest.raises(KeyboardInterrupt):
        training.epoch(2)
    assert calls == ["wait", "launch", "launch", "wait"]
    assert made.state_dict()["state"][0]["step"] == 3 + 1


def test_drop_last():
    training, *_ = captured(drop_last=True)
    assert training.epoch().examples == 10
    assert len(training.graphs.captured) == 1


def test_other_transforms_and_losses():
    transform = Compose([ToFloat(), Normalize(0.3, 0.5)])
    reference, optimizer = small(), None
    optimizer = OPTIMIZERS["SGD"](reference.parameters())
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    train_epoch(reference, loader(transform=ToFloat()), optimizer, loss)
    model = small().to("strict")
    training = CapturedTraining(
        model, loader("strict"), OPTIMIZERS["SGD"](model.parameters()), loss, graphs=StrictGraphs()
    )
    training.epoch()
    assert training.reason is None
    same(numbers(model), numbers(reference))
    _, _, expected = eager(transform=transform)
    assert expected[0].examples == 14


def test_a_transform_of_pixels_goes_through_a_table(kernels):
    """Where there are kernels; otherwise its constants lie on the device."""
    transform = Compose([ToFloat(), Normalize(0.3, 0.5)])
    training, model, _, said = captured(transform=transform)
    reference, _, _ = eager(transform=transform)
    training.epoch()
    assert said == []
    assert (training.step.batches._table is not None) == kernels
    same(numbers(model), numbers(reference))


# What cannot be captured ---------------------------------------------------------------------------------


class Looks(nn.Module):
    """A layer that waits for the device."""

    def forward(self, x):
        return x * 2 if x.sum().item() > 1e9 else x


class Sign(optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    def _update(self, group):
        for _, array, g in self._with_gradients(group):
            array -= group["lr"] * mg.backend.namespace(g).sign(g)


CANNOT = {
    "waits": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 4), Looks()),
        "SGD",
        "waiting for the device",
    ),
    "random": (
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(144, 4)),
        "SGD",
        "copying host data",
    ),
    "optimizer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 4)), Sign, "the optimizer is Sign"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_captured_runs_eagerly_and_says_so_once(name):
    make, optimizer, reason = CANNOT[name]
    mg.manual_seed(1)
    here = make()
    mg.manual_seed(1)
    training, there, _, said = captured(optimizer, model=make())
    made = (
        optimizer(here.parameters())
        if not isinstance(optimizer, str)
        else OPTIMIZERS[optimizer](here.parameters())
    )
    data = loader()
    for epoch in (1, 2):
        mg.manual_seed(epoch)
        expected = train_epoch(here, data, made, epoch=epoch)
        mg.manual_seed(epoch)
        found = training.epoch(epoch)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    same(numbers(there), numbers(here))
    assert len(said) == 1
    assert said[0].startswith("steps run one kernel at a time and not as a CUDA graph: ")
    assert reason in said[0]
    assert reason in training.reason


@pytest.mark.parametrize("name", ["Adam", "SGD, uphill"])
def test_an_optimizer_that_goes_on_eagerly_has_forgotten_the_attempt(name):
    """The first step of a momentum is another one than those after it."""
    mg.manual_seed(1)
    here = CANNOT["waits"][0]()
    mg.manual_seed(1)
    training, there, made, said = captured(name, model=CANNOT["waits"][0]())
    training.epoch(1)
    optimizer = OPTIMIZERS[name](here.parameters())
    train_epoch(here, loader(), optimizer)
    assert len(said) == 1
    same(numbers(there), numbers(here))
    assert sorted(made.state_dict()["state"][0]) == sorted(optimizer.state_dict()["state"][0])


def test_a_pool_that_finds_no_memory(monkeypatch):
    """A step that runs eagerly needs less, and begins where this one did."""
    original, calls = FlatOptimizer.step, []

    def step(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("64 bytes more do not fit")
        return original(self, *args, **options)

    monkeypatch.setattr(FlatOptimizer, "step", step)
    training, model, _, said = captured()
    training.epoch()
    assert said[0].endswith("not as a CUDA graph: MemoryError: 64 bytes more do not fit")
    reference, _, _ = eager()
    same(numbers(model), numbers(reference))


def test_a_device_without_graphs(monkeypatch):
    """A stream that cannot be made is no reason to end a run."""

    def broken(index):
        raise MemoryError("no stream left\nat all")

    training, *_, said = captured()
    training.graphs = None
    monkeypatch.setattr(captured_module, "CudaGraphs", broken)
    assert training.epoch().examples == training.epoch().examples == 14
    assert said == ["steps run one kernel at a time and not as a CUDA graph: MemoryError: no stream left"]


@pytest.mark.parametrize("kind", ["forward", "before", "gradient"])
def test_hooks_are_called_for_each_batch(kind):
    """Also if they come after the graphs were made."""
    training, model, _, said = captured()
    training.epoch(1)
    calls = []
    if kind == "forward":
        model[4].register_forward_hook(lambda layer, x, y: calls.append(1))
    elif kind == "before":
        model[4].register_forward_pre_hook(lambda layer, x: calls.append(1))
    else:
        model[0].weight.register_hook(lambda gradient: calls.append(1))
    training.epoch(2)
    assert len(calls) == 3
    assert ("parameter '0.weight'" if kind == "gradient" else "layer '4'") in said[0]


def test_a_replay_that_gives_something_else_is_not_used(monkeypatch):
    training, model, _, said = captured()
    monkeypatch.setattr(
        StrictGraphs, "launch", lambda self, graph: [launch() for launch in graph.launches[:-2]]
    )
    training.epoch()
    assert "a replay differs from the step that was captured" in said[0]
    reference, _, _ = eager()
    same(numbers(model), numbers(reference))


def test_a_parameter_without_gradient():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(144, 4), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x.flatten(1))

    model = Idle().to("strict")
    training, *_, said = captured(model=model)
    training.epoch()
    assert "parameter 2 of the optimizer gets no gradient" in said[0]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_whole_run_on_a_device(tmp_path, monkeypatch, compiled):
    """The trainer: the same figures as on the CPU, files, resuming; --no-compile runs without graphs."""
    graphs, tests = StrictGraphs(), StrictGraphs()
    monkeypatch.setattr(runner, "CapturedTraining", functools.partial(CapturedTraining, graphs=graphs))
    monkeypatch.setattr(runner, "CapturedTesting", functools.partial(CapturedTesting, graphs=tests))
    common = {
        "model": "mlp_bn",
        "dataset": "garments",
        "limit": 60,
        "batch_size": 25,
        "lr": 0.05,
        "plot": False,
    }
    runs = {}
    for device in ("cpu", "strict"):
        settings = Settings(
            **common, epochs=2, device=device, output=str(tmp_path / device), compile=compiled
        )
        runs[device] = run(settings)
    for here, there in zip(runs["cpu"].history, runs["strict"].history, strict=True):
        assert there.train_loss == pytest.approx(here.train_loss, rel=1e-3)
        assert there.test_acc == pytest.approx(here.test_acc, abs=0.05)
    assert bool(graphs.captured) == bool(tests.captured) == compiled
    assert len(resume(runs["strict"].folder, epochs=3).history) == 3


def test_on_the_cpu_nothing_is_said(capsys):
    model = small()
    training = CapturedTraining(model, loader(), OPTIMIZERS["SGD"](model.parameters()))
    assert training.epoch().examples == 14
    assert training.reason == "the model is not on a GPU"
    assert capsys.readouterr().out == ""


def test_a_loss_that_is_no_number_names_its_batch():
    training, _, made, _ = captured()
    training.epoch(1)
    made.param_groups[0]["lr"] = 1e38
    with pytest.raises(NonFiniteError, match=r"epoch 2, batch [23]\n  learning rate  1e\+38"):
        training.epoch(2)


def test_more_labels_than_classes():
    model = small(last=3).to("strict")
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    step = CapturedStep(model, optimizer, loader("strict").resident, 5, graphs=StrictGraphs())
    with pytest.raises(LabelError, match="label 3"):
        step.epoch(np.arange(14))


def test_why_not_flat():
    w = [mg.zeros(2, requires_grad=True), mg.zeros(2, dtype=mg.float64, requires_grad=True)]
    assert why_not_flat(optim.SGD(w)) == "parameter group 0 has numbers of float32 and float64"
    assert why_not_flat(optim.SGD(w[:1])) is None
    adam = optim.Adam([mg.zeros(2, requires_grad=True) for _ in range(2)])
    adam.param_groups[0]["params"][0].grad = mg.ones(2)
    adam.step()
    assert why_not_flat(adam) == "the parameters have made different numbers of steps"
    model = small()
    with pytest.raises(CannotCapture, match="the optimizer is Sign"):
        CapturedStep(model, Sign(model.parameters()), loader().dataset, 5, graphs=StrictGraphs())
