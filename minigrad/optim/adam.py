"""Adam and AdamW: a step size for each number, from the mean and the mean square of its gradients.

    m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2          in step t = 1, 2, ...
    p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

The divisors 1 - beta^t make up for m and v having started at 0.

- Adam: D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1. Weight decay
  is added to the gradient: g = dL/dp + weight_decay p.
- AdamW: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, Algorithm 2. The
  decay is a step of its own: p = p - lr weight_decay p.
- amsgrad: S. Reddi, S. Kale, S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018. Divides by the
  largest v so far. As in PyTorch the maximum is taken before the division by 1 - beta2^t.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minigrad import backend
from minigrad.errors import ArgumentError
from minigrad.optim.optimizer import Group, Optimizer, check_at_least

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam.

    Args:
        params: tensors or groups, see `Optimizer`.
        lr: learning rate; in the first step each number moves by about this much.
        betas: how slowly the mean and the mean square of the gradients change.
        eps: keeps the division away from 0.
        weight_decay: adds weight_decay * p to the gradient (L2 regularisation).
        amsgrad: divide by the largest mean square so far.
        maximize: go uphill.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = mg.optim.Adam([w], lr=0.1)
    >>> (w * mg.tensor([100.0, -0.01])).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9, 2.1], requires_grad=True)
    """

    decoupled_weight_decay = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def _check_options(self, group: Group) -> None:
        name = type(self).__name__
        check_at_least(name, group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"{name}: betas must be two numbers, got {betas!r}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError(f"{name}: betas must be at least 0 and below 1, got {betas}")

    def _update(self, group: Group) -> None:
        lr, eps, decay = float(group["lr"]), float(group["eps"]), float(group["weight_decay"])
        beta1, beta2 = (float(beta) for beta in group["betas"])
        for p, array, g in self._with_gradients(group):
            xp = backend.namespace(array)
            m = self._remembered(p, "exp_avg")
            v = self._remembered(p, "exp_avg_sq")
            step = self.state[p]["step"] = self.state[p].get("step", 0) + 1
            if decay != 0 and self.decoupled_weight_decay:
                array *= 1 - lr * decay
            elif decay != 0:
                g = g + decay * array
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            if group["amsgrad"]:
                largest = self._remembered(p, "max_exp_avg_sq")
                xp.maximum(largest, v, out=largest)
                v = largest
            scale = math.sqrt(1 - beta2**step)
            array -= lr / (1 - beta1**step) * m / (xp.sqrt(v) / scale + eps)


class AdamW(Adam):
    """Adam with weight decay as a step of its own: p = p - lr weight_decay p, not scaled by the gradients.

    Arguments as for `Adam`; the default weight_decay is 0.01.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> w.grad = mg.tensor([0.0])
    >>> mg.optim.AdamW([w], lr=0.1, weight_decay=0.5).step()
    >>> w
    tensor([0.95], requires_grad=True)
    """

    decoupled_weight_decay = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
