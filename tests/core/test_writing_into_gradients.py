"""A backward that writes into the gradient it received would change what other operations receive."""

import pytest

import minigrad as mg
from minigrad.errors import GradientError
from minigrad.testing import gradcheck


class Twice(mg.Function):
    """y = 2 x, with a backward that may not be."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x


class Zeroing(Twice):
    @staticmethod
    def backward(ctx, gy):
        gy *= 0
        return gy


class Doubling(Twice):
    @staticmethod
    def backward(ctx, gy):
        gy *= 7
        return gy * 2


class Assigning(Twice):
    @staticmethod
    def backward(ctx, gy):
        gy[...] = 1
        return gy


@pytest.mark.parametrize("function", [Zeroing, Doubling, Assigning])
def test_gradcheck_objects(function):
    x = mg.tensor([1.0, 2.0], dtype=mg.float64, requires_grad=True)
    assert not gradcheck(function.apply, [x], raise_exception=False)
    with pytest.raises(GradientError, match=r"\.backward writes into a gradient that it received"):
        gradcheck(function.apply, [x])


def test_the_other_branch_and_the_given_gradient_stay_as_they_are():
    a, b = mg.ones(2, requires_grad=True), mg.ones(2, requires_grad=True)
    given = mg.tensor([1.0, 2.0])
    with pytest.raises(GradientError, match="make a new array"):
        (Doubling.apply(a) + b).backward(given)
    assert given.tolist() == [1.0, 2.0]


def test_gradients_that_arrive_at_leaves_can_be_written_to():
    x = mg.ones(2, requires_grad=True)
    x.reshape(2).backward(mg.ones(2))
    x.grad += 1
    assert x.grad.tolist() == [2.0, 2.0]


def test_another_value_error_is_passed_on():
    class Wrong(Twice):
        @staticmethod
        def backward(ctx, gy):
            raise ValueError("my own")

    x = mg.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="my own"):
        Wrong.apply(x).sum().backward()


def test_tensor_methods_in_backward_get_a_note():
    class Cloning(Twice):
        @staticmethod
        def backward(ctx, gy):
            return gy.clone()

    x = mg.ones(2, requires_grad=True)
    with pytest.raises(AttributeError) as caught:
        Cloning.apply(x).sum().backward()
    assert "Cloning.backward receives arrays" in caught.value.__notes__[0]
    assert "'clone'" in caught.value.__notes__[0]


def test_calling_a_function_says_apply():
    with pytest.raises(TypeError, match=r"write Twice\.apply\(x\)"):
        Twice(mg.ones(2))


def test_a_wrong_scale_of_a_large_input_is_found():
    class Scaled(Twice):
        @staticmethod
        def backward(ctx, gy):
            return gy * 2.002

    x = mg.tensor(mg.ones(5000), dtype=mg.float64, requires_grad=True)
    with pytest.raises(GradientError, match="random direction 0"):
        gradcheck(Scaled.apply, [x])
