"""The models of `minigrad.models` written again with PyTorch's layers, and pictures to train them on."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.data.garments import garments


def scratch_batch_norm(torch: Any) -> type:
    """The tutorial's batch norm from scratch: arithmetic only, differentiated by PyTorch's autograd."""

    class BatchNorm(torch.nn.Module):
        def __init__(self, num_features: int, num_dims: int):
            super().__init__()
            shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
            self.gamma = torch.nn.Parameter(torch.ones(shape))
            self.beta = torch.nn.Parameter(torch.zeros(shape))
            self.register_buffer("moving_mean", torch.zeros(shape))
            self.register_buffer("moving_var", torch.ones(shape))

        def forward(self, x: Any) -> Any:
            if not self.training:
                return self.gamma * (x - self.moving_mean) / torch.sqrt(self.moving_var + 1e-5) + self.beta
            dims = (0,) if x.ndim == 2 else (0, 2, 3)
            mean = x.mean(dim=dims, keepdim=True)
            var = ((x - mean) ** 2).mean(dim=dims, keepdim=True)
            with torch.no_grad():
                self.moving_mean.copy_(0.9 * self.moving_mean + 0.1 * mean)
                self.moving_var.copy_(0.9 * self.moving_var + 0.1 * var)
            return self.gamma * (x - mean) / torch.sqrt(var + 1e-5) + self.beta

    return BatchNorm


def build(torch: Any, name: str) -> Any:
    """The model `name`, with PyTorch's own starting weights."""
    t = torch.nn
    if name.startswith("mlp"):
        norm = [t.BatchNorm1d(256)] if name == "mlp_bn" else []
        return t.Sequential(t.Flatten(), t.Linear(784, 256), *norm, t.ReLU(), t.Linear(256, 10))
    norms: dict[str, Any] = {
        "lenet": lambda features, dims: [],
        "lenet_bn": lambda features, dims: [(t.BatchNorm2d if dims == 4 else t.BatchNorm1d)(features)],
        "lenet_bn_scratch": lambda features, dims: [scratch_batch_norm(torch)(features, dims)],
    }
    norm = norms[name]
    return t.Sequential(
        *(t.Conv2d(1, 6, 5), *norm(6, 4), t.Sigmoid(), t.MaxPool2d(2, 2)),
        *(t.Conv2d(6, 16, 5), *norm(16, 4), t.Sigmoid(), t.MaxPool2d(2, 2)),
        *(t.Flatten(), t.Linear(256, 120), *norm(120, 2), t.Sigmoid()),
        *(t.Linear(120, 84), *norm(84, 2), t.Sigmoid()),
        t.Linear(84, 10),
    )


def load_into_torch(torch: Any, theirs: Any, ours: Any) -> Any:
    """minigrad's weights by name into PyTorch's model; strict, so that every name has to be there."""
    state = {name: torch.tensor(value.numpy().copy()) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    return theirs


def pictures(count: int, dtype: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 1, 28, 28) in [0, 1] on a black background, where max pooling has ties; labels."""
    images, labels = garments(size=count, seed=seed)
    return (images[:, None] / 255).astype(dtype), labels.astype(np.int64)
