"""What the tests of the kernels share: a run of layers beside its fused twin, on the same numbers.

The layers one after the other are the oracle. They run in float64, whatever the dtype of the fused run: then a
float32 result is compared with what is right, not with other rounding errors.

Where a maximum is taken, rounding can decide which of two nearly equal values wins, and with it where a gradient
goes. So the tests with pooling in float32 take whole multiples of 1/4 for pictures, weights and biases
(`grid`): all sums of such numbers are exact in both dtypes, equal values tie in both, and the winner is a
matter of the rule alone. Such data are full of ties, too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn.functional import conv
from tests.nn.support import ordered

# The same examples in every run.
some = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
few = settings(some, max_examples=25)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
BATCH_NORMS = {"affine": True, "plain": False, None: None}  # a block's batch norm: has it gamma and beta?
GAMMAS = ("positive", "negative", "mixed", "zero")
LIMIT = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-9}

Results = dict[str, np.ndarray]


# 1. Numbers ----------------------------------------------------------------------------------------------


def grid(rng: np.random.Generator, shape: tuple[int, ...], largest: int = 4) -> np.ndarray:
    """Multiples of 1/4 between -largest/4 and largest/4."""
    return rng.integers(-largest, largest + 1, shape) / 4


def set_parameters(net: nn.Module, rng: np.random.Generator, on_grid: bool, gamma: str) -> None:
    """Weights and biases from the grid or normally distributed; gamma of the kind named; running statistics."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw = grid if on_grid else lambda rng, shape: rng.standard_normal(shape)
            for p in layer.parameters():
                p.array = draw(rng, p.shape).astype(p.dtype)
        if isinstance(layer, NORMS):
            C = layer.num_features
            if layer.weight is not None and layer.bias is not None:
                size = 0.5 + rng.random(C)
                sign = {"positive": 1, "negative": -1, "zero": 0, "mixed": rng.integers(-1, 2, C)}[gamma]
                layer.weight.array = (size * sign).astype(layer.weight.dtype)
                layer.bias.array = rng.standard_normal(C).astype(layer.bias.dtype)
            if layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.array = rng.standard_normal(C).astype(layer.running_mean.dtype)
                layer.running_var.array = (0.5 + rng.random(C)).astype(layer.running_var.dtype)


def block(
    C: int = 2,
    O: int = 3,
    kernel: Any = 3,
    norm: str | None = "affine",
    activation: str | None = "sigmoid",
    pool: bool = True,
    gamma: str = "mixed",
    seed: int = 0,
    on_grid: bool = True,
    **options: Any,
) -> nn.Sequential:
    """The layers, in float64, with random parameters."""
    layers: list[nn.Module] = [nn.Conv2d(C, O, kernel, **options)]
    if norm:
        layers.append(nn.BatchNorm2d(O, affine=BATCH_NORMS[norm]))
    if activation:
        layers.append(ACTIVATIONS[activation]())
    if pool:
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential(*layers).to(np.float64)
    set_parameters(net, np.random.default_rng(seed), on_grid, gamma)
    return net


def pictures(
    shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0, on_grid: bool = True
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (grid(rng, shape) if on_grid else rng.standard_normal(shape)).astype(dtype)


# 2. A run of layers and its fused twin -------------------------------------------------------------------


def run(net: nn.Module, x: np.ndarray, gy_seed: int = 0) -> tuple[Results, str]:
    """Result, gradients and buffers by name, and the name of the operation that made the result."""
    leaf = mg.Tensor(x, requires_grad=True)
    net.zero_grad()
    y = net(leaf)
    made_by = type(y.grad_fn).__name__
    gy = np.random.default_rng(gy_seed).standard_normal(y.shape).astype(y.dtype)
    y.backward(ordered(gy, "backwards"))
    results = {"y": y.detach().numpy(), "gradient of x": leaf.grad.numpy()}
    results |= {f"gradient of {name}": p.grad.numpy() for name, p in net.named_parameters()}
    results |= {name: b.numpy().copy() for name, b in net.named_buffers()}
    return results, made_by


@contextmanager
def readable_convolution() -> Iterator[None]:
    """Conv2d as nn/functional/conv.py writes it down, which is the kernels' oracle, and not by the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "_has_a_kernel", lambda *_: False)
        yield


def same_layers(net: nn.Module, dtype: Any = np.float64) -> nn.Module:
    """A copy in another dtype."""
    return copy.deepcopy(net).to(dtype)


def compare(
    net: nn.Sequential, x: np.ndarray, fused: bool = True, limit: float | None = None, gy_seed: int = 0
) -> None:
    """The compiled layers give what the layers give in float64; `fused`: whether one operation does it all."""
    dtype = x.dtype
    with readable_convolution():
        expected, _ = run(same_layers(net), x.astype(np.float64), gy_seed)
    found, made_by = run(mg.compile(same_layers(net, dtype)), x, gy_seed)
    assert made_by.endswith("Block") == fused, f"made by {made_by}"
    assert list(found) == list(expected)
    sizes = without_feedback(net, x, gy_seed)
    for name, e in expected.items():
        f = found[name]
        assert f.shape == e.shape, name
        assert f.dtype == (dtype if e.dtype.kind == "f" else e.dtype), name
        largest = max(np.abs(e).max(), np.abs(sizes[name]).max())
        atol = (LIMIT[dtype] if limit is None else limit) * largest
        np.testing.assert_allclose(f, e, rtol=0, atol=atol, err_msg=name)
    if len(net) > 1 and isinstance(net[1], NORMS) and fused and net[0].bias is not None:
        # Batch norm takes this bias away again. The fused operation knows that its gradient is 0; the layers
        # add up rounding errors, for which `largest` above allows.
        np.testing.assert_array_equal(found["gradient of 0.bias"], 0)


def without_feedback(net: nn.Sequential, x: np.ndarray, gy_seed: int) -> Results:
    """The same with mean and variance of this batch taken for constants: how large things are that cancel.

    A batch norm that computes its own statistics subtracts from each gradient what would move mean and
    variance. Hardly anything may be left of it: nothing at all for the bias before it, nothing but rounding
    errors where a channel is constant. Errors are relative to what there was before.
    """
    twin = same_layers(net)
    for layer in twin.modules():
        if isinstance(layer, NORMS):
            layer.momentum = 1.0  # running statistics = those of the last batch
    with mg.no_grad():
        twin(mg.Tensor(x.astype(np.float64)))
    sizes, _ = run(twin.eval(), x.astype(np.float64), gy_seed)
    if len(net) > 1 and isinstance(net[1], NORMS):
        sizes["y"] = np.maximum(np.abs(sizes["y"]), 1)  # xhat is about 1
    if "gradient of 1.weight" in sizes:  # a sum of gy * xhat, beside a sum of gy
        sizes["gradient of 1.weight"] = np.maximum(
            np.abs(sizes["gradient of 1.weight"]), np.abs(sizes["gradient of 1.bias"])
        )
    return sizes


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = mg.get_num_threads()
    mg.set_num_threads(n)
    try:
        yield
    finally:
        mg.set_num_threads(before)


def same_bits_for_every_number_of_threads(net: nn.Sequential, x: np.ndarray) -> None:
    """Results, gradients and buffers of the compiled layers do not depend on the number of threads."""
    found = []
    for n in (1, 2, 3):
        with threads(n):
            found.append(run(mg.compile(copy.deepcopy(net)), x)[0])
    for name, expected in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], expected, err_msg=name)
