"""The residual network: shapes, names, and outputs and gradients beside PyTorch's."""

import math

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import models, nn
from minigrad.models.resnet import BasicBlock


def pictures(n=4, size=32, dtype=np.float64):
    return np.random.default_rng(0).standard_normal((n, 3, size, size)).astype(dtype)


# He et al. 2016, section 4.2, counted by hand for one block in a stage: weights of the convolutions, gamma and
# beta of the batch norms, and the last layer. The shortcuts of stages 2 and 3 are 1 x 1 convolutions.
CONVOLUTIONS = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 16 * 32 + 32 * 64
NORMS = 2 * (16 + 2 * 16 + 3 * 32 + 3 * 64)
SIZE = CONVOLUTIONS + NORMS + 64 * 10 + 10


def test_size_and_output():
    net = models.resnet8()
    assert sum(p.numel() for p in net.parameters()) == SIZE
    x = mg.tensor(pictures(dtype=np.float32))
    assert net(x).shape == (4, 10)
    assert net.eval()(x[:1]).shape == (1, 10)
    assert models.resnet8(num_classes=3)(x).shape == (4, 3)


def test_six_n_plus_two_layers_with_weights():
    for blocks in (1, 2):
        net = models.ResNet(blocks)
        layers = [m for name, m in net.named_modules() if "shortcut" not in name]
        assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in layers) == 6 * blocks + 2


def test_the_sizes_on_the_way():
    """As in the docstring of models/resnet.py."""
    net, shapes = models.resnet8(), []
    for layer in (net.stem, net.layer1, net.layer2, net.layer3, net.head[1]):
        layer.register_forward_hook(lambda module, args, y: shapes.append(y.shape[1:]))
    net(mg.tensor(pictures(2, dtype=np.float32)))
    assert shapes == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64,)]


def test_a_block_that_adds_nothing_passes_its_input():
    """With gamma 0 in the last batch norm, y = relu(x): the shortcut is there, and nothing else."""
    block = BasicBlock(4, 4)
    block.residual[4].weight.data.zero_()
    x = mg.tensor(np.random.default_rng(1).standard_normal((2, 4, 5, 5)))
    np.testing.assert_array_equal(block.double()(x).detach().numpy(), np.maximum(x.numpy(), 0))


def test_starting_weights():
    """Normal with variance 2 / fan_out (He et al. 2015, equation 14)."""
    weight = models.resnet8().layer3[0].residual[3].weight.detach().numpy()
    assert weight.mean() == pytest.approx(0, abs=3e-3)
    assert weight.std() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)


@pytest.fixture
def theirs(torch):
    from benchmarks.torch_models import resnet8

    torch.manual_seed(0)
    return resnet8().double()


def test_names_of_the_weights(theirs):
    state = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    own = {name: value.shape for name, value in models.resnet8().state_dict().items()}
    assert own == state
    assert list(own) == list(state)


def test_outputs_gradients_and_statistics(theirs, torch):
    """Training mode and evaluation mode, float64, from the same weights, gamma and beta not 1 and 0."""
    rng = np.random.default_rng(2)
    with torch.no_grad():
        for p in theirs.parameters():
            p += torch.tensor(0.1 * rng.standard_normal(p.shape))
    net = models.resnet8().double()
    net.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x, labels = pictures(6), rng.integers(0, 10, 6)

    ours = net(mg.tensor(x))
    expected = theirs(torch.tensor(x))
    np.testing.assert_allclose(ours.detach().numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    F.cross_entropy(ours, mg.tensor(labels)).backward()
    torch.nn.functional.cross_entropy(expected, torch.tensor(labels)).backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for name, p in net.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), gradients[name], rtol=1e-7, atol=1e-10, err_msg=name)
    for name, buffer in theirs.named_buffers():
        value = net.state_dict()[name].numpy()
        np.testing.assert_allclose(value, buffer.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)

    ours, expected = net.eval()(mg.tensor(x)), theirs.eval()(torch.tensor(x))
    np.testing.assert_allclose(ours.detach().numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_compiled(theirs):
    """Its convolutions are fused with what follows them; the results are those of the plain network."""
    net, x = models.resnet8().double(), mg.tensor(pictures(3, size=16))
    net.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    plain = net(x)
    plain.sum().backward()
    expected = {name: p.grad.numpy().copy() for name, p in net.named_parameters()}
    net.zero_grad()
    fast = mg.compile(net)
    found = fast(x)
    found.sum().backward()
    np.testing.assert_allclose(found.detach().numpy(), plain.detach().numpy(), rtol=1e-8, atol=1e-10)
    for name, p in fast.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), expected[name], rtol=1e-6, atol=1e-9, err_msg=name)
