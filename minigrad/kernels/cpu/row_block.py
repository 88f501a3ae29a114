"""Convolution, batch norm and activation as one operation, for layers with many channels.

    y = act(gamma (conv(x) - mean) / sqrt(var + eps) + beta)

The formulas are those of `block.py`; there is no pooling here. The convolution is that of `rows.py`, so arrays lie in
the memory order H W C N, and the work is shared out in bands of rows. Batch norm and activation find a band of z
still in the cache.

With z = conv(x) and t = gy act'(y), both of a channel, backward is

    gz = k t + a z + c      k = gamma / sqrt(var + eps),  a = -k ggamma / (M sqrt(var + eps)),
                            c = -k gbeta / M - a mean

A row of gx is made of several rows of gz, so all of gz must be there before gx can begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.kernels.cpu.activation import activate, scale_by_derivative
from minigrad.kernels.cpu.block import Normalisation
from minigrad.kernels.cpu.memory import empty
from minigrad.kernels.cpu.rows import (
    Plan,
    convolve,
    matrix_of,
    turned,
    weight_gradient,
    weight_of,
    x_gradient,
)
from minigrad.kernels.cpu.statistics import Moments, merge, row_moments, row_products, row_sums
from minigrad.kernels.cpu.threads import add_in_order, run_shards
from minigrad.shapes import Shape

__all__ = ["Saved", "backward", "forward"]


@dataclass
class Saved:
    """What backward needs. Lists have an entry for each band."""

    plan: Plan
    activation: str
    weight: np.ndarray
    x: np.ndarray  # (H, W, C, N)
    y: np.ndarray | None  # (P, Q, O, N); None without activation
    biased: bool
    # With batch norm:
    z: np.ndarray | None = None  # (P, Q, O, N)
    gamma: np.ndarray | None = None  # (O,)
    inv_std: np.ndarray | None = None  # (O,)
    level: list[np.ndarray] = field(default_factory=list)  # (O,): the mean, less what z has already lost
    M: int = 0


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    norm: Normalisation | None,
    activation: str,
    plan: Plan,
    keep: bool,
) -> tuple[np.ndarray, Saved | None, np.ndarray | None, np.ndarray | None]:
    """x (N, C, H, W) -> y (N, O, P, Q), what backward needs (if `keep`), and the batch's mean and var (O,)."""
    xt = _rows_first(x)
    y = _empty((plan.P, plan.Q, len(weight), len(x)), x.dtype, plan)
    saved = Saved(plan, activation, weight, xt, None if activation == "identity" else y, bias is not None)
    mean = var = None
    if norm is None:
        _forward(saved, bias, y)
    else:
        mean, var = _forward_through_norm(saved, norm, y)
        if bias is not None:
            mean = mean + bias  # batch norm takes the bias away again; only the running mean sees it
        mean, var = mean.astype(x.dtype), var.astype(x.dtype)
    return y.transpose(3, 2, 0, 1), saved if keep else None, mean, var


def _empty(shape: Shape, dtype: Any, plan: Plan) -> np.ndarray:
    """A result (H, W, C, N) in the order of memory that the plan asks for."""
    if not plan.channels_first:
        return empty(shape, dtype)
    H, W, C, N = shape
    return empty((C, H, W, N), dtype).transpose(1, 2, 0, 3)


def _rows_first(a: np.ndarray) -> np.ndarray:
    """a (N, C, H, W) -> (H, W, C, N), a view if the batch is last in memory, in whatever order the others are."""
    a = a.transpose(2, 3, 1, 0)
    return a if a.strides[-1] == a.itemsize else np.ascontiguousarray(a)


def _forward(saved: Saved, bias: np.ndarray | None, y: np.ndarray) -> None:
    """Without batch norm a band is done at once. Writes y (P, Q, O, N)."""
    matrix = matrix_of(saved.weight)
    shift = None if bias is None else bias[:, None]

    def of_band(k: int) -> None:
        band = saved.plan.bands[k]
        convolve(saved.x, matrix, saved.plan.windows, band.start, y[band])
        if shift is not None or saved.activation != "identity":
            activate(saved.activation, y[band], shift=shift)

    run_shards(of_band, len(saved.plan.bands))


def _forward_through_norm(saved: Saved, norm: Normalisation, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With batch norm all bands are needed for mean and var, which are returned. Writes y, and into `saved`."""
    matrix, plan = matrix_of(saved.weight), saved.plan
    z = saved.z = empty(y.shape, y.dtype)

    def start(k: int) -> tuple[Moments, np.ndarray | None]:
        band = plan.bands[k]
        convolve(saved.x, matrix, plan.windows, band.start, z[band])
        return row_moments(_by_channel(z[band]))

    begun = run_shards(start, len(plan.bands))
    moments = merge([one for one, _ in begun])
    saved.M = moments.count
    saved.gamma = norm.gamma
    saved.level = [moments.mean if lost is None else moments.mean - lost for _, lost in begun]
    saved.inv_std = 1 / np.sqrt(moments.var + norm.eps)
    scale = saved.inv_std if norm.gamma is None else saved.inv_std * norm.gamma
    beta = 0 if norm.beta is None else norm.beta
    scale_for_all = _for_all(scale, y)

    def finish(k: int) -> None:
        band = plan.bands[k]
        shift = _for_all(beta - saved.level[k] * scale, y)
        activate(saved.activation, _flat(z[band]), scale_for_all, shift, _flat(y[band]))

    run_shards(finish, len(plan.bands), y.nbytes)
    return moments.mean, moments.var


def backward(saved: Saved, gy: np.ndarray, need_x: bool) -> dict[str, Any]:
    """gy (N, O, P, Q) -> gradients of x, weight, bias, gamma and beta, by name."""
    gyt = _rows_first(gy)  # (P, Q, O, N)
    gz, found = (_backward if saved.z is None else _backward_through_norm)(saved, gyt)
    found["x"] = _x_gradient(saved, gz) if need_x else None
    return found


def _backward(saved: Saved, gyt: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """(gz (P, Q, O, N), gradients of weight and bias), without batch norm."""
    plan = saved.plan
    gz = gyt if saved.y is None else empty(gyt.shape, gyt.dtype)

    def of_band(k: int) -> tuple[np.ndarray, np.ndarray]:
        band = plan.bands[k]
        t = _before_activation(saved, gyt, band, gz)
        gbias = row_sums(_by_channel(t)) if saved.biased else np.zeros(0)
        return weight_gradient(saved.x, t, plan.windows, band.start), gbias

    found = run_shards(of_band, len(plan.bands))
    gweight, gbias = (add_in_order([one[i] for one in found]) for i in range(2))
    return gz, {"weight": weight_of(gweight, saved.weight.shape), "bias": gbias.astype(gyt.dtype)}


def _backward_through_norm(saved: Saved, gyt: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """(gz (P, Q, O, N), gradients of weight, bias, gamma and beta)."""
    z, inv_std, plan = saved.z, saved.inv_std, saved.plan
    assert z is not None
    assert inv_std is not None
    dtype, count = gyt.dtype, len(plan.bands)
    gz = empty(gyt.shape, dtype)

    def start(k: int) -> tuple[np.ndarray, np.ndarray]:
        """What a band adds to the sums of t and of t (z - mean)."""
        band = plan.bands[k]
        rows = _by_channel(_before_activation(saved, gyt, band, gz))
        total = row_sums(rows)
        return total, row_products(rows, _by_channel(z[band])) - saved.level[k] * total

    begun = run_shards(start, count, gyt.nbytes)
    gbeta, products = (add_in_order([one[i] for one in begun]) for i in range(2))
    ggamma = products * inv_std
    factor = inv_std if saved.gamma is None else inv_std * saved.gamma  # k
    slope = -factor * ggamma * inv_std / saved.M  # a
    factor_for_all, slope_for_all = _for_all(factor, gz), _for_all(slope, gz)

    def finish(k: int) -> np.ndarray:
        """gz of a band; what it adds to the gradient of W."""
        band = plan.bands[k]
        t = (gyt if saved.y is None else gz)[band]
        one = np.multiply(_flat(t), factor_for_all, out=_flat(gz[band]))
        through_moments = np.multiply(_flat(z[band]), slope_for_all, out=empty(one.shape, dtype))
        through_moments += _for_all(-factor * gbeta / saved.M - slope * saved.level[k], gz)
        one += through_moments
        return weight_gradient(saved.x, gz[band], plan.windows, band.start)

    gweight = add_in_order(run_shards(finish, count))
    return gz, {
        "weight": weight_of(gweight, saved.weight.shape),
        "bias": np.zeros(len(gbeta), dtype),
        "gamma": ggamma.astype(dtype),
        "beta": gbeta.astype(dtype),
    }


def _before_activation(saved: Saved, gyt: np.ndarray, band: slice, memory: np.ndarray) -> np.ndarray:
    """t (R, Q, O, N) of a band: the gradient, after the activation's derivative, in its place in `memory`.

    Without activation it is gyt itself.
    """
    if saved.y is None:
        return gyt[band]
    return scale_by_derivative(saved.activation, saved.y[band], gyt[band], memory[band])


def _x_gradient(saved: Saved, gz: np.ndarray) -> np.ndarray:
    """gz (P, Q, O, N) -> gx (N, C, H, W)."""
    plan = saved.plan
    gx = _empty(saved.x.shape, saved.x.dtype, plan)
    back = turned(saved.weight, plan.windows)
    bands = plan.back_bands
    run_shards(lambda k: x_gradient(gz, back, plan.windows.stride, bands[k], gx), len(bands))
    return gx.transpose(3, 2, 0, 1)


def _by_channel(a: np.ndarray) -> np.ndarray:
    """(R, Q, O, N) -> (R Q, O, N), for sums of each channel."""
    return a.reshape(-1, *a.shape[2:])


def _flat(a: np.ndarray) -> np.ndarray:
    """(R, Q, O, N) -> (R Q, O N), so that an operation has long rows."""
    return a.reshape(a.shape[0] * a.shape[1], -1)


def _for_all(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A value for each channel: (O,) -> (O N,), for all examples of `like` (P, Q, O, N), in its precision."""
    return np.repeat(values.astype(like.dtype), like.shape[3])
