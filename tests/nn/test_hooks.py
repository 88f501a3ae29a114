"""Hooks before and after forward: what they see, what they change, how they go away."""

from typing import Any

import pytest

import minigrad as mg
from minigrad import nn


def test_hooks_see_and_change_arguments_and_result():
    layer, seen = nn.Linear(2, 1), []
    x = mg.ones(1, 2)
    before = layer.register_forward_pre_hook(lambda m, args: seen.append(("before", m, args)))
    after = layer.register_forward_hook(lambda m, args, y: seen.append(("after", m, args, y)))
    y = layer(x)
    assert seen[0] == ("before", layer, (x,))
    assert seen[1][:3] == ("after", layer, (x,))
    assert seen[1][3] is y
    before.remove()
    after.remove()
    layer(x)
    assert len(seen) == 2
    layer.register_forward_pre_hook(lambda m, args: args[0] * 0)
    layer.register_forward_hook(lambda m, args, y: y + 1)
    layer.register_forward_hook(lambda m, args, y: y * 2)  # hooks run in the order of registration
    assert layer(x).item() == pytest.approx(2 * (layer.bias.item() + 1))


def test_a_pre_hook_may_return_all_arguments():
    class Add(nn.Module):
        def forward(self, a: Any, b: Any, scale: Any = 1) -> Any:
            return (a + b) * scale

    add = Add()
    add.register_forward_pre_hook(lambda m, args: (args[0], 10))
    assert add(1, 2, scale=3) == 33


def test_removing_twice_takes_away_only_its_own_hook():
    layer, calls = nn.Identity(), []

    def hook(module: nn.Module, args: Any, result: Any) -> None:
        calls.append(1)

    first = layer.register_forward_hook(hook)
    layer.register_forward_hook(hook)
    first.remove()
    first.remove()
    layer(mg.ones(1))
    assert len(calls) == 1


def test_a_hook_may_remove_itself():
    layer, calls = nn.Identity(), []
    handles = [
        layer.register_forward_hook(lambda *_: (calls.append(1), handles[0].remove())[1]) for _ in range(1)
    ]
    layer(1)
    layer(1)
    assert len(calls) == 1
