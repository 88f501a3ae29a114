"""The backward pass: which gradients arrive where, in what order, at what cost in memory."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import Function
from minigrad.errors import DtypeError, GradientError, ShapeError


def ones(*shape: int) -> mg.Tensor:
    return mg.ones(*shape, requires_grad=True)


# 1. Sums over all uses ----------------------------------------------------------------------------------


def test_each_use_adds_up():
    """b = a + a; c = b + b: dc/da = 4. Visiting b before both of its gradients are there gives 2 or 3."""
    a = mg.tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    assert c.item() == 4.0
    assert a.grad.item() == 4.0


def test_paths_of_different_length():
    """x reaches y directly and through long detours; each Function runs once."""
    calls = []

    class Count(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, gy):
            calls.append(float(gy))
            return gy

    x = mg.tensor(2.0, requires_grad=True)
    h = Count.apply(x)
    detour = h
    for _ in range(10):
        detour = detour * 1.0 + h
    (h * detour + h).backward()
    assert calls == [2 * 2.0 * 11 + 1]  # h (11 h) + h
    assert x.grad.item() == calls[0]


def test_a_wide_graph_in_polynomial_time():
    """40 doublings have 2^40 paths."""
    x = mg.tensor(1.0, dtype=mg.float64, requires_grad=True)
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**40


def test_the_same_tensor_as_both_operands():
    x = mg.tensor([3.0, -1.0], requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, -2.0]


def test_gradients_accumulate_over_backward_passes():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x * 3).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad.tolist() == [3.0 + 2.0, 3.0 + 4.0]
    assert first.tolist() == [3.0, 3.0]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_gradients_share_no_memory():
    """Not with each other, with the cotangent, with values, nor with the results of earlier passes."""
    x, y, z = ones(3), ones(3), ones(3)
    gy = mg.tensor([1.0, 2.0, 3.0])
    s = x + y + z.reshape(3)
    s.retain_grad()
    s.backward(gy)
    everything = [x.grad, y.grad, z.grad, s.grad, gy, x, y, z, s.detach()]
    for i, a in enumerate(everything):
        for b in everything[i + 1 :]:
            assert not np.shares_memory(a.detach().numpy(), b.detach().numpy())
    x.grad += 1
    assert y.grad.tolist() == gy.tolist() == [1.0, 2.0, 3.0]


def test_gradients_can_be_written_to():
    """That of a sum is one number stretched over the shape; as .grad it has memory of its own."""
    x, y = ones(2, 3), ones(2, 3)
    (x + y).sum().backward()
    x.grad *= 2
    x.grad[0, 0] = 7.0
    assert x.grad.tolist() == [[7.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    assert y.grad.tolist() == [[1.0] * 3] * 2
    (g,) = mg.autograd.grad(x.sum(), x)
    g += 1


def test_dtype_of_gradients():
    """Each leaf gets its gradient in its own dtype, also through promotion and casts."""
    x, y = mg.ones(2, requires_grad=True), mg.ones(2, dtype=mg.float64, requires_grad=True)
    h = mg.ones(2, dtype=mg.float16, requires_grad=True)
    (x * y + x.double() + h).sum().backward()
    assert (x.grad.dtype, y.grad.dtype, h.grad.dtype) == (mg.float32, mg.float64, mg.float16)


# 2. Size ------------------------------------------------------------------------------------------------


def test_a_chain_of_50_000_operations():
    x = mg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(50_000):
        y = y * 1.0
    y.backward()
    assert x.grad.item() == 1.0


def test_dropping_a_long_chain_without_backward():
    """Python frees nested objects recursively; here they are nested 200,000 deep."""
    x = mg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(200_000):
        y = y + 1.0
    seen = weakref.ref(y)
    del y
    assert seen() is None


# 3. Memory ----------------------------------------------------------------------------------------------


made: list[weakref.ref] = []  # the arrays that Saves has saved


class Saves(Function):
    """y = x, with an array of its own that is saved."""

    @staticmethod
    def forward(ctx, x):
        saved = x + 1.0
        made.append(weakref.ref(saved))
        ctx.save_for_backward(saved)
        ctx.remark = saved
        return x * 1.0

    @staticmethod
    def backward(ctx, gy):
        return gy


def alive() -> int:
    return sum(ref() is not None for ref in made)


@pytest.fixture
def without_collector():
    """Memory has to go by reference counts alone: no cycles, so no waiting for the garbage collector."""
    made.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_backward_frees_what_was_saved(without_collector):
    x = ones(3)
    y = x
    for _ in range(5):
        y = Saves.apply(y)
    assert alive() == 5
    loss = y.sum()
    loss.backward()
    assert alive() == 0  # although y and loss are still here
    assert loss.grad_fn.freed


def test_retain_graph_keeps_it(without_collector):
    x = ones(3)
    loss = Saves.apply(x).sum()
    loss.backward(retain_graph=True)
    assert alive() == 1
    loss.backward()
    assert alive() == 0
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_dropping_the_result_frees_the_graph(without_collector):
    x = ones(3)
    y = Saves.apply(x)
    y.register_hook(lambda gradient: None)
    y.retain_grad()
    z = (y * 2).sum()
    del y
    assert alive() == 1
    del z
    assert alive() == 0


def test_nothing_is_saved_under_no_grad(without_collector):
    x = ones(3)
    with mg.no_grad():
        y = Saves.apply(x)
    assert alive() == 0
    assert y.grad_fn is None
    Saves.apply(mg.ones(3))
    assert alive() == 0


def test_intermediate_values_are_let_go(without_collector):
    """A result that no operation needs for its gradient does not stay: + saves nothing."""
    x = ones(3)
    y = x * 2.0
    array = weakref.ref(y.array)
    z = y + 1
    del y
    z.sum().backward()
    assert array() is None


# 4. What is refused -------------------------------------------------------------------------------------


def test_a_freed_graph():
    x = ones(2)
    h = x * 2
    y = h.sum()
    y.backward()
    message = "this graph was freed by an earlier backward pass; .* or pass retain_graph=True the first time"
    with pytest.raises(GradientError, match=message):
        y.backward()
    with pytest.raises(GradientError, match=message):
        (h * 3).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_part_of_the_graph_freed():
    """Two losses on one trunk: the second backward finds the trunk freed and says so before it does anything."""
    x, w = ones(2), ones(2)
    trunk = x * x
    one, other = trunk.sum(), (trunk * w).sum()
    one.backward()
    with pytest.raises(GradientError, match="freed by an earlier backward"):
        other.backward()
    assert w.grad is None


def test_second_derivatives():
    x = ones(1)
    with pytest.raises(GradientError, match="create_graph=True asks for second derivatives, which minigrad"):
        (x * x).backward(create_graph=True)
    y = x * x
    y.backward()
    assert not x.grad.requires_grad


def test_nothing_to_differentiate():
    with pytest.raises(GradientError, match="does not depend on anything that requires gradients .was it"):
        mg.ones(1).backward()
    with mg.no_grad():
        y = ones(1) * 2
    with pytest.raises(GradientError, match="computed under no_grad"):
        y.backward()


def test_more_than_one_number():
    with pytest.raises(GradientError, match=r"this has shape \(2, 3\); reduce it first .*or pass gradient="):
        (ones(2, 3) * 2).backward()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_number_needs_no_gradient(shape):
    x = mg.ones(shape, requires_grad=True)
    (x * 3).backward()
    assert x.grad.shape == shape
    assert x.grad.item() == 3.0


def test_shape_of_the_cotangent():
    with pytest.raises(ShapeError, match=r"backward: gradient has shape \(3,\), the tensor \(2, 3\)"):
        (ones(2, 3) * 2).backward(mg.ones(3))


@pytest.mark.parametrize(
    "gradient", [mg.tensor([2.0, 3.0]), np.array([2, 3]), [2, 3], (2.0, 3.0), mg.tensor([2, 3])]
)
def test_what_a_cotangent_may_be(gradient):
    x = ones(2)
    (x * 2).backward(gradient)
    assert x.grad.tolist() == [4.0, 6.0]
    assert x.grad.dtype == mg.float32


def test_integers_have_no_gradients():
    message = "only floating-point tensors can require gradients, this one is int64; .* with .float"
    with pytest.raises(DtypeError, match=message):
        mg.tensor([1, 2], requires_grad=True)
    with pytest.raises(DtypeError, match=message):
        mg.tensor([1, 2]).requires_grad_()
    assert not (ones(2) > 0).requires_grad
    assert not ones(2).argmax().requires_grad


# 5. Leaves, unused parts, empty tensors -----------------------------------------------------------------


def test_backward_from_a_leaf():
    x = mg.tensor(3.0, requires_grad=True)
    x.backward()
    x.backward(mg.tensor(2.0))
    assert x.grad.item() == 3.0


def test_only_what_the_result_depends_on_gets_a_gradient():
    x, y, constant = ones(2), ones(2), mg.ones(2)
    unused = y * 2
    (x * constant).sum().backward()
    assert y.grad is None
    assert constant.grad is None
    assert unused.grad_fn is not None


def test_empty_tensors():
    x = ones(0, 3)
    (x * 2).sum().backward()
    assert x.grad.shape == (0, 3)


def test_a_leaf_that_stopped_requiring_gradients_after_its_use():
    """The graph remembers what was asked for when it was built."""
    x = ones(2)
    y = (x * 2).sum()
    x.requires_grad_(False)
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]
    assert not (x * 2).requires_grad


# 6. Gradients as values ---------------------------------------------------------------------------------


def test_grad_returns_instead_of_adding():
    x, y = ones(2), ones(2)
    loss = (x * y * y).sum()
    gx, gy = mg.autograd.grad(loss, [x, y])
    assert (gx.tolist(), gy.tolist()) == ([1.0, 1.0], [2.0, 2.0])
    assert x.grad is None
    assert y.grad is None
    assert not np.shares_memory(gx.numpy(), gy.numpy())


def test_grad_of_inner_values_and_with_a_cotangent():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    h = x * x
    y = h * 3
    gh, gx = mg.autograd.grad(y, [h, x], grad_outputs=mg.tensor([1.0, 10.0]), retain_graph=True)
    assert gh.tolist() == [3.0, 30.0]
    assert gx.tolist() == [6.0, 120.0]
    assert h.grad_fn.hooks == []
    assert mg.autograd.grad(y.sum(), h)[0].tolist() == [3.0, 3.0]
    assert h.grad is None
    (x * h.detach()).sum().backward()  # the hooks of grad are gone, nothing else is disturbed
    assert x.grad.tolist() == [1.0, 4.0]


def test_grad_of_the_result_itself():
    y = ones(1) * 2
    assert mg.autograd.grad(y, y)[0].item() == 1.0


def test_grad_of_what_was_not_used():
    x, y = ones(2), ones(2)
    with pytest.raises(GradientError, match="grad: the output does not depend on input 1 .allow_unused=True"):
        mg.autograd.grad(x.sum(), [x, y])
    gx, gy = mg.autograd.grad(x.sum(), [x, y], allow_unused=True)
    assert gx.tolist() == [1.0, 1.0]
    assert gy is None
