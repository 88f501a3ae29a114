"""A stand-in for CuPy that needs no GPU: NumPy's numbers under CuPy's rules.

Code that is to run on both libraries is run on this one in every test run. It allows only the names and
parameters that CuPy has (`cupy_api.json`, written by `make_table.py`), refuses every silent conversion
between host and device, and counts what would make a GPU wait:

    from tests import strict
    strict.install()                                  # device "strict" from now on
    strict.counts.reset()
    ...
    assert strict.counts.synchronisations == 0

`array.py` has the array and its rules, `namespace.py` the functions, `tape.py` stream capture, `fixtures.py` the
fixture `device` with which a test runs on NumPy, on this and, where there is one, on a GPU.
"""

from minigrad import backend
from tests.strict.array import Counts, StrictArray, counts, upload
from tests.strict.namespace import xp

__all__ = ["Counts", "StrictArray", "counts", "install", "upload", "xp"]

_backend = backend.Backend(
    name="strict",
    xp=xp,
    array_type=StrictArray,
    asarray=lambda array, index: upload(array),
    to_numpy=lambda array: array.get(),
    device_index=lambda array: 0,
    synchronize=lambda: None,
    address=lambda array: array._host.ctypes.data,
)


def install() -> backend.Backend:
    """Make the device "strict" known to minigrad. Calling it again changes nothing."""
    return backend.register(_backend)
