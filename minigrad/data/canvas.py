"""A canvas on which many pictures of one garment are drawn at once, from spans.

A garment is described row by row: in each row it covers one *span* of columns, or a pair of mirrored ones.
The ends of the span follow a *profile*, a line with corners whose positions are random numbers, one per
picture. A row has one coordinate v for all its pixels, so a profile costs 28 numbers a picture, not 784.

Coordinates: v goes down from -1 (top of the garment) to 1 (bottom), u from -1 (left) to 1 (right) with 0 on
the garment's axis. Position, size and slant of each picture are random; the coordinates take them up, so that
the drawing code in `silhouettes.py` never sees them. Arrays are float32. One number per picture has shape
(n, 1, 1), a profile (n, 28, 1), a picture (n, 28, 28).

Next: `silhouettes.py`, the ten garments.
"""

from __future__ import annotations

import numpy as np

__all__ = ["SIZE", "Canvas", "Numbers"]

SIZE = 28  # pixels on a side, as in MNIST
Numbers = np.ndarray | float


class Canvas:
    """`n` empty pictures with random position, size and slant.

    Attributes:
        u, v: the coordinates, (n, 28, 28) and (n, 28, 1).
        cover: how much of each pixel the garment covers, 0 to 1.
        light: how bright the cloth is there, 1 being the garment's own brightness.
    """

    def __init__(self, rng: np.random.Generator, n: int, width: float, height: float) -> None:
        """`width`, `height`: pixels in one unit of u and of v, before the random change of size."""
        self.rng = rng
        self.n = n
        pixels = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
        grow = self.between(0.78, 1.06)
        self.pixels_per_u = width * grow * self.between(0.86, 1.12)
        self.pixels_per_v = height * grow * self.between(0.88, 1.08)
        rows = pixels[:, None] - self.between(-2.0, 2.0)
        slant = self.between(-0.12, 0.12)
        self.v = rows / self.pixels_per_v
        self.u = (pixels - self.between(-2.5, 2.5) - slant * rows) / self.pixels_per_u
        self.side = np.abs(self.u)
        self.cover = np.zeros((n, SIZE, SIZE), dtype=np.float32)
        self.light = np.zeros((n, SIZE, SIZE), dtype=np.float32)

    # 1. Random numbers, one per picture ---

    def between(self, low: Numbers, high: Numbers) -> np.ndarray:
        """Uniform numbers from `low` to `high`, shape (n, 1, 1)."""
        return (low + (high - low) * self.rng.random((self.n, 1, 1), dtype=np.float32)).astype(np.float32)

    def chance(self, probability: float) -> np.ndarray:
        """1 with the given probability, else 0, shape (n, 1, 1)."""
        return (self.rng.random((self.n, 1, 1), dtype=np.float32) < probability).astype(np.float32)

    # 2. Shapes ---

    def profile(self, *corners: tuple[Numbers, Numbers]) -> np.ndarray:
        """The line through the corners (v, value), level before the first and after the last."""
        (at, value), *rest = corners
        line = np.zeros_like(self.v) + value
        for next_at, next_value in rest:
            line += (next_value - value) * np.clip((self.v - at) / (next_at - at), 0, 1)
            at, value = next_at, next_value
        return line

    def pair(self, inner: Numbers, outer: Numbers, top: Numbers, bottom: Numbers) -> np.ndarray:
        """Cover of two mirrored spans, `inner` <= |u| <= `outer`, in the rows `top` <= v <= `bottom`."""
        return self._soft(np.minimum(self.side - inner, outer - self.side), top, bottom)

    def middle(self, outer: Numbers, top: Numbers, bottom: Numbers) -> np.ndarray:
        """Cover of the span |u| <= `outer` in the rows `top` <= v <= `bottom`."""
        return self._soft(outer - self.side, top, bottom)

    def span(self, left: Numbers, right: Numbers, top: Numbers, bottom: Numbers) -> np.ndarray:
        """Cover of the span `left` <= u <= `right` in the rows `top` <= v <= `bottom`."""
        return self._soft(np.minimum(self.u - left, right - self.u), top, bottom)

    def _soft(self, inside: np.ndarray, top: Numbers, bottom: Numbers) -> np.ndarray:
        """Distance to the edge in pixels, cut to 0..1: an edge through a pixel covers part of it."""
        across = np.clip(inside * self.pixels_per_u + np.float32(0.5), 0, 1)
        down = np.clip(np.minimum(self.v - top, bottom - self.v) * self.pixels_per_v + np.float32(0.5), 0, 1)
        return across * down

    # 3. Drawing ---

    def add(self, shape: np.ndarray, light: Numbers = 1.0) -> None:
        """Cloth in the form of `shape`, over what is there."""
        np.maximum(self.cover, shape, out=self.cover)
        self.paint(shape, light)

    def paint(self, shape: np.ndarray, light: Numbers) -> None:
        """Another brightness where `shape` is; the outline stays."""
        self.light += (light - self.light) * shape

    def cut(self, shape: np.ndarray) -> None:
        """A hole in the form of `shape`."""
        self.cover *= 1 - shape
