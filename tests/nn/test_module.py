"""Module: what it finds among its attributes, modes, moving, copying. More: test_state_dict.py, test_hooks.py."""

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DtypeError


class Net(nn.Module):
    """Parameters, buffers and children, deliberately mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 2)
        self.scale = nn.Parameter(mg.ones(1))
        self.seen = nn.Buffer(mg.zeros(1))
        self.blocks = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.plain = mg.ones(4)
        self.name = "net"

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return self.blocks(self.hidden(x)) * self.scale


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


# 1. Parameters, buffers, children ------------------------------------------------------------------------


def test_parameters_in_order_own_ones_first():
    assert names(Net().named_parameters()) == [
        "scale",
        *("hidden.weight", "hidden.bias"),
        *("blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"),
    ]


def test_buffers_and_children_in_order():
    net = Net()
    assert names(net.named_buffers()) == [
        "seen",
        *("blocks.1.running_mean", "blocks.1.running_var", "blocks.1.num_batches_tracked"),
    ]
    assert names(net.named_children()) == ["hidden", "blocks"]
    assert list(net.children()) == [net.hidden, net.blocks]
    assert names(net.named_modules()) == ["", "hidden", "blocks", "blocks.0", "blocks.1"]
    assert next(net.modules()) is net


def test_only_its_own_and_with_a_prefix():
    net = Net()
    assert names(net.named_parameters(recurse=False)) == ["scale"]
    assert [p is net.scale for p in net.parameters(recurse=False)] == [True]
    assert names(net.named_buffers(recurse=False)) == ["seen"]
    assert [b is net.seen for b in net.buffers(recurse=False)] == [True]
    assert names(net.named_parameters("net"))[:2] == ["net.scale", "net.hidden.weight"]


@pytest.mark.parity
def test_names_in_the_order_of_torch(torch):
    def build(lib: Any) -> Any:
        class Block(lib.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm = lib.BatchNorm2d(4)
                self.weight = lib.Parameter(zeros(3))
                self.conv = lib.Conv2d(1, 4, 3, bias=False)
                self.register_buffer("count", zeros(1))
                self.register_buffer("cache", zeros(1), persistent=False)
                self.register_parameter("nothing", None)
                self.layers = lib.ModuleList([lib.Linear(2, 3), lib.Sequential(lib.LayerNorm(3))])

        zeros = torch.zeros if lib is torch.nn else mg.zeros
        return Block()

    ours, theirs = build(nn), build(torch.nn)
    assert names(ours.named_parameters()) == names(theirs.named_parameters())
    assert names(ours.named_buffers()) == names(theirs.named_buffers())
    assert names(ours.named_modules()) == names(theirs.named_modules())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [tuple(v.shape) for v in ours.state_dict().values()] == [
        tuple(v.shape) for v in theirs.state_dict().values()
    ]


def test_plain_tensors_and_other_attributes_are_neither():
    net = Net()
    assert "plain" not in net.state_dict()
    assert all(t is not net.plain for t in (*net.parameters(), *net.buffers()))


def test_a_shared_parameter_comes_once_but_is_saved_under_both_names():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert names(net.named_parameters()) == ["0.weight", "0.bias", "1.bias"]
    assert len(list(net.parameters())) == 3
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_shared_layer_comes_once_and_its_gradient_adds_up():
    layer = nn.Linear(2, 2, bias=False)
    net = nn.Sequential(layer, layer)
    assert names(net.named_modules()) == ["", "0"]
    assert len(list(net.parameters())) == 1
    x = mg.Tensor(np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32))
    net(x).sum().backward()
    w, ones = layer.weight.detach().numpy(), np.ones((3, 2), np.float32)
    h = x.numpy() @ w.T
    np.testing.assert_allclose(layer.weight.grad.numpy(), ones.T @ h + (ones @ w).T @ x.numpy(), rtol=1e-5)


def test_assigning_again():
    """A Parameter may be replaced by another or by None, a buffer by any tensor, which becomes a buffer."""
    net = Net()
    net.scale = nn.Parameter(mg.zeros(1))
    assert names(net.named_parameters())[0] == "scale"
    net.seen = mg.ones(1)
    assert isinstance(net.seen, nn.Buffer)
    assert net.state_dict()["seen"].tolist() == [1.0]
    net.scale = net.seen = None
    assert "scale" not in names(net.named_parameters())
    assert "seen" not in names(net.named_buffers())
    net.hidden = nn.Identity()
    assert "hidden.weight" not in net.state_dict()


def test_a_buffer_holds_no_graph():
    net = Net()
    net.seen = (net.scale * 2).sum(0, keepdim=True)
    assert not net.seen.requires_grad


def test_a_parameter_does_not_become_a_plain_tensor_by_accident():
    net = Net()
    with pytest.raises(
        DtypeError, match=r"Net.scale is a Parameter and cannot become a Tensor; assign an nn.Parameter"
    ):
        net.scale = net.scale * 0.5
    with pytest.raises(DtypeError, match="cannot become a float"):
        net.scale = 0.5
    assert isinstance(net.scale, nn.Parameter)


@pytest.mark.parametrize(
    "value",
    [nn.Parameter(mg.ones(1)), nn.Buffer(mg.ones(1)), nn.Linear(1, 1)],
    ids=lambda v: type(v).__name__,
)
def test_forgotten_super_init(value):
    class Forgot(nn.Module):
        def __init__(self) -> None:
            self.layer = value

    with pytest.raises(
        AttributeError, match=r"Forgot.__init__ must call super\(\).__init__\(\) before it assigns"
    ):
        Forgot()


def test_forgotten_super_init_without_layers():
    class Forgot(nn.Module):
        def __init__(self) -> None:
            self.factor = 2

        def forward(self, x: Any) -> Any:
            return x

    with pytest.raises(AttributeError, match=r"Forgot.__init__ must call super\(\).__init__\(\)"):
        Forgot()(1)


def test_no_forward():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty has no forward method; define forward\(self, x\)"):
        Empty()(mg.ones(1))
    with pytest.raises(NotImplementedError, match="Module has no forward method"):
        nn.Module()(mg.ones(1))


def test_unknown_attributes_are_attribute_errors():
    with pytest.raises(AttributeError, match="wieght"):
        _ = nn.Linear(2, 2).wieght


class TutorialBatchNorm(nn.Module):
    """A reader's own layer, written as for PyTorch: plain tensors as state, replaced in forward."""

    def __init__(self, num_features: int):
        super().__init__()
        shape = (1, num_features)
        self.gamma = nn.Parameter(mg.ones(shape))
        self.beta = nn.Parameter(mg.zeros(shape))
        self.moving_mean = mg.zeros(shape)
        self.register_buffer("batches", mg.zeros(1))

    def forward(self, X: mg.Tensor) -> mg.Tensor:
        if self.moving_mean.device != X.device:
            self.moving_mean = self.moving_mean.to(X.device)
        mean = X.mean(dim=0)
        self.moving_mean = 0.9 * self.moving_mean + 0.1 * mean
        self.batches += 1
        return self.gamma * (X - mean) / ((X - mean) ** 2).mean(dim=0).sqrt() + self.beta


def test_a_layer_written_as_for_torch():
    layer = TutorialBatchNorm(2)
    x = mg.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert layer(x).tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    np.testing.assert_allclose(layer.moving_mean.tolist(), [[0.2, 2.0]], rtol=1e-6)
    assert layer.batches.item() == 1
    assert names(layer.named_parameters()) == ["gamma", "beta"]
    assert list(layer.state_dict()) == ["gamma", "beta", "batches"]
    layer(x).sum().backward()
    assert layer.beta.grad.tolist() == [[2.0, 2.0]]


def test_registering_in_the_words_of_torch():
    net = nn.Module()
    net.register_parameter("w", nn.Parameter(mg.ones(2)))
    net.register_parameter("none", None)
    net.register_buffer("b", mg.ones(3))
    net.register_buffer("cache", mg.ones(1), persistent=False)
    net.register_buffer("empty", None)
    net.add_module("layer", nn.Linear(1, 1))
    assert list(net.state_dict()) == ["w", "b", "layer.weight", "layer.bias"]
    assert names(net.named_buffers()) == ["b", "cache"]
    assert (net.none, net.empty) == (None, None)


# 2. Modes, moving, gradients -----------------------------------------------------------------------------


def test_train_and_eval_reach_everything_and_return_the_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    net.train(False)
    assert not net.blocks[1].training


def test_apply_visits_children_first():
    net, order = Net(), []
    assert net.apply(lambda m: order.append(type(m).__name__)) is net
    assert order == ["Linear", "Linear", "BatchNorm1d", "Sequential", "Net"]


@pytest.mark.parametrize(
    "move",
    [
        lambda m: m.double(),
        lambda m: m.to(mg.float64),
        lambda m: m.to("float64"),
        lambda m: m.type(mg.float64),
        lambda m: m.to(dtype=mg.float64),
        lambda m: m.to(mg.zeros(1, dtype=mg.float64)),
        lambda m: m.to("cpu", mg.float64),
    ],
)
def test_to_another_dtype_keeps_the_objects_and_the_integers(move):
    net = Net()
    before = [*net.parameters(), *net.buffers()]
    net(mg.ones(4, 3)).sum().backward()
    assert move(net) is net
    assert [id(t) for t in (*net.parameters(), *net.buffers())] == [id(t) for t in before]
    assert {p.dtype for p in net.parameters()} == {np.dtype("float64")}
    assert {p.grad.dtype for p in net.parameters()} == {np.dtype("float64")}
    assert net.blocks[1].running_mean.dtype == mg.float64
    assert net.blocks[1].num_batches_tracked.dtype == mg.int64
    assert net(mg.ones(4, 3, dtype=mg.float64)).dtype == mg.float64
    assert {p.dtype for p in net.float().parameters()} == {np.dtype("float32")}


def test_to_another_device(device):
    net = Net()
    expected = net.eval()(mg.ones(4, 3))
    assert net.to(device=device) is net
    assert {str(t.device).split(":")[0] for t in (*net.parameters(), *net.buffers())} == {device}
    y = net(mg.ones(4, 3).to(device))
    np.testing.assert_allclose(y.detach().cpu().numpy(), expected.detach().numpy(), rtol=1e-5)
    y.sum().backward()
    assert net.scale.grad.device == net.scale.device
    assert net.cpu().scale.grad.device == "cpu"
    assert net.scale.device == "cpu"


def test_an_integer_module_is_refused():
    with pytest.raises(
        DtypeError, match=r"Module.to: a module can only take a floating-point dtype, got int64"
    ):
        Net().to(mg.int64)


def test_zero_grad():
    net = Net()
    net(mg.ones(4, 3)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_freezing():
    net = Net()
    assert net.requires_grad_(False) is net
    assert not net(mg.ones(4, 3)).requires_grad
    net.hidden.requires_grad_()
    net(mg.ones(4, 3)).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is not None] == ["hidden.weight", "hidden.bias"]


def test_deepcopy_shares_nothing_and_keeps_what_is_shared_inside():
    net = Net()
    net.again = net.hidden.weight
    twin = copy.deepcopy(net)
    assert list(twin.state_dict()) == list(net.state_dict())
    assert twin.again is twin.hidden.weight
    for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert not np.shares_memory(a.numpy(), b.numpy())
    with mg.no_grad():
        twin.scale.fill_(7)
    assert net.scale.tolist() == [1.0]
    assert isinstance(twin.seen, nn.Buffer)
    twin(mg.ones(2, 3)).sum().backward()
    assert net.scale.grad is None
