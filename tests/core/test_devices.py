"""Every operation and method gives the same on every device and in every memory order.

`device` is NumPy, the strict stand-in, which has only what CuPy has, and a GPU where there is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend
from minigrad.errors import ArgumentError, DeviceError, OutOfRangeError
from minigrad.ops.elementwise import ToDevice
from tests import strict
from tests.core.cases import CASES
from tests.core.support import ORDERS

CLOSE = {"float64": 1e-12, "float32": 1e-5}


def on(device: str, array: Any, requires_grad: bool = False) -> mg.Tensor:
    return mg.Tensor(backend.to_device(np.asarray(array), device), requires_grad=requires_grad)


def same(got: mg.Tensor, expected: np.ndarray, device: str) -> None:
    """Value, shape, dtype and device."""
    host = backend.to_numpy(got.array)
    assert got.device == device
    assert (host.shape, host.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(host, expected, rtol=CLOSE.get(str(host.dtype), 0), atol=1e-12)


def forward_and_backward(name: str, device: str, order: str, dtype: str) -> list[mg.Tensor]:
    """The result, and the gradients for a fixed cotangent that has an unusual memory order, too."""
    case = CASES[name]
    xs = [on(device, ORDERS[order](x.astype(dtype)), requires_grad=True) for x in case.inputs]
    y = case.call(case.op.apply, *xs)
    if case.op is ToDevice:
        y = y.to(device)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(on(device, ORDERS[order](np.asarray(gy))))
    return [y.detach(), *(x.grad for x in xs)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CASES)
def test_operations(name, order, device):
    expected = forward_and_backward(name, "cpu", "rows", "float64")
    for got, wanted in zip(forward_and_backward(name, device, order, "float64"), expected, strict=True):
        same(got, wanted.numpy(), device)


@pytest.mark.parametrize("name", [name for name in CASES if name != "cast"])
def test_float32_stays_float32(name, device):
    """Results and gradients; nothing on the way widens them or loses more than float32 has."""
    expected = forward_and_backward(name, "cpu", "rows", "float64")
    for got, wanted in zip(forward_and_backward(name, device, "rows", "float32"), expected, strict=True):
        assert got.dtype == mg.float32
        np.testing.assert_allclose(backend.to_numpy(got.array), wanted.numpy(), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_operations_ask_the_device_for_nothing(name):
    """Asking for a value makes the host wait for the GPU. Only a check of indices may."""
    strict.install()
    case = CASES[name]
    xs = [on("strict", x, requires_grad=True) for x in case.inputs]
    strict.counts.reset()
    y = case.call(case.op.apply, *xs)
    allowed = {"take by index": 2, "take by two": 4, "take by mask": 99, "to device": 99}.get(name, 0)
    forward = strict.counts.synchronisations
    y.sum().backward()
    assert forward <= allowed
    if name not in ("take by mask", "to device"):
        assert strict.counts.synchronisations == forward


# 2. What is composed of operations, or outside of the graph ---------------------------------------------

X = np.array([[0.4, -1.3, 2.2, 0.4], [-0.0, 7.5, -2.5, 1.5], [0.4, 0.4, -1.3, 3.5]])
I = np.array([[3, 0, -2, 3], [5, 5, 1, 0], [7, -7, 2, 2]])

METHODS: dict[str, Any] = {
    "arithmetic": lambda x, i: (x + 1, 2 - x, x * i, 1 / (x + 9), i / 2, x // 0.7, x % 0.7, 7 // (i + 9), -i),
    "remainders": lambda x, i: (i % 3, 7 % (i + 9), i // 3, i**2, 2.0**x, abs(x), +x),
    "comparison": lambda x, i: (x < i, x <= 0.4, x > i, x >= 0, i == 5, i != i, 1 < x),
    "logic": lambda x, i: ((x > 0) & (i > 0), (x > 0) | (i > 0), (x > 0) ^ (i > 0), ~(x > 0), i & 3, True & (i > 1)),
    "logical": lambda x, i: (x.logical_and(i), i.logical_or(x), x.logical_not()),
    "rounding": lambda x, i: (x.floor(), x.ceil(), x.round(), x.sign(), i.floor(), i.round(), i.sign()),
    "special numbers": lambda x, i: (x.isnan(), x.isinf(), x.isfinite()),
    "clip": lambda x, i: (x.clip(0.0), i.clip(0, 3), i.clip(0.5), x.clip(i * 0.1, None), x.clamp(-1, 1)),
    "masks": lambda x, i: (x.masked_fill(i > 2, 0.5), mg.where(x > 0, x, i), mg.where(x > 0, 1.0, i)),
    "mask as index": lambda x, i: (x[x > 0], x.masked_select(i > 2)),
    "averages": lambda x, i: (x.mean(), x.mean(0), x.var(1), x.std(0, keepdim=True), x.std((0, 1), unbiased=False)),
    "sums": lambda x, i: (x.sum(), i.sum(0), (x > 0).sum(), x.prod(1), i.prod(), x.cumsum(1), (x > 0).cumsum(0)),
    "norms": lambda x, i: (x.norm(), x.norm(1, 0), x.norm(float("inf"), 1), x.norm(3, keepdim=True), i.norm()),
    "extremes": lambda x, i: (x.max(), *x.max(1), *i.min(0, keepdim=True), x.amin((0, 1)), i.amax(-1), x.max(i)),
    "places": lambda x, i: (x.argmax(), x.argmin(1), i.argmax(0, keepdim=True), i.argmin(keepdim=True)),
    "quantifiers": lambda x, i: (x.all(), (x > 0).any(1), i.any(0, keepdim=True), (i > 0).all((0, 1))),
    "order": lambda x, i: (*x.sort(), *i.sort(0, descending=True), x.argsort(1), *x.topk(2), *i.topk(2, 0, False)),
    "shape": lambda x, i: (x.T, x.reshape(2, -1), x.flatten(), x[None].squeeze(), x.unsqueeze(-1), x.mT, x.t()),
    "repetition": lambda x, i: (x.repeat(2, 1, 2), x.tile(2), i.repeat_interleave(2, 0), x.expand(2, 3, 4)),
    "pieces": lambda x, i: (*x.split(2, 1), *x.split([1, 2]), *x.chunk(3, 1), *x.unbind(0)),
    "selection": lambda x, i: (x[1], x[:, ::-2], x[[2, 0, 2]], x[i[0, 1]], x[..., None], x[i[2] % 3, 1:]),
    "gather": lambda x, i: (x.gather(1, i % 4), x.index_select(0, (i % 3)[0]), x.gather(0, (i % 3)[:2])),
    "triangles": lambda x, i: (x.tril(), x.triu(1), i.tril(-1), x.flip(0), x.flip(0, 1)),
    "nonzero": lambda x, i: (x.nonzero(), (i > 2).nonzero()),
    "joining": lambda x, i: (mg.cat([x, i]), mg.stack([x, x], 1), mg.vstack([x, x[0]]), mg.hstack([x, i])),
    "products": lambda x, i: (x @ x.T, x[0] @ x[1], x[0].outer(i[1]), i.mT @ i),
    "einsum": lambda x, i: (mg.einsum("ij,kj->ik", x, x), mg.einsum("ij->", i)),
    "conversion": lambda x, i: (x.float(), i.double(), x.long(), x.bool(), i.to(x), x.half(), x.int()),
    "new": lambda x, i: (x.new_zeros(2, 3), i.new_ones((2,)), x.new_full((2,), 7), mg.zeros_like(i), mg.ones_like(x)),
    "functions": lambda x, i: (x.exp(), x.sin(), x.cos(), i.exp(), i.float().sin()),
    "of positive numbers": lambda x, i: ((x + 9).log(), (x + 9).sqrt(), (x + 9).rsqrt(), (x + 9).log1p()),
}  # fmt: skip


@pytest.mark.parametrize("order", ["rows", "columns", "every second"])
@pytest.mark.parametrize("name", METHODS)
def test_methods(name, order, device):
    call = METHODS[name]
    expected = call(on("cpu", X), on("cpu", I))
    got = call(on(device, ORDERS[order](X)), on(device, ORDERS[order](I)))
    assert len(got) == len(expected)
    for y, wanted in zip(got, expected, strict=True):
        same(y, wanted.numpy(), device)


def test_in_place(device):
    results = []
    for where in ("cpu", device):
        x, i = on(where, X.copy()), on(where, I.copy())
        x += 1
        x -= i
        x *= 0.5
        x /= on(where, np.full(4, 4.0))
        x[0] = 9.0
        x[1:, [0, 2]] = on(where, np.array([5.0, 6.0]))
        x[i > 4] = 3.0
        x[2, :2] = [1.0, 2.0]
        x.add_(i, alpha=2).sub_(1).mul_(i).div_(2).clamp_(-20, 30)
        i.fill_(3)[0].zero_()
        i[1].copy_(X[0])
        results.append((x, i, x.clone().fill_(i[0, 0]), x.detach().clone().zero_()))
    for got, wanted in zip(results[1], results[0], strict=True):
        same(got, wanted.numpy(), device)


def test_one_number_and_lists(device):
    x = on(device, X)
    assert x[1, 1].item() == 7.5
    assert (float(x[1, 1]), int(x[1, 1]), bool(x[0, 0])) == (7.5, 7, True)
    assert x.tolist() == X.tolist()
    assert [row.tolist() for row in x] == X.tolist()
    assert 7.5 in x
    assert -7.5 not in x
    assert mg.equal(x, x.clone())
    assert mg.allclose(x, x + 1e-12)
    assert range(on(device, np.array(3)))[-1] == 2


def test_printing(device):
    suffix = "" if device == "cpu" else f", device='{device}:0'"
    assert repr(on(device, np.float32([1, 2]))) == f"tensor([1., 2.]{suffix})"
    assert f"{on(device, np.array(2.5)):.3f}" == "2.500"


def test_random_numbers_are_the_same_everywhere(device):
    draws = []
    for where in ("cpu", device):
        mg.manual_seed(3)
        draws.append(
            [
                mg.rand(3, device=where),
                mg.randn(3, device=where, requires_grad=True).detach(),
                mg.randint(0, 9, (3,), device=where),
                mg.randperm(5, device=where),
                mg.zeros(3, device=where).normal_(1, 2),
                mg.zeros(3, device=where).uniform_(-1, 1),
            ]
        )
    for got, wanted in zip(draws[1], draws[0], strict=True):
        same(got, wanted.numpy(), device)


def test_indices_out_of_range(device):
    """CuPy takes them modulo the size, so minigrad looks first."""
    x = on(device, np.zeros((2, 3, 4)))
    for index in (
        mg.tensor([0, 2]),
        [0, -3],
        (slice(None), [3]),
        (Ellipsis, [4]),
        (0, Ellipsis, None, [-5]),
        (np.ones((2, 3), bool), [4]),
        (None, 0, mg.tensor([1, 3])),
    ):
        with pytest.raises(IndexError, match="out of"):
            x[index]
        with pytest.raises(IndexError, match="out of"):
            x[index] = 1.0
    for index in ((Ellipsis, [3]), (None, [1], None, [-3]), (np.ones((2, 3), bool), [0, 1, 2, 3, -4, 0])):
        x[index] = 1.0
        assert x[index].all()


def test_index_message():
    strict.install()
    with pytest.raises(OutOfRangeError, match="index 4 is out of range for dimension 2 of size 4"):
        on("strict", np.zeros((2, 3, 4)))[..., [4]]
    assert issubclass(OutOfRangeError, IndexError)
    assert issubclass(OutOfRangeError, ArgumentError)


# 3. Devices do not mix ----------------------------------------------------------------------------------

MIXTURES: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: y - x,
    "matmul": lambda x, y: x @ y.T,
    "maximum": lambda x, y: x.maximum(y),
    "where": lambda x, y: mg.where(x > 0, x, y),
    "where, the mask": lambda x, y: mg.where(y > 0, x, x),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, 0.0),
    "concatenate": lambda x, y: mg.cat([x, y]),
    "einsum": lambda x, y: mg.einsum("ij,ij->i", x, y),
    "lt": lambda x, y: x < y,
    "floor_divide": lambda x, y: x // y,
    r"\+=": lambda x, y: x.__iadd__(y),
    r"x\[...\] = value": lambda x, y: x.__setitem__(0, y[0]),
    "an array": lambda x, y: x * y.array,
    "backward": lambda x, y: (x.requires_grad_() * 2).backward(y),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_are_refused(name):
    strict.install()
    operation = name.partition(",")[0] if name != "an array" else "mul"
    for x, y in ((on("cpu", X), on("strict", X)), (on("strict", X), on("cpu", X))):
        with pytest.raises(DeviceError, match=rf"(?s){operation}.*different devices: cpu and strict.*\.to\("):
            MIXTURES[name](x, y)


def test_moving():
    strict.install()
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("strict")
    assert (y.device, y.cpu().device, y.to(x).device) == ("strict", "cpu", "cpu")
    assert x.to("cpu") is x
    assert y.to("strict") is y
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [2.0, 4.0]
    z = x.to("strict", mg.float64)
    assert (z.device, z.dtype) == ("strict", mg.float64)
    assert x.to(device="strict", dtype=mg.int64).dtype == mg.int64
    assert mg.tensor(y.detach()).device == "strict"
    assert mg.as_tensor(y.detach().array).device == "strict"
    with pytest.raises(DeviceError, match=r"numpy: this tensor is on strict:0; use .cpu\(\).numpy\(\)"):
        y.detach().numpy()
    with pytest.raises(DeviceError, match="numpy: this tensor is on strict:0"):
        np.asarray(y.detach())


def test_an_index_may_live_on_the_host():
    strict.install()
    x = on("strict", X)
    assert x[mg.tensor([1])].tolist() == [X[1].tolist()]
    assert x[np.array([1])].tolist() == [X[1].tolist()]
    assert x.gather(1, mg.tensor([[0]])).tolist() == [[0.4]]


def test_elementwise_operations_keep_the_memory_order():
    """Clones keep the memory order, so that a fast order survives them."""
    x = mg.Tensor(ORDERS["batch last"](np.zeros((2, 3, 4, 5))))
    assert x.clone().array.strides == x.array.strides
    assert x.exp().array.strides == x.array.strides
