"""The layers pass their arguments on, learn the same parameters and take the same signatures as PyTorch's."""

import inspect
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import ArgumentError
from tests.nn.support import compare

# (name, arguments, options, shape of the input)
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (3, 4), {}, (5, 3)),
    ("Linear", (3, 4), {"bias": False}, (2, 5, 3)),
    ("Conv2d", (2, 4, 3), {}, (2, 2, 6, 5)),
    ("Conv2d", (2, 4, (3, 2), (2, 1), (1, 2)), {"bias": False}, (2, 2, 6, 5)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "dilation": 2, "groups": 2}, (2, 4, 6, 5)),
    ("Conv2d", (2, 4, 3), {"padding": "valid"}, (2, 6, 5)),
    ("MaxPool2d", (2,), {}, (2, 3, 7, 6)),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 7, 6)),
    ("MaxPool2d", ((2, 3), 1), {"dilation": 2}, (2, 3, 7, 6)),
    ("MaxPool2d", (2,), {"return_indices": True}, (3, 7, 6)),
    ("AvgPool2d", (2,), {}, (2, 3, 7, 6)),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}, (2, 3, 7, 6)),
    ("AvgPool2d", (3, 2, 1), {"divisor_override": 5}, (2, 3, 7, 6)),
    ("AdaptiveAvgPool2d", (2,), {}, (2, 3, 7, 6)),
    ("AdaptiveAvgPool2d", ((None, 3),), {}, (2, 3, 7, 6)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Identity", (1, 2), {"unused": 3}, (2, 3)),
    ("Sigmoid", (), {}, (2, 3)),
    ("Tanh", (), {}, (2, 3)),
    ("ReLU", (), {}, (2, 3)),
    ("ReLU", (False,), {}, (2, 3)),
    ("LeakyReLU", (), {}, (2, 3)),
    ("LeakyReLU", (0.3,), {}, (2, 3)),
    ("GELU", (), {}, (2, 3)),
    ("GELU", ("tanh",), {}, (2, 3)),
    ("Softplus", (2.0, 50.0), {}, (2, 3)),
    ("Softmax", (0,), {}, (2, 3)),
    ("Softmax", (-1,), {}, (2, 3, 2)),
    ("LogSoftmax", (1,), {}, (2, 3, 2)),
    ("Dropout", (0.0,), {}, (2, 3)),
]
IDS = [f"{name}{args}{options or ''}" for name, args, options, _ in LAYERS]


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=IDS)
def test_layer_equals_torch(torch, name, args, options, shape, dtype):
    """Results, the gradient of x and of all parameters, from the weights of the other."""
    ours = getattr(nn, name)(*args, **options).to(dtype)
    theirs = getattr(torch.nn, name)(*args, **options).to(getattr(torch, np.dtype(dtype).name))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    compare(torch, ours, theirs, [x])
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(
            p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-4 if dtype is np.float32 else 1e-11
        )


def test_every_layer_is_compared():
    elsewhere = {
        "Module",
        "Sequential",
        "ModuleList",
        "Parameter",
        "Buffer",
    }  # test_module.py, test_containers.py
    norms = {"BatchNorm", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm"}  # test_norm.py
    losses = {name for name in nn.__all__ if name.endswith("Loss")}  # test_loss.py
    modules = {name for name in nn.__all__ if inspect.ismodule(getattr(nn, name))}
    assert {name for name, *_ in LAYERS} == set(nn.__all__) - elsewhere - norms - losses - modules


OLD = {"size_average", "reduce"}  # arguments that PyTorch itself calls deprecated
OURS_ONLY = {"BatchNorm", "Buffer", "Module", "Parameter", "Sequential", "ModuleList", "Identity"}


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", [n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and n not in OURS_ONLY]
)
def test_signatures_of_layers_are_those_of_torch(torch, name):
    """The same names in the same order with the same defaults; PyTorch may have more at the end."""
    theirs = inspect.signature(getattr(torch.nn, name)).parameters
    expected = [
        (p.name, p.default)
        for p in theirs.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in OLD
    ]
    ours = [(p.name, p.default) for p in inspect.signature(getattr(nn, name)).parameters.values()]
    if name in (
        "Softmax",
        "LogSoftmax",
    ):  # without a dimension PyTorch warns and guesses; here it is the last
        expected = [("dim", -1)]
    assert ours == expected[: len(ours)]
    assert len(ours) == len(expected)


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", [n for n in F.__all__ if n not in ("batch_norm_eval", "batch_norm_train", "logsumexp", "pad2d")]
)
def test_signatures_of_functions_are_those_of_torch(torch, name):
    """As for layers; PyTorch's functions in C have no signature that Python can read."""
    try:
        theirs = inspect.signature(getattr(torch.nn.functional, name)).parameters
    except ValueError:
        assert name in ("avg_pool2d", "conv2d", "gelu", "linear", "one_hot", "softplus")
        return
    expected = [(p.name, p.default) for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    expected = [(n, d) for n, d in expected if n not in OLD and not n.startswith("_")]
    ours = [(p.name, p.default) for p in inspect.signature(getattr(F, name)).parameters.values()]
    if name in ("softmax", "log_softmax"):
        expected[1] = ("dim", -1)
    if name != "max_pool2d":  # there PyTorch shows *args
        assert ours == expected[: len(ours)]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=IDS)
def test_layers_work_on_every_device(name, args, options, shape, device):
    layer = getattr(nn, name)(*args, **options)
    x = mg.randn(*shape)
    expected = layer(x)
    y = layer.to(device)(x.to(device))
    for got, wanted in zip(
        y if isinstance(y, tuple) else (y,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        assert got.device == device
        np.testing.assert_allclose(got.detach().cpu().numpy(), wanted.detach().numpy(), rtol=1e-4, atol=1e-6)


# Starting values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda: nn.Linear(50, 100), 50),
        (lambda: nn.Conv2d(6, 160, (5, 3)), 90),
        (lambda: nn.Conv2d(6, 120, 5, groups=3), 50),
    ],
)
def test_decision_weights_start_uniform_in_one_over_the_root_of_fan_in(make, fan_in):
    """As in PyTorch: within +-1/sqrt(fan_in), reaching out to it, centred; the bias too."""
    mg.manual_seed(0)
    layer, bound = make(), 1 / fan_in**0.5
    for p in (layer.weight, layer.bias):
        values = p.detach().numpy()
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.9 * bound
        assert len(np.unique(values)) > 0.9 * values.size
        # the mean of n uniform numbers has the standard deviation bound / sqrt(3 n)
        assert abs(values.mean()) < 4 * bound / (3 * values.size) ** 0.5


def test_one_seed_one_network():
    def make() -> list[Any]:
        mg.manual_seed(3)
        return [p.tolist() for p in nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 2)).parameters()]

    assert make() == make()


def test_dtype_and_device_of_new_layers(device):
    for make in (
        lambda **o: nn.Linear(2, 2, **o),
        lambda **o: nn.Conv2d(1, 2, 3, **o),
        lambda **o: nn.BatchNorm2d(2, **o),
        lambda **o: nn.LayerNorm(2, **o),
        lambda **o: nn.GroupNorm(1, 2, **o),
    ):
        layer = make(device=device, dtype=mg.float64)
        assert {(str(p.device).split(":")[0], p.dtype) for p in layer.parameters()} == {(device, mg.float64)}


# Errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), "Linear: features must be at least 1, got 0 and 3"),
        (lambda: nn.Linear(3, 2.0), r"Linear: out_features must be a whole number, got 2\.0"),
        (lambda: nn.Conv2d(1, 0, 3), "Conv2d: out_channels must be at least 1, got 0"),
        (lambda: nn.Conv2d(1, 6, 0), "Conv2d: kernel_size must be at least 1, got 0"),
        (lambda: nn.Conv2d(1, 6, (1, 2, 3)), "Conv2d: kernel_size must be one whole number or two"),
        (lambda: nn.Conv2d(1, 6, 3, stride=0), "Conv2d: stride must be at least 1, got 0"),
        (
            lambda: nn.Conv2d(3, 6, 3, groups=2),
            "Conv2d: 3 input and 6 output channels cannot be split into 2 groups",
        ),
        (lambda: nn.Conv2d(4, 5, 3, groups=2), "4 input and 5 output channels cannot be split"),
        (
            lambda: nn.Conv2d(1, 6, 3, padding="full"),
            "Conv2d: padding must be at least 0, 'valid' or 'same', got 'full'",
        ),
        (lambda: nn.Conv2d(1, 6, 3, padding=-1), "Conv2d: padding must be at least 0, .* got -1"),
        (lambda: nn.Conv2d(1, 6, 3, stride=2, padding="same"), "Conv2d: padding='same' needs stride 1"),
        (lambda: nn.Conv2d(1, 6, 3, padding_mode="circular"), "padding_mode must be 'zeros', got 'circular'"),
        (lambda: nn.Dropout(1.5), r"Dropout: p must be between 0 and 1, got 1\.5"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_dropout_acts_in_training_only():
    layer, x = nn.Dropout(0.5), mg.ones(100)
    assert 0 < int((layer(x) == 0).sum()) < 100
    assert layer.eval()(x) is x
