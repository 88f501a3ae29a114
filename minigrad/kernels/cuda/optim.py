"""SGD and Adam over one flat array of parameters; the formulas are in sources/optim.cu.

`hyper` is a float64 array on the device, made by `sgd_hyper` or `adam_hyper` on the host; `steps` (1,) int64 counts
the steps made so far. A captured graph reads both anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.kernels.cuda.module import BLOCK, Array, blocks, ceil_div, launch

__all__ = ["adam", "adam_hyper", "pack", "sgd", "sgd_hyper"]

MOST = 1024  # blocks of an elementwise kernel


def sgd_hyper(
    lr: float,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    maximize: bool = False,
) -> np.ndarray:
    """The options of `optim.SGD` as the kernel takes them, on the host."""
    return np.array([lr, momentum, dampening, weight_decay, maximize, nesterov], np.float64)


def adam_hyper(
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    maximize: bool = False,
    decoupled: bool = False,
) -> np.ndarray:
    """The options of `optim.Adam`, or with `decoupled` of `optim.AdamW`, as the kernel takes them, on the host."""
    return np.array([lr, *betas, eps, weight_decay, maximize, decoupled], np.float64)


def sgd(p: Array, gradient: Array, velocity: Array | None, hyper: Array, steps: Array) -> None:
    """One step, in place. `velocity` may be None as long as there is no momentum."""
    n = p.size
    launch("sgd", (blocks(n, most=MOST),), (BLOCK,), [p, gradient, velocity, hyper, steps, n])


def adam(
    p: Array, gradient: Array, m: Array, v: Array, hyper: Array, steps: Array, largest: Array | None = None
) -> None:
    """One step, in place; `largest` is given for amsgrad."""
    n = p.size
    launch("adam", (blocks(n, most=MOST),), (BLOCK,), [p, gradient, m, v, largest, hyper, steps, n])


def pack(addresses: Array, starts: Array, flat: Array, lengths: Sequence[int]) -> None:
    """Copy arrays into one: the array at addresses[k] goes to flat[starts[k] : starts[k + 1]].

    addresses (arrays,) and starts (arrays + 1,) are int64 on the device; the arrays have the dtype of `flat`
    and the given lengths, which the host knows.
    """
    grid = (max(1, min(64, ceil_div(max(lengths), BLOCK))), len(lengths))
    launch("pack", grid, (BLOCK,), [addresses, starts, flat])
