"""Normalisation: batch norm, layer norm, group norm.

Batch norm (Ioffe and Szegedy 2015, Algorithm 1), for each channel c, over its M = N*H*W values:

    mean = 1/M sum x                 xhat = (x - mean) / sqrt(var + eps)
    var  = 1/M sum (x - mean)^2      y    = gamma xhat + beta

The mean and the variance depend on x, so the gradient flows through them too (section 3 of the paper,
collected):

    gbeta  = sum gy
    ggamma = sum gy xhat
    gx     = gamma / sqrt(var + eps) * (gy - gbeta / M - xhat ggamma / M)

In evaluation mode mean and var are given numbers, and gx = gamma / sqrt(var + eps) * gy.

Reading order: the formulas as plain functions, the operations, what users call. The layers, which own the
running statistics, are in `nn/norm.py`.
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd import Function
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.nn.functional.checks import check_floating, check_same_dtype, check_tensor
from minigrad.tensor import Tensor

__all__ = [
    "batch_norm",
    "batch_norm_eval",
    "batch_norm_train",
    "group_norm",
    "layer_norm",
    "update_running_statistics",
]


# 1. The formulas --------------------------------------------------------------------------------------


def normalize(xp: Any, x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any, Any]:
    """x -> xhat, 1/sqrt(var + eps), mean, var over `axes`, which keep size 1.

    Two passes: first the mean, then the squares of the distances from it. One pass with
    mean(x^2) - mean(x)^2 would lose all digits where the mean is large against the spread.
    """
    M = count(x.shape, axes)
    mean = x.sum(axis=axes, keepdims=True) / M
    xhat = x - mean
    var = (xhat * xhat).sum(axis=axes, keepdims=True) / M
    inv_std = 1 / xp.sqrt(var + eps)
    xhat *= inv_std  # in place: a fresh array of some megabytes costs as much as its arithmetic
    return xhat, inv_std, mean, var


def normalize_backward(gxhat: Any, xhat: Any, inv_std: Any, axes: tuple[int, ...]) -> Any:
    """gxhat -> gx = (gxhat - mean of gxhat - xhat * mean of gxhat xhat) / sqrt(var + eps)."""
    M = count(xhat.shape, axes)
    level = gxhat.sum(axis=axes, keepdims=True) / M
    slope = (gxhat * xhat).sum(axis=axes, keepdims=True) / M
    return (gxhat - level - xhat * slope) * inv_std


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many values are averaged: M; 1 for an empty batch, whose sums are 0 and stay 0."""
    M = 1
    for axis in axes:
        M *= shape[axis]
    return max(M, 1)


def channel_axes(ndim: int) -> tuple[int, ...]:
    """All axes but the channels': (0,) for (N, C), (0, 2, 3) for (N, C, H, W)."""
    return (0, *range(2, ndim))


def per_channel(v: Any, ndim: int) -> Any:
    """v (C,) -> (1, C, 1, 1), ready to broadcast."""
    return v.reshape((1, -1) + (1,) * (ndim - 2))


# 2. The operations ------------------------------------------------------------------------------------


class BatchNormTrain(Function):
    """y, mean, var from x (N, C, ...), gamma (C,), beta (C,); mean and var are plain numbers, no gradient."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        axes = channel_axes(x.ndim)
        xhat, inv_std, mean, var = normalize(ctx.xp, x, axes, eps)
        y = xhat.copy() if gamma is None else xhat * per_channel(gamma, x.ndim)
        if beta is not None:
            y += per_channel(beta, x.ndim)
        ctx.save_for_backward(xhat, inv_std, gamma)
        ctx.axes = axes
        mean, var = mean.reshape(-1), var.reshape(-1)  # (C,)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx, gy, gmean, gvar):
        xhat, inv_std, gamma = ctx.saved_tensors
        need_x, need_gamma, need_beta, _ = ctx.needs_input_grad
        M = count(xhat.shape, ctx.axes)
        gbeta = gy.sum(axis=ctx.axes)  # (C,)
        ggamma = (gy * xhat).sum(axis=ctx.axes)  # (C,)
        gx = None
        if need_x:
            scale = inv_std if gamma is None else inv_std * per_channel(gamma, gy.ndim)
            # scale (gy - mean of gy - xhat mean of gy xhat)
            gx = xhat * per_channel(-ggamma / M, gy.ndim)
            gx += gy
            gx -= per_channel(gbeta / M, gy.ndim)
            gx *= scale
        return gx, ggamma if need_gamma else None, gbeta if need_beta else None


class BatchNormEval(Function):
    """y from x and given mean (C,) and var (C,): gx = gamma / sqrt(var + eps) gy."""

    @staticmethod
    def forward(ctx, x, mean, var, gamma, beta, eps):
        inv_std = per_channel(1 / ctx.xp.sqrt(var + eps), x.ndim)
        xhat = (x - per_channel(mean, x.ndim)) * inv_std
        ctx.save_for_backward(xhat, inv_std, gamma)
        y = xhat
        if gamma is not None:
            y = y * per_channel(gamma, x.ndim)
        if beta is not None:
            y = y + per_channel(beta, x.ndim)
        return y

    @staticmethod
    def backward(ctx, gy):
        xhat, inv_std, gamma = ctx.saved_tensors
        axes = channel_axes(gy.ndim)
        need_x, _, _, need_gamma, need_beta, _ = ctx.needs_input_grad
        gx = None
        if need_x:
            gx = gy * (inv_std if gamma is None else inv_std * per_channel(gamma, gy.ndim))
        ggamma = (gy * xhat).sum(axis=axes) if need_gamma else None
        gbeta = gy.sum(axis=axes) if need_beta else None
        return gx, None, None, ggamma, gbeta


class Normalize(Function):
    """xhat alone, over any axes: what layer norm and group norm are made of."""

    @staticmethod
    def forward(ctx, x, axes, eps):
        xhat, inv_std, _, _ = normalize(ctx.xp, x, axes, eps)
        ctx.save_for_backward(xhat, inv_std)
        ctx.axes = axes
        return xhat

    @staticmethod
    def backward(ctx, gy):
        xhat, inv_std = ctx.saved_tensors
        return normalize_backward(gy, xhat, inv_std, ctx.axes)


# 3. What users call -----------------------------------------------------------------------------------


def batch_norm_train(
    input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each channel by the statistics of this batch.

    Args:
        input: (N, C), (N, C, L) or (N, C, H, W).
        weight: gamma (C,), or None for 1.
        bias: beta (C,), or None for 0.
        eps: added to the variance, so that a constant channel does not divide by 0.

    Returns:
        y of the shape of input, and the mean (C,) and variance (C,; divided by M) of the batch.

    Raises:
        ArgumentError: one value for each channel has no spread to normalise by.

    >>> import minigrad as mg
    >>> y, mean, var = batch_norm_train(mg.tensor([[1.0], [3.0]]))
    >>> y, mean, var
    (tensor([[-1.],
            [ 1.]]), tensor([2.]), tensor([1.]))
    """
    _check(input, weight, bias)
    if input.numel() == input.shape[1] > 0:
        raise ArgumentError(
            "batch_norm: expected more than 1 value per channel when training, "
            f"got input of shape {input.shape}; a single value minus its own mean is 0, "
            "so nothing would be learned: use a larger batch "
            "(drop_last=True drops a last batch of one), or .eval()"
        )
    return BatchNormTrain.apply(input, weight, bias, eps)


def batch_norm_eval(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel by given statistics: mean (C,) and var (C,)."""
    _check(input, weight, bias, mean, var)
    return BatchNormEval.apply(input, mean.detach(), var.detach(), weight, bias, eps)


def update_running_statistics(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, M: int, momentum: float
) -> None:
    """Move the running statistics towards those of a batch; `momentum` weighs the new batch.

    running = (1 - momentum) running + momentum new. The variance of a batch, divided by M, is too small on
    average by (M - 1)/M; the running one is corrected for that. An empty batch, M = 0, moves nothing.
    """
    if M == 0:
        return
    for running, new in ((running_mean, mean.array), (running_var, var.array * (M / (M - 1)))):
        # on arrays: these are small, and a Tensor's bookkeeping would take longer than the arithmetic
        running.array += (new - running.array) * momentum  # in place
        running.version[0] += 1  # as every change in place does


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm with PyTorch's signature: in training it also moves the running statistics, in place."""
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "batch_norm: evaluation needs running_mean and running_var; pass training=True without"
            )
        return batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    _check(input, running_mean, running_var)
    y, mean, var = batch_norm_train(input, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        M = input.numel() // max(input.shape[1], 1)
        update_running_statistics(running_mean, running_var, mean, var, M, momentum)
    return y


def layer_norm(
    input: Tensor,
    normalized_shape: int | tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each example over its last dimensions (Ba, Kiros and Hinton 2016).

    Args:
        input: (..., *normalized_shape).
        weight, bias: of shape normalized_shape, or None.

    >>> import minigrad as mg
    >>> layer_norm(mg.tensor([[1.0, 3.0]]), 2)
    tensor([[-1.,  1.]])
    """
    check_tensor("layer_norm", "x", input)
    check_tensor("layer_norm", "weight", weight, optional=True)
    check_tensor("layer_norm", "bias", bias, optional=True)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: x has shape {input.shape}, which does not end in {shape}")
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and p.shape != shape:
            raise ShapeError(f"layer_norm: {name} has shape {p.shape}, expected {shape}")
    check_floating("layer_norm", input)
    check_same_dtype("layer_norm", x=input, weight=weight, bias=bias)
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    y = Normalize.apply(input, axes, eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each example over groups of channels (Wu and He 2018).

    Args:
        input: (N, C, ...); C is a multiple of num_groups.
        weight, bias: (C,), or None.
    """
    check_tensor("group_norm", "x", input)
    check_tensor("group_norm", "weight", weight, optional=True)
    check_tensor("group_norm", "bias", bias, optional=True)
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ArgumentError(
            f"group_norm: x of shape {input.shape} cannot be split into {num_groups} groups of channels"
        )
    _check(input, weight, bias, operation="group_norm", dims=None)
    N, C = input.shape[:2]
    grouped = input.reshape(N, num_groups, C // num_groups, *input.shape[2:])  # (N, G, C/G, ...)
    y = Normalize.apply(grouped, tuple(range(2, grouped.ndim)), eps).reshape(input.shape)
    column = (1, C) + (1,) * (input.ndim - 2)
    y = y if weight is None else y * weight.reshape(column)
    return y if bias is None else y + bias.reshape(column)


def _check(
    x: Tensor,
    *per_channel: Tensor | None,
    operation: str = "batch_norm",
    dims: tuple[int, ...] | None = (2, 3, 4),
) -> None:
    """Refuse what is no Tensor, inputs without channels, parameters of another size, and mixed dtypes."""
    check_tensor(operation, "x", x)
    for p in per_channel:
        check_tensor(operation, "a parameter", p, optional=True)
    if x.ndim < 2 or (dims is not None and x.ndim not in dims):
        raise ShapeError(f"{operation}: x must have shape (N, C), (N, C, L) or (N, C, H, W), got {x.shape}")
    check_floating(operation, x)
    for p in per_channel:
        if p is None:
            continue
        if p.shape != (x.shape[1],):
            raise ShapeError(
                describe(
                    f"{operation}: the layer has {p.numel()} channels, x has {x.shape[1]}",
                    [("x", x.shape, "N C ..."), ("parameters", p.shape, "C")],
                    f"use {x.shape[1]} as the layer's number of channels",
                )
            )
        check_same_dtype(operation, x=x, layer=p)
