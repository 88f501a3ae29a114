"""What the tests of the layers share: inputs in every memory order, and comparisons with PyTorch.

`compare` runs one function in minigrad and its namesake in PyTorch on the same numbers, with the same random
cotangent gy, and compares shapes, dtypes, results and the gradient of every floating-point input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import testing
from tests.core import support as core

# The same examples in every run; few, because each one compares everything.
few = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
fewer = settings(few, max_examples=8)
many = settings(few, max_examples=150)  # where an example takes a millisecond

# Largest error allowed, relative to the largest number in the array.
TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 2e-5}

dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)


def between(low: int, high: int) -> st.SearchStrategy[int]:
    """A whole number from low to high, each as likely as the others; st.integers prefers the ends."""
    return st.sampled_from(range(low, high + 1))


# 1. Memory orders ----------------------------------------------------------------------------------------


def _frozen(x: np.ndarray) -> np.ndarray:
    """Nobody may write into an input."""
    copy = x.copy()
    copy.flags.writeable = False
    return copy


ORDERS = {**core.ORDERS, "frozen": _frozen}
orders = st.sampled_from(sorted(ORDERS))


def ordered(x: np.ndarray, order: str) -> np.ndarray:
    """The same numbers in another memory order."""
    result = ORDERS[order](np.asarray(x))
    assert result.shape == x.shape
    assert result.dtype == x.dtype
    return result


def affine(x: np.ndarray, kind: str) -> list[np.ndarray]:
    """gamma and beta (C,), of both signs and with a zero; or one of them; or none."""
    rng = np.random.default_rng(1)
    C = x.shape[1]
    gamma, beta = rng.standard_normal(C).astype(x.dtype), rng.standard_normal(C).astype(x.dtype)
    gamma[0] = 0
    return {"both": [gamma, beta], "gamma": [gamma], "none": []}[kind]


affines = st.sampled_from(["both", "gamma", "none"])


# 2. Comparing --------------------------------------------------------------------------------------------


def assert_close(actual: Any, expected: Any, tolerance: float | None = None, what: str = "result") -> None:
    """Equal shapes, and errors that are small against the largest number expected (at least 1)."""
    a, e = np.asarray(actual), np.asarray(expected)
    assert a.shape == e.shape, f"{what}: shape {a.shape}, expected {e.shape}"
    if tolerance is None:
        tolerance = TOLERANCE.get(a.dtype, 0.0)
    finite = e[np.isfinite(e)]
    scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale, equal_nan=True, err_msg=what)


def listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def run(
    function: Callable[..., Any], arrays: Sequence[np.ndarray], seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Results and gradients for a random cotangent; the gradient is None for inputs that are no floats."""
    xs = [mg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    ys = listed(function(*xs))
    rng = np.random.default_rng(seed)
    for y in ys:
        gy = rng.standard_normal(y.shape).astype(y.dtype)
        if y.requires_grad:
            y.backward(gy, retain_graph=True)
    return [y.detach().numpy() for y in ys], [None if x.grad is None else x.grad.numpy() for x in xs]


def run_torch(
    torch: Any, function: Callable[..., Any], arrays: Sequence[np.ndarray], seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """The same in PyTorch, with the same cotangent."""
    xs = [torch.tensor(np.array(a, order="C"), requires_grad=a.dtype.kind == "f") for a in arrays]
    ys = listed(function(*xs))
    rng = np.random.default_rng(seed)
    for y in ys:
        gy = rng.standard_normal(tuple(y.shape))
        if y.requires_grad:
            y.backward(torch.tensor(gy, dtype=y.dtype), retain_graph=True)
    return [y.detach().numpy() for y in ys], [None if x.grad is None else x.grad.numpy() for x in xs]


def compare(
    torch: Any,
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    tolerance: float | None = None,
) -> None:
    """Results, dtypes and all gradients equal PyTorch's."""
    ys, gxs = run(ours, arrays)
    expected_ys, expected_gxs = run_torch(torch, theirs, arrays)
    assert len(ys) == len(expected_ys)
    for k, (y, expected) in enumerate(zip(ys, expected_ys, strict=True)):
        assert y.dtype == expected.dtype, f"result {k} is {y.dtype}, PyTorch's {expected.dtype}"
        assert_close(y, expected, tolerance, f"result {k}")
    for i, (gx, expected_gx) in enumerate(zip(gxs, expected_gxs, strict=True)):
        assert (gx is None) == (expected_gx is None), f"gradient of input {i}: None only in one of the two"
        if gx is not None:
            assert gx.dtype == arrays[i].dtype
            assert_close(gx, expected_gx, tolerance, f"gradient of input {i}")


def check_gradients(function: Callable[..., Any], arrays: Sequence[np.ndarray], seed: int = 0) -> None:
    """gradcheck with a random cotangent, tight enough to see an error of one in a thousand."""
    xs = [mg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    assert testing.gradcheck(function, xs, atol=1e-6, rtol=1e-5, seed=seed)
