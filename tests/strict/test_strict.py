"""What the stand-in refuses, and that CuPy refuses the same.

`REFUSED` holds what works with NumPy and not with CuPy; `STRICTER` what CuPy does as well, slowly or by
accident, and our code must not. Each entry has the exception and a part of its message.
"""

from __future__ import annotations

import copy
import operator
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import strict
from tests.strict.make_table import build, example
from tests.strict.table import API, signature


def sample(asarray: Callable[[np.ndarray], Any], xp: Any) -> SimpleNamespace:
    """One array of each kind, on the device and (h) on the host."""
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    return SimpleNamespace(
        xp=xp,
        a=asarray(host),
        square=asarray(np.eye(3, dtype=np.float32)),
        i=asarray(np.array([1, 0])),
        n=asarray(np.array(2)),
        mask=asarray(host > 2),
        h=host,
    )


@pytest.fixture
def s() -> SimpleNamespace:
    strict.counts.reset()
    return sample(strict.upload, strict.xp)


Probe = tuple[Callable[[SimpleNamespace], Any], type[Exception], str]

REFUSED: dict[str, Probe] = {
    # host and device do not mix
    "np.asarray": (lambda s: np.asarray(s.a), TypeError, "Implicit conversion"),
    "np.array of a list": (lambda s: np.array([s.a]), TypeError, "Implicit conversion"),
    "array + host": (lambda s: s.a + s.h, TypeError, "ndarray"),
    "host + array": (lambda s: s.h + s.a, TypeError, "ndarray"),
    "array @ host": (lambda s: s.a @ s.h.T, TypeError, "ndarray"),
    "array == host": (lambda s: s.a == s.h, TypeError, "ndarray"),
    "array += host": (lambda s: operator.iadd(s.a, s.h), TypeError, "ndarray"),
    "host += array": (lambda s: operator.iadd(s.h, s.a), TypeError, "ufunc"),
    "array + list": (lambda s: s.a + [1.0, 2.0, 3.0], TypeError, "list"),
    "array + None": (lambda s: s.a + None, TypeError, "None"),
    "ufunc with host": (lambda s: s.xp.maximum(s.a, s.h), TypeError, "numpy.ndarray"),
    "ufunc with list": (lambda s: s.xp.maximum(s.a, [1.0, 2.0, 3.0]), TypeError, "list"),
    "stack with host": (lambda s: s.xp.stack([s.a, s.h]), TypeError, "numpy.ndarray"),
    "concatenate with host in a tuple": (lambda s: s.xp.concatenate((s.a, s.h)), TypeError, "numpy.ndarray"),
    "ufunc into host": (lambda s: s.xp.add(s.a, s.a, out=s.h), TypeError, "numpy.ndarray"),
    "sum into host": (lambda s: s.a.sum(axis=0, out=np.ones(3, "f4")), TypeError, "numpy.ndarray"),
    "sum of a list": (lambda s: s.xp.sum([1.0, 2.0]), TypeError, "list"),
    "sum of a number": (lambda s: s.xp.sum(3.0), TypeError, "must be an array"),
    "dot with a number": (lambda s: s.xp.dot(s.a, 2.0), TypeError, "must be arrays"),
    "matmul with a number": (lambda s: s.xp.matmul(s.a, 2.0), TypeError, "must be arrays"),
    "array of arrays and numbers": (lambda s: s.xp.array([s.n, 1.0]), TypeError, "mix"),
    # an array is no number of the host
    "range": (lambda s: range(s.n), TypeError, "integer"),
    "list index": (lambda s: [1, 2, 3][s.n], TypeError, "indices"),
    "slice bound": (lambda s: s.a[: s.n], TypeError, "slice indices"),
    "axis": (lambda s: s.xp.sum(s.a, axis=s.n), TypeError, "axis must be a number"),
    "reshape": (lambda s: s.a.reshape(3, s.n), TypeError, "shape must be a number"),
    "reshape of a tuple": (lambda s: s.a.reshape((3, s.n)), TypeError, "shape must be a number"),
    "zeros": (lambda s: s.xp.zeros((s.n, 2)), TypeError, "shape must be a number"),
    "hash": (lambda s: hash(s.a), TypeError, "unhashable"),
    # keywords that only NumPy has
    "ufunc where": (lambda s: s.xp.add(s.a, s.a, where=s.mask), TypeError, "where"),
    "ufunc order": (lambda s: s.xp.exp(s.a, order="K"), TypeError, "order"),
    "sum where": (lambda s: s.xp.sum(s.a, where=s.mask), TypeError, "where"),
    "method sum where": (lambda s: s.a.sum(where=s.mask), TypeError, "where"),
    "max initial": (lambda s: s.a.max(initial=0), TypeError, "initial"),
    "var correction": (lambda s: s.xp.var(s.a, correction=1), TypeError, "correction"),
    "clip min": (lambda s: s.xp.clip(s.a, min=0), TypeError, "min"),
    "clip without a_max": (lambda s: s.xp.clip(s.a, 0), TypeError, "a_max"),
    "take mode": (lambda s: s.xp.take(s.a, s.i, mode="clip"), TypeError, "mode"),
    "take_along_axis without axis": (lambda s: s.xp.take_along_axis(s.a, s.i[:, None]), TypeError, "axis"),
    "where keywords": (lambda s: s.xp.where(condition=s.mask, z=1), TypeError, "z"),
    "tensordot out": (lambda s: s.xp.tensordot(s.a, s.a.T, 1, out=s.a), TypeError, "out"),
    "einsum out": (lambda s: s.xp.einsum("ij->ji", s.a, out=s.a), TypeError, "out"),
    "pad keyword": (lambda s: s.xp.pad(s.a, 1, value=0), TypeError, "value"),
    "astype casting": (lambda s: s.a.astype("f8", casting="safe"), TypeError, "casting"),
    "zeros like": (lambda s: s.xp.zeros(3, like=s.a), TypeError, "like"),
    "too few": (lambda s: s.xp.add(s.a), TypeError, "add"),
    # names that only NumPy has
    "block": (lambda s: s.xp.block([s.a]), AttributeError, "block"),
    "vecdot": (lambda s: s.xp.vecdot(s.a, s.a), AttributeError, "vecdot"),
    "errstate": (lambda s: s.xp.errstate(all="ignore"), AttributeError, "errstate"),
    "insert": (lambda s: s.xp.insert(s.a, 0, 1), AttributeError, "insert"),
    "linalg name": (lambda s: s.xp.linalg.multi_dot([s.a, s.square]), AttributeError, "multi_dot"),
    "unknown name": (lambda s: s.xp.no_such_function, AttributeError, "no_such_function"),
    "method": (lambda s: s.a.setflags(write=False), AttributeError, "setflags"),
    "resize": (lambda s: s.a.resize(3), AttributeError, "resize"),
    "ctypes": (lambda s: s.a.ctypes, AttributeError, "ctypes"),
    "writeable": (lambda s: s.a.flags.writeable, AttributeError, "writeable"),
    "array interface": (lambda s: s.a.__array_interface__, AttributeError, "__array_interface__"),
    # parts of ufuncs that CuPy left out
    "multiply.at": (lambda s: s.xp.multiply.at(s.a, s.i, 2.0), NotImplementedError, "multiply.at"),
    "subtract.at of floats": (lambda s: s.xp.subtract.at(s.a, s.i, s.a), TypeError, "only supports"),
    "add.at of int8": (
        lambda s: s.xp.add.at(s.mask.view("i1"), s.i, s.mask.view("i1")),
        TypeError,
        "only supports",
    ),
    "maximum.reduce": (lambda s: s.xp.maximum.reduce(s.a), NotImplementedError, "maximum.reduce"),
    "minimum.accumulate": (lambda s: s.xp.minimum.accumulate(s.a), NotImplementedError, "accumulate"),
    "index by floats": (lambda s: s.a[s.a], IndexError, "integer"),
    "number out of range": (lambda s: s.a[2], IndexError, "out of bounds"),
    "number out of range in a tuple": (lambda s: s.a[0, -4], IndexError, "out of bounds"),
    "dtype object": (lambda s: s.xp.asarray([object()]), ValueError, "dtype"),
    "as many axes": (lambda s: s.a[0, 0, s.i], IndexError, "too many"),
}

STRICTER: dict[str, Probe] = {
    "np.exp": (lambda s: np.exp(s.a), TypeError, "ufunc"),
    "np.sum": (lambda s: np.sum(s.a), TypeError, "use xp.sum"),
    "np.stack": (lambda s: np.stack([s.a, s.a]), TypeError, "use xp.stack"),
    "a @= b": (lambda s: operator.imatmul(s.a, s.square), TypeError, "in-place matmul"),
    "in": (lambda s: 3.0 in s.a, TypeError, "container"),
    "== None": (lambda s: s.a == None, TypeError, "None"),  # noqa: E711
    "index by host": (lambda s: s.a[np.array([0, 1])], TypeError, "ndarray"),
    "set from host": (lambda s: s.a.__setitem__(0, np.ones(3, "f4")), TypeError, "ndarray"),
    "set from list": (lambda s: s.a.__setitem__(0, [1.0, 2.0, 3.0]), TypeError, "list"),
    "duplicates": (lambda s: s.a[0].__setitem__(s.i * 0, s.a[0, :2]), ValueError, "undefined"),
    "duplicates by wrapping": (lambda s: s.a[0].__setitem__(s.i * 3, s.a[0, :2]), ValueError, "undefined"),
    "put_along_axis": (
        lambda s: s.xp.put_along_axis(s.a, (s.i * 0)[:, None] + s.i * 0, s.a[:, :2], axis=1),
        ValueError,
        "undefined",
    ),
    "random": (lambda s: s.xp.random, AttributeError, "drawn on the host"),
    "gone from NumPy": (lambda s: s.xp.float_, AttributeError, "NumPy has no"),
    "only in CuPy": (lambda s: s.xp.asnumpy(s.a), AttributeError, "NumPy has no"),
    "out of memory bounds": (
        lambda s: s.xp.lib.stride_tricks.as_strided(s.a, (3, 3), (12, 4)),
        ValueError,
        "beyond the memory",
    ),
}


@pytest.mark.parametrize("name", [*REFUSED, *STRICTER])
def test_refused(s, name):
    probe, error, message = {**REFUSED, **STRICTER}[name]
    with pytest.raises(error, match=message):
        probe(s)


def test_a_foreign_array_is_not_converted(s):
    class Foreign:
        def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
            raise AssertionError("converted")

    with pytest.raises(TypeError, match="Foreign"):
        s.xp.exp(Foreign())
    with pytest.raises(TypeError, match="Foreign"):
        s.xp.stack([s.a, Foreign()])
    with pytest.raises(TypeError, match="Foreign"):
        s.a[Foreign()]
    with pytest.raises(TypeError, match="unsupported operand"):
        s.a + Foreign()


def test_an_operator_leaves_the_other_class_its_turn(s):
    class Other:
        def __radd__(self, left: Any) -> str:
            return "mine"

        def __eq__(self, right: Any) -> Any:
            return "equal"

        __hash__ = None  # type: ignore[assignment]

    assert s.a + Other() == "mine"
    assert (s.a == Other()) == "equal"


def test_each_missing_name_says_which_library_lacks_it(s):
    with pytest.raises(AttributeError, match="cupy 14 has no block"):
        _ = s.xp.block
    with pytest.raises(AttributeError, match=r"cupy 14 has no ndarray\.resize"):
        _ = s.a.resize
    with pytest.raises(AttributeError, match=r"cupy 14 has no linalg\.multi_dot"):
        _ = s.xp.linalg.multi_dot
    with pytest.raises(AttributeError, match=r"does not imitate ndarray\.toDlpack"):
        _ = s.a.toDlpack
    assert not hasattr(s.a, "__array_namespace__")
    assert not hasattr(s.a, "__index__")


def test_signature_of_a_method(s):
    with pytest.raises(TypeError, match=r"cupy 14: ndarray.sum\(axis= dtype= out= keepdims=\)"):
        s.a.sum(where=s.mask)


def test_copies_and_weak_references(s):
    for twin in (copy.copy(s.a), copy.deepcopy(s.a)):
        twin += 1
        assert float(twin[0, 0]) == 1
    assert float(s.a[0, 0]) == 0
    assert weakref.ref(s.a)() is s.a


# 2. The table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a", "a b axis= out=", "a / b= * c d=", "*args key=", "a *rest **more"])
def test_signatures_are_read_as_written(text):
    words = str(signature(text)).strip("()").replace("=None", "=").replace(",", "")
    assert words == text


def test_table_has_what_the_rules_rest_on():
    """Facts of CuPy's documentation; a table made wrongly would lack one of them."""
    assert API["version"].startswith("14.")
    assert API["ufuncs"]["divmod"] == [2, 2]
    assert API["functions"]["sum"] == "a axis= dtype= out= keepdims="
    assert API["methods"]["sum"] == "axis= dtype= out= keepdims="
    assert API["functions"]["astype"] == "x dtype / * copy="
    assert "float32" in API["at"]["add"].split()
    assert "multiply" not in API["at"]
    assert API["reduce"] == API["accumulate"] == ["add", "multiply"]
    assert "__imatmul__" not in API["special"]
    assert "__contains__" not in API["special"]
    assert "__index__" not in API["special"]


# 3. CuPy itself ------------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_installed_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    if cupy.__version__ != API["version"]:
        pytest.skip(f"the table is that of CuPy {API['version']}, installed is {cupy.__version__}")
    assert build(cupy) == API


def test_cupy_refuses_the_same():
    """Without a GPU the arrays lie in host memory, and what CuPy decides only on the GPU is left out."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    undecided, allowed = [], []
    for name, (probe, _, _) in REFUSED.items():
        real = sample(lambda host: example(cupy, host), cupy)
        try:
            probe(real)
        except cupy.cuda.runtime.CUDARuntimeError:
            undecided.append(name)
        except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError):
            pass
        else:
            allowed.append(name)
    assert allowed == []
    assert undecided == [] or not cupy.cuda.is_available()
