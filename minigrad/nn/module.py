"""Module: the base of all layers and models.

A Module is an ordinary object. Its parameters are the attributes that are `Parameter`s, its buffers those
that are `Buffer`s, its children those that are Modules; their order is the order of assignment. So there is
nothing to register: `named_parameters` looks at the attributes.

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(784, 100)      # hidden.weight, hidden.bias
            self.scale = nn.Parameter(mg.ones(1))  # scale

        def forward(self, x):
            return self.hidden(x) * self.scale
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, Self

from minigrad import backend
from minigrad.autograd import Hook, Variable
from minigrad.dtypes import as_dtype, float16, float32, float64, is_float
from minigrad.errors import ArgumentError, CheckpointError, DtypeError
from minigrad.nn.functional.checks import type_name
from minigrad.nn.parameter import Buffer, Parameter
from minigrad.tensor import Tensor

__all__ = ["Module"]


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Children(MutableMapping[str, "Module"]):
    """A module's children by name, as `module._modules`: what is put in becomes an attribute of the module."""

    def __init__(self, module: Module):
        self.module = module

    def __getitem__(self, name: str) -> Module:
        child = vars(self.module).get(name)
        if not isinstance(child, Module):
            raise KeyError(name)
        return child

    def __setitem__(self, name: str, child: Module) -> None:
        if not isinstance(child, Module):
            raise ArgumentError(
                f"{type(self.module).__name__}._modules[{name!r}] must be a Module, got {type_name(child)}"
            )
        setattr(self.module, name, child)

    def __delitem__(self, name: str) -> None:
        self[name]  # a KeyError for what is no child
        delattr(self.module, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.module.named_children())

    def __len__(self) -> int:
        return sum(1 for _ in self.module.children())

    def __repr__(self) -> str:
        return repr(dict(self))


class Module:
    """Base class of layers; derive from it, call `super().__init__()` first, define `forward`."""

    training: bool

    def __init__(self) -> None:
        self.training = True
        self._forward_hooks: list[Callable[..., Any]] = []
        self._forward_pre_hooks: list[Callable[..., Any]] = []

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward method; define forward(self, x)")

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run forward, with the hooks before and after it."""
        if "_forward_hooks" not in self.__dict__:
            raise _forgot_init(self)
        for hook in tuple(self._forward_pre_hooks):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **options)
        for hook in tuple(self._forward_hooks):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Buffer, Module)) and "_forward_hooks" not in self.__dict__:
            raise _forgot_init(self)
        before = self.__dict__.get(name)
        if isinstance(before, Buffer) and type(value) is Tensor:
            value = Buffer(value, before.persistent)  # self.running_mean = new values: it stays a buffer
        elif isinstance(before, Parameter) and value is not None and not isinstance(value, Parameter):
            raise DtypeError(
                f"{type(self).__name__}.{name} is a Parameter and cannot become a {type(value).__name__}; "
                "assign an nn.Parameter, or write into it under no_grad with .copy_()"
            )
        object.__setattr__(self, name, value)

    # Looking through the attributes

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(name, module) for this module and everything below it, each once."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """(name, module), parents first; a module that is used twice comes twice."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for name, value in list(vars(self).items()):
            if isinstance(value, Module):
                yield name, value

    @property
    def _modules(self) -> Children:
        """The children by name, for programs that write `self._modules[name] = layer` as in PyTorch."""
        return Children(self)

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named(
        self, kind: type[Tensor], prefix: str = "", recurse: bool = True, twice: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) for all attributes of one kind; shared tensors once unless `twice`."""
        seen: set[int] = set()
        for path, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, value in list(vars(module).items()):
                if isinstance(value, kind) and (twice or id(value) not in seen):
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), such as ("0.weight", ...); a shared parameter comes once."""
        return self._named(Parameter, prefix, recurse)  # type: ignore[return-value]

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters("", recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        return self._named(Buffer, prefix, recurse)  # type: ignore[return-value]

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        return (b for _, b in self.named_buffers("", recurse))

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """The same as `self.name = Buffer(tensor)`, in PyTorch's words."""
        setattr(self, name, None if tensor is None else Buffer(tensor, persistent))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as `self.name = param`, in PyTorch's words."""
        setattr(self, name, param)

    def add_module(self, name: str, module: Module) -> None:
        """The same as `self.name = module`, in PyTorch's words."""
        setattr(self, name, module)

    # Saving and loading

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and persistent buffers by name, detached; they share memory with the module."""
        named = self._named(Tensor, twice=True)
        return {
            name: value.detach()
            for name, value in named
            if isinstance(value, Parameter) or (isinstance(value, Buffer) and value.persistent)
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy values by name into the parameters and buffers; device and dtype of the module stay.

        Args:
            state_dict: name -> tensor or array, as `state_dict()` or `minigrad.load` give it.
            strict: names missing or left over are an error; otherwise they are returned.

        Raises:
            CheckpointError: lists every problem at once; the module is unchanged then.
        """
        if not isinstance(state_dict, Mapping):
            raise DtypeError(
                f"load_state_dict: expected a dict of tensors by name, got {type_name(state_dict)}"
                + _way_to_state_dict(state_dict)
            )
        own = self.state_dict()
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict:
            problems += [f"  missing: {name}" for name in missing]
            problems += [f"  unexpected: {name}" for name in unexpected]
        for name, value in state_dict.items():
            array = value.array if isinstance(value, Variable) else value
            if not backend.is_array(array) or array.dtype.kind not in "biuf":
                kind = f"an array of {array.dtype}" if backend.is_array(array) else type_name(value)
                problems.append(f"  {name}: expected a tensor or array of numbers, got {kind}")
            elif name in own and tuple(array.shape) != own[name].shape:
                problems.append(f"  shape of {name}: model {own[name].shape}, file {tuple(array.shape)}")
        if problems:
            raise CheckpointError(f"the weights do not fit {type(self).__name__}\n" + "\n".join(problems))
        for name, target in own.items():
            if name in state_dict:
                value = state_dict[name]
                target.copy_(value.detach() if isinstance(value, Tensor) else Tensor(value))
        return LoadResult(missing, unexpected)

    # Modes, devices, gradients

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and everything below it."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Evaluation mode: batch norm uses its running statistics, dropout does nothing."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters be learned, or freeze them."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad.zero_()

    def to(self, *where: Any, device: Any = None, dtype: Any = None) -> Self:
        """Move parameters and buffers, in place, to a device or a floating-point dtype, or both."""
        device, dtype = Tensor(0.0)._destination((*where, device, dtype))
        if dtype is not None and not is_float(dtype):
            raise DtypeError(f"Module.to: a module can only take a floating-point dtype, got {dtype}")
        for tensor in (*self.parameters(), *self.buffers()):
            changed = tensor.detach().to(*[w for w in (device,) if w is not None])
            if dtype is not None and is_float(changed.dtype):
                changed = changed.to(dtype)
            tensor.array = changed.array
            if tensor.grad is not None:
                tensor.grad = tensor.grad.to(tensor.device, tensor.dtype)
        return self

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, index: int = 0) -> Self:
        return self.to(f"cuda:{index}")

    def float(self) -> Self:
        return self.to(float32)

    def half(self) -> Self:
        return self.to(float16)

    def double(self) -> Self:
        return self.to(float64)

    def type(self, dtype: Any) -> Self:
        return self.to(as_dtype(dtype))

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call fn with every module, children first; the usual way to initialise weights."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def register_forward_hook(self, hook: Callable[..., Any]) -> Hook:
        """Call hook(module, args, result) after each forward; what it returns replaces the result."""
        return Hook(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Hook:
        """Call hook(module, args) before each forward; what it returns replaces the arguments."""
        return Hook(self._forward_pre_hooks, hook)

    # Printing

    def extra_repr(self) -> str:
        """What stands between the brackets when the layer is printed."""
        return ""

    def __repr__(self) -> str:
        kind, extra = type(self).__name__, self.extra_repr()
        children = [f"({name}): {child!r}" for name, child in self.named_children()]
        if not children:
            return f"{kind}({extra})"
        lines = "\n".join([extra, *children] if extra else children)
        return f"{kind}(\n{textwrap.indent(lines, '  ')}\n)"


def _way_to_state_dict(value: Any) -> str:
    """How what somebody took for a state dict becomes one."""
    if isinstance(value, (str, os.PathLike)):
        return f"; read the file first: load_state_dict(minigrad.load({os.fspath(value)!r}))"
    return "; use other.state_dict()" if isinstance(value, Module) else ""


def _forgot_init(module: Module) -> AttributeError:
    name = type(module).__name__
    return AttributeError(
        f"{name}.__init__ must call super().__init__() before it assigns layers or parameters"
    )
