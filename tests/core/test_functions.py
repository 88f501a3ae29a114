"""Functions of several tensors, and that every function in minigrad's namespace equals its method."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import functions
from minigrad.errors import ArgumentError, DimError, DtypeError, ShapeError
from tests.core.support import few, filled_shapes, normal, orders, seeds


def same(got: mg.Tensor, expected: np.ndarray) -> None:
    assert isinstance(got, mg.Tensor)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12)


# 1. Joining ---------------------------------------------------------------------------------------------


@given(seeds, filled_shapes.filter(len), st.data())
@few
def test_cat_and_stack(seed, shape, data):
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    arrays = []
    for k, size in enumerate(sizes):
        part = list(shape)
        part[d] = size
        arrays.append(normal(seed + k, tuple(part), data.draw(orders)))
    for join in (mg.cat, mg.concat, mg.concatenate):
        same(join([mg.Tensor(a) for a in arrays], d), np.concatenate(arrays, d))
        same(join(tuple(mg.Tensor(a) for a in arrays), axis=d), np.concatenate(arrays, d))
    equal = [normal(seed + k, shape, data.draw(orders)) for k in range(3)]
    new = data.draw(st.integers(-len(shape) - 1, len(shape)))
    same(mg.stack([mg.Tensor(a) for a in equal], new), np.stack(equal, new))
    same(mg.stack([mg.Tensor(a) for a in equal], axis=new), np.stack(equal, new))


def test_stack_of_numbers():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.stack([x[1], x[0], x[1]])
    assert y.tolist() == [2.0, 1.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 2.0]


def test_vstack_and_hstack(rng):
    x, y, v = rng.standard_normal((2, 3)), rng.standard_normal((1, 3)), rng.standard_normal(3)
    same(mg.vstack([mg.Tensor(x), mg.Tensor(y), mg.Tensor(v)]), np.vstack([x, y, v]))
    same(mg.hstack([mg.Tensor(x), mg.Tensor(x)]), np.hstack([x, x]))
    same(mg.hstack([mg.Tensor(v), mg.Tensor(v)]), np.hstack([v, v]))
    assert mg.hstack([mg.tensor(1), mg.tensor(2)]).tolist() == [1, 2]


def test_joining_promotes():
    x, i, d = mg.ones(1), mg.tensor([2]), mg.tensor([3.0], dtype=mg.float64)
    assert mg.cat([i, x]).dtype == mg.float32
    assert mg.cat([i, x, d]).dtype == mg.float64
    assert mg.stack([i, i > 0]).tolist() == [[2], [1]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mg.cat(mg.ones(2)), DtypeError, "cat: expected a list or tuple of tensors, got Tensor"),
        (lambda: mg.cat([]), ArgumentError, "cat: expected at least one tensor"),
        (lambda: mg.stack([mg.ones(1), 2]), DtypeError, "stack: element 1 is no tensor but int; use minigrad.ten"),
        (lambda: mg.cat([np.ones(1)]), DtypeError, "cat: element 0 is no tensor but ndarray"),
        (lambda: mg.cat([mg.tensor(1)]), ShapeError, "cat: tensor 0 has no dimension to join along; use stack"),
        (
            lambda: mg.cat([mg.ones(2, 3), mg.ones(3, 2)]),
            ShapeError,
            r"cat: tensor 1 has shape \(3, 2\), tensor 0 has \(2, 3\); they may differ in dimension 0 only",
        ),
        (lambda: mg.cat([mg.ones(2), mg.ones(2, 2)]), ShapeError, r"tensor 1 has shape \(2, 2\)"),
        (lambda: mg.cat([mg.ones(2)], 1), DimError, "cat: dim 1 is out of range"),
        (lambda: mg.stack([mg.ones(2)], 2), DimError, "stack: dim 2 is out of range"),
        (lambda: mg.stack([mg.ones(2), mg.ones(3)]), ShapeError, r"stack: tensor 1 has shape \(3,\), tensor 0 has"),
        (lambda: mg.where([1, 0], 1, 2), DtypeError, "where: the condition must be a bool tensor, got int64"),
        (lambda: mg.where(mg.ones(1) > 0, mg.ones(1), "a"), DtypeError, "where: cannot choose between Tensor and str"),
        (lambda: mg.where(mg.ones(1) > 0, None, mg.ones(1)), DtypeError, "cannot choose between NoneType and"),
        (lambda: mg.einsum("ij,jk", mg.ones(2, 2)), ArgumentError, "names 2 operands, 1 were given"),
        (lambda: mg.einsum("ii->i", mg.ones(2, 2)), ArgumentError, "'ii' names an index twice in one operand"),
        (lambda: mg.einsum("i", mg.ones(2, 2)), ShapeError, r"'i' names 1 dimensions, the operand has shape \(2, 2\)"),
        (lambda: mg.einsum("i,i", mg.ones(2), mg.ones(3)), ShapeError, "index 'i' has size 2 and 3"),
        (lambda: mg.einsum("i->j", mg.ones(2)), ArgumentError, "each index of the result 'j' must occur once, and in"),
        (lambda: mg.einsum("i->ii", mg.ones(2)), ArgumentError, "each index of the result 'ii' must occur once"),
        (lambda: mg.einsum("...i->i", mg.ones(2)), ArgumentError, "may hold letters, commas and one arrow"),
        (lambda: mg.einsum("i", 3.0), DtypeError, "einsum: element 0 is no tensor but float"),
    ],
)  # fmt: skip
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# 2. Choosing, comparing ---------------------------------------------------------------------------------


def test_where():
    mask, x = mg.tensor([True, False]), mg.tensor([1.0, 2.0], dtype=mg.float64)
    assert mg.where(mask, x, 0).tolist() == [1.0, 0.0]
    assert mg.where(mask, 0.1, x).tolist() == [0.1, 2.0]  # not float32's 0.1
    assert mg.where(mask, x, mg.tensor([[7.0], [8.0]])).tolist() == [[1.0, 7.0], [1.0, 8.0]]
    assert mg.where([True, False], 1, 2).tolist() == [1, 2]
    assert mg.where(np.array([True, False]), 1.0, 0).dtype == mg.float32
    assert mg.where(mask, mg.tensor([1, 2]), 0.5).dtype == mg.float32
    assert mg.where(mask, True, False).dtype == mg.bool


def test_where_keeps_bad_values_out():
    """The gradient of what was not chosen is 0 even where its value is not finite."""
    x = mg.tensor([1.0, float("inf")], requires_grad=True)
    mg.where(x < 5, x, 0.0).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


def test_equal_and_allclose():
    x = mg.tensor([1.0, 2.0])
    assert mg.equal(x, x.clone())
    assert mg.equal(x, mg.tensor([1, 2]))
    assert not mg.equal(x, mg.tensor([1.0, 2.1]))
    assert not mg.equal(x, mg.tensor([[1.0, 2.0]]))
    assert mg.equal(mg.zeros(0), mg.zeros(0))
    assert mg.allclose(x, x + 1e-6)
    assert not mg.allclose(x, x + 1e-4)
    assert mg.allclose(x, x + 0.1, atol=0.2)
    assert mg.allclose(x, x * 1.1, rtol=0.2)
    inf, nan = mg.tensor(float("inf")), mg.tensor(float("nan"))
    assert mg.allclose(inf, inf)
    assert not mg.allclose(inf, -inf)
    assert not mg.allclose(nan, nan)
    assert mg.allclose(nan, nan, equal_nan=True)
    assert mg.allclose(x.requires_grad_(), x)


def test_small_ones():
    assert mg.is_tensor(mg.ones(1))
    assert not mg.is_tensor(np.ones(1))
    assert mg.numel(mg.ones(2, 3)) == 6


# 3. Functions and methods -------------------------------------------------------------------------------

X = mg.tensor([[0.3, -1.2, 2.0], [0.5, 0.7, -0.1]], dtype=mg.float64)
ARGUMENTS = {
    "add": (2,), "sub": (X,), "mul": (X,), "div": (3,), "pow": (2,),
    "matmul": (X.T,), "mm": (X.T,), "bmm": (X.T,), "mv": (X[0],),
    "dot": (X[0],), "maximum": (0.1,), "minimum": (X.flip(0),), "outer": (X[0],), "eq": (0.3,), "ne": (0.3,),
    "lt": (0,), "le": (X,), "gt": (0,), "ge": (0,), "logical_and": (X > 0,), "logical_or": (X > 0,),
    "clip": (-0.5, 0.5), "clamp": (0.0,), "cumsum": (1,), "gather": (1, mg.tensor([[0], [2]])),
    "index_select": (1, [0, 0]), "masked_select": (X > 0,), "permute": (1, 0), "transpose": (0, 1),
    "reshape": (3, 2), "unsqueeze": (0,), "split": (1,), "chunk": (2,), "tile": (2,), "repeat_interleave": (2,),
    "broadcast_to": (2, 2, 3), "topk": (2,), "flip": (0,),
}  # fmt: skip
NOT_METHODS = set("allclose cat concat concatenate einsum equal hstack is_tensor stack vstack where".split())


@pytest.mark.parametrize("name", sorted(set(functions.__all__) - NOT_METHODS))
def test_function_equals_method(name):
    x = X.abs() + 0.1 if name in ("log", "sqrt", "rsqrt", "reciprocal", "log1p") else X
    x = x[0] if name in ("outer", "dot") else x
    arguments = ARGUMENTS.get(name, ())
    got, expected = getattr(mg, name)(x, *arguments), getattr(x, name)(*arguments)
    assert type(got) is type(expected)
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for a, b in pairs:
        assert mg.equal(a, b) if isinstance(a, mg.Tensor) else a == b
    if isinstance(got, mg.Tensor):
        assert got.dtype == expected.dtype


@pytest.mark.parametrize("name", sorted(functions.__all__))
def test_functions_are_presentable(name):
    function = getattr(mg, name)
    assert function is getattr(functions, name)
    assert callable(function)
    aliases = {
        "clamp": "clip",
        "concat": "cat",
        "concatenate": "cat",
        "mm": "matmul",
        "bmm": "matmul",
        "mv": "matmul",
        "dot": "matmul",
    }
    assert function.__name__ == aliases.get(name, name)
    assert function.__module__ == "minigrad.functions"
    assert len(inspect.signature(function).parameters) >= 1


def test_functions_take_numbers_arrays_and_lists():
    assert mg.exp(0).item() == 1.0
    assert mg.sqrt([4.0, 9.0]).tolist() == [2.0, 3.0]
    assert mg.sum(np.ones((2, 2)), dim=0).tolist() == [2.0, 2.0]
    assert mg.max(X, dim=1)[1].tolist() == [2, 1]
    assert mg.any([False, True]).item() is True


def test_a_number_first():
    """Numbers take the dtype of the tensor: 0.1 is not rounded to float32 on the way."""
    x = mg.tensor([0.0, 1.0], dtype=mg.float64)
    assert mg.add(0.1, x).tolist() == [0.1, 1.1]
    assert mg.sub(0.1, x).tolist() == [0.1, -0.9]
    assert mg.mul(0.1, x).tolist() == [0.0, 0.1]
    assert mg.div(0.1, x + 1).tolist() == [0.1, 0.05]
    assert mg.pow(2, x).tolist() == [1.0, 2.0]
    assert mg.maximum(0.1, x).tolist() == [0.1, 1.0]
    assert mg.minimum(0.1, x).tolist() == [0.0, 0.1]
    assert mg.maximum(np.array([0.1, 2.0]), x).tolist() == [0.1, 2.0]


def test_einsum_against_numpy(rng):
    for equation, shapes in (
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ba,ca", [(2, 3), (4, 3)]),
        ("bij->bji", [(2, 3, 4)]),
        ("i,j,k->kji", [(2,), (3,), (4,)]),
        ("ij->", [(2, 3)]),
        (" i j , j -> i ", [(2, 3), (3,)]),
    ):
        arrays = [rng.standard_normal(shape) for shape in shapes]
        got = mg.einsum(equation, *[mg.Tensor(a) for a in arrays])
        same(got, np.asarray(np.einsum(equation.replace(" ", ""), *arrays)))
