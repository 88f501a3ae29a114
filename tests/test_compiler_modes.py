"""A compiled model with hooks, in training and evaluation, and for inputs that nothing fits: as the layers."""

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DeviceError, DtypeError, ShapeError
from minigrad.nn.functional.fused import fold
from tests import strict
from tests.strict.fixtures import device  # noqa: F401
from tests.test_compiler import Net, check_same_gradients, operations, pictures, same, small

# 1. Hooks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
def test_a_hook_on_a_fused_layer_is_called(number):
    """The run goes layer by layer while there is a hook, and only this run."""
    fast = mg.compile(small())
    x, seen = pictures(), []
    handle = fast[number].register_forward_hook(lambda layer, args, y: seen.append((layer, args, y)))
    y = fast(x)
    assert [layer for layer, _, _ in seen] == [fast[number]]
    expected = x
    for layer in list(fast)[: number + 1]:
        expected = layer(expected)
    same(seen[0][2], expected)
    assert "ConvBlock" not in operations(y)
    assert "LinearBlock" in operations(y)
    handle.remove()
    assert "ConvBlock" in operations(fast(x))


def test_what_hooks_return_counts():
    fast = mg.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    x = mg.randn(3, 4)
    handle = fast[0].register_forward_hook(lambda layer, args, y: y * 0 + 5)
    np.testing.assert_array_equal(fast(x).detach().numpy(), 5)
    handle.remove()
    fast[1].register_forward_pre_hook(lambda layer, args: (args[0] * 0 + 7,))
    np.testing.assert_array_equal(fast(x).detach().numpy(), 7)


def test_hooks_on_a_sequential_are_called_once():
    net = small()
    seen: list[str] = []
    net.register_forward_hook(lambda *_: seen.append("before compiling"))
    fast = mg.compile(net)
    fast.register_forward_hook(lambda *_: seen.append("after compiling"))
    fast.register_forward_pre_hook(lambda *_: seen.append("first"))
    y = fast(pictures())
    assert seen == ["first", "before compiling", "after compiling"]
    assert "ConvBlock" in operations(y)


# 2. Modes and inputs -------------------------------------------------------------------------------------


def test_evaluation_without_gradients_is_fused(monkeypatch):
    fast = mg.compile(small()).eval()
    expected = nn.Sequential(*fast)(pictures())

    def refuse(*_: Any) -> None:
        raise AssertionError("a layer was called")

    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d, nn.Sigmoid, nn.ReLU, nn.MaxPool2d):
        monkeypatch.setattr(kind, "forward", refuse)
    with mg.no_grad():
        same(fast(pictures()), expected)


def test_evaluation_with_gradients_runs_layer_by_layer():
    """Folding batch norm into the weights would lose the way back to gamma and beta."""
    net = small().double()
    net(pictures().double())  # moves the running statistics
    net.eval()
    fast = mg.compile(net)
    assert "ConvBlock" not in operations(fast(pictures().double()))
    check_same_gradients(net, fast, pictures().double())


def test_evaluation_of_a_frozen_model():
    """The parameters need no gradients, so that batch norm can be folded; the input gets its own."""
    net = small().double().eval().requires_grad_(False)
    found = []
    for model in (net, mg.compile(net)):
        x = pictures().double().requires_grad_()
        y = model(x)
        made_by = operations(y)
        y.sin().sum().backward()
        found.append((y, x.grad))
    assert made_by[-1] == "ConvBlock"
    same(found[1][0], found[0][0], atol=1e-12)
    same(found[1][1], found[0][1], atol=1e-12)


def test_without_batch_norm_evaluation_with_gradients_is_fused():
    net = mg.compile(Net()).double().eval()
    y = net(pictures().double())
    assert operations(y).count("ConvBlock") == 1
    assert operations(y).count("LinearBlock") == 2  # the run, and the last layer, which stands alone


@pytest.mark.parametrize("missing", ["running_mean", "running_var"])
def test_batch_norm_that_lost_a_running_statistic(missing):
    """Then the layer takes the statistics of the batch."""
    net, x = small().double().eval(), pictures().double()
    setattr(net[1], missing, None)
    with mg.no_grad():
        same(mg.compile(net)(x), net(x))


@pytest.mark.parametrize("eps", [1, np.float32(1e-3), np.float64(1e-3), np.array(1e-3)])
def test_the_type_of_eps_does_not_spread(eps):
    net, x = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).eval(), mg.randn(5, 4)
    expected = copy.deepcopy(net)
    expected[1].eps, net[1].eps = float(eps), eps
    with mg.no_grad():
        same(mg.compile(net)(x), expected(x))
    assert [a.dtype for a in fold(net[1], net[0].weight, net[0].bias)] == [np.float32] * 2


def test_running_statistics_move_in_place():
    """Whoever holds the arrays, such as a state dict taken before, sees them move."""
    for net in (small(), mg.compile(small())):
        norm = net[1]
        held = [b.array for b in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
        before = [array.copy() for array in held]
        net(pictures())
        for buffer, array, old in zip(norm.buffers(), held, before, strict=True):
            assert buffer.array is array
            assert (array != old).all()


def test_batch_norm_without_running_statistics():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Tanh()).double()
    x = mg.randn(5, 4, dtype=mg.float64)
    assert operations(mg.compile(net)(x)) == ["LinearBlock"]
    check_same_gradients(net, mg.compile(net), x)
    net.eval()
    check_same_gradients(net, mg.compile(net), x)
    with mg.no_grad():
        same(mg.compile(net)(x), net(x), atol=0)


def test_eps_may_be_set_at_any_time():
    net = small()
    fast, x = mg.compile(net), pictures()
    for eps in (1e-5, 0.5, 1e-3):
        net[1].eps = eps
        same(fast(x), net(x))


def test_one_layer_in_another_mode():
    """Frozen statistics: a usual way to fine-tune."""
    net = small().double()
    net[1].eval()
    fast = mg.compile(net)
    x = pictures().double()
    assert operations(fast(x)).count("LinearBlock") == 2
    assert "ConvBlock" not in operations(fast(x))
    before = net[1].running_mean.numpy().copy()
    check_same_gradients(net, fast, x)
    with mg.no_grad():
        same(fast(x), net(x))
    np.testing.assert_array_equal(net[1].running_mean.numpy(), before)


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (small, np.zeros((4, 2, 8, 8), np.float32)),  # channels
        (small, np.zeros((4, 1, 2, 8), np.float32)),  # smaller than the kernel
        (small, np.zeros((4, 1, 8, 2), np.float32)),
        (small, np.zeros((4, 64), np.float32)),
        (small, np.zeros((4, 1, 8, 8, 1), np.float32)),
        (small, np.zeros((4, 1, 8, 8), np.float64)),
        (small, np.zeros((4, 1, 8, 8), np.int64)),
        (small, np.zeros((4, 1, 10, 10), np.float32)),  # the Linear after it does not fit
        (lambda: small()[5:], np.zeros((4, 26), np.float32)),
        (lambda: small()[5:], np.zeros((4, 1, 27, 1), np.float32)),
        (lambda: small()[5:], np.zeros((27,), np.float32)),
        (lambda: small()[5:], np.zeros((1, 27), np.float32)),  # one value a channel
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), np.zeros((1, 1, 3, 3), np.float32)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(3)), np.zeros((2, 1, 5, 5), np.float32)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), np.zeros((1, 1, 3, 3), np.float32)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), np.zeros((1, 1, 2, 8), np.float32)),
        (lambda: nn.Sequential(nn.Linear(4, 2, bias=False), nn.ReLU()), np.zeros((5, 4), np.float64)),
        (lambda: nn.Sequential(nn.Linear(4, 2, bias=False), nn.ReLU()), np.zeros((5, 4), np.int64)),
    ],
)
def test_errors_are_those_of_the_layers(make, x):
    net = make()
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is, it has to be the same
        net(mg.Tensor(x))
    with pytest.raises(type(expected.value)) as found:
        mg.compile(net)(mg.Tensor(x))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("x", [np.zeros((4, 1, 8, 8), np.float32), [1.0], 3, None])
@pytest.mark.parametrize("make", [small, lambda: small()[5:]])
def test_what_is_no_tensor_is_refused_as_by_the_layers(make, x):
    with pytest.raises(DtypeError, match="x must be a Tensor") as expected:
        make()(x)
    with pytest.raises(DtypeError) as found:
        mg.compile(make())(x)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("name", ["0.bias", "1.weight", "1.bias", "5.bias"])
@pytest.mark.parametrize("value", [mg.ones(1), mg.ones(7), mg.ones(3, dtype=mg.float64)])
def test_parameters_that_do_not_fit_are_refused_as_by_the_layers(name, value):
    """Nothing is stretched or converted without a word."""
    net = small()
    number, attribute = name.split(".")
    setattr(net[int(number)], attribute, nn.Parameter(value))
    test_errors_are_those_of_the_layers(lambda: net, pictures().numpy())


def test_an_input_that_does_not_fit_leaves_the_statistics_alone():
    fast = mg.compile(small())
    with pytest.raises(ShapeError):
        fast(mg.zeros(4, 2, 8, 8))
    assert fast[1].num_batches_tracked.item() == 0


@pytest.mark.parametrize("make", [small, Net])
@pytest.mark.parametrize("training", [True, False])
def test_empty_batches(make, training):
    net = make().train(training)
    x = mg.zeros(0, 1, 8, 8, requires_grad=True)
    y = mg.compile(net)(x)
    assert y.shape == (0, 2)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all(not p.grad.numpy().any() for p in net.parameters())
    assert all(np.isfinite(b.numpy()).all() for b in net.buffers())


def test_one_picture_without_a_batch():
    """Conv2d takes (C, H, W), and so does a compiled one."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2))
    same(mg.compile(net)(pictures()[0]), net(pictures()[0]), atol=0)


def test_sequences_in_a_linear_layer():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    x = mg.randn(5, 2, 4)
    same(mg.compile(net)(x), net(x), atol=0)


@pytest.mark.parametrize(
    "make", [lambda: small().eval(), lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())]
)
def test_an_input_on_another_device_than_the_model_is_refused_as_by_the_layers(make):
    strict.install()
    net, x = make(), pictures().to("strict")
    messages = []
    for model in (net, mg.compile(net)):
        with pytest.raises(DeviceError) as found, mg.no_grad():
            model(x)
        messages.append(str(found.value))
    assert messages[0] == messages[1]


def test_on_every_device(device):  # noqa: F811
    """Elsewhere than on the CPU the layers run as they were."""
    net = small().to(device)
    fast = mg.compile(net)
    x = pictures().to(device)
    fast(x).sin().sum().backward()
    assert {str(p.grad.device).partition(":")[0] for p in net.parameters()} == {device}
    fast.eval()
    with mg.no_grad():
        same(fast(x).cpu(), net(x).cpu())
