"""How it is timed: sides run in turn, round by round, so that a slow moment of the machine meets all of them.

What is compared is the median over the rounds, which one preempted round does not move, and beside it the median of
the ratios within a round, which a machine that gets slower during the run does not move.
"""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
Samples = tuple[float, ...]
WARM_UP_ROUNDS = 2
"""Rounds that are run and not counted: descriptors are opened, directories made, code paths warmed in them."""
HEAP_BYTES, HEAP_BLOCK_BYTES = 128 << 20, 4_000
"""What the sides of one benchmark keep at most; in blocks that the allocator takes from the heap."""
FLAT = 1.25
"""What must not depend on the size may be this much slower at the greater one: the noise of two medians."""


class Clocks(NamedTuple):
    """Seconds of the processor and on the wall."""

    cpu_s: float
    wall_s: float


def interleave(sides: Sequence[Callable[[int], T]], rounds: int) -> list[tuple[T, ...]]:
    """Call every side once a round, in their order, with the number of the round; return the results by side.

    A side times itself, so that its preparation does not count. Numbers from 0 up to ``rounds + WARM_UP_ROUNDS`` are
    passed; the results of the first ``WARM_UP_ROUNDS`` are dropped. What was prepared before is hidden from the
    garbage collector, whose passes over it no side should pay for.
    """
    gc.collect()
    gc.freeze()
    try:
        results = [tuple(side(number) for side in sides) for number in range(rounds + WARM_UP_ROUNDS)]
    finally:
        gc.unfreeze()
    return list(zip(*results[WARM_UP_ROUNDS:], strict=True))


@contextlib.contextmanager
def grown_heap() -> Iterator[None]:
    """Have memory at hand that the system has given already, with a block behind it that keeps it from going back.

    What the sides keep makes the heap grow, and the system charges each new page to whoever touches it first: mostly
    to the side without memory of its own. (Found with the limit of a batch at 20 µs in one run and 12 in the next.)
    """
    blocks = [b"." * HEAP_BLOCK_BYTES for _ in range(HEAP_BYTES // HEAP_BLOCK_BYTES)]
    last = blocks[-1]
    del blocks
    yield
    del last


def timed(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds ``action`` takes; what it returns lives until after the clock was read."""
    start = clock()
    kept = action()
    seconds = clock() - start
    del kept
    return seconds


def clocked(action: Callable[[], object]) -> Clocks:
    """Return the seconds ``action`` takes on both clocks, after a collection of garbage."""
    gc.collect()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    kept = action()
    clocks = Clocks(time.process_time() - cpu_s, time.perf_counter() - wall_s)
    del kept
    return clocks


def cpu_ms(samples: Sequence[Clocks]) -> Samples:
    """Return the processor times, in milliseconds."""
    return scaled([clocks.cpu_s for clocks in samples], 1e3)


def wall_ms(samples: Sequence[Clocks]) -> Samples:
    """Return the times on the wall, in milliseconds."""
    return scaled([clocks.wall_s for clocks in samples], 1e3)


def scaled(samples: Sequence[float], factor: float) -> Samples:
    """Return the samples in another unit."""
    return tuple(sample * factor for sample in samples)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: samples of ours, samples of what stood beside it, and how the two are compared."""

    operation: str
    beside: str
    unit: str
    ours: Samples
    limit: Samples = ()
    compared: Literal["ratio", "difference", "value"] = "ratio"
    target: float | None = None

    @property
    def figure(self) -> float:
        """The median of ours: divided by the limit's, less the limit's, or as it is."""
        return self._compare(statistics.median(self.ours), statistics.median(self.limit or (0.0,)))

    @property
    def figure_by_round(self) -> float:
        """The median of what :attr:`figure` says, taken within each round."""
        if not self.limit:
            return self.figure
        return statistics.median(self._compare(*pair) for pair in zip(self.ours, self.limit, strict=True))

    @property
    def reached(self) -> bool | None:
        """Whether the figure is within the target; None without a target."""
        return None if self.target is None else self.figure <= self.target

    def _compare(self, ours: float, limit: float) -> float:
        if self.compared == "ratio":
            return ours / limit
        return ours - limit if self.compared == "difference" else ours


def quartiles(samples: Samples) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, middle, high
