"""What the tests of the core share: shapes and memory orders to try, and gradient checks over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import gradcheck

# The same examples in every run, without a clock; few of them, because each one is a whole gradient check.
few = settings(
    max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
fewer = settings(few, max_examples=25)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(0, 4)
shapes = st.lists(sizes, max_size=4).map(tuple)  # 0-d and empty ones included
filled_shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)


# 1. Memory orders ---------------------------------------------------------------------------------------


def _rows(x: np.ndarray) -> np.ndarray:
    return np.array(x, order="C")


def _columns(x: np.ndarray) -> np.ndarray:
    """What a transpose gives."""
    return np.array(x, order="F")


def _batch_last(x: np.ndarray) -> np.ndarray:
    """The first dimension runs fastest: what convolutions return."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0) if x.ndim else _rows(x)


def _every_second(x: np.ndarray) -> np.ndarray:
    """A view with gaps, filled with what would show in any result."""
    big = np.full([2 * n + 1 for n in x.shape], True if x.dtype == bool else 77, dtype=x.dtype)
    view = big[tuple(slice(1, None, 2) for _ in x.shape)] if x.ndim else big
    view[...] = x
    return view


def _backwards(x: np.ndarray) -> np.ndarray:
    """Negative strides."""
    turn = tuple(slice(None, None, -1) for _ in x.shape)
    return np.array(x[turn], order="C")[turn] if x.ndim else _rows(x)


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": _rows,
    "columns": _columns,
    "batch last": _batch_last,
    "every second": _every_second,
    "backwards": _backwards,
}
orders = st.sampled_from(sorted(ORDERS))


# 2. Tensors to calculate with ---------------------------------------------------------------------------


def normal(seed: int, shape: tuple[int, ...], order: str = "rows") -> np.ndarray:
    """Normally distributed float64 numbers in a memory order."""
    return ORDERS[order](np.asarray(np.random.default_rng(seed).standard_normal(shape)))


def leaf(array: np.ndarray) -> mg.Tensor:
    """A leaf that requires gradients and has the memory order of `array`."""
    return mg.Tensor(array, requires_grad=True)


def check(function: Callable[..., Any], *arrays: np.ndarray, **options: Any) -> None:
    """The gradients with respect to all arrays agree with differences."""
    assert gradcheck(function, [leaf(a) for a in arrays], **options)


@st.composite
def broadcast_pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast: dimensions dropped at the left, others shrunk to 1, in either one."""
    full = draw(st.lists(st.integers(0, 3), max_size=4))

    def smaller() -> tuple[int, ...]:
        kept = full[draw(st.integers(0, len(full))) :]
        return tuple(1 if draw(st.booleans()) else n for n in kept)

    one, other = smaller(), smaller()
    return one, other


@st.composite
def shapes_and_dims(draw: st.DrawFn, empty: bool = True) -> tuple[tuple[int, ...], Any]:
    """A shape, and dimensions of it to reduce: None, one, or several, counted from either end."""
    shape = draw(shapes if empty else filled_shapes)
    if not shape:
        return shape, draw(st.sampled_from([None, 0, -1, ()]))
    one = st.integers(-len(shape), len(shape) - 1)
    several = st.lists(one, unique_by=lambda d: d % len(shape), max_size=len(shape)).map(tuple)
    return shape, draw(st.none() | one | several)
