"""What a mistake with layers, losses and state dicts is told, and the names of PyTorch that come with them."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, ShapeError


def message(kind, call) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


# 1. Names of PyTorch -------------------------------------------------------------------------------------


def test_utils_is_part_of_nn():
    layer = nn.Linear(2, 1)
    layer.weight.grad = mg.tensor([[3.0, 4.0]])
    assert nn.utils.clip_grad_norm_(layer.parameters(), 1.0).item() == pytest.approx(5.0)
    assert layer.weight.grad.numpy() == pytest.approx(np.array([[0.6, 0.8]]), rel=1e-5)
    assert "utils" in nn.__all__


def test_half():
    layer = nn.BatchNorm1d(2).half()
    assert {str(t.dtype) for t in layer.parameters()} == {"float16"}
    assert str(layer.running_mean.dtype) == "float16"
    assert layer.num_batches_tracked.dtype == mg.int64


class MySequential(nn.Module):
    """The book's own Sequential."""

    def __init__(self, *modules):
        super().__init__()
        for i, module in enumerate(modules):
            self._modules[str(i)] = module

    def forward(self, x):
        for module in self._modules.values():
            x = module(x)
        return x


def test_modules_is_a_dictionary_of_the_children():
    net = MySequential(nn.Linear(3, 2), nn.Sigmoid())
    plain = nn.Sequential(nn.Linear(3, 2), nn.Sigmoid())
    plain.load_state_dict(net.state_dict())
    x = mg.randn(4, 3)
    assert net(x).tolist() == plain(x).tolist()
    assert list(net._modules) == ["0", "1"]
    assert len(net._modules) == 2
    assert net._modules["1"] is getattr(net, "1")
    assert "bias" not in net._modules["0"]._modules
    del net._modules["1"]
    assert [name for name, _ in net.named_children()] == ["0"]
    with pytest.raises(KeyError):
        net._modules["1"]
    text = message(ArgumentError, lambda: net._modules.update({"2": np.tanh}))
    assert "MySequential._modules['2'] must be a Module, got numpy.ufunc" in text


def test_modules_needs_init():
    class Forgot(nn.Module):
        def __init__(self):
            self._modules["0"] = nn.Linear(1, 1)

    assert "super().__init__()" in message(AttributeError, Forgot)


@pytest.mark.parametrize("index", [0, 1, 2, -1, -2])
def test_insert_and_extend_as_in_torch(index):
    torch = pytest.importorskip("torch")

    def build(nn):
        net = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 3))
        net.extend([nn.Linear(3, 4)])
        return net.insert(index, nn.Linear(7, 7))

    ours, theirs = build(nn), build(torch.nn)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_insert_refuses():
    net = nn.Sequential(nn.Identity())
    assert "there is no place 2" in message(IndexError, lambda: net.insert(2, nn.Identity()))
    named = nn.Sequential({"a": nn.Identity()})
    assert "names of their own" in message(ArgumentError, lambda: named.insert(0, nn.Identity()))
    assert "must be a Module, got the class Tanh" in message(ArgumentError, lambda: net.insert(0, nn.Tanh))
    assert len(net) == len(named) == 1


def test_module_list_insert():
    layers = nn.ModuleList([nn.ReLU(), nn.Tanh()]).insert(1, nn.Sigmoid())
    assert [type(layer) for layer in layers] == [nn.ReLU, nn.Sigmoid, nn.Tanh]


def test_a_hook_is_taken_away_once():
    layer, calls = nn.Identity(), []
    handle = layer.register_forward_hook(lambda *_: calls.append("result"))
    before = layer.register_forward_pre_hook(lambda *_: calls.append("arguments"))
    layer(mg.ones(1))
    handle.remove()
    handle.remove()
    layer(mg.ones(1))
    before.remove()
    layer(mg.ones(1))
    assert calls == ["arguments", "result", "arguments"]


# 2. Which layer ------------------------------------------------------------------------------------------


def test_the_layer_that_failed_is_named_once_a_level():
    net = nn.Sequential(
        nn.Flatten(), nn.Sequential({"first": nn.Linear(4, 3), "second": nn.Linear(5, 2)}), nn.Sigmoid()
    )
    with pytest.raises(ShapeError) as caught:
        net(mg.ones(2, 2, 2))
    assert caught.value.__notes__ == [
        "in layer second: Linear(in_features=5, out_features=2, bias=True)",
        "in layer 1: Sequential",
    ]


def test_other_exceptions_of_a_layer_stay_as_they_are():
    class Stops(nn.Module):
        def forward(self, x):
            raise KeyError("a")

    with pytest.raises(KeyError) as caught:
        nn.Sequential(Stops())(mg.ones(1))
    assert not hasattr(caught.value, "__notes__")


# 3. Convolution ------------------------------------------------------------------------------------------


def test_a_batch_of_grey_pictures_without_channel():
    text = message(ShapeError, lambda: nn.Conv2d(1, 6, 5)(mg.ones(8, 28, 28)))
    assert "weight expects 1 input channels, x has 8" in text
    assert "(8, 28, 28)" in text
    assert "(1, 8, 28, 28)" not in text
    assert (
        "hint: x was read as one picture (C, H, W); for a batch of grey pictures use x.unsqueeze(1)" in text
    )
    assert nn.Conv2d(1, 6, 5)(mg.ones(8, 28, 28).unsqueeze(1)).shape == (8, 6, 24, 24)
    assert nn.Conv2d(8, 6, 5)(mg.ones(8, 28, 28)).shape == (6, 24, 24)


def test_one_picture_with_the_wrong_channels_or_size():
    text = message(ShapeError, lambda: nn.Conv2d(3, 6, 5)(mg.ones(4, 28, 28)))
    assert "x was read as one picture (C, H, W); the layer before must output 3 channels" in text
    assert "unsqueeze" not in text
    text = message(ShapeError, lambda: nn.Conv2d(3, 6, 5)(mg.ones(3, 4, 28)))
    assert "(3, 4, 28)" in text
    assert "(1, 3, 4, 28)" not in text


def test_the_suggested_convolution_keeps_its_groups():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    assert "Conv2d(8, 6, 3, groups=2)" in message(ShapeError, lambda: layer(mg.ones(1, 8, 5, 5)))
    text = message(ShapeError, lambda: layer(mg.ones(1, 3, 5, 5)))  # 3 channels do not split into 2 groups
    assert text.endswith("hint: the layer before must output 4 channels")


# 4. What is no Tensor ------------------------------------------------------------------------------------

x = mg.ones(2, 3)
pictures = mg.ones(1, 1, 4, 4)
ARRAY = np.ones((2, 3), dtype="float32")
CALLS = {
    "linear: x": lambda bad: F.linear(bad, x),
    "linear: weight": lambda bad: F.linear(x, bad),
    "linear: bias": lambda bad: F.linear(x, x, bad),
    "conv2d: x": lambda bad: F.conv2d(bad, pictures),
    "conv2d: weight": lambda bad: F.conv2d(pictures, bad),
    "conv2d: bias": lambda bad: F.conv2d(pictures, pictures, bad),
    "pad2d: x": lambda bad: F.pad2d(bad, (1, 1), (1, 1)),
    "max_pool2d: x": lambda bad: F.max_pool2d(bad, 2),
    "avg_pool2d: x": lambda bad: F.avg_pool2d(bad, 2),
    "adaptive_avg_pool2d: x": lambda bad: F.adaptive_avg_pool2d(bad, 1),
    "batch_norm: x": lambda bad: F.batch_norm(bad, None, None, training=True),
    "batch_norm: a parameter": lambda bad: F.batch_norm(x, mg.zeros(3), bad, training=True),
    "layer_norm: x": lambda bad: F.layer_norm(bad, 3),
    "layer_norm: weight": lambda bad: F.layer_norm(x, 3, bad),
    "group_norm: x": lambda bad: F.group_norm(bad, 1),
    "group_norm: bias": lambda bad: F.group_norm(x, 1, None, bad),
    "dropout: x": F.dropout,
    "sigmoid: x": F.sigmoid,
    "tanh: x": F.tanh,
    "relu: x": F.relu,
    "leaky_relu: x": F.leaky_relu,
    "gelu: x": F.gelu,
    "softplus: x": F.softplus,
    "softmax: x": F.softmax,
    "log_softmax: x": F.log_softmax,
    "logsumexp: x": lambda bad: F.logsumexp(bad, 0),
    "one_hot: labels": F.one_hot,
    "cross_entropy: input": lambda bad: F.cross_entropy(bad, mg.tensor([0, 1])),
    "cross_entropy: target": lambda bad: F.cross_entropy(x, bad),
    "cross_entropy: weight": lambda bad: F.cross_entropy(x, mg.tensor([0, 1]), bad),
    "nll_loss: input": lambda bad: F.nll_loss(bad, mg.tensor([0, 1])),
    "nll_loss: target": lambda bad: F.nll_loss(x, bad),
    "mse_loss: input": lambda bad: F.mse_loss(bad, x),
    "mse_loss: target": lambda bad: F.mse_loss(x, bad),
    "l1_loss: target": lambda bad: F.l1_loss(x, bad),
    "smooth_l1_loss: target": lambda bad: F.smooth_l1_loss(x, bad),
    "binary_cross_entropy_with_logits: target": lambda bad: F.binary_cross_entropy_with_logits(x, bad),
    "binary_cross_entropy_with_logits: weight": lambda bad: F.binary_cross_entropy_with_logits(x, x, bad),
    "Flatten: x": nn.Flatten(),
}


@pytest.mark.parametrize("call", CALLS)
def test_lists_and_arrays_are_refused_by_name(call):
    for bad, kind in ((ARRAY, "numpy.ndarray"), ([[1.0, 2.0, 3.0]], "list")):
        text = message(DtypeError, lambda bad=bad: CALLS[call](bad))
        assert text.startswith(f"{call} must be a Tensor, got {kind}; convert it with minigrad.tensor(...)")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(3, 1),
        nn.Conv2d(1, 1, 1),
        nn.BatchNorm1d(3),
        nn.BatchNorm2d(3),
        nn.BatchNorm(3, 2),
        nn.BatchNorm1d(3).eval(),
        nn.LayerNorm(3),
        nn.GroupNorm(1, 3),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Dropout(),
        nn.ReLU(),
        nn.Softmax(dim=1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_refuse_lists(layer):
    assert "must be a Tensor, got list" in message(DtypeError, lambda: layer([[1.0, 2.0, 3.0]]))


def test_a_forward_that_returns_nothing():
    class Silent(nn.Module):
        def forward(self, x):
            x * 2

    net = nn.Sequential(Silent(), nn.ReLU())
    text = message(DtypeError, lambda: net(mg.ones(1)))
    assert text == "relu: x must be a Tensor, got None; does the forward before it return its result?"


def test_load_state_dict_of_something_else():
    layer = nn.Linear(1, 1)
    text = message(DtypeError, lambda: layer.load_state_dict("model.safetensors"))
    assert text == (
        "load_state_dict: expected a dict of tensors by name, got str; "
        "read the file first: load_state_dict(minigrad.load('model.safetensors'))"
    )
    text = message(DtypeError, lambda: layer.load_state_dict(nn.Linear(1, 1)))
    assert "got minigrad.nn.linear.Linear; use other.state_dict()" in text
    assert message(DtypeError, lambda: layer.load_state_dict([1.0])).endswith("got list")


# 5. Labels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_hints_for_labels(loss):
    scores = mg.randn(4, 3)
    labels = mg.tensor([0, 1, 2, 0])
    assert "hint: target has a dimension of 1 too many: use target.squeeze(1)" in message(
        ShapeError, lambda: loss(scores, labels.unsqueeze(1))
    )
    assert "not one-hot rows: use target.argmax(1)" in message(
        ShapeError, lambda: loss(scores, F.one_hot(labels, 3))
    )
    assert "for this input the shape (4,)" in message(ShapeError, lambda: loss(scores, labels[:3]))
    assert "for this input the shape (4, 5, 6)" in message(
        ShapeError, lambda: loss(mg.zeros(4, 3, 5, 6), mg.zeros(4, 5).long())
    )
    text = message(DtypeError, lambda: loss(labels, scores))
    assert text.startswith(
        f"{loss.__name__}: input is int64 and target float32: the arguments seem exchanged"
    )
    assert text.endswith(f"write {loss.__name__}(scores, labels)")
    assert loss(scores, F.one_hot(labels, 3).argmax(1)).item() == loss(scores, labels).item()
