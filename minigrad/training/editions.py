"""The published variants of the recipe, by name.

The book "Dive into Deep Learning" has printed its batch-normalised LeNet in several versions. They differ in
pooling, learning rate, batch size and epochs, so "does it match the book?" needs the edition. `--edition`
chooses one; 0.16, the last one with max pooling in English, is the default.

The momentum of batch norm is written in two ways there. With the old value's weight m = 0.9, as up to 0.17:

    moving = m * moving + (1 - m) * batch

and with the new batch's weight m = 0.1, as in 1.0 and in PyTorch:

    moving = (1 - m) * moving + m * batch

Both are the same averaging, so the numbers below, in PyTorch's convention, are 0.1 in every edition.
"""

from __future__ import annotations

from dataclasses import dataclass

from minigrad.errors import ArgumentError

__all__ = ["DEFAULT_EDITION", "EDITIONS", "Edition", "edition"]


@dataclass(frozen=True)
class Edition:
    """One published variant of the recipe.

    Attributes:
        name: as `--edition` takes it.
        book: where it was printed.
        pool: "max" or "avg", 2x2 pooling of the LeNets.
        lr: learning rate of the networks with batch norm.
        plain_lr: learning rate of the LeNet without it.
        batch_size, epochs: of the training.
        bn_momentum: weight of the new batch in the moving averages.
        bn_momentum_as_printed: the same in the book's own words.
        bn_eps: added to the variance.
    """

    name: str
    book: str
    pool: str
    lr: float
    plain_lr: float
    batch_size: int
    epochs: int
    bn_momentum: float = 0.1
    bn_momentum_as_printed: str = "0.9 weighs the old value"
    bn_eps: float = 1e-5

    def learning_rate(self, model: str, otherwise: float) -> float:
        """The rate for a model by name: the chapters' LeNets have the edition's, other models their own."""
        rates = {"lenet_bn": self.lr, "lenet_bn_scratch": self.lr, "lenet": self.plain_lr}
        return rates.get(model, otherwise)

    def describe(self) -> str:
        """The recipe in one line.

        >>> edition("0.16").describe()
        'max pooling, learning rate 1, batch 256, 10 epochs (English edition 0.7 to 0.16)'
        """
        pooling = {"max": "max", "avg": "average"}[self.pool]
        return (
            f"{pooling} pooling, learning rate {self.lr:g}, batch {self.batch_size}, {self.epochs} epochs "
            f"({self.book})"
        )


EDITIONS = {
    variant.name: variant
    for variant in (
        Edition("zh1", "Chinese edition 1", "max", lr=1.0, plain_lr=0.9, batch_size=256, epochs=5),
        Edition(
            "0.16", "English edition 0.7 to 0.16", "max", lr=1.0, plain_lr=0.9, batch_size=256, epochs=10
        ),
        Edition("0.17", "English edition 0.17", "avg", lr=1.0, plain_lr=0.9, batch_size=256, epochs=10),
        Edition(
            "1.0",
            "English edition 1.0",
            "avg",
            lr=0.1,
            plain_lr=0.1,
            batch_size=128,
            epochs=10,
            bn_momentum_as_printed="0.1 weighs the new batch",
        ),
    )
}
DEFAULT_EDITION = "0.16"


def edition(name: str) -> Edition:
    """The edition with this name.

    Raises:
        ArgumentError: there is none.

    >>> edition("1.0").pool
    'avg'
    """
    if name not in EDITIONS:
        raise ArgumentError(f"unknown edition {name!r}: use {', '.join(EDITIONS)}")
    return EDITIONS[name]
