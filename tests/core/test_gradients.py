"""Gradients of every differentiable method, over random shapes, broadcasting, dimensions and memory orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import distinct_values
from tests.core.support import (
    ORDERS,
    broadcast_pairs,
    check,
    few,
    fewer,
    filled_shapes,
    normal,
    orders,
    seeds,
    shapes,
    shapes_and_dims,
)


def distinct(seed: int, shape: tuple[int, ...], order: str) -> np.ndarray:
    return ORDERS[order](distinct_values(shape, np.random.default_rng(seed)))


# 1. Element by element ----------------------------------------------------------------------------------

ANYWHERE = {
    "exp": lambda x: x.exp(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "neg": lambda x: -x,
    "square": lambda x: x.square(),
    "clone": lambda x: x.clone(),
    "cube": lambda x: x**3,
    "to the 0": lambda x: x**0,
    "2 to the x": lambda x: 2**x,
    "remainder": lambda x: x % 0.7,
    "used often": lambda x: x * x + x / 2 - 3 * x,
}
ABOVE_ZERO = {
    "log": lambda x: x.log(),
    "log1p": lambda x: x.log1p(),
    "sqrt": lambda x: x.sqrt(),
    "rsqrt": lambda x: x.rsqrt(),
    "reciprocal": lambda x: x.reciprocal(),
    "to a fraction": lambda x: x**-1.5,
    "x to the x": lambda x: x**x,
    "remainder of a number": lambda x: 5.3 % x,
}
AWAY_FROM_KINKS = {
    "abs": lambda x: x.abs(),
    "clip": lambda x: x.clip(-0.12, 0.21),
    "clip, one side": lambda x: x.clamp(max=0.0),
    "clip by tensors": lambda x: x.clip(mg.tensor(-0.12), mg.tensor(0.21)),
    "maximum": lambda x: x.maximum(0.0),
    "minimum": lambda x: x.minimum(mg.zeros(1)),
    "masked_fill": lambda x: x.masked_fill(x > 0, 7.0),
}


@pytest.mark.parametrize("name", ANYWHERE)
@given(seeds, shapes, orders)
@fewer
def test_unary_anywhere(name, seed, shape, order):
    check(ANYWHERE[name], normal(seed, shape, order))


@pytest.mark.parametrize("name", ABOVE_ZERO)
@given(seeds, shapes, orders)
@fewer
def test_unary_above_zero(name, seed, shape, order):
    x = ORDERS[order](np.asarray(np.random.default_rng(seed).random(shape) + 0.5))
    if "remainder" in name:  # away from its jumps
        x = 0.9 + x / 10
    check(ABOVE_ZERO[name], x)


@pytest.mark.parametrize("name", AWAY_FROM_KINKS)
@given(seeds, shapes, orders)
@fewer
def test_unary_away_from_kinks(name, seed, shape, order):
    check(AWAY_FROM_KINKS[name], distinct(seed, shape, order))


BINARY = {
    "add": lambda x, y: x + y,
    "add, alpha": lambda x, y: x.add(y, alpha=3),
    "sub": lambda x, y: x - y,
    "sub, alpha": lambda x, y: x.sub(y, alpha=-2),
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y.square() + 1),
    "pow": lambda x, y: (x.square() + 0.5) ** y,
    "where": lambda x, y: mg.where(x.detach() > y.detach(), x, y),
}


@pytest.mark.parametrize("name", BINARY)
@given(seeds, broadcast_pairs(), orders, orders)
@few
def test_binary(name, seed, pair, order_x, order_y):
    check(BINARY[name], normal(seed, pair[0], order_x), normal(seed + 1, pair[1], order_y))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@given(seeds, broadcast_pairs(), orders)
@fewer
def test_maximum_and_minimum(name, seed, pair, order):
    x, y = distinct(seed, pair[0], order), distinct(seed + 1, pair[1], "rows") + 0.05
    check(getattr(mg, name), x, y)


@given(seeds, broadcast_pairs())
@fewer
def test_remainder_of_two(seed, pair):
    rng = np.random.default_rng(seed)
    quotient, y = rng.integers(-3, 4, pair[0]), rng.random(pair[1]) + 1
    x = (quotient + 0.5) * np.ones(pair[0])  # x / y stays away from whole numbers for these y
    check(lambda x, y: (x * y) % y, x, y)


@given(seeds, broadcast_pairs(), orders)
@fewer
def test_clip_by_tensors_of_several_shapes(seed, pair, order):
    x, low = distinct(seed, pair[0], order), distinct(seed + 1, pair[1], "rows") - 0.45
    check(lambda x, low, high: x.clip(low, high), x, low, low + 0.7)


# 2. Reductions ------------------------------------------------------------------------------------------

SMOOTH = {
    "sum": lambda x, dim, keep: x.sum(dim, keep),
    "mean": lambda x, dim, keep: x.mean(dim, keep),
    "prod": lambda x, dim, keep: x.prod(dim, keep),
}
SPREAD = {
    "var": lambda x, dim, keep: x.var(dim, keepdim=keep),
    "var, biased": lambda x, dim, keep: x.var(dim, unbiased=False, keepdim=keep),
    "std": lambda x, dim, keep: x.std(dim, keepdim=keep),
    "norm": lambda x, dim, keep: x.norm(dim=dim, keepdim=keep),
    "norm 3": lambda x, dim, keep: x.norm(3, dim, keep),
}
KINKS = {
    "amax": lambda x, dim, keep: x.amax(dim, keep),
    "amin": lambda x, dim, keep: x.amin(dim, keep),
    "norm 1": lambda x, dim, keep: x.norm(1, dim, keep),
    "norm inf": lambda x, dim, keep: x.norm(math.inf, dim, keep),
}


@pytest.mark.parametrize("name", SMOOTH)
@given(seeds, shapes_and_dims(), st.booleans(), orders)
@few
def test_sums(name, seed, shape_and_dim, keep, order):
    shape, dim = shape_and_dim
    x = normal(seed, shape, order)
    check(lambda x: SMOOTH[name](x, dim, keep), x)


@pytest.mark.parametrize("name", SPREAD)
@given(seeds, filled_shapes.filter(len), st.data())
@fewer
def test_spread(name, seed, shape, data):
    """Along dimensions with at least two elements, where variances exist."""
    shape = tuple(n + 1 for n in shape)[:3]
    dim = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    keep, order = data.draw(st.booleans()), data.draw(orders)
    check(lambda x: SPREAD[name](x, dim, keep), normal(seed, shape, order))


@pytest.mark.parametrize("name", KINKS)
@given(seeds, shapes_and_dims(empty=False), st.booleans(), orders)
@fewer
def test_extremes(name, seed, shape_and_dim, keep, order):
    shape, dim = shape_and_dim
    x = np.abs(distinct(seed, shape, order)) if name == "norm inf" else distinct(seed, shape, order)
    x = x + 0.02 * np.arange(x.size).reshape(x.shape) if name == "norm inf" else x
    check(lambda x: KINKS[name](x, dim, keep), x)


@given(seeds, filled_shapes.filter(len), st.data())
@few
def test_along_one_dimension(seed, shape, data):
    """max and min with indices, cumsum, sort and topk."""
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = distinct(seed, shape, data.draw(orders))
    k = data.draw(st.integers(0, shape[d]))
    down = data.draw(st.booleans())
    check(lambda x: (x.max(d)[0], x.min(d, keepdim=True)[0], x.cumsum(d)), x)
    check(lambda x: (x.sort(d, down)[0], x.topk(k, d, largest=down).values), x)


def test_product_with_zeros():
    """No division by an element: one zero leaves one gradient, two leave none."""
    x = mg.tensor([[2.0, 0.0, 5.0], [0.0, 0.0, 5.0], [2.0, 3.0, 5.0]], requires_grad=True)
    x.prod(1).sum().backward()
    assert x.grad.tolist() == [[0.0, 10.0, 0.0], [0.0, 0.0, 0.0], [15.0, 10.0, 6.0]]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.norm(),
        lambda x: x.norm(3),
        lambda x: x.norm(1),
        lambda x: x.std(),
        lambda x: x.std(unbiased=False),
    ],
)
def test_length_of_a_zero_vector_has_gradient_zero(function):
    x = mg.tensor([0.0, 0.0, 0.0], requires_grad=True)
    function(x).backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


# 3. Shape and selection ---------------------------------------------------------------------------------


@given(seeds, shapes, orders, st.data())
@few
def test_shape(seed, shape, order, data):
    x = normal(seed, shape, order)
    order_of_dims = data.draw(st.permutations(range(len(shape))))
    d = data.draw(st.integers(-len(shape) - 1, len(shape)))
    check(lambda x: (x.permute(order_of_dims), x.T, x.flatten(), x.reshape(x.shape[::-1])), x)
    check(lambda x: (x.unsqueeze(d), x[None].squeeze(), x.expand(2, *x.shape)), x)
    if shape:
        a, b = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
        check(lambda x: (x.transpose(a, b), x.flip(a), x.repeat_interleave(2, a), *x.split(2, a)), x)
        check(
            lambda x: (*x.unbind(a), *x.chunk(3, b), x.split([1, shape[b] - 1], b)[0] if shape[b] else x), x
        )


@given(seeds, shapes, st.lists(st.integers(0, 2), max_size=2), orders)
@fewer
def test_repeat(seed, shape, more, order):
    times = (*more, *(1 + i % 2 for i in range(len(shape))))
    check(lambda x: (x.repeat(times), x.tile(more)), normal(seed, shape, order))


@given(seeds, st.lists(st.integers(0, 3), min_size=2, max_size=4), st.integers(-4, 4), orders)
@fewer
def test_triangles(seed, shape, diagonal, order):
    check(lambda x: (x.tril(diagonal), x.triu(diagonal)), normal(seed, tuple(shape), order))


INDICES = {
    "one": 1,
    "last": -1,
    "slice": slice(1, None),
    "steps": slice(None, None, -2),
    "ellipsis": (Ellipsis, 1),
    "new axis": (None, slice(None), None, 0),
    "list": [2, 0, 0],
    "array": np.array([[2, -1], [0, 2]]),
    "tensor": mg.tensor([2, 0, 0]),
    "0-d tensor": mg.tensor(2),
    "pairs": ([0, 0, 2], [1, 1, -1]),
    "apart": ([0, 0, 2], slice(None), mg.tensor([1, 1, 0])),
    "column": (slice(None), [1, 1], slice(0, 1)),
    "mask": np.arange(12).reshape(3, 4) % 3 == 0,
    "mask of rows": mg.tensor([True, False, True]),
    "mask and index": (np.array([True, False, True]), np.array([1, 1])),
    "nothing": [],
    "everything": (),
}


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("order", ORDERS)
def test_index(name, order):
    check(lambda x: x[INDICES[name]], normal(3, (3, 4, 2), order))


@given(seeds, filled_shapes.filter(len), st.data())
@few
def test_gather(seed, shape, data):
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    count = data.draw(st.integers(0, 4))
    index_shape = [
        count if i == d % len(shape) else data.draw(st.integers(0, n)) for i, n in enumerate(shape)
    ]
    index = mg.tensor(np.random.default_rng(seed).integers(0, shape[d], index_shape))
    rows = mg.tensor(np.random.default_rng(seed).integers(-shape[d], shape[d], 5))
    x = normal(seed, shape, data.draw(orders))
    check(lambda x: (x.gather(d, index), x.index_select(d, rows)), x)


@given(seeds, broadcast_pairs())
@fewer
def test_masked_select(seed, pair):
    mask = mg.tensor(normal(seed, pair[1]) > 0)
    check(lambda x: x.masked_select(mask), normal(seed, pair[0]))


@given(seeds, shapes.filter(len), st.data())
@few
def test_cat_and_stack(seed, shape, data):
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for k, size in enumerate(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))):
        part = list(shape)
        part[d] = size
        parts.append(normal(seed + k, tuple(part), data.draw(orders)))
    check(lambda *xs: mg.cat(xs, d), *parts)
    same = [normal(seed + k, shape, data.draw(orders)) for k in range(2)]
    check(lambda x, y: mg.stack([x, y, x], d), *same)


def test_vstack_and_hstack():
    check(lambda x, y: (mg.vstack([x, y]), mg.hstack([x, x])), normal(0, (3,)), normal(1, (2, 3)))
    check(lambda x, y: mg.hstack([x, y]), normal(0, (2, 1)), normal(1, (2, 3)))


# 4. Products of matrices --------------------------------------------------------------------------------


@given(seeds, broadcast_pairs(), st.tuples(*[st.integers(0, 3)] * 3), orders, orders)
@few
def test_matmul(seed, batches, nkm, order_x, order_y):
    n, k, m = nkm
    x, y = normal(seed, (*batches[0], n, k), order_x), normal(seed + 1, (*batches[1], k, m), order_y)
    check(lambda x, y: x @ y, x, y)


@given(seeds, shapes.filter(len), st.integers(0, 3))
@fewer
def test_matmul_with_vectors(seed, shape, n):
    vector = normal(seed, shape[-1:])
    check(lambda x, y: x @ y, normal(seed + 1, shape), vector)
    check(lambda x, y: x @ y, vector, normal(seed + 1, (*shape, n)))
    check(lambda x, y: x.outer(y), vector, normal(seed + 1, (n,)))


EQUATIONS = [
    "ij,jk->ik",
    "ij,jk",
    "ij->ji",
    "ij->",
    "i,j->ij",
    "bij,bjk->bik",
    "bij,kj->b",
    "i,i->",
    "ij,k->jk",
]


@pytest.mark.parametrize("equation", [*EQUATIONS, "i, ij, j ->", "ab,bc,cd->da", "->", "AbC->Cb"])
def test_einsum(equation, rng):
    sizes = {c: 2 + i for i, c in enumerate("ijkabcdAC")}
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    check(
        lambda *xs: mg.einsum(equation, *xs),
        *[rng.standard_normal([sizes[c] for c in term]) for term in terms],
    )
