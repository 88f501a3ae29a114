"""Convolution row by row: its pieces compared with plain loops, and whole blocks in several bands and parts.

The tests of `test_conv_block.py` also run with it.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.errors import GradientError
from minigrad.kernels.cpu import row_block, rows
from minigrad.kernels.cpu.rows import (
    Windows,
    back_convolutions,
    convolve,
    make_plan,
    matrix_of,
    suits,
    weight_gradient,
)
from tests import oracles
from tests.kernels import support
from tests.kernels.support import block, compare, pictures, seeds, some

MEMORY = ["H W C N", "C H W N", "part of a batch"]


def in_memory(x: np.ndarray, order: str) -> np.ndarray:
    """x (H, W, C, N), the same numbers in another order of memory."""
    if order == "H W C N":
        return np.ascontiguousarray(x)
    if order == "C H W N":
        return np.ascontiguousarray(x.transpose(2, 0, 1, 3)).transpose(1, 2, 0, 3)
    wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
    wide[..., : x.shape[3]] = x
    return wide[..., : x.shape[3]]


@st.composite
def convolutions(draw: Any) -> tuple[np.ndarray, np.ndarray, Windows]:
    """x (H, W, C, N), W (O, C, K, L), and windows of which some lie on the padding."""
    kernel, stride, padding = (
        draw(st.tuples(st.integers(low, high), st.integers(low, high)))
        for low, high in ((1, 4), (1, 6), (0, 3))
    )
    H, W = (max(1, k - 2 * p) + draw(st.integers(0, 4)) for k, p in zip(kernel, padding, strict=True))
    C, O, N = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(seeds))
    x = in_memory(rng.standard_normal((H, W, C, N)), draw(st.sampled_from(MEMORY)))
    return x, rng.standard_normal((O, C, *kernel)), Windows(*kernel, stride, padding)


@pytest.fixture(params=["whole", "in parts"])
def parts(request: Any, monkeypatch: Any) -> str:
    """Products whole, or each window cut into its columns and the batch into several pieces, the last one short."""
    if request.param == "in parts":
        monkeypatch.setattr(rows, "EXAMPLES_AT_ONCE", 3)
        monkeypatch.setattr(rows, "COLUMNS_LEAST", 2)
        monkeypatch.setattr(rows, "SMALL_PRODUCT", 40)
    return request.param


@pytest.fixture
def always(monkeypatch: Any) -> None:
    """Takes rows.py for all sizes."""
    monkeypatch.setattr(rows, "suits", lambda *_: True)


# 1. The pieces -------------------------------------------------------------------------------------------


def expected_z(x: np.ndarray, weight: np.ndarray, windows: Windows) -> np.ndarray:
    """z (P, Q, O, N), by the loops of the oracle."""
    y = oracles.conv2d(x.transpose(3, 2, 0, 1), weight, None, windows.stride, windows.offset)
    return y.transpose(2, 3, 1, 0)


@pytest.mark.usefixtures("parts")
@some
@given(convolutions(), st.integers(0, 3))
def test_rows_of_a_convolution(case, first):
    x, weight, windows = case
    expected = expected_z(x, weight, windows)
    first = min(first, len(expected) - 1)
    z = np.full(expected[first:].shape, np.nan)
    convolve(x, matrix_of(weight), windows, first, z)
    np.testing.assert_allclose(z, expected[first:], rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("parts")
@some
@given(convolutions(), st.integers(1, 3), seeds)
def test_gradients(case, size, seed):
    """<gz, conv(x, W)> is linear in x and in W: its gradients are its values at the unit vectors."""
    x, weight, windows = case
    z = expected_z(x, weight, windows)
    gz = np.random.default_rng(seed).standard_normal(z.shape)

    found = sum(weight_gradient(x, gz[p : p + size], windows, p) for p in range(0, len(gz), size))
    gweight = np.zeros(weight.shape)
    for place in np.ndindex(*weight.shape):
        unit = np.zeros(weight.shape)
        unit[place] = 1
        gweight[place] = (gz * expected_z(x, unit, windows)).sum()
    np.testing.assert_allclose(rows.weight_of(found, weight.shape), gweight, rtol=1e-9, atol=1e-9)

    back = back_convolutions(weight, windows)
    gx = np.full(x.shape, np.nan)
    for start in range(0, -(-len(x) // windows.stride[0]), size):
        rows.x_gradient(gz, back, windows.stride, slice(start, start + size), gx)
    expected = np.zeros(x.shape)
    one = np.zeros((*x.shape[:3], 1))  # one example, which stands beside each of gz
    for place in np.ndindex(*one.shape):
        one[...] = 0
        one[place] = 1
        expected[place[:3]] = (gz * expected_z(one, weight, windows)).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(gx, expected, rtol=1e-9, atol=1e-9)


def test_a_matrix_and_back():
    weight = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    np.testing.assert_array_equal(rows.weight_of(matrix_of(weight).T, weight.shape), weight)


# 2. Plans ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("N", [1, 64, 256, 1000])
@pytest.mark.parametrize("H", [1, 2, 7, 8, 33])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_bands_cover_all_rows_once(stride, H, N):
    plan = make_plan((16, H, 40), (32, 16, 3, 3), (stride, stride), (1, 1), 4, N)
    for bands, count in ((plan.bands, plan.P), (plan.back_bands, -(-H // stride))):
        covered = np.concatenate([np.arange(count)[band] for band in bands])
        np.testing.assert_array_equal(covered, np.arange(count))
    assert plan.P == oracles.windows_along(H, 3, stride, 1, 1, False)


def test_two_threads_have_the_same_to_do():
    """Where the number of rows allows it."""
    for H in (8, 16, 32):
        plan = make_plan((16, H, H), (16, 16, 3, 3), (1, 1), (1, 1), 4, 256)
        assert len(plan.bands) % 2 == len(plan.back_bands) % 2 == 0
        assert len({band.stop - band.start for band in plan.bands}) == 1


def test_little_work_stays_in_one_band():
    assert make_plan((16, 8, 8), (16, 16, 3, 3), (1, 1), (1, 1), 4, 4).bands == (slice(0, 8),)


@pytest.mark.parametrize(
    ("w_shape", "H", "N", "suited"),
    [
        ((16, 3, 3, 3), 9, 64, True),
        ((16, 3, 3, 3), 9, 63, False),
        ((15, 16, 3, 3), 9, 256, False),
        ((16, 2, 3, 3), 9, 256, False),
        ((16, 3, 5, 5), 9, 256, False),
        ((16, 8, 5, 5), 9, 256, True),
        ((64, 64, 1, 1), 5, 1024, True),
        ((64, 64, 1, 1), 4, 1024, False),
    ],
)
def test_what_it_is_for(w_shape, H, N, suited):
    """Many channels, pictures and rows; both ways give the same, so only this shows which one was taken."""
    assert suits((w_shape[1], H, 9), w_shape, (2, 1), (1, 1), N) == suited


def made_in_rows(net: nn.Module, x: np.ndarray) -> bool:
    """Whether the result lies in the order H W C N."""
    y = net(mg.Tensor(x, requires_grad=True)).detach().numpy()
    return y.transpose(2, 3, 1, 0).flags.c_contiguous


def test_where_it_is_used():
    """In compiled runs without pooling. Layers that stand alone keep channels first in memory."""
    x = pictures((64, 3, 6, 6), np.float32)
    net = block(3, 16, 3, pool=False).to(np.float32)
    assert made_in_rows(mg.compile(net), x)
    assert not made_in_rows(net, x)
    assert not made_in_rows(mg.compile(net), x[:, :, :5])  # three rows of outputs
    assert not made_in_rows(mg.compile(net), x[:63])
    assert not made_in_rows(mg.compile(nn.Sequential(net[0])), x)
    assert not made_in_rows(mg.compile(block(3, 16, 3, pool=True).to(np.float32)), x)


# 3. Blocks -----------------------------------------------------------------------------------------------


def small_bands(monkeypatch: Any) -> None:
    """Bands of one row. No plan is kept, so that no other test gets these."""
    monkeypatch.setattr(rows, "BAND_BYTES", 1)
    monkeypatch.setattr(rows, "BAND_LEAST", 1)
    monkeypatch.setattr(rows, "make_plan", make_plan.__wrapped__)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("norm", ["affine", "plain", None])
@pytest.mark.usefixtures("always", "parts")
def test_blocks_in_many_bands(norm, activation, stride, monkeypatch):
    small_bands(monkeypatch)
    net = block(3, 5, 3, norm, activation, pool=False, stride=stride, padding=2)
    x = pictures((4, 3, 9, 7))
    compare(net, x, fused=len(net) > 1)


@pytest.mark.parametrize("level", [1e4, -1e4])
@pytest.mark.usefixtures("always", "parts")
def test_bands_far_from_each_other(level, monkeypatch):
    """Each takes its own mean away, or none; batch norm is that of the whole batch all the same."""
    small_bands(monkeypatch)
    x = pictures((6, 2, 9, 9))
    x[:, :, 5:] += level
    compare(block(2, 3, 3, pool=False), x)


@pytest.mark.parametrize("order", ["rows first", "channels first"])
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_memory(activation, order):
    """Nothing is kept or copied without need, and results lie in the order asked for."""
    x = np.ascontiguousarray(pictures((2, 3, 4, 5)).transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    weight = np.ones((4, 3, 3, 3))
    plan = make_plan(x.shape[1:], weight.shape, (1, 1), (1, 1), 8, 2, order == "channels first")
    y, saved, _, _ = row_block.forward(x, weight, None, None, activation, plan, True)
    assert np.shares_memory(saved.x, x)
    assert (saved.y is None) == (activation == "identity")
    gx = row_block.backward(saved, y, True)["x"]
    for result in (y, gx):
        axes = (1, 2, 3, 0) if order == "channels first" else (2, 3, 1, 0)
        assert result.transpose(axes).flags.c_contiguous


@pytest.mark.usefixtures("always")
def test_a_gradient_of_x_that_nobody_needs_is_not_computed(monkeypatch):
    net = mg.compile(block(2, 3, 3, pool=False))
    monkeypatch.setattr(row_block, "x_gradient", lambda *_: 1 / 0)
    net(mg.Tensor(pictures((4, 2, 6, 6)))).sum().backward()
    assert net[0].weight.grad is not None
    with pytest.raises(ZeroDivisionError):
        net(mg.Tensor(pictures((4, 2, 6, 6)), requires_grad=True)).sum().backward()


@pytest.mark.parametrize("norm", ["affine", None])
def test_a_large_batch(norm):
    """Several bands, batches of more than EXAMPLES_AT_ONCE, products in several parts: nothing here is patched."""
    x = pictures((300, 32, 8, 8), np.float32, on_grid=False)
    plan = make_plan((32, 8, 8), (64, 32, 3, 3), (1, 1), (1, 1), 4, 300)
    assert len(plan.bands) > 2
    compare(block(32, 64, 3, norm, "tanh", pool=False, on_grid=False, padding=1), x)


@pytest.mark.parametrize("norm", ["affine", None])
def test_same_bits_for_every_number_of_threads(norm):
    x = pictures((96, 16, 16, 16), np.float32, on_grid=False)
    net = block(16, 32, 3, norm, "relu", pool=False, on_grid=False, padding=1).to(np.float32)
    assert len(make_plan((16, 16, 16), (32, 16, 3, 3), (1, 1), (1, 1), 4, 96).bands) > 2
    support.same_bits_for_every_number_of_threads(net, x)


def test_a_change_of_the_result_is_noticed():
    """Backward needs the result for the activation's derivative, and only for that."""
    x = mg.Tensor(pictures((64, 3, 6, 6), np.float32))
    for activation, needed in (("relu", True), (None, False)):
        net = mg.compile(block(3, 16, 3, activation=activation, pool=False).to(np.float32))
        y = net(x)
        with mg.no_grad():
            y += 1
        if needed:
            with pytest.raises(GradientError, match="changed"):
                y.sum().backward()
        else:
            y.sum().backward()
            assert net[0].weight.grad is not None
