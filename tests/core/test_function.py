"""Function as a student uses it: what works, and what each mistake is answered with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Function
from minigrad.errors import DeviceError, DtypeError, GradientError, MinigradError
from minigrad.testing import gradcheck


def function(backward: Any, forward: Any = None) -> type[Function]:
    """A Function called Student with this backward; without a forward it is y = a * b."""

    class Student(Function):
        pass

    def product(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    Student.forward = staticmethod(forward or product)
    Student.backward = staticmethod(backward)
    return Student


def ones(*shape: int, **options: Any) -> mg.Tensor:
    return mg.ones(*shape, requires_grad=True, **options)


# 1. A wrong backward ------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "shape of the first": (
        lambda ctx, gy: (gy.sum(), gy),
        r"Student.backward returned a gradient of shape \(\) for argument 0 \(a\), whose shape is \(2, 3\)",
    ),
    "shape of the second": (
        lambda ctx, gy: (gy, gy.T),
        r"Student.backward returned a gradient of shape \(3, 2\) for argument 1 \(b\), whose shape is \(2, 3\)",
    ),
    "a shape that would broadcast": (
        lambda ctx, gy: (gy[:1], gy),
        r"gradient of shape \(1, 3\) for argument 0 \(a\), whose shape is \(2, 3\)",
    ),
    "one short": (
        lambda ctx, gy: gy,
        r"Student.backward returned 1 gradients, but Student.forward takes 2 arguments \(a, b\): "
        "return one for each, None where there is nothing to differentiate",
    ),
    "one too many": (
        lambda ctx, gy: (gy, gy, gy),
        r"Student.backward returned 3 gradients, but Student.forward takes 2 arguments \(a, b\)",
    ),
    "an empty tuple": (lambda ctx, gy: (), "Student.backward returned 0 gradients, but"),
    "None in place of one": (
        lambda ctx, gy: (gy, None),
        r"Student.backward returned None for argument 1 \(b\), which requires gradients: "
        r"return an array of shape \(2, 3\)",
    ),
    "no return": (lambda ctx, gy: None, "returned 1 gradients, but Student.forward takes 2 arguments"),
    "a Tensor": (
        lambda ctx, gy: (mg.Tensor(gy), gy),
        "Student.backward returned a Tensor; it receives arrays and has to return arrays",
    ),
    "a list in place of an array": (
        lambda ctx, gy: (gy.tolist(), gy),
        "Student.backward returned list; it receives arrays and has to return arrays",
    ),
    "a list of floats": (lambda ctx, gy: [1.0] * 6, "Student.backward returned 6 gradients"),
    "two floats": (lambda ctx, gy: [1.0, 1.0], r"returned a gradient of shape \(\) for argument 0"),
    "a string": (lambda ctx, gy: ("gy", gy), "Student.backward returned str; it receives arrays"),
    "a generator": (lambda ctx, gy: (g for g in (gy, gy)), "returned 1 gradients, but"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward(name):
    backward, message = WRONG[name]
    y = function(backward).apply(ones(2, 3), ones(2, 3))
    with pytest.raises(GradientError, match=message):
        y.sum().backward()


@pytest.mark.parametrize("name", WRONG)
def test_gradcheck_says_the_same(name):
    backward, message = WRONG[name]
    a, b = ones(2, 3, dtype=mg.float64), ones(2, 3, dtype=mg.float64)
    with pytest.raises(GradientError, match=message):
        gradcheck(function(backward).apply, [a, b])


def test_only_what_is_needed_is_looked_at():
    """A gradient that nobody asked for may be anything, or be left off the end."""
    for rest in ([], [None], ["nonsense"]):
        x = ones(2)
        function(lambda ctx, gy, rest=rest: (gy, *rest)).apply(x, mg.ones(2)).sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]
    x = ones(2)
    function(lambda ctx, gy: (None, gy)).apply(mg.ones(2), x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_names_of_several_arguments():
    wrong = function(lambda ctx, gy: (gy, gy, gy[:1]), lambda ctx, first, *rest: first + rest[0] + rest[1])
    with pytest.raises(GradientError, match=r"for argument 2 \(rest\[1\]\)"):
        wrong.apply(ones(2), ones(2), ones(2)).sum().backward()


def test_gradients_are_brought_to_the_dtype_of_the_argument():
    for made in (
        lambda gy: gy.astype("float64"),
        lambda gy: np.ones(2, int),
        lambda gy: gy.astype("float16"),
    ):
        x = ones(2)
        function(lambda ctx, gy, made=made: made(gy), lambda ctx, x: x * 1).apply(x).sum().backward()
        assert x.grad.dtype == mg.float32
        assert x.grad.tolist() == [1.0, 1.0]


def test_a_number_does_for_a_0d_gradient():
    x = mg.tensor(2.0, requires_grad=True)
    function(lambda ctx, gy: 3.0, lambda ctx, x: x * 3).apply(x).backward()
    assert x.grad.item() == 3.0


# 2. A wrong forward -------------------------------------------------------------------------------------


def test_methods_of_tensors_in_forward():
    with pytest.raises(AttributeError) as caught:
        function(None, lambda ctx, x: x.exp()).apply(ones(2))
    assert caught.value.__notes__ == [
        "Student.forward receives arrays, not Tensors: instead of the method 'exp' use a function of ctx.xp, "
        "such as ctx.xp.exp(x)"
    ]


def test_other_attribute_errors_get_no_such_note():
    with pytest.raises(AttributeError) as caught:
        function(None, lambda ctx, x: ctx.scale * x).apply(ones(2))
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (lambda x: None, "NoneType"),
        (lambda x: [x, x], "list"),
        (lambda x: mg.Tensor(x), "a Tensor"),
        (lambda x: "y", "str"),
        (lambda x: (x, None), "NoneType"),
    ],
)
def test_what_forward_may_not_return(returned, what):
    with pytest.raises(
        GradientError, match=f"Student.forward returned {what}; it receives arrays and has to"
    ):
        function(None, lambda ctx, x: returned(x)).apply(ones(2))


def test_forward_and_backward_have_to_be_there():
    class Empty(Function):
        pass

    class NoBackward(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    with pytest.raises(TypeError, match=r"needs a static method forward\(ctx, ...\)"):
        Empty.apply(ones(2))
    with pytest.raises(TypeError, match=r"needs a static method backward\(ctx, gy\)"):
        NoBackward.apply(ones(2)).sum().backward()
    assert NoBackward.apply(mg.ones(2)).tolist() == [2.0, 2.0]


def test_without_staticmethod():
    """The decorator is easy to forget; there is no harm in it."""

    class Plain(Function):
        def forward(ctx, x):
            return x * 2

        def backward(ctx, gy):
            return gy * 2

    x = ones(2)
    Plain.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_no_tensor_among_the_arguments():
    student = function(None)
    message = r"Student.apply needs at least one Tensor among its arguments .*write apply\(\*tensors\)"
    for arguments in ((), (1.0, 2.0), (np.ones(2), np.ones(2)), ([ones(2)], 2)):
        with pytest.raises(DtypeError, match=message):
            student.apply(*arguments)


def test_mixed_devices():
    from tests import strict

    strict.install()
    with pytest.raises(DeviceError, match="student: arrays live on different devices: cpu and strict"):
        function(None).apply(ones(2), ones(2).to("strict"))


def test_errors_are_builtins_too():
    assert issubclass(GradientError, (MinigradError, RuntimeError))


# 3. What ctx offers -------------------------------------------------------------------------------------


def test_needs_input_grad():
    seen = []

    def forward(ctx, a, option, b):
        seen.append(ctx.needs_input_grad)
        return a * b

    student = function(lambda ctx, gy: (gy, None, gy), forward)
    student.apply(ones(1), "option", mg.ones(1))
    student.apply(mg.ones(1), None, ones(1))
    student.apply(mg.ones(1), 3, mg.ones(1))
    with mg.no_grad():
        student.apply(ones(1), 3, ones(1))
    assert seen == [(True, False, False), (False, False, True), (False,) * 3, (False,) * 3]


def test_options_pass_through_and_xp_is_the_library():
    class Power(Function):
        @staticmethod
        def forward(ctx, x, power, scale=1.0):
            assert ctx.xp is np
            assert isinstance(x, np.ndarray)
            ctx.power, ctx.scale = power, scale
            ctx.save_for_backward(x)
            return scale * x**power

        @staticmethod
        def backward(ctx, gy):
            (x,) = ctx.saved_tensors
            return gy * ctx.scale * ctx.power * x ** (ctx.power - 1)

    x = mg.tensor([1.0, 2.0], requires_grad=True)
    Power.apply(x, 3).sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]
    x.grad = None
    Power.apply(x, 2, 5.0).sum().backward()
    assert x.grad.tolist() == [10.0, 20.0]


def test_several_outputs():
    class SumAndDifference(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b, a - b

        @staticmethod
        def backward(ctx, g_sum, g_difference):
            return g_sum + g_difference, g_sum - g_difference

    a, b = mg.tensor([5.0], requires_grad=True), mg.tensor([3.0], requires_grad=True)
    total, difference = SumAndDifference.apply(a, b)
    assert (total.item(), difference.item()) == (8.0, 2.0)
    (total * 2 + difference * 10).backward(retain_graph=True)
    assert (a.grad.item(), b.grad.item()) == (12.0, -8.0)
    a.grad = b.grad = None
    difference.backward()
    assert (a.grad.item(), b.grad.item()) == (1.0, -1.0)
    leaves = [mg.tensor([2.0, 3.0], dtype=mg.float64, requires_grad=True) for _ in range(2)]
    assert gradcheck(SumAndDifference.apply, leaves)


def test_one_output_in_a_tuple_stays_a_tuple():
    result = function(None, lambda ctx, x: (x * 2,)).apply(mg.ones(1))
    assert isinstance(result, tuple)
    assert result[0].item() == 2.0


def test_the_input_itself_as_output():
    """An identity gives a new tensor of the same memory; writing to one is seen through the other."""
    identity = function(lambda ctx, gy: gy, lambda ctx, x: x)
    x = ones(2)
    y = identity.apply(x)
    assert y is not x
    assert y.grad_fn is not None
    loss = (y * y).sum()
    x.detach().zero_()
    with pytest.raises(GradientError, match="changed in place"):
        loss.backward()


def test_the_name_is_printed():
    assert repr(function(None).apply(ones(1), 2.0)) == "tensor([2.], grad_fn=<Student>)"
    assert mg.autograd.Function is Function
