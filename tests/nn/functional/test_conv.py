"""conv2d and pad2d: against loops, against PyTorch, and their gradients against differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from tests import oracles
from tests.nn import support
from tests.nn.support import assert_close, check_gradients, compare, few, fewer, ordered, run

small = support.between(1, 3)


@st.composite
def convolutions(
    draw: Any, largest: int = 7, batch: tuple[int, int] = (0, 3)
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Inputs [x, weight] or [x, weight, bias] in some memory order, and the other arguments."""
    rng = np.random.default_rng(draw(support.seeds))
    dtype = draw(support.dtypes)
    groups = draw(support.between(1, 3))
    per_group, N = draw(small), draw(support.between(*batch))
    O = groups * draw(small)
    K, L = draw(support.between(1, 4)), draw(support.between(1, 4))
    dilation = draw(st.one_of(small, st.tuples(small, small)))
    padding = draw(
        st.one_of(
            support.between(0, 3),
            st.tuples(support.between(0, 3), support.between(0, 3)),
            st.sampled_from(["same", "valid"]),
        )
    )
    stride = 1 if padding == "same" else draw(st.one_of(small, st.tuples(small, small)))
    H, W = draw(support.between(1, largest)), draw(support.between(1, largest))
    if padding != "same":
        spans = [d * (k - 1) + 1 for d, k in zip(oracles.both(dilation), (K, L), strict=True)]
        around = oracles.both(0 if padding == "valid" else padding)
        H, W = (max(n, s - 2 * p, 1) for n, s, p in zip((H, W), spans, around, strict=True))
    shapes = [(N, groups * per_group, H, W), (O, per_group, K, L)]
    if draw(st.booleans()):
        shapes.append((O,))
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    arrays = [ordered(array, draw(support.orders)) for array in arrays]
    return arrays, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def with_options(function: Any, options: dict[str, Any]) -> Any:
    """function(x, weight[, bias], **options)"""
    return lambda x, weight, bias=None: function(x, weight, bias, **options)


@few
@given(convolutions())
def test_equals_the_loops(case):
    arrays, options = case
    (y,), _ = run(with_options(F.conv2d, options), arrays)
    assert y.dtype == arrays[0].dtype
    assert_close(y, oracles.conv2d(*arrays[:2], arrays[2] if len(arrays) > 2 else None, **options))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch: an even kernel may need a copy
@support.settings(few, max_examples=120)
@given(case=convolutions(largest=12))
def test_results_and_gradients_equal_torch(torch, case):
    arrays, options = case
    compare(torch, with_options(F.conv2d, options), with_options(torch.nn.functional.conv2d, options), arrays)


@few
@given(convolutions(largest=4, batch=(1, 2)))
def test_gradients_of_x_weight_and_bias(case):
    arrays, options = case
    check_gradients(with_options(F.conv2d, options), [a.astype(np.float64) for a in arrays])


@pytest.mark.parity
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (1, 5), (4, 3), (5, 2)])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_padding_same_keeps_the_size_and_puts_the_odd_row_where_torch_does(torch, kernel):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, *kernel))]
    options = {"padding": "same", "dilation": (2, 1)}
    (y,), _ = run(with_options(F.conv2d, options), arrays)
    assert y.shape == (2, 4, 6, 7)
    compare(torch, with_options(F.conv2d, options), with_options(torch.nn.functional.conv2d, options), arrays)


@fewer
@given(convolutions(batch=(1, 1)))
def test_one_picture_without_a_batch(case):
    arrays, options = case
    function = with_options(F.conv2d, options)
    (y,), grads = run(lambda x, *rest: function(x.squeeze(0), *rest).unsqueeze(0), arrays)
    (expected,), expected_grads = run(function, arrays)
    np.testing.assert_array_equal(y, expected)
    for gx, expected_gx in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(gx, expected_gx, rtol=1e-6)
    picture = F.conv2d(mg.Tensor(arrays[0][0]), mg.Tensor(arrays[1]), None, **options)
    assert picture.shape == expected.shape[1:]


def test_an_empty_batch_gives_an_empty_result_and_zero_gradients():
    x, w, b = np.zeros((0, 2, 5, 5)), np.ones((4, 1, 3, 3)), np.ones(4)
    (y,), (gx, gw, gb) = run(lambda x, w, b: F.conv2d(x, w, b, groups=2), [x, w, b])
    assert y.shape == (0, 4, 3, 3)
    assert gx.shape == x.shape
    np.testing.assert_array_equal(gw, np.zeros_like(w))
    np.testing.assert_array_equal(gb, np.zeros_like(b))


def test_the_result_is_batch_last():
    """Memory in the order C H W N (docs/architecture.md): what comes next relies on it for speed only."""
    y = F.conv2d(mg.randn(4, 3, 8, 8), mg.randn(5, 3, 3, 3)).numpy()
    assert y.shape == (4, 5, 6, 6)
    assert y.transpose(1, 2, 3, 0).flags.c_contiguous


def test_inputs_are_left_alone_and_gradients_are_only_computed_where_asked_for():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 1, 4, 4)), rng.standard_normal((3, 1, 3, 3)), rng.standard_normal(3)
    for needed in range(3):
        tensors = [mg.Tensor(a.copy(), requires_grad=i == needed) for i, a in enumerate((x, w, b))]
        F.conv2d(*tensors, padding=1).sum().backward()
        assert [t.grad is not None for t in tensors] == [i == needed for i in range(3)]
        for t, a in zip(tensors, (x, w, b), strict=True):
            np.testing.assert_array_equal(t.detach().numpy(), a)


def test_decision_convolution_is_a_cross_correlation():
    """The kernel is not turned round, as everywhere in deep learning."""
    x, w = np.zeros((1, 1, 3, 3)), np.arange(9.0).reshape(1, 1, 3, 3)
    x[0, 0, 0, 0] = 1
    assert F.conv2d(mg.Tensor(x), mg.Tensor(w), padding=1).numpy()[0, 0].tolist() == [
        [4.0, 3.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
    ]


@fewer
@given(
    support.between(0, 2), support.between(0, 2), support.between(0, 2), support.between(0, 2), support.orders
)
def test_pad2d_equals_numpy_and_its_gradient_is_the_inner_part(above, below, left, right, order):
    x = ordered(np.random.default_rng(0).standard_normal((2, 3, 4, 5)), order)
    (y,), _ = run(lambda x: F.pad2d(x, (above, below), (left, right)), [x])
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (above, below), (left, right))))
    check_gradients(lambda x: F.pad2d(x, (above, below), (left, right)), [x])


# Errors --------------------------------------------------------------------------------------------------


def zeros(*shape: int, dtype: Any = np.float32) -> mg.Tensor:
    return mg.Tensor(np.zeros(shape, dtype=dtype))


def test_wrong_number_of_channels_says_which_and_what_to_do():
    with pytest.raises(ShapeError) as caught:
        F.conv2d(zeros(64, 1, 28, 28), zeros(16, 6, 5, 5))
    assert str(caught.value).splitlines() == [
        "conv2d: weight expects 6 input channels, x has 1",
        "  x       (64, 1, 28, 28)  N C H W",
        "  weight  (16, 6, 5, 5)    O C/groups K L",
        "  groups  1",
        "  hint: the layer before must output 6 channels, or use Conv2d(1, 16, 5)",
    ]


def test_output_channels_that_do_not_split_into_groups():
    with pytest.raises(ShapeError, match="3 output channels cannot be split into 2 groups") as caught:
        F.conv2d(zeros(1, 4, 5, 5), zeros(3, 2, 3, 3), groups=2)
    assert "multiple of 2" in str(caught.value)


@pytest.mark.parametrize(
    ("x", "weight", "options", "error", "message"),
    [
        ((4, 4), (1, 1, 3, 3), {}, ShapeError, "x and weight need 4 dimensions"),
        ((1, 1, 4, 4), (1, 3, 3), {}, ShapeError, "x and weight need 4 dimensions"),
        (
            (1, 1, 4, 4),
            (1, 1, 5, 3),
            {},
            ShapeError,
            "the kernel spans 5 along H, but x with its padding has 4",
        ),
        ((1, 1, 4, 6), (1, 1, 3, 3), {"dilation": (1, 3)}, ShapeError, "spans 7 along W, .* has 6"),
        (
            (1, 1, 4, 4),
            (1, 1, 3, 3),
            {"stride": 0},
            ArgumentError,
            "conv2d: stride must be at least 1, got 0",
        ),
        (
            (1, 1, 4, 4),
            (1, 1, 3, 3),
            {"stride": 1.5},
            ArgumentError,
            "stride must be a whole number, got 1.5",
        ),
        (
            (1, 1, 4, 4),
            (1, 1, 3, 3),
            {"dilation": (1, 0)},
            ArgumentError,
            r"dilation must be at least 1, got \(1, 0\)",
        ),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"groups": 0}, ArgumentError, "groups must be at least 1, got 0"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"padding": -1}, ArgumentError, "padding must be at least 0, got"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"padding": "full"}, ArgumentError, "'valid' or 'same', got 'full'"),
        (
            (1, 1, 4, 4),
            (1, 1, 3, 3),
            {"padding": (1, 2, 3)},
            ArgumentError,
            r"padding must be one whole number or two",
        ),
        (
            (1, 1, 4, 4),
            (1, 1, 3, 3),
            {"padding": "same", "stride": 2},
            ArgumentError,
            "padding='same' needs stride 1",
        ),
    ],
)
def test_bad_arguments(x, weight, options, error, message):
    with pytest.raises(error, match=message):
        F.conv2d(zeros(*x), zeros(*weight), **options)


def test_a_bias_of_the_wrong_size_and_mixed_dtypes():
    with pytest.raises(ShapeError, match=r"conv2d: bias has shape \(3,\), expected \(2,\)"):
        F.conv2d(zeros(1, 1, 4, 4), zeros(2, 1, 3, 3), zeros(3))
    with pytest.raises(DtypeError, match="conv2d: x is float64, weight is float32; convert one"):
        F.conv2d(zeros(1, 1, 4, 4, dtype=np.float64), zeros(2, 1, 3, 3))
    with pytest.raises(DtypeError, match="conv2d: x is float32, bias is float64; convert one"):
        F.conv2d(zeros(1, 1, 4, 4), zeros(2, 1, 3, 3), zeros(2, dtype=np.float64))


@pytest.mark.parity
def test_refuses_what_torch_refuses(torch):
    for options in ({"stride": 0}, {"padding": -1}, {"dilation": 0}, {"groups": 0}, {"groups": 3}):
        with pytest.raises((ValueError, TypeError)):
            F.conv2d(zeros(1, 2, 4, 4), zeros(2, 2, 3, 3), **options)
        with pytest.raises((RuntimeError, ValueError)):
            torch.nn.functional.conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 3, 3), **options)
