"""Convolution, batch norm, activation and max pooling as one operation.

    y = pool(act(gamma (conv(x) - mean) / sqrt(var + eps) + beta))

What is saved against the layers one by one:

* The activation increases, and so does batch norm where gamma > 0. So the maximum can be taken first, and
  batch norm and activation are computed for the winners alone, a quarter of the values. (Where gamma < 0
  batch norm decreases, and the minimum wins; where gamma = 0 all are equal, and the first wins.)
* In backward, with z = conv(x), batch norm sends to *every* value

      gz = a z + c + k t      k = gamma / sqrt(var + eps)   t = gradient at the winner, else 0
                              a = -k ggamma / (M sqrt(var + eps)),  c = -k gbeta / M - a mean

  Only the winners need work: z + c/a + (k/a) t is z with something added at a quarter of the places, and a is a
  factor of a channel, which the weights can carry (see `_spread`).

The batch is worked on in shards, so that what one matrix product writes is still in the cache when the next
step reads it. Batch norm needs the sums of all shards: there the shards wait for each other. Partial
statistics are merged as (count, mean, sum of squared distances) (Chan, Golub and LeVeque 1979).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.kernels.cpu import conv
from minigrad.kernels.cpu.activation import activate, scale_by_derivative
from minigrad.kernels.cpu.conv import Plan
from minigrad.kernels.cpu.memory import empty
from minigrad.kernels.cpu.statistics import merge, row_moments, row_products, row_sums
from minigrad.kernels.cpu.threads import add_in_order, run_shards

__all__ = ["Normalisation", "Saved", "backward", "forward"]


@dataclass
class Normalisation:
    """Batch norm's part of a block: gamma and beta (or None) and eps."""

    gamma: np.ndarray | None
    beta: np.ndarray | None
    eps: float


@dataclass
class Saved:
    """What backward needs. Lists have an entry for each shard."""

    plan: Plan
    activation: str
    weight: np.ndarray
    x: np.ndarray  # (C, H, W, N), padded
    y: np.ndarray  # (O, R, S, N): the result
    parts: list[slice]
    z: list[np.ndarray] = field(default_factory=list)  # (G, P, lanes, O, S g): the convolution
    best: list[np.ndarray] = field(
        default_factory=list
    )  # (G, R, O, S g): winners, or z itself without pooling
    used: bool = False  # whether backward has written into z
    gamma: np.ndarray | None = None
    level: np.ndarray | None = None  # (O,): subtracted from z by batch norm; None without batch norm
    rounded: np.ndarray | None = None  # (O,): what has been subtracted from z and best already
    inv_std: np.ndarray | None = None  # (O,)
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
    """x (N, C, H, W) -> y (N, O, R, S), what backward needs (if `keep`), and the batch's mean and var (O,)."""
    xt = conv.padded_batch_last(x, plan.padding)
    parts = conv.pieces(x.shape[0], plan)
    R, S = (plan.P // 2, plan.Q // 2) if plan.pooled else (plan.P, plan.Q)
    y = empty((plan.O, R, S, x.shape[0]), x.dtype)
    saved = Saved(plan, activation, weight, xt, y, parts, gamma=None if norm is None else norm.gamma)
    shift = np.zeros(plan.O, x.dtype) if bias is None else bias

    def convolve(k: int) -> tuple[Any, ...]:
        z = conv.convolve(conv.strips(xt, parts[k], plan), weight, plan)
        best = _winners(z, saved.gamma) if plan.pooled else z[:, :, 0]
        if norm is not None:
            return z, best, row_moments(z.reshape(-1, *z.shape[3:]))
        values = np.add(best, shift[:, None], out=empty(best.shape, x.dtype))
        _store(activate(activation, values), y[..., parts[k]])
        return (z, best, None) if keep else (None, None, None)

    done = run_shards(convolve, len(parts))
    saved.z, saved.best = ([one[i] for one in done] for i in range(2))
    if norm is None:
        return y.transpose(3, 0, 1, 2), saved if keep else None, None, None

    moments = merge([one[2] for one in done])
    mean, var = moments.mean, moments.var
    saved.M = moments.count
    saved.inv_std = 1 / np.sqrt(var + norm.eps)
    saved.level = mean
    if moments.far_from_zero:  # z - mean would lose digits if folded into one addition: subtract it now
        saved.rounded = mean.astype(x.dtype)
        saved.level = mean - saved.rounded
        for z, best in zip(saved.z, saved.best, strict=True):
            z -= saved.rounded[:, None]
            if plan.pooled:
                best -= saved.rounded[:, None]
    scale = saved.inv_std if norm.gamma is None else saved.inv_std * norm.gamma
    offset = -saved.level * scale if norm.beta is None else norm.beta - saved.level * scale
    scale, offset = scale.astype(x.dtype)[:, None], offset.astype(x.dtype)[:, None]

    def finish(k: int) -> None:
        best = saved.best[k]
        values = np.multiply(best, scale, out=empty(best.shape, x.dtype))
        values += offset
        _store(activate(activation, values), y[..., parts[k]])

    run_shards(finish, len(parts))
    if bias is not None:
        mean = mean + bias  # batch norm takes the bias away again; only the running mean sees it
    return y.transpose(3, 0, 1, 2), saved if keep else None, mean.astype(x.dtype), var.astype(x.dtype)


def _taps(z: np.ndarray) -> list[np.ndarray]:
    """z (G, P, lanes, O, m) -> the four (G, R, O, m) that a 2 x 2 pooling compares, in row-major order; views."""
    return [z[:, i::2, lane] for i in range(2) for lane in range(2)]


def _winners(z: np.ndarray, gamma: np.ndarray | None) -> np.ndarray:
    """z (G, P, lanes, O, m) -> (G, R, O, m): the value of each window whose activation is largest."""
    taps = _taps(z)
    best = empty(taps[0].shape, z.dtype)
    if gamma is None or (gamma > 0).all():
        np.maximum(taps[0], taps[1], out=best)
        np.maximum(best, taps[2], out=best)
        return np.maximum(best, taps[3], out=best)
    for o, g in enumerate(gamma):
        of_channel = [tap[:, :, o] for tap in taps]
        if g == 0:
            best[:, :, o] = of_channel[0]
        else:
            best[:, :, o] = np.max(of_channel, axis=0) if g > 0 else np.min(of_channel, axis=0)
    return best


def _store(values: np.ndarray, y: np.ndarray) -> None:
    """One shard of the result: (G, R, O, S g) -> y (O, R, S, n)."""
    _grouped(y, values)[...] = values.reshape(*values.shape[:3], y.shape[2], -1)


def _load(y: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The reverse of _store: y (O, R, S, n) -> (G, R, O, S g), contiguous."""
    out = empty(like.shape, y.dtype)
    out.reshape(*like.shape[:3], y.shape[2], -1)[...] = _grouped(y, like)
    return out


def _grouped(y: np.ndarray, like: np.ndarray) -> np.ndarray:
    """y (O, R, S, n) as (G, R, O, S, g), a view; G as in `like` (G, R, O, S g)."""
    return y.reshape(*y.shape[:3], like.shape[0], -1).transpose(3, 1, 0, 2, 4)


def backward(saved: Saved, gy: np.ndarray, need_x: bool) -> dict[str, Any]:
    """gy (N, O, R, S) -> gradients of x, weight, bias, gamma and beta, by name."""
    plan, dtype = saved.plan, gy.dtype
    gyt = gy.transpose(1, 2, 3, 0)  # (O, R, S, N)
    count = len(saved.parts)
    if saved.used:  # a second backward through a graph that was retained
        _convolve_again(saved)
    saved.used = True

    def start(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """t = gradient after the activation's derivative, and its sums."""
        best, part = saved.best[k], saved.parts[k]
        t = _load(gyt[..., part], best)
        t = scale_by_derivative(saved.activation, _load(saved.y[..., part], best), t, empty(t.shape, dtype))
        rows = t.reshape(-1, *t.shape[2:])
        if saved.level is None:
            return t, row_sums(rows), None
        return t, row_sums(rows), row_products(rows, best.reshape(rows.shape))

    begun = run_shards(start, count)
    gbeta = add_in_order([total for _, total, _ in begun])
    result: dict[str, Any] = {"bias": gbeta.astype(dtype)}
    slope, intercept, factor = np.zeros((3, plan.O))
    factor += 1
    if saved.level is not None and saved.inv_std is not None:
        products = add_in_order([product for _, _, product in begun if product is not None])
        ggamma = (products - saved.level * gbeta) * saved.inv_std
        result = {"bias": np.zeros(plan.O, dtype), "gamma": ggamma.astype(dtype), "beta": gbeta.astype(dtype)}
        factor = saved.inv_std if saved.gamma is None else saved.inv_std * saved.gamma
        slope = -factor * ggamma * saved.inv_std / saved.M
        intercept = -factor * gbeta / saved.M - slope * saved.level

    flat = np.abs(slope) < np.finfo(dtype).tiny ** 0.75  # channels where slope z is nothing
    slope = np.where(flat, 1, slope)
    intercept, factor, a = (
        (v / w).astype(dtype)[:, None] for v, w in ((intercept, slope), (factor, slope), (slope, 1))
    )
    matrices = conv.x_matrices(saved.weight * a[:, :, None, None], plan) if need_x else []
    gx = empty((plan.C, plan.H, plan.W, gy.shape[0]), dtype) if need_x else None

    def convolve_back(k: int) -> np.ndarray:
        t = begun[k][0]
        t *= factor
        gz = _spread(t, saved.z[k], saved.best[k], intercept, np.flatnonzero(flat))
        if gx is not None:
            conv.x_gradient(matrices, gz, plan, gx[..., saved.parts[k]])
        return conv.weight_gradient(conv.strips(saved.x, saved.parts[k], plan), gz, plan)

    result["weight"] = add_in_order(run_shards(convolve_back, count)) * a[:, :, None, None]
    if gx is not None:
        top, left = plan.padding
        inner = gx[:, top : plan.H - top, left : plan.W - left]
        result["x"] = inner.transpose(3, 0, 1, 2)
    return result


def _spread(
    t: np.ndarray, z: np.ndarray, best: np.ndarray, intercept: np.ndarray, flat: np.ndarray
) -> np.ndarray:
    """z + intercept everywhere, and t at the winner of each window: gz but for a factor of each channel.

    Writes into z and uses up t. In the channels `flat` z itself does not count.
    """
    if z.shape[2] == 1:
        if len(flat):
            z[:, :, :, flat] = 0
        t += intercept
        z[:, :, 0] += t
        return z
    won = empty(best.shape, best.dtype)
    for i, tap in enumerate(_taps(z)):
        if i < 3:
            np.equal(tap, best, out=won, casting="unsafe")
            won *= t
            t -= won  # what has been given away is gone: the first of equals gets all
        else:
            won = t
        won += intercept
        if len(flat):
            tap[:, :, flat] = 0
        tap += won
    return z


def _convolve_again(saved: Saved) -> None:
    """z as it was before backward wrote into it."""

    def convolve(k: int) -> None:
        a = conv.strips(saved.x, saved.parts[k], saved.plan)
        z = conv.convolve(a, saved.weight, saved.plan)
        if saved.rounded is not None:
            z -= saved.rounded[:, None]
        if not saved.plan.pooled:
            saved.best[k] = z[:, :, 0]
        saved.z[k] = z

    run_shards(convolve, len(saved.parts))
