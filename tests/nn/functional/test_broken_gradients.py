"""Gradients broken on purpose are noticed, for every Function of nn.functional and every argument."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import GradientError
from tests.core.test_gradcheck import SABOTAGE, run, sabotaged
from tests.nn.functional.cases import CASES as DEVICE_CASES
from tests.nn.functional.cases import CPU_CASES, all_functions

CASES = {**DEVICE_CASES, **CPU_CASES}


def test_every_function_has_a_case():
    """A new Function needs an entry in cases.py."""
    assert {case.op for case in CASES.values()} == all_functions()


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


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_written_into_inputs_or_gradients(name):
    """They may belong to others. Arrays that refuse writing show it."""
    case = CASES[name]

    def frozen(array: np.ndarray) -> np.ndarray:
        copy = array.copy()
        copy.flags.writeable = False
        return copy

    xs = [mg.Tensor(frozen(x), requires_grad=True) for x in case.inputs]
    y = case.call(case.op.apply, *xs)
    y = y[0] if isinstance(y, tuple) else y
    y.backward(frozen(np.random.default_rng(0).standard_normal(y.shape)))
    assert all(x.grad is not None for x in xs)
