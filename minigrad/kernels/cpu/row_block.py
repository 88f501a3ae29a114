"""Convolution, batch norm and activation as one operation, for layers with many channels.

    y = act(gamma (conv(x) - mean) / sqrt(var + eps) + beta)      or, without batch norm, y = act(conv(x) + bias)

The formulas are those of `block.py`; there is no pooling here. The convolution is that of `rows.py`: arrays lie in
the memory order H W C N, and the work is shared out in bands of rows. The sums of a band, and without batch norm its
activation, are taken while the band is still in the cache.

Backward, for one channel, with z = conv(x), xhat = (z - mean) / sqrt(var + eps), and t = gy act'(y), where act' is
written as a function of the result:

    gbeta = sum t,  ggamma = sum t xhat      over the M = N P Q values of the channel
    gz = factor t + slope (z - mean) - factor gbeta / M

    factor = gamma / sqrt(var + eps),  slope = -factor ggamma / (M sqrt(var + eps))

Where a band's mean is far from 0, it is taken away from the band before anything else is done (`row_moments`): z is
then stored less that, and z - mean is z - level, with the level that is left to be subtracted.

A row of gx is made of several rows of gz, so all of gz must be there before gx can begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.kernels.cpu.activation import activate, scale_by_derivative
from minigrad.kernels.cpu.block import Normalisation, batch_statistics
from minigrad.kernels.cpu.memory import empty
from minigrad.kernels.cpu.rows import (
    Plan,
    back_convolutions,
    convolve,
    matrix_of,
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
    y: np.ndarray | None  # (P, Q, O, N), the very memory of the result; None without activation
    biased: bool
    # With batch norm:
    z: np.ndarray | None = None  # (P, Q, O, N), conv(x) less what row_moments has taken away from each band
    level: list[np.ndarray] = field(default_factory=list)  # (O,), the mean less the same
    gamma: np.ndarray | None = None  # (O,)
    inv_std: np.ndarray | None = None  # (O,), 1 / sqrt(var + eps)
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
    y = _result((plan.P, plan.Q, len(weight), len(x)), x.dtype, plan)
    saved = Saved(plan, activation, weight, xt, None if activation == "identity" else y, bias is not None)
    mean = var = None
    if norm is None:
        _forward(saved, bias, y)
    else:
        mean, var = batch_statistics(*_forward_through_norm(saved, norm, y), bias, x.dtype)
    return y.transpose(3, 2, 0, 1), saved if keep else None, mean, var


def _result(shape: Shape, dtype: Any, plan: Plan) -> np.ndarray:
    """Memory for a result (H, W, C, N), in the order that the plan asks for."""
    if not plan.channels_first:
        return empty(shape, dtype)
    H, W, C, N = shape
    return empty((C, H, W, N), dtype).transpose(1, 2, 0, 3)


def _rows_first(a: np.ndarray) -> np.ndarray:
    """a (N, C, H, W) -> (H, W, C, N), a view if the batch is last in memory. The other axes may lie in any order."""
    a = a.transpose(2, 3, 1, 0)
    return a if a.strides[-1] == a.itemsize else np.ascontiguousarray(a)


def _forward(saved: Saved, bias: np.ndarray | None, y: np.ndarray) -> None:
    """Without batch norm a band is done in one go. Writes y (P, Q, O, N)."""
    matrix = matrix_of(saved.weight)
    shift = None if bias is None else bias[:, None]

    def of_band(i: int) -> None:
        band = saved.plan.bands[i]
        convolve(saved.x, matrix, saved.plan.windows, band.start, y[band])
        if shift is not None or saved.activation != "identity":
            activate(saved.activation, y[band], shift=shift)

    run_shards(of_band, len(saved.plan.bands))


def _forward_through_norm(saved: Saved, norm: Normalisation, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With batch norm all bands are needed for mean and var, which are returned. Writes y, and into `saved`."""
    matrix, plan = matrix_of(saved.weight), saved.plan
    assert not plan.channels_first  # `_flat` would be a copy
    z = saved.z = empty(y.shape, y.dtype)

    def start(i: int) -> tuple[Moments, np.ndarray | None]:
        """Writes a band of z; returns its moments, and what was taken away from it."""
        band = plan.bands[i]
        convolve(saved.x, matrix, plan.windows, band.start, z[band])
        return row_moments(_by_channel(z[band]))

    found = run_shards(start, len(plan.bands))
    moments = merge([of_band for of_band, _ in found])
    mean = moments.mean
    saved.level = [mean if taken is None else mean - taken for _, taken in found]
    saved.M = moments.count
    saved.gamma = norm.gamma
    saved.inv_std = 1 / np.sqrt(moments.var + norm.eps)
    scale = saved.inv_std if norm.gamma is None else saved.inv_std * norm.gamma
    beta = 0 if norm.beta is None else norm.beta
    scales = _for_each_number(scale, y)

    def finish(i: int) -> None:
        band = plan.bands[i]
        shifts = _for_each_number(beta - saved.level[i] * scale, y)
        activate(saved.activation, _flat(z[band]), scales, shifts, _flat(y[band]))

    run_shards(finish, len(plan.bands), y.nbytes)
    return mean, moments.var


def backward(saved: Saved, gy: np.ndarray, need_x: bool) -> dict[str, Any]:
    """gy (N, O, P, Q) -> gradients of x, weight, bias, gamma and beta, by name."""
    gyt = _rows_first(gy)  # (P, Q, O, N)
    gz, found = (_backward if saved.z is None else _backward_through_norm)(saved, gyt)
    found["x"] = _x_gradient(saved, gz) if need_x else None
    return found


def _backward(saved: Saved, gyt: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """(gz (P, Q, O, N), gradients of weight and bias), without batch norm: gz is t."""
    plan = saved.plan
    gz = gyt if saved.y is None else empty(gyt.shape, gyt.dtype)

    def of_band(i: int) -> tuple[np.ndarray, np.ndarray]:
        band = plan.bands[i]
        t = _before_activation(saved, gyt, band, gz)
        gbias = row_sums(_by_channel(t)) if saved.biased else np.zeros(0)  # else nobody asks for it
        return weight_gradient(saved.x, t, plan.windows, band.start), gbias

    found = run_shards(of_band, len(plan.bands))
    gweight, gbias = (add_in_order([one[j] for one in found]) for j in range(2))
    return gz, {"weight": weight_of(gweight, saved.weight.shape), "bias": gbias.astype(gyt.dtype)}


def _backward_through_norm(saved: Saved, gyt: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """(gz (P, Q, O, N), gradients of weight, bias, gamma and beta)."""
    z, inv_std, plan = saved.z, saved.inv_std, saved.plan
    assert z is not None
    assert inv_std is not None
    dtype, count = gyt.dtype, len(plan.bands)
    gz = empty(gyt.shape, dtype)

    def start(i: int) -> tuple[np.ndarray, np.ndarray]:
        """Writes t of a band into gz, if there is an activation; returns its sums of t and of t (z - mean)."""
        band = plan.bands[i]
        t = _by_channel(_before_activation(saved, gyt, band, gz))
        total = row_sums(t)
        return total, row_products(t, _by_channel(z[band])) - saved.level[i] * total

    begun = run_shards(start, count, gyt.nbytes)
    gbeta, products = (add_in_order([one[j] for one in begun]) for j in range(2))
    ggamma = products * inv_std
    factor = inv_std if saved.gamma is None else inv_std * saved.gamma
    slope = -factor * ggamma * inv_std / saved.M
    factors, slopes = _for_each_number(factor, gz), _for_each_number(slope, gz)

    def finish(i: int) -> np.ndarray:
        """Writes a band of gz; returns what it adds to the gradient of W."""
        band = plan.bands[i]
        t = (gyt if saved.y is None else gz)[band]
        through_moments = np.multiply(_flat(z[band]), slopes, out=empty(_flat(z[band]).shape, dtype))
        through_moments += _for_each_number(-slope * saved.level[i] - factor * gbeta / saved.M, gz)
        gz_band = np.multiply(_flat(t), factors, out=_flat(gz[band]))
        gz_band += through_moments
        return weight_gradient(saved.x, gz[band], plan.windows, band.start)

    gweight = add_in_order(run_shards(finish, count))
    return gz, {
        "weight": weight_of(gweight, saved.weight.shape),
        "bias": np.zeros(len(gbeta), dtype),  # batch norm takes the bias away again
        "gamma": ggamma.astype(dtype),
        "beta": gbeta.astype(dtype),
    }


def _before_activation(saved: Saved, gyt: np.ndarray, band: slice, memory: np.ndarray) -> np.ndarray:
    """t (R, Q, O, N) of a band, in its place in `memory`; without activation t is gyt itself."""
    if saved.y is None:
        return gyt[band]
    return scale_by_derivative(saved.activation, saved.y[band], gyt[band], memory[band])


def _x_gradient(saved: Saved, gz: np.ndarray) -> np.ndarray:
    """gz (P, Q, O, N) -> gx (N, C, H, W)."""
    plan = saved.plan
    gx = _result(saved.x.shape, saved.x.dtype, plan)
    back = back_convolutions(saved.weight, plan.windows)
    bands = plan.back_bands
    run_shards(lambda i: x_gradient(gz, back, plan.windows.stride, bands[i], gx), len(bands))
    return gx.transpose(3, 2, 0, 1)


def _by_channel(a: np.ndarray) -> np.ndarray:
    """(R, Q, O, N) -> (R Q, O, N), for sums of each channel; a view where a is contiguous."""
    return a.reshape(-1, *a.shape[2:])


def _flat(a: np.ndarray) -> np.ndarray:
    """(R, Q, O, N) -> (R Q, O N), so that an operation has long rows; a view where a is contiguous."""
    return a.reshape(a.shape[0] * a.shape[1], -1)


def _for_each_number(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Values of the channels (O,) -> (O N,), one for each number in a row of `_flat`, in the dtype of `like`."""
    return np.repeat(values.astype(like.dtype), like.shape[3])
