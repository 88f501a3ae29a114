"""Layers and models print as in PyTorch."""

from collections import OrderedDict
from typing import Any

import pytest

import minigrad as mg
from minigrad import nn


def layers(lib: Any) -> list[Any]:
    return [
        lib.Sequential(
            OrderedDict(
                features=lib.Sequential(
                    lib.Conv2d(1, 6, 5), lib.Sigmoid(), lib.MaxPool2d(2, 2), lib.AvgPool2d(3, 1, 1)
                ),
                head=lib.Sequential(lib.Flatten(), lib.Linear(6, 2, bias=False), lib.Softmax(dim=1)),
            )
        ),
        lib.Conv2d(2, 4, (3, 1), stride=2, padding=(1, 0), dilation=2, groups=2, bias=False),
        lib.Conv2d(2, 4, 3, padding="same"),
        lib.MaxPool2d(3, 2, 1, 1, ceil_mode=True),
        lib.AdaptiveAvgPool2d((1, None)),
        lib.ReLU(),
        lib.LeakyReLU(0.2),
        lib.GELU(approximate="tanh"),
        lib.Softplus(),
        lib.Tanh(),
        lib.LogSoftmax(-1),
        lib.Identity(),
        lib.Dropout(0.2),
        lib.CrossEntropyLoss(),
        lib.MSELoss(),
        lib.ModuleList([lib.ReLU(), lib.Tanh()]),
    ]


@pytest.mark.parity
def test_layers_print_as_in_torch(torch):
    for ours, theirs in zip(layers(nn), layers(torch.nn), strict=True):
        assert repr(ours) == repr(theirs)


def test_normalisation_prints_its_arguments():
    assert (
        repr(nn.BatchNorm2d(6))
        == "BatchNorm2d(6, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    )
    assert repr(nn.BatchNorm(6, 4)) == "BatchNorm(6, num_dims=4, eps=1e-05, momentum=0.9)"
    assert repr(nn.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05, affine=True)"
    assert repr(nn.LayerNorm(3)) == "LayerNorm((3,), eps=1e-05, elementwise_affine=True)"


def test_own_modules_print_their_remarks_and_children():
    class Scaled(nn.Sequential):
        def extra_repr(self) -> str:
            return "scale=2"

    assert repr(Scaled(nn.ReLU())) == "Scaled(\n  scale=2\n  (0): ReLU()\n)"
    assert repr(Scaled()) == "Scaled(scale=2)"
    assert repr(nn.Module()) == "Module()"


def test_parameters_print_like_torch():
    assert repr(nn.Parameter(mg.zeros(2))) == "Parameter containing:\ntensor([0., 0.], requires_grad=True)"
