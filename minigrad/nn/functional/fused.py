"""Runs of layers as one operation: what `minigrad.compile` puts in their place.

    conv_block    conv2d -> batch norm -> activation -> 2x2 max pooling      (batch norm, pooling optional)
    linear_block  linear -> batch norm -> activation                         (batch norm optional)

Each equals the layers one after the other, to float precision, in its result, its gradients and the batch
statistics. The arithmetic is in `kernels/cpu/block.py`, `row_block.py`, `dense.py` and `norm.py`, and for a GPU
in `kernels/cuda/block.py` and `norm.py`; this file only joins it to the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minigrad.autograd import Function
from minigrad.backend import namespace
from minigrad.kernels.cpu import block, conv, dense, row_block, rows
from minigrad.kernels.cpu import norm as cpu_norm
from minigrad.kernels.cuda import block as cuda_block
from minigrad.kernels.cuda import module as cuda
from minigrad.kernels.cuda import norm as cuda_norm

__all__ = ["BlockOptions", "ConvBlock", "LinearBlock", "fold", "runs_on_device", "track"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class BlockOptions:
    """What is not a tensor in a block.

    Attributes:
        activation: "identity", "relu", "sigmoid" or "tanh".
        eps: of batch norm; None for a block without it.
        pooled: whether a 2x2 max pooling with stride 2 follows.
        stride, padding: of the convolution.
        alone: whether the convolution is a layer of its own, not part of a fused run. Then the result lies in memory
            in the order C H W N, which the operations that follow read fastest.
    """

    activation: str
    eps: float | None = None
    pooled: bool = False
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    alone: bool = False

    def normalisation(self, gamma: Any, beta: Any) -> block.Normalisation | None:
        return None if self.eps is None else block.Normalisation(gamma, beta, self.eps)


def runs_on_device(array: Any) -> bool:
    """Whether the CUDA kernels do the work for an array like this one."""
    return cuda.serves(namespace(array))


def track(norm: Any, mean: Any, var: Any, M: int) -> None:
    """What `norm.track(mean, var, M)` does, on a GPU with one kernel."""
    running_mean, running_var, tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if norm.momentum is None or running_mean is None or not runs_on_device(mean.array):
        norm.track(mean, var, M)
        return
    cuda_norm.track(
        mean.array, var.array, running_mean.array, running_var.array, tracked.array, norm.momentum, M
    )
    for buffer in (running_mean, running_var, tracked):
        buffer.version[0] += 1  # so that a graph that still needs the old value notices


def fold(norm: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
    """Weight and bias of a layer that does its own work and that of the batch norm `norm` in evaluation mode."""
    tensors = (weight, bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    arrays: list[Any] = [None if t is None else t.array for t in tensors]
    eps = float(norm.eps)  # a NumPy float64 would make float64 of everything
    kernel: Any = cpu_norm.fold
    if runs_on_device(weight.array):
        kernel = cuda_norm.fold
        arrays = [None if a is None else cuda.contiguous(a) for a in arrays]
    folded, shift = kernel(*arrays, eps)
    return weight._new(folded), weight._new(shift)


def _results(ctx: Any, y: Any, mean: Any, var: Any) -> Any:
    """y, and with batch norm the statistics of the batch, which have no gradient."""
    if mean is None:
        return y
    ctx.mark_non_differentiable(mean, var)
    ctx.set_materialize_grads(False)  # nobody needs zeros for these two
    return y, mean, var


def _gradients(ctx: Any, found: dict[str, Any]) -> tuple[Any, ...]:
    """The gradients that a kernel found, by name, in the order of the block's tensors; None where none is needed."""
    names = ("x", "weight", "bias", "gamma", "beta")
    return tuple(
        found[name] if need else None for name, need in zip(names, ctx.needs_input_grad, strict=False)
    )


def _way_on_cpu(x: Any, weight: Any, options: BlockOptions) -> tuple[Any, Any]:
    """The module that does a block, `row_block` or `block`, and its plan."""
    geometry = (x.shape[1:], weight.shape, options.stride, options.padding)
    if not options.pooled and rows.suits(*geometry, len(x)):
        return row_block, rows.make_plan(*geometry, x.itemsize, len(x), options.alone)
    return block, conv.make_plan(*geometry, options.pooled, x.itemsize, len(x))


class ConvBlock(Function):
    """x (N, C, H, W) -> y, and with batch norm the mean and var (O,) of the batch."""

    @staticmethod
    def forward(ctx, x, weight, bias, gamma, beta, options):
        if cuda.serves(ctx.xp):
            y, ctx.saved, mean, var = cuda_block.conv_forward(
                x, weight, bias, gamma, beta, options.eps, options.activation, options.stride, options.padding,
                options.pooled,
            )  # fmt: skip
            ctx.save_for_backward(x, weight, gamma, y)
            return _results(ctx, y, mean, var)
        ctx.kernel, plan = _way_on_cpu(x, weight, options)
        norm = options.normalisation(gamma, beta)
        keep = any(ctx.needs_input_grad)
        y, ctx.saved, mean, var = ctx.kernel.forward(x, weight, bias, norm, options.activation, plan, keep)
        # So that a write to one of them is noticed; block keeps a copy of y
        reads_y = ctx.kernel is row_block and options.activation != "identity"
        ctx.save_for_backward(x, weight, gamma, y if reads_y else None)
        return _results(ctx, y, mean, var)

    @staticmethod
    def backward(ctx, gy, *_):
        backward = cuda_block.backward if cuda.serves(ctx.xp) else ctx.kernel.backward
        return _gradients(ctx, backward(ctx.saved, gy, ctx.needs_input_grad[0]))


class LinearBlock(Function):
    """x (N, in) -> y (N, out), and with batch norm the mean and var (out,) of the batch."""

    @staticmethod
    def forward(ctx, x, weight, bias, gamma, beta, options):
        if cuda.serves(ctx.xp):
            y, ctx.saved, mean, var = cuda_block.linear_forward(
                x, weight, bias, gamma, beta, options.eps, options.activation
            )
            ctx.save_for_backward(x, weight, gamma, y)
            return _results(ctx, y, mean, var)
        norm = options.normalisation(gamma, beta)
        y, ctx.saved, mean, var = dense.dense_forward(x, weight, bias, norm, options.activation)
        ctx.save_for_backward(x, weight, gamma, y)
        return _results(ctx, y, mean, var)

    @staticmethod
    def backward(ctx, gy, *_):
        backward = cuda_block.backward if cuda.serves(ctx.xp) else dense.dense_backward
        return _gradients(ctx, backward(ctx.saved, gy, ctx.needs_input_grad[0]))
