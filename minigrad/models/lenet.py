"""LeNet for pictures of 28 x 28 pixels: with batch norm, with batch norm from scratch, and without.

    1 x 28 x 28 -> 6 x 24 x 24 -> 6 x 12 x 12 -> 16 x 8 x 8 -> 16 x 4 x 4 = 256 -> 120 -> 84 -> 10

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
with sigmoids and a plain last layer; with batch norm before each activation, as S. Ioffe and C. Szegedy,
"Batch Normalization", ICML 2015, propose. Where the tutorial's editions differ, there are options:

    pool       "max" or "avg"
    eps        added to the variance before the square root is taken
    momentum   weight of the new batch in the moving averages, as in PyTorch
"""

from __future__ import annotations

from minigrad import nn
from minigrad.errors import ArgumentError

__all__ = ["lenet", "lenet_bn", "lenet_bn_scratch"]


def _pooling(pool: str) -> nn.Module:
    if pool == "max":
        return nn.MaxPool2d(2, 2)
    if pool == "avg":
        return nn.AvgPool2d(2, 2)
    raise ArgumentError(f"lenet: pool must be 'max' or 'avg', got {pool!r}")


def lenet_bn(pool: str = "max", eps: float = 1e-5, momentum: float = 0.1) -> nn.Sequential:
    """LeNet with the framework's batch norm.

    >>> import minigrad as mg
    >>> lenet_bn()(mg.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6, eps, momentum), nn.Sigmoid(), _pooling(pool),
        nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16, eps, momentum), nn.Sigmoid(), _pooling(pool),
        nn.Flatten(),
        nn.Linear(256, 120), nn.BatchNorm1d(120, eps, momentum), nn.Sigmoid(),
        nn.Linear(120, 84), nn.BatchNorm1d(84, eps, momentum), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip


def lenet_bn_scratch(pool: str = "max", eps: float = 1e-5, momentum: float = 0.1) -> nn.Sequential:
    """LeNet with the batch norm from scratch, whose own momentum weighs the old value: 1 - momentum.

    >>> lenet_bn_scratch()[1].gamma.shape
    (1, 6, 1, 1)
    """
    old = 1 - momentum
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.BatchNorm(6, 4, eps, old), nn.Sigmoid(), _pooling(pool),
        nn.Conv2d(6, 16, 5), nn.BatchNorm(16, 4, eps, old), nn.Sigmoid(), _pooling(pool),
        nn.Flatten(),
        nn.Linear(256, 120), nn.BatchNorm(120, 2, eps, old), nn.Sigmoid(),
        nn.Linear(120, 84), nn.BatchNorm(84, 2, eps, old), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip


def lenet(pool: str = "max") -> nn.Sequential:
    """LeNet without batch norm.

    >>> import minigrad as mg
    >>> lenet()(mg.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Sigmoid(), _pooling(pool),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), _pooling(pool),
        nn.Flatten(),
        nn.Linear(256, 120), nn.Sigmoid(),
        nn.Linear(120, 84), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip
