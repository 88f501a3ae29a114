"""A multilayer perceptron for pictures of 28 x 28 pixels, with and without batch norm.

    (N, 1, 28, 28) -> 784 -> 256 -> 10

One hidden layer of 256 ReLUs, the tutorial's network before convolutions. `eps` is added to the variance,
`momentum` is the weight of the new batch in the moving averages, as in PyTorch.
"""

from __future__ import annotations

from minigrad import nn

__all__ = ["mlp", "mlp_bn"]


def mlp() -> nn.Sequential:
    """The multilayer perceptron.

    >>> import minigrad as mg
    >>> mlp()(mg.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def mlp_bn(eps: float = 1e-5, momentum: float = 0.1) -> nn.Sequential:
    """The multilayer perceptron with batch norm.

    >>> import minigrad as mg
    >>> mlp_bn()(mg.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 256), nn.BatchNorm1d(256, eps, momentum), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip
