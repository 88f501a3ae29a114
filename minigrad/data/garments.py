"""Pictures of ten kinds of garment, drawn by code: a data set for machines without a network.

Classes and their order are those of Fashion-MNIST, and so are format (28x28 bytes on an exactly black
background), number (60,000 and 10,000) and balance (as many of each class). The pictures are others: a figure
reached on them says nothing about Fashion-MNIST, and every result names its data set.

They are made to be neither trivial nor hopeless. After ten epochs of its recipe the batch-normalised LeNet
has a training accuracy of about 0.92, and a test accuracy that jumps as it does on Fashion-MNIST; a linear
model stays at about 0.76.

Reading order: `garments` here, then `canvas.py` (how a shape is drawn) and `silhouettes.py` (which shapes).
"""

from __future__ import annotations

import operator

import numpy as np

from minigrad.data.canvas import SIZE, Canvas
from minigrad.data.silhouettes import SILHOUETTES
from minigrad.errors import ArgumentError

__all__ = ["TEST_SIZE", "TRAIN_SIZE", "garments"]

TRAIN_SIZE, TEST_SIZE = 60_000, 10_000
BLOCK = 1000  # pictures drawn at a time: small enough for the processor's cache
LYING = (5, 7, 9)  # sandal, sneaker and ankle boot are drawn lying on the side
UPRIGHT_UNITS, LYING_UNITS = (11.5, 12.5), (9.5, 12.5)  # pixels in one unit of u and of v


def garments(train: bool = True, size: int | None = None, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) and labels (n,), both uint8.

    The same seed gives the same bytes, and a smaller `size` the beginning of the larger set. Each block of a
    thousand has a hundred of each class, in random order. Training and test pictures have nothing in common.

    Args:
        train: the training part, else the test part.
        size: number of pictures; default: 60,000 for training, 10,000 for test.
        seed: a number that is not negative.

    Raises:
        ArgumentError: `size` is not a positive integer, or `seed` is negative or not an integer.

    >>> images, labels = garments(train=True, size=5)
    >>> images.shape, images.dtype, labels.shape
    ((5, 28, 28), dtype('uint8'), (5,))
    """
    size = _integer("size", (TRAIN_SIZE if train else TEST_SIZE) if size is None else size, least=1)
    seed = _integer("seed", seed, least=0)
    images = np.empty((size, SIZE, SIZE), dtype=np.uint8)
    labels = np.empty(size, dtype=np.uint8)
    for number, start in enumerate(range(0, size, BLOCK)):
        stop = min(start + BLOCK, size)
        # Each block has its own generator, so that what is in it depends on nothing before it.
        block, block_labels = _block(np.random.default_rng([seed, int(train), number]))
        images[start:stop], labels[start:stop] = block[: stop - start], block_labels[: stop - start]
    return images, labels


def _integer(name: str, value: object, least: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(f"garments: {name} must be an integer, got {value!r}") from None
    if number < least:
        raise ArgumentError(f"garments: {name} must be at least {least}, got {number}")
    return number


def _block(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """BLOCK pictures, as many of each class, and their labels."""
    classes = len(SILHOUETTES)
    images = np.concatenate([_draw(rng, label, BLOCK // classes) for label in range(classes)])
    labels = np.repeat(np.arange(classes, dtype=np.uint8), BLOCK // classes)
    order = rng.permutation(BLOCK)
    return images[order], labels[order]


def _draw(rng: np.random.Generator, label: int, n: int) -> np.ndarray:
    """`n` pictures of one class, uint8."""
    lying = label in LYING
    canvas = Canvas(rng, n, *(LYING_UNITS if lying else UPRIGHT_UNITS))
    SILHOUETTES[label](canvas)
    picture = np.clip(canvas.cover * canvas.light * _cloth(canvas), 0, 1)
    picture[canvas.cover < 0.1] = 0  # a black background, not a nearly black one
    pixels = np.rint(picture * 255).astype(np.uint8)
    return pixels.transpose(0, 2, 1) if lying else pixels


def _cloth(c: Canvas) -> np.ndarray:
    """Brightness of the cloth over the whole picture: folds, roundness, stripes or checks, grain."""
    turn = float(2 * np.pi)
    folds = np.sin(c.u * c.between(-9, 9) + c.v * c.between(-5, 5) + c.between(0, turn))
    cloth = c.between(0.25, 0.95) * (1 + c.between(0.0, 0.18) * folds)
    cloth *= 1 - c.between(0.0, 0.35) * np.square(c.u)
    dark = c.between(0.1, 0.5)
    across = np.sin(c.v * c.between(8, 26) + c.between(0, turn)) > 0
    along = np.sin(c.u * c.between(8, 22) + c.between(0, turn)) > 0
    cloth *= 1 - dark * c.chance(0.22) * across
    cloth *= 1 - dark * c.chance(0.16) * along
    cloth += c.between(0.02, 0.14) * (c.rng.random(c.u.shape, dtype=np.float32) - np.float32(0.5))
    return cloth
