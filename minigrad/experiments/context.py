"""What `measure` is handed: the data, a progress bar, and a place for times.

Data sets are read once in a process and shared by all experiments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minigrad.creation import from_numpy
from minigrad.data import DataBundle, DataUnavailableError, load
from minigrad.data.transforms import ToFloat
from minigrad.errors import ArgumentError
from minigrad.tensor import Tensor

__all__ = ["Context", "Progress"]

NAMES = ("fashion_mnist", "mnist")
_read: dict[tuple[str, str], DataBundle] = {}
_tensors: dict[tuple[str, str, str], tuple[Tensor, Tensor]] = {}


class Progress:
    """Shows nothing. `bar.py` has the one for terminals."""

    def begin(self, steps: int, what: str) -> None:
        """A loop of so many steps begins."""

    def advance(self) -> None:
        """One step is done."""

    def end(self) -> None:
        """The loop is over, perhaps because of an error."""


class Context:
    """Handed to `measure`.

    Attributes:
        dataset: name of the pictures that were really used, "" as long as none were asked for.
        used: name asked for -> name of what was used: other than itself where garments had to be drawn.
        timings: seconds by name.

    >>> context = Context()
    >>> [step for step in context.steps(3, "counting")]
    [0, 1, 2]
    >>> context.time("a step", 0.5)
    >>> context.timings
    {'a step': 0.5}
    """

    def __init__(
        self,
        data_dir: str | None = None,
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.progress = Progress() if progress is None else progress
        self.say = say
        self.used: dict[str, str] = {}
        self.timings: dict[str, float] = {}

    @property
    def dataset(self) -> str:
        return ", ".join(dict.fromkeys(self.used.values()))

    def steps(self, n: int, what: str = "") -> Iterator[int]:
        """0, 1 ... n - 1, for a loop that the user may want to see moving."""
        self.progress.begin(n, what)
        try:
            for step in range(n):
                yield step
                self.progress.advance()
        finally:
            self.progress.end()

    def time(self, name: str, seconds: float) -> None:
        """Keeps a time, for the JSON file; a second one under the same name replaces the first."""
        self.timings[name] = float(seconds)

    def data(self, name: str, split: str) -> tuple[Tensor, Tensor]:
        """All pictures (N, 1, 28, 28), float32 from 0 to 1, and labels (N,), int64, of "train" or "test".

        From `data_dir`, MINIGRAD_DATA, the cache or the network. Where the data set cannot be had, garments
        drawn by code take its place, and the user is told.
        """
        if name not in NAMES or split not in ("train", "test"):
            raise ArgumentError(
                f"Context.data: expected {' or '.join(NAMES)}, and train or test; got {name!r}, {split!r}"
            )
        bundle = self._bundle(name)
        key = (name, self.data_dir or "", split)
        if key not in _tensors:
            part = bundle.train if split == "train" else bundle.test
            pictures = ToFloat()(part.images[:, None])
            _tensors[key] = (from_numpy(pictures), from_numpy(part.labels))
        return _tensors[key]

    def available(self, name: str) -> str:
        """What `data` would use for this name: the name itself, or "garments"."""
        return self._bundle(name).name

    def _bundle(self, name: str) -> DataBundle:
        key = (name, self.data_dir or "")
        if key not in _read:
            _read[key] = self._load(name)
        self.used[name] = _read[key].name
        return _read[key]

    def _load(self, name: str) -> DataBundle:
        try:
            return load(name, self.data_dir, say=self.say)
        except DataUnavailableError:
            if self.say is not None:
                self.say(
                    f"NOTE: {name} is not on this machine and could not be downloaded. Using the built-in "
                    "garments drawn by code instead: numbers are not comparable. Set MINIGRAD_DATA to the "
                    "folder with its files."
                )
            return load("garments", say=None)
