"""Modules made of modules: one after the other, or in a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from minigrad.errors import ArgumentError, MinigradError, OutOfRangeError
from minigrad.nn.module import Module
from minigrad.shapes import as_int

__all__ = ["ModuleList", "Sequential", "note_layer"]


def note_layer(error: BaseException, name: str, layer: Any) -> None:
    """Add to an error the layer that it came from, in one line; nested containers add a line each."""
    shown = layer if isinstance(layer, str) else repr(layer)
    error.add_note(f"in layer {name}: {type(layer).__name__ if chr(10) in shown else shown}")


class _Numbered(Module):
    """Children with the names "0", "1", ..., or with names of their own."""

    def _append(self, module: Any, name: str | None = None) -> None:
        self._check(module, len(self))
        if name is None:
            number = len(self)
            while hasattr(self, str(number)):  # a slice keeps its names, so a number may be taken
                number += 1
            name = str(number)
        elif not name or "." in name or hasattr(self, name):
            raise ArgumentError(
                f"{type(self).__name__}: a module cannot have the name {name!r}; "
                "choose one without a dot that is no attribute yet"
            )
        setattr(self, name, module)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self._append(module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        for module in modules:
            self._append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before number `index`; the numbers of those behind it go up by one."""
        self._check(module, index)
        kind, modules = type(self).__name__, list(self.children())
        if [name for name, _ in self.named_children()] != [str(i) for i in range(len(modules))]:
            raise ArgumentError(
                f"{kind}.insert: the modules have names of their own, which would move; "
                f"make a new {kind} from the list"
            )
        number = as_int(index, f"{kind} index")
        if not -len(modules) <= number <= len(modules):
            raise OutOfRangeError(f"{kind} has {len(modules)} modules, there is no place {number}")
        modules.insert(number, module)
        for i, child in enumerate(modules):
            setattr(self, str(i), child)
        return self

    def _check(self, module: Any, number: int) -> None:
        if not isinstance(module, Module):
            kind = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
            raise ArgumentError(
                f"{type(self).__name__}: item {number} must be a Module, got {kind}"
                + (f"; write {module.__name__}(...)" if isinstance(module, type) else "")
            )

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: Any) -> Any:
        """One module, or a container of the same kind for a slice."""
        modules = list(self.children())
        if isinstance(index, slice):
            return self._slice(index)
        return modules[self._number(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self._check(module, index)
        names = [name for name, _ in self.named_children()]
        setattr(self, names[self._number(index)], module)

    def _number(self, index: Any) -> int:
        number = as_int(index, f"{type(self).__name__} index")
        if not -len(self) <= number < len(self):
            raise OutOfRangeError(
                f"{type(self).__name__} has {len(self)} modules, there is no number {number}"
            )
        return number

    def _slice(self, index: slice) -> Any:
        raise NotImplementedError


class Sequential(_Numbered):
    """Layers one after the other: the output of each is the input of the next.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Sigmoid())
    >>> net(mg.ones(1, 3)).shape
    (1, 2)
    >>> net
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): Sigmoid()
    )
    """

    def __init__(self, *modules: Any):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._append(module, name)
        else:
            for module in modules:
                self._append(module)

    def forward(self, x: Any) -> Any:
        step: tuple[str, Module] = ("", self)
        try:
            for step in self.named_children():
                x = step[1](x)
        except MinigradError as error:
            note_layer(error, *step)
            raise
        return x

    def _slice(self, index: slice) -> Sequential:
        """The same modules under their old names, as in PyTorch."""
        part = Sequential()
        for name, module in list(self.named_children())[index]:
            part._append(module, name)
        return part


class ModuleList(_Numbered):
    """A list of modules whose parameters are found; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def _slice(self, index: slice) -> ModuleList:
        return ModuleList(list(self.children())[index])
