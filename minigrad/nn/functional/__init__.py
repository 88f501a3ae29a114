"""Stateless differentiable operations, a file a family: `import minigrad.nn.functional as F`.

Each file reads: the formula and its source, the formula as plain functions for both array libraries, the
`Function` with forward and backward, the function that users call.
"""

from minigrad.nn.functional.activation import (
    gelu,
    leaky_relu,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from minigrad.nn.functional.conv import conv2d, pad2d
from minigrad.nn.functional.dropout import dropout
from minigrad.nn.functional.linear import linear
from minigrad.nn.functional.loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    nll_loss,
    one_hot,
    smooth_l1_loss,
)
from minigrad.nn.functional.norm import (
    batch_norm,
    batch_norm_eval,
    batch_norm_train,
    group_norm,
    layer_norm,
)
from minigrad.nn.functional.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_eval",
    "batch_norm_train",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "gelu",
    "group_norm",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad2d",
    "relu",
    "sigmoid",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]
