"""The fused operations in the graph: saved values, one graph walked twice, several graphs at once.

Their gradients are checked, and broken, with those of all other Functions: tests/nn/functional/cases.py.
"""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import GradientError
from minigrad.nn.functional.fused import BlockOptions, ConvBlock, LinearBlock


def conv_run() -> nn.Module:
    return mg.compile(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sigmoid(), nn.MaxPool2d(2)))


def linear_run() -> nn.Module:
    return mg.compile(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Sigmoid()))


RUNS = [(conv_run, (4, 1, 8, 8)), (linear_run, (4, 5))]


@pytest.mark.parametrize(
    ("make", "shape", "changed"),
    [(*run, name) for run in RUNS for name in ("0.weight", "1.weight")] + [(*RUNS[1], "y")],
)
def test_a_value_that_backward_needs_was_changed(make, shape, changed):
    net = make()
    y = net(mg.randn(*shape))
    value = y if changed == "y" else dict(net.named_parameters())[changed]
    with mg.no_grad():
        value.mul_(2.0)
    with pytest.raises(GradientError, match=r"Block.backward needs a value that was changed in place"):
        y.sum().backward()


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_the_input_was_changed(make, shape):
    """Batch-last pictures are used where they lie."""
    net = make()
    x = mg.Tensor(np.moveaxis(np.random.default_rng(0).random((*shape[1:], shape[0]), np.float32), -1, 0))
    y = net(x)
    x += 1
    with pytest.raises(GradientError, match=r"Block.backward needs a value that was changed in place"):
        y.sum().backward()


def test_the_result_of_a_convolution_may_be_changed():
    """Backward has what it needs of it in another order."""
    net = conv_run()
    x = mg.randn(4, 1, 8, 8)
    net(x).sum().backward()
    expected = gradients(net)
    y = net(x)
    total = y.sum()
    with mg.no_grad():
        y.mul_(2.0)
    total.backward()
    assert_equal(expected, gradients(net))


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_changes_that_backward_does_not_mind(make, shape):
    """Beta and the biases are not needed any more, nor the running statistics."""
    net = make()
    y = net(mg.randn(*shape))
    with mg.no_grad():
        for name in ("0.bias", "1.bias"):
            dict(net.named_parameters())[name].mul_(2.0)
    net[1].running_mean.zero_()
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def gradients(net: nn.Module) -> dict[str, np.ndarray]:
    found = {name: p.grad.numpy().copy() for name, p in net.named_parameters()}
    net.zero_grad()
    return found


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray], factor: float = 1.0) -> None:
    for name, expected in a.items():
        np.testing.assert_allclose(b[name], factor * expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_two_forwards_before_one_backward(make, shape):
    """What the first has saved is still there: memory is not handed out twice."""
    net = make()
    first, second = mg.randn(*shape), mg.randn(*shape)
    expected = []
    for x in (first, second):
        net(x).sin().sum().backward()
        expected.append(gradients(net))
    ys = [net(first), net(second)]
    for y, grads in zip(ys, expected, strict=True):
        y.sin().sum().backward()
        assert_equal(grads, gradients(net))


def test_many_large_forwards_before_one_backward():
    """The same with arrays of the size that is used again, and results that are dropped in between."""
    net = conv_run()
    xs = [mg.randn(64, 1, 16, 16) for _ in range(4)]
    expected = []
    for x in xs:
        net(x).sin().sum().backward()
        expected.append(gradients(net))
    ys = []
    for x in xs:
        net(mg.randn(64, 1, 16, 16))
        ys.append(net(x))
    for k in (2, 0, 3, 1):
        ys[k].sin().sum().backward()
        assert_equal(expected[k], gradients(net))


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_a_graph_that_is_kept_can_be_walked_again(make, shape):
    net = make()
    x = mg.randn(*shape).requires_grad_()
    loss = net(x).sin().sum()
    loss.backward(retain_graph=True)
    gx, once = x.grad.numpy().copy(), gradients(net)
    x.grad = None
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * gx, rtol=1e-6)
    assert_equal(once, gradients(net), factor=2)
    with pytest.raises(GradientError, match="freed"):
        loss.backward()


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_a_result_that_is_used_twice(make, shape):
    net = make().double()
    plain = nn.Sequential(*copy.deepcopy(net))
    x = mg.randn(*shape, dtype=mg.float64)
    for model in (net, plain):
        y = model(x)
        (y * y.detach() + 2 * y).sum().backward()
    found, expected = gradients(net), gradients(plain)
    assert_equal(expected, found)


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_the_graph_is_freed(make, shape):
    """Backward lets go of all that forward has saved."""
    net = make()
    loss = net(mg.randn(*shape)).sum()
    node = loss.grad_fn.inputs[0].grad_fn
    assert vars(node)
    loss.backward()
    assert not hasattr(node, "saved")


def test_statistics_of_the_batch_are_no_part_of_the_graph():
    gamma, beta = mg.ones(2, requires_grad=True), mg.zeros(2, requires_grad=True)
    for operation, x, weight in (
        (ConvBlock, mg.randn(4, 1, 6, 6), mg.randn(2, 1, 3, 3)),
        (LinearBlock, mg.randn(4, 5), mg.randn(2, 5)),
    ):
        y, mean, var = operation.apply(x, weight, None, gamma, beta, BlockOptions("sigmoid", 1e-5))
        assert y.requires_grad
        assert not mean.requires_grad
        assert not var.requires_grad


@pytest.mark.parametrize(("make", "shape"), RUNS)
def test_nothing_is_saved_without_gradients(make, shape):
    net = make()
    with mg.no_grad():
        y = net(mg.randn(*shape))
    assert y.grad_fn is None
    assert not y.requires_grad
