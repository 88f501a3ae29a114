"""Variables in the graph: leaves, detached values, in-place writes that are noticed, hooks, copies."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import Function
from minigrad.errors import DtypeError, GradientError


def ones(*shape: int) -> mg.Tensor:
    return mg.ones(*shape, requires_grad=True)


# 1. Leaves and detached values --------------------------------------------------------------------------


def test_leaves():
    x = ones(2)
    y = x * 2
    assert (x.is_leaf, x.requires_grad, x.grad_fn) == (True, True, None)
    assert (y.is_leaf, y.requires_grad) == (False, True)
    assert type(y.grad_fn).__name__ == "Mul"
    constant = mg.ones(2) * 2
    assert (constant.is_leaf, constant.requires_grad) == (True, False)


def test_requires_grad_can_be_switched():
    x = mg.ones(2)
    assert x.requires_grad_() is x
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    x.requires_grad = False
    assert not (x * 2).requires_grad
    with pytest.raises(GradientError, match=r"cannot be switched off inside a graph; use .detach\(\)"):
        (ones(2) * 2).requires_grad_(False)


def test_detach_shares_memory_and_stops_gradients():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    d = x.detach()
    assert d.array is x.array
    assert not d.requires_grad
    (x * d).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0]
    d[0] = 5.0
    assert x.tolist() == [5.0, 2.0]


def test_data_is_detached_and_assignable():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    x.data += 1
    assert x.tolist() == [2.0, 3.0]
    assert x.is_leaf
    x.data = mg.zeros(3)
    assert (x.tolist(), x.requires_grad) == ([0.0] * 3, True)
    x.data = np.ones(1, np.float32)
    assert x.tolist() == [1.0]
    with pytest.raises(DtypeError, match="data: this tensor requires gradients, so it cannot hold int64"):
        x.data = mg.tensor([1])


# 2. Writes into values that a gradient needs ------------------------------------------------------------

CHANGED = "Mul.backward needs a value that was changed in place after Mul had used it; make a new tensor"


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.fill_(7.0),
        lambda x: x.zero_(),
        lambda x: x.copy_(mg.zeros(2, 2)),
        lambda x: x.add_(1),
        lambda x: x.normal_(),
        lambda x: x.clamp_(0, 1),
        lambda x: x.__iadd__(1.0),
        lambda x: x.__imul__(2.0),
        lambda x: x.__setitem__(0, 7.0),
        lambda x: x.detach().zero_(),
        lambda x: x.detach().detach().zero_(),
        lambda x: x.data.zero_(),
        lambda x: x[0].zero_(),
        lambda x: x.T.zero_(),
        lambda x: x.reshape(4)[1:].zero_(),
        lambda x: x.detach()[:, 1].fill_(3.0),
        lambda x: x.unbind()[0].mul_(2),
        lambda x: x.squeeze().split(1)[1].sub_(2),
    ],
)
def test_a_write_is_noticed(change):
    """Directly, through a detached twin, and through views."""
    w, x = ones(2, 2), mg.full((2, 2), 3.0)
    loss = (w * x).sum()
    change(x)
    with pytest.raises(GradientError, match=CHANGED):
        loss.backward()


def test_a_write_into_a_parameter_is_noticed():
    w, x = ones(2), ones(2)
    loss = (w * x).sum()
    with mg.no_grad():
        w -= 0.1
    with pytest.raises(GradientError, match=CHANGED):
        loss.backward()


def test_a_write_into_a_result_is_noticed():
    x = ones(2)
    y = x.exp()  # saved by Exp: its own derivative
    loss = y.sum()
    y.detach().zero_()
    with pytest.raises(GradientError, match="Exp.backward needs a value that was changed in place"):
        loss.backward()


def test_a_write_into_a_condition_is_noticed():
    x, mask = ones(2), mg.tensor([True, False])
    loss = mg.where(mask, x, 0.0).sum()
    mask[1] = True
    with pytest.raises(GradientError, match="Where.backward needs a value that was changed"):
        loss.backward()


def test_a_write_into_an_index_does_not_redirect_gradients():
    x, rows, columns = ones(2, 2), mg.tensor([0, 0]), np.array([1, 1])
    y = x[rows, columns]
    rows.fill_(1)
    columns[:] = 0
    y.sum().backward()
    assert x.grad.tolist() == [[0.0, 2.0], [0.0, 0.0]]


def test_a_write_into_a_view_that_was_saved_is_noticed():
    w, x = ones(2), mg.full((2, 2), 3.0)
    loss = (w * x[0]).sum()
    x.zero_()
    with pytest.raises(GradientError, match=CHANGED):
        loss.backward()


@pytest.mark.parametrize("which", [0, 1])
def test_a_view_of_one_of_several_inputs(which):
    """A write into the view is a write into that input, and into no other."""

    class Rest(mg.Function):
        @staticmethod
        def forward(ctx, a, b, which):
            return (a, b)[which][1:]

    xs = mg.zeros(3), mg.zeros(3)
    w = ones(3)
    losses = [(w * x).sum() for x in xs]
    Rest.apply(*xs, which).fill_(5)
    assert [x.tolist() == [0.0, 5.0, 5.0] for x in xs] == [which == 0, which == 1]
    losses[1 - which].backward()
    with pytest.raises(GradientError, match=CHANGED):
        losses[which].backward()


@pytest.mark.parametrize("which", [0, 1])
def test_two_tensors_on_one_array(which):
    """Each counts its own writes; a write through either is noticed where both were saved."""
    array = np.ones(2)
    xs = mg.Tensor(array, requires_grad=True), mg.Tensor(array, requires_grad=True)
    loss = (xs[0] * xs[1]).sum()
    with mg.no_grad():
        xs[which].zero_()
    with pytest.raises(GradientError, match=CHANGED):
        loss.backward()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.clone().zero_(),
        lambda x: x[[0, 1]].zero_(),
        lambda x: (x + 1).zero_(),
        lambda x: x.double().zero_(),
        lambda x: copy.deepcopy(x).zero_(),
        lambda x: x.T.reshape(4).zero_(),
    ],
)
def test_a_write_into_a_copy_changes_nothing(change):
    w, x = ones(2, 2), mg.full((2, 2), 3.0)
    loss = (w * x).sum()
    change(x)
    loss.backward()
    assert w.grad.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_a_write_into_what_no_gradient_needs_is_allowed():
    w, x = ones(2), mg.full((2,), 3.0)
    loss = (w + x).sum()
    x.zero_()
    loss.backward()
    assert w.grad.tolist() == [1.0, 1.0]


def test_a_write_before_the_use_is_allowed():
    w, x = ones(2), mg.zeros(2)
    x += 3
    (w * x).sum().backward()
    assert w.grad.tolist() == [3.0, 3.0]


def test_a_write_into_data_that_was_assigned_is_noticed():
    w, x, source = ones(2), mg.zeros(2), mg.full((2,), 3.0)
    x.data = source
    loss = (w * x).sum()
    source.zero_()  # the memory of x
    with pytest.raises(GradientError, match=CHANGED):
        loss.backward()


def test_new_data_after_the_use_is_allowed():
    """An optimizer that replaces the array leaves the graph's array as it was."""
    w = ones(2)
    loss = (w * w).sum()
    w.data = mg.zeros(2)
    loss.backward()
    assert w.grad.tolist() == [2.0, 2.0]


# 3. Hooks -----------------------------------------------------------------------------------------------


def test_a_hook_sees_the_complete_gradient_once():
    x = ones(2)
    y = x * 2
    seen = []
    y.register_hook(lambda gradient: seen.append(("y", gradient.tolist())))
    x.register_hook(lambda gradient: seen.append(("x", gradient.tolist())))
    (y * 3 + y * 4).sum().backward()
    assert seen == [("y", [7.0, 7.0]), ("x", [14.0, 14.0])]


def test_a_hook_can_replace_the_gradient():
    x = ones(2)
    y = x * 2
    y.register_hook(lambda gradient: gradient * 10)
    y.register_hook(lambda gradient: gradient + 1)
    x.register_hook(lambda gradient: -gradient)
    y.sum().backward()
    assert x.grad.tolist() == [-22.0, -22.0]


def test_hooks_can_be_removed():
    x = ones(2)
    y = x * 2
    handles = [x.register_hook(lambda gradient: gradient * 5), y.register_hook(lambda gradient: gradient * 7)]
    for handle in handles:
        handle.remove()
        handle.remove()  # a second time does no harm
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_hook_of_a_leaf_stays():
    x = ones(1)
    x.register_hook(lambda gradient: gradient * 2)
    x.sum().backward()
    x.sum().backward()
    assert x.grad.item() == 4.0


def test_wrong_hooks():
    x = ones(2)
    x.register_hook(lambda gradient: gradient.sum())
    with pytest.raises(GradientError, match=r"hook returned a gradient of shape \(\), expected \(2,\)"):
        x.sum().backward()
    y = ones(2)
    y.register_hook(lambda gradient: gradient.numpy())
    with pytest.raises(GradientError, match="hook returned ndarray; return a Tensor or nothing"):
        y.sum().backward()
    with pytest.raises(GradientError, match="register_hook: the hook would never run.*does not require grad"):
        mg.ones(2).register_hook(print)
    z = ones(2) * 2
    z.sum().backward()
    with pytest.raises(GradientError, match="register_hook: the hook would never run.*freed by backward"):
        z.register_hook(print)


def test_retain_grad():
    x = ones(2)
    y = x * 2
    y.retain_grad()
    y.retain_grad()  # still counted once
    z = y * y
    z.sum().backward()
    assert y.grad.tolist() == [4.0, 4.0]
    assert z.grad is None
    x.retain_grad()  # leaves keep theirs anyway
    assert x.grad.tolist() == [8.0, 8.0]
    with pytest.raises(GradientError, match="retain_grad: this tensor does not require gradients"):
        mg.ones(2).retain_grad()


def test_gradients_of_inner_values_are_not_kept():
    x = ones(2)
    y = x * 2
    y.sum().backward()
    assert y.grad is None


# 4. Copies ----------------------------------------------------------------------------------------------


def test_deepcopy():
    x = ones(2)
    (x * 2).sum().backward()
    x.register_hook(lambda gradient: gradient * 100)
    twin = copy.deepcopy(x)
    assert (twin.tolist(), twin.grad.tolist(), twin.requires_grad) == ([1.0, 1.0], [2.0, 2.0], True)
    with mg.no_grad():
        twin += 1
        twin.grad += 1
    assert (x.tolist(), x.grad.tolist()) == ([1.0, 1.0], [2.0, 2.0])
    twin.grad = None
    twin.sum().backward()
    assert twin.grad.tolist() == [1.0, 1.0]  # hooks stay with the original


def test_deepcopy_keeps_sharing():
    """The same tensor in two places stays the same tensor, as in tied weights."""
    x = ones(2)
    one, other = copy.deepcopy([x, x])
    assert one is other
    assert one is not x


def test_deepcopy_of_a_result_is_refused():
    with pytest.raises(GradientError, match=r"deepcopy: only leaves can be copied.*use .detach\(\)"):
        copy.deepcopy(ones(2) * 2)


def test_deepcopy_of_a_graph_with_detached_values():
    y = (ones(2) * 2).detach()
    assert copy.deepcopy(y).tolist() == [2.0, 2.0]


# 5. Outputs that are not differentiated -----------------------------------------------------------------


seen: list[tuple] = []  # what the backward of Split was given


class Split(Function):
    """(positive part, sign as float, place of the largest)."""

    @staticmethod
    def forward(ctx, x):
        positive, sign, place = np.maximum(x, 0), np.sign(x), np.argmax(x)
        ctx.save_for_backward(x)
        ctx.mark_non_differentiable(sign)
        return positive, sign, place

    @staticmethod
    def backward(ctx, g_positive, g_sign, g_place):
        (x,) = ctx.saved_tensors
        seen.append((g_positive.tolist(), g_sign.tolist(), g_place.tolist(), g_place.dtype.kind))
        return g_positive * (x > 0)


def test_marked_and_integer_outputs():
    x = mg.tensor([-1.0, 2.0], requires_grad=True)
    positive, sign, place = Split.apply(x)
    assert (positive.requires_grad, sign.requires_grad, place.requires_grad) == (True, False, False)
    assert (sign.is_leaf, place.dtype.kind, place.item()) == (True, "i", 1)
    seen.clear()
    (positive * 3).sum().backward()
    assert x.grad.tolist() == [0.0, 3.0]
    assert seen == [([3.0, 3.0], [0.0, 0.0], 0, "i")]  # zeros for what nobody used


def test_none_in_place_of_zeros():
    """Zeros cost a kernel each on a GPU."""
    received = []

    class Two(mg.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, g_two, g_three):
            received.append((g_two, g_three))
            return g_two * 2

    x = mg.tensor([1.0, 2.0], requires_grad=True)
    Two.apply(x)[0].sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    assert received[0][0].tolist() == [1.0, 1.0]
    assert received[0][1] is None


def test_a_marked_scalar_is_recognised():
    """NumPy's reductions give scalars, which become arrays on the way out."""

    class Largest(Function):
        @staticmethod
        def forward(ctx, x):
            largest = x.max()
            ctx.mark_non_differentiable(largest)
            return x * 1, largest

        @staticmethod
        def backward(ctx, gy, g_largest):
            return gy

    y, largest = Largest.apply(ones(2))
    assert y.requires_grad
    assert not largest.requires_grad
    assert largest.shape == ()
