"""Writing into a tensor: what it does, and everything that is refused."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DtypeError, GradientError, ShapeError

# 1. What is written -------------------------------------------------------------------------------------


def test_arithmetic_stays_in_the_same_memory():
    x = mg.tensor([1.0, 2.0])
    array, twin = x.array, x.detach()
    x += 1
    x -= mg.tensor([1.0, 0.0])
    x *= np.float32(4)
    x /= mg.tensor(2)
    assert x.array is array
    assert x.tolist() == twin.tolist() == [2.0, 6.0]
    assert x.dtype == mg.float32


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.add_(2), [3.0, 0.0]),
        (lambda x: x.add_(mg.tensor([1.0, 2.0]), alpha=-3), [-2.0, -8.0]),
        (lambda x: x.sub_(2), [-1.0, -4.0]),
        (lambda x: x.sub_(mg.tensor(2.0), alpha=2), [-3.0, -6.0]),
        (lambda x: x.mul_(mg.tensor([2.0])), [2.0, -4.0]),
        (lambda x: x.div_(2), [0.5, -1.0]),
        (lambda x: x.clamp_(-1.5, 0.5), [0.5, -1.5]),
        (lambda x: x.clamp_(max=0), [0.0, -2.0]),
        (lambda x: x.fill_(7), [7.0, 7.0]),
        (lambda x: x.fill_(mg.tensor([7.0])), [7.0, 7.0]),
        (lambda x: x.zero_(), [0.0, 0.0]),
        (lambda x: x.copy_(mg.tensor(5)), [5.0, 5.0]),
        (lambda x: x.copy_([8, 9]), [8.0, 9.0]),
        (lambda x: x.copy_(np.array([8.0, 9.0])), [8.0, 9.0]),
    ],
)
def test_methods_return_the_tensor_itself(call, expected):
    x = mg.tensor([1.0, -2.0])
    array = x.array
    assert call(x) is x
    assert x.array is array
    assert x.dtype == mg.float32
    assert x.tolist() == expected


def test_random_fillings():
    x = mg.zeros(20_000).normal_(3.0, 2.0)
    assert x.mean().item() == pytest.approx(3.0, abs=0.1)
    assert x.std().item() == pytest.approx(2.0, abs=0.1)
    x.uniform_(-1.0, 3.0)
    assert x.mean().item() == pytest.approx(1.0, abs=0.1)
    assert -1.0 <= x.min().item() < -0.99
    assert 2.99 < x.max().item() <= 3.0


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 9.0),
        ((slice(None), 1), [1.0, 2.0]),
        ((slice(None), slice(None, None, 2)), mg.tensor([[1.0], [2.0]])),
        ([1, 0], mg.tensor([7.0, 8.0, 9.0])),
        ((mg.tensor([0, 1]), mg.tensor([2, 0])), np.array([5.0, 6.0])),
        (mg.tensor([[True, False, True], [False, True, False]]), 4.0),
        (mg.tensor([True, False]), 4),
        (Ellipsis, mg.tensor(3)),
        ((slice(None), None), 2.0),
    ],
)
def test_set_items(index, value):
    x, expected = mg.zeros(2, 3), np.zeros((2, 3), np.float32)
    x[index] = value
    as_array = index.numpy() if isinstance(index, mg.Tensor) else index
    if isinstance(index, tuple):
        as_array = tuple(i.numpy() if isinstance(i, mg.Tensor) else i for i in index)
    expected[as_array] = np.asarray(value)
    assert x.tolist() == expected.tolist()
    assert x.dtype == mg.float32


def test_augmented_item():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    x[0] += 10
    x[:, 1] *= 2
    assert x.tolist() == [[11.0, 24.0], [3.0, 8.0]]


def test_parameters_can_be_written_under_no_grad():
    w = mg.ones(2, requires_grad=True)
    (w * 3).sum().backward()
    with mg.no_grad():
        w -= 0.5 * w.grad
        w[0] = 7.0
    w.grad.zero_()
    assert w.tolist() == [7.0, -0.5]
    assert (w.requires_grad, w.is_leaf, w.grad.tolist()) == (True, True, [0.0, 0.0])


# 2. What is refused -------------------------------------------------------------------------------------

WRITES = {
    r"\+=": lambda x: x.__iadd__(1),
    r"\*=": lambda x: x.__imul__(2),
    "-=": lambda x: x.__isub__(2),
    "/=": lambda x: x.__itruediv__(2),
    r"x\[...\] = value": lambda x: x.__setitem__(0, 1.0),
    "add_": lambda x: x.add_(1),
    "sub_": lambda x: x.sub_(1),
    "mul_": lambda x: x.mul_(1),
    "div_": lambda x: x.div_(1),
    "fill_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(mg.zeros(2)),
}


@pytest.mark.parametrize("name", WRITES)
def test_leaves_that_require_gradients(name):
    with pytest.raises(GradientError, match=rf"{name}: this tensor of shape \(2,\) is a leaf that requires"):
        WRITES[name](mg.ones(2, requires_grad=True))


@pytest.mark.parametrize("name", WRITES)
def test_results_in_a_graph(name):
    with pytest.raises(GradientError) as caught:
        WRITES[name](mg.ones(2, requires_grad=True) * 1)
    assert "is part of a graph and cannot be changed in place" in str(caught.value)
    assert "make a new tensor (x = x + 1, not x += 1), or write inside `with no_grad():`" in str(caught.value)


@pytest.mark.parametrize(
    "write",
    [
        lambda x, y: x.__iadd__(y),
        lambda x, y: x.__setitem__(0, y[0]),
        lambda x, y: x.copy_(y),
        lambda x, y: x.add_(y, alpha=2),
    ],
)
def test_values_that_require_gradients(write):
    """They would lose their history."""
    x, y = mg.zeros(2), mg.ones(2, requires_grad=True)
    message = (
        r"a value that requires gradients cannot be written into another tensor; .* or write y.detach\(\)"
    )
    with pytest.raises(GradientError, match=message):
        write(x, y)
    assert x.tolist() == [0.0, 0.0]
    write(x, y.detach())
    assert x.tolist() != [0.0, 0.0]


@pytest.mark.parametrize("name", WRITES)
def test_stretched_memory(name):
    """All rows of an expanded tensor are the same memory; writing to one would change all."""
    x = mg.ones(1).expand(2)
    with pytest.raises(
        ArgumentError, match=rf"{name}: .*several elements share one place in memory; clone()"
    ):
        WRITES[name](x)
    WRITES[name](x.clone())
    assert x.tolist() == [1.0, 1.0]


def test_read_only_memory():
    array = np.ones(2, np.float32)
    array.flags.writeable = False
    with pytest.raises(ArgumentError, match=r"fill_: .*its memory is read-only; clone\(\) it first"):
        mg.from_numpy(array).fill_(0)


def test_shapes():
    x = mg.zeros(2, 1)
    with pytest.raises(ShapeError, match=r"\+=: shape \(2, 3\) does not fit into \(2, 1\) in place"):
        x += mg.ones(2, 3)
    with pytest.raises(ShapeError, match=r"copy_: shape \(3,\) does not fit into \(2, 1\)"):
        x.copy_(mg.ones(3))
    with pytest.raises(ShapeError, match=r"x\[...\] = value: .*broadcast"):
        x[0] = mg.ones(2)
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        x[5] = 1.0


def test_dtypes():
    x, mask = mg.tensor([1, 2]), mg.tensor([True, False])
    with pytest.raises(DtypeError, match="/=: a float32 result cannot be stored in a int64 tensor"):
        x /= 2
    with pytest.raises(DtypeError, match=r"\+=: a float32 result cannot be stored in a int64 tensor"):
        x += 0.5
    with pytest.raises(DtypeError, match="add_: a int64 result cannot be stored in a bool tensor"):
        mask.add_(1)
    with pytest.raises(DtypeError, match=r"\*=: a NumPy float64 scalar meets a float32 tensor"):
        mg.ones(2).__imul__(np.float64(2))
    small = mg.tensor([1], dtype=mg.int8)
    small += mg.tensor([2])
    half = mg.ones(1, dtype=mg.float16)
    half *= mg.tensor([2.0], dtype=mg.float64)
    assert (small.dtype, small.tolist(), half.dtype, half.tolist()) == (mg.int8, [3], mg.float16, [2.0])


@pytest.mark.parametrize("other", ["a", None, {}, object()])
def test_what_is_no_number(other):
    with pytest.raises(DtypeError, match="expected a tensor, an array or a number, got"):
        mg.ones(2).__iadd__(other)
