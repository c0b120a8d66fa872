"""What a proof is: promises tried many times, each with what it takes to try it again."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


class Skipped(Exception):
    """This machine cannot run the proof; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One row of the table: a promise, how often it was tried, and each time it did not hold.

    ``broken`` says what happened and how to see it again, a line each. ``unit`` names what was tried (cuts, states,
    rounds). ``figures`` is what else the run measured, for the table's last column.
    """

    promise: str
    unit: str
    tried: int
    broken: tuple[str, ...] = ()
    figures: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was tried, and held each time."""
        return self.tried > 0 and not self.broken


@dataclass(frozen=True)
class Lab:
    """Where a proof works: an empty directory on a real disk, a seed, and how long it may take."""

    root: Path
    seed: int
    quick: bool
    report: Callable[[str], None] = field(default=lambda _: None)

    def random(self, name: str) -> random.Random:
        """Return the source of chance called ``name``: the same for the same seed."""
        return random.Random(f"{self.seed}/{name}")

    def amount(self, full: int, quick: int) -> int:
        """Return how many of something to try: ``full``, or ``quick`` in the short version that CI runs."""
        return quick if self.quick else full

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Lend an empty directory; it is removed at the end, with all that is in it."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


class Stopwatch:
    """The seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start
