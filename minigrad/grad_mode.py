"""Whether operations are remembered for a backward pass: `no_grad` and its relatives.

The switch belongs to the thread, as in PyTorch.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being remembered for a backward pass."""
    return _mode.enabled


class set_grad_enabled:
    """Remember operations or not, from here on, or for a `with` block."""

    def __init__(self, mode: bool):
        self.before = _mode.enabled
        _mode.enabled = self.mode = bool(mode)

    def __enter__(self) -> None:
        _mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = self.before


class _GradMode:
    mode: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """An object for `with`; for the decorator `@no_grad` without parentheses the decorated function."""
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        self.before: list[bool] = []  # a stack, so that one object can be entered again inside itself

    def __enter__(self) -> None:
        self.before.append(_mode.enabled)
        _mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = self.before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            with type(self)():  # one object for each call: calls in several threads must not share a stack
                return function(*args, **options)

        return wrapper


class no_grad(_GradMode):
    """A `with` block or decorator in which no operation is remembered.

    >>> import minigrad as mg
    >>> w = mg.ones(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = w * 2
    >>> y.requires_grad
    False
    """

    mode = False


class enable_grad(_GradMode):
    """A `with` block or decorator in which operations are remembered, also inside `no_grad`."""

    mode = True
