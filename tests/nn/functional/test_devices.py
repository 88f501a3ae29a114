"""Everything in minigrad.nn.functional gives the same on every device, in every memory order.

`device` is NumPy, the strict stand-in, which has only what CuPy has, and a GPU where there is one.
"""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import backend
from minigrad.errors import DeviceError
from tests import strict
from tests.core.support import ORDERS
from tests.nn.functional.cases import CASES, PUBLIC, beside
from tests.nn.support import listed

ALL = [(name, k) for name, calls in PUBLIC.items() for k in range(len(calls))]


def on(device: str, array: np.ndarray, requires_grad: bool = False) -> mg.Tensor:
    return mg.Tensor(backend.to_device(array, device), requires_grad=requires_grad)


def results(function: Any, arrays: Any, device: str, dtype: Any, order: str = "rows") -> list[mg.Tensor]:
    """Results and gradients for a random cotangent, which has the memory order of the inputs."""
    mg.manual_seed(0)
    xs = [on(device, ORDERS[order](a.astype(dtype)), requires_grad=True) for a in arrays]
    ys = listed(function(*xs))
    for y in ys:
        if y.requires_grad:
            gy = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
            y.backward(on(device, ORDERS[order](np.asarray(gy))), retain_graph=True)
    return [y.detach() for y in ys] + [x.grad for x in xs if x.grad is not None]


def same(actual: list[mg.Tensor], expected: list[mg.Tensor], device: str, tolerance: float) -> None:
    assert len(actual) == len(expected)
    for got, wanted in zip(actual, expected, strict=True):
        host = backend.to_numpy(got.array)
        assert got.device == device
        assert (host.shape, host.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(host, wanted.numpy(), rtol=tolerance, atol=tolerance)


def test_every_public_function_has_a_case():
    """A new function needs an entry in cases.py."""
    assert set(PUBLIC) == set(F.__all__)


@pytest.mark.parametrize(("name", "k"), ALL)
def test_public_functions(name, k, device):
    function, arrays = PUBLIC[name][k]
    for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-4)):
        expected = results(function, arrays, "cpu", dtype)
        same(results(function, arrays, device, dtype), expected, device, tolerance)


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "rows"])
@pytest.mark.parametrize("name", CASES)
def test_functions_in_every_memory_order(name, order, device):
    case = CASES[name]
    expected = results(lambda *xs: case.call(case.op.apply, *xs), case.inputs, "cpu", np.float64)
    actual = results(lambda *xs: case.call(case.op.apply, *xs), case.inputs, device, np.float64, order)
    same(actual, expected, device, 1e-11)


@pytest.mark.parametrize("name", CASES)
def test_the_graph_asks_the_device_for_nothing(name):
    """A value that the host waits for would stop the GPU in every step."""
    strict.install()
    case = CASES[name]
    xs = [on("strict", x, requires_grad=True) for x in case.inputs]
    strict.counts.reset()
    for y in listed(case.call(case.op.apply, *xs)):
        if y.requires_grad:
            y.sum().backward()
    assert strict.counts.synchronisations == 0


def test_labels_cost_few_looks():
    """The smallest label, the largest, and whether any is ignored: three looks at the device in all."""
    strict.install()
    x = on("strict", np.zeros((50, 10)), requires_grad=True)
    labels = beside(x, np.arange(50) % 10)
    strict.counts.reset()
    F.cross_entropy(x, labels).backward()
    assert strict.counts.synchronisations <= 3


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_decision_labels_are_checked_before_the_device_wraps_them(loss):
    strict.install()
    x = on("strict", np.zeros((3, 10)))
    with pytest.raises(IndexError, match="label -1 at place 2 is out of range"):
        loss(x, beside(x, np.array([0, 9, -1])))


def test_mixed_devices_are_refused_in_one_sentence():
    strict.install()
    x, other = on("strict", np.zeros((3, 4))), mg.zeros(3, 4, dtype=mg.float64)
    with pytest.raises(DeviceError, match=r"cross_entropy: input is on strict.*target on cpu; move one with"):
        F.cross_entropy(x, mg.tensor([0, 1, 2]))
    calls = {
        "linear": lambda: F.linear(x, other),
        "conv2d": lambda: F.conv2d(x.reshape(1, 1, 3, 4), other.reshape(1, 1, 3, 4)),
        "batchnormtrain": lambda: F.batch_norm_train(x, other[0]),
        "sub": lambda: F.mse_loss(x, other),
    }
    for name, call in calls.items():
        with pytest.raises(DeviceError, match=rf"{name}: arrays live on different devices: cpu and strict"):
            call()
