"""Making tensors: values, dtypes, options, seeds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DtypeError

# 1. From data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "values"),
    [
        (2, mg.int64, 2),
        (2.5, mg.float32, 2.5),
        (True, mg.bool, True),
        ([1, 2], mg.int64, [1, 2]),
        ([1, 2.5], mg.float32, [1.0, 2.5]),
        ([[True], [False]], mg.bool, [[True], [False]]),
        ((1, 2), mg.int64, [1, 2]),
        (range(3), mg.int64, [0, 1, 2]),
        ([], mg.float32, []),
        ([[], []], mg.float32, [[], []]),
        (np.array([1.5]), mg.float64, [1.5]),
        (np.array([1], np.int16), mg.int16, [1]),
        (np.array([7], np.uint8), mg.uint8, [7]),
        (np.float64(2.5), mg.float64, 2.5),
        (np.int32(2), mg.int32, 2),
        (mg.tensor([1.5]), mg.float32, [1.5]),
        ([mg.tensor(1.5), mg.tensor(2.0)], mg.float32, [1.5, 2.0]),
        ([mg.ones(2, requires_grad=True), mg.zeros(2)], mg.float32, [[1.0, 1.0], [0.0, 0.0]]),
    ],
)
def test_tensor(data, dtype, values):
    x = mg.tensor(data)
    assert x.dtype == dtype
    assert x.tolist() == values
    assert not x.requires_grad
    assert mg.tensor(data, dtype=mg.float64).dtype == mg.float64


def test_tensor_copies():
    array, x = np.ones(2), mg.ones(2)
    a, b, c = mg.tensor(array), mg.tensor(x), mg.tensor(array, dtype=mg.float64)
    array[0] = 9
    x[0] = 9.0
    assert a.tolist() == b.tolist() == c.tolist() == [1.0, 1.0]


def test_as_tensor_and_from_numpy_do_not_copy():
    array, x = np.ones(2), mg.ones(2)
    assert mg.as_tensor(x) is x
    assert mg.as_tensor(array).array is array
    assert mg.from_numpy(array).array is array
    assert mg.as_tensor(array, dtype=mg.float32).dtype == mg.float32
    assert mg.as_tensor(x, dtype=mg.float64, device="cpu").dtype == mg.float64
    assert mg.as_tensor([1, 2]).tolist() == [1, 2]
    assert mg.as_tensor(2.5, dtype="float64").dtype == mg.float64


def test_as_tensor_stays_in_the_graph():
    x = mg.ones(2, requires_grad=True)
    mg.as_tensor(x, dtype=mg.float64).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1, 2], [3]], ArgumentError, "tensor: the rows of a nested list must all have the same length"),
        ("abc", DtypeError, "tensor: cannot make a tensor of numbers from str 'abc'"),
        (None, DtypeError, "cannot make a tensor of numbers from NoneType"),
        ({1, 2}, DtypeError, "cannot make a tensor of numbers from set"),
        ([1, None], DtypeError, "cannot make a tensor of numbers from list"),
        ([1j], DtypeError, "cannot make a tensor of numbers from list"),
        (2**70, DtypeError, "cannot make a tensor of numbers from int"),
        (np.array([1j]), DtypeError, "dtype complex128 is not supported; use one of bool, float16, float32"),
        (np.array(["a"]), DtypeError, "is not supported"),
        (np.array([1], np.uint32), DtypeError, "dtype uint32 is not supported"),
        (np.array([1], ">f4"), DtypeError, "dtype >f4 is not supported"),
    ],
)
def test_wrong_data(data, error, message):
    with pytest.raises(error, match=message):
        mg.tensor(data)
    if isinstance(data, np.ndarray):
        for function in (mg.as_tensor, mg.from_numpy):
            with pytest.raises(error, match=message):
                function(data)
        assert mg.tensor(data, dtype=mg.float32).dtype == mg.float32 if data.dtype.kind in "uf" else True


def test_from_numpy_takes_arrays_only():
    with pytest.raises(DtypeError, match="from_numpy: expected a NumPy array, got list"):
        mg.from_numpy([1.0])


@pytest.mark.parametrize("dtype", ["nonsense", object(), None])
def test_wrong_dtypes(dtype):
    with pytest.raises(DtypeError, match="is not a dtype; use minigrad.float32, minigrad.int64"):
        mg.ones(1).type(dtype)


# 2. Of a shape ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "value"), [(mg.zeros, 0.0), (mg.ones, 1.0), (mg.empty, 0.0)])
@pytest.mark.parametrize("size", [(), (3,), (2, 3), (0, 2)])
def test_filled(function, value, size):
    tensors = [mg.tensor(n) for n in size]
    for x in (function(*size), function(size), function(list(size)), function(*tensors), function(size=size)):
        assert (x.shape, x.dtype) == (size, mg.float32)
        assert (x == value).all()
    x = function(size, dtype=mg.float64, device="cpu", requires_grad=True)
    assert (x.dtype, x.requires_grad, x.is_leaf) == (mg.float64, True, True)
    like = {mg.zeros: mg.zeros_like, mg.ones: mg.ones_like, mg.empty: mg.empty_like}[function](x)
    assert (like.shape, like.dtype, like.requires_grad) == (size, mg.float64, False)
    assert mg.equal(like, x.detach())


def test_full():
    assert mg.full((2,), 1.5).dtype == mg.float32
    assert mg.full((2,), 3).dtype == mg.int64
    assert mg.full(2, True).tolist() == [True, True]
    assert mg.full((2,), 3, dtype=mg.float64).tolist() == [3.0, 3.0]
    assert mg.full_like(mg.zeros(2, dtype=mg.int32), 7).tolist() == [7, 7]
    assert mg.full_like(mg.zeros(2), 7, dtype=mg.int64).dtype == mg.int64


@pytest.mark.parametrize(
    ("arguments", "dtype", "values"),
    [
        ((3,), mg.int64, [0, 1, 2]),
        ((1, 4), mg.int64, [1, 2, 3]),
        ((0, 5, 2), mg.int64, [0, 2, 4]),
        ((3, 0, -1), mg.int64, [3, 2, 1]),
        ((1, 2, 0.25), mg.float32, [1.0, 1.25, 1.5, 1.75]),
        ((2.0,), mg.float32, [0.0, 1.0]),
        ((0,), mg.int64, []),
    ],
)
def test_arange(arguments, dtype, values):
    x = mg.arange(*arguments)
    assert (x.dtype, x.tolist()) == (dtype, values)
    assert mg.arange(*arguments, dtype=mg.float64).dtype == mg.float64


def test_linspace_and_eye():
    assert mg.linspace(0, 1, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert mg.linspace(2, 2, 1).tolist() == [2.0]
    assert mg.eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert mg.eye(2, 3, dtype=mg.int64).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mg.rand(2, size=(3,)), ArgumentError, "rand: give the sizes or size=, not both"),
        (lambda: mg.zeros(-1), ArgumentError, r"zeros: sizes must be at least 0, got \(-1,\)"),
        (lambda: mg.ones(2, 1.5), ArgumentError, "ones: size must be a whole number, got 1.5"),
        (lambda: mg.zeros("2"), ArgumentError, "zeros: size must be a whole number, got '2'"),
        (lambda: mg.zeros(True), ArgumentError, "zeros: size must be a whole number, got True"),
        (lambda: mg.arange(0, 3, 0), ArgumentError, "arange: step must not be 0"),
        (lambda: mg.randint(3, 3, (2,)), ArgumentError, "randint: low must be below high, got 3 and 3"),
        (lambda: mg.randint(0, 2.5, (2,)), ArgumentError, "randint: high must be a whole number, got 2.5"),
        (lambda: mg.rand(2, dtype=mg.int64), DtypeError, "rand: int64 has no numbers between 0 and 1; use randint"),
        (lambda: mg.randn(-2), ArgumentError, "randn: sizes must be at least 0"),
        (lambda: mg.ones(2, dtype=mg.int64, requires_grad=True), DtypeError, "only floating-point tensors can require"),
        (lambda: mg.zeros(2, device="tpu"), ArgumentError, "unknown device 'tpu'"),
        (lambda: mg.manual_seed(-1), ArgumentError, "manual_seed: the seed must be a whole number of at least 0"),
        (lambda: mg.manual_seed(1.5), ArgumentError, "got 1.5"),
    ],
)  # fmt: skip
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# 3. At random -------------------------------------------------------------------------------------------

DRAWS = {
    "rand": lambda: mg.rand(50),
    "randn": lambda: mg.randn(50),
    "rand_like": lambda: mg.rand_like(mg.zeros(50)),
    "randn_like": lambda: mg.randn_like(mg.zeros(50)),
    "normal": lambda: mg.normal(1.0, 2.0, (50,)),
    "randint": lambda: mg.randint(0, 1000, (50,)),
    "randperm": lambda: mg.randperm(50),
    "normal_": lambda: mg.zeros(50).normal_(),
    "uniform_": lambda: mg.zeros(50).uniform_(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_gives_the_same_numbers(name):
    mg.manual_seed(5)
    first, second = DRAWS[name](), DRAWS[name]()
    mg.manual_seed(5)
    assert mg.equal(DRAWS[name](), first)
    assert not mg.equal(first, second)
    mg.manual_seed(6)
    assert not mg.equal(DRAWS[name](), first)


def test_distributions():
    n = 40_000
    u, z, w, k = mg.rand(n), mg.randn(n), mg.normal(3.0, 2.0, (n,)), mg.randint(-2, 3, (n,))
    assert 0.0 <= u.min().item() < 0.001
    assert 0.999 < u.max().item() < 1.0
    for x, mean, std in ((u, 0.5, 12**-0.5), (z, 0, 1), (w, 3, 2), (k.float(), 0, 2**0.5)):
        assert x.mean().item() == pytest.approx(mean, abs=0.05)
        assert x.std().item() == pytest.approx(std, abs=0.05)
    assert sorted(set(k.tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(mg.randperm(100).tolist()) == list(range(100))
    assert (mg.randint(7, (5,)) < 7).all()
    assert mg.randint(2, size=(3,), high=5).shape == (3,)


@pytest.mark.parametrize("dtype", [mg.float16, mg.float32, mg.float64])
def test_uniform_numbers_stay_below_one(dtype, monkeypatch):
    """Rounding 1 - 2**-53 to fewer digits gives 1, which [0, 1) does not contain."""

    class Extreme:
        def random(self, size):
            return np.full(size, 1 - 2.0**-53)

    monkeypatch.setattr("minigrad.backend.random._generator", Extreme())
    assert (mg.rand(3, dtype=dtype) < 1).all()
    assert (mg.rand(3, dtype=dtype) > 0.999).all()


def test_dtypes_of_draws():
    x = mg.zeros(2, dtype=mg.float64)
    for y in (mg.rand_like(x), mg.randn_like(x), mg.rand(2, dtype=mg.float64), mg.randn(2, dtype="float64")):
        assert y.dtype == mg.float64
    assert mg.rand(size=(1, 2)).shape == mg.randn(size=(1, 2)).shape == (1, 2)
    assert (mg.rand(2).dtype, mg.randn(2).dtype, mg.normal(0, 1, 2).dtype) == (mg.float32,) * 3
    assert (mg.randint(0, 3, (2,)).dtype, mg.randperm(3).dtype) == (mg.int64, mg.int64)
    assert mg.randint(0, 3, (2,), dtype=mg.uint8).dtype == mg.uint8
    assert mg.randn(2, requires_grad=True).requires_grad


def test_the_same_seed_in_float32_and_float64():
    mg.manual_seed(1)
    x = mg.randn(5)
    mg.manual_seed(1)
    np.testing.assert_array_equal(mg.randn(5, dtype=mg.float64).float().numpy(), x.numpy())
