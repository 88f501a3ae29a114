"""The backward pass: from a result towards the leaves, each operation once, after all its consumers.

Works on the objects of `autograd.py` (variables and Functions) and is the only place that knows the order:

1. `_count_uses` finds every operation that the result depends on, and how many gradients it will receive;
2. `walk` starts at the result and takes an operation up once its last gradient has arrived.

Both are loops with a list of things to do. Recursion would end at Python's limit of about 1,000 operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import backend
from minigrad.errors import DeviceError, GradientError, ShapeError

__all__ = ["accumulate", "seed", "walk"]

Array = Any


def seed(root: Any, gradient: Any) -> Array:
    """The gradient that a backward pass starts with."""
    shape, dtype = root.array.shape, root.array.dtype
    if not root.requires_grad:
        raise GradientError(
            "backward: this tensor does not depend on anything that requires gradients "
            "(was it computed under no_grad, or from detached tensors?)"
        )
    xp = backend.namespace(root.array)
    if gradient is None:
        if root.array.size != 1:
            raise GradientError(
                "backward: without a gradient argument only a single number has a derivative, "
                f"this has shape {shape}; reduce it first (.sum(), .mean()) or pass gradient="
            )
        return xp.ones(shape, dtype=dtype)
    gy = gradient.array if hasattr(gradient, "array") else gradient
    gy = gy if backend.is_array(gy) else xp.asarray(gy)
    try:
        backend.namespace(root.array, gy)
    except DeviceError as error:
        raise DeviceError(f"backward: the tensor and its gradient: {error}") from None
    if gy.shape != shape:
        raise ShapeError(f"backward: gradient has shape {gy.shape}, the tensor {shape}")
    return gy if gy.dtype == dtype else gy.astype(dtype)


def _count_uses(root: Any) -> dict[Any, int]:
    """For each Function that root depends on: how many later Functions will send it a gradient."""
    uses = {root: 0}
    stack = [root]
    while stack:  # a loop, not recursion: chains of 50,000 operations are fine
        node = stack.pop()
        if node.freed:
            raise GradientError(
                "backward: this graph was freed by an earlier backward pass; "
                "compute the value again, or pass retain_graph=True the first time"
            )
        for x, needed in zip(node.inputs, node.needs_input_grad, strict=True):
            if needed and x is not None and x.grad_fn is not None:
                if x.grad_fn not in uses:
                    uses[x.grad_fn] = 0
                    stack.append(x.grad_fn)
                uses[x.grad_fn] += 1
    return uses


def walk(root: Any, gy: Array, retain_graph: bool) -> list[tuple[Any, Array]]:
    """The backward pass: [(leaf, gradient)], each leaf once."""
    leaves: dict[int, tuple[Any, Array]] = {}
    if root.grad_fn is None:
        return [(root, _run_hooks(root, root._hooks, gy))]
    uses = _count_uses(root.grad_fn)
    arrived: dict[Any, dict[int, Array]] = {root.grad_fn: {root.output_index: gy}}
    ready = [root.grad_fn]
    while ready:
        node = ready.pop()
        for x, gx in node.pull_back(_complete(node, arrived.pop(node))):
            if x.grad_fn is None:
                before = leaves.get(id(x))
                leaves[id(x)] = (x, gx if before is None else before[1] + gx)
            else:
                inbox = arrived.setdefault(x.grad_fn, {})
                k = x.output_index
                inbox[k] = inbox[k] + gx if k in inbox else gx
                uses[x.grad_fn] -= 1
                if uses[x.grad_fn] == 0:
                    ready.append(x.grad_fn)
        if not retain_graph:
            node.free()
    return [(x, _run_hooks(x, x._hooks, gx)) for x, gx in leaves.values()]


def _complete(node: Any, inbox: dict[int, Array]) -> list[Array | None]:
    """One gradient for each output of node; zeros for outputs that nobody used, or None if node prefers that."""
    for k, hook in node.hooks:
        if k in inbox:
            some = next(v for v in node.inputs if v is not None)
            inbox[k] = _run_hooks(some, [hook], inbox[k])
    found: list[Array | None] = [inbox.get(k) for k in range(len(node.output_meta))]
    if node.materialize_grads:
        for k, (shape, dtype) in enumerate(node.output_meta):
            found[k] = node.xp.zeros(shape, dtype=dtype) if found[k] is None else found[k]
    return found


def _run_hooks(like: Any, hooks: list[Callable[[Any], Any]], gx: Array) -> Array:
    for hook in hooks:
        replaced = hook(like._new(gx))
        if replaced is not None:
            if not hasattr(replaced, "array"):
                raise GradientError(f"hook returned {type(replaced).__name__}; return a Tensor or nothing")
            if replaced.array.shape != gx.shape:
                raise GradientError(
                    f"hook returned a gradient of shape {replaced.array.shape}, expected {gx.shape}"
                )
            gx = replaced.array
    return gx


def accumulate(x: Any, gx: Array) -> None:
    """Add to x.grad. The first gradient is copied, since operations may hand out the same array twice."""
    x.grad = x._new(gx.copy() if x.grad is None else x.grad.array + gx)
