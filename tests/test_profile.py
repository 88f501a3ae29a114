"""`python -m minigrad.profile`: what belongs to which layer, what is counted, what is printed.

Times are tested with a clock that only moves when a layer moves it.
"""

import re

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import models, nn
from minigrad import profile as command
from minigrad.errors import ArgumentError
from minigrad.profile import profile
from minigrad.training import watch
from minigrad.training.watch import Watch


def batch(n=4, shape=(1, 28, 28)):
    rng = np.random.default_rng(0)
    return mg.tensor(rng.random((n, *shape), dtype=np.float32)), mg.tensor(rng.integers(0, 10, n))


def rows(found):
    return {layer.name: layer for layer in found.layers}


# 1. Whose time it is ---------------------------------------------------------------------------------------


class Clock:
    """Stands in for the module `time`."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(command, "time", clock)
    return clock


def working(clock, forward, backward):
    """A function from tensor to tensor that takes so many seconds in both directions."""

    class Work(mg.Function):
        @staticmethod
        def forward(ctx, x):
            clock.now += forward
            return x * 1

        @staticmethod
        def backward(ctx, gy):
            clock.now += backward
            return gy

    return Work.apply


class Worker(nn.Module):
    """A layer that works; `inner` comes first, and is called by it."""

    def __init__(self, work, inner=None, again=None):
        super().__init__()
        self.work = work
        if inner is not None:
            self.inner = inner
        self.again = again

    def forward(self, x):
        if hasattr(self, "inner"):
            x = self.inner(x)
        x = self.work(x)
        return x if self.again is None else x + self.again(x)


def test_forward_and_backward_go_to_their_layers(clock):
    net = nn.Sequential(
        nn.Linear(3, 10), Worker(working(clock, 1, 2)), nn.Identity(), Worker(working(clock, 4, 8))
    )
    found = rows(profile(net, *batch(shape=(3,)), steps=3))
    assert (found["1"].forward, found["1"].backward) == ([1.0] * 3, [2.0] * 3)
    assert (found["3"].forward, found["3"].backward) == ([4.0] * 3, [8.0] * 3)
    assert (found["0"].forward, found["0"].backward) == ([0.0] * 3, [0.0] * 3)
    assert "2" not in found  # adds nothing to the graph
    assert [sum(found["(rest)"].forward), sum(found["(rest)"].backward)] == [0, 0]


def test_a_layer_inside_of_a_layer(clock):
    """The outer one pays for its own work only, before and after the inner one's."""
    inner = Worker(working(clock, 1, 2))
    outer = Worker(working(clock, 4, 8), inner, working(clock, 16, 32))
    found = rows(profile(nn.Sequential(nn.Linear(3, 10), outer), *batch(shape=(3,)), steps=2))
    assert list(found)[:3] == ["0", "1", "1.inner"]
    assert (found["1"].forward, found["1"].backward) == ([20.0] * 2, [40.0] * 2)
    assert (found["1.inner"].forward, found["1.inner"].backward) == ([1.0] * 2, [2.0] * 2)


def test_a_layer_used_twice(clock):
    layer = Worker(working(clock, 1, 2))
    found = rows(profile(nn.Sequential(nn.Linear(3, 10), layer, layer), *batch(shape=(3,)), steps=2))
    assert (found["1"].forward, found["1"].backward) == ([2.0] * 2, [4.0] * 2)


def test_work_before_the_layer_that_it_calls(clock):
    """The inner layer's Functions end at its arguments; what was before belongs to the outer one."""

    class Before(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Worker(working(clock, 1, 2))

        def forward(self, x):
            return self.inner(working(clock, 4, 8)(x))

    found = rows(profile(nn.Sequential(nn.Linear(3, 10), Before()), *batch(shape=(3,)), steps=2))
    assert (found["1"].forward, found["1"].backward) == ([4.0] * 2, [8.0] * 2)
    assert (found["1.inner"].forward, found["1.inner"].backward) == ([1.0] * 2, [2.0] * 2)


def test_what_belongs_to_no_layer_and_the_whole_step(clock):
    """A container that takes time and adds nothing to the graph; a hook on a tensor takes time in backward."""

    class Slow(nn.Sequential):
        def forward(self, x):
            clock.now += 1
            y = super().forward(x)
            if y.requires_grad:
                y.register_hook(lambda gradient: setattr(clock, "now", clock.now + 2))
            return y

    found = profile(Slow(nn.Linear(3, 10), Worker(working(clock, 4, 8))), *batch(shape=(3,)), steps=2)
    rest = rows(found)["(rest)"]
    assert (rest.forward, rest.backward) == ([1.0] * 2, [2.0] * 2)
    assert (found.watched, found.unwatched) == (15.0, 15.0)


def test_the_median_step(clock):
    """Steps differ; a row shows the median of its own figures."""
    seconds = iter([0, 0, 0, 0, 1, 1, 5, 5, 3, 3])  # each twice: without and with stopwatches

    class Work(mg.Function):
        @staticmethod
        def forward(ctx, x):
            clock.now += next(seconds)
            return x * 1

        @staticmethod
        def backward(ctx, gy):
            return gy

    found = profile(nn.Sequential(nn.Linear(3, 10), Worker(Work.apply)), *batch(shape=(3,)), steps=3)
    row = rows(found)["1"]
    assert row.forward == [1, 5, 3]
    assert row.seconds == 3
    assert (found.watched, found.unwatched) == (3, 3)


# 2. Watching changes nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_same_numbers_with_and_without_stopwatches(compiled):
    X, y = batch(8)
    results = []
    for watching in (False, True):
        mg.manual_seed(3)
        net = models.lenet_bn()
        net = mg.compile(net) if compiled else net
        if watching:
            with Watch(net).one_step():
                F.cross_entropy(net(X), y).backward()
        else:
            F.cross_entropy(net(X), y).backward()
        results.append([p.grad.numpy() for p in net.parameters()])
    for plain, watched in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, watched)


@pytest.mark.parametrize("compiled", [False, True])
def test_nothing_stays_behind(compiled):
    net = mg.compile(models.lenet_bn()) if compiled else models.lenet_bn()
    before = [sorted(vars(module)) for module in net.modules()]
    profile(net, *batch(), steps=1)
    assert [sorted(vars(module)) for module in net.modules()] == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_stopwatches_come_out_after_an_error():
    net = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="linear"), Watch(net).one_step():
        net(mg.ones(2, 4))
    assert not net._forward_hooks
    assert not net[0]._forward_pre_hooks


# 3. Rows and counts ----------------------------------------------------------------------------------------


def test_the_layers_of_lenet_bn():
    found = profile(models.lenet_bn(), *batch(), steps=2)
    kinds = [type(layer).__name__ for layer in models.lenet_bn()]
    assert [(layer.name, layer.kind) for layer in found.layers[:16]] == [
        (str(i), kind) for i, kind in enumerate(kinds)
    ]
    assert [layer.name for layer in found.layers[16:]] == ["loss", "(rest)", "optimizer"]
    assert all(len(layer.forward) == len(layer.backward) == 2 for layer in found.layers)
    assert (found.batch_size, found.steps) == (4, 2)


def test_fused_runs_are_rows():
    """And they stay fused while they are timed: a hook on one of their layers would be called otherwise."""
    net = mg.compile(models.lenet_bn())
    found = profile(net, *batch(), steps=1)
    kinds = {layer.name: layer.kind for layer in found.layers}
    steps = dict(net.named_steps())
    assert list(kinds) == [*steps, "loss", "(rest)", "optimizer"]
    assert kinds["0-3"] == "Conv2d + BatchNorm2d + Sigmoid + MaxPool2d"
    assert kinds["15"] == "Linear"
    plain = rows(profile(models.lenet_bn(), *batch(), steps=1))
    assert rows(found)["0-3"].flops == plain["0"].flops
    assert rows(found)["4-7"].flops == plain["4"].flops


def test_runs_inside_of_modules_have_full_names():
    net = mg.compile(models.resnet8())
    found = rows(profile(net, *batch(2, (3, 32, 32)), steps=1))
    assert found["layer2.0.shortcut.0-1"].kind == "Conv2d + BatchNorm2d"
    assert found["layer2.0"].kind == "BasicBlock"  # it adds the shortcut
    assert "layer2" not in found  # it only calls the block


def test_flops_by_hand():
    """Two for each weight and use; the first layer has no gradient of x to find."""
    found = rows(profile(models.lenet_bn(), *batch(4), steps=3))
    assert found["0"].flops == 2 * 4 * 24 * 24 * 6 * 25 * 2
    assert found["4"].flops == 2 * 4 * 8 * 8 * 16 * 6 * 25 * 3
    assert found["9"].flops == 2 * 4 * 256 * 120 * 3
    assert found["1"].flops == found["loss"].flops == 0


@pytest.mark.parametrize(
    ("options", "windows"),
    [
        ({"padding": 1}, 8 * 6),
        ({"padding": "same"}, 8 * 6),
        ({"padding": "valid"}, 6 * 4),
        ({"stride": 2, "padding": (1, 0)}, 4 * 2),
        ({"dilation": 2}, 4 * 2),
        ({"groups": 2}, 6 * 4),
    ],
)
def test_flops_of_convolutions(options, windows):
    """Against the shape of the output."""
    conv = nn.Conv2d(2, 4, 3, **options)
    assert conv(mg.ones(1, 2, 8, 6)).shape[2] * conv(mg.ones(1, 2, 8, 6)).shape[3] == windows
    net = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    X, _ = batch(3, (2, 8, 6))
    found = rows(profile(net, X, mg.tensor([0, 1, 3]), steps=1))
    assert found["0"].flops == 2 * 3 * windows * conv.weight.numel() * 2


def test_bytes_by_hand():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5, 10))
    found = rows(profile(net, *batch(3, (6,)), steps=2))
    x, weights, y = 3 * 6, 6 * 5 + 5, 3 * 5
    assert found["0"].bytes == 4 * ((x + weights + y) + (y + x + weights + weights))  # no gradient of x
    assert found["1"].bytes == 4 * ((y + y) + (y + y + y))
    assert found["2"].bytes == 0  # a view
    assert found["optimizer"].bytes == 4 * 3 * (weights + 5 * 10 + 10)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True])
def test_bad_steps(steps):
    with pytest.raises(ArgumentError, match="steps must be a whole number of at least 1"):
        profile(nn.Linear(3, 10), *batch(shape=(3,)), steps=steps)


# 4. The command --------------------------------------------------------------------------------------------


def test_the_table(capsys):
    assert command.main(["lenet_bn", "--batch-size", "4", "--steps", "2", "--no-compile"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "lenet_bn, batch size 4, not compiled: medians of 2 training steps"
    assert lines[1].split() == ["layer", "kind", *"forward ms backward ms % GFLOP/s GB/s".split()]
    assert [line.split()[0] for line in lines[2:-1]] == [
        *map(str, range(16)), "loss", "(rest)", "optimizer", "total",
    ]  # fmt: skip
    shares = [float(line.split()[4]) for line in lines[2:18]]
    assert all(0 <= share <= 100 for share in shares)
    assert lines[2].split()[1] == "Conv2d"
    assert len(lines[2].split()) == 7  # with both speeds
    assert lines[-1].startswith("a step takes ")
    assert max(map(len, lines)) <= 100


def test_compiled_is_the_default(capsys):
    assert command.main(["mlp_bn", "--batch-size", "4", "--steps", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mlp_bn, batch size 4, compiled, ")
    assert "Linear + BatchNorm1d + ReLU" in out


def test_a_model_without_pictures_for_the_trainer(capsys):
    assert command.main(["resnet8", "--batch-size", "2", "--steps", "1"]) == 0
    assert "layer3.0.residual.3-4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet_bm"], "unknown model 'lenet_bm': .*did you mean 'lenet_bn'"),
        (["mlp", "--steps", "0"], "steps must be a whole number of at least 1, got 0"),
        (["mlp", "--batch-size", "1"], "--batch-size must be at least 2"),
    ],
)
def test_refusals(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)
