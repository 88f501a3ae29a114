"""The models: shapes, names and sizes as printed, starting weights, and PyTorch's outputs.

Whole training runs beside PyTorch's are in tests/parity.
"""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.errors import ArgumentError
from minigrad.models import MODELS, init_xavier

# Counted by hand: (inputs per output + 1) * outputs of each layer, and gamma and beta of each batch norm.
LENET = (25 + 1) * 6 + (6 * 25 + 1) * 16 + (256 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
LENET_NORMS = 2 * (6 + 16 + 120 + 84)
SIZES = {
    "lenet_bn": LENET + LENET_NORMS,
    "lenet_bn_scratch": LENET + LENET_NORMS,
    "lenet": LENET,
    "mlp_bn": (784 + 1) * 256 + (256 + 1) * 10 + 2 * 256,
    "mlp": (784 + 1) * 256 + (256 + 1) * 10,
}


def pictures(n=4, dtype=np.float64):
    return np.random.default_rng(0).random((n, 1, 28, 28)).astype(dtype)


def theirs(torch, name, pool="max", eps=1e-5, momentum=0.1):
    """The same network written with PyTorch's layers."""
    t = torch.nn
    pooling = {"max": t.MaxPool2d, "avg": t.AvgPool2d}[pool]
    norm1 = lambda n: [t.BatchNorm1d(n, eps, momentum)] if "_bn" in name else []  # noqa: E731
    norm2 = lambda n: [t.BatchNorm2d(n, eps, momentum)] if "_bn" in name else []  # noqa: E731
    if name.startswith("mlp"):
        return t.Sequential(t.Flatten(), t.Linear(784, 256), *norm1(256), t.ReLU(), t.Linear(256, 10))
    return t.Sequential(
        *(t.Conv2d(1, 6, 5), *norm2(6), t.Sigmoid(), pooling(2, 2)),
        *(t.Conv2d(6, 16, 5), *norm2(16), t.Sigmoid(), pooling(2, 2)),
        t.Flatten(),
        *(t.Linear(256, 120), *norm1(120), t.Sigmoid()),
        *(t.Linear(120, 84), *norm1(84), t.Sigmoid()),
        t.Linear(84, 10),
    )


SCRATCH_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


def copy_weights(torch, net, other):
    """PyTorch's weights into minigrad's network; the scratch batch norm has other names and shapes."""
    state = {k: v.numpy() for k, v in other.state_dict().items()}
    own = {}
    for name, value in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        own[name] = state[f"{layer}.{SCRATCH_NAMES.get(kind, kind)}"].reshape(value.shape)
    net.load_state_dict(own)


# 1. As printed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_size_and_output(name):
    net = MODELS[name].build()
    assert sum(p.numel() for p in net.parameters()) == SIZES[name]
    assert net(mg.tensor(pictures(dtype=np.float32))).shape == (4, 10)
    assert net.eval()(mg.tensor(pictures(1, np.float32))).shape == (1, 10)


def test_the_layers_of_lenet_bn():
    kinds = [type(layer).__name__ for layer in models.lenet_bn()]
    assert kinds == (
        ["Conv2d", "BatchNorm2d", "Sigmoid", "MaxPool2d"] * 2
        + ["Flatten"]
        + ["Linear", "BatchNorm1d", "Sigmoid"] * 2
        + ["Linear"]
    )


def test_the_scratch_network_has_the_same_plan():
    kinds = {"BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm"}
    plan = [type(layer).__name__ for layer in models.lenet_bn()]
    assert [type(layer).__name__ for layer in models.lenet_bn_scratch()] == [kinds.get(k, k) for k in plan]
    assert models.lenet_bn_scratch()[1].gamma.reshape((-1,)).shape == (6,)  # the tutorial prints it


def test_the_sizes_on_the_way():
    """As in the docstring of models/lenet.py."""
    x, shapes = mg.tensor(pictures(2, np.float32)), []
    for layer in models.lenet():
        x = layer(x)
        shapes.append(x.shape[1:])
    assert shapes == [
        *[(6, 24, 24), (6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 8, 8), (16, 4, 4)],
        *[(256,), (120,), (120,), (84,), (84,), (10,)],
    ]


def test_options():
    net = models.lenet_bn("avg", eps=1e-3, momentum=0.25)
    assert [type(net[i]).__name__ for i in (3, 7)] == ["AvgPool2d", "AvgPool2d"]
    assert [(net[i].eps, net[i].momentum) for i in (1, 5, 10, 13)] == [(1e-3, 0.25)] * 4
    scratch = models.lenet_bn_scratch("avg", eps=1e-3, momentum=0.25)
    assert [(scratch[i].eps, scratch[i].momentum) for i in (1, 5, 10, 13)] == [(1e-3, 0.75)] * 4
    assert models.lenet_bn_scratch()[1].momentum == 0.9  # exactly
    assert type(models.lenet("avg")[2]).__name__ == "AvgPool2d"
    mlp = models.mlp_bn(eps=1e-3, momentum=0.25)
    assert (mlp[2].eps, mlp[2].momentum) == (1e-3, 0.25)


@pytest.mark.parametrize("build", [models.lenet, models.lenet_bn, models.lenet_bn_scratch])
def test_unknown_pooling(build):
    with pytest.raises(ArgumentError, match="pool must be 'max' or 'avg', got 'mean'"):
        build(pool="mean")


def test_both_batch_norms_compute_the_same():
    """In training; the averages they keep differ as their documentation says."""
    x = mg.tensor(pictures(8))
    bn, scratch = models.lenet_bn().double(), models.lenet_bn_scratch().double()
    for p, q in zip(scratch.parameters(), bn.parameters(), strict=True):
        p.data = q.detach().reshape(p.shape).clone()
    np.testing.assert_allclose(scratch(x).detach().numpy(), bn(x).detach().numpy(), rtol=1e-10, atol=1e-12)
    M = 8 * 24 * 24
    biased = 0.9 + (bn[1].running_var - 0.9) * (M - 1) / M
    np.testing.assert_allclose(scratch[1].moving_var.numpy().ravel(), biased.numpy(), rtol=1e-12)
    np.testing.assert_allclose(scratch[1].moving_mean.numpy().ravel(), bn[1].running_mean.numpy(), rtol=1e-12)


# 2. Beside PyTorch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if name != "lenet_bn_scratch"])
def test_names_of_the_weights(name, torch):
    state = {k: tuple(v.shape) for k, v in theirs(torch, name).state_dict().items()}
    assert {k: v.shape for k, v in MODELS[name].build().state_dict().items()} == state
    assert list(MODELS[name].build().state_dict()) == list(state)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs(name, pool, torch):
    """Training mode and evaluation mode, float64 and float32."""
    torch.manual_seed(0)
    options = {"pool": pool, "eps": 1e-3, "momentum": 0.3}
    info = MODELS[name]
    net = info.build(**{k: v for k, v in options.items() if k in info.options})
    other = theirs(torch, name, **options)
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-10)):
        net.train().to(dtype)
        other.train().to(getattr(torch, np.dtype(dtype).name))
        copy_weights(torch, net, other)
        x = pictures(6, dtype)
        trained, expected = net(mg.tensor(x)).detach().numpy(), other(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(trained, expected, rtol=tolerance, atol=tolerance)
        if name == "lenet_bn_scratch":
            copy_weights(torch, net, other)  # the variances differ by M / (M - 1)
        trained = net.eval()(mg.tensor(x)).detach().numpy()
        expected = other.eval()(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(trained, expected, rtol=tolerance, atol=tolerance)


# 3. Starting weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_xavier(name):
    """Weights of linear and convolutional layers are drawn anew, within Glorot's bound; biases are not."""
    net = MODELS[name].build()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    assert init_xavier(net) is net
    for index, layer in net.named_children():
        for kind, value in layer.named_parameters():
            w, old = value.detach().numpy(), before[f"{index}.{kind}"]
            if kind == "weight" and isinstance(layer, (nn.Linear, nn.Conv2d)):
                fan_in, fan_out = math.prod(w.shape[1:]), w.shape[0] * math.prod(w.shape[2:])
                bound = math.sqrt(6 / (fan_in + fan_out))
                assert np.abs(w).max() <= bound * (1 + 1e-6)
                assert np.abs(w).max() > 0.9 * bound
                assert not np.any(w == old)
            else:
                np.testing.assert_array_equal(w, old)


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_one_model(name):
    mg.manual_seed(5)
    first = MODELS[name].make().state_dict()
    mg.manual_seed(5)
    second = MODELS[name].make().state_dict()
    mg.manual_seed(6)
    third = MODELS[name].make().state_dict()
    for key, value in first.items():
        np.testing.assert_array_equal(value.numpy(), second[key].numpy())
    weight = next(key for key in first if key.endswith("weight"))
    assert not np.array_equal(first[weight].numpy(), third[weight].numpy())


# 4. The registry -------------------------------------------------------------------------------------------


def test_the_names_of_the_command_line():
    assert list(MODELS) == ["lenet_bn", "lenet_bn_scratch", "lenet", "mlp_bn", "mlp"]
    assert all(info.name == name and models.get(name) is info for name, info in MODELS.items())
    assert {name: info.lr for name, info in MODELS.items() if "lenet" in name} == {
        "lenet_bn": 1.0,
        "lenet_bn_scratch": 1.0,
        "lenet": 0.9,
    }


def test_options_of_each_model():
    assert {name: info.options for name, info in MODELS.items()} == {
        "lenet_bn": ("pool", "eps", "momentum"),
        "lenet_bn_scratch": ("pool", "eps", "momentum"),
        "lenet": ("pool",),
        "mlp_bn": ("eps", "momentum"),
        "mlp": (),
    }


@pytest.mark.parametrize("name", MODELS)
def test_make_passes_over_options_that_a_model_does_not_have(name):
    net = MODELS[name].make(pool="avg", eps=1e-3, momentum=0.2)
    text = repr(net)
    assert ("AvgPool2d" in text) == ("lenet" in name)
    assert ("eps=0.001" in text) == ("_bn" in name)


@pytest.mark.parametrize("name", MODELS)
def test_input_shape(name):
    info = MODELS[name]
    assert info.make()(mg.zeros(2, *info.input_shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet-bn", r"unknown model 'lenet-bn': there are lenet_bn, .*, mlp; did you mean 'lenet_bn'\?$"),
        ("LENET", r"did you mean 'lenet'\?$"),
        (
            "transformer",
            "unknown model 'transformer': there are lenet_bn, lenet_bn_scratch, lenet, mlp_bn, mlp$",
        ),
        (7, "unknown model 7: there are"),
    ],
)
def test_unknown_models(name, message):
    with pytest.raises(ArgumentError, match=message):
        models.get(name)
