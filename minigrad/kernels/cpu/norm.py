"""Batch norm with fixed statistics, as a part of the layer before it."""

from __future__ import annotations

import numpy as np

__all__ = ["fold"]


def fold(
    weight: np.ndarray,
    bias: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the layer that does the work of a layer and of the batch norm after it.

        gamma (W x + b - mean) / sqrt(var + eps) + beta = (scale W) x + (scale (b - mean) + beta)
        scale = gamma / sqrt(var + eps)

    weight (O, ...), all others (O,); bias, gamma and beta may be None.
    """
    scale = 1 / np.sqrt(var + eps)
    if gamma is not None:
        scale *= gamma
    shift = (-mean if bias is None else bias - mean) * scale
    if beta is not None:
        shift += beta
    return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)), shift
