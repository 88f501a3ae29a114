"""Linear, batch norm and activation as one operation: the same as the layers one after the other."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.kernels.cpu import dense
from tests import oracles
from tests.kernels import support
from tests.kernels.support import ACTIVATIONS, GAMMAS, compare, few, run, seeds, set_parameters, some
from tests.nn.support import ORDERS, ordered, orders

DTYPES = [np.float32, np.float64]
NORMS = {"affine": True, "plain": False, None: None}
RUNS = [(norm, activation) for norm in NORMS for activation in [*ACTIVATIONS, None] if norm or activation]


def block(
    features: tuple[int, int] = (5, 4),
    norm: str | None = "affine",
    activation: str | None = "sigmoid",
    bias: bool = True,
    gamma: str = "mixed",
    seed: int = 0,
) -> nn.Sequential:
    """The layers, in float64, with random parameters."""
    layers: list[nn.Module] = [nn.Linear(*features, bias=bias)]
    if norm:
        layers.append(nn.BatchNorm1d(features[1], affine=NORMS[norm]))
    if activation:
        layers.append(ACTIVATIONS[activation]())
    net = nn.Sequential(*layers).to(np.float64)
    set_parameters(net, np.random.default_rng(seed), False, gamma)
    return net


def examples(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("norm", "activation"), RUNS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_combination_of_layers(bias, norm, activation, dtype):
    compare(block(norm=norm, activation=activation, bias=bias), examples((7, 5), dtype))


@some
@given(
    st.integers(6, 40),
    st.tuples(st.integers(2, 20), st.integers(1, 20)),  # of one feature, batch norm leaves only the sign
    st.sampled_from(RUNS),
    st.booleans(),
    st.sampled_from(GAMMAS),
    orders,
    seeds,
    st.sampled_from(DTYPES),
)
def test_any_shape(N, features, layers, bias, gamma, order, seed, dtype):
    net = block(features, *layers, bias=bias, gamma=gamma, seed=seed)
    compare(net, ordered(examples((N, features[0]), dtype, seed), order))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("N", [2, 3, 15, 16, 17, 31, 33, 96, 127, 128, 129, 256, 257])
def test_batches_that_the_parts_do_not_divide(N, dtype, monkeypatch):
    """With 2 or 3 values a channel hardly anything is left of a gradient, and float32 has no digits for it."""
    monkeypatch.setattr(dense, "LEAST", 1)
    monkeypatch.setattr(dense, "LARGEST", 32)
    parts = dense.parts_of(N, np.ones((3, 5)))
    assert len(parts) == 2 * -(-N // 64)
    np.testing.assert_array_equal(np.concatenate([np.arange(N)[part] for part in parts]), np.arange(N))
    x = examples((N, 5), dtype)
    compare(block(), x, limit=1e-3 if N < 4 and dtype is np.float32 else None)
    compare(block(norm=None), x)


@pytest.mark.parametrize("norm", ["affine", None])
def test_a_single_example(norm):
    net = block(norm=norm)
    if norm:  # as the layer says
        with pytest.raises(ValueError, match="expected more than 1 value per channel"):
            mg.compile(net)(mg.Tensor(examples((1, 5))))
        with mg.no_grad():
            x = mg.Tensor(examples((1, 5)))
            np.testing.assert_allclose(mg.compile(net.eval())(x).numpy(), net(x).numpy(), rtol=1e-12)
    else:
        compare(net, examples((1, 5)))


@pytest.mark.parametrize("order", ORDERS)
def test_memory_orders(order):
    compare(block(), ordered(examples((9, 5)), order))


def test_flattened_pictures():
    """What a convolution returns is batch-last; Flatten makes (N, C*H*W) of it."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), *block((12, 4))).to(np.float64)
    x = examples((6, 1, 4, 4))
    plain, _ = run(copy.deepcopy(net), x)
    fast, made_by = run(mg.compile(net), x)
    assert made_by == "LinearBlock"
    for name, expected in plain.items():
        np.testing.assert_allclose(fast[name], expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
def test_signs_of_gamma(activation, gamma, dtype):
    compare(block(activation=activation, gamma=gamma), examples((7, 5), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.0, 0.75, -100.0])
def test_features_without_variance(level, dtype):
    """Variance 0: xhat is 0 but for the rounding of the mean, and y is the activation of beta."""
    net = block()
    x = np.full((6, 5), level, dtype)
    y = mg.compile(copy.deepcopy(net).to(dtype))(mg.Tensor(x)).detach().numpy()
    expected = oracles.elementwise(oracles.sigmoid, net[1].bias.detach().numpy())
    # the mean is off by a rounding error of its own size, which 1/sqrt(eps) = 316 makes larger
    atol = 316 * np.finfo(dtype).eps * (1 + abs(level)) * 10
    np.testing.assert_allclose(y, expected * np.ones_like(y), rtol=0, atol=atol)


@pytest.mark.parametrize("level", [3.0, -20.0, 1000.0])
def test_shifted(level):
    compare(block(), examples((40, 5)) + level)
    # in float32 the product itself has lost the digits that the shift took: 1000 is 2^10
    compare(block(), examples((40, 5), np.float32) + np.float32(level), limit=1e-4 * max(1, abs(level)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("norm", "scale"), [*(("affine", 2.0**k) for k in (-20, -10, 10, 20)), (None, 2.0**-20), (None, 2.0)]
)
def test_scaled(norm, scale, dtype):
    """Without batch norm large ones would only drive all sigmoids to their ends, where nothing is left to compare."""
    compare(block(norm=norm), examples((16, 5), dtype) * dtype(scale))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("norm", "activation"), RUNS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value, norm, activation, dtype):
    """They go where they go in the layers."""
    x = examples((6, 5), dtype)
    x[1, 3] = value
    net = block(norm=norm, activation=activation).to(dtype)
    expected = net(mg.Tensor(x)).detach().numpy()
    found = mg.compile(net)(mg.Tensor(x))
    assert type(found.grad_fn).__name__ == "LinearBlock"
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5, equal_nan=True)


def test_same_bits_for_every_number_of_threads():
    net = block((256, 120)).to(np.float32)
    support.same_bits_for_every_number_of_threads(net, examples((600, 256), np.float32))


@few
@given(
    st.integers(1, 20), st.sampled_from(RUNS), st.booleans(), st.sampled_from(GAMMAS), st.sampled_from(DTYPES)
)
def test_evaluation_mode_folds_batch_norm_into_the_weights(N, layers, bias, gamma, dtype):
    net = block((5, 4), *layers, bias=bias, gamma=gamma).to(dtype).eval()
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    x = mg.Tensor(examples((N, 5), dtype))
    with mg.no_grad():
        expected, found = net(x).numpy(), mg.compile(net)(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=support.LIMIT[np.dtype(dtype)])
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_over_several_batches(momentum):
    net = block()
    net[1].momentum = momentum
    fast = mg.compile(copy.deepcopy(net))
    for seed in range(4):
        x = mg.Tensor(examples((6 + seed, 5), seed=seed))
        net(x), fast(x)
    for name, buffer in net.named_buffers():
        np.testing.assert_allclose(dict(fast.named_buffers())[name].numpy(), buffer.numpy(), rtol=1e-11)


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "1.weight", "1.bias", "x"])
def test_gradients_that_nobody_needs_are_left_out(frozen):
    """And the others stay what they are."""
    results = []
    for frozen_name in (None, frozen):
        net = block()
        for name, p in net.named_parameters():
            p.requires_grad = name != frozen_name
        x = mg.Tensor(examples((6, 5)), requires_grad=frozen_name != "x")
        mg.compile(net)(x).sin().sum().backward()
        found = {name: p.grad for name, p in net.named_parameters()} | {"x": x.grad}
        results.append({name: None if g is None else g.numpy() for name, g in found.items()})
    full, partial = results
    assert partial[frozen] is None
    for name in full.keys() - {frozen}:
        np.testing.assert_array_equal(partial[name], full[name])
