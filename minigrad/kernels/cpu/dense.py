"""Fully connected layer, batch norm and activation as one operation.

    y = act(gamma (W x + b - mean) / sqrt(var + eps) + beta)

The batch is the last dimension, (features, N), so a feature's statistics are those of a row. The formulas are
those of `block.py`; here every array is small, and what counts is to make few of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.kernels.cpu.activation import activate, scale_by_derivative
from minigrad.kernels.cpu.block import Normalisation
from minigrad.kernels.cpu.memory import empty
from minigrad.kernels.cpu.threads import add_in_order, run_shards, shards

__all__ = ["SavedDense", "dense_backward", "dense_forward"]

LEAST = 20_000_000  # multiplications below which handing a part to another thread costs more than it saves
LARGEST = 256  # examples in one part, where there are several


@dataclass
class SavedDense:
    """What backward needs."""

    activation: str
    x: np.ndarray  # (in, N)
    weight: np.ndarray  # (out, in)
    y: np.ndarray  # (out, N)
    xhat: np.ndarray | None = None  # (out, N)
    gamma: np.ndarray | None = None
    inv_std: np.ndarray | None = None  # (out, 1)


def parts_of(N: int, weight: np.ndarray) -> list[slice]:
    """The batch in parts for products with W: the same for every number of threads, and even for two."""
    if N * weight.size < LEAST:
        return [slice(0, N)]
    count = 2 * -(-N // (2 * LARGEST))
    return shards(N, -(-N // count))


def product(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """weight (out, in) @ x (in, N), in shards of the batch."""
    out = empty((weight.shape[0], x.shape[1]), x.dtype)
    parts = parts_of(x.shape[1], weight)
    run_shards(lambda k: np.matmul(weight, x[:, parts[k]], out=out[:, parts[k]]), len(parts))
    return out


def dense_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, norm: Normalisation | None, activation: str
) -> tuple[np.ndarray, SavedDense, np.ndarray | None, np.ndarray | None]:
    """x (N, in) -> y (N, out), what backward needs, and the batch's mean and var (out,)."""
    xt = x.T if x.flags.c_contiguous else np.ascontiguousarray(x.T)  # BLAS takes either order as it is
    z = product(weight, xt)
    saved = SavedDense(activation, xt, weight, z)
    if norm is None:
        activate(activation, z, shift=None if bias is None else bias[:, None])
        return z.T, saved, None, None
    N = z.shape[1]
    mean = z.sum(axis=1, keepdims=True) / N
    z -= mean
    var = np.vecdot(z, z)[:, None] / N
    saved.inv_std = 1 / np.sqrt(var + norm.eps)
    saved.gamma = norm.gamma
    z *= saved.inv_std
    saved.xhat = z
    scale, shift = (None if p is None else p[:, None] for p in (norm.gamma, norm.beta))
    saved.y = y = activate(activation, z, scale, shift, empty(z.shape, z.dtype))
    mean = mean[:, 0] if bias is None else mean[:, 0] + bias
    return y.T, saved, mean, var[:, 0]


def dense_backward(saved: SavedDense, gy: np.ndarray, need_x: bool) -> dict[str, Any]:
    """gy (N, out) -> gradients of x, weight, bias, gamma and beta, by name."""
    gyt = np.ascontiguousarray(gy.T)  # (out, N)
    gz = scale_by_derivative(saved.activation, saved.y, gyt, empty(gyt.shape, gyt.dtype))
    N = gz.shape[1]
    gbeta = gz.sum(axis=1)
    result: dict[str, Any] = {"bias": gbeta}
    if saved.xhat is not None and saved.inv_std is not None:
        ggamma = np.vecdot(gz, saved.xhat)
        result = {"bias": np.zeros_like(gbeta), "gamma": ggamma, "beta": gbeta}
        slope = np.multiply(saved.xhat, (ggamma / N)[:, None], out=empty(gz.shape, gz.dtype))
        slope += (gbeta / N)[:, None]
        gz -= slope
        gz *= saved.inv_std if saved.gamma is None else saved.inv_std * saved.gamma[:, None]
    parts = parts_of(N, saved.weight)
    result["weight"] = add_in_order(
        run_shards(lambda k: gz[:, parts[k]] @ saved.x[:, parts[k]].T, len(parts))
    )
    if need_x:
        result["x"] = product(saved.weight.T, gz).T
    return result
