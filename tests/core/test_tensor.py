"""Shape and selection, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ArgumentError, DimError, DtypeError, ShapeError
from tests.core.support import ORDERS, broadcast_pairs, few, filled_shapes, normal, orders, seeds, shapes


def same(got: mg.Tensor, expected: Any) -> None:
    assert got.shape == np.shape(expected)
    np.testing.assert_array_equal(got.detach().numpy(), expected)


# 1. Shape -----------------------------------------------------------------------------------------------


@given(seeds, shapes, orders, st.data())
@few
def test_shape(seed, shape, order, data):
    x = normal(seed, shape, order)
    t = mg.Tensor(x)
    same(t.reshape(shape[::-1]), x.reshape(shape[::-1]))
    same(t.view(*shape[::-1]), x.reshape(shape[::-1]))
    same(t.flatten(), x.reshape(-1))
    same(t.ravel(), x.reshape(-1))
    same(t.T, x.T)
    same(t.squeeze(), x.squeeze())
    dims = data.draw(st.permutations(range(len(shape))))
    same(t.permute(dims), x.transpose(dims))
    same(t.permute(*dims), x.transpose(dims))
    d = data.draw(st.integers(-len(shape) - 1, len(shape)))
    same(t.unsqueeze(d), np.expand_dims(x, d))
    if shape:
        a, b = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
        same(t.transpose(a, b), np.swapaxes(x, a, b))
        same(t.swapaxes(a, b), np.swapaxes(x, a, b))
        same(t.flip(a), np.flip(x, a))
        same(t.squeeze(a), x.squeeze(a) if shape[a] == 1 else x)
        same(
            t.flip(tuple({a % len(shape), b % len(shape)})),
            np.flip(x, tuple({a % len(shape), b % len(shape)})),
        )
    if len(shape) > 1:
        same(t.mT, np.swapaxes(x, -1, -2))


def test_reshape():
    x = mg.arange(12)
    assert x.reshape(3, -1).shape == x.reshape((3, -1)).shape == x.reshape([3, 4]).shape == (3, 4)
    assert x.reshape(mg.tensor(3), np.int64(4)).shape == (3, 4)
    assert x.reshape(-1).shape == (12,)
    assert x.view_as(mg.zeros(2, 6)).shape == x.reshape_as(mg.zeros(2, 6)).shape == (2, 6)
    assert mg.zeros(0, 3).reshape(-1, 3).shape == (0, 3)
    assert mg.tensor(1.0).reshape(()).shape == ()


def test_flatten_some_dimensions():
    x = mg.zeros(2, 3, 4, 5)
    assert x.flatten(1).shape == (2, 60)
    assert x.flatten(1, 2).shape == (2, 12, 5)
    assert x.flatten(-2).shape == (2, 3, 20)
    assert x.flatten(0, 0).shape == x.shape
    assert mg.tensor(1.0).flatten().shape == (1,)
    assert mg.zeros(0, 3).flatten().shape == (0,)


def test_squeeze_several():
    assert mg.zeros(1, 2, 1).squeeze((0, -1)).shape == (2,)
    assert mg.zeros(1, 2, 1).squeeze((0, 1)).shape == (2, 1)


def test_transpose_of_matrices():
    x = mg.tensor([[1, 2, 3]])
    assert x.t().tolist() == [[1], [2], [3]]
    assert mg.tensor([1, 2]).t().tolist() == [1, 2]
    with pytest.raises(
        ShapeError, match=r"t: needs at most 2 dimensions, got shape \(1, 1, 1\); use permute"
    ):
        mg.zeros(1, 1, 1).t()


@given(seeds, broadcast_pairs())
@few
def test_stretching(seed, pair):
    x = normal(seed, pair[0])
    target = np.broadcast_shapes(*pair)
    same(mg.Tensor(x).broadcast_to(target), np.broadcast_to(x, target))
    same(mg.Tensor(x).expand(*target), np.broadcast_to(x, target))
    same(mg.Tensor(x).expand_as(mg.zeros(target)), np.broadcast_to(x, target))


def test_expand_keeps_sizes():
    assert mg.zeros(2, 1).expand(-1, 3).shape == (2, 3)
    assert mg.zeros(2, 1).expand(5, -1, -1).shape == (5, 2, 1)


@given(seeds, shapes, st.lists(st.integers(0, 2), max_size=5), orders)
@few
def test_repetition(seed, shape, times, order):
    x = normal(seed, shape, order)
    t = mg.Tensor(x)
    same(t.tile(times), np.tile(x, times))
    if len(times) >= len(shape):
        same(t.repeat(*times), np.tile(x, times))
    same(t.repeat_interleave(3), np.repeat(x, 3))
    if shape:
        same(t.repeat_interleave(2, -1), np.repeat(x, 2, -1))


@given(seeds, filled_shapes.filter(len), st.data())
@few
def test_pieces(seed, shape, data):
    x = normal(seed, shape)
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = data.draw(st.integers(1, 5))
    starts = range(size, shape[d], size)
    for got, expected in (
        (mg.Tensor(x).split(size, d), np.split(x, starts, d)),
        (mg.Tensor(x).split([1, shape[d] - 1], d), np.split(x, [1], d)),
        (mg.Tensor(x).unbind(d), list(np.moveaxis(x, d, 0))),
    ):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            same(a, b)


@pytest.mark.parametrize(
    ("total", "chunks", "sizes"),
    [(10, 3, [4, 4, 2]), (6, 3, [2, 2, 2]), (5, 4, [2, 2, 1]), (2, 5, [1, 1]), (0, 3, [0])],
)
def test_chunk(total, chunks, sizes):
    assert [len(piece) for piece in mg.zeros(total, 2).chunk(chunks)] == sizes
    assert [piece.shape[1] for piece in mg.zeros(2, total).chunk(chunks, -1)] == sizes


def test_split_of_nothing():
    assert [piece.shape for piece in mg.zeros(0, 3).split(2)] == [(0, 3)]


@pytest.mark.parametrize("diagonal", range(-4, 5))
@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (2, 3, 3), (0, 3)])
def test_triangles(shape, diagonal, rng):
    x = rng.standard_normal(shape)
    same(mg.Tensor(x).tril(diagonal), np.tril(x, diagonal))
    same(mg.Tensor(x).triu(diagonal), np.triu(x, diagonal))


def test_triangles_drop_what_is_not_finite():
    x = mg.full((2, 2), float("inf"))
    assert x.tril().tolist() == [[float("inf"), 0.0], [float("inf"), float("inf")]]
    assert mg.tensor([[1, 2], [3, 4]]).triu().dtype == mg.int64


# 2. Selection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(1),
        slice(1, 3),
        slice(None, None, -2),
        Ellipsis,
        None,
        (0, 1),
        (slice(None), 1, Ellipsis),
        (Ellipsis, None, -1),
        [2, 0, 0],
        [True, False, True],
        np.array([[0, 1], [2, -3]]),
        ([0, 2], [1, 1]),
        (slice(None), [1, 0], slice(1)),
        ([0, 1], slice(None), [1, 0]),
        np.arange(24).reshape(3, 4, 2) % 2 == 0,
        range(2),
        (),
        [],
    ],
)
def test_index(index, order):
    x = normal(0, (3, 4, 2), order)
    expected = x[np.array(index, dtype=int)] if isinstance(index, list) and not index else x[index]
    same(mg.Tensor(x)[index], np.asarray(expected))


def test_index_by_tensors():
    x = normal(0, (3, 4))
    t, i = mg.Tensor(x), mg.tensor([2, 0])
    same(t[i], x[[2, 0]])
    same(t[i, i], x[[2, 0], [2, 0]])
    same(t[:, i], x[:, [2, 0]])
    same(t[mg.tensor(1)], x[1])
    same(t[mg.tensor(1) : mg.tensor(3)], x[1:3])
    same(t[t > 0], x[x > 0])
    same(t[mg.tensor([1], dtype=mg.uint8)], x[[1]])


def test_views_and_copies():
    """Slices share memory, index arrays do not; as in NumPy and PyTorch."""
    x = mg.zeros(3, 3)
    for view in (x[0], x[:, 1], x[..., None], x.T, x.reshape(9), x.unbind(1)[2], x.split(1)[0], x.flip(0)):
        assert np.shares_memory(view.numpy(), x.numpy())
    for copy in (x[[0]], x[x > 1], x.clone(), x.gather(0, mg.tensor([[0]])), x.repeat(1, 1)[0] + 0):
        assert not np.shares_memory(copy.numpy(), x.numpy())


@given(seeds, filled_shapes.filter(len), st.data())
@few
def test_gather(seed, shape, data):
    """The definition: an element of the result for each element of the index."""
    d = data.draw(st.integers(-len(shape), len(shape) - 1))
    index_shape = [data.draw(st.integers(0, 3 if i == d % len(shape) else n)) for i, n in enumerate(shape)]
    x = normal(seed, shape, data.draw(orders))
    index = np.random.default_rng(seed).integers(0, shape[d], index_shape)
    expected = np.empty(index_shape)
    for place in np.ndindex(*index_shape):
        source = list(place)
        source[d] = index[place]
        expected[place] = x[tuple(source)]
    same(mg.Tensor(x).gather(d, mg.tensor(index)), expected)
    same(mg.gather(mg.Tensor(x), d, mg.tensor(index)), expected)


def test_gather_of_a_number():
    assert mg.tensor(3.0).gather(0, mg.tensor(0)).item() == 3.0


def test_other_selections():
    x = normal(0, (3, 4))
    t = mg.Tensor(x)
    same(t.index_select(1, mg.tensor([3, 3, 0])), x[:, [3, 3, 0]])
    same(t.index_select(-2, [0]), x[[0]])
    same(t.masked_select(t > 0), x[x > 0])
    same(t.masked_select(mg.tensor([True, False, True, False])), x[:, [0, 2]].reshape(-1))
    same(t[0].masked_select(t > 0), np.broadcast_to(x[0], x.shape)[x > 0])
    same((t > 0).nonzero(), np.argwhere(x > 0))
    assert mg.tensor(0).nonzero().shape == (0, 0)


@pytest.mark.parametrize("dtype", [mg.uint8, mg.int32, mg.int64])
def test_repeated_elements_add_up(dtype):
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x[mg.tensor([0, 2, 0, 0], dtype=dtype)]
    (y * mg.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [1101.0, 0.0, 10.0]


# 3. What is refused -------------------------------------------------------------------------------------

REFUSED = [
    (lambda x: x.reshape(4), ShapeError, r"reshape: shape \(2, 3\) has 6 elements, \(4,\) would have 4"),
    (lambda x: x.reshape(4, -1), ShapeError, r"reshape: cannot fit 6 elements of shape \(2, 3\) into \(4, -1\)"),
    (lambda x: x.reshape(-1, -1), ShapeError, "sizes must be at least 0, with one -1 at most"),
    (lambda x: x.view(2.0, 3), ArgumentError, "reshape: size must be a whole number, got 2.0"),
    (lambda x: x.permute(0), ArgumentError, r"permute: \(0,\) must name each of the 2 dimensions once"),
    (lambda x: x.permute(0, 0), ArgumentError, r"permute: \(0, 0\) must name"),
    (lambda x: x.transpose(0, 2), DimError, r"transpose: dim 2 is out of range for a tensor with 2 dimensions"),
    (lambda x: x.unsqueeze(4), DimError, "unsqueeze: dim 4 is out of range"),
    (lambda x: x.squeeze(2), DimError, "squeeze: dim 2 is out of range"),
    (lambda x: x.flatten(1, 0), ArgumentError, "flatten: start_dim 1 lies behind end_dim 0"),
    (lambda x: x.flatten(0, 2), DimError, "flatten: dim 2"),
    (lambda x: x.expand(2, 4), ShapeError, "broadcast_to: shapes"),
    (lambda x: x.expand(3), ShapeError, r"broadcast_to: shape \(2, 3\) cannot be stretched to \(3,\)"),
    (lambda x: x.broadcast_to(1, 3), ShapeError, "cannot be stretched"),
    (lambda x: x.repeat(2), ArgumentError, r"repeat: needs at least 2 sizes, none below 0, got \(2,\)"),
    (lambda x: x.repeat(2, -1), ArgumentError, "none below 0"),
    (lambda x: x.split(0), ArgumentError, "split: size must be at least 1, got 0"),
    (lambda x: x.split([1, 2]), ArgumentError, r"split: sizes \[1, 2\] do not add up to 2, the size of dim"),
    (lambda x: x.split(1, 2), DimError, "split: dim 2"),
    (lambda x: mg.tensor(1.0).split(1), ShapeError, "split: a 0-d tensor has no dimension to split"),
    (lambda x: x.chunk(0), ArgumentError, "chunk: chunks must be at least 1, got 0"),
    (lambda x: x.chunk(2, 5), DimError, "chunk: dim 5"),
    (lambda x: x.unbind(2), DimError, "unbind: dim 2"),
    (lambda x: x[0].tril(), ShapeError, r"tril: needs at least 2 dimensions, got shape \(3,\)"),
    (lambda x: x[0].triu(), ShapeError, "triu: needs at least 2 dimensions"),
    (lambda x: x[2], IndexError, "index 2 is out of bounds"),
    (lambda x: x[0, 0, 0], IndexError, "too many indices"),
    (lambda x: x[mg.tensor([1.0])], DtypeError, "an array used as an index must hold integers or bools, not float32"),
    (lambda x: x[[0.5]], DtypeError, "an array used as an index must hold integers or bools, not float64"),
    (lambda x: x[[0, 7]], IndexError, "index 7 is out of bounds"),
    (lambda x: x[mg.tensor([True])], IndexError, "boolean index did not match"),
    (lambda x: x["a"], IndexError, "only integers, slices"),
    (lambda x: x.gather(0, [[0]]), DtypeError, "gather: the index must be an integer tensor"),
    (lambda x: x.gather(0, x), DtypeError, "gather: the index must be an integer tensor, got float32"),
    (lambda x: x.gather(0, mg.tensor([0])), ShapeError, r"gather: an index of shape \(1,\) does not fit"),
    (lambda x: x.gather(0, mg.zeros(1, 4).long()), ShapeError, "as many dimensions, none but dimension 0 larger"),
    (lambda x: x.gather(1, mg.tensor([[3]])), IndexError, "index 3 is out of bounds"),
    (lambda x: x.masked_select(mg.ones(2) > 0), ShapeError, "masked_select: shapes"),
    (lambda x: x.index_select(2, [0]), DimError, "index_select: dim 2"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(mg.ones(2, 3))
