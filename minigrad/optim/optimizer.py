"""What all optimizers share: groups of parameters, `zero_grad`, saving and loading.

An optimizer holds parameters in groups. A group is a dict: its parameters and its options, such as the
learning rate, so that one part of a model may learn faster than another:

    optim.SGD([{"params": body.parameters()}, {"params": head.parameters(), "lr": 0.1}], lr=0.01)

`state` keeps what an optimizer remembers of each parameter between steps, for example its momentum.
A subclass says in `_update` how a group is changed by its gradients; read `sgd.py` next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.errors import ArgumentError, DeviceError, DtypeError, ShapeError
from minigrad.grad_mode import enable_grad
from minigrad.tensor import Tensor

__all__ = ["Optimizer", "check_at_least", "required"]

Array = Any
Group = dict[str, Any]

required = object()  # the default of an option that each group has to give


def check_at_least(owner: str, options: Group, *names: str, low: float = 0.0) -> None:
    """Refuse options that are no number or smaller than `low`; NaN is refused, too."""
    for name in names:
        value = options[name]
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ArgumentError(f"{owner}: {name} must be a number, got {value!r}") from None
        if not low <= number < math.inf:
            raise ArgumentError(f"{owner}: {name} must be a number of at least {low:g}, got {value}")


class Optimizer:
    """Base of all optimizers.

    Args:
        params: tensors, for example `model.parameters()`, or a list of dicts, one a group.
        defaults: the options of groups that do not give their own.

    To write your own, give `_update(group)`, which changes the parameters of one group in place:

    >>> import minigrad as mg
    >>> class SignSGD(mg.optim.Optimizer):
    ...     def __init__(self, params, lr):
    ...         super().__init__(params, {"lr": lr})
    ...     def _update(self, group):
    ...         for p, array, g in self._with_gradients(group):
    ...             array -= group["lr"] * mg.backend.namespace(g).sign(g)
    >>> w = mg.tensor([1.0, 1.0], requires_grad=True)
    >>> (w * mg.tensor([5.0, -3.0])).sum().backward()
    >>> SignSGD([w], lr=0.5).step()
    >>> w
    tensor([0.5, 1.5], requires_grad=True)
    """

    def __init__(self, params: Iterable[Any], defaults: Group):
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        name = type(self).__name__
        if isinstance(params, Tensor):
            raise DtypeError(f"{name}: params must be a list of tensors, got one tensor; write [tensor]")
        if isinstance(params, (dict, str)) or not isinstance(params, Iterable):
            raise DtypeError(
                f"{name}: params must be a list of tensors or dicts, got {type(params).__name__}; "
                "pass model.parameters()"
            )
        self._refuse_set(params)
        groups = list(params)
        if not groups:
            raise ArgumentError(f"{name}: got an empty parameter list; was the generator used up before?")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    # 1. Groups ----------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Take more parameters in, with options of their own: {"params": [...], "lr": 0.1}."""
        name = type(self).__name__
        if not isinstance(param_group, dict):
            raise DtypeError(f"{name}: a group must be a dict, got {type(param_group).__name__}")
        if "params" not in param_group:
            raise ArgumentError(f"{name}: a group needs an entry 'params', got {sorted(param_group)}")
        unknown = sorted(set(param_group) - set(self.defaults) - {"params", "name", "initial_lr"})
        if unknown:
            raise ArgumentError(
                f"{name}: unknown option {unknown[0]!r} in a parameter group; "
                f"there are {', '.join(sorted(self.defaults))}"
            )
        params = param_group["params"]
        self._refuse_set(params)
        params = [params] if isinstance(params, Tensor) else list(params)
        self._check_params(params)
        group = {"params": params, **{k: v for k, v in param_group.items() if k != "params"}}
        for option, default in self.defaults.items():
            if group.setdefault(option, default) is required:
                raise ArgumentError(f"{name}: {option} has no default, give it for each group")
        self._check_options(group)
        self.param_groups.append(group)

    def _refuse_set(self, params: Any) -> None:
        if isinstance(params, (set, frozenset)):
            raise DtypeError(
                f"{type(self).__name__}: params is a set, whose order changes from run to run; use a list"
            )

    def _check_params(self, params: list[Any]) -> None:
        name = type(self).__name__
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        for i, p in enumerate(params):
            if isinstance(p, tuple) and len(p) == 2 and isinstance(p[1], Tensor):
                raise DtypeError(
                    f"{name}: parameter {i} is a pair (name, tensor); use parameters(), not named_parameters"
                )
            if not isinstance(p, Tensor):
                raise DtypeError(f"{name}: parameter {i} is no tensor but {type(p).__name__}")
            if not p.is_leaf:
                raise ArgumentError(
                    f"{name}: parameter {i} is the result of {type(p.grad_fn).__name__} and not a leaf; "
                    "only tensors that no operation made can be optimized"
                )
            if id(p) in taken:
                raise ArgumentError(
                    f"{name}: parameter {i} of shape {p.shape} is given twice; each may be in one group, once"
                )
            taken.add(id(p))

    def _check_options(self, group: Group) -> None:
        """Refuse options that make no sense; subclasses add their own."""
        if "lr" in group:
            check_at_least(type(self).__name__, group, "lr")

    # 2. Steps -----------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.array[...] = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters by their gradients; those without a gradient stay as they are.

        A `closure` that computes the loss, calls backward and returns the loss is run first.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:  # arrays, not tensors: nothing here is remembered by autograd
            self._update(group)
        return loss

    def _update(self, group: Group) -> None:
        """Change the parameters of one group in place."""
        raise TypeError(f"{type(self).__name__} needs a method _update(group)")

    def _with_gradients(self, group: Group) -> Iterator[tuple[Tensor, Array, Array]]:
        """(parameter, its array, its gradient's array) for each parameter that has a gradient."""
        ascent = group.get("maximize", False)
        for i, p in enumerate(group["params"]):
            if p.grad is None:
                continue
            array, g = p.array, p.grad.array
            if g.shape != array.shape:
                raise ShapeError(
                    f"{type(self).__name__}: parameter {i} has shape {array.shape}, its gradient {g.shape}"
                )
            if type(g) is not type(array):
                raise DeviceError(
                    f"{type(self).__name__}: parameter {i} is on {p.device}, its gradient on "
                    f"{p.grad.device}; call zero_grad() after moving a model"
                )
            p.version[0] += 1  # so that a graph that still needs the old value notices
            yield p, array, -g if ascent else g

    def _remembered(self, p: Tensor, name: str) -> Array:
        """What this optimizer keeps for `p` under `name`: an array of its shape, zeros at first."""
        kept = self.state.setdefault(p, {})
        if name not in kept:
            kept[name] = backend.namespace(p.array).zeros_like(p.array)
        elif type(kept[name]) is not type(p.array) or kept[name].dtype != p.array.dtype:
            raise DeviceError(
                f"{type(self).__name__}: {name} is {kept[name].dtype} on {backend.device_of(kept[name])}, "
                f"its parameter is {p.dtype} on {p.device}; move the model first, then make the optimizer"
            )
        return kept[name]

    # 3. Saving and loading ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on later, as plain numbers and arrays; parameters are named by number.

        {"state": {0: {"momentum_buffer": array}}, "param_groups": [{"lr": 0.1, ..., "params": [0, 1]}]}

        As in PyTorch the arrays are the living ones; `load_state_dict` copies.
        """
        number = {id(p): i for i, p in enumerate(self._params())}
        groups = [{**g, "params": [number[id(p)] for p in g["params"]]} for g in self.param_groups]
        state = {i: dict(self.state[p]) for i, p in enumerate(self._params()) if p in self.state}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave, minigrad's or PyTorch's.

        Arrays are copied to the device and dtype of their parameters. All is checked before any change.
        """
        name = type(self).__name__
        try:
            saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
            counts = [len(g["params"]) for g in saved_groups]
            numbers = [i for g in saved_groups for i in g["params"]]
        except (KeyError, TypeError):
            raise ArgumentError(
                f"{name}: this is not an optimizer's state_dict; it has to hold 'state' and 'param_groups'"
            ) from None
        own = [len(g["params"]) for g in self.param_groups]
        if counts != own:
            raise ArgumentError(
                f"{name}: the saved state has groups of {counts} parameters, this optimizer of {own}"
            )
        for saved in saved_groups:
            missing = sorted(set(self.defaults) - set(saved))
            if missing:
                raise ArgumentError(
                    f"{name}: the saved state has no {', '.join(missing)}; it is that of another optimizer"
                )
            self._check_options(saved)
        by_number = dict(zip(numbers, self._params(), strict=True))
        state = {p: self._load_one(i, p, saved_state[i]) for i, p in by_number.items() if i in saved_state}
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            group.update({k: v for k, v in saved.items() if k != "params"})
        self.state = state

    def _params(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _load_one(self, number: int, p: Tensor, saved: dict[str, Any]) -> dict[str, Any]:
        """A copy of what was saved for one parameter, on the parameter's device and in its dtype."""
        result: dict[str, Any] = {}
        for name, value in saved.items():
            if name == "step":
                result[name] = int(value)
            elif value is not None:
                array = value.array if isinstance(value, Tensor) else value
                array = backend.to_numpy(array) if backend.is_array(array) else np.asarray(array)
                array = array.astype(p.dtype)  # a copy
                if array.shape != p.shape:
                    raise ArgumentError(
                        f"{type(self).__name__}: the saved {name} of parameter {number} has shape "
                        f"{array.shape}, the parameter {p.shape}"
                    )
                result[name] = backend.to_device(array, p.device)
        return result

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])
