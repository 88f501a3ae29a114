"""What a tensor is, conversions to Python and NumPy, to other dtypes, and how it prints."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DtypeError, GradientError, ShapeError

# 1. What it is ------------------------------------------------------------------------------------------


def test_properties():
    x = mg.zeros(2, 3, dtype=mg.float64)
    assert (x.shape, x.size(), x.size(0), x.size(-1)) == ((2, 3), (2, 3), 2, 3)
    assert (x.ndim, x.dim(), x.numel(), x.nelement(), len(x)) == (2, 2, 6, 6, 2)
    assert (x.dtype, x.element_size(), x.is_floating_point()) == (mg.float64, 8, True)
    assert (x.device, x.is_cuda, x.is_contiguous(), x.T.is_contiguous()) == ("cpu", False, True, False)
    assert not mg.zeros(2, dtype=mg.int64).is_floating_point()
    assert x.contiguous() is x
    assert x.T.contiguous().tolist() == x.T.tolist()
    with pytest.raises(IndexError, match="size: dim 2 is out of range for a tensor with 2 dimensions"):
        x.size(2)


def test_wrapping_does_not_copy():
    array = np.ones(3)
    x = mg.Tensor(array)
    assert x.array is array
    assert x.dtype == mg.float64


def test_wrapping_lists_and_numbers():
    assert mg.Tensor([1, 2]).dtype == mg.float32
    assert mg.Tensor(2).shape == ()
    assert mg.Tensor(np.float64(2)).dtype == mg.float64  # a NumPy scalar knows its dtype
    assert mg.Tensor(np.array([1, 2])).dtype == mg.int64


def test_wrong_wrapping():
    with pytest.raises(DtypeError, match=r"x is a Tensor already \(use x.detach\(\) or x.clone\(\)\)"):
        mg.Tensor(mg.ones(2))
    with pytest.raises(ArgumentError, match=r"Tensor\(array\) wraps one array; .*use zeros\(2, 3\)"):
        mg.Tensor(2, 3)
    for array in (np.array(["a"]), np.array([1j]), np.array([None])):
        with pytest.raises(DtypeError, match="a tensor holds real numbers or bools, not"):
            mg.Tensor(array)


# 2. To Python -------------------------------------------------------------------------------------------


def test_item():
    assert mg.tensor([[2.5]]).item() == 2.5
    assert type(mg.tensor(2.5).item()) is float
    assert type(mg.tensor(2).item()) is int
    assert type(mg.tensor(True).item()) is bool
    assert mg.tensor(2.5, requires_grad=True).item() == 2.5
    for shape in ((2,), (0,)):
        with pytest.raises(ShapeError, match=r"item: needs a tensor with one element, this one has shape"):
            mg.zeros(shape).item()


def test_numbers():
    x = mg.tensor([2.75])
    assert (float(x), int(x), bool(x), bool(mg.tensor(0.0))) == (2.75, 2, True, False)
    assert math.sqrt(mg.tensor(4.0)) == 2.0
    assert list("abc")[mg.tensor(1)] == "b"
    assert list(range(mg.tensor(3))) == [0, 1, 2]
    with pytest.raises(DtypeError, match="only an integer tensor can be an index, this one is float32"):
        list("abc")[mg.tensor(1.0)]
    for function in (float, int):
        with pytest.raises(ShapeError, match=r"needs a tensor with one element, this one has shape \(2,\)"):
            function(mg.ones(2))


def test_truth():
    assert mg.tensor([[3]])
    assert not mg.tensor(False)
    for shape in ((2,), (0,)):
        with pytest.raises(ShapeError, match=r"ambiguous; use .any\(\), .all\(\) or an element"):
            bool(mg.zeros(shape))
    with pytest.raises(ShapeError, match="ambiguous"):
        bool(mg.ones(2) == mg.ones(2))


def test_length_and_iteration():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert [row.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]]
    _, b = x
    assert b.tolist() == [3.0, 4.0]
    assert [y.item() for y in reversed(mg.tensor([1, 2, 3]))] == [3, 2, 1]
    assert list(mg.zeros(0, 3)) == []
    with pytest.raises(TypeError, match="len: a 0-d tensor has no length"):
        len(mg.tensor(1.0))
    with pytest.raises(TypeError, match=r"a 0-d tensor cannot be iterated over; use .item\(\)"):
        list(mg.tensor(1.0))


def test_iteration_is_differentiable():
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    sum(k * y for k, y in enumerate(x)).backward()
    assert x.grad.tolist() == [0.0, 1.0, 2.0]


def test_membership():
    x = mg.tensor([[1, 2], [3, 4]])
    assert 3 in x
    assert 5 not in x
    assert mg.tensor(4) in x
    assert "a" not in x
    assert None not in x


def test_identity_is_the_hash():
    x, y = mg.ones(2), mg.ones(2)
    assert len({x, y, x}) == 2
    assert {x: "x"}[x] == "x"


# 3. To NumPy --------------------------------------------------------------------------------------------


def test_numpy_shares_memory():
    x = mg.zeros(2)
    x.numpy()[0] = 3
    assert x.tolist() == [3.0, 0.0]
    np.asarray(x)[1] = 4
    assert x.tolist() == [3.0, 4.0]


def test_array_protocol():
    x = mg.tensor([1.0, 2.0])
    assert np.asarray(x).dtype == np.float32
    assert np.asarray(x, dtype=np.float64).tolist() == [1.0, 2.0]
    copied = np.array(x)
    copied[0] = 9
    assert x.tolist() == [1.0, 2.0]
    assert np.stack([x, x]).shape == (2, 2)
    assert np.array([mg.tensor(1), mg.tensor(2)]).tolist() == [1, 2]
    np.testing.assert_array_equal(x, [1.0, 2.0])
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float64, copy=False)


def test_numpy_of_a_graph_is_refused():
    message = r"numpy: this tensor requires gradients; use .detach\(\).numpy\(\)"
    x = mg.ones(2, requires_grad=True)
    for call in (x.numpy, (x * 2).numpy, lambda: np.asarray(x), lambda: np.sum(np.asarray(x * 2))):
        with pytest.raises(GradientError, match=message):
            call()
    assert x.detach().numpy().tolist() == [1.0, 1.0]
    assert x.tolist() == [1.0, 1.0]  # a copy, so there is no danger


def test_numpy_functions_do_not_take_tensors_apart():
    """np.exp(x) would lose the graph without a word."""
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(mg.ones(2))


# 4. To another dtype ------------------------------------------------------------------------------------


def test_dtype_methods():
    x = mg.tensor([0.0, 1.5, -2.5])
    for y, dtype, values in (
        (x.double(), mg.float64, [0.0, 1.5, -2.5]),
        (x.half(), mg.float16, [0.0, 1.5, -2.5]),
        (x.long(), mg.int64, [0, 1, -2]),
        (x.int(), mg.int32, [0, 1, -2]),
        (x.bool(), mg.bool, [False, True, True]),
        (x.long().float(), mg.float32, [0.0, 1.0, -2.0]),
        (x.type(mg.int8), mg.int8, [0, 1, -2]),
        (x.astype("float64"), mg.float64, [0.0, 1.5, -2.5]),
        (x.to(int), mg.int64, [0, 1, -2]),
        (x.to(float), mg.float32, [0.0, 1.5, -2.5]),
    ):
        assert (y.dtype, y.tolist()) == (dtype, values)
    assert x.float() is x


def test_to():
    x = mg.tensor([1.5])
    assert x.to("cpu") is x
    assert x.to(mg.float32) is x
    assert x.to(x) is x
    assert x.to(None) is x
    assert x.to("cpu", mg.float64).dtype == mg.float64
    assert x.to("float64").dtype == mg.float64
    assert x.to(dtype=mg.float64, device="cpu").dtype == mg.float64
    assert x.to(mg.tensor(1)).dtype == mg.int64
    assert x.to("cpu", non_blocking=True) is x
    y = x.to("cpu", copy=True)
    assert y is not x
    assert not np.shares_memory(x.numpy(), y.numpy())
    with pytest.raises(ArgumentError, match="unknown device 'gpu': use 'cpu', 'cuda' or 'cuda:0'"):
        x.to("gpu")
    with pytest.raises(DtypeError, match="dtype complex128 is not supported; use one of bool, float16"):
        x.to(complex)
    with pytest.raises(DtypeError, match="None is not a dtype; use minigrad.float32"):
        x.type(None)


def test_casts_carry_gradients():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x.double() * mg.tensor([3.0, 4.0], dtype=mg.float64)).half().sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]
    assert x.grad.dtype == mg.float32
    assert not x.long().requires_grad


def test_new_tensors_like_this_one():
    x = mg.zeros(2, dtype=mg.float64)
    for y, value in ((x.new_zeros(2, 3), 0.0), (x.new_ones((2, 3)), 1.0), (x.new_full((2, 3), 7), 7.0)):
        assert (y.dtype, y.shape, y.requires_grad) == (mg.float64, (2, 3), False)
        assert (y == value).all()
    assert x.new_ones(2, dtype=mg.int64, device="cpu").dtype == mg.int64
    assert x.new_zeros(2, requires_grad=True).requires_grad
    assert x.new_empty(3).shape == (3,)
    with pytest.raises(ArgumentError, match="new_zeros: sizes must be at least 0"):
        x.new_zeros(-1)


# 5. Printing --------------------------------------------------------------------------------------------


def tensor64(data):
    return mg.tensor(data, dtype=mg.float64)


@pytest.mark.parametrize(
    ("x", "printed"),
    [
        (mg.tensor(1.0), "tensor(1.)"),
        (mg.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (mg.tensor([1 / 3, 1e6]), "tensor([3.3333e-01, 1.0000e+06])"),
        (mg.tensor([[1, 2], [3, 4]]), "tensor([[1, 2],\n        [3, 4]])"),
        (mg.tensor([True, False]), "tensor([ True, False])"),
        (mg.tensor([float("nan"), float("inf")]), "tensor([nan, inf])"),
        (mg.tensor([]), "tensor([])"),
        (mg.zeros(0, 3), "tensor([], size=(0, 3))"),
        (tensor64([1]), "tensor([1.], dtype=float64)"),
        (mg.tensor([1], dtype=mg.int32), "tensor([1], dtype=int32)"),
        (mg.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
        (mg.ones(1, requires_grad=True) * 2, "tensor([2.], grad_fn=<Mul>)"),
        (tensor64([1]).requires_grad_().exp(), "tensor([2.7183], dtype=float64, grad_fn=<Exp>)"),
        (mg.tensor([1.0, 2.0], requires_grad=True).T, "tensor([1., 2.], grad_fn=<Permute>)"),
    ],
)
def test_repr(x, printed):
    assert repr(x) == printed
    assert str(x) == printed
    assert f"{x}" == printed


def test_long_tensors_are_abridged():
    assert "..." in repr(mg.zeros(2000))
    assert len(repr(mg.zeros(2000, 2000))) < 2000


def test_format():
    x = mg.tensor([2.34567])
    assert f"{x:.2f}" == "2.35"
    assert f"{mg.tensor(7):03d}" == "007"
    assert f"{x.requires_grad_().sum():.1f}" == "2.3"
    with pytest.raises(ArgumentError, match=r"format '.2f' needs a tensor with one element, .* \(2,\)"):
        f"{mg.ones(2):.2f}"
