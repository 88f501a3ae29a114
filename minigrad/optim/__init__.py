"""Optimizers: what turns gradients into better parameters.

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

`optimizer.py` holds what all of them share (groups of parameters, saving and loading), `sgd.py` and
`adam.py` one formula each, `lr_scheduler.py` the plans by which a learning rate changes.
"""

from minigrad.optim import lr_scheduler
from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
