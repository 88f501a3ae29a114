"""Pooling: against loops and PyTorch, ties and paddings included, and gradients against differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import testing
from minigrad.errors import ArgumentError, ShapeError
from tests import oracles
from tests.nn import support
from tests.nn.support import assert_close, check_gradients, compare, few, fewer, many, ordered, run

pairs = st.one_of(support.between(1, 3), st.tuples(support.between(1, 4), support.between(1, 3)))


@st.composite
def pools(
    draw: Any, largest: int = 8, dilated: bool = True, values: str = "normal"
) -> tuple[np.ndarray, dict[str, Any]]:
    """x in some memory order, and arguments of max_pool2d that both libraries accept."""
    rng = np.random.default_rng(draw(support.seeds))
    kernel = draw(pairs)
    K, L = oracles.both(kernel)
    options: dict[str, Any] = {"kernel_size": kernel, "stride": draw(st.none() | pairs)}
    options["padding"] = draw(st.tuples(support.between(0, K // 2), support.between(0, L // 2)))
    options["ceil_mode"] = draw(st.booleans())
    dilation = draw(pairs) if dilated else 1
    if dilated:
        options["dilation"] = dilation
    spans = [d * (k - 1) + 1 for d, k in zip(oracles.both(dilation), (K, L), strict=True)]
    H, W = (max(draw(support.between(1, largest)), span) for span in spans)
    shape = (draw(st.sampled_from([0, 1, 2, 2, 3])), draw(support.between(1, 3)), H, W)
    if values == "ties":  # mostly zeros and a few whole numbers: pictures with a black background
        x = rng.integers(-2, 3, shape) * rng.integers(0, 2, shape)
    elif values == "distinct":
        x = testing.distinct_values(shape, rng)
    else:
        x = rng.standard_normal(shape)
    return ordered(x.astype(draw(support.dtypes)), draw(support.orders)), options


def positional(options: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        options[k] for k in ("kernel_size", "stride", "padding", "dilation", "ceil_mode") if k in options
    )


# 1. Max pooling ------------------------------------------------------------------------------------------


@few
@given(pools())
def test_max_pool_equals_the_loops(case):
    x, options = case
    y, indices = F.max_pool2d(mg.Tensor(x), **options, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), oracles.max_pool2d(x, *positional(options)).astype(x.dtype))
    np.testing.assert_array_equal(indices.numpy(), oracles.max_pool2d_indices(x, *positional(options)))
    assert indices.dtype == mg.int64


@few
@given(pools(values="ties"))
def test_decision_max_pool_ties_first_in_row_major_order(case):
    """One winner for each window: the first of the largest values, row by row."""
    x, options = case
    (y,), (gx,) = run(lambda x: F.max_pool2d(x, **options), [x])
    gy = np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype)  # the cotangent that `run` draws
    assert_close(gx, oracles.max_pool2d_gradient(x, gy, *positional(options)))
    _, indices = F.max_pool2d(mg.Tensor(x), **options, return_indices=True)
    np.testing.assert_array_equal(indices.numpy(), oracles.max_pool2d_indices(x, *positional(options)))


def test_max_pool_of_a_constant_picture_sends_everything_to_the_top_left_corners():
    _, (gx,) = run(lambda x: F.max_pool2d(x, 2), [np.zeros((1, 1, 4, 4))])
    assert (gx != 0).tolist() == [[[[True, False] * 2, [False] * 4] * 2]]


@pytest.mark.parity
@pytest.mark.parametrize("values", ["normal", "ties"])
@many
@given(data=st.data())
def test_max_pool_equals_torch(torch, values, data):
    x, options = data.draw(pools(values=values))
    compare(
        torch,
        lambda x: F.max_pool2d(x, **options, return_indices=True),
        lambda x: torch.nn.functional.max_pool2d(x, **options, return_indices=True),
        [x],
    )


@few
@given(pools(largest=5, values="distinct"))
def test_max_pool_gradient(case):
    x, options = case
    if x.size:
        check_gradients(lambda x: F.max_pool2d(x, **options), [x.astype(np.float64)])


@pytest.mark.parity
def test_decision_max_pool_on_real_looking_pictures_with_black_background(torch):
    """Most windows of a picture of a garment are all black: the tie rule decides every gradient."""
    rng = np.random.default_rng(0)
    x = np.zeros((8, 1, 28, 28), dtype=np.float32)
    x[:, :, 6:22, 8:20] = rng.integers(0, 4, (8, 1, 16, 12)) / 4
    for options in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}):
        compare(
            torch,
            lambda x, options=options: F.max_pool2d(x, **options),
            lambda x, options=options: torch.nn.functional.max_pool2d(x, **options),
            [x],
        )


@pytest.mark.parity
def test_padding_never_wins_not_even_against_minus_infinity(torch):
    x = np.full((1, 1, 5, 5), -np.inf, dtype=np.float32)
    x[0, 0, 4, 4] = 1.0
    for options in (
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "stride": 1, "padding": (1, 1), "dilation": (2, 1)},
        {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True},
    ):
        y, indices = F.max_pool2d(mg.Tensor(x), **options, return_indices=True)
        expected, expected_indices = torch.nn.functional.max_pool2d(
            torch.tensor(x), **options, return_indices=True
        )
        np.testing.assert_array_equal(y.numpy(), expected.numpy())
        np.testing.assert_array_equal(indices.numpy(), expected_indices.numpy())


def test_nan_comes_through_max_pool():
    x = np.zeros((1, 1, 2, 4), dtype=np.float32)
    x[0, 0, 1, 0] = np.nan
    assert np.isnan(F.max_pool2d(mg.Tensor(x), 2).numpy()).tolist() == [[[[True, False]]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_max_pool_of_integers(dtype):
    x = np.random.default_rng(0).integers(0, 3, (2, 1, 5, 5)).astype(dtype)
    y, indices = F.max_pool2d(mg.Tensor(x), 3, 2, 1, return_indices=True)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.numpy(), oracles.max_pool2d(x, 3, 2, 1))
    np.testing.assert_array_equal(indices.numpy(), oracles.max_pool2d_indices(x, 3, 2, 1))


def test_a_window_with_more_than_256_places():
    """The number of the winner does not fit into one byte here."""
    x = np.random.default_rng(0).permutation(17 * 40).reshape(1, 1, 17, 40).astype(np.float64)
    _, (gx,) = run(lambda x: F.max_pool2d(x, (17, 20)), [x])
    gy = np.random.default_rng(0).standard_normal((1, 1, 1, 2))
    np.testing.assert_array_equal(gx, oracles.max_pool2d_gradient(x, gy, (17, 20)))


# 2. Average pooling --------------------------------------------------------------------------------------

averages = st.fixed_dictionaries(
    {"count_include_pad": st.booleans(), "divisor_override": st.sampled_from([None, None, 1, 3, -2])}
)


@few
@given(pools(dilated=False), averages)
def test_avg_pool_equals_the_loops(case, more):
    x, options = case
    y = F.avg_pool2d(mg.Tensor(x), **options, **more)
    assert y.dtype == x.dtype
    assert_close(y.numpy(), oracles.avg_pool2d(x, *positional(options), **more))


@pytest.mark.parity
@many
@given(case=pools(dilated=False), more=averages)
def test_avg_pool_equals_torch(torch, case, more):
    x, options = case
    compare(
        torch,
        lambda x: F.avg_pool2d(x, **options, **more),
        lambda x: torch.nn.functional.avg_pool2d(x, **options, **more),
        [x],
    )


@few
@given(pools(largest=5, dilated=False), averages)
def test_avg_pool_gradient(case, more):
    x, options = case
    if x.size:
        check_gradients(lambda x: F.avg_pool2d(x, **options, **more), [x.astype(np.float64)])


@pytest.mark.parametrize(
    ("count_include_pad", "expected"),
    [
        # 0|1 2 3 4 5|0 in windows of 2: (0 1) (2 3) (4 5), and none that starts in the padding on the right
        (True, [0.5, 2.5, 4.5]),
        (False, [1.0, 2.5, 4.5]),
    ],
)
def test_avg_pool_counts_padding_as_asked(count_include_pad, expected):
    x = mg.arange(1.0, 6.0).reshape(1, 1, 1, 5)
    y = F.avg_pool2d(x, (1, 2), 2, (0, 1), count_include_pad=count_include_pad)
    assert y.reshape(-1).tolist() == expected


@pytest.mark.parametrize(
    ("padding", "include", "expected"),
    [
        # 1 2 3 4 in windows of 3 at 0 and 2: the second one sticks out by one, which never counts
        (0, True, [2.0, 3.5]),
        (0, False, [2.0, 3.5]),
        # 0|1 2 3 4|0 in windows of 3 at 0, 2 and 4, the last one holding 4 and one padding
        (1, True, [1.0, 3.0, 2.0]),
        (1, False, [1.5, 3.0, 4.0]),
    ],
)
def test_avg_pool_in_ceil_mode_never_counts_what_lies_beyond_the_padding(padding, include, expected):
    x = mg.arange(1.0, 5.0).reshape(1, 1, 1, 4)
    y = F.avg_pool2d(x, (1, 3), 2, (0, padding), ceil_mode=True, count_include_pad=include)
    assert y.reshape(-1).tolist() == expected


grids = st.one_of(
    support.between(1, 6), st.tuples(st.none() | support.between(1, 6), st.none() | support.between(1, 6))
)


@st.composite
def pictures(draw: Any, largest: int = 8) -> np.ndarray:
    shape = [draw(support.between(0, 3)), *(draw(support.between(1, n)) for n in (3, largest, largest))]
    x = np.random.default_rng(draw(support.seeds)).standard_normal(shape).astype(draw(support.dtypes))
    return ordered(x, draw(support.orders))


@few
@given(pictures(), grids)
def test_adaptive_avg_pool_equals_the_loops(x, grid):
    assert_close(F.adaptive_avg_pool2d(mg.Tensor(x), grid).numpy(), oracles.adaptive_avg_pool2d(x, grid))


@pytest.mark.parity
@many
@given(x=pictures(), grid=grids)
def test_adaptive_avg_pool_equals_torch(torch, x, grid):
    compare(
        torch,
        lambda x: F.adaptive_avg_pool2d(x, grid),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, grid),
        [x],
    )


@few
@given(pictures(largest=4), grids)
def test_adaptive_avg_pool_gradient(x, grid):
    if x.size:
        check_gradients(lambda x: F.adaptive_avg_pool2d(x, grid), [x.astype(np.float64)])


def test_averages_of_integers_are_fractions():
    """Bytes add up beyond 255 and a mean is no whole number; nothing wraps round or is cut off."""
    x = np.full((1, 1, 2, 2), 255, dtype=np.uint8)
    x[0, 0, 0, 0] = 254
    assert F.avg_pool2d(mg.Tensor(x), 2).tolist() == [[[[254.75]]]]
    assert F.adaptive_avg_pool2d(mg.Tensor(x), 1).tolist() == [[[[254.75]]]]
    assert F.avg_pool2d(mg.Tensor(x), 2).dtype == mg.float32


# 3. What they share --------------------------------------------------------------------------------------


@fewer
@given(pools())
def test_one_picture_without_a_batch(case):
    x, options = case
    without = {k: v for k, v in options.items() if k != "dilation"}
    for n in range(len(x)):
        one, many = mg.Tensor(x[n]), mg.Tensor(x[n : n + 1])
        for a, b in zip(
            F.max_pool2d(one, **options, return_indices=True),
            F.max_pool2d(many, **options, return_indices=True),
            strict=True,
        ):
            assert a.shape == b.shape[1:]
            np.testing.assert_array_equal(a.numpy(), b.numpy()[0])
        assert F.max_pool2d(one, **options).shape == a.shape
        if np.all(np.array(options.get("dilation", 1)) == 1):
            np.testing.assert_array_equal(
                F.avg_pool2d(one, **without).numpy(), F.avg_pool2d(many, **without).numpy()[0]
            )
        np.testing.assert_array_equal(
            F.adaptive_avg_pool2d(one, 2).numpy(), F.adaptive_avg_pool2d(many, 2).numpy()[0]
        )


@pytest.mark.parametrize("pool", [lambda x: F.max_pool2d(x, 1), lambda x: F.avg_pool2d(x, 1)])
def test_a_window_of_one_is_a_copy(pool):
    """Writing into the result must not change the input, as nowhere else."""
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    y = pool(mg.Tensor(x))
    np.testing.assert_array_equal(y.numpy(), x)
    assert not np.shares_memory(y.numpy(), x)


X44 = np.zeros((1, 1, 4, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.max_pool2d(x, 5), ShapeError, "max_pool2d: the window does not fit into the picture"),
        (lambda x: F.max_pool2d(x, 2, dilation=4), ShapeError, r"dilation +\(4, 4\)"),
        (lambda x: F.avg_pool2d(x, (1, 5)), ShapeError, "avg_pool2d: the window does not fit"),
        (lambda x: F.max_pool2d(x, 0), ArgumentError, "max_pool2d: kernel_size must be at least 1, got 0"),
        (lambda x: F.max_pool2d(x, 2, 0), ArgumentError, "max_pool2d: stride must be at least 1, got 0"),
        (lambda x: F.max_pool2d(x, 2, dilation=0), ArgumentError, "dilation must be at least 1"),
        (lambda x: F.max_pool2d(x, 2.0), ArgumentError, "kernel_size must be a whole number, got 2.0"),
        (lambda x: F.max_pool2d(x, (1, 2, 3)), ArgumentError, "kernel_size must be one whole number or two"),
        (
            lambda x: F.max_pool2d(x, 3, padding=2),
            ArgumentError,
            r"between 0 and half of kernel_size, got padding \(2, 2\) for kernel_size \(3, 3\)",
        ),
        (
            lambda x: F.avg_pool2d(x, 3, padding=-1),
            ArgumentError,
            "avg_pool2d: padding must be between 0 and half",
        ),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=0), ArgumentError, "divisor_override must not be 0"),
        (
            lambda x: F.max_pool2d(x[0, 0], 2),
            ShapeError,
            r"must have shape \(N, C, H, W\) or \(C, H, W\), got \(4, 4\)",
        ),
        (lambda x: F.adaptive_avg_pool2d(x[0, 0], 2), ShapeError, r"or \(C, H, W\), got \(4, 4\)"),
        (lambda x: F.adaptive_avg_pool2d(x, 0), ArgumentError, "output_size must be at least 1, got 0"),
        (
            lambda x: F.adaptive_avg_pool2d(x, (1, 2, 3)),
            ArgumentError,
            r"one whole number or two, got \(1, 2, 3\)",
        ),
        (
            lambda x: F.adaptive_avg_pool2d(x[:, :, :0], 1),
            ShapeError,
            r"an empty picture of shape \(1, 1, 0, 4\)",
        ),
        (lambda x: F.max_pool2d(x[:, :, :0], 1), ShapeError, "the window does not fit into the picture"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(mg.Tensor(X44))
