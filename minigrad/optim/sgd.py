"""Stochastic gradient descent, plain and with momentum.

    g = dL/dp + weight_decay p
    v = momentum v + (1 - dampening) g            v = g in the first step
    d = g + momentum v if nesterov, else v         d = g without momentum
    p = p - lr d

Momentum: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964. Nesterov's
variant in this form: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum
in deep learning", ICML 2013. As in PyTorch the learning rate multiplies v, not g.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad.errors import ArgumentError
from minigrad.optim.optimizer import Group, Optimizer, check_at_least

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent.

    Args:
        params: tensors or groups, see `Optimizer`.
        lr: learning rate.
        momentum: how much of the last step's direction is kept, 0 to 1.
        dampening: takes this part of the gradient away from the momentum.
        weight_decay: adds weight_decay * p to the gradient (L2 regularisation).
        nesterov: look ahead along the momentum; needs momentum and no dampening.
        maximize: go uphill.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = mg.optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8, 1.6], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def _check_options(self, group: Group) -> None:
        check_at_least("SGD", group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ArgumentError("SGD: nesterov needs a momentum above 0 and a dampening of 0")

    def _update(self, group: Group) -> None:
        lr, momentum, decay = float(group["lr"]), float(group["momentum"]), float(group["weight_decay"])
        for p, array, g in self._with_gradients(group):
            if decay != 0:
                g = g + decay * array
            if momentum != 0:
                first = "momentum_buffer" not in self.state.get(p, {})
                v = self._remembered(p, "momentum_buffer")
                if first:
                    v[...] = g
                else:
                    v *= momentum
                    v += (1 - group["dampening"]) * g
                g = g + momentum * v if group["nesterov"] else v
            array -= lr * g
