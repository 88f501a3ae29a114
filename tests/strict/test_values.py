"""What the stand-in allows: NumPy's numbers, CuPy's memory order, views, wrap-around and waiting.

Each function of `FUNCTIONS` is called on NumPy, on the stand-in and, where there is one, on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import backend
from tests import strict

xp = strict.xp


def inputs(asarray: Callable[[np.ndarray], Any], module: Any) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    return SimpleNamespace(
        xp=module,
        a=asarray(rng.normal(size=(3, 4)).astype(np.float32)),
        b=asarray(rng.normal(size=(3, 4)).astype(np.float32)),
        v=asarray(rng.normal(size=4)),
        t=asarray(rng.normal(size=(2, 3, 4))),
        i=asarray(np.array([2, 0, 2])),
        j=asarray(rng.integers(0, 4, size=(3, 2))),
        k=asarray(rng.integers(-9, 9, size=(3, 4)).astype(np.int32)),
        m=asarray(rng.normal(size=(3, 4)) > 0),
    )


FUNCTIONS: dict[str, Callable[[SimpleNamespace], Any]] = {
    "arithmetic": lambda s: (s.a + s.b, s.a - 1, 2 * s.a, s.a / s.b, 1 / s.a, -s.a, +s.a, abs(s.a)),
    "integers": lambda s: (s.k // 3, s.k % 5, s.k**2, s.k & 3, s.k | 1, s.k ^ s.k, s.k << 1, s.k >> 1, ~s.k),
    "divmod": lambda s: divmod(s.k, 4),
    "reflected": lambda s: (1 - s.a, 7 // (abs(s.k) + 1), 2.0**s.a, 3 % (abs(s.k) + 1), True & s.m),
    "comparison": lambda s: (s.a < s.b, s.a <= 0, s.a > 0, 0 >= s.a, s.k == 1, s.k != s.k),
    "promotion": lambda s: (s.a + s.v, s.a + s.k, s.k / 2, s.a * np.float64(2), s.a * s.v.sum(), s.m + 1),
    "numpy scalar on the left": lambda s: (np.float64(2) * s.a, np.float32(1) - s.a, np.int64(2) + s.k),
    "matmul": lambda s: (s.a @ s.b.T, s.t @ s.v, s.t @ s.b.T, s.xp.matmul(s.a.T, s.b)),
    "products": lambda s: (s.xp.dot(s.a, s.v), s.xp.outer(s.v, s.v), s.v.dot(s.v)),
    "tensordot": lambda s: (s.xp.tensordot(s.t, s.a, 2), s.xp.tensordot(s.t, s.v, axes=([2], [0]))),
    "einsum": lambda s: (s.xp.einsum("nij,ij->n", s.t, s.a), s.xp.einsum("ij->ji", s.a)),
    "elementwise": lambda s: tuple(
        getattr(s.xp, name)(s.a)
        for name in "exp expm1 sin cos tanh sign floor ceil rint square isnan isfinite logical_not".split()
    ),
    "logarithms": lambda s: (s.xp.log(abs(s.a)), s.xp.log1p(abs(s.a)), s.xp.sqrt(abs(s.a)), s.xp.cbrt(s.a)),
    "two arrays": lambda s: (s.xp.maximum(s.a, s.b), s.xp.minimum(s.a, 0), s.xp.hypot(s.a, s.b)),
    "ufunc dtype": lambda s: s.xp.add(s.k, s.k, dtype="float64", casting="unsafe"),
    "clip": lambda s: (s.xp.clip(s.a, -1, 1), s.a.clip(min=0), s.a.clip(max=0)),
    "where": lambda s: (s.xp.where(s.m, s.a, s.b), s.xp.where(s.m, s.a, 0.0), s.xp.where(s.m, 1, 0)),
    "sums": lambda s: (s.xp.sum(s.a), s.a.sum(axis=0), s.t.sum(axis=(0, 2), keepdims=True), s.m.sum()),
    "means": lambda s: (s.a.mean(), s.xp.mean(s.t, axis=(0, 2))),
    "variances": lambda s: (s.a.var(axis=1, ddof=1), s.xp.std(s.a, axis=0)),
    "extremes": lambda s: (s.a.max(), s.xp.min(s.a, axis=0), s.xp.amax(s.t, axis=1)),
    "positions": lambda s: (s.a.argmax(axis=1), s.a.argmin(), s.xp.argmax(s.t, axis=0)),
    "logic": lambda s: (s.m.all(axis=0), s.xp.any(s.m), s.xp.logical_and(s.m, s.a > 1)),
    "equal": lambda s: (s.xp.allclose(s.a, s.a), s.xp.array_equal(s.a, s.b), s.xp.isclose(s.a, s.b)),
    "running": lambda s: (s.xp.cumsum(s.a, axis=1), s.k.cumprod(axis=0), s.xp.add.accumulate(s.a)),
    "ufunc reduce": lambda s: (s.xp.add.reduce(s.a), s.xp.multiply.reduce(s.a, axis=1, keepdims=True)),
    "count": lambda s: (s.xp.count_nonzero(s.m), s.xp.nonzero(s.m), s.xp.argwhere(s.m), s.xp.where(s.m)),
    "sorting": lambda s: (s.xp.sort(s.a, axis=0), s.xp.argsort(s.v), s.xp.unique(s.i), s.xp.bincount(s.i)),
    "shapes": lambda s: (s.a.reshape(2, -1), s.a.ravel(), s.xp.expand_dims(s.a, 1), s.a[None].squeeze(0)),
    "axes": lambda s: (s.xp.moveaxis(s.t, 0, -1), s.t.transpose(2, 0, 1), s.t.swapaxes(0, 1), s.a.T, s.t.mT),
    "join": lambda s: (s.xp.stack([s.a, s.b], axis=1), s.xp.concatenate((s.a, s.b)), s.xp.array([s.a, s.b])),
    "split": lambda s: (s.xp.split(s.a, 2, axis=1), s.xp.array_split(s.v, 3)),
    "repeat": lambda s: (s.xp.repeat(s.a, 2, axis=0), s.xp.tile(s.a, (2, 1)), s.v.repeat(3)),
    "flip and roll": lambda s: (s.xp.flip(s.a, 0), s.xp.roll(s.a, 1, axis=1), s.a[::-1, ::2]),
    "pad": lambda s: s.xp.pad(s.a, ((1, 2), (0, 1)), constant_values=7),
    "broadcast": lambda s: (s.xp.broadcast_to(s.v, (3, 4)), s.xp.broadcast_arrays(s.a, s.v)),
    "triangles": lambda s: (s.xp.tril(s.a), s.xp.triu(s.a, k=1), s.xp.diag(s.v), s.a.diagonal(), s.a.trace()),
    "creation": lambda s: (s.xp.zeros((2, 3)), s.xp.ones(3, dtype="f4"), s.xp.full(2, 3.0), s.xp.eye(3, k=1)),
    "ranges": lambda s: (s.xp.arange(5), s.xp.arange(1, 9, 2, dtype="f4"), s.xp.linspace(0, 1, 5)),
    "like": lambda s: (s.xp.zeros_like(s.a), s.xp.ones_like(s.k, dtype="f8"), s.xp.full_like(s.a, 3)),
    "casts": lambda s: (s.a.astype("f8"), s.a.astype("f4", copy=False), s.xp.asarray(s.k, dtype="f4")),
    "index": lambda s: (s.a[1], s.a[1, 2], s.a[..., -1], s.t[:, 1:, ::2], s.a[-1:], s.v[()]),
    "index arrays": lambda s: (s.a[s.i], s.a[:, s.i], s.a[s.i, s.i], s.t[s.i % 2, :, s.i], s.a[[0, 2]]),
    "index mask": lambda s: (s.a[s.m], s.t[:, s.m], s.v[s.v > 0]),
    "take": lambda s: (s.xp.take(s.a, s.i), s.a.take(s.i, axis=1), s.xp.take_along_axis(s.a, s.j, axis=1)),
    "windows": lambda s: s.xp.lib.stride_tricks.sliding_window_view(s.a, (2, 2)),
    "strides": lambda s: s.xp.lib.stride_tricks.as_strided(s.a, (2, 2), (16, 8)),
    "linalg": lambda s: (s.xp.linalg.norm(s.a), s.xp.linalg.norm(s.a, axis=1)),
    "round": lambda s: (s.xp.round(s.a, 1), s.a.round(2), s.xp.nan_to_num(s.a)),
    "types": lambda s: (s.xp.result_type(s.a, s.v), s.xp.ndim(s.t), s.xp.shape(s.a), s.xp.float32, s.xp.pi),
}


def same(got: Any, want: Any, tolerance: float = 0.0) -> None:
    if isinstance(want, (list, tuple)) and not isinstance(got, strict.StrictArray):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            same(one, other, tolerance)
    elif isinstance(want, (np.ndarray, np.generic)) or backend.is_array(got):  # NumPy: bool(array_equal())
        assert backend.is_array(got), "a result on the host"
        host = got.get()
        assert (host.shape, host.dtype) == (np.shape(want), np.asarray(want).dtype)
        np.testing.assert_allclose(host, want, rtol=tolerance, atol=tolerance)
    else:
        assert got == want


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_are_those_of_numpy(name):
    strict.install()
    same(FUNCTIONS[name](inputs(strict.upload, xp)), FUNCTIONS[name](inputs(np.copy, np)))


@pytest.mark.gpu
def test_numbers_are_those_of_cupy():
    if (reason := backend.cuda.why_not()) is not None:
        pytest.skip(reason)
    cupy = backend.cuda.load()
    backend.device("cuda")
    for function in FUNCTIONS.values():
        same(function(inputs(cupy.asarray, cupy)), function(inputs(np.copy, np)), tolerance=1e-5)


# 1. Memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a + 1,
        lambda a: -a,
        lambda a: xp.exp(a),
        lambda a: xp.maximum(a, a),
        lambda a: xp.where(a > 0, a, 0),
        lambda a: a.clip(0, 1),
        lambda a: a.sum(axis=0),
        lambda a: a[xp.asarray([0, 1])],
        lambda a: xp.take(a, xp.asarray([0, 1]), axis=1),
        lambda a: xp.concatenate([a, a]),
        lambda a: xp.stack([a, a]),
        lambda a: a @ a.transpose(0, 2, 1),
        lambda a: a.copy(),
        lambda a: xp.ascontiguousarray(a),
    ],
)
def test_new_arrays_are_in_c_order(make):
    a = strict.upload(np.zeros((2, 3, 4))).transpose(2, 0, 1)
    assert not a.flags.c_contiguous
    assert make(a).flags.c_contiguous


@pytest.mark.parametrize(
    "make", [lambda a: a.astype("f4"), xp.zeros_like, xp.empty_like, xp.copy, lambda a: xp.array(a)]
)
def test_what_keeps_the_order_in_cupy_keeps_it_here(make):
    host = np.zeros((2, 3, 4)).transpose(2, 0, 1)
    got = make(strict.upload(np.zeros((2, 3, 4))).transpose(2, 0, 1))
    assert got.strides == np.zeros_like(host, dtype=got.dtype).strides
    assert not got.flags.c_contiguous


def test_uploads_and_downloads_keep_c_and_fortran_order_only():
    batch_last = np.zeros((2, 3, 4)).transpose(2, 0, 1)
    assert strict.upload(batch_last).flags.c_contiguous
    fortran = strict.upload(np.zeros((3, 4)).T)
    assert fortran.flags.f_contiguous
    assert fortran.get().flags.c_contiguous


VIEWS: dict[str, Callable[[Any], Any]] = {
    "slice": lambda a: a[1:, ::2],
    "row": lambda a: a[1],
    "one element": lambda a: a[0, 0],
    "everything": lambda a: a[...],
    "reshape": lambda a: a.reshape(4, 3),
    "ravel": lambda a: a.ravel(),
    "T": lambda a: a.T,
    "transpose": lambda a: xp.transpose(a),
    "flip": lambda a: xp.flip(a, 1),
    "expand_dims": lambda a: xp.expand_dims(a, 0),
    "view": lambda a: a.view("i8"),
    "asarray": lambda a: xp.asarray(a),
    "as_strided": lambda a: xp.lib.stride_tricks.as_strided(a, (2, 2), (32, 8)),
    "split": lambda a: xp.split(a, 2, axis=1)[0],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name):
    a = xp.zeros((3, 4))
    view = VIEWS[name](a)
    view.fill(1)
    assert int(xp.count_nonzero(a)) == view.size


@pytest.mark.parametrize("make", [lambda a: a.copy(), lambda a: a.flatten(), lambda a: a[xp.asarray(0)], abs])
def test_copies_do_not(make):
    a = xp.zeros((3, 4))
    make(a).fill(1)
    assert not a.any()


def test_in_place_writes_go_to_the_same_memory():
    a = xp.zeros(3)
    view, same_object = a[1:], a
    a += 1
    a *= xp.asarray([1.0, 2.0, 3.0])
    assert a is same_object
    assert view.tolist() == [2, 3]
    assert xp.add(a, 1, out=a) is a
    assert xp.add(a, 1, a) is a
    assert xp.sum(a[None], axis=0, out=a) is a
    assert a.tolist() == [3, 4, 5]
    xp.copyto(a, xp.ones(3))
    assert a.tolist() == [1, 1, 1]


def test_unwritten_memory_is_noticed():
    assert xp.isnan(xp.empty((2, 2))).all()
    assert xp.isnan(xp.empty_like(xp.zeros(3))).all()
    assert xp.empty(2, dtype="i4").tolist() == [2**31 - 1] * 2


def test_results_are_arrays_also_without_axes():
    a = xp.ones((2, 2))
    for zero_d in (a.sum(), a[0, 0], a.argmax(), xp.asarray(1.5), a.max() > 0, xp.allclose(a, a)):
        assert isinstance(zero_d, strict.StrictArray)
        assert zero_d.shape == ()


# 2. Indices ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), max_size=6))
def test_indices_out_of_range_wrap_around(pairs):
    host = np.arange(12).reshape(3, 4)
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    a, r, c = (strict.upload(x) for x in (host, rows, columns))
    assert a[r, c].tolist() == [host[i % 3, j % 4] for i, j in pairs]
    assert a[r].tolist() == [host[i % 3].tolist() for i, _ in pairs]
    assert a[..., c].tolist() == [[row[j % 4] for _, j in pairs] for row in host]
    assert a[None, :, c].shape == (1, 3, len(pairs))
    assert a.take(r).tolist() == [host.flat[i % 12] for i, _ in pairs]
    assert xp.take(a, c, axis=1).tolist() == a[:, c].tolist()
    along = xp.take_along_axis(a, c[None] + xp.zeros((3, 1), dtype=int), axis=1)
    assert along.tolist() == a[:, c].tolist()
    total = xp.zeros(3)
    xp.add.at(total, r, 1.0)
    assert total.tolist() == [sum(i % 3 == k for i, _ in pairs) for k in range(3)]


def test_a_mask_uses_up_as_many_axes_as_it_has():
    host = np.arange(24).reshape(2, 3, 4)
    mask = host[:, :, 0] > 8
    wrapped = strict.upload(host)[strict.upload(mask), xp.asarray([5])]
    assert wrapped.tolist() == host[mask, 1].tolist()


def test_writing_through_indices():
    a = xp.zeros((2, 3))
    a[xp.asarray([0, 3]), xp.asarray([1, 5])] = xp.asarray([1.0, 2.0])  # (0, 1) and, wrapped, (1, 2)
    assert a.tolist() == [[0, 1, 0], [0, 0, 2]]
    a[xp.asarray([0, 0])] = 7  # the same number twice is no race
    assert a.tolist() == [[7, 7, 7], [0, 0, 2]]
    a[a > 5] = 0
    assert a.tolist() == [[0, 0, 0], [0, 0, 2]]
    xp.put_along_axis(a, xp.asarray([[4], [0]]), 9, axis=1)
    assert a.tolist() == [[0, 9, 0], [9, 0, 2]]


# 3. Waiting ----------------------------------------------------------------------------------------------

WAITS: dict[str, Callable[[Any], Any]] = {
    "float": lambda a: float(a[0, 0]),
    "int": lambda a: int(a[0, 0]),
    "bool": lambda a: bool(a[0, 0]),
    "if": lambda a: 1 if a.sum() > 0 else 0,
    "complex": lambda a: complex(a[0, 0]),
    "item": lambda a: a[0, 0].item(),
    "get": lambda a: a.get(),
    "to_numpy": lambda a: backend.to_numpy(a),
    "tolist": lambda a: a.tolist(),
    "tobytes": lambda a: a.tobytes(),
    "repr": repr,
    "str": str,
    "format": lambda a: f"{a[0, 0]:.2f}",
    "mask": lambda a: a[xp.ones((3, 4), dtype=bool)],
    "write by mask": lambda a: a.__setitem__(xp.ones((3, 4), dtype=bool), 0),
    "nonzero": lambda a: a.nonzero(),
    "where of one": lambda a: xp.where(a),
    "unique": lambda a: xp.unique(a),
    "repeat by an array": lambda a: xp.repeat(a, xp.asarray(2), axis=0),
}
UPLOADS: dict[str, Callable[[Any], Any]] = {
    "asarray": lambda a: xp.asarray(np.ones(3)),
    "array of a list": lambda a: xp.array([1.0, 2.0]),
    "index by a list": lambda a: a[[0, 1]],
    "set": lambda a: a.set(np.ones((3, 4))),
    "to_device": lambda a: backend.to_device(np.ones(3), "strict"),
}
NEITHER: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda a: (a @ a.T + 1).sum() / 3,
    "index by numbers": lambda a: a[1, 2],
    "index by an array": lambda a: a[xp.arange(2)],
    "write": lambda a: a.__setitem__(0, a[1]),
    "a number": lambda a: xp.asarray(2.0),
    "shape": lambda a: (a.shape, a.dtype, len(a), a.flags.c_contiguous, list(a)),
    "on the device already": lambda a: backend.to_device(a, "strict"),
    "argmax": lambda a: a.argmax(axis=1) == xp.zeros(3, dtype=int),
}


@pytest.mark.parametrize(
    ("run", "synchronisations", "uploads"),
    [pytest.param(run, 1, 0, id=name) for name, run in WAITS.items()]
    + [pytest.param(run, 0, 1, id=name) for name, run in UPLOADS.items()]
    + [pytest.param(run, 0, 0, id=name) for name, run in NEITHER.items()],
)
def test_counters(run, synchronisations, uploads):
    strict.install()
    a = xp.ones((3, 4))
    strict.counts.reset()
    run(a)
    assert strict.counts == strict.Counts(synchronisations, uploads)
    strict.counts.reset()
    assert strict.counts == strict.Counts(0, 0)


def test_host_data_of_odd_dtypes():
    assert strict.upload(np.array([1, 256], dtype=">i4")).dtype == np.dtype("i4")
    assert strict.upload(np.array([1, 256], dtype=">i4")).tolist() == [1, 256]
    with pytest.raises(ValueError, match="cupy 14 has no arrays of dtype"):
        strict.upload(np.array(["a"]))
    with pytest.raises(TypeError, match="same shape and dtype"):
        xp.zeros(3).set(np.zeros(3, dtype="f4"))
