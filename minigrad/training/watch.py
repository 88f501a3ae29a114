"""Stopwatches in the layers of a model: what `python -m minigrad.profile` measures with.

A forward hook before and one after each layer take its forward time. After a layer has run, the Functions that
it has added to the graph are known: those behind its result, as far as its arguments. Each is given a stopwatch
around `pull_back`, in which the engine calls its `backward`; what a layer's Functions take is the layer's
backward time. In a compiled model a fused run counts as one layer. Hooks on the layers inside would switch the
fusion off, so the run itself is timed.

Reading order: `Layer`, `Watch`, then what is counted.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.autograd import Variable
from minigrad.nn.conv import Conv2d
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module
from minigrad.shapes import output_size

__all__ = ["Layer", "Watch", "median"]


# 1. Watching a step ---


def median(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return statistics.median(values) if values else 0.0


@dataclass
class Layer:
    """One row: what a layer took, a number for each step.

    Attributes:
        name: the layer's, such as "layer1.0.conv1", or "0-3" for a fused run.
        kind: what it is.
        forward, backward: seconds in each step.
        flops, bytes: of forward and backward together in one step; 0 if not counted.
        has_functions: whether it adds to the graph; what only passes on to others has no row of its own.
    """

    name: str
    kind: str
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    flops: int = 0
    bytes: int = 0
    has_functions: bool = False

    @property
    def seconds(self) -> float:
        """The median step's forward time plus the median step's backward time."""
        return median(self.forward) + median(self.backward)


class Watch:
    """Stopwatches in all layers of a model, for one step at a time.

    with watch.one_step(): forward, backward
    """

    def __init__(self, model: Module):
        self.model = model
        self.layers: dict[str, Layer] = {}  # in the order in which they first ran
        self._open: list[list[Any]] = []  # calls under way: [layer, start, seconds of the calls inside]
        self._known: set[Any] = set()  # Functions that have been given to a layer
        self._counted = False  # flops and bytes are those of the first step

    @contextlib.contextmanager
    def one_step(self) -> Iterator[None]:
        """Puts the stopwatches in, and takes them out again."""
        undo: list[Callable[[], object]] = []
        for layer in self.layers.values():
            layer.forward.append(0.0)
            layer.backward.append(0.0)
        try:
            self._put_in(undo)
            yield
        finally:
            for action in undo:
                action()
            self._open.clear()
            self._known.clear()
            self._counted = True

    def _put_in(self, undo: list[Callable[[], object]]) -> None:
        fused: set[int] = set()  # layers inside of runs
        for name, module in self.model.named_modules():
            if hasattr(module, "named_steps"):
                steps = []
                for step_name, step in module.named_steps():
                    if not isinstance(step, Module):
                        fused |= {id(layer) for layer in step.layers}
                        step = self._timed_run(f"{name}.{step_name}" if name else step_name, step)
                    steps.append((step_name, step))
                # an attribute of the object hides the method; setattr would have it look for the runs again
                module.__dict__["named_steps"] = lambda steps=steps: steps
                undo.append(functools.partial(module.__dict__.pop, "named_steps"))
        for name, module in self.model.named_modules():
            if id(module) not in fused:
                kind = type(module).__name__
                before = module.register_forward_pre_hook(
                    lambda module, args, name=name, kind=kind: self.start(name, kind)
                )
                after = module.register_forward_hook(lambda module, args, y: self.stop([module], args, y))
                undo += [before.remove, after.remove]

    def _timed_run(self, name: str, run: Any) -> Callable[[Any], Any]:
        kind = " + ".join(type(layer).__name__ for layer in run.layers)

        def timed(x: Any) -> Any:
            self.start(name, kind)
            y = run(x)
            self.stop(run.layers, (x,), y)
            return y

        return timed

    def start(self, name: str, kind: str) -> None:
        """A layer begins its forward."""
        if name not in self.layers:
            self.layers[name] = Layer(name, kind, [0.0], [0.0])
        self._open.append([self.layers[name], time.perf_counter(), 0.0])

    def stop(self, modules: Sequence[Module], args: Sequence[Any], y: Any) -> None:
        """The layer that began last is done; `modules` are what it consists of."""
        now = time.perf_counter()
        layer, start, inside = self._open.pop()
        layer.forward[-1] += now - start - inside
        self.claim(layer, args, y)
        if not self._counted and layer.has_functions and not any(list(m.children()) for m in modules):
            layer.flops += _flops(modules[0], args[0])
            layer.bytes += _bytes(modules, args[0], y)
        if self._open:  # the caller pays neither for the layer nor for this bookkeeping
            self._open[-1][2] += time.perf_counter() - start

    def claim(self, layer: Layer, args: Sequence[Any], y: Any) -> None:
        """Gives the layer a stopwatch for each Function between its arguments and its result.

        Those of the layers inside are passed by: they were claimed when those layers were done.
        """
        seen = {x.grad_fn for x in _variables(args)}  # what was there before the layer
        todo = [result.grad_fn for result in _variables([y])]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node not in self._known:
                self._known.add(node)
                layer.has_functions = True
                _time_backward(node, layer)
            todo += [x.grad_fn for x in node.inputs if x is not None]


def _variables(values: Sequence[Any]) -> Iterator[Variable]:
    """All Variables among the values and in lists of them."""
    for value in values:
        if isinstance(value, Variable):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _variables(value)


def _time_backward(node: Any, layer: Layer) -> None:
    """From now on the node's backward is added to the layer's; the node forgets it when its graph is freed."""
    pull_back = node.pull_back

    def timed(gys: Any) -> Any:
        start = time.perf_counter()
        result = pull_back(gys)
        layer.backward[-1] += time.perf_counter() - start
        return result

    node.pull_back = timed


# 2. What a layer has to do ---


def _flops(module: Module, x: Any) -> int:
    """Two for each weight and each of its uses, forward and for each gradient that is asked for."""
    if isinstance(module, Conv2d):
        uses = x.shape[0] * _windows(module, x.shape[2:])
    elif isinstance(module, Linear):
        uses = x.numel() // x.shape[-1]
    else:
        return 0
    return 2 * uses * module.weight.numel() * (1 + x.requires_grad + module.weight.requires_grad)


def _windows(conv: Conv2d, size: Sequence[int]) -> int:
    """P * Q, the positions of the kernel in a picture."""
    if conv.padding == "same":
        return size[0] * size[1]
    padding = (0, 0) if isinstance(conv.padding, str) else conv.padding
    sides = zip(size, conv.kernel_size, conv.stride, padding, conv.dilation, strict=True)
    P, Q = (output_size(*side) for side in sides)
    return P * Q


def _bytes(modules: Sequence[Module], x: Any, y: Any) -> int:
    """Bytes to read and write in forward and backward; none for a layer that only changes the shape."""
    if np.may_share_memory(x.array, y.array):
        return 0
    parameters = sum(p.array.nbytes for module in modules for p in module.parameters())
    learned = sum(p.array.nbytes for module in modules for p in module.parameters() if p.requires_grad)
    forward = x.array.nbytes + parameters + y.array.nbytes
    backward = y.array.nbytes + x.array.nbytes + parameters + learned
    return forward + backward + (x.array.nbytes if x.requires_grad else 0)
