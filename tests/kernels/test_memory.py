"""Memory that is used again is never handed out while somebody still looks at it."""

import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.kernels.cpu import memory
from minigrad.kernels.cpu.memory import SMALLEST, empty
from tests.kernels.support import threads

COUNT = SMALLEST  # float32 values: four times the smallest size that is kept


@pytest.fixture(autouse=True)
def empty_shelves():
    memory._shelves.clear()


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(
    "shape", [(), (0,), (3,), (2, 0, 5), (7, 11), (COUNT,), (3, 4, COUNT), (2, 1, COUNT, 3)]
)
def test_shape_dtype_and_order(shape, dtype):
    for _ in range(2):  # fresh, and used before
        x = empty(shape, dtype)
        assert x.shape == shape
        assert x.dtype == dtype
        assert x.flags.c_contiguous
        assert x.flags.writeable
        assert x.flags.aligned
        x[...] = 1
        assert x.sum(dtype=np.float64) == x.size
        del x


def test_memory_is_used_again_in_any_shape_and_dtype():
    x = empty((COUNT,), np.float32)
    place = address(x)
    del x
    assert address(empty((2, COUNT // 4), np.float64)) == place


def test_two_arrays_in_use_never_share_memory():
    a, b = empty((COUNT,), np.float32), empty((COUNT,), np.float32)
    assert not np.shares_memory(a, b)
    del a
    c, d = empty((COUNT,), np.float32), empty((COUNT,), np.float32)
    assert not np.shares_memory(b, c)
    assert not np.shares_memory(b, d)
    assert not np.shares_memory(c, d)


VIEWS = {
    "slice": lambda x: x[5:7],
    "step": lambda x: x[::-3],
    "reshape": lambda x: x.reshape(2, -1),
    "transpose": lambda x: x.reshape(4, -1).T,
    "dtype": lambda x: x.view(np.uint8),
    "view of a view": lambda x: x[10:].reshape(3, -1)[1, 3:9] if (x.size - 10) % 3 == 0 else x[10:][4:],
    "strides": lambda x: np.lib.stride_tricks.as_strided(x, (3, 3), (4, 8)),
    "memoryview": memoryview,
    "iterator": iter,
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_keeps_the_memory(kind):
    x = empty((COUNT,), np.float32)
    view, place = VIEWS[kind](x), address(x)
    del x
    others = [empty((COUNT,), np.float32) for _ in range(4)]
    assert place not in map(address, others)
    del view
    assert address(empty((COUNT,), np.float32)) == place


def test_small_arrays_are_left_to_numpy():
    x = empty((SMALLEST - 1,), np.uint8)
    del x
    assert not memory._shelves
    x = empty((SMALLEST,), np.uint8)
    del x
    assert list(memory._shelves) == [SMALLEST]


def test_only_so_many_arrays_of_one_size_are_kept():
    arrays = [empty((COUNT,), np.float32) for _ in range(memory.SHELF_LIMIT + 5)]
    arrays.clear()
    assert {size: len(shelf) for size, shelf in memory._shelves.items()} == {4 * COUNT: memory.SHELF_LIMIT}


def test_only_so_many_sizes_are_kept_those_used_last():
    """Batches of many sizes must not fill the memory."""
    for extra in range(3 * memory.SIZES):
        empty((COUNT + extra,), np.float32)
        empty((COUNT,), np.float32)
    kept = sorted(memory._shelves)
    assert len(kept) == memory.SIZES
    assert kept[0] == 4 * COUNT  # used each time, so it stays
    assert kept[1:] == [4 * (COUNT + extra) for extra in range(2 * memory.SIZES + 1, 3 * memory.SIZES)]


def take_and_leave(seed, failures):
    """Take and leave arrays at random; each one in use is full of its own number, and has to stay so."""
    rng = np.random.default_rng(seed)
    held = {}
    for step in range(400):
        number = 1000 * seed + step
        x = empty((int(rng.integers(1, 3)), COUNT // 4), np.float32)
        x[...] = number
        held[number] = x[:, ::7] if rng.random() < 0.3 else x  # some keep only a view
        del x
        if len(held) > 6:
            number = list(held)[int(rng.integers(len(held)))]
            if not (held.pop(number) == number).all():
                failures.append(number)


def test_nothing_in_use_is_overwritten():
    failures = []
    take_and_leave(1, failures)
    assert failures == []
    assert memory._shelves  # some of it was used again


def test_nothing_in_use_is_overwritten_by_other_threads():
    failures = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [threading.Thread(target=take_and_leave, args=(k, failures)) for k in range(1, 5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert failures == []


def test_the_end_of_the_program_is_silent():
    """Arrays that live until the end find the shelves gone."""
    code = """
import builtins, sys
from minigrad.kernels.cpu.memory import empty
class Node: pass
node = Node()
node.itself, node.x = node, empty((100000,), "float32")
sys.kept = empty((100000,), "float32")
builtins.kept = empty((100000,), "float32")
x = empty((100000,), "float32")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def peak(net, x):
    memory._shelves.clear()
    tracemalloc.start()
    try:
        net(x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def several_shards():
    with threads(1):
        yield mg.zeros(128, 16, 32, 32)


def test_a_plain_convolution_keeps_no_more_with_gradients_than_without(several_shards):
    """Its backward needs x alone, so the memory of a shard is free for the next one."""
    conv, x = nn.Conv2d(16, 16, 3, padding=1), several_shards
    assert peak(conv, x) < peak(conv.requires_grad_(False), x) + x.array.nbytes / 4


def test_a_block_keeps_nothing_where_no_gradient_is_asked_for(several_shards):
    conv, x = nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False), several_shards
    block = mg.compile(nn.Sequential(conv, nn.Sigmoid()))
    assert "fused" in repr(block)
    assert peak(block, x) < peak(conv, x) + x.array.nbytes / 4
