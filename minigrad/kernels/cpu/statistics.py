"""Means and variances of rows, in pieces that can be merged.

One pass over the data gives sum x and sum x^2, and the squared distances are sum x^2 - m mean^2. That
difference loses digits where the mean is far from 0 against the spread, so there a second pass follows,
over the distances themselves. Pieces are merged by

    n = n1 + n2,  d = mean2 - mean1,  mean = mean1 + d n2/n,  S = S1 + S2 + d^2 n1 n2/n

(Chan, Golub and LeVeque 1979), in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Moments", "merge", "row_moments"]

FAR = 16.0  # mean^2 against variance from which on the second pass is made: one pass loses log2(16) bits


@dataclass
class Moments:
    """Count, means and sums of squared distances of each row."""

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @property
    def var(self) -> np.ndarray:
        """Divided by the count."""
        return self.squares / self.count

    @property
    def far_from_zero(self) -> bool:
        """Whether some row's mean is large against its spread."""
        return bool((self.mean**2 > FAR * self.var).any())


def row_moments(z: np.ndarray) -> Moments:
    """z (taps, O, m) -> moments of the O channels, over taps and m."""
    taps, _, m = z.shape
    count = taps * m
    mean = z.sum(axis=2).sum(axis=0, dtype=np.float64) / count
    squares = np.einsum("tom,tom->to", z, z).sum(axis=0, dtype=np.float64) - count * mean**2
    moments = Moments(count, mean, np.maximum(squares, 0))
    if moments.far_from_zero:
        centred = z - mean.astype(z.dtype)[:, None]
        offset = centred.sum(axis=2).sum(axis=0, dtype=np.float64) / count  # what rounding the mean left over
        squares = np.einsum("tom,tom->to", centred, centred).sum(axis=0, dtype=np.float64) - count * offset**2
        moments = Moments(count, mean + offset, np.maximum(squares, 0))
    return moments


def merge(pieces: list[Moments]) -> Moments:
    """The moments of all pieces together, merged in their order."""
    total = Moments(0, np.zeros_like(pieces[0].mean), np.zeros_like(pieces[0].squares))
    for piece in pieces:
        count = total.count + piece.count
        distance = piece.mean - total.mean
        mean = total.mean + distance * (piece.count / count)
        squares = total.squares + piece.squares + distance**2 * (total.count * piece.count / count)
        total = Moments(count, mean, squares)
    return total
