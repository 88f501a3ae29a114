"""One example of each Function of minigrad.nn.functional, and of each function that users call.

`CASES` and `CPU_CASES` map a name to a Function, how to call it and its float64 inputs;
`test_broken_gradients.py` breaks each of them. `PUBLIC` maps the names of `F.__all__` to calls that
`test_devices.py` runs on every device.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import Function
from minigrad.nn.functional.activation import (
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from minigrad.nn.functional.conv import Conv2d, Conv2dKernel, Pad2d
from minigrad.nn.functional.fused import BlockOptions, ConvBlock, LinearBlock
from minigrad.nn.functional.linear import Linear
from minigrad.nn.functional.loss import Pick, SoftmaxCrossEntropy
from minigrad.nn.functional.norm import BatchNormEval, BatchNormTrain, Normalize
from minigrad.nn.functional.pool import AvgPool2d, MaxPool2d
from minigrad.testing import distinct_values
from tests.core.cases import Case

RNG = np.random.default_rng(21)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.random(shape) + 0.5


def distinct(*shape: int) -> np.ndarray:
    return distinct_values(shape, RNG)


def beside(x: mg.Tensor, array: Any) -> mg.Tensor:
    """A tensor with these numbers on the device of x, and in its dtype if they are no whole numbers."""
    array = np.asarray(array)
    return mg.tensor(array.astype(x.dtype) if array.dtype.kind == "f" else array, device=x.device)


# 1. Functions --------------------------------------------------------------------------------------------

MEAN, VAR = normal(3), positive(3)
LABELS = np.array([2, 0, 2, 1])
DIVISOR = np.array([[4.0, 2.0, 3.0], [1.0, 5.0, 4.0]])


def conv(options: tuple[Any, ...]) -> Any:
    """Conv2d.apply(x, weight, bias, stride, padding, dilation, groups)"""
    return lambda f, x, w, b: f(x, w, b, *options)


def block(*options: Any) -> Any:
    """ConvBlock or LinearBlock.apply(x, weight, bias, gamma, beta, options), without batch norm"""
    return lambda f, x, w, b: f(x, w, b, None, None, BlockOptions(*options))


def norm_block(*options: Any) -> Any:
    """The same with batch norm; then a bias before it has no influence, so there is none."""
    return lambda f, x, w, gamma, beta: f(x, w, None, gamma, beta, BlockOptions(*options))[0]


CASES: dict[str, Case] = {
    "sigmoid": Case(Sigmoid, lambda f, x: f(x), (normal(2, 3),)),
    "tanh": Case(Tanh, lambda f, x: f(x), (normal(2, 3),)),
    "relu": Case(ReLU, lambda f, x: f(x), (distinct(2, 3),)),
    "leaky relu": Case(LeakyReLU, lambda f, x: f(x, 0.2), (distinct(2, 3),)),
    "gelu": Case(GELU, lambda f, x: f(x), (normal(2, 3),)),
    "softplus": Case(Softplus, lambda f, x: f(x), (normal(2, 3),)),
    "softmax": Case(Softmax, lambda f, x: f(x, 1), (normal(2, 3, 2),)),
    "log softmax": Case(LogSoftmax, lambda f, x: f(x, 1), (normal(2, 3, 2),)),
    "conv": Case(
        Conv2d, conv(((1, 1), (0, 0), (1, 1), 1)), (normal(2, 2, 4, 5), normal(3, 2, 3, 2), normal(3))
    ),
    "conv, stride and padding": Case(
        Conv2d, conv(((2, 1), (1, 2), (1, 1), 1)), (normal(2, 1, 5, 4), normal(2, 1, 3, 3), normal(2))
    ),
    "conv, dilation and groups": Case(
        Conv2d, conv(((1, 2), (1, 1), (2, 1), 2)), (normal(2, 4, 5, 4), normal(2, 2, 2, 3), normal(2))
    ),
    "conv without bias": Case(
        Conv2d,
        lambda f, x, w: f(x, w, None, (1, 1), (0, 0), (1, 1), 1),
        (normal(2, 1, 3, 3), normal(2, 1, 2, 2)),
    ),
    "pad": Case(Pad2d, lambda f, x: f(x, (1, 0), (2, 1)), (normal(2, 2, 3, 2),)),
    "linear": Case(Linear, lambda f, x, w, b: f(x, w, b), (normal(4, 3), normal(2, 3), normal(2))),
    "linear, 3-d": Case(Linear, lambda f, x, w, b: f(x, w, b), (normal(2, 4, 3), normal(2, 3), normal(2))),
    "linear without bias": Case(Linear, lambda f, x, w: f(x, w, None), (normal(3), normal(2, 3))),
    "pick": Case(Pick, lambda f, x: f(x, beside(x, LABELS).array), (normal(4, 3),)),
    "cross entropy": Case(SoftmaxCrossEntropy, lambda f, x: f(x, beside(x, LABELS).array), (normal(4, 3),)),
    "batch norm": Case(
        BatchNormTrain, lambda f, x, g, b: f(x, g, b, 1e-5)[0], (normal(4, 3, 2, 2), normal(3), normal(3))
    ),
    "batch norm of features": Case(BatchNormTrain, lambda f, x: f(x, None, None, 1e-5)[0], (normal(4, 3),)),
    "batch norm, evaluation": Case(
        BatchNormEval,
        lambda f, x, g, b: f(x, beside(x, MEAN), beside(x, VAR), g, b, 1e-5),
        (normal(4, 3, 2, 2), normal(3), normal(3)),
    ),
    "normalize": Case(Normalize, lambda f, x: f(x, (1, 2), 1e-5), (normal(3, 2, 4),)),
    "max pool": Case(
        MaxPool2d, lambda f, x: f(x, (2, 2), (2, 1), (0, 0), (1, 1), (2, 3), False), (distinct(2, 2, 4, 4),)
    ),
    "max pool, overlap and padding": Case(
        MaxPool2d, lambda f, x: f(x, (3, 2), (1, 1), (1, 1), (1, 2), (4, 4), True)[0], (distinct(1, 2, 4, 4),)
    ),
    "avg pool": Case(
        AvgPool2d, lambda f, x: f(x, (2, 2), (2, 2), (0, 1), (2, 3), DIVISOR), (normal(2, 2, 4, 4),)
    ),
}

# What `minigrad.compile` puts in place of layers. These have kernels for NumPy only.
CPU_CASES: dict[str, Case] = {
    "conv block": Case(
        ConvBlock,
        norm_block("sigmoid", 1e-5, True),
        (normal(3, 2, 6, 6), normal(3, 2, 3, 3), np.array([0.7, -1.2, 0.4]), normal(3)),
    ),
    "conv block, not pooled": Case(
        ConvBlock,
        norm_block("tanh", 1e-3),
        (normal(3, 2, 6, 5), normal(2, 2, 3, 2), np.array([0.7, -1.2]), normal(2)),
    ),
    "conv block, stride and padding": Case(
        ConvBlock,
        norm_block("sigmoid", 1e-5, True, (2, 1), (1, 2)),
        (normal(2, 2, 7, 4), normal(2, 2, 3, 3), np.array([-0.9, 0.8]), normal(2)),
    ),
    "conv block, no norm": Case(
        ConvBlock, block("tanh", None, True), (normal(3, 2, 6, 6), normal(3, 2, 3, 3), normal(3))
    ),
    "conv block, no norm, not pooled": Case(
        ConvBlock, block("identity"), (normal(2, 2, 5, 4), normal(3, 2, 2, 3), normal(3))
    ),
    "conv kernel": Case(
        Conv2dKernel, conv(((1, 1), (0, 0))), (normal(2, 2, 5, 4), normal(3, 2, 2, 3), normal(3))
    ),
    "conv kernel, stride and padding": Case(
        Conv2dKernel, conv(((2, 1), (1, 2))), (normal(2, 1, 5, 4), normal(9, 1, 3, 3), normal(9))
    ),
    "linear block": Case(
        LinearBlock,
        norm_block("sigmoid", 1e-5),
        (normal(6, 4), normal(3, 4), np.array([0.7, -1.2, 0.4]), normal(3)),
    ),
    "linear block, no norm": Case(LinearBlock, block("tanh"), (normal(6, 4), normal(3, 4), normal(3))),
}


def all_functions() -> set[type[Function]]:
    """Every Function that a module of minigrad.nn.functional defines."""
    found = set()
    for info in pkgutil.iter_modules(F.__path__):
        module = importlib.import_module(f"minigrad.nn.functional.{info.name}")
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Function)
                and value.__module__ == module.__name__
            ):
                found.add(value)
    return found


# 2. What users call --------------------------------------------------------------------------------------

IMAGES, WEIGHT, BIAS = normal(3, 2, 6, 5), normal(4, 2, 3, 2), normal(4)
SCORES, FEATURES = normal(4, 3), normal(4, 3)
GAMMA, BETA = normal(3), normal(3)
TIES = RNG.integers(0, 2, (2, 2, 5, 5)).astype(np.float64)


def batch_norm(x: mg.Tensor, gamma: mg.Tensor, beta: mg.Tensor, training: bool) -> Any:
    mean, var = beside(x, MEAN), beside(x, VAR)
    y = F.batch_norm(x, mean, var, gamma, beta, training=training)
    return y, mean, var


# name: ((function of tensors, float64 inputs), ...)
PUBLIC: dict[str, tuple[tuple[Any, tuple[np.ndarray, ...]], ...]] = {
    "adaptive_avg_pool2d": ((lambda x: F.adaptive_avg_pool2d(x, (4, 2)), (IMAGES,)),),
    "avg_pool2d": (
        (lambda x: F.avg_pool2d(x, 2), (IMAGES,)),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), (IMAGES,)),
    ),
    "batch_norm": (
        (lambda x, g, b: batch_norm(x, g, b, True), (FEATURES, GAMMA, BETA)),
        (lambda x, g, b: batch_norm(x, g, b, False), (FEATURES, GAMMA, BETA)),
    ),
    "batch_norm_eval": ((lambda x: F.batch_norm_eval(x, beside(x, MEAN), beside(x, VAR)), (FEATURES,)),),
    "batch_norm_train": ((F.batch_norm_train, (FEATURES, GAMMA, BETA)),),
    "binary_cross_entropy_with_logits": ((F.binary_cross_entropy_with_logits, (SCORES, positive(4, 3) / 2)),),
    "conv2d": (
        (lambda x, w, b: F.conv2d(x, w, b, stride=(2, 1), padding=1), (IMAGES, WEIGHT, BIAS)),
        (lambda x, w, b: F.conv2d(x, w, b, padding="same", dilation=2), (IMAGES, WEIGHT, BIAS)),
        (lambda x, w: F.conv2d(x, w, groups=2), (IMAGES, WEIGHT[:, :1])),
    ),
    "cross_entropy": (
        (lambda x: F.cross_entropy(x, beside(x, LABELS), label_smoothing=0.1), (SCORES,)),
        (lambda x, w: F.cross_entropy(x, beside(x, LABELS), w.detach(), ignore_index=0), (SCORES, VAR)),
        (lambda x, t: F.cross_entropy(x, t), (SCORES, positive(4, 3))),
    ),
    "dropout": ((lambda x: F.dropout(x, 0.4), (FEATURES,)),),
    "gelu": ((F.gelu, (IMAGES,)), (lambda x: F.gelu(x, approximate="tanh"), (IMAGES,))),
    "group_norm": ((lambda x, g, b: F.group_norm(x, 2, g, b), (normal(2, 4, 3, 2), normal(4), normal(4))),),
    "l1_loss": ((F.l1_loss, (FEATURES, SCORES)),),
    "layer_norm": ((lambda x, g, b: F.layer_norm(x, 3, g, b), (FEATURES, GAMMA, BETA)),),
    "leaky_relu": ((F.leaky_relu, (IMAGES,)),),
    "linear": ((F.linear, (FEATURES, normal(2, 3), normal(2))), (F.linear, (normal(2, 4, 3), normal(2, 3)))),
    "log_softmax": ((F.log_softmax, (SCORES,)),),
    "logsumexp": ((lambda x: F.logsumexp(x, 0), (SCORES,)),),
    "max_pool2d": (
        (lambda x: F.max_pool2d(x, 2), (TIES,)),
        (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True), (TIES,)),
    ),
    "mse_loss": ((F.mse_loss, (FEATURES, SCORES)),),
    "nll_loss": ((lambda x: F.nll_loss(x, beside(x, LABELS), reduction="sum"), (SCORES,)),),
    "one_hot": ((lambda x: F.one_hot(beside(x, LABELS), 5) * x.sum(), (FEATURES,)),),
    "pad2d": ((lambda x: F.pad2d(x, (1, 2), (0, 1)), (IMAGES,)),),
    "relu": ((F.relu, (IMAGES,)),),
    "sigmoid": ((F.sigmoid, (IMAGES,)),),
    "smooth_l1_loss": ((F.smooth_l1_loss, (FEATURES, SCORES)),),
    "softmax": ((F.softmax, (SCORES,)),),
    "softplus": ((F.softplus, (IMAGES,)), (lambda x: F.softplus(x, beta=2.0), (IMAGES,))),
    "tanh": ((F.tanh, (IMAGES,)),),
}
