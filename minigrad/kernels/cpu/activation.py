"""Increasing activations, in place, and their derivatives from the result.

A layer may be fused with its pooling only because these functions increase: the largest input has the
largest output, so the maximum can be taken first.
"""

from __future__ import annotations

import numpy as np

__all__ = ["NAMES", "activate", "scale_by_derivative"]

NAMES = ("identity", "relu", "sigmoid", "tanh")


def activate(name: str, x: np.ndarray) -> np.ndarray:
    """x -> activation of x, in its own memory."""
    if name == "sigmoid":
        np.negative(x, out=x)
        with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
            np.exp(x, out=x)
        x += 1
        np.divide(1, x, out=x)  # half the time of np.reciprocal
    elif name == "tanh":
        np.tanh(x, out=x)
    elif name == "relu":
        np.maximum(x, 0, out=x)
    return x


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
