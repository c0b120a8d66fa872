"""Where a run takes place: its folder, its clock, who takes part, and how long each may take."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from benchmarks.bench import Bench
from benchmarks.measure import interleave
from benchmarks.peers.interface import Clock, Driver, Role, Session, Sessions
from benchmarks.peers.material import exchanges
from benchmarks.peers.systems import among

T = TypeVar("T")
Side = Callable[[int], float]


@dataclass(frozen=True)
class Shelf:
    """A folder with the conversations of one system, open."""

    driver: Driver
    sessions: Sessions
    session: Session
    folder: Path


@dataclass(frozen=True)
class Setting:
    """What every operation is given."""

    bench: Bench
    drivers: tuple[Driver, ...]
    clock: Clock = field(default_factory=Clock)
    _open: list[Sessions] = field(default_factory=list)
    _filled: dict[tuple[str, int], Shelf] = field(default_factory=dict)

    def among(self, *roles: Role) -> list[Driver]:
        """Return who takes part."""
        return among(self.drivers, *roles)

    def amount(self, full: int, quick: int) -> int:
        """Return how much of something: ``quick`` in a quick run."""
        return quick if self.bench.quick else full

    def filled(self, driver: Driver, turns: int) -> Shelf:
        """Return a conversation of so many turns, which nobody changes: it is written once and then shared."""
        key = driver.key, turns
        if key not in self._filled:
            self._filled[key] = self.fresh(driver, turns)
        return self._filled[key]

    def fresh(self, driver: Driver, turns: int) -> Shelf:
        """Return a new conversation of so many turns, in a folder of its own."""
        folder, sessions = self.started(driver, str(turns))
        return Shelf(driver, sessions, sessions.fill(exchanges(0, turns)), folder)

    def started(self, driver: Driver, name: str) -> tuple[Path, Sessions]:
        """Return a folder, and the conversations in it, of which there are none yet."""
        folder = self.bench.fresh_root(f"{driver.key}-{name}")
        sessions = driver.start(folder)
        self._open.append(sessions)
        return folder, sessions

    def closed(self) -> None:
        """Close everything that is open."""
        for sessions in self._open:
            sessions.close()
        self._open.clear()
        self.clock.close()

    def within(
        self,
        sides: Sequence[Callable[[int], T]],
        rounds: int,
        budget_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> list[tuple[T, ...]]:
        """Interleave the sides; one that has used up its seconds sits out, and has fewer samples.

        A first round is not counted, being cold, unless it alone took the whole budget.
        """
        limited = [_Limited(side, budget_s, now) for side in sides]
        results = interleave(limited, rounds)
        return [
            tuple(sample for sample in samples if sample is not None) or tuple(side.first)
            for side, samples in zip(limited, results, strict=True)
        ]


class _Limited(Generic[T]):
    """A side with a budget."""

    def __init__(self, side: Callable[[int], T], budget_s: float, now: Callable[[], float]) -> None:
        self._side = side
        self._left_s = budget_s
        self._now = now
        self._is_slow = False
        self.first: list[T] = []

    def __call__(self, number: int) -> T | None:
        if self._left_s <= 0 or (number == 1 and self._is_slow):
            return None
        start = self._now()
        sample = self._side(number)
        self._left_s -= self._now() - start
        if number == 0:
            self._is_slow = self._now() - start > self._left_s / 4
            self.first.append(sample)
        return sample
