"""Parameter and Buffer: tensors with a role."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DtypeError


def test_a_parameter_is_a_leaf_that_requires_gradients():
    p = nn.Parameter(mg.ones(2))
    assert isinstance(p, mg.Tensor)
    assert (p.requires_grad, p.is_leaf, p.grad) == (True, True, None)
    (p * p).sum().backward()
    assert p.grad.tolist() == [2.0, 2.0]


def test_what_is_computed_from_a_parameter_is_no_parameter():
    p = nn.Parameter(mg.ones(2))
    for result in (p + 1, p.detach(), p.reshape(2, 1), -p):
        assert type(result) is mg.Tensor


def test_a_parameter_of_the_result_of_a_graph_is_a_new_leaf():
    x = mg.ones(2, requires_grad=True)
    p = nn.Parameter(x * 2)
    assert p.is_leaf
    assert p.grad_fn is None


def test_a_frozen_parameter():
    p = nn.Parameter(mg.ones(2), requires_grad=False)
    assert not p.requires_grad
    layer = nn.Module()
    layer.p = p
    assert [name for name, _ in layer.named_parameters()] == ["p"]


def test_arrays_and_lists_are_welcome():
    assert nn.Parameter(np.zeros((2, 3))).shape == (2, 3)
    assert nn.Parameter([1.0, 2.0]).dtype == mg.float32


def test_integers_cannot_be_learned():
    with pytest.raises(DtypeError, match="only floating-point tensors can require gradients"):
        nn.Parameter(mg.tensor([1, 2]))


def test_a_buffer_requires_nothing_and_may_hold_integers():
    b = nn.Buffer(mg.tensor([1, 2]))
    assert (b.requires_grad, b.dtype, b.persistent) == (False, mg.int64, True)
    assert nn.Buffer(mg.ones(2, requires_grad=True) * 2).grad_fn is None


def test_copies_keep_their_role():
    buffer = copy.deepcopy(nn.Buffer(mg.ones(2), persistent=False))
    assert type(buffer) is nn.Buffer
    assert not buffer.persistent
    parameter = copy.deepcopy(nn.Parameter(mg.ones(2)))
    assert type(parameter) is nn.Parameter
    assert parameter.requires_grad
