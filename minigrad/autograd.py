"""READ FIRST. How gradients are found: a graph of operations, walked backwards.

Every differentiable operation is a `Function`: `forward` computes y from x, `backward` turns gy = dL/dy
into gx = dL/dx. While `forward` runs, the Function remembers which variables it was given. So the result
knows how it was made (`y.grad_fn`), its inputs know how they were made, and so on down to the leaves:

    x --Mul--> a --Exp--> y         y.grad_fn is the Exp, whose input a has the Mul as grad_fn

`y.backward()` walks this graph from y towards the leaves. Each Function is visited once, after all its
consumers, because only then is its gy complete: where a value is used twice, the gradients of both uses
add up. At a leaf the sum is added to `leaf.grad`.

The walk itself is in `engine.py`. `tensor.py` builds on this file: a `Tensor` is a `Variable` with operators.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.dtypes import is_float
from minigrad.engine import accumulate, seed, walk
from minigrad.errors import DeviceError, DtypeError, GradientError
from minigrad.grad_mode import is_grad_enabled

__all__ = ["Function", "Variable", "grad"]

Array = Any


# 1. A value in the graph ------------------------------------------------------------------------------


class Variable:
    """An array that remembers how it was made.

    Attributes:
        array: the NumPy or CuPy array.
        grad: dL/dself after `L.backward()`, for leaves; None before.
        requires_grad: whether backward passes reach this value.
        grad_fn: the Function that made it; None for a leaf.
    """

    def __init__(self, array: Array, requires_grad: bool = False):
        self.array = array
        self.grad: Any = None
        self.grad_fn: Function | None = None
        self.output_index = 0  # which output of grad_fn this is
        self.version = [0]  # counts in-place writes; shared with detached copies, which share the array
        self._hooks: list[Callable[[Any], Any]] = []
        self._requires_grad = False
        self._retains_grad = False
        if requires_grad:
            self.requires_grad = True

    def _new(self, array: Array) -> Any:
        """How an operation on this variable wraps its result."""
        return Variable(array)

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not is_float(self.array.dtype):
            raise DtypeError(
                f"only floating-point tensors can require gradients, this one is {self.array.dtype}; "
                "convert it first, for example with .float()"
            )
        if not value and self.grad_fn is not None:
            raise GradientError("requires_grad cannot be switched off inside a graph; use .detach()")
        self._requires_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """True if no Function made this value; only leaves collect `.grad`."""
        return self.grad_fn is None

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add dself/dleaf to `.grad` of every leaf that requires gradients.

        Args:
            gradient: dL/dself, of this shape; may be left out for a single number, where it is 1.
            retain_graph: keep the graph, so that backward can be called again.
            create_graph: refused; minigrad has no second derivatives.
        """
        if create_graph:
            raise GradientError(
                "backward: create_graph=True asks for second derivatives, which minigrad does not have"
            )
        for leaf, gx in walk(self, seed(self, gradient), retain_graph):
            accumulate(leaf, gx)

    def register_hook(self, hook: Callable[[Any], Any]) -> Hook:
        """Call `hook(gradient)` when this value's gradient is complete; what it returns replaces it.

        The result has a method `remove`, which takes the hook away again.
        """
        if not self.requires_grad or (self.grad_fn is not None and self.grad_fn.freed):
            why = "its graph was freed by backward" if self.requires_grad else "it does not require gradients"
            raise GradientError(f"register_hook: the hook would never run, for this tensor: {why}")
        if self.grad_fn is None:
            return Hook(self._hooks, hook)
        return Hook(self.grad_fn.hooks, (self.output_index, hook))

    def retain_grad(self) -> None:
        """Keep `.grad` although this value is not a leaf."""
        if not self.requires_grad:
            raise GradientError("retain_grad: this tensor does not require gradients, so it will have none")
        if self.grad_fn is not None and not self._retains_grad:
            self._retains_grad = True
            this = weakref.ref(self)  # a strong reference would tie the graph into a cycle

            def keep(gradient: Any) -> None:
                variable = this()
                if variable is not None:
                    accumulate(variable, gradient.array)

            self.register_hook(keep)


class Hook:
    """A hook in its list; `remove` takes it out."""

    def __init__(self, hooks: list[Any], entry: Any):
        self.hooks, self.entry = hooks, entry
        hooks.append(entry)

    def remove(self) -> None:
        if self.entry in self.hooks:
            self.hooks.remove(self.entry)
        self.entry = None  # the same function may be there a second time, under another Hook


# 2. An operation --------------------------------------------------------------------------------------


class Function:
    """An operation with its derivative; derive from it to write your own.

    `forward(ctx, ...)` receives plain arrays (NumPy, or CuPy on a GPU; `ctx.xp` is the library) and the
    other arguments as they are, and returns an array, or a tuple of arrays. `backward(ctx, gy)` receives
    one gradient for each output and returns one for each argument of forward: an array of the
    argument's shape, or None where there is nothing to differentiate. `ctx` carries values from one to the
    other. Call it as `MyFunction.apply(x, ...)`. Write into neither x nor gy: others may be using them.

    >>> import minigrad as mg
    >>> class Cube(mg.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...     @staticmethod
    ...     def backward(ctx, gy):
    ...         (x,) = ctx.saved_tensors
    ...         return gy * 3 * x**2
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> Cube.apply(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    """

    freed = False
    materialize_grads = True

    def __init__(self, *args: Any) -> None:
        if args:
            raise TypeError(f"a Function is not called itself: write {type(self).__name__}.apply(x)")
        self.xp: Any = None
        self.needs_input_grad: tuple[bool, ...] = ()
        self.saved_tensors: tuple[Array, ...] = ()
        self.inputs: tuple[Variable | None, ...] = ()  # None stands for an argument that is no Variable
        self.output_meta: list[tuple[tuple[int, ...], Any]] = []  # shape and dtype of each output
        self.hooks: list[tuple[int, Callable[[Any], Any]]] = []
        self._versions: list[tuple[list[int], int]] = []
        self._constants: tuple[Array, ...] = ()

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise TypeError("a Function needs a static method forward(ctx, ...)")

    @staticmethod
    def backward(ctx: Any, *gys: Array) -> Any:
        raise TypeError("a Function needs a static method backward(ctx, gy)")

    def save_for_backward(self, *arrays: Array) -> None:
        """Keep arrays until backward, where they are `ctx.saved_tensors`; a later write to one is noticed."""
        self.saved_tensors = arrays

    def mark_non_differentiable(self, *arrays: Array) -> None:
        """Say which outputs are not to be differentiated."""
        self._constants = arrays

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward receives zeros for outputs that nobody used, as usual, or None."""
        self.materialize_grads = value

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward, and remember it if a gradient may be asked for later."""
        variables = [a for a in args if isinstance(a, Variable)]
        if not variables:
            raise DtypeError(
                f"{cls.__name__}.apply needs at least one Tensor among its arguments "
                "(one inside a list does not count: write apply(*tensors))"
            )
        ctx = cls()
        try:
            ctx.xp = backend.namespace(*[v.array for v in variables])
        except DeviceError as error:
            raise DeviceError(f"{cls.__name__.lower()}: {error}") from None
        if is_grad_enabled():
            ctx.needs_input_grad = tuple(isinstance(a, Variable) and a._requires_grad for a in args)
        else:
            ctx.needs_input_grad = (False,) * len(args)
        try:
            outputs = cls.forward(ctx, *[a.array if isinstance(a, Variable) else a for a in args])
        except AttributeError as error:
            _note_arrays(error, f"{cls.__name__}.forward")
            raise
        several = isinstance(outputs, tuple)
        outputs = outputs if several else (outputs,)
        results = [variables[0]._new(ctx._as_array(y, "forward")) for y in outputs]
        owned = [(_owner(v.array), v) for v in variables]
        made = [(_owner(y.array), y) for y in results]
        inputs_by_owner = dict(owned)
        for owner, y in made:
            if owner in inputs_by_owner:  # a view of an input
                y.version = inputs_by_owner[owner].version
        if any(ctx.needs_input_grad):
            ctx._remember(args, outputs, owned + made, results)
        return tuple(results) if several else results[0]

    def _remember(self, args: Sequence[Any], outputs: Sequence[Any], owned: list[Any], results: Any) -> None:
        """Become the grad_fn of the results; `outputs` are what forward returned for them.

        `owned`: (owner of its memory, variable) for all inputs and results.
        """
        self.inputs = tuple(a if isinstance(a, Variable) else None for a in args)
        self.output_meta = [(y.array.shape, y.array.dtype) for y in results]
        for index, (y, result) in enumerate(zip(outputs, results, strict=True)):
            if is_float(result.array.dtype) and not any(y is c for c in self._constants):
                result._requires_grad = True
                result.grad_fn = self
                result.output_index = index
        self._constants = ()
        saved = {_owner(array) for array in self.saved_tensors}
        # a write to one of these before backward is an error
        self._versions = [(v.version, v.version[0]) for owner, v in owned if owner in saved]

    def _as_array(self, value: Any, method: str) -> Array:
        """`value` as an array of this operation's library; NumPy gives scalars where it could give arrays."""
        if backend.is_array(value):
            return value
        if isinstance(value, (int, float, np.generic)):
            return self.xp.asarray(value)
        what = "a Tensor" if isinstance(value, Variable) else type(value).__name__
        raise GradientError(
            f"{type(self).__name__}.{method} returned {what}; it receives arrays and has to return arrays"
        )

    def pull_back(self, gys: Sequence[Array]) -> list[tuple[Variable, Array]]:
        """Call backward and check what it returns: (input, gradient) for each input that needs one."""
        name = type(self).__name__
        for version, count in self._versions:
            if version[0] != count:
                raise GradientError(
                    f"{name}.backward needs a value that was changed in place after {name} had used it; "
                    "make a new tensor instead (y = y + 1, not y += 1), or clone() before the change"
                )
        try:
            returned = type(self).backward(self, *[_read_only(gy) for gy in gys])
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise GradientError(
                f"{name}.backward writes into a gradient that it received, which others use too; "
                "make a new array (gx = gy * 2, not gy *= 2)"
            ) from error
        except AttributeError as error:
            _note_arrays(error, f"{name}.backward")
            raise
        grads = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        needed = [i for i, need in enumerate(self.needs_input_grad) if need]
        if len(grads) > len(self.inputs) or len(grads) <= needed[-1]:
            raise GradientError(
                f"{name}.backward returned {len(grads)} gradients, but {name}.forward takes "
                f"{len(self.inputs)} arguments ({', '.join(self._argument_names())}): return one for each, "
                "None where there is nothing to differentiate"
            )
        result = []
        for i in needed:
            x = self.inputs[i]
            assert x is not None
            gx = grads[i]  # mostly as it should be; _check converts it, or says what is wrong
            if type(gx) is not type(x.array) or gx.shape != x.array.shape or gx.dtype != x.array.dtype:
                gx = self._check(i, x, gx)
            result.append((x, gx))
        return result

    def _check(self, i: int, x: Variable, gx: Any) -> Array:
        """Gradient `gx` for argument `i`, or an error that says what is wrong with it."""
        name = type(self).__name__
        if gx is None:
            raise GradientError(
                f"{name}.backward returned None for argument {i} ({self._argument_names()[i]}), "
                f"which requires gradients: return an array of shape {x.array.shape}"
            )
        gx = self._as_array(gx, "backward")
        if gx.shape != x.array.shape:
            raise GradientError(
                f"{name}.backward returned a gradient of shape {gx.shape} for argument {i} "
                f"({self._argument_names()[i]}), whose shape is {x.array.shape}"
            )
        return gx if gx.dtype == x.array.dtype else gx.astype(x.array.dtype)

    def _argument_names(self) -> list[str]:
        names: list[str] = []
        for p in list(inspect.signature(type(self).forward).parameters.values())[1:]:
            several = p.kind is p.VAR_POSITIONAL
            names += [f"{p.name}[{k}]" for k in range(len(self.inputs) - len(names))] if several else [p.name]
        return names

    def free(self) -> None:
        """Let go of inputs and saved arrays: this is what makes a graph cost memory."""
        vars(self).clear()
        self.freed = True


def _note_arrays(error: AttributeError, method: str) -> None:
    """Add to the error of somebody who took an array for a Tensor what it is."""
    if backend.is_array(error.obj):
        error.add_note(
            f"{method} receives arrays, not Tensors: instead of the method {error.name!r} use a function "
            "of ctx.xp, such as ctx.xp.exp(x)"
        )


def _read_only(gy: Array) -> Array:
    """The same memory, but a write to it is an error; as far as the library can say so."""
    if isinstance(gy, np.ndarray):
        gy = gy.view()
        gy.flags.writeable = False
    return gy


def _owner(array: Array) -> int:
    """Who owns the memory of `array`, as far as the arrays know: the same for an array and a view of it."""
    owner = array
    while (base := getattr(owner, "base", None)) is not None:
        owner = base
    return id(owner)


# 3. Gradients as values ------------------------------------------------------------------------------


def grad(
    outputs: Variable,
    inputs: Variable | Sequence[Variable],
    grad_outputs: Any = None,
    retain_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """dL/dx for each x in `inputs`, returned instead of added to `.grad`.

    An input that the output does not depend on is an error, or None with `allow_unused`.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> mg.autograd.grad((x * x).sum(), [x])[0], x.grad
    (tensor([2., 4.]), None)
    """
    xs = [inputs] if isinstance(inputs, Variable) else list(inputs)
    found: dict[int, Array] = {}

    def watch(x: Variable) -> Hook:
        return x.register_hook(lambda gradient: found.update({id(x): gradient.array}))

    # leaves come out of the walk; other inputs are looked at as their gradients pass by
    hooks = [watch(x) for x in xs if x.grad_fn is not None and not x.grad_fn.freed]
    try:
        found.update({id(x): gx for x, gx in walk(outputs, seed(outputs, grad_outputs), retain_graph)})
    finally:
        for hook in hooks:
            hook.remove()
    for i, x in enumerate(xs):
        if id(x) not in found and not allow_unused:
            raise GradientError(
                f"grad: the output does not depend on input {i} (allow_unused=True gives None)"
            )
    # copies, since an operation may hand the same array to two inputs
    return tuple(x._new(found[id(x)].copy()) if id(x) in found else None for x in xs)
