"""The fused operations on the device: what kernels/cpu/block.py and dense.py compute, with CUDA kernels.

    Conv2d [BatchNorm2d] [activation] [MaxPool2d(2)]        Linear [BatchNorm1d] [activation]

Forward with batch norm takes three kernels: the product, which also gives the moments of its tiles; their
merging; and normalisation, activation and pooling in one. Backward takes the sums, gz, and the two products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minigrad.kernels.cuda import conv, dense, module, norm
from minigrad.kernels.cuda.module import Alloc, Array, contiguous

__all__ = ["SavedBlock", "backward", "conv_forward", "linear_forward"]


@dataclass
class SavedBlock:
    """What backward needs."""

    x: Array
    weight: Array
    z: Array  # the product, of which y is made; y itself if nothing stands between
    y: Array
    activation: str
    has_bias: bool
    sizes: conv.Sizes | None = None  # None for a linear layer
    winner: Array | None = None
    stats: norm.Statistics | None = None
    gamma: Array | None = None


Results = tuple[Array, SavedBlock, Array | None, Array | None]


def conv_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    gamma: Array | None,
    beta: Array | None,
    eps: float | None,
    activation: str,
    stride: tuple[int, int],
    padding: tuple[int, int],
    pooled: bool,
    alloc: Alloc | None = None,
) -> Results:
    """x (N, C, H, W) -> y, what backward needs, and with batch norm (eps is not None) mean and var (O,)."""
    alloc = alloc or module.empty
    x, weight, bias, gamma, beta = (a if a is None else contiguous(a) for a in (x, weight, bias, gamma, beta))
    s = conv.sizes(x.shape, weight.shape, stride, padding)
    saved = SavedBlock(x, weight, x, x, activation, bias is not None, s, gamma=gamma)
    if eps is None:
        saved.z = conv.convolve(x, weight, bias, s, "identity" if pooled else activation, alloc=alloc)
    else:
        pieces = conv.partial_count(s.O, s.N * s.P * s.Q)
        partial = alloc((pieces, s.O, 3), x.dtype)
        saved.z = conv.convolve(x, weight, None, s, partial=partial, alloc=alloc)
        saved.stats = norm.merge(partial, eps, bias, alloc=alloc)
    return _finish(saved, beta, pooled, alloc)


def linear_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    gamma: Array | None,
    beta: Array | None,
    eps: float | None,
    activation: str,
    alloc: Alloc | None = None,
) -> Results:
    """x (N, in) -> y (N, out), what backward needs, and with batch norm mean and var (out,)."""
    alloc = alloc or module.empty
    x, weight, bias, gamma, beta = (a if a is None else contiguous(a) for a in (x, weight, bias, gamma, beta))
    saved = SavedBlock(x, weight, x, x, activation, bias is not None, gamma=gamma)
    if eps is None:
        saved.z = dense.multiply(x, weight, bias, activation, alloc=alloc)
    else:
        N, O = x.shape[0], weight.shape[0]
        partial = alloc((conv.partial_count(O, N), O, 3), x.dtype)
        saved.z = dense.multiply(x, weight, None, partial=partial, alloc=alloc)
        saved.stats = norm.merge(partial, eps, bias, alloc=alloc)
    return _finish(saved, beta, False, alloc)


def _finish(saved: SavedBlock, beta: Array | None, pooled: bool, alloc: Alloc) -> Results:
    """z -> y."""
    stats, gamma = saved.stats, saved.gamma
    saved.y = saved.z
    if pooled:
        saved.y, saved.winner = norm.apply_pool(saved.z, stats, gamma, beta, saved.activation, alloc=alloc)
    elif stats is not None:
        saved.y = norm.apply(saved.z, stats, gamma, beta, saved.activation, alloc=alloc)
    if stats is None:
        return saved.y, saved, None, None
    return saved.y, saved, stats.mean, stats.var


def backward(
    saved: SavedBlock,
    gy: Array,
    need_x: bool,
    out: dict[str, Array] | None = None,
    alloc: Alloc | None = None,
) -> dict[str, Any]:
    """gy -> gradients of x, weight, bias, gamma and beta, by name; into the arrays of `out` where it has them."""
    alloc, out = alloc or module.empty, out or {}
    gy = contiguous(gy)
    s, stats = saved.sizes, saved.stats
    found: dict[str, Any] = {}
    own_sums = stats is not None or s is not None  # a linear layer gets its bias from the product
    gz = gy
    if own_sums or saved.activation != "identity":
        gradients = norm.backward(
            gy, saved.y, saved.z, saved.winner, stats, saved.gamma, saved.activation, own_sums,
            gamma_out=out.get("gamma"), beta_out=out.get("beta"), bias_out=out.get("bias"), alloc=alloc,
        )  # fmt: skip
        gz = gradients.gz
        found = {"bias": gradients.bias, "gamma": gradients.gamma, "beta": gradients.beta}
    if s is not None:
        found["weight"] = conv.grad_weight(saved.x, gz, s, out.get("weight"), alloc)
        if need_x:
            found["x"] = conv.grad_input(gz, saved.weight, s, out.get("x"), alloc)
        return found
    if not own_sums and saved.has_bias:
        found["bias"] = out["bias"] if "bias" in out else alloc((gz.shape[1],), gz.dtype)
    bias_out = found["bias"] if not own_sums and saved.has_bias else None
    found["weight"] = dense.grad_weight(saved.x, gz, out.get("weight"), bias_out, alloc)
    if need_x:
        found["x"] = dense.grad_input(gz, saved.weight, out.get("x"), alloc)
    return found
