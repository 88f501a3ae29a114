"""Timing several contestants so that whatever slows the machine down slows all of them.

Time is taken in rounds. In a round each contestant has one block: a short pause, some steps that do not count,
then steps that are timed one by one; the block's figure is their median. The next round starts with another
contestant. So two figures of one round lie a second apart, and their ratio is sound even where the machine's
speed drifts; the spread of the ratios over the rounds says how far to trust it.

The pause and the steps that do not count are there because worker threads go on spinning for a while after
their last piece of work, and would take a core from whoever comes next.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Contestant", "Pace", "Ratio", "Timing", "interleave", "ratio"]

LONG = 2.0  # seconds; a step that takes longer is run no more often than needed


@dataclass(frozen=True)
class Contestant:
    """Somebody who can do one step.

    Attributes:
        name: for tables.
        step: one step, from a batch of bytes to the updated weights (or the outputs).
        prepare: called before each block, not timed; sets the number of threads.
    """

    name: str
    step: Callable[[], object]
    prepare: Callable[[], None]


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes:
        rounds: how many, if they fit into the budget.
        least_rounds: how many in any case.
        block: seconds of timed steps in a block; at least one step.
        settle: seconds of pause, and of steps that do not count, before them.
        budget: seconds for all rounds of one comparison, about.
    """

    rounds: int = 7
    least_rounds: int = 3
    block: float = 0.1
    settle: float = 0.04
    budget: float = 20.0


@dataclass(frozen=True)
class Timing:
    """Seconds a step: one figure for each round."""

    name: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Ratio:
    """How many times faster: the median over the rounds, and the smallest and largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(theirs: Timing, ours: Timing) -> Ratio:
    """Their time over ours, round by round: above 1 we are faster.

    >>> str(ratio(Timing("a", (2.0, 3.0, 8.0)), Timing("b", (1.0, 1.0, 2.0))))
    '3.00 (2.00 to 4.00)'
    """
    quotients = [t / o for t, o in zip(theirs.rounds, ours.rounds, strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients))


def interleave(contestants: Sequence[Contestant], pace: Pace) -> list[Timing]:
    """Times all contestants in turns; the result is in their order."""
    gc.collect()  # what the comparison before this one left behind
    steps = [_steps_in_a_block(contestant, pace) for contestant in contestants]
    rounds = _rounds(steps, pace)
    figures: list[list[float]] = [[] for _ in contestants]
    for number in range(rounds):
        for place in range(len(contestants)):
            index = (number + place) % len(contestants)  # everybody is first, and last, once in a while
            figures[index].append(_block(contestants[index], steps[index][0], pace))
    return [Timing(c.name, tuple(seconds)) for c, seconds in zip(contestants, figures, strict=True)]


def _steps_in_a_block(contestant: Contestant, pace: Pace) -> tuple[int, float]:
    """How many steps a block has, and the seconds that a step takes, about; warms up on the way."""
    contestant.prepare()
    seconds = _time(contestant.step)
    if seconds < LONG:
        seconds = min(_time(contestant.step) for _ in range(4))
    return max(1, round(pace.block / seconds)), seconds


def _rounds(steps: Sequence[tuple[int, float]], pace: Pace) -> int:
    one_round = sum(2 * pace.settle + number * seconds for number, seconds in steps)
    return max(pace.least_rounds, min(pace.rounds, int(pace.budget / one_round)))


def _block(contestant: Contestant, steps: int, pace: Pace) -> float:
    contestant.prepare()
    time.sleep(pace.settle)
    if steps > 1:  # steps that take longer than a block need no warming up
        end = time.perf_counter() + pace.settle
        contestant.step()
        while time.perf_counter() < end:
            contestant.step()
    return statistics.median(_time(contestant.step) for _ in range(steps))


def _time(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
