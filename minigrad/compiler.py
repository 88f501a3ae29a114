"""`minigrad.compile(model)`: the same model, with runs of layers replaced by fused operations.

It looks for each `Sequential` in the model, and in it for the runs of layers that have a fused operation:

    Conv2d [BatchNorm2d] [Sigmoid | ReLU | Tanh] [MaxPool2d(2, 2)]      at least two of them
    Linear [BatchNorm1d] [Sigmoid | ReLU | Tanh]                        at least two of them

A fused run uses the parameters and buffers of its layers, which stay where they are: the state dict, the
optimizer, and `train()` and `eval()` work as before. Everything else runs as it was. So does a run for which
the fused operation cannot stand in: with hooks on its layers, in evaluation mode while gradients are asked
for, with batch norm that keeps no running statistics.

A linear layer that stands alone goes through the same kernels, and on a GPU a convolution, too. (On the CPU
that keeps BLAS's own threads out: after a product they wait for the next one, busily, on the core that the
fused operations need.)
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache
from typing import Any

from minigrad.autograd import Variable
from minigrad.backend import device_of
from minigrad.errors import ArgumentError, MinigradError
from minigrad.grad_mode import is_grad_enabled
from minigrad.nn.activation import ReLU, Sigmoid, Tanh
from minigrad.nn.containers import Sequential, note_layer
from minigrad.nn.conv import Conv2d
from minigrad.nn.functional.fused import BlockOptions, ConvBlock, LinearBlock, fold, runs_on_device, track
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm1d, BatchNorm2d
from minigrad.nn.pool import MaxPool2d
from minigrad.shapes import Shape, output_size, pair

__all__ = ["FusedRun", "FusedSequential", "compile"]

ACTIVATIONS: dict[type, str] = {Sigmoid: "sigmoid", ReLU: "relu", Tanh: "tanh"}


def compile(model: Module) -> Module:
    """The same model, faster: runs of layers become fused operations on the same parameters and buffers.

    The result has the layers, the state dict and the methods of `model`, and shares its parameters: training
    one trains the other. Modules that hold a `Sequential` are copied on the way down to it, layers are not; so
    call `train()` and `eval()` on the result. Stride and padding are read now, not at each call.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Sigmoid(), nn.Linear(3, 2))
    >>> fast = mg.compile(net)
    >>> list(fast.state_dict()) == list(net.state_dict())
    True
    >>> fast
    Sequential(
      (0-2): fused Linear + BatchNorm1d + Sigmoid
        (0): Linear(in_features=4, out_features=3, bias=True)
        (1): BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
        (2): Sigmoid()
      (3): Linear(in_features=3, out_features=2, bias=True)
    )
    """
    if not isinstance(model, Module):
        raise ArgumentError(f"compile: expected a Module, got {type(model).__name__}")
    return _rebuild(model, {})


def _rebuild(module: Module, done: dict[int, Module]) -> Module:
    """`module` with every Sequential in it replaced; the module itself if there is none."""
    if id(module) not in done:
        children = [(name, child, _rebuild(child, done)) for name, child in module.named_children()]
        if type(module) is Sequential:
            done[id(module)] = FusedSequential(module, [(name, new) for name, _, new in children])
        elif any(new is not child for _, child, new in children):
            twin = copy.copy(module)
            for name, _, new in children:
                setattr(twin, name, new)
            done[id(module)] = twin
        else:
            done[id(module)] = module
    return done[id(module)]


class FusedRun:
    """One run of layers: their fused operation where it can stand in, the layers themselves elsewhere.

    Attributes:
        names: the layers' names in their Sequential.
        layers: the layers.
    """

    def __init__(self, named: list[tuple[str, Module]]):
        self.names = [name for name, _ in named]
        self.layers = [layer for _, layer in named]
        self.main = self.layers[0]
        self.norm: Any = next((m for m in self.layers if isinstance(m, (BatchNorm1d, BatchNorm2d))), None)
        activation = next((ACTIVATIONS[type(m)] for m in self.layers if type(m) in ACTIVATIONS), "identity")
        self.pooled = isinstance(self.layers[-1], MaxPool2d)
        self.options = BlockOptions(activation, None, self.pooled)
        if isinstance(self.main, Conv2d):
            self.options = BlockOptions(activation, None, self.pooled, self.main.stride, self.main.padding)  # type: ignore[arg-type]
        self.training_options = self.options  # with eps, from the first call in training mode on

    @property
    def title(self) -> str:
        return "fused " + " + ".join(type(layer).__name__ for layer in self.layers)

    def __call__(self, x: Any) -> Any:
        if not self._fits(x):
            for layer in self.layers:
                x = layer(x)
            return x
        weight, bias = self.main.weight, self.main.bias  # type: ignore[attr-defined]
        operation: Any = ConvBlock if isinstance(self.main, Conv2d) else LinearBlock
        if self.norm is None:
            return operation.apply(x, weight, bias, None, None, self.options)
        norm = self.norm
        if not norm.training:
            folded, shift = fold(norm, weight, bias)
            return operation.apply(x, folded, shift, None, None, self.options)
        if self.training_options.eps != norm.eps:
            self.training_options = replace(self.options, eps=norm.eps)
        y, mean, var = operation.apply(x, weight, bias, norm.weight, norm.bias, self.training_options)
        track(norm, mean, var, y_count(x.array, weight.array, self.options))
        return y

    def _fits(self, x: Any) -> bool:
        """Whether the fused operation gives what the layers would give, for this input and now."""
        layers, main, norm = self.layers, self.main, self.norm
        if any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers):
            return False
        if not isinstance(x, Variable):
            return False
        array, weight = x.array, main.weight.array  # type: ignore[attr-defined]
        device = device_of(array)
        if device != device_of(weight):
            return False
        on_device = runs_on_device(array)
        if not on_device and (device.type != "cpu" or (len(layers) == 1 and type(main) is Conv2d)):
            return False
        if array.dtype != weight.dtype or array.dtype.kind != "f":
            return False
        if on_device and array.dtype.itemsize not in (4, 8):
            return False  # the kernels are for float32 and float64
        if array.ndim != (4 if isinstance(main, Conv2d) else 2) or 0 in array.shape:
            return False  # the layers have an error for what does not fit, and know about empty batches
        if array.shape[1] != weight.shape[1]:
            return False
        options = self.options
        if isinstance(main, Conv2d):
            P, Q = _sizes(array.shape[2:], weight.shape[2:], options.stride, options.padding)
            if min(P, Q) <= 0 or (self.pooled and (P % 2 or Q % 2)):
                return False
        vectors = [main.bias]  # type: ignore[attr-defined]
        if norm is not None:
            vectors += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        for v in vectors:
            if v is not None and (v.array.shape != weight.shape[:1] or v.array.dtype != array.dtype):
                return False
        if norm is None:
            return True
        if norm.training:
            return y_count(array, weight, options) > 1  # one value per channel: the layer's error
        if norm.running_mean is None or norm.running_var is None:
            return False
        # the folded weights stand outside of the graph
        return not (
            is_grad_enabled() and any(p.requires_grad for layer in layers for p in layer.parameters())
        )


@cache
def _sizes(picture: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    """Of a convolution's results, (P, Q); of a fully connected layer's, ()."""
    return tuple(map(output_size, picture, kernel, stride, padding))


def y_count(x: Any, weight: Any, options: BlockOptions) -> int:
    """M: values per channel that batch norm sees, for arrays x and weight."""
    return int(len(x) * math.prod(_sizes(x.shape[2:], weight.shape[2:], options.stride, options.padding)))


def find_runs(named: list[tuple[str, Module]]) -> list[list[tuple[str, Module]]]:
    """The layers of a Sequential in runs; a run of one layer stays as it is.

    >>> from minigrad import nn
    >>> layers = [nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9, 2)]
    >>> [len(run) for run in find_runs([(str(i), layer) for i, layer in enumerate(layers)])]
    [4, 1, 1]
    """
    runs: list[list[tuple[str, Module]]] = []
    i = 0
    while i < len(named):
        length = _run_length([layer for _, layer in named[i:]])
        runs.append(named[i : i + length])
        i += length
    return runs


def _run_length(layers: list[Module]) -> int:
    """How many of the first layers one fused operation can do; 1 if none."""
    main: Any = layers[0]
    if not _begins_run(main):
        return 1
    convolves = type(main) is Conv2d
    norm_type: Any = BatchNorm2d if convolves else BatchNorm1d
    features = main.out_channels if convolves else main.out_features
    n = 1
    if n < len(layers) and type(layers[n]) is norm_type and layers[n].num_features == features:  # type: ignore[attr-defined]
        n += 1
    if n < len(layers) and type(layers[n]) in ACTIVATIONS:
        n += 1
    if type(main) is Conv2d and n < len(layers) and _pools_by_two(layers[n]):
        n += 1
    return n


def _begins_run(layer: Any) -> bool:
    if type(layer) is Conv2d:
        return layer.groups == 1 and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
    return type(layer) is Linear


def _name(run: list[tuple[str, Module]]) -> str:
    """Of the first and the last layer: "0-3", or "15" for one that stands alone."""
    return run[0][0] if len(run) == 1 else f"{run[0][0]}-{run[-1][0]}"


def _pools_by_two(layer: Module) -> bool:
    return (
        type(layer) is MaxPool2d
        and pair(layer.kernel_size) == pair(layer.stride) == (2, 2)
        and pair(layer.padding) == (0, 0)
        and pair(layer.dilation) == (1, 1)
        and not layer.return_indices
    )


class FusedSequential(Sequential):
    """A Sequential that runs its layers in fused runs; the layers are its children under their own names."""

    def __init__(self, source: Sequential, children: list[tuple[str, Module]]):
        super().__init__()
        vars(self).update(vars(source))  # its mode, its hooks, and whatever else was assigned to it
        self._steps: list[tuple[str, Any]] | None = None
        for name, child in children:
            setattr(self, name, child)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        vars(self)["_steps"] = None  # the runs are looked for again

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        vars(self)["_steps"] = None

    def named_steps(self) -> list[tuple[str, Any]]:
        """(name, what is called), a fused run counting as one: ("0-3", FusedRun), ("4", Flatten()) ..."""
        if self._steps is None:
            vars(self)["_steps"] = [
                (_name(run), FusedRun(run)) if _begins_run(run[0][1]) else run[0]
                for run in find_runs(list(self.named_children()))
            ]
        assert self._steps is not None
        return self._steps

    def forward(self, x: Any) -> Any:
        current: tuple[str, Any] = ("", None)
        try:
            for current in self.named_steps():
                x = current[1](x)
        except MinigradError as error:
            name, step = current
            if isinstance(step, FusedRun):
                step = step.title if len(step.layers) > 1 else step.layers[0]
            note_layer(error, name, step)
            raise
        return x

    def __repr__(self) -> str:
        lines = []
        for name, step in self.named_steps():
            if isinstance(step, FusedRun) and len(step.layers) > 1:
                lines.append(f"  ({name}): {step.title}")
                lines += [f"    ({n}): {layer!r}" for n, layer in zip(step.names, step.layers, strict=True)]
            else:
                layer = step.layers[0] if isinstance(step, FusedRun) else step
                lines.append(f"  ({name}): " + repr(layer).replace("\n", "\n  "))
        return "\n".join(["Sequential(", *lines, ")"]) if lines else "Sequential()"
