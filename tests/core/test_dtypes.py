"""Which dtype comes out when two meet, in every operation that brings operands together."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest

import minigrad as mg
from minigrad import dtypes
from minigrad.errors import DtypeError

ORDER = [mg.bool, mg.uint8, mg.int8, mg.int16, mg.int32, mg.int64, mg.float16, mg.float32, mg.float64]
PAIRS = list(itertools.product(ORDER, ORDER))


def expected(a: np.dtype, b: np.dtype) -> np.dtype:
    """Wider of the two within a kind; a float beats an integer, an integer beats a bool."""
    if {a, b} == {mg.uint8, mg.int8}:
        return mg.int16
    return ORDER[max(ORDER.index(a), ORDER.index(b))]


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=str)
def test_two_tensors(a, b):
    x, y = mg.ones(2, dtype=a), mg.ones(2, dtype=b)
    assert (x * y).dtype == expected(a, b)
    assert (x + y).dtype == expected(a, b)
    assert x.maximum(y).dtype == expected(a, b)
    assert mg.where(mg.tensor([True, False]), x, y).dtype == expected(a, b)
    assert mg.cat([x, y]).dtype == expected(a, b)
    division = expected(a, b) if expected(a, b).kind == "f" else mg.float32
    assert (x / y).dtype == division
    assert (x == y).dtype == mg.bool


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=str)
def test_a_0d_tensor_does_not_widen(a, b):
    """Unless it is of a higher kind."""
    x, number = mg.ones(2, dtype=a), mg.ones((), dtype=b)
    kind = {"b": 0, "u": 1, "i": 1, "f": 2}
    wanted = b if kind[b.kind] > kind[a.kind] else a
    assert (x * number).dtype == wanted
    assert (number * x).dtype == wanted


@pytest.mark.parametrize("dtype", ORDER, ids=str)
def test_python_numbers_are_weak(dtype):
    x = mg.ones(2, dtype=dtype)
    is_float, is_bool = dtype.kind == "f", dtype.kind == "b"
    for op in (operator.add, operator.mul):
        assert op(x, True).dtype == op(True, x).dtype == dtype
        assert op(x, 2).dtype == op(2, x).dtype == (mg.int64 if is_bool else dtype)
        assert op(x, 2.5).dtype == op(2.5, x).dtype == (dtype if is_float else mg.float32)
    assert (x / 2).dtype == (2 / x).dtype == (dtype if is_float else mg.float32)
    assert mg.where(mg.tensor([True, False]), x, 1.5).dtype == (dtype if is_float else mg.float32)
    assert x.masked_fill(mg.tensor([True, False]), 1.5).dtype == (dtype if is_float else mg.float32)
    assert x.clip(0.0, 1.0).dtype == (dtype if is_float else mg.float32)


def test_numpy_scalars():
    """They count as Python numbers, unless they carry more digits than the tensor keeps."""
    x, d = mg.ones(2), mg.ones(2, dtype=mg.float64)
    assert (x * np.float32(2)).dtype == (x * np.float16(2)).dtype == (x * np.int64(2)).dtype == mg.float32
    assert (d * np.float64(2)).dtype == (np.float32(2) * d).dtype == mg.float64
    assert (mg.tensor([1]) * np.float64(0.5)).dtype == mg.float32
    assert (x * np.bool_(True)).dtype == mg.float32
    for call in (
        lambda: x * np.float64(2),
        lambda: np.float64(2) / x,
        lambda: mg.ones(1, dtype=mg.float16) + np.float32(1),
    ):
        with pytest.raises(
            DtypeError, match=r"scalar meets a float.. tensor; write float\(value\), or convert"
        ):
            call()


def test_arrays():
    """Integers and bools are welcome; floats have to match, or a float64 array would decide silently."""
    x = mg.ones(2)
    assert (x * np.ones(2, np.float32)).dtype == (x * np.ones(2, np.int64)).dtype == mg.float32
    assert (x * np.array([True, False])).tolist() == [1.0, 0.0]
    assert (mg.tensor([1, 2]) * np.ones(2)).dtype == mg.float64
    for array in (np.ones(2), np.ones((), np.float64), np.ones(2, np.float16)):
        with pytest.raises(
            DtypeError, match=r"array meets a float32 tensor; convert one of them, .*dtype=minigrad"
        ):
            x + array


def test_promote_is_symmetric():
    for a, b in PAIRS:
        assert dtypes.promote(a, b) == dtypes.promote(b, a) == expected(a, b)
        assert dtypes.promote(a, b, 0, 0) == expected(a, b)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (float, mg.float32),
        ("float", mg.float32),
        (int, mg.int64),
        (bool, mg.bool),
        ("float64", mg.float64),
        (np.float64, mg.float64),
        (np.dtype("float64"), mg.float64),
        (mg.float64, mg.float64),
        ("uint8", mg.uint8),
        ("int", mg.int64),
    ],
)
def test_as_dtype(value, dtype):
    assert dtypes.as_dtype(value) == dtype


@pytest.mark.parametrize("value", [None, "nonsense", 3.5, complex, np.uint16, "<U3", object])
def test_what_is_no_dtype(value):
    with pytest.raises(DtypeError, match="is not a dtype; use|is not supported; use one of bool, float16"):
        dtypes.as_dtype(value)


def test_names():
    assert (mg.float, mg.double, mg.half) == (mg.float32, mg.float64, mg.float16)
    assert (mg.int, mg.long, mg.short) == (mg.int32, mg.int64, mg.int16)
    assert mg.inf == float("inf")
    assert mg.nan != mg.nan
    assert mg.pi == pytest.approx(3.14159265)
