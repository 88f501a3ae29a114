"""The convolution layer; the formula is in `nn/functional/conv.py`."""

from __future__ import annotations

import math
from typing import Any

import minigrad.nn.functional as F
from minigrad.creation import zeros
from minigrad.errors import ArgumentError
from minigrad.nn import init
from minigrad.nn.functional.checks import check_positive
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.shapes import as_int, pair
from minigrad.tensor import Tensor

__all__ = ["Conv2d"]

Pair = tuple[int, int]


class Conv2d(Module):
    """Convolution of pictures (N, C, H, W) with kernels (O, C/groups, K, L), plus a bias (O,).

    Both start uniform in +-1/sqrt(C/groups * K * L), as in PyTorch.

    >>> import minigrad as mg
    >>> Conv2d(1, 6, kernel_size=5)(mg.ones(8, 1, 28, 28)).shape
    (8, 6, 24, 24)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.in_channels = as_int(in_channels, "Conv2d: in_channels")
        self.out_channels = as_int(out_channels, "Conv2d: out_channels")
        self.kernel_size = pair(kernel_size, "Conv2d: kernel_size")
        self.stride = pair(stride, "Conv2d: stride")
        self.padding = padding if isinstance(padding, str) else pair(padding, "Conv2d: padding")
        self.dilation = pair(dilation, "Conv2d: dilation")
        self.groups = as_int(groups, "Conv2d: groups")
        check_positive(
            "Conv2d",
            in_channels=(self.in_channels,),
            out_channels=(self.out_channels,),
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=(self.groups,),
        )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"Conv2d: {in_channels} input and {out_channels} output channels "
                f"cannot be split into {groups} groups"
            )
        if padding not in ("valid", "same") if isinstance(self.padding, str) else min(self.padding) < 0:
            raise ArgumentError(f"Conv2d: padding must be at least 0, 'valid' or 'same', got {padding!r}")
        if padding == "same" and self.stride != (1, 1):
            raise ArgumentError(f"Conv2d: padding='same' needs stride 1, got {self.stride}")
        if padding_mode != "zeros":
            raise ArgumentError(f"Conv2d: padding_mode must be 'zeros', got {padding_mode!r}")
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(zeros(shape, device=device, dtype=dtype))
        self.bias = Parameter(zeros(self.out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.numel() / self.out_channels)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)
