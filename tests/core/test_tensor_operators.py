"""Arithmetic, comparison and functions of each element, against NumPy's results in float64."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from tests.core.support import ORDERS, broadcast_pairs, few, normal, orders, seeds

ARITHMETIC = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]
NUMBERS = [2, -3, 0.7, True]


def names(op):
    return op.__name__


def same(got: mg.Tensor, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12, atol=1e-13)


# 1. Operators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ARITHMETIC, ids=names)
@given(seeds, broadcast_pairs(), orders, orders)
@few
def test_two_tensors(op, seed, pair, order_x, order_y):
    x, y = normal(seed, pair[0], order_x), normal(seed + 1, pair[1], order_y)
    if op in (operator.eq, operator.ne):
        x, y = x.round(), y.round()
    same(op(mg.Tensor(x), mg.Tensor(y)), np.asarray(op(x, y)))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("op", ARITHMETIC, ids=names)
def test_a_number_on_either_side(op, number, rng):
    x = rng.standard_normal((2, 3))
    same(op(mg.Tensor(x), number), op(x, number))
    same(op(number, mg.Tensor(x)), op(number, x))


@pytest.mark.parametrize("op", ARITHMETIC, ids=names)
def test_an_array_on_either_side(op, rng):
    """NumPy leaves the calculation to the tensor, and the result stays in the graph."""
    x, y = rng.standard_normal((2, 3)), rng.standard_normal(3)
    t = mg.Tensor(y, requires_grad=True)
    for got, expected in ((op(x, t), op(x, y)), (op(t, x), op(y, x)), (op(np.float64(2), t), op(2.0, y))):
        assert isinstance(got, mg.Tensor)
        assert got.requires_grad == (
            op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.mod)
        )
        same(got, expected)


def test_powers(rng):
    x, y = rng.random((2, 3)) + 0.5, rng.standard_normal(3)
    same(mg.Tensor(x) ** mg.Tensor(y), x**y)
    same(mg.Tensor(x) ** -2, x**-2)
    same(2 ** mg.Tensor(y), 2**y)
    same(x ** mg.Tensor(y), x**y)
    same(mg.Tensor(y) ** 3, y**3)
    assert (mg.tensor([1, 2, 3]) ** 2).tolist() == [1, 4, 9]
    assert (mg.tensor([0.0, 2.0]) ** 0).tolist() == [1.0, 1.0]


def test_powers_of_zero():
    """0**2, 0**1, 0**0 and 2**3: no NaN in the gradients; y ln(a) is 0 at a = 0."""
    a = mg.tensor([0.0, 0.0, 0.0, 2.0], dtype=mg.float64, requires_grad=True)
    b = mg.tensor([2.0, 1.0, 0.0, 3.0], dtype=mg.float64, requires_grad=True)
    y = a**b
    y.sum().backward()
    assert y.tolist() == [0.0, 0.0, 1.0, 8.0]
    assert a.grad.tolist() == [0.0, 1.0, 0.0, 12.0]
    np.testing.assert_allclose(b.grad.numpy(), [0.0, 0.0, 0.0, 8 * np.log(2)])


def test_powers_with_a_number_at_zero():
    x = mg.tensor([0.0, 2.0], requires_grad=True)
    (x**0 + x**1 + 0**x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_integers():
    x, y = mg.tensor([7, -7]), mg.tensor([2, 2])
    assert (x // y).tolist() == [3, -4]
    assert (x % y).tolist() == [1, 1]
    assert (x / y).tolist() == [3.5, -3.5]
    assert (x / y).dtype == mg.float32
    assert (7 // y).tolist() == [3, 3]
    assert (7 % y).tolist() == [1, 1]
    assert (x & 3).tolist() == [3, 1]
    assert (1 | y).tolist() == [3, 3]
    assert (x ^ y).tolist() == [5, -5]
    assert (~y).tolist() == [-3, -3]
    assert (-x).tolist() == [-7, 7]
    assert abs(x).tolist() == [7, 7]
    assert (+x) is x


def test_bools():
    x, y = mg.tensor([True, True, False]), mg.tensor([True, False, False])
    array = y.numpy()
    for other in (y, array):
        assert (x & other).tolist() == [True, False, False]
        assert (x | other).tolist() == [True, True, False]
        assert (x ^ other).tolist() == [False, True, False]
        assert (other & x).tolist() == [True, False, False]
        assert (other | x).tolist() == [True, True, False]
        assert (other ^ x).tolist() == [False, True, False]
    assert (~x).tolist() == [False, False, True]
    assert (x * 2).tolist() == [2, 2, 0]
    assert (x * 0.5).dtype == mg.float32


def test_logical_methods_look_at_zero():
    x, y = mg.tensor([0.0, 1.5, -2.0]), mg.tensor([4, 0, 2])
    assert x.logical_and(y).tolist() == [False, False, True]
    assert x.logical_or(y).tolist() == [True, True, True]
    assert x.logical_not().tolist() == [True, False, False]
    assert y.logical_not().tolist() == [False, True, False]


def test_comparison_with_what_is_no_number():
    x = mg.ones(2)
    for other in (None, "a", {}, object()):
        assert (x == other) is False
        assert (x != other) is True
        with pytest.raises(TypeError, match="not supported between"):
            _ = x < other


def test_comparisons_are_outside_of_the_graph():
    x = mg.ones(2, requires_grad=True)
    for y in (x > 0, x == x, x // 1, x.floor(), x.sign(), x.isnan(), x.round(), x.ceil()):
        assert not y.requires_grad


# 2. Methods ---------------------------------------------------------------------------------------------

UNARY = {
    "exp": np.exp,
    "log1p": lambda x: np.log1p(abs(x)),
    "log": lambda x: np.log(abs(x)),
    "sqrt": lambda x: np.sqrt(abs(x)),
    "rsqrt": lambda x: 1 / np.sqrt(abs(x)),
    "reciprocal": lambda x: 1 / abs(x),
    "square": lambda x: x * x,
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "neg": lambda x: -x,
    "negative": lambda x: -x,
    "isnan": np.isnan,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
}
OF_POSITIVE = {"log", "log1p", "sqrt", "rsqrt", "reciprocal"}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", [(), (0,), (3, 1, 2)])
@pytest.mark.parametrize("order", ORDERS)
def test_unary(name, shape, order):
    x = normal(5, shape, order) * 3
    same(getattr(mg.Tensor(abs(x) if name in OF_POSITIVE else x), name)(), np.asarray(UNARY[name](x)))


def test_special_numbers():
    x = mg.tensor([float("nan"), float("inf"), -float("inf"), 0.0])
    assert x.isnan().tolist() == [True, False, False, False]
    assert x.isinf().tolist() == [False, True, True, False]
    assert x.isfinite().tolist() == [False, False, False, True]
    assert mg.tensor([0.5, 1.5, 2.5, -0.5]).round().tolist() == [0.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "rsqrt", "sin", "cos", "log1p", "reciprocal"])
def test_integers_become_floats(name):
    assert getattr(mg.tensor([1, 2]), name)().dtype == mg.float32


@pytest.mark.parametrize("name", ["abs", "neg", "square", "sign", "floor", "ceil", "round", "clone"])
def test_integers_stay_integers(name):
    y = getattr(mg.tensor([-2, 3], dtype=mg.int32), name)()
    assert y.dtype == mg.int32


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x, y: x.add(y), lambda x, y: x + y),
        (lambda x, y: x.add(y, alpha=3), lambda x, y: x + 3 * y),
        (lambda x, y: x.sub(y, alpha=3), lambda x, y: x - 3 * y),
        (lambda x, y: x.subtract(y), lambda x, y: x - y),
        (lambda x, y: x.mul(y), lambda x, y: x * y),
        (lambda x, y: x.multiply(2), lambda x, y: x * 2),
        (lambda x, y: x.div(y), lambda x, y: x / y),
        (lambda x, y: x.divide(y), lambda x, y: x / y),
        (lambda x, y: x.true_divide(2), lambda x, y: x / 2),
        (lambda x, y: x.pow(2), lambda x, y: x**2),
        (lambda x, y: x.maximum(y), np.maximum),
        (lambda x, y: x.minimum(0.5), lambda x, y: np.minimum(x, 0.5)),
        (lambda x, y: x.max(y), np.maximum),
        (lambda x, y: x.min(y), np.minimum),
        (lambda x, y: x.eq(y), lambda x, y: x == y),
        (lambda x, y: x.ne(y), lambda x, y: x != y),
        (lambda x, y: x.lt(y), lambda x, y: x < y),
        (lambda x, y: x.le(0), lambda x, y: x <= 0),
        (lambda x, y: x.gt(y), lambda x, y: x > y),
        (lambda x, y: x.ge(0), lambda x, y: x >= 0),
        (lambda x, y: x.clip(-0.5, 0.5), lambda x, y: np.clip(x, -0.5, 0.5)),
        (lambda x, y: x.clamp(min=0), lambda x, y: np.maximum(x, 0)),
        (lambda x, y: x.clip(y, y + 1), lambda x, y: np.clip(x, y, y + 1)),
        (lambda x, y: x.clip(max=mg.tensor(0.1).double()), lambda x, y: np.minimum(x, np.float32(0.1))),
        (lambda x, y: x.masked_fill(x > 0, -1), lambda x, y: np.where(x > 0, -1, x)),
        (lambda x, y: x.masked_fill(y.numpy() > 0, y[0]), lambda x, y: np.where(y > 0, y[0], x)),
        (lambda x, y: x[0].outer(y), lambda x, y: np.outer(x[0], y)),
    ],
)
def test_binary_methods(call, expected, rng):
    x, y = rng.standard_normal((2, 3)), rng.standard_normal(3)
    same(call(mg.Tensor(x), mg.Tensor(y)), expected(x, y))


def test_ties_share_the_gradient():
    """Half each for two operands, as in PyTorch; nothing for a number."""
    for name in ("maximum", "minimum"):
        x, y = (mg.tensor([1.0, 2.0, 2.0], requires_grad=True) for _ in range(2))
        (getattr(x, name)(y) * mg.tensor([1.0, 2.0, 3.0])).sum().backward()
        assert x.grad.tolist() == y.grad.tolist() == [0.5, 1.0, 1.5]
    x = mg.tensor([0.0], requires_grad=True)
    x.maximum(0.0).backward()
    assert x.grad.item() == 0.5


def test_limits_pass_the_gradient_on():
    """On a limit the gradient of clip is 1, beyond it 0."""
    x = mg.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    x.clip(-1.0, 1.0).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    x.grad = None
    x.clip(mg.tensor(-1.0), mg.tensor(1.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_slope_of_abs_at_zero():
    x = mg.tensor([0.0, -1.0], requires_grad=True)
    x.abs().sum().backward()
    assert x.grad.tolist() == [0.0, -1.0]


# 3. What is refused -------------------------------------------------------------------------------------

REFUSED = [
    (lambda x: x + mg.ones(2), ShapeError, r"add: shapes \(3,\) and \(2,\) do not broadcast: .* sizes 3 and 2"),
    (lambda x: x == mg.ones(2), ShapeError, "eq: shapes"),
    (lambda x: x.maximum(mg.ones(2, 2)), ShapeError, "maximum: shapes"),
    (lambda x: x.masked_fill(mg.ones(2) > 0, 0), ShapeError, "masked_fill: shapes"),
    (lambda x: mg.where(mg.ones(2) > 0, x, x), ShapeError, "where: shapes"),
    (lambda x: x * np.float64(2), DtypeError, r"mul: a NumPy float64 scalar meets a float32 tensor; write float"),
    (lambda x: np.float64(2) - x, DtypeError, "sub: a NumPy float64 scalar meets a float32 tensor"),
    (lambda x: x / np.ones(3), DtypeError, r"div: a float64 array meets a float32 tensor; convert one of them"),
    (lambda x: np.ones(3) @ x, DtypeError, "matmul: a float64 array meets a float32 tensor"),
    (lambda x: x.clip(np.float64(0)), DtypeError, "clip: a NumPy float64 scalar meets"),
    (lambda x: x.masked_fill(x > 0, np.float64(0)), DtypeError, "masked_fill: a NumPy float64 scalar meets"),
    (lambda x: x + np.ones(3, complex), DtypeError, "dtype complex128 is not supported"),
    (lambda x: x + 1j, TypeError, "unsupported operand"),
    (lambda x: x + None, TypeError, "unsupported operand"),
    (lambda x: x * "a", DtypeError, "mul: expected a tensor, an array or a number, got str"),
    (lambda x: x.mul([1, 2, 3]), DtypeError, "mul: expected a tensor, an array or a number, got list"),
    (lambda x: x.maximum("a"), DtypeError, "maximum: expected a tensor, an array or a number, got str"),
    (lambda x: x.minimum(None), DtypeError, "minimum: expected a tensor, an array or a number, got NoneType"),
    (lambda x: x.eq("a"), DtypeError, "eq: expected a tensor"),
    (lambda x: x.clip("a"), DtypeError, "clip: min and max have to be numbers or tensors"),
    (lambda x: x.clip(), ArgumentError, "clip: give min, max or both"),
    (lambda x: x.masked_fill(x, 0.0), DtypeError, "masked_fill: the mask must be a bool tensor, got float32"),
    (lambda x: x.masked_fill(True, 0.0), DtypeError, "masked_fill: the mask must be a bool tensor"),
    (lambda x: x.masked_fill(x > 0, "a"), DtypeError, "masked_fill: expected a number or a tensor, got str"),
    (lambda x: x & (x > 0), DtypeError, r"and: needs bools or integers; write \(x > 0\) & \(y > 0\)"),
    (lambda x: (x > 0) | 0.5, DtypeError, "or: needs bools or integers"),
    (lambda x: (x > 0) ^ np.ones(3), DtypeError, "xor: needs bools or integers"),
    (lambda x: ~x, DtypeError, "~x: needs bools or integers, got float32"),
    (lambda x: -(x > 0), DtypeError, "neg: a bool tensor has no negative; use ~x"),
    (lambda x: x.long() ** -1, DtypeError, "pow: int64 to the power -1 is not a whole number; use .float()"),
    (lambda x: x @ mg.ones(2), ShapeError, r"matmul: \(3,\) @ \(2,\) does not fit: .* first, 3, must equal the only"),
    (lambda x: mg.ones(2, 3) @ mg.ones(2, 3), ShapeError, "must equal the second last one of the second, 2"),
    (lambda x: mg.ones(2, 3, 3) @ mg.ones(5, 3, 2), ShapeError, r"matmul: batch: shapes \(2,\) and \(5,\) do not"),
    (lambda x: x @ mg.tensor(1.0), ShapeError, r"matmul: both operands need at least 1 dimension, got \(3,\) and \(\)"),
    (lambda x: x @ x.double(), DtypeError, "matmul: dtypes differ, float32 and float64; convert one"),
    (lambda x: x @ 2, TypeError, "unsupported operand"),
    (lambda x: x.matmul(2), TypeError, "unsupported operand"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(mg.ones(3))
