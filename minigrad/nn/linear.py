"""The fully connected layer, and Flatten, which leads to it; the formula is in `nn/functional/linear.py`."""

from __future__ import annotations

import math
from typing import Any

import minigrad.nn.functional as F
from minigrad.creation import zeros
from minigrad.errors import ArgumentError
from minigrad.nn import init
from minigrad.nn.functional.checks import check_tensor
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.shapes import as_int
from minigrad.tensor import Tensor

__all__ = ["Flatten", "Linear"]


class Linear(Module):
    """y = x W' + b, with weight W (out_features, in_features) and bias b (out_features,).

    Both start uniform in +-1/sqrt(in_features), as in PyTorch.

    >>> import minigrad as mg
    >>> Linear(3, 2)(mg.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.in_features = as_int(in_features, "Linear: in_features")
        self.out_features = as_int(out_features, "Linear: out_features")
        if self.in_features < 1 or self.out_features < 1:
            raise ArgumentError(f"Linear: features must be at least 1, got {in_features} and {out_features}")
        self.weight = Parameter(zeros(self.out_features, self.in_features, device=device, dtype=dtype))
        self.bias = Parameter(zeros(self.out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.in_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Flatten(Module):
    """(N, C, H, W) -> (N, C*H*W): merges the dimensions from start_dim to end_dim."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        check_tensor("Flatten", "x", x)
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
