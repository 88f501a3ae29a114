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

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.kernels.cpu import conv
from minigrad.kernels.cpu.activation import activate, scale_by_derivative
from minigrad.kernels.cpu.conv import Plan
from minigrad.kernels.cpu.memory import empty
from minigrad.kernels.cpu.statistics import Moments, merge, row_moments, row_products, row_sums
from minigrad.kernels.cpu.threads import add_in_order, run_shards

__all__ = ["Normalisation", "Saved", "backward", "batch_statistics", "forward"]


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
    x: np.ndarray  # (C, H, W, N)
    parts: list[slice]
    biased: bool
    # With batch norm or pooling: (G, P, lanes, O, S g), the convolution
    z: list[np.ndarray] = field(default_factory=list)
    # and (G, R, O, S g), the winners, or z itself without pooling
    best: list[np.ndarray] = field(default_factory=list)
    # (G, R, O, S g), the result once more, in the order in which backward needs it; None without activation
    activated: list[np.ndarray | None] = field(default_factory=list)
    used: bool = False  # whether backward has written into z
    # With batch norm:
    gamma: np.ndarray | None = None  # (O,)
    inv_std: np.ndarray | None = None  # (O,)
    lost: list[np.ndarray | None] = field(default_factory=list)  # (O,), or None: subtracted from z and best
    level: list[np.ndarray] = field(default_factory=list)  # (O,): what is left to be subtracted
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
    xt = np.ascontiguousarray(x.transpose(1, 2, 3, 0))
    R, S = (plan.P // 2, plan.Q // 2) if plan.pooled else (plan.P, plan.Q)
    y = empty((plan.O, R, S, x.shape[0]), x.dtype)
    saved = Saved(plan, activation, weight, xt, conv.pieces(x.shape[0], plan), bias is not None)
    mean = var = None
    if norm is None:
        _forward(saved, bias, y, keep)
    else:
        mean, var = batch_statistics(*_forward_through_norm(saved, norm, y), bias, x.dtype)
    return y.transpose(3, 0, 1, 2), saved if keep else None, mean, var


def batch_statistics(
    mean: np.ndarray, var: np.ndarray, bias: np.ndarray | None, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """mean and var (O,) of the convolution without its bias -> those of the layer, as the running statistics see them.

    Batch norm takes the bias away again, so only the running mean needs it.
    """
    if bias is not None:
        mean = mean + bias
    return mean.astype(dtype), var.astype(dtype)


def _forward(saved: Saved, bias: np.ndarray | None, y: np.ndarray, keep: bool) -> None:
    """Without batch norm a shard is done at once. Writes y, and into `saved`."""
    pooled = saved.plan.pooled
    keep_winners = keep and pooled
    shift = None if bias is None else bias[:, None]

    def of_shard(k: int) -> tuple[Any, np.ndarray | None]:
        """What backward needs and no more: the rest is memory for the next shard."""
        z = _convolve(saved, k)
        best = _winners(z, None) if pooled else z[:, :, 0]
        memory = None if keep_winners else best  # backward compares with the winners as they are
        values = _activate(saved, k, best, None, shift, y, memory)
        return (z, best) if keep_winners else None, values if keep else None

    done = run_shards(of_shard, len(saved.parts))
    if keep_winners:
        saved.z, saved.best = ([winners[i] for winners, _ in done] for i in range(2))
    saved.activated = [values for _, values in done]


def _forward_through_norm(saved: Saved, norm: Normalisation, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With batch norm all shards are needed for mean and var, which are returned. Writes y, and into `saved`."""
    saved.gamma = norm.gamma

    def start(k: int) -> tuple[np.ndarray, np.ndarray, Moments, np.ndarray | None]:
        z = _convolve(saved, k)
        moments, lost = row_moments(z.reshape(-1, *z.shape[3:]))
        return z, _winners(z, norm.gamma) if saved.plan.pooled else z[:, :, 0], moments, lost

    begun = run_shards(start, len(saved.parts))
    saved.z, saved.best = [one[0] for one in begun], [one[1] for one in begun]
    saved.lost = [one[3] for one in begun]
    moments = merge([one[2] for one in begun])
    mean = moments.mean
    saved.M = moments.count
    saved.level = [mean if lost is None else mean - lost for lost in saved.lost]
    saved.inv_std = 1 / np.sqrt(moments.var + norm.eps)
    scale = saved.inv_std if norm.gamma is None else saved.inv_std * norm.gamma
    shift = 0 if norm.beta is None else norm.beta

    def finish(k: int) -> np.ndarray | None:
        best = saved.best[k]
        shift_k = _column(shift - saved.level[k] * scale, best)
        return _activate(saved, k, best, _column(scale, best), shift_k, y)

    saved.activated = run_shards(finish, len(saved.parts), y.nbytes)
    return mean, moments.var


def _activate(
    saved: Saved,
    k: int,
    best: np.ndarray,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    y: np.ndarray,
    memory: np.ndarray | None = None,
) -> np.ndarray | None:
    """act(scale best + shift) of shard k into y; scale and shift (O, 1) may be missing.

    Returns the same values in the order of best, (G, R, O, S g), for the derivative of the activation; None without
    activation. They lie in `memory`, which may be best itself, or in memory of their own.
    """
    memory = empty(best.shape, best.dtype) if memory is None else memory
    values = activate(saved.activation, best, scale, shift, memory)
    conv.store(values, y[..., saved.parts[k]])
    return None if saved.activation == "identity" else values


def _convolve(saved: Saved, k: int) -> np.ndarray:
    """z (G, P, lanes, O, S g) of shard k."""
    return conv.convolve(_strips(saved, k), saved.weight, saved.plan)


def _strips(saved: Saved, k: int) -> np.ndarray:
    return conv.strips(saved.x, saved.parts[k], saved.plan)


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A value for each channel: (O,) -> (O, 1), in the precision of `like`."""
    return values.astype(like.dtype)[:, None]


def _taps(z: np.ndarray) -> np.ndarray:
    """z (G, P, lanes, O, m) -> (G, R, 4, O, m), a view: what a 2 x 2 pooling compares, in row-major order."""
    G, P, lanes, O, m = z.shape
    return z.reshape(G, P // 2, 2 * lanes, O, m)


def _winners(z: np.ndarray, gamma: np.ndarray | None) -> np.ndarray:
    """z (G, P, lanes, O, m) -> (G, R, O, m): the value of each window whose activation is largest."""
    taps = _taps(z)
    best = empty((*taps.shape[:2], *taps.shape[3:]), z.dtype)
    if gamma is None or (gamma > 0).all():
        return np.maximum.reduce(taps, axis=2, out=best)
    for o, g in enumerate(gamma):
        if g == 0:
            best[:, :, o] = taps[:, :, 0, o]
        else:
            (np.maximum if g > 0 else np.minimum).reduce(taps[:, :, :, o], axis=2, out=best[:, :, o])
    return best


def backward(saved: Saved, gy: np.ndarray, need_x: bool) -> dict[str, Any]:
    """gy (N, O, R, S) -> gradients of x, weight, bias, gamma and beta, by name."""
    if saved.used:  # a second backward through a graph that was retained
        _convolve_again(saved)
    saved.used = saved.plan.pooled or saved.inv_std is not None
    gyt = gy.transpose(1, 2, 3, 0)  # (O, R, S, N)
    return (_backward if saved.inv_std is None else _backward_through_norm)(saved, gyt, need_x)


def _backward(saved: Saved, gyt: np.ndarray, need_x: bool) -> dict[str, Any]:
    """Without batch norm no shard needs to know of another."""
    send_back, gx = _convolution_backward(saved, saved.weight, need_x)

    def of_shard(k: int) -> tuple[np.ndarray, np.ndarray]:
        t = _before_activation(saved, gyt, k)
        gbias = row_sums(t.reshape(-1, *t.shape[2:])) if saved.biased else np.zeros(0)
        gz = _to_winners(t, saved.z[k], saved.best[k]) if saved.plan.pooled else t[:, :, None]
        return send_back(gz, k), gbias

    found = run_shards(of_shard, len(saved.parts))
    gweight, gbias = (add_in_order([one[i] for one in found]) for i in range(2))
    return {"x": gx, "weight": gweight, "bias": gbias.astype(gyt.dtype)}


def _backward_through_norm(saved: Saved, gyt: np.ndarray, need_x: bool) -> dict[str, Any]:
    """With batch norm all shards are needed for ggamma and gbeta, before any of them can go on."""
    assert saved.inv_std is not None
    dtype, count = gyt.dtype, len(saved.parts)

    def start(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """t and what it adds to the sums of t and of t (conv(x) - mean)."""
        t = _before_activation(saved, gyt, k)
        rows = t.reshape(-1, *t.shape[2:])
        total = row_sums(rows)
        return t, total, row_products(rows, saved.best[k].reshape(rows.shape)) - saved.level[k] * total

    begun = run_shards(start, count, gyt.nbytes)
    gbeta, products = (add_in_order([one[i] for one in begun]) for i in (1, 2))
    ggamma = products * saved.inv_std
    factor = saved.inv_std if saved.gamma is None else saved.inv_std * saved.gamma
    slope = -factor * ggamma * saved.inv_std / saved.M

    flat = np.abs(slope) < np.finfo(dtype).tiny ** 0.75  # channels where slope z is nothing
    slope = np.where(flat, 1, slope)
    shift = -factor * gbeta / saved.M / slope
    factor = factor / slope
    a = slope.astype(dtype)[:, None, None, None]
    send_back, gx = _convolution_backward(saved, saved.weight * a, need_x)

    def convolve_back(k: int) -> np.ndarray:
        t, best = begun[k][0], saved.best[k]
        t *= _column(factor, t)
        level = np.where(flat, 0, saved.level[k])
        return send_back(_spread(t, saved.z[k], best, _column(shift - level, t), np.flatnonzero(flat)), k)

    return {
        "x": gx,
        "weight": add_in_order(run_shards(convolve_back, count)) * a,
        "bias": np.zeros(len(gbeta), dtype),
        "gamma": ggamma.astype(dtype),
        "beta": gbeta.astype(dtype),
    }


def _before_activation(saved: Saved, gyt: np.ndarray, k: int) -> np.ndarray:
    """t (G, R, O, S g) of one shard: the gradient, after the activation's derivative."""
    t = conv.load(gyt[..., saved.parts[k]], saved.plan)
    y = saved.activated[k]
    return t if y is None else scale_by_derivative(saved.activation, y, t, empty(t.shape, t.dtype))


def _convolution_backward(
    saved: Saved, weight: np.ndarray, need_x: bool
) -> tuple[Callable[[np.ndarray, int], np.ndarray], np.ndarray | None]:
    """(send_back, gx).

    send_back(gz (G, P, lanes, O, S g), k) writes the part of gx of shard k, and returns the shard's gradient of W.
    gx (N, C, H, W) is complete when all shards have been there; None if it is not needed.
    """
    plan = saved.plan
    gx = empty(saved.x.shape, saved.x.dtype) if need_x else None
    write_gx = conv.x_gradient(weight, plan) if need_x else None

    def send_back(gz: np.ndarray, k: int) -> np.ndarray:
        if gx is not None and write_gx is not None:
            write_gx(gz, gx[..., saved.parts[k]])
        return conv.weight_gradient(_strips(saved, k), gz, plan)

    return send_back, None if gx is None else gx.transpose(3, 0, 1, 2)


def _to_winners(t: np.ndarray, z: np.ndarray, best: np.ndarray) -> np.ndarray:
    """t at the winner of each window, and 0 elsewhere. Writes into z and uses up t."""
    taps = _taps(z)
    for tap in (taps[:, :, i] for i in range(3)):
        np.equal(tap, best, out=tap, casting="unsafe")
        tap *= t
        t -= tap  # what has been given away is gone: the first of equals gets all
    taps[:, :, 3] = t
    return z


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
    taps = _taps(z)
    for i in range(4):
        tap = taps[:, :, i]
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

    def of_shard(k: int) -> None:
        z = _convolve(saved, k)
        if saved.lost and (lost := saved.lost[k]) is not None:
            z -= lost[:, None]
        if not saved.plan.pooled:
            saved.best[k] = z[:, :, 0]
        saved.z[k] = z

    run_shards(of_shard, len(saved.parts))
