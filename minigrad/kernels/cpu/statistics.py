"""Means and variances of rows, in pieces that can be merged.

One pass over the data gives sum x and sum x^2, and the squared distances are sum x^2 - m mean^2. That
difference loses digits where the mean is far from 0 against the spread, so there the mean is subtracted, and
a second pass follows. Pieces are merged by

    n = n1 + n2,  d = mean2 - mean1,  mean = mean1 + d n2/n,  S = S1 + S2 + d^2 n1 n2/n

(Chan, Golub and LeVeque 1979), in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Moments", "merge", "row_moments", "row_products", "row_sums"]

BLOCK = 2048  # products added up in the precision of the data
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


def row_moments(z: np.ndarray) -> tuple[Moments, np.ndarray | None]:
    """z (pieces, O, m) -> moments of the O channels, over pieces and m, and what z has lost.

    Where a mean is far from 0, the means, in z's precision, are subtracted from z itself. They are the second
    result, (O,), which else is None. The moments are always those of z as it came.
    """
    moments = _in_one_pass(z)
    if not moments.far_from_zero:
        return moments, None
    lost = moments.mean.astype(z.dtype)
    z -= lost[:, None]
    rest = _in_one_pass(z)
    return Moments(rest.count, lost + rest.mean, rest.squares), lost


def _in_one_pass(z: np.ndarray) -> Moments:
    count = z.shape[0] * z.shape[2]
    mean = row_sums(z) / count
    return Moments(count, mean, np.maximum(row_products(z, z) - count * mean**2, 0))


def row_sums(a: np.ndarray) -> np.ndarray:
    """a (pieces, O, m) -> sums (O,) over pieces and m, in float64."""
    return row_products(a, np.ones(a.shape[2], a.dtype))


def row_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums of a * b over pieces and m: (pieces, O, m) twice -> (O,).

    Blocks of `BLOCK` products are added in the precision of the data, their sums in float64.
    """
    if a.shape[2] > BLOCK:
        parts = [(..., slice(start, start + BLOCK)) for start in range(0, a.shape[2], BLOCK)]
        return np.sum([row_products(a[part], b[part]) for part in parts], axis=0)
    return np.add.reduce(np.vecdot(a, b), axis=0, dtype=np.float64)


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
