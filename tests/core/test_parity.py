"""The same lines in minigrad and in PyTorch: values, dtypes and gradients are the same.

Each entry of the tables is run with `m` = minigrad and with `m` = torch, on equal numbers and with the same
random cotangent. Section 4 has what differs on purpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from tests.core.support import ORDERS

torch = pytest.importorskip("torch")

RTOL = {"float16": 2e-3, "float32": 2e-5, "float64": 1e-11}


def name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def tensors(results: Any) -> list[Any]:
    return [y for y in (results if isinstance(results, (tuple, list)) else [results]) if hasattr(y, "dtype")]


def to_torch(array: np.ndarray, requires_grad: bool) -> Any:
    """A tensor with the same strides; PyTorch has no negative ones."""
    if any(step < 0 for step in array.strides):
        array = array.copy()
    return torch.from_numpy(array).requires_grad_(requires_grad)


def agree(got: Any, expected: Any, what: str) -> None:
    assert name_of(got.dtype) == name_of(expected.dtype), what
    assert got.shape == tuple(expected.shape), what
    rtol = RTOL.get(name_of(got.dtype), 0)
    a, b = got.detach().numpy(), expected.detach().numpy()
    scale = np.abs(b[np.isfinite(b)]).max(initial=0) if rtol else 0
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=what)


def compare(call: Any, *arrays: np.ndarray) -> None:
    """Results, their dtypes, and the gradients of the floating-point inputs."""
    floats = [a.dtype.kind == "f" for a in arrays]
    xs = [mg.Tensor(a, requires_grad=f) for a, f in zip(arrays, floats, strict=True)]
    ts = [to_torch(a, f) for a, f in zip(arrays, floats, strict=True)]
    ours, theirs = tensors(call(mg, *xs)), tensors(call(torch, *ts))
    assert len(ours) == len(theirs)
    rng = np.random.default_rng(0)
    for k, (y, t) in enumerate(zip(ours, theirs, strict=True)):
        agree(y, t, f"result {k}")
        if (
            t.requires_grad and y.requires_grad
        ):  # PyTorch has zeros where minigrad leaves the graph (floor, sign)
            gy = np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)
            y.backward(gy, retain_graph=True)
            t.backward(torch.from_numpy(gy), retain_graph=True)
    for k, (x, t) in enumerate(zip(xs, ts, strict=True)):
        if x.grad is not None or (t.grad is not None and t.grad.abs().sum() > 0):
            agree(x.grad, t.grad, f"gradient {k}")


SHAPES = [(), (1,), (3,), (0, 3), (3, 5), (2, 3, 4), (2, 3, 1, 5)]


def inputs(shape: tuple[int, ...], dtype: str, order: str, low: float = -2.0) -> np.ndarray:
    """Distinct numbers above `low`, in random order."""
    count = int(np.prod(shape))
    values = low + 0.1 + 4.0 * np.random.default_rng(count).permutation(count) / max(count, 1)
    return ORDERS[order](np.asarray(values.reshape(shape), dtype))


# 1. One tensor ------------------------------------------------------------------------------------------

UNARY = {
    "exp": lambda m, x: (m.exp(x), x.exp()),
    "trigonometric": lambda m, x: (m.sin(x), m.cos(x)),
    "abs": lambda m, x: (m.abs(x), abs(x)),
    "neg": lambda m, x: (-x, m.neg(x), x.neg(), x.negative()),
    "square": lambda m, x: (m.square(x), x**2, x.pow(3)),
    "numbers": lambda m, x: (x + 1, 2 - x, x * 3, x / 4, x // 0.7, x % 0.7, 1 - x * 2.5, 2.0**x),
    "alpha": lambda m, x: (x.add(x, alpha=3), x.sub(2, alpha=0.5)),
    "clip": lambda m, x: (m.clip(x, -0.5, 0.5), x.clamp(min=0), m.clamp(x, max=0.3), x.clip(0.7, 0.1)),
    "clip by tensors": lambda m, x: (x.clamp(m.zeros_like(x), m.ones_like(x)), x.clip(min=m.zeros_like(x))),
    "rounding": lambda m, x: (m.floor(x), m.ceil(x), m.round(x), m.sign(x)),
    "comparison": lambda m, x: (x > 0.5, x <= x, x == 0, x != 1, m.isnan(x), m.isfinite(x), m.isinf(x)),
    "masks": lambda m, x: (x.masked_fill(x > 0, 7.0), m.where(x > 0, x, 0.0), x[x > 0], m.masked_select(x, x < 1)),
    "logic": lambda m, x: ((x > 0) & (x < 1), (x > 0) | (x < -1), (x > 0) ^ (x > 1), ~(x > 0)),
    "logical": lambda m, x: (m.logical_and(x, x > 0), m.logical_or(x, x > 0), m.logical_not(x)),
    "sums": lambda m, x: (x.sum(), m.sum(x), x.mean(), x.prod(), x.norm(), x.norm(1), x.norm(p=3)),
    "quantifiers": lambda m, x: (x.all(), x.any(), m.all(x > -1), m.any(x > 1)),
    "likes": lambda m, x: (m.zeros_like(x), m.ones_like(x), m.full_like(x, 7), x.new_zeros(2), x.new_ones((2, 3))),
    "casts": lambda m, x: (x.float(), x.double(), x.half().float(), x.long(), x.int(), x.bool(), x.to(m.int16)),
    "flatten": lambda m, x: (m.flatten(x), x.reshape(-1), x.view(-1) if x.is_contiguous() else x.flatten(), x.ravel()),
    "new axes": lambda m, x: (x.unsqueeze(0), x.unsqueeze(-1), x[None], x[..., None], x.squeeze(), m.unsqueeze(x, 0)),
    "repeat": lambda m, x: (x.expand(2, *x.shape), x.repeat(2, *[1] * x.ndim), x.tile(2), x.repeat_interleave(2)),
    "copies": lambda m, x: (x.clone() * 2, x.contiguous() * 1, x.detach() + x, x.data * x),
    "nonzero": lambda m, x: (m.nonzero(x > 0), (x > 9).nonzero()),
    "norm, inf": lambda m, x: x.norm(float("inf")) if x.numel() else x,
}  # fmt: skip
POSITIVE = {
    "log": lambda m, x: (m.log(x), x.log1p(), m.log1p(x)),
    "roots": lambda m, x: (m.sqrt(x), x.rsqrt(), m.reciprocal(x)),
    "powers": lambda m, x: (x**0.5, x**-1, x**x, m.pow(x, 2.5), 3**x),
    "quotients": lambda m, x: (1 / x, x / x.detach(), 5 // x),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [*UNARY, *POSITIVE])
def test_one_tensor(name, shape, dtype):
    for order in ("rows", "columns", "every second"):
        low = -2.0 if name in UNARY else 0.0
        compare({**UNARY, **POSITIVE}[name], inputs(shape, dtype, order, low))


REDUCTIONS = {
    "sum": lambda m, x, d, k: (x.sum(d, k), x.sum(dim=d, keepdim=k), m.sum(x, axis=d, keepdims=k)),
    "mean": lambda m, x, d, k: (x.mean(d, k), m.mean(x, dim=d, keepdim=k)),
    "spread": lambda m, x, d, k: (
        x.var(d, keepdim=k),
        x.std(d, unbiased=False),
        m.var(x, d, correction=0, keepdim=k),
    ),
    "amax": lambda m, x, d, k: (x.amax(d, k), m.amin(x, d, k)),
    "norm": lambda m, x, d, k: (x.norm(dim=d, keepdim=k), x.norm(1, d, k), x.norm(p=3, dim=d)),
    "all": lambda m, x, d, k: ((x > 0).all(d, k), (x > 1).any(dim=d, keepdim=k)),
}
ONE_DIMENSION = {
    "max": lambda m, x, d, k: (*x.max(d, k), *m.min(x, dim=d, keepdim=k), x.argmax(d, k), x.argmin(dim=d)),
    "prod": lambda m, x, d, k: (x.prod(d, k), x.cumsum(d), m.cumsum(x, dim=d)),
    "sort": lambda m, x, d, k: (*x.sort(d, k), x.argsort(d, k), *x.topk(min(2, x.shape[d]), d, largest=k)),
    "pieces": lambda m, x, d, k: (*x.split(2, d), *x.chunk(2, d), *x.unbind(d), *m.split(x, [1, x.shape[d] - 1], d)),
    "turn": lambda m, x, d, k: (x.flip(d), m.flip(x, (d,)), x.transpose(d, 0)),
    "repeat": lambda m, x, d, k: (x.repeat_interleave(3, d), x.unsqueeze(d), x.squeeze(d)),
    "gather": lambda m, x, d, k: (x.gather(d, x.argsort(d)), x.index_select(d, m.tensor([0, 0]))),
}  # fmt: skip


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, keepdim):
    for shape in SHAPES[2:]:
        dims: list[Any] = [*range(-len(shape), len(shape))]
        dims += [(0, -1), (1, 0)] if len(shape) > 1 else []
        for dim in dims:
            sizes = [shape[d] for d in (dim if isinstance(dim, tuple) else (dim,))]
            if 0 in shape and name in ("spread", "amax", "norm"):
                continue
            if 1 in sizes and name == "spread":  # NaN with a warning in PyTorch
                continue
            for order in ("rows", "batch last"):
                compare(
                    lambda m, x, dim=dim: REDUCTIONS[name](m, x, dim, keepdim),
                    inputs(shape, "float64", order),
                )


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("name", ONE_DIMENSION)
def test_along_one_dimension(name, flag):
    for shape in SHAPES[1:]:
        for d in range(-len(shape), len(shape)):
            if shape[d] == 0:
                continue
            for order in ("rows", "columns"):
                compare(lambda m, x, d=d: ONE_DIMENSION[name](m, x, d, flag), inputs(shape, "float32", order))


# 2. Two tensors -----------------------------------------------------------------------------------------

BINARY = {
    "arithmetic": lambda m, x, y: (x + y, x - y, x * y, x / (y + 9), m.add(x, y), m.sub(x, y), m.mul(x, y)),
    "remainder": lambda m, x, y: (x // (y + 9), x % (y + 9)),
    "powers": lambda m, x, y: (x + 9) ** y,
    "comparison": lambda m, x, y: (
        x < y,
        x <= y,
        x > y,
        x >= y,
        x == y,
        x != y,
        m.eq(x, y),
        x.lt(y),
        m.ge(x, y),
    ),
    "extremes": lambda m, x, y: (m.maximum(x, y), x.minimum(y), m.max(x, y), x.min(y)),
    "where": lambda m, x, y: (m.where(x > y, x, y), m.where(x > 0, y, x)),
}
PAIRS = [((), (3,)), ((3, 1), (4,)), ((2, 3), (2, 3)), ((0, 3), (1, 3)), ((5, 1, 4), (3, 1)), ((), ())]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY)
def test_two_tensors(name, dtype):
    for a, b in PAIRS:
        for order in ("rows", "columns"):
            compare(
                BINARY[name],
                inputs(a, dtype, order),
                np.asarray(inputs(b, dtype, "every second") + 0.03, dtype),
            )


def test_ties_of_two_share_the_gradient():
    x = np.array([1.0, 2.0, 3.0])
    compare(
        lambda m, x, y: (m.maximum(x, y), m.minimum(x, y), x.clamp(min=2.0), x.clip(1.0, 2.0)), x, x.copy()
    )


PRODUCTS = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((3,), (2, 3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 1, 2, 3), (5, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_products(shapes, dtype):
    for order in ORDERS:
        x, y = inputs(shapes[0], dtype, order), inputs(shapes[1], dtype, "columns")
        compare(lambda m, x, y: (x @ y, m.matmul(x, y)), x, y)


def test_named_products():
    x, y = inputs((2, 3), "float64", "rows"), inputs((3, 4), "float64", "rows")
    compare(
        lambda m, x, y: (m.mm(x, y), x.mm(y), m.outer(x[0], y[0]), m.dot(x[0], x[1]), x.mv(y[:, 0])), x, y
    )
    compare(
        lambda m, x, y: m.bmm(x, y),
        inputs((5, 2, 3), "float64", "rows"),
        inputs((5, 3, 4), "float64", "rows"),
    )
    for equation in ("ij,jk->ik", "ij,jk", "ij,jk->", "ij,jk->kji"):
        compare(lambda m, x, y, e=equation: m.einsum(e, x, y), x, y)


def test_joining():
    x, y = inputs((2, 3), "float64", "rows"), inputs((2, 3), "float64", "columns")
    for d in (0, 1, -1):
        compare(
            lambda m, x, y, d=d: (m.cat([x, y, x], d), m.stack((x, y), d), m.cat([x[:, :0], y], dim=1)), x, y
        )
    compare(lambda m, x, y: (m.vstack([x, y[0]]), m.hstack([x, y]), m.hstack([x[0], y[1]])), x, y)


# 3. Shape and selection ---------------------------------------------------------------------------------

VIEWS = {
    "permute": lambda m, x: (x.permute(2, 0, 1), m.permute(x, (1, 2, 0)), x.transpose(0, -1), x.mT),
    "reshape": lambda m, x: (x.reshape(4, -1), m.reshape(x, (2, 12)), x.flatten(0, 1), m.flatten(x, 1, 2)),
    "expand": lambda m, x: (x[:, :1].expand(-1, 5, 4), x[:, :1].expand(2, -1, 3, 4), m.broadcast_to(x, (2, 2, 3, 4))),
    "repeat": lambda m, x: (x.repeat(2, 1, 3), x.repeat(2, 1, 1, 1), x.tile(2, 1), m.tile(x, (2,))),
    "triangles": lambda m, x: (x.tril(), m.triu(x), x.tril(1), x.triu(-1), m.tril(x, 2)),
    "slices": lambda m, x: (x[1], x[:, 1:], x[..., ::2], x[:, None, 1], x[-1, ..., 0], x[:, :, None], x[1:, 1:2]),
    "lists": lambda m, x: (x[[1, 0, 1]], x[:, [2, 2]], x[[0, 1], [2, 0]], x[:, [0, 1], [3, 3]], x[[0, 1], :, [1, 1]]),
    "index tensors": lambda m, x: (x[m.tensor([1, 0])], x[:, m.tensor([[0, -1], [1, 2]])], x[m.tensor(1)]),
    "masks": lambda m, x: (x[m.tensor([True, False])], x[x > 0], x[:, m.tensor([True, False, True])]),
    "nothing": lambda m, x: (x[[]], x[:0], x[m.tensor([False, False])], x.sum(1)[0:0]),
    "turned": lambda m, x: (x.flip(0), x.flip(0, 2), x.flip((1,))),
    "gather": lambda m, x: (x.gather(1, m.tensor([[[0, 2, 1, 0]]])), x[0].gather(1, m.tensor([[1], [0], [3]]))),
    "squeeze": lambda m, x: (x[:, :1].squeeze(), x[:, :1].squeeze(1), x.squeeze(0), x[:1, :1].squeeze((0, 1))),
}  # fmt: skip


@pytest.mark.parametrize("order", [name for name in ORDERS if name != "backwards"])
@pytest.mark.parametrize("name", VIEWS)
def test_shape_and_selection(name, order):
    compare(VIEWS[name], inputs((2, 3, 4), "float64", order))


def test_gathering_labels():
    """The usual way to pick the score of each row's label."""
    scores, labels = inputs((5, 3), "float32", "columns"), np.array([[0], [2], [1], [1], [0]])
    compare(
        lambda m, x, i: (x.gather(1, i), x[m.arange(5), i[:, 0]], (x.argmax(1) == i[:, 0]).sum()),
        scores,
        labels,
    )


# 4. Where minigrad differs on purpose -------------------------------------------------------------------


def test_one_winner_among_equal_maxima():
    """PyTorch's amax shares the gradient among ties; here the first gets it all, as in max pooling."""
    x = mg.tensor([2.0, 5.0, 5.0], requires_grad=True)
    x.amax().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    t = torch.tensor([2.0, 5.0, 5.0], requires_grad=True)
    t.amax().backward()
    assert t.grad.tolist() == [0.0, 0.5, 0.5]


def test_lengths_of_zero_vectors():
    compare(
        lambda m, x: (x.norm(), x.std(), x.norm(dim=1), x.std(0), x.norm(1), x.norm(3, 1)), np.zeros((2, 3))
    )


def test_product_with_zeros():
    compare(lambda m, x: (x.prod(), x.prod(1), x.prod(0)), np.array([[0.0, 2.0, 3.0], [1.0, 0.0, 0.0]]))
