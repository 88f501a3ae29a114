"""Blocks of layers with a convolution, on batches that are worked on in several pieces, by several threads."""

from typing import Any

import numpy as np
import pytest

from minigrad import nn
from minigrad.kernels.cpu.conv import make_plan, pieces
from tests.kernels import support
from tests.kernels.support import block, compare, pictures

DTYPES = [np.float32, np.float64]


def shards(net: nn.Sequential, x: np.ndarray) -> list[slice]:
    conv: Any = net[0]
    pooled = isinstance(net[len(net) - 1], nn.MaxPool2d)
    plan = make_plan(x.shape[1:], conv.weight.shape, conv.stride, conv.padding, pooled, x.itemsize, len(x))
    return pieces(len(x), plan)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("N", [1, 2, 3, 7, 15, 16, 17, 31, 33, 40])
def test_small_batches(N, dtype):
    compare(block(), pictures((N, 2, 8, 8), dtype))


@pytest.mark.parametrize("N", [160, 257])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("norm", ["affine", None])
def test_batches_of_the_recipe(N, pool, norm):
    x = pictures((N, 6, 12, 12), np.float32)
    net = block(6, 16, 5, norm, pool=pool)
    assert len(shards(net, x)) > 1
    compare(net, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "sizes"), [(191, [96, 95]), (192, [96, 96]), (193, [112, 81])])
def test_around_the_size_of_a_shard(N, sizes, dtype):
    net = block(1, 2, 3)
    x = pictures((N, 1, 28, 28), dtype)
    assert [part.stop - part.start for part in shards(net, x)] == sizes
    compare(net, x)


@pytest.mark.parametrize("levels", [(1e4, 0), (0, 1e4), (1e4, -1e4)])
@pytest.mark.parametrize("pool", [True, False])
def test_shards_far_from_each_other(pool, levels):
    """Each takes its own mean away, or none; batch norm is that of the whole batch all the same."""
    net = block(1, 2, 3, pool=pool)
    x = pictures((192, 1, 28, 28))
    for part, level in zip(shards(net, x), levels, strict=True):
        x[part] += level
    compare(net, x)


@pytest.mark.parametrize("pool", [True, False])
def test_same_bits_for_every_number_of_threads(pool):
    x = pictures((300, 6, 12, 12), np.float32, on_grid=False)
    net = block(6, 16, 5, pool=pool, on_grid=False).to(np.float32)
    assert len(shards(net, x)) > 1
    support.same_bits_for_every_number_of_threads(net, x)
