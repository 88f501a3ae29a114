"""dtypes of results, and the values of integers, as in PyTorch."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")

NAMES = "bool uint8 int8 int16 int32 int64 float16 float32 float64".split()
PAIRS = list(itertools.product(NAMES, NAMES))


def name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_result_type(a, b):
    """For tensors with dimensions, 0-d tensors and numbers, in every combination."""
    for shape_a, shape_b in itertools.product([(2,), ()], repeat=2):
        x, y = mg.ones(shape_a, dtype=a), mg.ones(shape_b, dtype=b)
        t, u = torch.ones(shape_a, dtype=getattr(torch, a)), torch.ones(shape_b, dtype=getattr(torch, b))
        expected = name_of(torch.result_type(t, u))
        assert name_of((x * y).dtype) == expected
        assert name_of((x + y).dtype) == name_of((t + u).dtype) == expected
        assert name_of((x / y).dtype) == name_of((t / u).dtype)
        assert name_of(mg.where(mg.tensor(True), x, y).dtype) == name_of(
            torch.where(torch.tensor(True), t, u).dtype
        )
        assert (x > y).dtype == mg.bool


@pytest.mark.parametrize("a", NAMES)
@pytest.mark.parametrize("number", [True, 2, 2.5])
@pytest.mark.parametrize(
    "op", [operator.add, operator.mul, operator.truediv, operator.pow], ids=lambda op: op.__name__
)
def test_numbers(a, number, op):
    for shape in ((2,), ()):
        x, t = mg.ones(shape, dtype=a), torch.ones(shape, dtype=getattr(torch, a))
        for left, right in ((lambda z: z, lambda z: number), (lambda z: number, lambda z: z)):
            if a == "bool" and number is True and op is operator.pow:
                continue  # PyTorch has no power of two bools
            got, expected = op(left(x), right(x)), op(left(t), right(t))
            assert name_of(got.dtype) == name_of(expected.dtype)
            assert got.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "names", [("int64", "float32"), ("uint8", "int8"), ("float32", "float64"), ("bool", "int32")]
)
def test_joining(names):
    ours = [mg.ones(2, dtype=n) for n in names]
    theirs = [torch.ones(2, dtype=getattr(torch, n)) for n in names]
    assert name_of(mg.cat(ours).dtype) == name_of(torch.cat(theirs).dtype)


INTEGER = {
    "sums": lambda m, x: (x.sum(), x.sum(0), x.prod(1), x.cumsum(0), m.cumsum(x, 1)),
    "extremes": lambda m, x: (x.max(), *x.min(1), x.amin(0), x.argmax(), *x.sort(1), *x.topk(2)),
    "arithmetic": lambda m, x: (x * 3, x // 2, x % 3, x**2, x / 2, -x, abs(x), 7 // (x + 100), 7 % (x + 100)),
    "shift": lambda m, x: (x & 3, x | 1, x ^ 5, ~x),
    "floats": lambda m, x: (m.exp(x / 10), m.sqrt(x * x), m.sin(x), m.cos(x), m.log1p(x * x)),
    "rounding": lambda m, x: (m.floor(x), m.ceil(x), m.round(x), m.sign(x), x.clip(-1, 2), x.clamp(min=0.5)),
    "logic": lambda m, x: (m.logical_not(x), x.all(), x.any(1), x.bool(), x > 1, x == 2),
    "masks": lambda m, x: (x.masked_fill(x > 1, 9), m.where(x > 1, x, 0), m.where(x > 1, 0.5, x)),
    "division": lambda m, x: (x.float().mean(), x.float().std(), 1 / (x + 100), x.to(m.float16) / 2),
    "triangles": lambda m, x: (x.tril(), x.triu(1), x.flip(0), x.repeat(2, 1), x.nonzero()),
}


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("name", INTEGER)
def test_integers(name, dtype):
    data = np.array([[3, -2, 0], [1, 5, -4]], dtype=dtype)
    for got, expected in zip(
        INTEGER[name](mg, mg.from_numpy(data)), INTEGER[name](torch, torch.from_numpy(data)), strict=True
    ):
        assert name_of(got.dtype) == name_of(expected.dtype)
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=2e-6)


BOOLS = {
    "sums": lambda m, x: (x.sum(), x.sum(0), x.prod(0), x.cumsum(1), x.float().mean()),
    "logic": lambda m, x: (x & x[0], x | True, x ^ x[1], ~x, m.logical_not(x), x.all(1), x.any()),
    "arithmetic": lambda m, x: (x + x, x * x, x * 2, x + 1.5, x / 2, x == 1),
    "extremes": lambda m, x: (x.argmax() if m is mg else x.int().argmax(), x.nonzero()),
}


@pytest.mark.parametrize("name", BOOLS)
def test_bools(name):
    data = np.array([[True, False, True], [False, False, True]])
    for got, expected in zip(
        BOOLS[name](mg, mg.from_numpy(data)), BOOLS[name](torch, torch.from_numpy(data)), strict=True
    ):
        assert name_of(got.dtype) == name_of(expected.dtype)
        assert got.tolist() == expected.tolist()


CREATION = [
    lambda m: m.tensor([1, 2]),
    lambda m: m.tensor([1.0, 2]),
    lambda m: m.tensor(True),
    lambda m: m.tensor([]),
    lambda m: m.tensor(np.float64(2)),
    lambda m: m.tensor(np.arange(3, dtype=np.int16)),
    lambda m: m.from_numpy(np.ones(2)),
    lambda m: m.as_tensor([[1], [2]]),
    lambda m: m.zeros(2, 3),
    lambda m: m.ones((2, 0)),
    lambda m: m.full((2,), 1),
    lambda m: m.full((2,), 1.5),
    lambda m: m.full((2,), True),
    lambda m: m.arange(5),
    lambda m: m.arange(2, 8, 3),
    lambda m: m.arange(0.5, 2),
    lambda m: m.arange(0, 1, 0.1),
    lambda m: m.linspace(-1, 1, 7),
    lambda m: m.eye(3),
    lambda m: m.eye(2, 3),
    lambda m: m.zeros_like(m.tensor([1, 2])),
    lambda m: m.full_like(m.ones(2), 3),
    lambda m: m.randint(5, 6, (2,)),
    lambda m: m.randint(1, (3,)),
    lambda m: m.randperm(1),
    lambda m: m.tensor([1.5]).new_ones(2, 3),
]


@pytest.mark.parametrize("make", CREATION)
def test_creation(make):
    got, expected = make(mg), make(torch)
    assert name_of(got.dtype) == name_of(expected.dtype)
    assert got.shape == tuple(expected.shape)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)


GRAPHS = {
    "uses add up": lambda m, a: ((a + a) + (a + a)).sum().backward(),
    "two passes": lambda m, a: [(a * k).sum().backward() for k in (2, 3)],
    "in a loop": lambda m, a: sum((a * a * k).sum() for k in range(4)).backward(),
    "retain_graph": lambda m, a: [y.backward(retain_graph=True) for y in [(a**3).sum()] * 2],
    "detached factor": lambda m, a: (a * a.detach()).sum().backward(),
    "data": lambda m, a: (a.data * a).sum().backward(),
    "a hook": lambda m, a: (a.register_hook(lambda g: g * 2), (a * a).sum().backward()),
    "no_grad": lambda m, a: (a * under(m.no_grad(), lambda: a * a)).sum().backward(),
    "enable_grad": lambda m, a: under(m.no_grad(), lambda: under(m.enable_grad(), lambda: a * a)).sum().backward(),
    "cotangent": lambda m, a: (a * 2).backward(m.tensor([1.0, 2.0, 3.0])),
    "casts": lambda m, a: (a.double() * 3).float().sum().backward(),
    "iteration": lambda m, a: sum(k * x for k, x in enumerate(a)).backward(),
}  # fmt: skip


def under(mode: Any, function: Any) -> Any:
    with mode:
        return function()


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_of_leaves(name):
    grads = []
    for m in (mg, torch):
        a = m.tensor([1.0, -2.0, 3.0], requires_grad=True)
        GRAPHS[name](m, a)
        grads.append(a.grad.tolist())
    assert grads[0] == grads[1]
