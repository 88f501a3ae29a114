"""What a training step needs beside the layers: loss, figures, optimizers, and the next batch."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.data.transforms import Compose, Normalize, ToFloat
from minigrad.kernels.cuda import gather, loss, optim
from tests import oracles

DTYPES = [np.float32, np.float64]
pytestmark = pytest.mark.usefixtures("launcher")


def near(found, expected, dtype, limit=None):
    assert found.dtype == dtype
    atol = {np.float32: 1e-6, np.float64: 1e-13}[dtype] if limit is None else limit
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol * max(1, np.abs(expected).max()))


# 1. The loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "classes"), [(1, 1), (5, 2), (7, 10), (3, 33), (4, 64), (3, 65), (2, 700)])
def test_cross_entropy(N, classes, dtype):
    rng = np.random.default_rng(0)
    x, labels = (4 * rng.standard_normal((N, classes))).astype(dtype), rng.integers(0, classes, N)
    found = loss.cross_entropy(x, labels)
    for n in range(N):
        log_p = np.array(oracles.log_softmax([float(v) for v in x[n]]))
        near(found.losses[n : n + 1], [-log_p[labels[n]]], dtype)
        near(found.gx[n], (np.exp(log_p) - (np.arange(classes) == labels[n])) / N, dtype)
    np.testing.assert_array_equal(found.state, x.argmax(1) == labels)
    assert loss.cross_entropy(x, labels, need_gradient=False).gx is None
    near(loss.cross_entropy(x, labels, scale=3.0).gx, found.gx.astype(float) * 3 * N, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_do_not_overflow(dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    found = loss.cross_entropy(x, np.array([0, 1]))
    near(found.losses, [0, math.log(3)], dtype)
    near(loss.cross_entropy(x, np.array([1, 1])).losses, [2e4, math.log(3)], dtype)


def test_of_equal_scores_the_first_is_the_answer():
    x = np.zeros((3, 300))
    x[1, [40, 290]] = 1
    x[2, [3, 259]] = 2  # both with the same thread
    np.testing.assert_array_equal(loss.cross_entropy(x, np.array([0, 40, 3])).state, [1, 1, 1])
    np.testing.assert_array_equal(loss.cross_entropy(x, np.array([1, 290, 259])).state, [0, 0, 0])


@pytest.mark.parametrize("label", [-1, 10, -100, 2**40])
def test_a_label_that_is_no_class_is_counted_and_picks_nothing(label):
    x = np.random.default_rng(0).standard_normal((4, 10))
    labels = np.array([1, label, 2, x[3].argmax()])
    rows = loss.cross_entropy(x, labels)
    assert rows.state[1] == -1
    assert rows.losses[1] == 0
    np.testing.assert_array_equal(rows.gx[1], 0)
    counts = np.zeros(3, np.int64)
    loss.finish_batch(rows, counts=counts)
    assert counts.tolist() == [(rows.state == 1).sum(), 1, 4]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("N", [1, 255, 256, 257, 600])
def test_figures_of_an_epoch(N, dtype):
    rng = np.random.default_rng(0)
    mean, loss_sum = np.full(4, 7, dtype), np.zeros(1)
    counts, counters = np.zeros(3, np.int64), np.array([0, 100])
    total = right = 0
    for batch in range(3):
        losses = rng.random(N).astype(dtype)
        state = rng.integers(0, 2, N).astype(np.int32)
        loss.finish_batch(loss.Rows(losses, state, None), mean, loss_sum, counts, counters)
        total, right = total + losses.sum(dtype=np.float64), right + state.sum()
        near(mean[batch], losses.mean(dtype=np.float64), dtype)
        assert (mean[batch + 1 :] == 7).all()  # each batch writes its own place
    only = np.zeros(1, dtype)
    loss.finish_batch(loss.Rows(losses, state, None), only)  # without counters there is one place
    np.testing.assert_array_equal(only, mean[2:3])
    np.testing.assert_allclose(loss_sum, total, rtol=1e-14)
    assert counts.tolist() == [right, 0, 3 * N]
    assert counters.tolist() == [3, 103]
    loss.finish_batch(loss.Rows(losses, state, None))  # nothing asked for
    assert counts[2] == 3 * N


# 2. Optimizers -------------------------------------------------------------------------------------------


def by_the_optimizer(kind, start, gradients, options):
    """Parameters after steps of minigrad.optim on the host."""
    p = mg.tensor(start.copy(), requires_grad=True)
    optimizer = kind([p], **options)
    for g in gradients:
        p.grad = mg.tensor(g)
        optimizer.step()
    return p.detach().numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.3, "maximize": True},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.01},
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 256, 1000])
def test_sgd(n, options, dtype):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(n).astype(dtype), rng.standard_normal((4, n)).astype(dtype)
    p, v = start.copy(), np.full(n, np.nan, dtype)  # the first step must not read v
    hyper, steps = optim.sgd_hyper(**options), np.zeros(1, np.int64)
    for g in gradients:
        optim.sgd(p, g, v if options.get("momentum") else None, hyper, steps)
        steps += 1
    near(p, by_the_optimizer(mg.optim.SGD, start, gradients, options), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.3, "maximize": True},
        {"lr": 0.1, "amsgrad": True},
        {"lr": 0.1, "weight_decay": 0.3, "decoupled": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 256, 1000])
def test_adam(n, options, dtype):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(n).astype(dtype), rng.standard_normal((4, n)).astype(dtype)
    gradients[2] /= 10  # then the largest v so far is not the last one
    options = dict(options)
    kind = mg.optim.AdamW if options.get("decoupled") else mg.optim.Adam
    amsgrad = options.pop("amsgrad", False)
    hyper, steps = optim.adam_hyper(**options), np.zeros(1, np.int64)
    options.pop("decoupled", None)
    p, m, v, largest = start.copy(), *np.zeros((3, n), dtype)
    for g in gradients:
        optim.adam(p, g, m, v, hyper, steps, largest if amsgrad else None)
        steps += 1
    near(p, by_the_optimizer(kind, start, gradients, {**options, "amsgrad": amsgrad}), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pack(dtype):
    """The addresses are those of the arrays themselves, which the emulator can read, too."""
    arrays = [
        np.random.default_rng(k).standard_normal(n).astype(dtype) for k, n in enumerate((3, 700, 1, 64))
    ]
    lengths = [a.size for a in arrays]
    flat = np.full(sum(lengths), np.nan, dtype)
    addresses = np.array([a.ctypes.data for a in arrays])
    optim.pack(addresses, np.cumsum([0, *lengths]), flat, lengths)
    np.testing.assert_array_equal(flat, np.concatenate(arrays))


# 3. The next batch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_of_an_epoch(channels, dtype):
    """Every batch as the transform makes it on the host, bit for bit; the last one is short."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (23, channels, 20, 19)).astype(np.uint8)
    labels, order = rng.integers(0, 10, 23), rng.permutation(23)
    transform = Compose([ToFloat(), Normalize([0.2, 0.3, 0.4][:channels], [0.5, 0.6, 0.7][:channels])])
    table = gather.byte_table(transform, channels, dtype)
    assert table.shape == (channels, 256)
    position = np.zeros(1, np.int64)
    for first in range(0, 23, 8):
        rows = order[first : first + 8]
        x, y = np.full((len(rows), channels, 20, 19), np.nan, dtype), np.full(len(rows), -1)
        gather.gather_batch(images, labels, table, order, position, x, y, 8)
        np.testing.assert_array_equal(x, transform(images[rows]).astype(dtype))
        np.testing.assert_array_equal(y, labels[rows])
        position += 1
    x, y = np.zeros((8, channels, 20, 19), dtype), np.zeros(8, np.int64)
    gather.gather_batch(
        images, labels, table, order, np.ones(1, np.int64), x, y
    )  # batch: as many as x has rows
    np.testing.assert_array_equal(y, labels[order[8:16]])
