"""Reductions and sorting, against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ArgumentError, DimError, DtypeError, ShapeError
from tests.core.support import few, filled_shapes, normal, orders, seeds, shapes_and_dims


def same(got: mg.Tensor, expected: Any) -> None:
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12, atol=1e-13)


def axes(dim: Any) -> Any:
    """NumPy's axis for a dim; a 0-d array has no axis 0, a 0-d tensor has one."""
    return tuple(dim) if isinstance(dim, (tuple, list)) else dim


# 1. Values ----------------------------------------------------------------------------------------------

ANY_SIZE = {
    "sum": np.sum,
    "prod": np.prod,
    "all": np.all,
    "any": np.any,
}
NOT_EMPTY = {
    "mean": np.mean,
    "amax": np.max,
    "amin": np.min,
    "norm": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "var": lambda x, axis, keepdims: np.var(x, axis=axis, keepdims=keepdims),
    "std": lambda x, axis, keepdims: np.std(x, axis=axis, keepdims=keepdims),
}
EXTRA: dict[str, Any] = {"var": {"unbiased": False}, "std": {"correction": 0}}


@pytest.mark.parametrize("name", [*ANY_SIZE, *NOT_EMPTY])
@given(seeds, st.data(), st.booleans(), orders)
@few
def test_against_numpy(name, seed, data, keep, order):
    """dim and keepdim, and the same as axis and keepdims."""
    shape, dim = data.draw(shapes_and_dims(empty=name in ANY_SIZE))
    if not shape:
        dim = None
    x = normal(seed, shape, order)
    if name in ("all", "any"):
        x = x > (-1 if name == "all" else 1)
    expected = {**ANY_SIZE, **NOT_EMPTY}[name](x, axis=axes(dim), keepdims=keep)
    method, extra = getattr(mg.Tensor(x), name), EXTRA.get(name, {})
    same(method(dim=dim, keepdim=keep, **extra), expected)
    same(method(axis=dim, keepdims=keep, **extra), expected)
    same(getattr(mg, name)(mg.Tensor(x), dim=dim, keepdim=keep, **extra), expected)


@given(seeds, filled_shapes.filter(len), st.data(), st.booleans(), orders)
@few
def test_along_one_dimension(seed, shape, data, keep, order):
    x = normal(seed, shape, order).round(1)  # with ties
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    t = mg.Tensor(x)
    for name in ("max", "min"):
        values, indices = getattr(t, name)(d, keep)
        arg = getattr(np, "arg" + name)(x, axis=d, keepdims=keep)
        same(values, getattr(np, name)(x, axis=d, keepdims=keep))
        same(indices, arg)
        assert indices.dtype == mg.int64
        same(getattr(t, "arg" + name)(d, keep), arg)
        same(getattr(t, "arg" + name)(axis=d, keepdims=keep), arg)
        same(getattr(t, "arg" + name)(), getattr(np, "arg" + name)(x))
    same(t.cumsum(d), np.cumsum(x, axis=d))
    same(t.cumsum(axis=d), np.cumsum(x, axis=d))


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, math.inf, "fro"])
def test_norms(p, rng):
    x = rng.standard_normal((3, 4))
    order = 2 if p == "fro" else p
    same(mg.Tensor(x).norm(p, dim=1), np.linalg.norm(x, order, axis=1))
    same(mg.Tensor(x).norm(p), np.linalg.norm(x.reshape(-1), order))


def test_norm_takes_p_first():
    """x.norm(1) is the sum of |x|, as in PyTorch, not the length of each row."""
    assert mg.tensor([[3.0, -4.0]]).norm(1).item() == 7.0
    assert mg.tensor([3, 4]).norm().item() == 5.0
    with pytest.raises(ArgumentError, match="norm: p must be a number above 0, or 'fro' for 2, got -1"):
        mg.ones(2).norm(-1)
    with pytest.raises(ArgumentError, match="got 'nuc'"):
        mg.ones(2).norm("nuc")


def test_variance_divisors():
    x = mg.tensor([1.0, 2.0, 3.0, 6.0], dtype=mg.float64)
    assert x.var().item() == pytest.approx(14 / 3)
    assert x.var(unbiased=False).item() == pytest.approx(14 / 4)
    assert x.var(correction=2).item() == pytest.approx(14 / 2)
    assert x.std(0, 0).item() == pytest.approx(math.sqrt(14 / 4))
    assert math.isnan(mg.tensor([1.0]).var().item())
    assert math.isnan(mg.tensor([1.0]).std().item())
    assert mg.tensor([1.0]).var(unbiased=False).item() == 0.0


def test_variance_far_from_zero():
    """mean(x^2) - mean(x)^2 would lose all digits."""
    x = mg.tensor([1e4, 1e4 + 1, 1e4 + 2])
    assert x.var().item() == pytest.approx(1.0, rel=1e-6)


def test_empty_tensors():
    x = mg.zeros(0, 3)
    assert (x.sum().item(), x.prod().item()) == (0.0, 1.0)
    assert x.sum(0).tolist() == [0.0] * 3
    assert x.sum(1).shape == x.amax(1).shape == x.argmin(1).shape == x.max(1).values.shape == (0,)
    assert math.isnan(x.mean().item())
    assert (x.all().item(), x.any().item()) == (True, False)
    for name in ("max", "min", "argmax", "argmin", "amax", "amin"):
        short = name.replace("am", "m")
        for dim in (None, 0):
            with pytest.raises(ShapeError, match=rf"{short}: there is no such element .* shape \(0, 3\)"):
                getattr(x, name)(dim)


# 2. dtypes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [mg.bool, mg.uint8, mg.int8, mg.int16, mg.int32, mg.int64])
def test_integers_add_up_to_int64(dtype):
    x = mg.tensor([[1, 0], [1, 1]], dtype=dtype)
    for y, expected in (
        (x.sum(), 3),
        (x.sum(0), [2, 1]),
        (x.prod(1), [0, 1]),
        (x.cumsum(0), [[1, 0], [2, 1]]),
    ):
        assert y.dtype == mg.int64
        assert y.tolist() == expected


def test_sums_of_small_integers_do_not_wrap():
    assert mg.full((300,), 200, dtype=mg.uint8).sum().item() == 60_000


def test_sums_of_float16_are_made_in_float32():
    """float16 ends at 65504 and has 11 bits, too few to count to 4097 in."""
    assert mg.full((100_000,), 2.0, dtype=mg.float16).mean().item() == 2.0
    up_and_down = mg.tensor([60_000.0, 60_000.0, -60_000.0], dtype=mg.float16)
    assert up_and_down.sum().item() == 60_000.0
    assert up_and_down.mean().item() == 20_000.0
    assert up_and_down.sum(0, keepdim=True).dtype == up_and_down.mean().dtype == mg.float16


@pytest.mark.parametrize("dtype", [mg.uint8, mg.int8, mg.bool])
def test_extremes_of_integers(dtype):
    """Also where -x is no number of this dtype."""
    values = [0, 1, 1] if dtype == mg.bool else [5, 0, 127] if dtype == mg.uint8 else [5, -128, 127]
    x = mg.tensor(values, dtype=dtype)
    assert (x.amin().item(), x.amax().item()) == (min(values), max(values))
    assert (x.min().dtype, x.max(0).values.dtype) == (dtype, dtype)


@pytest.mark.parametrize("dtype", [mg.float16, mg.float32, mg.float64])
def test_floats_keep_their_dtype(dtype):
    x = mg.ones(2, 3, dtype=dtype)
    for name in ("sum", "mean", "prod", "var", "std", "norm", "amax", "amin", "max", "min"):
        assert getattr(x, name)().dtype == dtype
    assert x.cumsum(0).dtype == dtype
    assert x.sum(dtype=mg.float64).dtype == x.mean(dtype=mg.float64).dtype == mg.float64
    assert mg.ones(3, dtype=mg.int64).mean(dtype=mg.float32).item() == 1.0


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_averages_of_integers_are_refused(name):
    with pytest.raises(DtypeError, match=rf"{name}: needs floating-point numbers, got int64; use .float\(\)"):
        getattr(mg.tensor([1, 2]), name)()


# 3. Ties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["max", "min", "amax", "amin"])
def test_the_first_of_equals_gets_the_gradient(name):
    """In row-major order, whatever the memory order and whichever dimensions are reduced."""
    for dim, expected in (
        (None, [[1, 0], [0, 0]]),
        ((0, 1), [[1, 0], [0, 0]]),
        (0, [[1, 1], [0, 0]]),
        (1, [[1, 0], [1, 0]]),
    ):
        for array in (np.full((2, 2), 3.0), np.full((2, 2), 3.0, order="F")):
            x = mg.Tensor(array, requires_grad=True)
            if dim == (0, 1) and name in ("max", "min"):
                continue
            y = getattr(x, name)(dim)
            (y.values if isinstance(y, tuple) else y).sum().backward()
            assert x.grad.tolist() == expected
    x = mg.tensor([2.0, 3.0, 3.0, 2.0])
    assert (x.argmax().item(), x.argmin().item()) == (1, 0)


def test_nan_is_the_largest_and_the_smallest():
    x = mg.tensor([1.0, float("nan"), 2.0])
    assert math.isnan(x.max().item())
    assert math.isnan(x.min().item())
    assert x.argmax().item() == x.argmin().item() == 1


# 4. Sorting ---------------------------------------------------------------------------------------------


@given(seeds, filled_shapes.filter(len), st.data(), orders)
@few
def test_sort(seed, shape, data, order):
    x = normal(seed, shape, order).round(0)
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    up = np.argsort(x, axis=d, kind="stable")
    down = np.argsort(-x, axis=d, kind="stable")  # equal elements in their old order, too
    for descending, index in ((False, up), (True, down)):
        values, indices = mg.Tensor(x).sort(d, descending)
        same(indices, index)
        same(values, np.take_along_axis(x, index, axis=d))
        same(mg.Tensor(x).argsort(d, descending), index)
    k = data.draw(st.integers(0, shape[d]))
    for largest, index in ((True, down), (False, up)):
        values, indices = mg.Tensor(x).topk(k, d, largest)
        first = np.take(index, range(k), axis=d)
        same(indices, first)
        same(values, np.take_along_axis(x, first, axis=d))


def test_sort_of_one_number_and_of_bytes():
    assert mg.tensor(3.0).sort().values.item() == 3.0
    assert mg.tensor(3.0).topk(1).indices.item() == 0
    x = mg.tensor([0, 200, 100], dtype=mg.uint8)
    assert x.sort(descending=True).values.tolist() == [200, 100, 0]
    assert mg.tensor([True, False]).argsort().tolist() == [1, 0]


# 5. What is refused -------------------------------------------------------------------------------------

REDUCTIONS = "sum mean prod var std norm amax amin max min argmax argmin all any".split()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_dimensions(name):
    x = mg.ones(2, 3)
    method = getattr(x, name)
    with pytest.raises(
        DimError, match=r"dim 2 is out of range for a tensor with 2 dimensions \(use -2 to 1\)"
    ):
        method(dim=2)
    with pytest.raises(IndexError, match="dim -3 is out of range"):
        method(dim=-3)
    with pytest.raises(ArgumentError, match="give dim or axis, not both"):
        method(dim=0, axis=1)
    with pytest.raises(ArgumentError, match="dim must be a whole number, got 0.5"):
        method(dim=0.5)
    assert getattr(mg.tensor(2.0), name)(dim=-1) is not None


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "var", "amax", "all"])
def test_dimensions_named_twice(name):
    with pytest.raises(ArgumentError, match=r"dim \(0, -2\) names a dimension twice"):
        getattr(mg.ones(2, 3), name)(dim=(0, -2))


def test_other_refusals():
    x = mg.ones(2, 3)
    with pytest.raises(ArgumentError, match=r"indices along one dimension, not \(0, 1\); use amax or amin"):
        x.max((0, 1))
    with pytest.raises(
        ArgumentError, match="topk: k must be between 0 and 3, the size of dimension 1, got 4"
    ):
        x.topk(4)
    with pytest.raises(ArgumentError, match="cumsum: dim must be a whole number, got None"):
        x.cumsum()
