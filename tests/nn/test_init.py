"""Starting values: bounds and variances by formula, fans as PyTorch counts them, seeds."""

import math
from fractions import Fraction

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import init

SHAPES = [(120, 256), (16, 6, 5, 5), (6, 1, 5, 5), (8, 4, 3), (4, 3, 2, 2, 2), (1, 1)]
RANDOM = {
    "uniform_": lambda w, **o: init.uniform_(w, -1, 2, **o),
    "normal_": lambda w, **o: init.normal_(w, 1, 2, **o),
    "trunc_normal_": lambda w, **o: init.trunc_normal_(w, 0, 1, -1, 2, **o),
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "orthogonal_": init.orthogonal_,
}


def values(tensor):
    return tensor.detach().cpu().numpy()


# 1. Fans and gains -----------------------------------------------------------------------------------------


def test_fans_by_counting_connections():
    """fan_in: inputs that one output looks at. fan_out: outputs that look at one input, amid a picture."""
    out, channels, k, size = 3, 2, 3, 9
    looks = np.zeros((out, size, size, channels, size, size), dtype=bool)
    for p in range(size - k + 1):
        for q in range(size - k + 1):
            looks[:, p, q, :, p : p + k, q : q + k] = True
    counted = looks[0, 4, 4].sum(), looks[:, :, :, 0, 4, 4].sum()
    assert init.fans(mg.zeros(out, channels, k, k)) == counted == (18, 27)
    assert init.fans(mg.zeros(out, channels)) == (channels, out)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 0)])
def test_fans_like_pytorch(shape, torch):
    assert init.fans(mg.zeros(shape)) == torch.nn.init._calculate_fan_in_and_fan_out(torch.zeros(shape))


GAINS = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "sigmoid", "tanh", "relu", "selu"]


def test_gains_like_pytorch(torch):
    for name in GAINS:
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    for slope in (None, 0, 0.2, 1, math.sqrt(5)):
        expected = torch.nn.init.calculate_gain("leaky_relu", slope)
        assert init.calculate_gain("leaky_relu", slope) == expected


def test_gain_of_relu_keeps_the_variance():
    """Half of a symmetric variance survives a ReLU, so weights have to carry twice as much."""
    x = np.random.default_rng(0).normal(size=1_000_000)
    assert init.calculate_gain("relu") ** 2 * np.mean(np.maximum(x, 0) ** 2) == pytest.approx(1, rel=0.01)
    leaky = np.where(x > 0, x, 0.3 * x)
    assert init.calculate_gain("leaky_relu", 0.3) ** 2 * np.mean(leaky**2) == pytest.approx(1, rel=0.01)


# 2. Distributions ------------------------------------------------------------------------------------------

SHAPE = (160, 30, 5, 5)  # 120,000 numbers, fan_in 750, fan_out 4000


def check_uniform(w, bound):
    """Within the bounds, nearly touching them, and as many in each tenth."""
    w = values(w)
    assert np.abs(w).max() <= bound * (1 + 1e-6)
    assert np.abs(w).max() > bound * 0.999
    counts, _ = np.histogram(w, bins=10, range=(-bound, bound))
    np.testing.assert_allclose(counts, w.size / 10, rtol=0.05)


def check_normal(w, std):
    """Mean, standard deviation and the parts within one and two standard deviations."""
    w = values(w).astype(np.float64)
    assert abs(w.mean()) < 5 * std / math.sqrt(w.size)
    assert w.std() == pytest.approx(std, rel=0.01)
    assert np.mean(np.abs(w) < std) == pytest.approx(0.6827, abs=0.01)
    assert np.mean(np.abs(w) < 2 * std) == pytest.approx(0.9545, abs=0.01)


def test_xavier():
    check_uniform(init.xavier_uniform_(mg.zeros(SHAPE)), math.sqrt(6 / 4750))
    check_uniform(init.xavier_uniform_(mg.zeros(SHAPE), gain=3), 3 * math.sqrt(6 / 4750))
    check_normal(init.xavier_normal_(mg.zeros(SHAPE)), math.sqrt(2 / 4750))
    check_normal(init.xavier_normal_(mg.zeros(SHAPE), gain=3), 3 * math.sqrt(2 / 4750))


@pytest.mark.parametrize(
    ("options", "variance"),
    [
        ({}, Fraction(2, 750)),
        ({"mode": "fan_out"}, Fraction(2, 4000)),
        ({"nonlinearity": "relu", "a": 7}, Fraction(2, 750)),  # a has a meaning for leaky_relu only
        ({"nonlinearity": "linear"}, Fraction(1, 750)),
        ({"a": 2}, Fraction(2, 5 * 750)),
        ({"a": 2, "mode": "fan_out"}, Fraction(2, 5 * 4000)),
    ],
    ids=str,
)
def test_kaiming(options, variance):
    check_uniform(init.kaiming_uniform_(mg.zeros(SHAPE), **options), math.sqrt(3 * variance))
    check_normal(init.kaiming_normal_(mg.zeros(SHAPE), **options), math.sqrt(variance))


def test_uniform_and_normal():
    w = values(init.uniform_(mg.zeros(100_000), 2, 5))
    check_uniform(mg.tensor(w - 3.5), 1.5)
    w = values(init.normal_(mg.zeros(100_000), 7, 2))
    check_normal(mg.tensor(w - 7), 2)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0, 1, -2, 2), (1, 2, -1, 2), (0, 1, 1, 3), (5, 1, 3, 99)]
)
def test_trunc_normal(mean, std, a, b):
    """Against the density of the normal, cut off and scaled up."""
    w = values(init.trunc_normal_(mg.zeros(50_000), mean, std, a, b))
    assert a <= w.min()
    assert w.max() <= b
    top = min(b, mean + 6 * std)
    edges = np.linspace(a, top, 6)
    cdf = np.array([math.erf((x - mean) / std / math.sqrt(2)) for x in edges])
    expected = np.diff(cdf) / (cdf[-1] - cdf[0])
    counts, _ = np.histogram(w, bins=edges)
    np.testing.assert_allclose(counts / w.size, expected, atol=0.01)


def test_plain_values():
    w = mg.zeros(2, 3)
    assert values(init.constant_(w, 0.5)).tolist() == [[0.5] * 3] * 2
    assert values(init.ones_(w)).tolist() == [[1.0] * 3] * 2
    assert values(init.zeros_(w)).tolist() == [[0.0] * 3] * 2
    assert values(init.eye_(w)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert values(init.eye_(mg.zeros(3, 2))).tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (6, 2, 2, 2), (2, 3, 3, 3), (1, 4)])
def test_orthogonal(shape):
    w = values(init.orthogonal_(mg.zeros(shape, dtype=mg.float64), gain=2)).reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_prefers_no_direction():
    """Without the sign correction the diagonal of Q would lean to one side."""
    rng = np.random.default_rng(0)
    drawn = [values(init.orthogonal_(mg.zeros(2, 2), generator=rng)) for _ in range(2000)]
    assert np.abs(np.mean(drawn, axis=0)).max() < 0.08


# 3. What holds for all -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_returns_the_tensor_and_writes_into_its_memory(name):
    w = mg.zeros(6, 4, requires_grad=True)
    memory = w.array
    assert RANDOM[name](w) is w
    assert w.array is memory
    assert w.is_leaf
    assert w.requires_grad
    assert np.any(memory != 0)


@pytest.mark.parametrize("name", RANDOM)
def test_one_seed_one_result(name, device):
    """On every device, in both dtypes (but for rounding), from either source."""
    mg.manual_seed(3)
    first = values(RANDOM[name](mg.zeros(6, 4, dtype=mg.float64)))
    mg.manual_seed(3)
    w = RANDOM[name](mg.zeros(6, 4, device=device))
    assert w.device.type == device
    assert w.dtype == mg.float32
    np.testing.assert_array_equal(values(w), first.astype(np.float32))
    before = mg.backend.random.get_state()
    given = RANDOM[name](mg.zeros(6, 4, dtype=mg.float64), generator=np.random.default_rng(3))
    np.testing.assert_array_equal(values(given), first)
    assert mg.backend.random.get_state() == before  # the common generator was left alone


@pytest.mark.parametrize("name", RANDOM)
def test_any_memory_order(name):
    mg.manual_seed(3)
    rows = values(RANDOM[name](mg.zeros(6, 4, dtype=mg.float64)))
    mg.manual_seed(3)
    columns = mg.Tensor(np.zeros((6, 4), order="F"))
    np.testing.assert_array_equal(values(RANDOM[name](columns)), rows)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_fill(name, shape):
    assert RANDOM[name](mg.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: init.xavier_uniform_(mg.zeros(3)),
            r"need a weight of at least 2 dimensions, got shape \(3,\)",
        ),
        (lambda: init.kaiming_normal_(mg.zeros(3)), "need a weight of at least 2 dimensions"),
        (
            lambda: init.orthogonal_(mg.zeros(3)),
            r"init.orthogonal_: needs at least 2 dimensions, got .*\(3,\)",
        ),
        (lambda: init.eye_(mg.zeros(3)), r"init.eye_: needs a matrix, got shape \(3,\)"),
        (
            lambda: init.kaiming_uniform_(mg.zeros(2, 2), mode="in"),
            "mode must be 'fan_in' or 'fan_out', got 'in'",
        ),
        (lambda: init.calculate_gain("gelu"), "unknown nonlinearity 'gelu'; there are conv1d, .*tanh"),
        (lambda: init.calculate_gain("leaky_relu", "x"), "slope of leaky_relu must be a number, got 'x'"),
        (lambda: init.normal_(mg.zeros(2), std=-1), "std must be at least 0, got -1"),
        (lambda: init.uniform_(mg.zeros(2), 3, 1), "a must be at most b, got a=3, b=1"),
        (lambda: init.uniform_(mg.arange(3)), "init.uniform_: expected floating-point numbers, .* is int64"),
        (lambda: init.normal_(np.zeros(3)), "init.normal_: expected a tensor, got ndarray"),
        (lambda: init.trunc_normal_(mg.zeros(2), std=0), "needs std above 0 and a below b"),
        (lambda: init.trunc_normal_(mg.zeros(2), 0, 1, 2, 2), "needs std above 0 and a below b"),
        (
            lambda: init.trunc_normal_(mg.zeros(2), 0, 1, 6, 7),
            "only 9.9e-10 of a normal with mean 0 and std 1",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(mg.errors.MinigradError, match=message):
        call()
