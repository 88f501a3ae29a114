"""Increasing activations and their derivatives from the result.

A layer may be fused with its pooling only because these functions increase: the largest input has the
largest output, so the maximum can be taken first.
"""

from __future__ import annotations

import numpy as np

__all__ = ["NAMES", "activate", "scale_by_derivative"]

NAMES = ("identity", "relu", "sigmoid", "tanh")


def activate(
    name: str,
    x: np.ndarray,
    scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """out = activation of (scale x + shift); returns out.

    Args:
        name: one of `NAMES`.
        x: of any shape.
        scale, shift: of shapes that broadcast to x's, if there are any.
        out: where the result goes, an array like x; x itself if not given.
    """
    out = x if out is None else out
    if name == "sigmoid":  # 1 / (1 + exp(-x)); the sign goes into scale and shift, which saves a pass
        if scale is not None:
            np.multiply(x, -scale, out=out)
            if shift is not None:
                out -= shift
        elif shift is not None:
            np.subtract(-shift, x, out=out)
        else:
            np.negative(x, out=out)
        with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
            np.exp(out, out=out)
        out += 1
        return np.divide(1, out, out=out)  # half the time of np.reciprocal
    if scale is not None:
        x = np.multiply(x, scale, out=out)
    if shift is not None:
        x = np.add(x, shift, out=out)
    if name == "tanh":
        return np.tanh(x, out=out)
    if name == "relu":
        return np.maximum(x, 0, out=out)
    if out is not x:
        out[...] = x
    return out


def scale_by_derivative(name: str, y: np.ndarray, gy: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out = gy * (derivative where the result is y)."""
    if name == "sigmoid":  # y (1 - y)
        np.subtract(1, y, out=out)
        out *= y
        out *= gy
    elif name == "tanh":  # 1 - y^2
        np.multiply(y, y, out=out)
        np.subtract(1, out, out=out)
        out *= gy
    elif name == "relu":
        np.multiply(gy, y > 0, out=out)
    else:
        out[...] = gy
    return out
