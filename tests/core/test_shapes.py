"""Arithmetic on shapes, against NumPy and against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad import shapes
from minigrad.errors import ArgumentError, DimError, ShapeError
from tests.core.support import broadcast_pairs, few
from tests.core.support import shapes as some_shapes

any_shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@given(any_shapes, any_shapes, any_shapes)
@few
def test_broadcast_shapes(a, b, c):
    try:
        expected = np.broadcast_shapes(a, b, c)
    except ValueError:
        with pytest.raises(
            ShapeError, match="op: shapes .* do not broadcast: aligned at the right, dimension -"
        ):
            shapes.broadcast_shapes("op", a, b, c)
    else:
        assert shapes.broadcast_shapes("op", a, b, c) == expected


@given(broadcast_pairs())
@few
def test_broadcast_shapes_of_pairs(pair):
    assert shapes.broadcast_shapes("op", *pair) == np.broadcast_shapes(*pair)


def test_broadcast_message():
    with pytest.raises(ShapeError) as caught:
        shapes.broadcast_shapes("add", (4, 3), (2, 3))
    assert str(caught.value) == (
        "add: shapes (4, 3) and (2, 3) do not broadcast: aligned at the right, "
        "dimension -2 has sizes 4 and 2 and neither is 1"
    )
    assert shapes.broadcast_shapes("add") == ()


@given(some_shapes, st.integers(-6, 6))
@few
def test_normalize_dim(shape, dim):
    limit = max(len(shape), 1)
    if -limit <= dim < limit:
        assert shapes.normalize_dim(dim, len(shape), "op") == list(range(limit))[dim]
    else:
        with pytest.raises(
            DimError, match=rf"op: dim {dim} is out of range for a tensor with {len(shape)} dim"
        ):
            shapes.normalize_dim(dim, len(shape), "op")


def test_normalize_dims():
    assert shapes.normalize_dims(None, 3, "op") == (0, 1, 2)
    assert shapes.normalize_dims(-1, 3, "op") == (2,)
    assert shapes.normalize_dims([2, 0], 3, "op") == (0, 2)
    assert shapes.normalize_dims((), 3, "op") == ()
    assert shapes.normalize_dims(0, 0, "op") == shapes.normalize_dims(None, 0, "op") == ()
    with pytest.raises(ArgumentError, match=r"op: dim \(1, -2\) names a dimension twice"):
        shapes.normalize_dims((1, -2), 3, "op")
    with pytest.raises(ArgumentError, match="op: dim must be a whole number, got True"):
        shapes.normalize_dims(True, 3, "op")


@given(some_shapes, st.lists(st.integers(-1, 12), max_size=4))
@few
def test_resolve_reshape(shape, new):
    """The same answer as NumPy, or an error where NumPy has one (and where NumPy guesses a -1 of no elements)."""
    try:
        expected = np.zeros(shape).reshape(new).shape
    except ValueError:
        with pytest.raises(ShapeError, match="reshape: "):
            shapes.resolve_reshape(shape, new)
    else:
        assert shapes.resolve_reshape(shape, new) == expected


def test_as_size_and_as_int():
    assert shapes.as_size("zeros", ()) == ()
    assert shapes.as_size("zeros", (2,)) == shapes.as_size("zeros", ([2],)) == (2,)
    assert shapes.as_size("zeros", (np.int64(2), np.uint8(3))) == (2, 3)
    assert type(shapes.as_int(np.int64(2), "n")) is int
    for wrong in (2.0, "2", None, True, [2]):
        with pytest.raises(ArgumentError, match="n must be a whole number, got"):
            shapes.as_int(wrong, "n")


def test_pair():
    assert shapes.pair(2) == shapes.pair((2, 2)) == (2, 2)
    assert shapes.pair([1, 2], "stride") == (1, 2)
    for wrong in ((1,), (1, 2, 3)):
        with pytest.raises(
            ArgumentError, match=r"stride must be one whole number or two \(height, width\), got"
        ):
            shapes.pair(wrong, "stride")
    for wrong in (1.5, (1, 1.5), "a"):
        with pytest.raises(ArgumentError, match="stride must be a whole number"):
            shapes.pair(wrong, "stride")


def count_windows(size: int, span: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Step by step: a window counts if it fits into the padded input.

    With ceil_mode also one that sticks out, if something is left uncovered and it starts before the end.
    """
    count = 0
    while True:
        start = count * stride - padding
        fits = start + span <= size + padding
        last_end = start - stride + span
        if not fits and not (ceil_mode and start < size and last_end < size + padding):
            return count
        count += 1


@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 2),
    st.integers(1, 3),
    st.booleans(),
)
@settings(few, max_examples=300)
def test_output_size(size, kernel, stride, padding, dilation, ceil_mode):
    span = dilation * (kernel - 1) + 1
    padding = min(padding, span // 2)  # more is refused by the layers
    got = shapes.output_size(size, kernel, stride, padding, dilation, ceil_mode)
    assert max(got, 0) == count_windows(size, span, stride, padding, ceil_mode)


def test_reduced_shape():
    assert shapes.reduced_shape((2, 3, 4), (1,)) == (2, 1, 4)
    assert shapes.reduced_shape((), ()) == ()
