"""The checker is checked: gradients broken on purpose have to be noticed, for every primitive operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Function
from minigrad.errors import ArgumentError, DtypeError, GradientError
from minigrad.testing import ELEMENTWISE_LIMIT, distinct_values, gradcheck
from tests.core.cases import CASES, Case, all_operations
from tests.core.support import leaf

# 1. Four ways to break a backward -----------------------------------------------------------------------


def dropped(grads: list[Any], k: int) -> list[Any]:
    return [*grads[:k], np.zeros_like(grads[k]), *grads[k + 1 :]]


def scaled(grads: list[Any], k: int) -> list[Any]:
    return [*grads[:k], grads[k] * 1.001, *grads[k + 1 :]]


def wrong_shape(grads: list[Any], k: int) -> list[Any]:
    return [*grads[:k], grads[k][None], *grads[k + 1 :]]


def one_short(grads: list[Any], k: int) -> list[Any]:
    return grads[:k]


SABOTAGE: dict[Callable[..., Any], str] = {
    dropped: "wrong gradient at element",
    scaled: "wrong gradient at element",
    wrong_shape: "returned a gradient of shape",
    one_short: "gradients, but",
}


def sabotaged(op: type[Function], how: Callable[..., Any], which: int) -> type[Function]:
    """The operation, with its gradient number `which` (counting those that are needed) broken."""

    def backward(ctx: Any, *gys: Any) -> Any:
        returned = op.backward(ctx, *gys)
        grads = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        needed = [i for i, need in enumerate(ctx.needs_input_grad) if need]
        return tuple(how(grads, needed[which]))

    return type(op.__name__, (op,), {"backward": staticmethod(backward)})


def run(case: Case, apply: Callable[..., Any]) -> bool:
    return gradcheck(lambda *xs: case.call(apply, *xs), [leaf(x) for x in case.inputs])


def test_every_operation_has_a_case():
    assert {case.op for case in CASES.values()} == all_operations()


@pytest.mark.parametrize("name", CASES)
def test_the_true_gradient_passes(name):
    assert run(CASES[name], CASES[name].op.apply)


@pytest.mark.parametrize("how", SABOTAGE, ids=lambda how: how.__name__)
@pytest.mark.parametrize("name", CASES)
def test_a_broken_gradient_is_noticed(name, how):
    case = CASES[name]
    for which in range(len(case.inputs)):
        with pytest.raises(GradientError, match=SABOTAGE[how]):
            run(case, sabotaged(case.op, how, which).apply)


def test_a_broken_gradient_is_noticed_along_directions():
    """Large inputs are looked at along a few random directions only."""
    x = leaf(np.random.default_rng(0).standard_normal(ELEMENTWISE_LIMIT + 1))
    exp = CASES["exp"].op
    assert gradcheck(exp.apply, [x])
    for how in (dropped, scaled):
        with pytest.raises(GradientError, match="wrong gradient at random direction 0"):
            gradcheck(sabotaged(exp, how, 0).apply, [x])


class BlindToOnes(Function):
    """y = x - mean(x), with a backward of zeros: right for gy = 1, wrong for every other gy."""

    @staticmethod
    def forward(ctx, x):
        return x - x.mean()

    @staticmethod
    def backward(ctx, gy):
        return np.zeros_like(gy)


def test_the_cotangent_is_random():
    with pytest.raises(GradientError, match="wrong gradient"):
        gradcheck(BlindToOnes.apply, [leaf(np.array([1.0, 2.0, 4.0]))])


# 2. What it says ----------------------------------------------------------------------------------------


def test_message_of_a_wrong_gradient():
    wrong = sabotaged(CASES["mul"].op, scaled, 1)
    with pytest.raises(GradientError) as caught:
        gradcheck(wrong.apply, [leaf(np.array([2.0])), leaf(np.array([3.0]))])
    title, backward, differences, hint = str(caught.value).splitlines()
    assert title == "gradcheck: input 1 has a wrong gradient at element (0,)"
    assert backward.startswith("  backward says    ")
    assert differences.startswith("  differences say  ")
    assert float(backward.split()[2]) == pytest.approx(1.001 * float(differences.split()[2]))
    assert "error" in differences
    assert hint == "  hint: check the gradient that backward returns for this input, of shape (1,)"


@pytest.mark.parametrize(
    "function",
    [abs, lambda x: x.clip(0.0, 1.0), lambda x: x.maximum(-x), lambda x: x.amax(), lambda x: x.norm()],
)
def test_a_kink_is_recognised(function):
    x = leaf(np.zeros(2))
    x.array += 1e-8  # closer to the kink than the step
    with pytest.raises(GradientError, match=r"hint: the function has a kink or a tie there.*distinct_values"):
        gradcheck(function, [x])


def test_without_exceptions_the_answer_is_false():
    wrong = sabotaged(CASES["exp"].op, scaled, 0)
    assert gradcheck(wrong.apply, [leaf(np.ones(2))], raise_exception=False) is False
    short = sabotaged(CASES["exp"].op, one_short, 0)
    assert gradcheck(short.apply, [leaf(np.ones(2))], raise_exception=False) is False


def test_random_functions_are_refused(rng):
    with pytest.raises(GradientError, match="different results for the same inputs"):
        gradcheck(lambda x: x * rng.standard_normal(), [leaf(np.ones(2))])


class ChangesItsInput(Function):
    @staticmethod
    def forward(ctx, x):
        x += 1
        return x * 2

    @staticmethod
    def backward(ctx, gy):
        return 2 * gy


def test_changing_the_input_is_refused():
    with pytest.raises(GradientError, match="changed input 0 in place"):
        gradcheck(ChangesItsInput.apply, [leaf(np.ones(2))])


def test_float32_is_refused():
    with pytest.raises(DtypeError, match="input 1 is float32; gradients can only be checked in float64"):
        gradcheck(lambda x, y: x, [leaf(np.ones(1)), mg.ones(1, requires_grad=True)])


def test_nothing_to_check_is_refused():
    with pytest.raises(ArgumentError, match="none of the inputs requires gradients"):
        gradcheck(lambda x: x, [mg.ones(2, dtype=mg.float64)])
    with pytest.raises(GradientError, match="no output depends on an input"):
        gradcheck(lambda x: x.detach(), [leaf(np.ones(2))])


# 3. What it accepts -------------------------------------------------------------------------------------


def test_several_outputs_are_weighed_separately():
    """The sum of the outputs is constant, the outputs are not."""
    assert gradcheck(lambda x: (x * x, -(x * x)), [leaf(np.array([1.0, 2.0]))])
    cancel = sabotaged(CASES["mul"].op, scaled, 0)
    with pytest.raises(GradientError, match="wrong gradient"):
        gradcheck(lambda x: (cancel.apply(x, x), -cancel.apply(x, x)), [leaf(np.array([1.0, 2.0]))])


def test_other_inputs_and_outputs_are_left_alone():
    labels = mg.tensor([1, 0])

    def function(x, labels, scale):
        return x[labels] * scale, x.argmax(), "remark"

    assert gradcheck(function, [leaf(np.array([1.0, 2.0])), labels, 3.0])


def test_an_input_without_influence_has_gradient_zero():
    assert gradcheck(lambda x, y: x * 2, [leaf(np.ones(2)), leaf(np.ones(3))])


def test_gradients_and_values_are_as_before():
    x = leaf(np.array([1.0, 2.0]))
    x.grad = mg.tensor([7.0, 7.0])
    before = x.array
    gradcheck(lambda x: x.exp(), x)
    assert x.grad.tolist() == [7.0, 7.0]
    assert x.array is before
    assert x.tolist() == [1.0, 2.0]


def test_empty_tensors_pass():
    assert gradcheck(lambda x: x.sum(0), [leaf(np.zeros((0, 3)))])


def test_nan_is_no_agreement():
    with pytest.raises(GradientError, match="backward says *nan"):
        gradcheck(lambda x: x * float("nan"), [leaf(np.ones(1))])


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4)])
def test_distinct_values(shape):
    values = distinct_values(shape, np.random.default_rng(0), step=0.5)
    assert values.shape == shape
    assert values.dtype == np.float64
    apart = np.diff(np.sort(values.reshape(-1)))
    assert (apart >= 0.5 - 1e-12).all()
    assert (np.abs(values) >= 0.25 - 1e-12).all()
