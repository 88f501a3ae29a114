"""Stream capture for the stand-in: what is computed while a tape records is written down, and done when it is played.

As with a CUDA graph,

- recording does not compute: a new array holds NaN until the tape is played, and a write is not done;
- playing repeats what the device did, on the same memory. What Python did meanwhile is not repeated, and a number
  of the host is what it was;
- the host may neither wait for the device nor send arrays to it while a tape records.

`run` is how `array.py` and `namespace.py` compute everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

Launch = Callable[[], Any]


class Tape:
    """What was computed, in order."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def play(self) -> None:
        with np.errstate(all="ignore"):  # a device says nothing of an overflow
            for launch in self.launches:
                launch()


_recording: Tape | None = None


@contextmanager
def recording() -> Iterator[Tape]:
    """Everything computed in the block goes on a new tape."""
    global _recording
    before, _recording = _recording, Tape()
    try:
        yield _recording
    finally:
        _recording = before


def forbid(what: str) -> None:
    """Refuse what a stream cannot do while it is captured, with an error like CuPy's."""
    if _recording is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} is disallowed")


def run(compute: Launch, inputs: Sequence[np.ndarray] = (), writes: Any = None) -> Any:
    """compute(), now or when the tape is played.

    Args:
        inputs: arrays of which the result may be a view; a view needs no kernel.
        writes: what is returned by a computation that writes into memory which is there already.
    """
    if _recording is None:
        return compute()
    if writes is not None:
        _recording.launches.append(compute)
        return writes
    with np.errstate(all="ignore"):
        result = compute()
    several = isinstance(result, (tuple, list))
    results = [np.asarray(r) if isinstance(r, np.generic) else r for r in (result if several else [result])]
    fresh = []
    for i, r in enumerate(results):
        if isinstance(r, np.ndarray) and not any(np.may_share_memory(r, x) for x in inputs):
            results[i] = np.array(r, order="C")  # the array that stays; `wrap` makes no further copy of it
            fresh.append((i, results[i]))
    if fresh:
        _recording.launches.append(lambda: _copy(fresh, compute(), several))
    for _, r in fresh:
        r[...] = (
            np.nan if r.dtype.kind in "fc" else 1 if r.dtype.kind == "b" else min(9999, np.iinfo(r.dtype).max)
        )
    return type(result)(results) if several else results[0]


def _copy(fresh: list[tuple[int, np.ndarray]], result: Any, several: bool) -> None:
    for i, target in fresh:
        np.copyto(target, result[i] if several else result)


def launch(compute: Launch) -> None:
    """A kernel that writes into its arguments."""
    if _recording is None:
        compute()
    else:
        _recording.launches.append(compute)
