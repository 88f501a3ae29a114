"""Batch norm, activation and 2x2 max pooling on the device; the formulas are in sources/norm.cu.

z and y are (N, C, S), S = 1 for features; with pooling z is (N, C, P, Q) and y (N, C, P/2, Q/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from minigrad.kernels.cuda import module
from minigrad.kernels.cuda.module import ACTIVATIONS, BLOCK, Alloc, Array, blocks, ceil_div, launch

__all__ = ["Statistics", "apply", "apply_pool", "backward", "fold", "merge", "track"]


@dataclass
class Statistics:
    """Those of one batch, each (C,)."""

    centre: Array  # mean of z, which has no bias
    inv_std: Array
    mean: Array  # with the bias
    var: Array


class Gradients(NamedTuple):
    gz: Array
    gamma: Array | None
    beta: Array | None
    bias: Array | None


def merge(
    partial: Array, eps: float, bias: Array | None, out: Statistics | None = None, alloc: Alloc | None = None
) -> Statistics:
    """The moments (pieces, C, 3) of the pieces of a batch -> the statistics of the batch."""
    pieces, C, _ = partial.shape
    if out is None:
        alloc = alloc or module.empty
        out = Statistics(*(alloc((C,), partial.dtype) for _ in range(4)))
    args = [partial, bias, eps, out.centre, out.inv_std, out.mean, out.var, pieces, C]
    launch("merge_moments", (C,), (BLOCK,), args)
    return out


def apply(
    z: Array,
    stats: Statistics,
    gamma: Array | None,
    beta: Array | None,
    activation: str,
    out: Array | None = None,
    alloc: Alloc | None = None,
) -> Array:
    """act(gamma (z - mean) inv_std + beta), of the shape of z."""
    N, C, S = flat(z)
    y = (alloc or module.empty)(z.shape, z.dtype) if out is None else out
    args = [z, stats.centre, stats.inv_std, gamma, beta, y, ACTIVATIONS[activation], N, C, S]
    launch("norm_apply", (C, blocks(N * S)), (BLOCK,), args)
    return y


def apply_pool(
    z: Array,
    stats: Statistics | None,
    gamma: Array | None,
    beta: Array | None,
    activation: str,
    out: Array | None = None,
    winner: Array | None = None,
    alloc: Alloc | None = None,
) -> tuple[Array, Array]:
    """The same, then 2x2 max pooling: y and the winner of each window, 0 to 3, uint8. P and Q are even."""
    N, C, P, Q = z.shape
    alloc, pooled = alloc or module.empty, (N, C, P // 2, Q // 2)
    y = alloc(pooled, z.dtype) if out is None else out
    winner = alloc(pooled, "uint8") if winner is None else winner
    centre, inv_std = (None, None) if stats is None else (stats.centre, stats.inv_std)
    args = [z, centre, inv_std, gamma, beta, y, winner, ACTIVATIONS[activation], N, C, P, Q]
    launch("norm_apply_pool", (C, blocks(N * (P // 2) * (Q // 2))), (BLOCK,), args)
    return y, winner


def track(
    mean: Array, var: Array, running_mean: Array, running_var: Array, tracked: Array, weight: float, M: int
) -> None:
    """Move the running statistics, in place, by `weight` towards those of a batch of M values a channel."""
    C = mean.shape[0]
    args = [mean, var, running_mean, running_var, tracked, weight, M, C]
    launch("track_statistics", (ceil_div(C, BLOCK),), (BLOCK,), args)


def fold(
    weight: Array,
    bias: Array | None,
    mean: Array,
    var: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    alloc: Alloc | None = None,
) -> tuple[Array, Array]:
    """Weight and bias of the layer that does the work of a layer and of the batch norm after it, with fixed statistics.

    weight (O, ...), all others (O,); bias, gamma and beta may be None.
    """
    alloc = alloc or module.empty
    O, size = weight.shape[0], weight.size // weight.shape[0]
    folded, shift = alloc(weight.shape, weight.dtype), alloc((O,), weight.dtype)
    args = [weight, bias, mean, var, gamma, beta, eps, folded, shift, size]
    launch("fold_norm", (O, blocks(size)), (BLOCK,), args)
    return folded, shift


def backward(
    gy: Array,
    y: Array,
    z: Array,
    winner: Array | None,
    stats: Statistics | None,
    gamma: Array | None,
    activation: str,
    sums: bool = True,
    out: Array | None = None,
    gamma_out: Array | None = None,
    beta_out: Array | None = None,
    bias_out: Array | None = None,
    partial: Array | None = None,
    alloc: Alloc | None = None,
) -> Gradients:
    """gz of the shape of z, and the gradients of gamma, beta and of the bias of the layer before, each (C,).

    Without batch norm (stats None) gamma and beta have none, and the sums can be left out.
    """
    alloc = alloc or module.empty
    N, C, S = flat(y)
    P, Q = z.shape[2:] if winner is not None else (0, 0)
    kind = ACTIVATIONS[activation]
    centre, inv_std = (None, None) if stats is None else (stats.centre, stats.inv_std)
    gz = alloc(z.shape, z.dtype) if out is None else out
    pieces = 0
    if sums or stats is not None:
        pieces = sum_count(N, S)
        partial = alloc((pieces, C, 2), z.dtype) if partial is None else partial
        bias_out = alloc((C,), z.dtype) if bias_out is None else bias_out
        args = [gy, y, z, winner, centre, inv_std, partial, kind, N, C, S, P, Q]
        launch("norm_backward_sums", (C, pieces), (BLOCK,), args)
    if stats is not None:
        gamma_out = alloc((C,), z.dtype) if gamma_out is None else gamma_out
        beta_out = alloc((C,), z.dtype) if beta_out is None else beta_out
    gradients = [gz, gamma_out, beta_out, bias_out]
    args = [gy, y, z, winner, centre, inv_std, gamma, partial, *gradients, pieces, kind, N, C, S, P, Q]
    launch("norm_backward_apply", (C, blocks(N * S)), (BLOCK,), args)
    return Gradients(gz, gamma_out, beta_out, bias_out)


def sum_count(N: int, S: int) -> int:
    """Pieces in which `backward` forms its sums over N and S."""
    return blocks(N * S, each=4)


def flat(x: Array) -> tuple[int, int, int]:
    """(N, C, S) for an array (N, C) or (N, C, ...)."""
    N, C = x.shape[:2]
    return N, C, x.size // (N * C)
