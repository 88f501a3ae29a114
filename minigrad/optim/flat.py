"""SGD and Adam for a step that is captured: all numbers of a group in one array, and what changes on the device.

A CUDA graph repeats kernels with the numbers that they were captured with. A learning rate that is a Python
number would stay what it was then. So `FlatOptimizer` takes over the work of an ordinary optimizer:

- the parameters of a group, their gradients and what is remembered of them are each one flat array, of which the
  parameters' own arrays become views: an update is one kernel for all parameters;
- lr, momentum and the rest are in `hyper`, a float64 array on the device, which `refresh` writes anew when the
  optimizer's options have changed; the number of steps made is in an array, too.

    flat = FlatOptimizer(optimizer, steps)
    flat.step(gradients, flat.table())     # what optimizer.step() does, with gradients (parameter, array)

The ordinary optimizer stays in charge: its options, its `state` (views of the flat arrays) and its `state_dict`
are true after `finished(steps)`. Until a step was made its state is as it was, so it can go on by itself. The
formulas are those of `sgd.py` and `adam.py`; on a GPU `kernels/cuda/optim.py` does them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.kernels.cuda import module
from minigrad.kernels.cuda import optim as kernels
from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.optimizer import Group, Optimizer
from minigrad.optim.sgd import SGD
from minigrad.tensor import Tensor

__all__ = ["FlatOptimizer", "Table", "why_not_flat"]

Array = Any
NAMES = {SGD: ("momentum_buffer",), Adam: ("exp_avg", "exp_avg_sq"), AdamW: ("exp_avg", "exp_avg_sq")}


def why_not_flat(optimizer: Any) -> str | None:
    """None if `FlatOptimizer` can do this optimizer's work; otherwise the reason, in words."""
    if type(optimizer) not in NAMES:
        return f"the optimizer is {type(optimizer).__name__}, and not SGD, Adam or AdamW"
    for number, group in enumerate(optimizer.param_groups):
        dtypes = {str(p.array.dtype) for p in group["params"]}
        if len(dtypes) > 1 or dtypes - {"float32", "float64"}:
            return f"parameter group {number} has numbers of {' and '.join(sorted(dtypes))}"
    groups = [g for g in optimizer.param_groups if type(optimizer) is not SGD or g["momentum"]]
    if len({_steps_of(optimizer, p) for g in groups for p in g["params"]}) > 1:
        return "the parameters have made different numbers of steps"
    return None


def _steps_of(optimizer: Optimizer, p: Tensor) -> int:
    """The steps that `p` has made. Of SGD it is only known, and only matters, whether there was one."""
    state = optimizer.state.get(p, {})
    return int(state.get("step", "momentum_buffer" in state))


@dataclass
class Table:
    """Where the gradients of one captured step lie: for each group their addresses, on the host and on the device."""

    host: list[np.ndarray]
    device: list[Array]

    def upload(self) -> None:
        """Write the addresses to the device. In a capture they are only noted; this comes after it."""
        for there, here in zip(self.device, self.host, strict=True):
            there.set(here)


class FlatOptimizer:
    """Does the updates of an SGD, Adam or AdamW on flat arrays.

    Args:
        optimizer: `why_not_flat(optimizer)` is None; all parameters on one device.
        steps: int64 (1,) on that device: the steps made so far, which captured graphs count on. Whoever has it
            begins with `steps_made(optimizer)`.
    """

    def __init__(self, optimizer: Optimizer, steps: Array):
        self.optimizer, self.steps = optimizer, steps
        self.groups = [_FlatGroup(optimizer, group, steps) for group in optimizer.param_groups]

    @staticmethod
    def steps_made(optimizer: Optimizer) -> int:
        """What `steps` has to begin with."""
        return max((_steps_of(optimizer, p) for p in optimizer.state), default=0)

    def arrays(self) -> list[Array]:
        """All flat arrays that a step changes."""
        return [a for group in self.groups for a in (group.values, *group.remembered)]

    def bound(self) -> list[Array]:
        """The arrays that the model and the optimizer hold: while they are these, graphs are valid."""
        found = [p.array for group in self.groups for p in group.params]
        for group in self.groups:
            for p in group.params:
                found += [v for v in self.optimizer.state.get(p, {}).values() if backend.is_array(v)]
        return found

    def structure(self) -> list[Any]:
        """What is fixed when a step is captured: the parameters, and which arrays and formulas there are."""
        groups = self.optimizer.param_groups
        params = [[(id(p), p.requires_grad) for p in group["params"]] for group in groups]
        return [params, *(group.structure() for group in self.groups)]

    def table(self) -> Table:
        xps = [(backend.namespace(group.values), len(group.params)) for group in self.groups]
        return Table([np.zeros(n, np.int64) for _, n in xps], [xp.zeros(n, np.int64) for xp, n in xps])

    def refresh(self) -> None:
        """Write options that have changed to the device."""
        for group in self.groups:
            group.refresh()

    def without_gradient(self, gradients: Sequence[tuple[Tensor, Array]]) -> int | None:
        """The number of the first parameter that `gradients` does not have; None if it has all."""
        found = {id(p) for p, _ in gradients}
        missing = [i for i, p in enumerate(p for g in self.groups for p in g.params) if id(p) not in found]
        return missing[0] if missing else None

    def step(self, gradients: Sequence[tuple[Tensor, Array]], table: Table, capturing: bool = False) -> None:
        """Update all parameters. `gradients` has each parameter once, with an array of its shape."""
        found = {id(p): g for p, g in gradients}
        for number, group in enumerate(self.groups):
            group.gather([found[id(p)] for p in group.params], table, number, capturing)
            group.update(self.steps)

    def finished(self, steps: int) -> None:
        """Tell the ordinary optimizer that so many steps were made."""
        for group in self.groups if steps else ():
            group.hand_over()
            for p in group.params:
                p.version[0] += 1  # so that a graph that still needs the old value notices
                if not isinstance(self.optimizer, SGD):
                    self.optimizer.state[p]["step"] = self.optimizer.state[p].get("step", 0) + steps


class _FlatGroup:
    """One parameter group."""

    def __init__(self, optimizer: Optimizer, group: Group, steps: Array):
        self.optimizer, self.kind, self.group = optimizer, type(optimizer), group
        self.params: list[Tensor] = list(group["params"])
        self.lengths = [p.array.size for p in self.params]
        self.starts = [0, *np.cumsum(self.lengths).tolist()]
        first = self.params[0].array
        self.xp, self.dtype = backend.namespace(first), first.dtype
        self.device = backend.device_of(first)
        self.values = self._flat([p.array for p in self.params])
        for p, view in zip(self.params, self.views(self.values), strict=True):
            p.array = view
        self.gradient = self.xp.zeros(self.starts[-1], self.dtype)
        self.names = self._names()
        self.remembered = [self._take_over(name) for name in self.names]
        self.starts_there = backend.to_device(np.array(self.starts, np.int64), self.device)
        self._sent = self._options()
        self.hyper = backend.to_device(self._sent, self.device)
        self.fused = module.serves(self.xp)

    def _flat(self, arrays: Sequence[Array]) -> Array:
        flat = self.xp.empty(self.starts[-1], self.dtype)
        for a, start, end in zip(arrays, self.starts, self.starts[1:], strict=False):
            flat[start:end] = a.reshape(-1)
        return flat

    def views(self, flat: Array) -> list[Array]:
        """The parts of a flat array in the shapes of the parameters."""
        return [
            flat[start:end].reshape(p.array.shape)
            for p, start, end in zip(self.params, self.starts, self.starts[1:], strict=False)
        ]

    def _names(self) -> tuple[str, ...]:
        if self.kind is SGD and self.group["momentum"] == 0:
            return ()
        return NAMES[self.kind] + (("max_exp_avg_sq",) if self.group.get("amsgrad") else ())

    def _take_over(self, name: str) -> Array:
        """What the optimizer remembers under `name`, zeros if nothing, as one array; its state gets views of it."""
        kept = [self.optimizer.state.get(p, {}).get(name) for p in self.params]
        empty = [self.xp.zeros_like(p.array) for p in self.params]
        flat = self._flat([e if a is None else a for e, a in zip(empty, kept, strict=True)])
        for p, old, view in zip(self.params, kept, self.views(flat), strict=True):
            if old is not None:
                self.optimizer.state[p][name] = view
        return flat

    def hand_over(self) -> None:
        """Put views of what is remembered into the optimizer's state, where it has nothing yet."""
        for name, flat in zip(self.names, self.remembered, strict=True):
            for p, view in zip(self.params, self.views(flat), strict=True):
                self.optimizer.state.setdefault(p, {}).setdefault(name, view)

    # Options

    def structure(self) -> tuple[Any, ...]:
        flags = ("nesterov", "maximize", "amsgrad")
        zero = ("momentum", "weight_decay")
        return tuple(bool(self.group.get(name)) for name in flags + zero)

    def _options(self) -> np.ndarray:
        g = self.group
        if self.kind is SGD:
            names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
            return kernels.sgd_hyper(*(g[name] for name in names))
        return kernels.adam_hyper(
            g["lr"], g["betas"], g["eps"], g["weight_decay"], g["maximize"], self.kind is AdamW
        )

    def refresh(self) -> None:
        options = self._options()
        if not np.array_equal(options, self._sent):
            self.hyper.set(options)
            self._sent = options

    # A step

    def gather(self, gradients: Sequence[Array], table: Table, number: int, capturing: bool) -> None:
        """The gradients, one behind another, into self.gradient."""
        if not self.fused:
            for g, start, end in zip(gradients, self.starts, self.starts[1:], strict=False):
                self.gradient[start:end] = g.reshape(-1)
            return
        gradients = [module.contiguous(g) for g in gradients]
        address = backend.backend_of(self.values).address
        table.host[number][:] = [address(g) for g in gradients]
        if not capturing:
            table.device[number].set(table.host[number])
        kernels.pack(table.device[number], self.starts_there, self.gradient, self.lengths)

    def update(self, steps: Array) -> None:
        if self.fused and self.kind is SGD:
            velocity = self.remembered[0] if self.remembered else None
            kernels.sgd(self.values, self.gradient, velocity, self.hyper, steps)
        elif self.fused:
            m, v, *largest = self.remembered
            kernels.adam(self.values, self.gradient, m, v, self.hyper, steps, largest[0] if largest else None)
        elif self.kind is SGD:
            self._sgd(steps)
        else:
            self._adam(steps)

    def _sgd(self, steps: Array) -> None:
        """The formulas of sgd.py, with options (1,) on the device."""
        lr, momentum, dampening, decay = (self.hyper[i : i + 1].astype(self.dtype) for i in range(4))
        g = -self.gradient if self.group["maximize"] else self.gradient
        if self.group["weight_decay"]:
            g = g + decay * self.values
        if self.remembered:
            v = self.remembered[0]
            v[...] = self.xp.where(steps == 0, g, momentum * v + (1 - dampening) * g)
            g = g + momentum * v if self.group["nesterov"] else v
        self.values -= lr * g

    def _adam(self, steps: Array) -> None:
        """The formulas of adam.py, with options (1,) on the device."""
        xp, dtype = self.xp, self.dtype
        lr, beta1, beta2, eps, decay = (self.hyper[i : i + 1] for i in range(5))
        t = (steps + 1).astype(np.float64)
        rate, scale = (lr / (1 - beta1**t)).astype(dtype), xp.sqrt(1 - beta2**t).astype(dtype)
        g = -self.gradient if self.group["maximize"] else self.gradient
        if self.group["weight_decay"] and self.kind is AdamW:
            self.values *= (1 - lr * decay).astype(dtype)
        elif self.group["weight_decay"]:
            g = g + decay.astype(dtype) * self.values
        m, v = self.remembered[:2]
        m *= beta1.astype(dtype)
        m += (1 - beta1).astype(dtype) * g
        v *= beta2.astype(dtype)
        v += (1 - beta2).astype(dtype) * g * g
        if self.group["amsgrad"]:
            xp.maximum(self.remembered[2], v, out=self.remembered[2])
            v = self.remembered[2]
        self.values -= rate * m / (xp.sqrt(v) / scale + eps.astype(dtype))
