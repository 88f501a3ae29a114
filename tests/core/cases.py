"""One example of each primitive operation, and more where an operation has several ways.

`CASES` maps a name to a function of tensors and its float64 inputs. The class of the operation is in `op`;
`test_gradcheck.py` sees to it that every Function in `minigrad.ops` has at least one case.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Function, ops
from minigrad.backend import Device
from minigrad.dtypes import float64
from minigrad.ops.arithmetic import Add, Div, Maximum, Minimum, Mul, Neg, Pow, Sub, Where
from minigrad.ops.elementwise import Abs, Cast, Clip, Clone, Cos, Exp, Log, Log1p, Sin, Sqrt, ToDevice
from minigrad.ops.indexing import GetItem
from minigrad.ops.linalg import Einsum, MatMul
from minigrad.ops.reduction import CumSum, Max, Mean, Min, Norm, Prod, Sum
from minigrad.ops.shape import Concatenate, Expand, Permute, Reshape
from minigrad.testing import distinct_values

RNG = np.random.default_rng(20)
CPU = Device("cpu")


@dataclass(frozen=True)
class Case:
    """`call(apply, *tensors)` calls the operation; `apply` is `op.apply` or a sabotaged stand-in for it."""

    op: type[Function]
    call: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.random(shape) + 0.5


def distinct(*shape: int) -> np.ndarray:
    return distinct_values(shape, RNG)


def on(x: Any, array: Any) -> Any:
    """An index or a mask beside x, on its device."""
    return mg.tensor(array, device=x.device).array


MASK = np.array([[True, False, True], [False, True, True]])

CASES: dict[str, Case] = {
    "add": Case(Add, lambda f, a, b: f(a, b), (normal(2, 3), normal(2, 3))),
    "add, stretched": Case(Add, lambda f, a, b: f(a, b), (normal(2, 1, 3), normal(4, 1))),
    "add a number": Case(Add, lambda f, a: f(a, 2.5), (normal(2, 3),)),
    "sub": Case(Sub, lambda f, a, b: f(a, b), (normal(2, 3), normal(3))),
    "sub from a number": Case(Sub, lambda f, a: f(2.5, a), (normal(2, 3),)),
    "mul": Case(Mul, lambda f, a, b: f(a, b), (normal(2, 3), normal(2, 1))),
    "mul by a number": Case(Mul, lambda f, a: f(a, 2.5), (normal(2, 3),)),
    "div": Case(Div, lambda f, a, b: f(a, b), (normal(2, 3), positive(3))),
    "div a number": Case(Div, lambda f, a: f(2.5, a), (positive(2, 3),)),
    "div by a number": Case(Div, lambda f, a: f(a, 2.5), (normal(2, 3),)),
    "pow": Case(Pow, lambda f, a, b: f(a, b), (positive(2, 3), normal(2, 3))),
    "pow, stretched": Case(Pow, lambda f, a, b: f(a, b), (positive(3), normal(2, 1))),
    "pow of a number": Case(Pow, lambda f, a: f(2.5, a), (normal(2, 3),)),
    "pow to a number": Case(Pow, lambda f, a: f(a, 3), (normal(2, 3),)),
    "neg": Case(Neg, lambda f, a: f(a), (normal(2, 3),)),
    "maximum": Case(Maximum, lambda f, a, b: f(a, b), (distinct(2, 3), distinct(2, 3) + 0.05)),
    "maximum, a number": Case(Maximum, lambda f, a: f(a, 0.0), (distinct(2, 3),)),
    "minimum": Case(Minimum, lambda f, a, b: f(a, b), (distinct(2, 3), distinct(3) + 0.05)),
    "where": Case(Where, lambda f, a, b: f(on(a, MASK), a, b), (normal(2, 3), normal(3))),
    "where, a number": Case(Where, lambda f, a: f(on(a, MASK), a, 2.5), (normal(2, 3),)),
    "where, stretched mask": Case(Where, lambda f, a, b: f(on(a, MASK), a, b), (normal(3), normal(2, 1))),
    "exp": Case(Exp, lambda f, a: f(a), (normal(2, 3),)),
    "log": Case(Log, lambda f, a: f(a), (positive(2, 3),)),
    "log1p": Case(Log1p, lambda f, a: f(a), (positive(2, 3),)),
    "sqrt": Case(Sqrt, lambda f, a: f(a), (positive(2, 3),)),
    "abs": Case(Abs, lambda f, a: f(a), (distinct(2, 3),)),
    "sin": Case(Sin, lambda f, a: f(a), (normal(2, 3),)),
    "cos": Case(Cos, lambda f, a: f(a), (normal(2, 3),)),
    "clip": Case(Clip, lambda f, a: f(a, -0.11, 0.12), (distinct(2, 3),)),
    "clip below": Case(Clip, lambda f, a: f(a, 0.0, None), (distinct(2, 3),)),
    "clip above": Case(Clip, lambda f, a: f(a, None, 0.0), (distinct(2, 3),)),
    "clone": Case(Clone, lambda f, a: f(a), (normal(2, 3),)),
    "cast": Case(Cast, lambda f, a: f(a, float64), (normal(2, 3),)),
    "to device": Case(ToDevice, lambda f, a: f(a, CPU), (normal(2, 3),)),
    "take a row": Case(GetItem, lambda f, a: f(a, 1), (normal(2, 3),)),
    "take a slice": Case(GetItem, lambda f, a: f(a, (slice(None), slice(2, None, -1))), (normal(2, 3),)),
    "take with new axes": Case(GetItem, lambda f, a: f(a, (None, Ellipsis, 0, None)), (normal(2, 3),)),
    "take by index": Case(GetItem, lambda f, a: f(a, on(a, [1, 0, 1])), (normal(2, 3),)),
    "take by two": Case(GetItem, lambda f, a: f(a, (on(a, [1, 0, 1]), on(a, [2, 2, -1]))), (normal(2, 3),)),
    "take by mask": Case(GetItem, lambda f, a: f(a, on(a, MASK)), (normal(2, 3),)),
    "matmul": Case(MatMul, lambda f, a, b: f(a, b), (normal(2, 3), normal(3, 4))),
    "matmul, batches": Case(MatMul, lambda f, a, b: f(a, b), (normal(2, 1, 2, 3), normal(5, 3, 2))),
    "matmul, vectors": Case(MatMul, lambda f, a, b: f(a, b), (normal(3), normal(3))),
    "matmul, row": Case(MatMul, lambda f, a, b: f(a, b), (normal(3), normal(2, 3, 4))),
    "matmul, column": Case(MatMul, lambda f, a, b: f(a, b), (normal(2, 4, 3), normal(3))),
    "einsum": Case(Einsum, lambda f, a, b: f("ij,jk->ki", a, b), (normal(2, 3), normal(3, 4))),
    "einsum, summed away": Case(Einsum, lambda f, a, b: f("ijk,l->jl", a, b), (normal(2, 3, 4), normal(2))),
    "einsum of three": Case(
        Einsum, lambda f, a, b, c: f("i,ij,j->", a, b, c), (normal(2), normal(2, 3), normal(3))
    ),
    "sum": Case(Sum, lambda f, a: f(a, (0, 1), False), (normal(2, 3),)),
    "sum, some": Case(Sum, lambda f, a: f(a, (0, 2), True), (normal(2, 3, 4),)),
    "mean": Case(Mean, lambda f, a: f(a, (0, 1), False), (normal(2, 3),)),
    "mean, some": Case(Mean, lambda f, a: f(a, (1,), False), (normal(2, 3, 4),)),
    "norm": Case(Norm, lambda f, a: f(a, 2, (0, 1), False), (normal(2, 3),)),
    "norm, some": Case(Norm, lambda f, a: f(a, 2, (0, 2), True), (normal(2, 3, 4),)),
    "norm 1": Case(Norm, lambda f, a: f(a, 1, (1,), False), (distinct(2, 3),)),
    "norm 3": Case(Norm, lambda f, a: f(a, 3, (0,), True), (distinct(2, 3),)),
    "max": Case(Max, lambda f, a: f(a, (0, 1), False), (distinct(2, 3),)),
    "max, some": Case(Max, lambda f, a: f(a, (0, 2), True), (distinct(2, 3, 4),)),
    "min": Case(Min, lambda f, a: f(a, (0, 1), False), (distinct(2, 3),)),
    "min, some": Case(Min, lambda f, a: f(a, (1,), False), (distinct(2, 3, 4),)),
    "prod": Case(Prod, lambda f, a: f(a, (0, 1), False), (normal(2, 3),)),
    "prod, some": Case(Prod, lambda f, a: f(a, (0, 2), True), (normal(2, 3, 2),)),
    "cumsum": Case(CumSum, lambda f, a: f(a, 1), (normal(2, 3, 4),)),
    "reshape": Case(Reshape, lambda f, a: f(a, (3, 2)), (normal(2, 3),)),
    "permute": Case(Permute, lambda f, a: f(a, [2, 0, 1]), (normal(2, 3, 4),)),
    "expand": Case(Expand, lambda f, a: f(a, (4, 2, 3)), (normal(2, 1),)),
    "concatenate": Case(Concatenate, lambda f, a, b: f(1, a, b), (normal(2, 3), normal(2, 1))),
}


def all_operations() -> set[type[Function]]:
    """Every Function that a module of minigrad.ops defines."""
    found = set()
    for info in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"minigrad.ops.{info.name}")
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Function)
                and value.__module__ == module.__name__
            ):
                found.add(value)
    return found
