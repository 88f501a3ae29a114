"""Normalisation layers; the formulas are in `nn/functional/norm.py`.

`BatchNorm1d` and `BatchNorm2d` are PyTorch's. `BatchNorm` is the from-scratch layer of the tutorial: written
with Tensor arithmetic only, so that autograd finds its gradient. They keep different statistics for
prediction:

                       momentum weighs    variance of a batch divided by    shapes
    BatchNorm1d/2d     the new (0.1)      M - 1                             (C,)
    BatchNorm          the old (0.9)      M                                 (1, C) or (1, C, 1, 1)
"""

from __future__ import annotations

from typing import Any

import minigrad.nn.functional as F
from minigrad.creation import ones, tensor, zeros
from minigrad.dtypes import int64
from minigrad.errors import ArgumentError, ShapeError
from minigrad.grad_mode import no_grad
from minigrad.nn.functional.checks import check_tensor
from minigrad.nn.functional.norm import update_running_statistics
from minigrad.nn.module import Module
from minigrad.nn.parameter import Buffer, Parameter
from minigrad.shapes import as_int
from minigrad.tensor import Tensor

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm"]


class BatchNorm(Module):
    """Batch norm from scratch, as in the tutorial.

        mean = 1/M sum x    var = 1/M sum (x - mean)^2    y = gamma (x - mean) / sqrt(var + eps) + beta

    In training the statistics are the batch's, and moving averages of them are kept:
    moving = momentum moving + (1 - momentum) new. In evaluation the moving averages take their place.
    A batch of one is computed, and gives beta: nothing is learned from it, which is worth seeing.

    Args:
        num_features: channels C of (N, C, H, W), or features of (N, C).
        num_dims: 2 for (N, C), 4 for (N, C, H, W).

    >>> import minigrad as mg
    >>> layer = BatchNorm(1, num_dims=2)
    >>> layer(mg.tensor([[1.0], [3.0]])).tolist()[0][0] < -0.99
    True
    """

    gamma: Parameter
    beta: Parameter
    moving_mean: Tensor
    moving_var: Tensor

    def __init__(self, num_features: int, num_dims: int, eps: float = 1e-5, momentum: float = 0.9):
        super().__init__()
        if num_dims not in (2, 4):
            raise ArgumentError(
                f"BatchNorm: num_dims must be 2 for (N, C) or 4 for (N, C, H, W), got {num_dims!r}"
            )
        shape = (1, as_int(num_features, "BatchNorm: num_features")) + (1, 1) * (num_dims == 4)
        self.num_features, self.num_dims, self.eps, self.momentum = num_features, num_dims, eps, momentum
        self.gamma = Parameter(ones(shape))
        self.beta = Parameter(zeros(shape))
        self.moving_mean = Buffer(zeros(shape))
        self.moving_var = Buffer(ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        check_tensor("BatchNorm", "x", x)
        if x.ndim != self.num_dims or x.shape[1] != self.num_features:
            wanted = "(N, C)" if self.num_dims == 2 else "(N, C, H, W)"
            raise ShapeError(f"BatchNorm: expected {wanted} with C = {self.num_features}, got {x.shape}")
        if not self.training:
            xhat = (x - self.moving_mean) / (self.moving_var + self.eps).sqrt()
            return self.gamma * xhat + self.beta
        dims = (0,) if self.num_dims == 2 else (0, 2, 3)
        mean = x.mean(dims, keepdim=True)  # (1, C) or (1, C, 1, 1)
        var = ((x - mean) ** 2).mean(dims, keepdim=True)
        xhat = (x - mean) / (var + self.eps).sqrt()
        with no_grad():
            self.moving_mean *= self.momentum
            self.moving_mean += (1 - self.momentum) * mean
            self.moving_var *= self.momentum
            self.moving_var += (1 - self.momentum) * var
        return self.gamma * xhat + self.beta

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_dims={self.num_dims}, eps={self.eps}, momentum={self.momentum}"


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share: everything but the shapes that they take."""

    dims: tuple[int, ...]
    shapes: str
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.num_features = as_int(num_features, f"{type(self).__name__}: num_features")
        if self.num_features < 1:
            raise ArgumentError(f"{type(self).__name__}: num_features must be at least 1, got {num_features}")
        self.eps, self.momentum, self.affine = eps, momentum, affine
        self.track_running_stats = track_running_stats
        C = self.num_features
        self.weight = Parameter(ones(C, device=device, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(C, device=device, dtype=dtype)) if affine else None
        self.running_mean = Buffer(zeros(C, device=device, dtype=dtype)) if track_running_stats else None
        self.running_var = Buffer(ones(C, device=device, dtype=dtype)) if track_running_stats else None
        self.num_batches_tracked = (
            Buffer(tensor(0, dtype=int64, device=device)) if track_running_stats else None
        )

    def reset_running_stats(self) -> None:
        """Forget all batches seen so far."""
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(type(self).__name__, "x", x)
        if x.ndim not in self.dims:
            raise ShapeError(f"{type(self).__name__}: expected {self.shapes}, got shape {x.shape}")
        if not self.training and self.running_mean is not None and self.running_var is not None:
            return F.batch_norm_eval(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        y, mean, var = F.batch_norm_train(x, self.weight, self.bias, self.eps)
        if self.training:
            self.track(mean, var, x.numel() // x.shape[1])
        return y

    def track(self, mean: Tensor, var: Tensor, M: int) -> None:
        """Move the running statistics towards those of a batch: mean and var (C,) of M values a channel."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.array += 1  # in place, and on the array, as in update_running_statistics
        self.num_batches_tracked.version[0] += 1
        # momentum None: the plain average over all batches
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        update_running_statistics(self.running_mean, self.running_var, mean, var, M, weight)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch norm of features (N, C) or sequences (N, C, L) (Ioffe and Szegedy 2015), as in PyTorch.

    `momentum` is the weight of the new batch in the running statistics, which evaluation mode uses.
    """

    dims = (2, 3)
    shapes = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch norm of pictures (N, C, H, W) (Ioffe and Szegedy 2015), as in PyTorch.

    `momentum` is the weight of the new batch in the running statistics, which evaluation mode uses.

    >>> import minigrad as mg
    >>> BatchNorm2d(6)(mg.randn(8, 6, 24, 24)).shape
    (8, 6, 24, 24)
    """

    dims = (4,)
    shapes = "(N, C, H, W)"


class LayerNorm(Module):
    """Normalise each example over its last dimensions (Ba, Kiros and Hinton 2016)."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.eps, self.elementwise_affine = eps, elementwise_affine
        shape, where = self.normalized_shape, {"device": device, "dtype": dtype}
        self.weight = Parameter(ones(shape, **where)) if elementwise_affine else None
        self.bias = Parameter(zeros(shape, **where)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalise each example over groups of channels (Wu and He 2018)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: {num_channels} channels cannot be split into {num_groups} groups"
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(ones(num_channels, device=device, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(num_channels, device=device, dtype=dtype)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
