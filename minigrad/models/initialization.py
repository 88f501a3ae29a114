"""The starting weights of the tutorial's recipe."""

from __future__ import annotations

from minigrad import nn

__all__ = ["init_xavier"]


def init_xavier(model: nn.Module) -> nn.Module:
    """Xavier-uniform weights in all Linear and Conv2d layers; returns the model.

    Biases keep what the layers were made with, uniform in +-1/sqrt(fan_in), as in the tutorial.

    >>> layer = init_xavier(nn.Linear(4, 2))
    >>> bool((layer.weight.abs() <= 1.0).all())  # sqrt(6 / (4 + 2))
    True
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight)
    return model
