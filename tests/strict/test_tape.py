"""Capture on the stand-in: nothing is computed while a tape records, and playing repeats the device's part."""

import numpy as np
import pytest

from minigrad import backend
from tests import strict
from tests.strict import tape
from tests.strict.namespace import xp


def there(values):
    return strict.upload(np.asarray(values))


def test_recording_computes_nothing_and_playing_does():
    x, y = there([1.0, 2.0]), there([0.0, 0.0])
    with tape.recording() as recorded:
        z = x * 2 + 1
        y += z
        x[...] = 7.0
        first = z.reshape(2, 1)[0]  # a view: no kernel
    assert np.isnan(z._host).all()
    assert (y._host.tolist(), x._host.tolist()) == ([0, 0], [1, 2])
    recorded.play()
    assert (z._host.tolist(), y._host.tolist(), x._host.tolist()) == ([3, 5], [3, 5], [7, 7])
    assert first._host.tolist() == [3]
    recorded.play()  # x is 7 now
    assert y._host.tolist() == [18, 20]


def test_a_number_of_the_host_stays_what_it_was_and_one_on_the_device_does_not():
    p, rate_here, rate_there = there([1.0]), 0.5, there([0.5])
    with tape.recording() as recorded:
        p -= rate_here
        p -= rate_there
    rate_here = 100.0
    rate_there.set(np.array([1.0]))
    recorded.play()
    assert p._host.tolist() == [-0.5]


CALLS = {
    "ufunc": lambda x, i: xp.exp(x),
    "ufunc, out": lambda x, i: xp.add(x, 1, out=x),
    "reduce": lambda x, i: xp.add.reduce(x, axis=0),
    "function": lambda x, i: xp.tensordot(x, x, axes=([0], [0])),
    "function, out": lambda x, i: xp.cumsum(x, axis=1, out=x),
    "method": lambda x, i: x.sum(axis=(0, 1)),
    "astype": lambda x, i: x.astype(np.float32).astype(np.int64),
    "transposed copy": lambda x, i: xp.ascontiguousarray(x.T) + 1,
    "unary": lambda x, i: -x,
    "comparison": lambda x, i: x > 2,
    "take": lambda x, i: x.take(i, 0),
    "xp.take": lambda x, i: xp.take(x, i, 1),
    "index": lambda x, i: x[i],
    "index, changed before": lambda x, i: x[i + i],
    "along axis": lambda x, i: xp.take_along_axis(x, i[:, None], 1),
    "argmax": lambda x, i: x.argmax(axis=1),
    "where": lambda x, i: xp.where(x > 1, x, 0.0),
    "zeros": lambda x, i: xp.zeros(3) + x[0, 0],
    "number": lambda x, i: xp.asarray(2.0) * x,
    "stack": lambda x, i: xp.stack([x, x + 1]),
    "divmod": lambda x, i: divmod(x, 2)[1],
}
WRITES = {
    "fill": lambda x, i: x.fill(4.0),
    "set by index": lambda x, i: x.__setitem__(i, 9.0),
    "set by slice": lambda x, i: x.__setitem__((slice(None), 1), x[:, 0] + 1),
    "add.at": lambda x, i: xp.add.at(x, i, 1.0),
    "put along axis": lambda x, i: xp.put_along_axis(x, i[:, None], 5.0, 1),
    "in place": lambda x, i: x.__imul__(3),
}


@pytest.mark.parametrize("name", [*CALLS, *WRITES])
def test_playing_gives_what_computing_gives(name):
    call = {**CALLS, **WRITES}[name]
    values, indices = np.arange(6.0).reshape(2, 3), np.array([1, 0])
    x, i = there(values), there(indices)
    expected = call(x, i)
    expected = (x if name in WRITES else expected)._host.copy()
    x, i = there(values), there(indices)
    with tape.recording() as recorded:
        found = call(x, i)
    assert (x._host == values).all(), "recording must not write"
    recorded.play()
    np.testing.assert_array_equal((x if name in WRITES else found)._host, expected)


def test_the_host_may_not_wait_or_copy_while_a_tape_records():
    x = there([1.0, 2.0])
    for call in (
        x.get,
        x[0].item,
        lambda: bool(x[0] > 0),
        lambda: x[x > 0],
        lambda: xp.nonzero(x),
        lambda: xp.asarray(np.ones(3)),
        lambda: backend.to_device(np.ones(3), "strict"),
        lambda: x[[0, 1]],
        lambda: x.set(np.zeros(2)),
    ):
        strict.install()
        with (
            tape.recording(),
            pytest.raises(RuntimeError, match="the current stream is capturing, so .* is disall"),
        ):
            call()
    assert x.get().tolist() == [1, 2]
