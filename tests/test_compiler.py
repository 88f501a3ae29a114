"""minigrad.compile: what it fuses, what it leaves alone, and that a compiled model is still the same model.

Hooks, modes and inputs of all kinds are in test_compiler_modes.py. That the fused operations calculate as the
layers do is tested in tests/kernels/.
"""

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn, optim
from minigrad.compiler import FusedRun, FusedSequential
from minigrad.errors import ArgumentError


def small() -> nn.Sequential:
    """A convolution and two fully connected layers, for pictures (N, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid(), nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(27, 5), nn.BatchNorm1d(5), nn.ReLU(),
        nn.Linear(5, 2),
    )  # fmt: skip


class Net(nn.Module):
    """An own Module that holds Sequentials, one of them inside another."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(27, 5), nn.Tanh(), nn.Linear(5, 2))
        self.scale = nn.Parameter(mg.ones(1))

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return self.head(self.features(x)) * self.scale


def pictures(N: int = 6, seed: int = 0) -> mg.Tensor:
    return mg.Tensor(np.random.default_rng(seed).standard_normal((N, 1, 8, 8)).astype(np.float32))


def runs(model: nn.Module) -> list[str]:
    """What was fused, in all Sequentials of a compiled model."""
    found = []
    for module in model.modules():
        if isinstance(module, FusedSequential):
            steps = [step for _, step in module.named_steps() if isinstance(step, FusedRun)]
            found += [step.title for step in steps if len(step.layers) > 1]
    return found


def operations(y: Any) -> list[str]:
    """Names of the operations that made y, the last one first, along the first input of each."""
    found = []
    while y is not None and y.grad_fn is not None:
        found.append(type(y.grad_fn).__name__)
        y = next((x for x in y.grad_fn.inputs if x is not None), None)
    return found


def same(a: Any, b: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=atol)


def gradients(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}


def check_same_gradients(net: nn.Module, fast: nn.Module, x: mg.Tensor) -> None:
    """In float64, where rounding does not show."""
    found = []
    for model in (net, fast):
        model.zero_grad()
        y = model(x)
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
        found.append(gradients(model))
    assert list(found[0]) == list(found[1])
    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=0, atol=1e-10, err_msg=name)


# 1. The same model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, Net, models.lenet_bn, models.mlp_bn, models.resnet8])
def test_parameters_and_buffers_are_shared(make):
    net = make()
    fast = mg.compile(net)
    assert list(fast.state_dict()) == list(net.state_dict())
    pairs = zip(net.named_parameters(), fast.named_parameters(), strict=True)
    assert all(a == b and p is q for (a, p), (b, q) in pairs)
    pairs = zip(net.named_buffers(), fast.named_buffers(), strict=True)
    assert all(a == b and p is q for (a, p), (b, q) in pairs)


def test_the_given_model_stays_as_it_was():
    net = Net()
    before = repr(net)
    fast = mg.compile(net)
    assert repr(net) == before
    assert type(net.features) is nn.Sequential
    assert not operations(net(pictures())).count("ConvBlock")
    assert type(fast) is Net
    assert isinstance(fast.features, FusedSequential)
    assert isinstance(fast.features, nn.Sequential)


def test_modes_reach_the_layers_of_both():
    net = small()
    fast = mg.compile(net)
    net.eval()
    assert not any(layer.training for layer in fast)
    fast.train()
    assert all(layer.training for layer in net)
    assert fast.training
    assert mg.compile(small().eval()).training is False


def test_training_one_trains_the_other():
    net = small()
    optimizer = optim.SGD(net.parameters(), lr=0.5)  # made before the model was compiled
    fast = mg.compile(net)
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    fast(pictures()).sin().sum().backward()
    optimizer.step()
    for name, value in net.state_dict().items():
        if not name.endswith(("0.bias", "5.bias")):  # a batch norm follows: they are not learned
            assert (value.numpy() != before[name]).any(), name
    same(fast.eval()(pictures(seed=1)), net(pictures(seed=1)))


def test_weights_are_saved_and_loaded(tmp_path):
    pytest.importorskip("safetensors")
    fast = mg.compile(small())
    fast(pictures())
    mg.save(fast.state_dict(), tmp_path / "weights.safetensors")
    for other in (small(), mg.compile(small())):
        other.load_state_dict(mg.load(tmp_path / "weights.safetensors"))
        same(other.eval()(pictures()), fast.eval()(pictures()))


def test_dtype_changes_reach_both():
    net = small()
    fast = mg.compile(net)
    net.double()
    x = pictures().double()
    assert operations(fast(x))[-1] == "ConvBlock"
    check_same_gradients(net, fast, x)


def test_a_copy_has_weights_of_its_own():
    fast = mg.compile(small())
    fast(pictures())
    twin = copy.deepcopy(fast)
    assert runs(twin) == runs(fast)
    x = pictures(seed=1)
    before = fast(x).detach()
    same(twin(x), before)
    with mg.no_grad():
        for p in twin.parameters():
            p.mul_(0)
    same(fast(x), before)
    assert not twin(x).detach().numpy().any()


def test_compiling_twice_changes_nothing():
    fast = mg.compile(Net())
    assert mg.compile(fast) is fast


def test_compiling_again_finds_what_was_added():
    fast = mg.compile(small())
    fast.append(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    assert len(runs(mg.compile(fast))) == len(runs(fast)) + 1


@pytest.mark.parametrize("model", [np.ones(3), None, nn.Sequential, lambda x: x])
def test_only_modules_can_be_compiled(model):
    with pytest.raises(ArgumentError, match=f"^compile: expected a Module, got {type(model).__name__}$"):
        mg.compile(model)


def test_repr_shows_what_was_fused():
    fast = mg.compile(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Flatten()))
    assert repr(fast) == (
        "Sequential(\n"
        "  (0): Sequential(\n"
        "    (0-1): fused Linear + Tanh\n"
        "      (0): Linear(in_features=2, out_features=2, bias=True)\n"
        "      (1): Tanh()\n"
        "  )\n"
        "  (1): Flatten(start_dim=1, end_dim=-1)\n"
        ")"
    )
    assert "(0-3): fused Conv2d + BatchNorm2d + Sigmoid + MaxPool2d\n" in repr(mg.compile(small()))
    assert repr(mg.compile(nn.Sequential())) == "Sequential()"


def test_repr_of_a_layer_that_is_used_twice():
    relu = nn.ReLU()
    fast = mg.compile(nn.Sequential(relu, nn.Flatten(), relu))
    assert [name for name, _ in fast.named_steps()] == ["0", "1", "2"]


# 2. What is fused ----------------------------------------------------------------------------------------

C, BN, S, R, T, P = (
    lambda: nn.Conv2d(1, 3, 3),
    lambda: nn.BatchNorm2d(3),
    nn.Sigmoid,
    nn.ReLU,
    nn.Tanh,
    lambda: nn.MaxPool2d(2),
)


@pytest.mark.parametrize(
    ("layers", "lengths"),
    [
        ([C, BN, S, P], [4]),
        ([C, BN, R], [3]),
        ([C, BN, P], [3]),
        ([C, S, P], [3]),
        ([C, P], [2]),
        ([C, BN], [2]),
        ([C, T], [2]),
        ([C], [1]),
        ([BN, S, P], [1, 1, 1]),
        ([C, S, BN], [2, 1]),  # batch norm after the activation is a layer of its own
        ([C, BN, S, S, P], [3, 1, 1]),
        ([C, BN, S, P, P], [4, 1]),
        ([C, P, S], [2, 1]),
        ([C, lambda: nn.Dropout(0.5), BN, S], [1, 1, 1, 1]),
        ([lambda: nn.Conv2d(1, 3, 3, dilation=2), BN, S], [1, 1, 1]),
        ([lambda: nn.Conv2d(1, 3, 3, padding="same"), BN, S], [1, 1, 1]),
        ([lambda: nn.Conv2d(1, 3, 3, padding=2, stride=2), BN, S], [3]),
        ([lambda: nn.Conv2d(1, 4, 3, groups=1), lambda: nn.BatchNorm2d(4)], [2]),
        ([C, lambda: nn.BatchNorm2d(4)], [1, 1]),  # does not fit: the layer says so
        ([C, lambda: nn.BatchNorm1d(3)], [1, 1]),
        ([C, lambda: nn.BatchNorm(3, 4), S], [1, 1, 1]),
        ([C, nn.LeakyReLU, P], [1, 1, 1]),
        ([C, S, lambda: nn.MaxPool2d(3, 2)], [2, 1]),
        ([C, S, lambda: nn.MaxPool2d(2, 1)], [2, 1]),
        ([C, S, lambda: nn.MaxPool2d((2, 1))], [2, 1]),
        ([C, S, lambda: nn.MaxPool2d(2, padding=1)], [2, 1]),
        ([C, S, lambda: nn.MaxPool2d(2, dilation=2)], [2, 1]),
        ([C, S, lambda: nn.MaxPool2d(2, return_indices=True)], [2, 1]),
        ([C, S, lambda: nn.MaxPool2d((2, 2), (2, 2), (0, 0))], [3]),
        ([C, S, lambda: nn.AvgPool2d(2)], [2, 1]),
        ([lambda: nn.Linear(8, 3), lambda: nn.BatchNorm1d(3), R], [3]),
        ([lambda: nn.Linear(8, 3), R], [2]),
        ([lambda: nn.Linear(8, 3), lambda: nn.BatchNorm1d(3)], [2]),
        ([lambda: nn.Linear(8, 3), lambda: nn.BatchNorm1d(4)], [1, 1]),
        ([lambda: nn.Linear(8, 3), lambda: nn.BatchNorm2d(3)], [1, 1]),
        ([lambda: nn.Linear(8, 3), R, P], [2, 1]),
        ([lambda: nn.Linear(8, 3), lambda: nn.Softmax(1)], [1, 1]),
        ([], []),
    ],
)
def test_runs(layers, lengths):
    fast = mg.compile(nn.Sequential(*[make() for make in layers]))
    found = [len(step.layers) if isinstance(step, FusedRun) else 1 for _, step in fast.named_steps()]
    assert found == lengths


def test_a_grouped_convolution_runs_as_it_was():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.MaxPool2d(2)).double()
    assert runs(mg.compile(net)) == []
    check_same_gradients(net, mg.compile(net), mg.randn(3, 2, 8, 8, dtype=mg.float64))


class Doubled(nn.Conv2d):
    """A layer of one's own that does something else."""

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return 2 * super().forward(x)


class Own(nn.Sequential):
    """A Sequential of one's own may do what it likes."""

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return super().forward(x) + 1


def test_own_layers_are_left_alone():
    net = nn.Sequential(Doubled(1, 3, 3), nn.ReLU(), Own(nn.Conv2d(3, 3, 3), nn.ReLU()))
    fast = mg.compile(net)
    assert runs(fast) == []
    same(fast(pictures()), net(pictures()), atol=0)


def test_a_sequential_in_an_own_sequential_is_fused():
    net = Own(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()))
    fast = mg.compile(net)
    assert type(fast) is Own
    assert len(runs(fast)) == 1
    same(fast(pictures()), net(pictures()))


@pytest.mark.parametrize("make", [Net, lambda: nn.ModuleList([small()])[0], models.resnet8])
def test_sequentials_anywhere_in_a_model(make):
    net = make().double()
    fast = mg.compile(net)
    assert runs(fast)
    x = mg.randn(4, 3, 16, 16, dtype=mg.float64) if isinstance(net, models.ResNet) else pictures().double()
    check_same_gradients(net, fast, x)


def test_modules_in_a_list():
    net = nn.ModuleList([small(), nn.Linear(2, 2)])
    fast = mg.compile(net)
    assert len(runs(fast)) == 2
    assert fast[1] is net[1]


def test_a_sequential_that_is_used_twice_stays_one():
    shared = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    net = nn.Sequential(shared, nn.ReLU(), shared).double()
    fast = mg.compile(net)
    assert fast[0] is fast[2]
    assert len(list(fast.parameters())) == 2
    check_same_gradients(net, fast, mg.randn(5, 4, dtype=mg.float64))


def test_a_layer_that_is_used_twice():
    layer, relu = nn.Linear(4, 4), nn.ReLU()
    net = nn.Sequential(layer, relu, layer, relu).double()
    fast = mg.compile(net)
    assert len(runs(fast)) == 2
    check_same_gradients(net, fast, mg.randn(5, 4, dtype=mg.float64))


def test_attributes_of_a_sequential_stay():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    net.temperature = nn.Parameter(mg.ones(1))
    net.comment = "mine"
    fast = mg.compile(net)
    assert list(fast.state_dict()) == list(net.state_dict())
    assert fast.comment == "mine"


# 3. Changes after compiling ------------------------------------------------------------------------------


def test_a_replaced_layer_is_noticed():
    fast = mg.compile(small())
    fast(pictures())
    fast[2] = nn.Tanh()
    assert runs(fast)[0] == "fused Conv2d + BatchNorm2d + Tanh + MaxPool2d"
    fast[2] = nn.GELU()
    assert runs(fast)[0] == "fused Conv2d + BatchNorm2d"
    same(fast(pictures()), nn.Sequential(*fast)(pictures()))


def test_an_appended_and_a_removed_layer_are_noticed():
    fast = mg.compile(nn.Sequential(nn.Linear(4, 4)))
    x = mg.randn(3, 4)
    assert fast(x).shape == (3, 4)
    assert fast.append(nn.Tanh()) is fast
    assert runs(fast) == ["fused Linear + Tanh"]
    same(fast(x), fast[1](fast[0](x)))
    delattr(fast, "1")
    assert runs(fast) == []
    same(fast(x), fast[0](x), atol=0)


def test_slices_are_plain_sequentials_of_the_same_layers():
    fast = mg.compile(small())
    part = fast[:5]
    assert type(part) is nn.Sequential
    assert list(part) == list(fast)[:5]
    same(part.eval()(pictures()), fast[4](fast[3](fast[2](fast[1](fast[0](pictures()))))), atol=0)
    assert len(runs(mg.compile(part))) == 1
