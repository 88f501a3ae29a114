"""Checking gradients: compare what `backward` says with what differences of the function say.

The check weighs the outputs with a random cotangent gy, so that it looks at one number,

    L(x) = sum(f(x) * gy),    dL/dx_i  ~  (L(x + eps e_i) - L(x - eps e_i)) / (2 eps)

A plain sum (gy = 1) would be blind: the sum of a batch-normalised tensor does not depend on its input
at all, so any backward would pass. All of it runs in float64; float32 has too few digits to tell. The
tolerances are tighter than PyTorch's: a gradient that is wrong by a thousandth is found. Inputs of up to
400 elements are checked element by element; larger ones along a few random directions, in which all elements
have a part, and at a few random elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.dtypes import float64, is_float
from minigrad.errors import ArgumentError, DtypeError, GradientError, describe
from minigrad.grad_mode import no_grad
from minigrad.tensor import Tensor

__all__ = ["distinct_values", "gradcheck"]

ELEMENTWISE_LIMIT = 400  # larger inputs are checked along random directions, and at
SOME_ELEMENTS = 30  # random elements


def distinct_values(shape: tuple[int, ...], rng: np.random.Generator, step: float = 0.1) -> np.ndarray:
    """Random float64 values that differ by at least `step`, none nearer to 0 than step / 2.

    For functions with kinks (relu, max): no small change makes two of them change places.
    """
    count = int(np.prod(shape))
    values = (rng.permutation(count) - count // 2 + 0.5) * step
    return values.reshape(shape)


def gradcheck(
    func: Callable[..., Any],
    inputs: Sequence[Any] | Tensor,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Whether the gradients of `func` at `inputs` agree with central differences.

    Args:
        func: takes the inputs, returns a tensor or a tuple of tensors.
        inputs: tensors; those that require gradients are checked, and have to be float64.
        eps: the step of the differences.
        atol, rtol: the allowed error is atol + rtol * |difference quotient|.
        raise_exception: raise GradientError at the first disagreement; otherwise return False.
        seed: of the cotangent and the directions.

    >>> import minigrad as mg
    >>> x = mg.tensor([0.5, 2.0], dtype=mg.float64, requires_grad=True)
    >>> gradcheck(lambda x: x * x.log(), [x])
    True
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ArgumentError("gradcheck: none of the inputs requires gradients; set requires_grad=True")
    for i in checked:
        if given[i].dtype != float64:
            raise DtypeError(
                f"gradcheck: input {i} is {given[i].dtype}; gradients can only be checked in float64"
            )
    rng = np.random.default_rng(seed)
    try:
        gys, analytic = _analytic(func, given, checked, rng)

        def evaluate() -> list[np.ndarray]:
            with no_grad():
                return [backend.to_numpy(y.array) for y in _differentiable(func(*given))]

        again = zip(evaluate(), evaluate(), strict=True)
        if not all(np.allclose(a, b, rtol=1e-12, atol=0, equal_nan=True) for a, b in again):
            raise GradientError(
                "gradcheck: the function gives different results for the same inputs (is it random?)"
            )
        for i, gx in zip(checked, analytic, strict=True):
            _compare(evaluate, gys, given[i], gx, i, eps, atol, rtol, rng)
    except GradientError:
        if raise_exception:
            raise
        return False
    return True


def _differentiable(outputs: Any) -> list[Tensor]:
    several = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [y for y in several if isinstance(y, Tensor) and is_float(y.dtype)]


def _analytic(
    func: Callable[..., Any], inputs: list[Any], checked: list[int], rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random cotangents of the outputs, and the gradients that backward gives for them."""
    saved_grads = [inputs[i].grad for i in checked]
    copies = [backend.to_numpy(inputs[i].array).copy() for i in checked]
    for i in checked:
        inputs[i].grad = None
    try:
        outputs = _differentiable(func(*inputs))
        gys = [rng.standard_normal(y.shape) for y in outputs]
        roots = [(y, gy) for y, gy in zip(outputs, gys, strict=True) if y.requires_grad]
        if not roots:
            raise GradientError("gradcheck: no output depends on an input that requires gradients")
        for y, gy in roots:
            y.backward(backend.to_device(gy.copy(), y.device), retain_graph=True)
        for i, before in zip(checked, copies, strict=True):
            if not np.array_equal(before, backend.to_numpy(inputs[i].array), equal_nan=True):
                raise GradientError(f"gradcheck: the function or its backward changed input {i} in place")
        grads = [
            np.zeros(inputs[i].shape)
            if inputs[i].grad is None
            else backend.to_numpy(inputs[i].grad.array).copy()
            for i in checked
        ]
    finally:
        for i, g in zip(checked, saved_grads, strict=True):
            inputs[i].grad = g
    return gys, grads


def _compare(
    evaluate: Callable[[], list[np.ndarray]],
    gys: list[np.ndarray],
    x: Tensor,
    gx: np.ndarray,
    number: int,
    eps: float,
    atol: float,
    rtol: float,
    rng: np.random.Generator,
) -> None:
    """Compare gx with differences of the outputs, element by element or along random directions."""
    centre = x.array
    host = backend.to_numpy(centre)

    def shifted(direction: np.ndarray, step: float) -> list[np.ndarray]:
        x.array = backend.to_device(np.asarray(host + step * direction), x.device)
        try:
            return evaluate()
        finally:
            x.array = centre

    def slope(high: list[np.ndarray], low: list[np.ndarray], step: float) -> float:
        """(L(high) - L(low)) / step; subtracted before the sum, where fewer digits are lost."""
        return float(sum(((a - b) * gy).sum() for a, b, gy in zip(high, low, gys, strict=True))) / step

    middle = evaluate()
    for place, direction in _directions(host.shape, rng):
        above, below = shifted(direction, eps), shifted(direction, -eps)
        numeric = slope(above, below, 2 * eps)
        exact = float((gx * direction).sum())
        if abs(numeric - exact) <= atol + rtol * abs(numeric):
            continue
        right, left = slope(above, middle, eps), slope(middle, below, eps)
        kink = abs(right - left) > 0.1 * max(abs(right), abs(left)) + atol
        raise GradientError(
            describe(
                f"gradcheck: input {number} has a wrong gradient at {place}",
                [
                    ("backward says", f"{exact:.8g}", ""),
                    ("differences say", f"{numeric:.8g}", f"error {abs(numeric - exact):.2g}"),
                ],
                "the function has a kink or a tie there (slopes "
                f"{left:.4g} and {right:.4g}): choose other inputs, see distinct_values"
                if kink
                else f"check the gradient that backward returns for this input, of shape {host.shape}",
            )
        )


def _directions(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """(what to call it, direction): each element for small inputs, else random directions and elements."""
    size = int(np.prod(shape))
    places = np.arange(size)
    if size > ELEMENTWISE_LIMIT:
        for k in range(3):
            direction = rng.standard_normal(shape)
            yield f"random direction {k}", direction / np.sqrt((direction**2).sum())
        places = rng.choice(size, SOME_ELEMENTS, replace=False)
    for place in places:
        index = np.unravel_index(place, shape)
        direction = np.zeros(shape)
        direction[index] = 1.0
        yield f"element {tuple(int(k) for k in index)}", direction
