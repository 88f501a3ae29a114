"""Whole models: training with compiled layers goes as training without, on any number of threads."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import models, nn, optim
from tests.kernels.support import threads
from tests.parity.torch_models import pictures

STEPS, BATCH = 20, 32
LIMIT = {np.float32: 1e-4, np.float64: 1e-9}

NAMES = pytest.mark.parametrize("name", list(models.MODELS))
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def train(net: nn.Module, lr: float, dtype: Any, steps: int = STEPS, batch: int = BATCH) -> list[float]:
    """Losses of some steps; as in training, the last batch is smaller."""
    images, labels = pictures(steps * batch, dtype)
    optimizer = optim.SGD(net.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        part = slice(step * batch, (step + 1) * batch if step < steps - 1 else step * batch + 7)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(mg.Tensor(images[part])), mg.Tensor(labels[part]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def state(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


def made(name: str, dtype: Any) -> nn.Module:
    mg.manual_seed(0)
    return models.get(name).make().to(dtype)


@DTYPES
@NAMES
def test_the_same_losses_with_and_without_compile(name, dtype):
    """In float32 at a moderate rate and for eight steps: a last digit, or a near-tie of max pooling that falls
    the other way, grows a hundredfold in ten steps, so later ones say nothing about a kernel."""
    lr = models.get(name).lr if dtype is np.float64 else 0.1
    plain, fast = made(name, dtype), mg.compile(made(name, dtype))
    steps = STEPS if dtype is np.float64 else 8
    expected, found = train(plain, lr, dtype, steps), train(fast, lr, dtype, steps)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=LIMIT[dtype])
    weights = state(plain)
    for key, value in state(fast).items():
        size = max(np.abs(weights[key]).max(), 0.01)
        np.testing.assert_allclose(value, weights[key], rtol=0, atol=20 * LIMIT[dtype] * size, err_msg=key)


@NAMES
def test_the_same_predictions(name):
    """Evaluation mode, after some training has moved the running statistics."""
    net = made(name, np.float32)
    train(net, 0.1, np.float32, steps=5)
    net.eval()
    x = mg.Tensor(pictures(50, np.float32, seed=1)[0])
    with mg.no_grad():
        np.testing.assert_allclose(mg.compile(net)(x).numpy(), net(x).numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["lenet_bn", "lenet", "mlp_bn"])
def test_the_same_bits_for_every_number_of_threads(name):
    """200 pictures are several shards of each layer, the last one short."""
    found = []
    for n in (1, 2, 3):
        with threads(n):
            net = mg.compile(made(name, np.float32))
            losses = train(net, models.get(name).lr, np.float32, steps=5, batch=200)
            net.eval()
            with mg.no_grad():
                y = net(mg.Tensor(pictures(150, np.float32, seed=1)[0])).numpy()
            found.append((losses, state(net) | {"predictions": y}))
    losses, weights = found[0]
    for other_losses, other in found[1:]:
        assert other_losses == losses
        assert list(other) == list(weights)
        for key, value in weights.items():
            np.testing.assert_array_equal(other[key], value, err_msg=key)


def test_the_residual_network():
    """3x3 convolutions with padding, stride 2, 1x1 shortcuts, colour pictures; its Sequentials are nested."""
    results = []
    for compiled in (False, True):
        mg.manual_seed(0)
        net = models.resnet8().double()
        net = mg.compile(net) if compiled else net
        x = mg.Tensor(np.random.default_rng(0).standard_normal((4, 3, 32, 32)))
        y = net(x)
        y.sin().sum().backward()
        results.append({"y": y.detach().numpy()} | {n: p.grad.numpy() for n, p in net.named_parameters()})
    for name, expected in results[0].items():
        atol = 1e-9 * np.abs(expected).max()
        np.testing.assert_allclose(results[1][name], expected, rtol=0, atol=atol, err_msg=name)
