"""The dropout layer; the formula is in `nn/functional/dropout.py`."""

from __future__ import annotations

import minigrad.nn.functional as F
from minigrad.errors import ArgumentError
from minigrad.nn.module import Module
from minigrad.tensor import Tensor

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, zero each element with probability p and scale the others by 1 / (1 - p).

    `inplace` is accepted and ignored: nothing is ever overwritten.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p must be between 0 and 1, got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
