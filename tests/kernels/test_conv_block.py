"""Conv2d, batch norm, activation and pooling as one operation: the same as the layers one after the other."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.kernels.cpu import rows
from tests import oracles
from tests.kernels import support
from tests.kernels.support import (
    ACTIVATIONS,
    BATCH_NORMS,
    GAMMAS,
    block,
    compare,
    few,
    pictures,
    seeds,
    some,
)
from tests.nn.support import ORDERS, ordered, orders

DTYPES = [np.float32, np.float64]


@pytest.fixture(autouse=True, params=["strips", "rows"])
def way(request: Any, monkeypatch: Any) -> str:
    """Without pooling there are two ways to convolve. Every test goes both, whatever the sizes."""
    monkeypatch.setattr(rows, "suits", lambda *_: request.param == "rows")
    return request.param


# 1. Every combination ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
@pytest.mark.parametrize("norm", BATCH_NORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_combination_of_layers(bias, norm, activation, pool, dtype):
    net = block(norm=norm, activation=activation, pool=pool, bias=bias)
    compare(net, pictures((5, 2, 8, 10), dtype), fused=len(net) > 1)


@st.composite
def blocks_and_pictures(draw: Any, on_grid: bool) -> tuple[nn.Sequential, np.ndarray, bool]:
    """Layers, pictures, and whether one operation can do it: pooling needs even sizes to be fused."""
    kernel, stride, padding, C, O = (
        draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 5)),
    )
    pool = draw(st.booleans())
    even = draw(st.booleans())
    outputs = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    outputs = tuple(2 * n - (not even and draw(st.booleans())) for n in outputs)
    if pool:
        outputs = tuple(max(2, n) for n in outputs)
    picture = []
    for k, s, p, n in zip(kernel, stride, padding, outputs, strict=True):
        while (n - 1) * s + k - 2 * p < 1:  # no picture is so small: one row or column of outputs more
            n += 2
        picture.append((n - 1) * s + k - 2 * p + draw(st.integers(0, s - 1)))
    P, Q = (
        oracles.windows_along(size, k, s, p, 1, False)
        for size, k, s, p in zip(picture, kernel, stride, padding, strict=True)
    )
    norm = draw(st.sampled_from(list(BATCH_NORMS)))
    N = draw(st.integers(1, 9))
    while norm and N * P * Q < 6:  # of few values hardly anything is left when the mean is subtracted
        N += 1
    activation = draw(st.sampled_from([*ACTIVATIONS, None]))
    if norm == "plain" and activation == "relu":
        activation = "tanh"  # on the grid a value can be the mean itself, and xhat = 0 is relu's kink
    net = block(
        C, O, kernel, norm, activation, pool, draw(st.sampled_from(GAMMAS)), draw(seeds), on_grid,
        stride=stride, padding=padding, bias=draw(st.booleans()),
    )  # fmt: skip
    x = pictures((N, C, *picture), seed=draw(seeds), on_grid=on_grid)
    fused = len(net) > 1 and not (pool and (P % 2 or Q % 2))
    return net, ordered(x, draw(orders)), fused


@some
@given(blocks_and_pictures(on_grid=False))
def test_any_shape_in_float64(case):
    net, x, fused = case
    compare(net, x, fused)


@some
@given(blocks_and_pictures(on_grid=True))
def test_any_shape_in_float64_full_of_ties(case):
    net, x, fused = case
    compare(net, x, fused)


@some
@given(blocks_and_pictures(on_grid=True))
def test_any_shape_in_float32_full_of_ties(case):
    net, x, fused = case
    compare(net, x.astype(np.float32), fused)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("padding", [0, 1])
def test_memory_orders(order, padding):
    x = ordered(pictures((5, 2, 8, 8)), order)
    compare(block(padding=padding), x)


def test_many_channels():
    """So many that products are long."""
    compare(block(3, 70, pool=False), pictures((4, 3, 6, 6)))
    compare(block(40, 3, pool=True), pictures((4, 40, 6, 6)))
    compare(block(40, 70, pool=True), pictures((4, 40, 6, 6)))


# 2. Ties, signs of gamma, flat channels ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("kind", ["grid", "few values", "constant pictures", "one constant", "zero"])
def test_ties(kind, gamma, activation, dtype):
    x = {
        "grid": lambda: pictures((6, 2, 8, 8)),
        "few values": lambda: np.sign(pictures((6, 2, 8, 8))),
        "constant pictures": lambda: pictures((6, 2, 1, 1)) * np.ones((1, 1, 8, 8)),
        "one constant": lambda: np.full((6, 2, 8, 8), 0.75),
        "zero": lambda: np.zeros((6, 2, 8, 8)),
    }[kind]().astype(dtype)
    compare(block(gamma=gamma, activation=activation, padding=0), x)


@pytest.mark.parametrize("norm", ["affine", None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_of_equals_the_first_gets_the_gradient(dtype, norm):
    """One 1x1 kernel: the pictures themselves are pooled, and gx shows the winner of each window."""
    net = block(1, 1, 1, norm, None, bias=False)
    net[0].weight.array = np.ones((1, 1, 1, 1))
    if norm:
        net[1].weight.array, net[1].bias.array = np.full(1, 2.0), np.zeros(1)
    x = np.array([[3, 1, 0, 0], [3, 3, 0, 0], [2, 2, 1, 5], [0, 2, 5, 5]], dtype).reshape(1, 1, 4, 4)
    first = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    leaf = mg.Tensor(x, requires_grad=True)
    y = mg.compile(net.to(dtype))(leaf)
    assert type(y.grad_fn).__name__ == "ConvBlock"
    gy = np.arange(1, 5, dtype=dtype).reshape(1, 1, 2, 2)
    y.backward(gy)
    # batch norm sends something to every value; the winners get gy on top, times gamma / sqrt(var + eps)
    expected, _, _ = oracles.batch_norm_gradient(
        x, np.full(1, 2.0), np.kron(gy[0, 0], np.ones((2, 2)))[None, None] * first
    )
    if not norm:
        expected = np.kron(gy[0, 0], np.ones((2, 2)))[None, None] * first
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=0, atol=1e-5)


def flat_regions(C: int, dtype: Any) -> np.ndarray:
    """Pictures of one colour: every window is one big tie, whatever the weights."""
    return (np.random.default_rng(C).random((3, C, 1, 1)) * np.ones((1, 1, 12, 12))).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [1, 6, 7, 8, 11, 14, 20, 64])
def test_pictures_of_one_colour_tie_for_any_weights(C, dtype):
    """All outputs are sums of the same products. They tie only if they are added up in the same order."""
    net = block(C, 5, 5, None, None, on_grid=False, seed=C).to(dtype)
    x = mg.Tensor(flat_regions(C, dtype), requires_grad=True)
    y = mg.compile(net)(x)
    assert type(y.grad_fn).__name__ == "ConvBlock"
    y.sum().backward()
    # in each window of 2 x 2 outputs the one in the upper left corner wins, so the kernels that see it
    # reach only that far: nothing arrives in the last row and column
    gx = x.grad.numpy()
    assert gx[:, :, :11, :11].any()
    assert not gx[:, :, 11].any()
    assert not gx[:, :, :, 11].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.0, 0.75, -100.0])
@pytest.mark.parametrize("pool", [True, False])
def test_channels_without_variance(pool, level, dtype):
    """Variance 0: xhat is 0, and y is the activation of beta."""
    net = block(2, 3, 3, pool=pool)
    x = np.full((4, 2, 8, 8), level, dtype)
    compare(net, x)
    y = mg.compile(net.to(dtype))(mg.Tensor(x)).detach().numpy()
    expected = oracles.elementwise(oracles.sigmoid, net[1].bias.detach().numpy())
    np.testing.assert_allclose(y, expected.reshape(1, 3, 1, 1) * np.ones_like(y), rtol=0, atol=1e-6)


def test_a_flat_channel_beside_others():
    net = block(2, 3, 3)
    net[0].weight.array[1] = 0
    compare(net, pictures((4, 2, 8, 8)))
    compare(net, pictures((4, 2, 8, 8), np.float32))


# 3. Far from 0, scaled, not finite -----------------------------------------------------------------------


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("level", [3.0, -20.0, 1000.0])
def test_shifted_pictures_in_float64(level, pool):
    compare(block(pool=pool, on_grid=False), pictures((6, 2, 8, 8), on_grid=False) + level, limit=1e-8)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("level", [3.0, -20.0, 1000.0, 2.0**14])
def test_shifted_pictures_in_float32(level, pool):
    """On the grid everything up to batch norm is exact, however far from 0: no digit may be lost after it."""
    compare(block(pool=pool), pictures((6, 2, 8, 8), np.float32) + np.float32(level))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**-10, 2.0**10, 2.0**20])
@pytest.mark.parametrize("norm", ["affine", None])
def test_scaled_pictures(norm, scale, dtype):
    """Powers of 2, which keep the ties. Small ones come near to eps; large ones drive the sigmoid to its ends."""
    compare(block(norm=norm), pictures((6, 2, 8, 8), dtype) * dtype(scale))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "pool"), [(a, p) for a in [*ACTIVATIONS, None] for p in (True, False) if a or p]
)
@pytest.mark.parametrize("norm", ["affine", None])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value, norm, pool, activation, dtype):
    """They go where they go in the layers, and no further: no other output sees them."""
    x = pictures((3, 2, 8, 8), dtype, on_grid=False)
    x[1, 0, 3, 4] = value
    net = block(norm=norm, activation=activation, pool=pool, on_grid=False).to(dtype)
    expected = net(mg.Tensor(x)).detach().numpy()
    found = mg.compile(net)(mg.Tensor(x))
    assert type(found.grad_fn).__name__ == "ConvBlock"
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5, equal_nan=True)


# 4. Modes ------------------------------------------------------------------------------------------------


@few
@given(blocks_and_pictures(on_grid=True), st.sampled_from(DTYPES))
def test_evaluation_mode_folds_batch_norm_into_the_convolution(case, dtype):
    net, x, _ = case
    net = net.to(dtype).eval()
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    with mg.no_grad():
        expected = net(mg.Tensor(x.astype(dtype))).numpy()
        found = mg.compile(net)(mg.Tensor(x.astype(dtype))).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * support.LIMIT[np.dtype(dtype)])
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_training_mode_without_gradients_moves_the_running_statistics():
    net = block()
    fast = mg.compile(copy.deepcopy(net))
    x = mg.Tensor(pictures((6, 2, 8, 8)))
    with mg.no_grad():
        np.testing.assert_allclose(fast(x).numpy(), net(x).numpy(), rtol=0, atol=1e-12)
    for name, buffer in net.named_buffers():
        np.testing.assert_allclose(dict(fast.named_buffers())[name].numpy(), buffer.numpy(), rtol=1e-12)
    assert fast[1].num_batches_tracked.item() == 1


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_over_several_batches(momentum):
    net = block()
    net[1].momentum = momentum
    fast = mg.compile(copy.deepcopy(net))
    for seed in range(4):
        x = mg.Tensor(pictures((6 + seed, 2, 8, 8), seed=seed))
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
        x = mg.Tensor(pictures((4, 2, 8, 8)), requires_grad=frozen_name != "x")
        mg.compile(net)(x).sin().sum().backward()
        found = {name: p.grad for name, p in net.named_parameters()} | {"x": x.grad}
        results.append({name: None if g is None else g.numpy() for name, g in found.items()})
    full, partial = results
    assert partial[frozen] is None
    for name in full.keys() - {frozen}:
        np.testing.assert_array_equal(partial[name], full[name])


@pytest.mark.parametrize("level", [0.0, 1000.0])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("norm", ["affine", None])
def test_a_retained_graph_gives_the_same_gradients_again(norm, pool, level):
    """Backward writes into the convolution's result, which a second one needs as it was."""
    net = mg.compile(block(norm=norm, pool=pool, on_grid=False))
    x = mg.Tensor(pictures((5, 2, 8, 8), on_grid=False) + level, requires_grad=True)
    y = net(x)
    gy = mg.Tensor(np.random.default_rng(1).standard_normal(y.shape))
    gradients = []
    for _ in range(3):
        for leaf in (x, *net.parameters()):
            leaf.grad = None
        y.backward(gy, retain_graph=True)
        gradients.append([leaf.grad.numpy().copy() for leaf in (x, *net.parameters())])
    for later in gradients[1:]:
        for found, expected in zip(later, gradients[0], strict=True):
            np.testing.assert_array_equal(found, expected)
