"""The fused operations with the CUDA kernels, run on the CPU: the same as the layers one after the other."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg
from minigrad import nn
from minigrad.models.lenet import lenet_bn
from tests.kernels import support
from tests.kernels import test_linear_block as linear_tests
from tests.kernels.support import ACTIVATIONS, GAMMAS, compare, run
from tests.kernels.test_conv_block import blocks_and_pictures
from tests.nn.support import ORDERS, ordered

DTYPES = [np.float32, np.float64]
pytestmark = pytest.mark.usefixtures("launcher")
some = settings(support.some, max_examples=25)


def check(
    net: nn.Sequential, x: np.ndarray, launcher: Any, fused: bool = True, limit: float | None = None
) -> None:
    """Compare, and see that it was the CUDA kernels that did it."""
    launcher.started.clear()
    compare(net, x, fused, limit)
    assert any("forward" in name for name in launcher.started) == fused


# 1. Convolutions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
@pytest.mark.parametrize("norm", support.BATCH_NORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_combination_of_layers(bias, norm, activation, pool, dtype, launcher):
    net = support.block(norm=norm, activation=activation, pool=pool, bias=bias)
    check(net, support.pictures((5, 2, 8, 10), dtype), launcher)


@some
@given(blocks_and_pictures(on_grid=False))
def test_any_shape_in_float64(case):
    net, x, fused = case
    compare(net, x, fused or len(net) == 1)  # a convolution alone goes through the kernels, too


@some
@given(blocks_and_pictures(on_grid=True))
def test_any_shape_in_float32_full_of_ties(case):
    net, x, fused = case
    compare(net, x.astype(np.float32), fused or len(net) == 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("kind", ["grid", "one constant"])
def test_ties(kind, gamma, dtype, launcher):
    x = support.pictures((6, 2, 8, 8), dtype) if kind == "grid" else np.full((6, 2, 8, 8), 0.75, dtype)
    for activation in [*ACTIVATIONS, None]:
        check(support.block(gamma=gamma, activation=activation, padding=0), x, launcher)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_of_equals_the_first_gets_the_gradient(sign):
    """A 1x1 kernel of weight 1: the pictures themselves are pooled, and gx shows the winner of each window."""
    net = support.block(1, 1, 1, None, "relu", bias=False)
    net[0].weight.array = np.ones((1, 1, 1, 1))
    net = nn.Sequential(net[0], nn.BatchNorm2d(1).to(np.float64), nn.MaxPool2d(2))
    net[1].weight.array, net[1].bias.array = np.full(1, 2.0 * sign), np.zeros(1)
    x = mg.Tensor(np.tile([[1.0, 3.0], [3.0, 1.0]], (2, 1, 2, 2)), requires_grad=True)
    mg.compile(net)(x).sum().backward()
    won = {1: [[0, 1], [0, 0]], -1: [[1, 0], [0, 0]], 0: [[1, 0], [0, 0]]}[sign]
    # xhat is -1 or 1 here. Batch norm takes the mean of the gradient away and what is parallel to xhat
    xhat = np.array([[-1, 1], [1, -1]])
    t = np.array(won) - 0.25 - xhat * (np.array(won) * xhat).sum() / 4
    expected = np.tile(2 * sign * t / np.sqrt(1 + 1e-5), (2, 1, 2, 2))
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 3, 20, 20), (2, 20, 9, 9)])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}])
def test_sizes_that_need_several_tiles(shape, options, launcher):
    x = support.pictures(shape, np.float32, on_grid=False)
    net = support.block(shape[1], 37, 3, pool=False, gamma="positive", on_grid=False, **options)
    check(net, x, launcher)


@pytest.mark.parametrize("level", [30.0, -1000.0])
def test_shifted(level, launcher):
    """float32 keeps seven digits; the statistics must not lose more than the shift itself has taken."""
    x = support.pictures((6, 2, 8, 8), np.float32, on_grid=False) + np.float32(level)
    check(support.block(on_grid=False, pool=False, padding=0), x, launcher, limit=1e-6 * abs(level) + 1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_memory_orders(order, launcher):
    check(support.block(padding=1), ordered(support.pictures((5, 2, 8, 8)), order), launcher)


# 2. Linear layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
@pytest.mark.parametrize("norm", ["affine", "plain", None])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(9, 5, 4), (70, 33, 18)])
def test_every_linear_block(sizes, bias, norm, activation, dtype, launcher):
    N, I, O = sizes
    net = linear_tests.block((I, O), norm, activation, bias=bias)
    check(net, linear_tests.examples((N, I), dtype), launcher)


@pytest.mark.parametrize("order", ORDERS)
def test_memory_orders_of_features(order, launcher):
    check(linear_tests.block(), ordered(linear_tests.examples((9, 5)), order), launcher)


# 3. The whole model --------------------------------------------------------------------------------------


def test_the_bits_do_not_depend_on_the_order_of_the_threads(launcher):
    net = lenet_bn()
    x = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    found = []
    for order in ("forward", "reverse", "random"):
        launcher.order = order
        found.append(run(mg.compile(copy.deepcopy(net)), x)[0])
    for name, expected in found[0].items():
        assert np.isfinite(expected).all(), name
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], expected, err_msg=name)


def test_training_lenet(launcher):
    """Three steps in float64: parameters and running statistics as with the layers."""
    rng = np.random.default_rng(0)
    nets = [lenet_bn().to(np.float64)]
    nets.append(copy.deepcopy(nets[0]))
    models = [nets[0], mg.compile(nets[1])]
    optimizers = [mg.optim.SGD(net.parameters(), lr=0.9) for net in nets]
    for _ in range(3):
        x, labels = rng.random((8, 1, 28, 28)), rng.integers(0, 10, 8)
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(mg.Tensor(x)), mg.Tensor(labels)).backward()
            optimizer.step()
    plain, fused = (net.state_dict() for net in nets)
    assert {"linear_forward_16x16", "track_statistics"} <= set(launcher.started)
    for name, value in plain.items():
        np.testing.assert_allclose(fused[name].numpy(), value.numpy(), rtol=0, atol=1e-9, err_msg=name)
    before = list(launcher.started)
    with mg.no_grad():
        x = mg.Tensor(rng.random((4, 1, 28, 28)))
        expected = models[0].eval()(x).numpy()
        np.testing.assert_allclose(models[1].eval()(x).numpy(), expected, rtol=0, atol=1e-9)
    assert launcher.started[len(before) :].count("norm_apply_pool") == 2


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 2, 3), nn.Linear(4, 3)])
def test_a_layer_alone_goes_through_the_kernels(layer, launcher):
    net = nn.Sequential(layer).to(np.float64)
    shape = (2, 1, 4, 4) if isinstance(layer, nn.Conv2d) else (2, 4)
    check(net, np.random.default_rng(0).standard_normal(shape), launcher)


def test_what_the_kernels_cannot_do_is_left_to_the_layers(launcher):
    x = mg.Tensor(np.ones((2, 4, 6, 6)))
    same = nn.Conv2d(4, 4, 3, padding="same").to(np.float64)
    mg.compile(nn.Sequential(same, nn.Sigmoid(), nn.MaxPool2d(2)))(x)
    assert "norm_apply_pool" not in launcher.started
    launcher.started.clear()  # for NumPy's arrays the convolution alone has a kernel
    for layer in (nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2)):
        mg.compile(nn.Sequential(layer.to(np.float64), nn.ReLU()))(x)
    half = mg.Tensor(np.ones((2, 4), np.float16))
    mg.compile(nn.Sequential(nn.Linear(4, 3).to(np.float16), nn.ReLU()))(half)
    assert launcher.started == []


def test_running_statistics_without_momentum_are_left_to_the_layer(launcher):
    for momentum in (None, 0.3):
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=momentum)).to(np.float64)
        twin = copy.deepcopy(net)
        launcher.started.clear()
        for seed in range(3):
            x = mg.Tensor(np.random.default_rng(seed).standard_normal((5, 4)))
            net(x), mg.compile(twin)(x)
        assert ("track_statistics" in launcher.started) == (momentum is not None)
        for name, buffer in net.named_buffers():
            found = dict(twin.named_buffers())[name].numpy()
            np.testing.assert_allclose(found, buffer.numpy(), rtol=1e-12, err_msg=name)
