"""linear: against loops and PyTorch, in every shape of x, and its gradients."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import DtypeError, ShapeError
from tests import oracles
from tests.nn import support
from tests.nn.support import assert_close, check_gradients, compare, few, ordered, run


@st.composite
def products(draw: Any) -> list[np.ndarray]:
    """x (..., in), weight (out, in) and perhaps bias (out,)."""
    rng = np.random.default_rng(draw(support.seeds))
    dtype = draw(support.dtypes)
    before = draw(st.lists(support.between(0, 4), max_size=3))
    inputs, outputs = draw(support.between(1, 5)), draw(support.between(1, 5))
    shapes = [(*before, inputs), (outputs, inputs)] + [(outputs,)] * draw(st.booleans())
    return [ordered(rng.standard_normal(shape).astype(dtype), draw(support.orders)) for shape in shapes]


@few
@given(products())
def test_equals_the_loops(arrays):
    (y,), _ = run(F.linear, arrays)
    assert y.dtype == arrays[0].dtype
    assert_close(y, oracles.linear(*arrays))


@pytest.mark.parity
@few
@given(arrays=products())
def test_equals_torch(torch, arrays):
    compare(torch, F.linear, torch.nn.functional.linear, arrays)


@few
@given(products())
def test_gradients_of_x_weight_and_bias(arrays):
    if all(a.size for a in arrays):
        check_gradients(F.linear, [a.astype(np.float64) for a in arrays])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_an_empty_batch_gives_an_empty_result_and_zero_gradients(shape):
    (y,), (gx, gw, gb) = run(F.linear, [np.zeros(shape), np.ones((4, 3)), np.ones(4)])
    assert y.shape == (*shape[:-1], 4)
    assert gx.shape == shape
    assert not gw.any()
    assert not gb.any()


def test_gradients_are_only_computed_where_asked_for():
    for needed in range(3):
        tensors = [mg.ones(2, 3), mg.ones(4, 3), mg.ones(4)]
        tensors[needed].requires_grad_()
        F.linear(*tensors).sum().backward()
        assert [t.grad is not None for t in tensors] == [i == needed for i in range(3)]


def test_wrong_number_of_features_says_which_and_what_to_do():
    with pytest.raises(ShapeError) as caught:
        F.linear(mg.zeros(2, 3), mg.zeros(5, 4))
    assert str(caught.value).splitlines() == [
        "linear: weight expects 4 input features, x has 3",
        "  x       (2, 3)  ... in",
        "  weight  (5, 4)  out in",
        "  hint: use Linear(3, 5)",
    ]


def test_pictures_without_flatten_are_recognised():
    with pytest.raises(ShapeError, match=r"put nn.Flatten\(\) before the first Linear"):
        F.linear(mg.zeros(64, 16, 4, 4), mg.zeros(120, 256))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((mg.zeros(()), mg.zeros(5, 4)), ShapeError, "weight expects 4 input features, x has no dimension"),
        ((mg.zeros(2, 4), mg.zeros(4)), ShapeError, r"weight +\(4,\)"),
        (
            (mg.zeros(2, 4), mg.zeros(5, 4), mg.zeros(4)),
            ShapeError,
            r"bias has shape \(4,\), expected \(5,\)",
        ),
        ((mg.zeros(2, 4).double(), mg.zeros(5, 4)), DtypeError, "linear: x is float64, weight is float32"),
        (
            (mg.zeros(2, 4).long(), mg.zeros(5, 4)),
            DtypeError,
            "linear: x is int64, weight is float32; convert one",
        ),
        ((mg.zeros(2, 4), mg.zeros(5, 4), mg.zeros(5).double()), DtypeError, "x is float32, bias is float64"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        F.linear(*arguments)
