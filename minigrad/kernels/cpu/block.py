"""Convolution, batch norm, activation and max pooling as one operation.

    y = pool(act(gamma (conv(x) - mean) / sqrt(var + eps) + beta))

What is saved against the layers one by one:

* The four outputs of a tile (see `conv.py`) are exactly one pooling window, each a contiguous block, so pooling
  is an elementwise maximum of four blocks.
* The activation increases, and so does batch norm where gamma > 0. So the maximum can be taken first, and
  batch norm and activation are computed for the winners alone, a quarter of the values. (Where gamma < 0
  batch norm decreases, and the minimum wins; where gamma = 0 all are equal, and the first wins.)
* In backward, with z = conv(x), batch norm sends to *every* value

      gz = a (z - mean) + c + k t      k = gamma / sqrt(var + eps)   t = gradient at the winner, else 0
                                       a = -k ggamma / (M sqrt(var + eps)),  c = -k gbeta / M

  which is one multiplication and one addition over all values, and the rest over a quarter.

The batch is worked on in shards, so that what one matrix product writes is still in the cache when the next
step reads it. Batch norm needs the sums of all shards: there the shards wait for each other. Partial
statistics are merged as (count, mean, sum of squared distances) (Chan, Golub and LeVeque 1979).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.kernels.cpu.activation import activate, scale_by_derivative
from minigrad.kernels.cpu.conv import Plan, col2im, fold_weight, im2col, padded_batch_last, tile_weight
from minigrad.kernels.cpu.memory import empty
from minigrad.kernels.cpu.statistics import Moments, merge, row_moments, row_products
from minigrad.kernels.cpu.threads import add_in_order, run_shards, shards

__all__ = ["Normalisation", "Saved", "backward", "forward"]

DEEP = 256  # rows of windows from which on a BLAS may add up in pieces (OpenBLAS: 256 to 512)


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
    pooled: bool
    x: np.ndarray  # (C, H, W, N), padded
    weight: np.ndarray
    y: np.ndarray  # (O, R, S, N): the result
    parts: list[slice]
    z: list[np.ndarray] = field(default_factory=list)  # (taps, O, m): the convolution
    best: list[np.ndarray] = field(default_factory=list)  # (O, m): winners, or z itself without pooling
    gamma: np.ndarray | None = None
    level: np.ndarray | None = None  # (O,): subtracted from z by batch norm; None without batch norm
    inv_std: np.ndarray | None = None  # (O,)
    M: int = 0


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    norm: Normalisation | None,
    activation: str,
    plan: Plan,
    pooled: bool,
    keep: bool,
) -> tuple[np.ndarray, Saved | None, np.ndarray | None, np.ndarray | None]:
    """x (N, C, H, W) -> y (N, O, R, S), what backward needs (if `keep`), and the batch's mean and var (O,)."""
    N = x.shape[0]
    xt = padded_batch_last(x, plan.padding)
    tiled = tile_weight(weight, plan)
    parts = shards(N, plan.shard)
    R, S = plan.grid if pooled else (plan.P, plan.Q)
    y = empty((plan.O, R, S, N), x.dtype)
    saved = Saved(plan, activation, pooled, xt, weight, y, parts, gamma=None if norm is None else norm.gamma)

    def convolve(k: int) -> tuple[np.ndarray, np.ndarray, Moments | None]:
        n = parts[k].stop - parts[k].start
        z = empty((plan.taps, plan.O, plan.columns(n)), x.dtype)
        cols = im2col(xt[..., parts[k]], plan)
        if pooled and plan.rows > DEEP:
            _tap_by_tap(weight, cols, plan, z)
        else:
            np.matmul(tiled, cols, out=z.reshape(plan.taps * plan.O, -1))
        best = _winners(z, saved.gamma) if pooled else z
        if norm is not None:
            return z, best, row_moments(z)
        if plan.taps > 1 and not np.isfinite(best.sum()):
            _tap_by_tap(weight, cols, plan, z)
            best = _winners(z, None) if pooled else z
        _finish(best.copy() if bias is None else best + bias[:, None], saved, k)
        return z, best, None

    done = run_shards(convolve, len(parts))
    if norm is None:
        if keep:
            saved.z, saved.best = [z for z, _, _ in done], [b for _, b, _ in done]
        return y.transpose(3, 0, 1, 2), saved if keep else None, None, None

    saved.z, saved.best = [z for z, _, _ in done], [b for _, b, _ in done]
    moments = merge([m for _, _, m in done if m is not None])
    mean, var = moments.mean, moments.var
    saved.M = moments.count
    saved.inv_std = 1 / np.sqrt(var + norm.eps)
    scale = saved.inv_std if norm.gamma is None else saved.inv_std * norm.gamma
    saved.level = mean
    if moments.far_from_zero:  # z - mean would lose digits if folded into one addition: subtract it now
        rounded = mean.astype(x.dtype)
        saved.level = mean - rounded
        for z, best in zip(saved.z, saved.best, strict=True):
            z -= rounded[:, None]
            if pooled:
                best -= rounded[:, None]
    shift = -saved.level * scale
    if norm.beta is not None:
        shift = shift + norm.beta
    scale, shift = scale.astype(x.dtype)[:, None], shift.astype(x.dtype)[:, None]

    def finish(k: int) -> None:
        values = np.multiply(saved.best[k], scale, out=empty(saved.best[k].shape, x.dtype))
        values += shift
        _finish(values, saved, k)

    run_shards(finish, len(parts))
    if bias is not None:
        mean = mean + bias  # batch norm takes the bias away again; only the running mean sees it
    return y.transpose(3, 0, 1, 2), saved if keep else None, mean.astype(x.dtype), var.astype(x.dtype)


def _tap_by_tap(weight: np.ndarray, cols: np.ndarray, plan: Plan, z: np.ndarray) -> None:
    """z = the convolution, each tap from its own window alone, as the layer does it.

    One product for all taps differs in two rare cases. Where x is infinite, its zero weights give 0 * inf =
    NaN. And a BLAS adds long products up in pieces, which begin at different places of each tap's window: on a
    picture that is the same everywhere, values that should tie would differ in their last digit.
    """
    si, sj = plan.stride
    windows = cols.reshape(plan.C, *plan.window, -1)
    for t in range(plan.taps):
        i, j = divmod(t, plan.tile[1])
        own = windows[:, i * si : i * si + plan.K, j * sj : j * sj + plan.L]
        np.matmul(weight.reshape(plan.O, -1), own.reshape(plan.C * plan.K * plan.L, -1), out=z[t])


def _winners(z: np.ndarray, gamma: np.ndarray | None) -> np.ndarray:
    """z (taps, O, m) -> (O, m): the value whose activation is largest."""
    best = np.maximum(z[0], z[1], out=empty(z.shape[1:], z.dtype))
    for tap in z[2:]:
        np.maximum(best, tap, out=best)
    if gamma is not None and not (gamma > 0).all():
        for o in np.flatnonzero(gamma <= 0):
            best[o] = z[0, o] if gamma[o] == 0 else z[:, o].min(axis=0)
    return best


def _finish(values: np.ndarray, saved: Saved, k: int) -> None:
    """Activate, in place, and store shard k of the result. Without pooling `values` has all taps."""
    _store(activate(saved.activation, values), saved, saved.y[..., saved.parts[k]])


def _store(values: np.ndarray, saved: Saved, y: np.ndarray) -> None:
    """Shard values (O, m), or (taps, O, m) without pooling -> y (O, R, S, n)."""
    plan = saved.plan
    if saved.pooled:
        y[...] = values.reshape(y.shape)
        return
    ti, tj = plan.tile
    for t in range(plan.taps):
        i, j = divmod(t, tj)
        part = y[:, i::ti, j::tj]
        part[...] = values[t].reshape(part.shape)


def _load(gy: np.ndarray, saved: Saved, n: int) -> np.ndarray:
    """The reverse of _store: (O, R, S, n) -> (O, m), or (taps, O, m) without pooling; contiguous."""
    plan = saved.plan
    if saved.pooled:
        return np.ascontiguousarray(gy).reshape(plan.O, -1)
    ti, tj = plan.tile
    out = empty((plan.taps, plan.O, plan.columns(n)), gy.dtype)
    for t in range(plan.taps):
        i, j = divmod(t, tj)
        part = gy[:, i::ti, j::tj]
        out[t].reshape(part.shape)[...] = part
    return out


def backward(saved: Saved, gy: np.ndarray, need_x: bool) -> dict[str, Any]:
    """gy (N, O, R, S) -> gradients of x, weight, bias, gamma and beta, by name."""
    plan, dtype = saved.plan, gy.dtype
    gyt = gy.transpose(1, 2, 3, 0)  # (O, R, S, N)
    count = len(saved.parts)
    axes = (1,) if saved.pooled else (0, 2)

    def start(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """t = gradient after the activation's derivative, and its sums."""
        part = saved.parts[k]
        n = part.stop - part.start
        t = _load(gyt[..., part], saved, n)
        t = scale_by_derivative(
            saved.activation, _load(saved.y[..., part], saved, n), t, empty(t.shape, dtype)
        )
        total = t.sum(axis=axes, dtype=np.float64)
        if saved.level is None:
            return t, total, None
        shape = (-1, *t.shape[-2:])  # (taps, O, m), or (1, O, m) with pooling
        return t, total, row_products(t.reshape(shape), saved.best[k].reshape(shape))

    begun = run_shards(start, count)
    ts = [t for t, _, _ in begun]
    gbeta = add_in_order([total for _, total, _ in begun])
    result: dict[str, Any] = {"bias": gbeta.astype(dtype)}
    a = c = None
    if saved.level is not None and saved.inv_std is not None:
        products = add_in_order([product for _, _, product in begun if product is not None])
        ggamma = (products - saved.level * gbeta) * saved.inv_std
        result = {"bias": np.zeros(plan.O, dtype), "gamma": ggamma.astype(dtype), "beta": gbeta.astype(dtype)}
        k_ = saved.inv_std if saved.gamma is None else saved.inv_std * saved.gamma
        slope = -k_ * ggamma * saved.inv_std / saved.M
        a = slope.astype(dtype)[:, None]
        c = (-k_ * gbeta / saved.M - slope * saved.level).astype(dtype)[:, None]
        for t in ts:
            t *= k_.astype(dtype)[:, None]

    tiled = np.ascontiguousarray(tile_weight(saved.weight, plan).T)  # (C*window, taps*O)
    gx = empty(saved.x.shape, dtype) if need_x else None

    def convolve_back(k: int) -> np.ndarray:
        part = saved.parts[k]
        gz = _spread(ts[k], saved, k, a, c).reshape(plan.taps * plan.O, -1)
        gtiled = im2col(saved.x[..., part], plan) @ gz.T  # the longer side in front: BLAS is faster so
        if gx is not None:
            gcols = np.matmul(tiled, gz, out=empty((plan.rows, gz.shape[1]), dtype))
            col2im(gcols, plan, gx[..., part])
        return gtiled

    gtiled = add_in_order(run_shards(convolve_back, count))
    result["weight"] = fold_weight(gtiled.T, plan)
    if gx is not None:
        top, left = plan.padding
        inner = gx[:, top : plan.H - top, left : plan.W - left]
        result["x"] = inner.transpose(3, 0, 1, 2)
    return result


def _spread(t: np.ndarray, saved: Saved, k: int, a: np.ndarray | None, c: np.ndarray | None) -> np.ndarray:
    """gz (taps, O, m): a z + c everywhere, plus t at the winner of each tile. Uses up t."""
    z = saved.z[k]
    gz = empty(z.shape, z.dtype)
    if a is None:
        gz[...] = 0
    else:
        np.multiply(z, a, out=gz)
        gz += c
    if not saved.pooled:
        gz += t
        return gz
    best = saved.best[k]
    won = empty(best.shape, best.dtype)
    for tap, g in zip(z[:-1], gz[:-1], strict=True):
        np.equal(tap, best, out=won, casting="unsafe")
        won *= t
        g += won
        t -= won  # what has been given away is gone: the first of equals gets all
    gz[-1] += t
    return gz
