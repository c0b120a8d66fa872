"""Clocks: one that stands still, goes backwards, or jumps; what is recorded stays in order all the same.

A time never decreases within a segment, a child's id is greater than its parent's, no id comes twice; and ids grow for
as long as the clock does not go back by more than ids may run ahead of it.
"""

import functools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import session_log as sl
from proof.lab import Lab, Tried
from proof.offspring import in_child
from session_log._clock import EARLIEST_MS, LATEST_MS, MAX_DRIFT_MS
from session_log._ids import timestamp_ms_of

NOW_MS, DAY_MS = 1_760_000_000_000, 86_400_000
IN_2200_MS, IN_1965_MS = 7_258_118_400_000, -157_766_400_000
LONG, SHORT = 4_000, 150
"""Steps on each clock."""


def _still(chance: random.Random) -> Iterator[int]:
    while True:
        yield NOW_MS


def _back_a_day(chance: random.Random) -> Iterator[int]:
    now = NOW_MS
    while True:
        now += chance.randrange(3) if chance.random() < 0.98 else -DAY_MS
        yield now


def _slews(chance: random.Random) -> Iterator[int]:
    now = NOW_MS
    while True:
        now += chance.randrange(-40, 50)
        yield now


def _elsewhere(where: int) -> Callable[[random.Random], Iterator[int]]:
    def jumps(chance: random.Random) -> Iterator[int]:
        now = NOW_MS
        while True:
            now += chance.randrange(5)
            yield where + now - NOW_MS if chance.random() < 0.05 else now

    return jumps


def _anywhere(chance: random.Random) -> Iterator[int]:
    now = NOW_MS
    while True:
        if chance.random() < 0.05:
            now = chance.choice((NOW_MS, NOW_MS - DAY_MS, IN_2200_MS, IN_1965_MS, 0, EARLIEST_MS))
        now += chance.randrange(4)
        yield now


CLOCKS: dict[str, Callable[[random.Random], Iterator[int]]] = {
    "stands still": _still,
    "goes back a day now and then": _back_a_day,
    "slews back and forth": _slews,
    "jumps to 2200 and back": _elsewhere(IN_2200_MS),
    "jumps to before 1970 and back": _elsewhere(IN_1965_MS),
    "jumps anywhere": _anywhere,
}


class Walk:
    """Records on one clock, with a note of each id and of the clock when it was drawn."""

    def __init__(self, root: Path, name: str, seed: int) -> None:
        self._chance = random.Random(f"{seed}/clocks/{name}")
        self._clock = CLOCKS[name](self._chance)
        self._now = next(self._clock)
        self._store = sl.FsStore(root, durability="process")
        self.ids: list[tuple[str, int]] = []
        self.broken: list[str] = []

    def run(self, steps: int) -> tuple[int, list[str]]:
        """Take the steps, look at every segment at the end, and return how many ids were drawn and what was broken."""
        real, time.time_ns = time.time_ns, lambda: self._now * 1_000_000
        try:
            self._record(steps)
        finally:
            time.time_ns = real
        self._look()
        return len(self.ids), self.broken

    def _record(self, steps: int) -> None:
        writer = self._new()
        verbs: list[Callable[[sl.SegmentWriter], object]] = [
            lambda w: w.save_user_input("x"),
            lambda w: w.save_delta([sl.Message.assistant("x"), sl.Message.assistant("y")]),
            lambda w: w.save_turn_end(),
            self._in_a_batch,
            lambda w: sl.save_extension(self._store, w.session_id, w.segment_id, "d", None),
            lambda w: self._child(w, w.fork_at(0)),
            lambda w: self._child(w, w.fork_at_entry(1, copy_history=True)),
            lambda w: self._child(w, w.compact(sl.SegmentStartState())),
        ]
        for step in range(steps):
            self._now = next(self._clock)
            if step % 40 == 39:
                writer.close()
                writer = self._new()
            before = writer.segment_id
            self._chance.choice(verbs)(writer)
            if writer.segment_id not in {before, self.ids[-1][0]}:
                self._child_of(before, writer.segment_id)

    def _new(self) -> sl.SegmentWriter:
        writer = sl.SegmentWriter.create(self._store)
        self._drawn(writer.session_id)
        self._drawn(writer.segment_id)
        return writer

    def _in_a_batch(self, writer: sl.SegmentWriter) -> None:
        with writer.batch():
            writer.save_invoke()
            self._now = next(self._clock)
            writer.save_user_input("x")

    def _child(self, writer: sl.SegmentWriter, segment_id: str) -> None:
        origin = sl.read_entries(self._store, writer.session_id, segment_id, 0, 1)[0]
        parent = origin.forked_from or origin.compacted_from if isinstance(origin, sl.SegmentStart) else None
        self._child_of(parent.segment_id if parent is not None else "", segment_id)

    def _child_of(self, parent: str, child: str) -> None:
        if child <= parent:
            self.broken.append(f"segment {child} is a child of {parent}, and not greater")
        self._drawn(child)

    def _drawn(self, drawn: str) -> None:
        self.ids.append((drawn, self._now))

    def _look(self) -> None:
        drawn = [drawn for drawn, _ in self.ids]
        if len(set(drawn)) != len(drawn):
            self.broken.append("an id came twice")
        for session_id in self._store.list_sessions():
            for segment_id in self._store.list_segments(session_id):
                times = [
                    entry.ts for entry in sl.read_entries(self._store, session_id, segment_id) if hasattr(entry, "ts")
                ]
                if times != sorted(times):
                    self.broken.append(f"times decrease within {session_id}/{segment_id}")
                sl.restore(self._store, session_id, segment_id)


def _walk(root: Path, name: str, seed: int, steps: int) -> tuple[int, list[str]]:
    return Walk(root, name, seed).run(steps)


def _draws(name: str, seed: int, steps: int) -> tuple[int, list[str]]:
    """Draw ids of new sessions on one clock, and return how many, and what was broken."""
    clock = CLOCKS[name](random.Random(f"{seed}/draws/{name}"))
    broken: list[str] = []
    last, before, latest = "", 0, 0
    real = time.time_ns
    try:
        for step in range(steps):
            now = next(clock)
            time.time_ns = functools.partial(int, now * 1_000_000)
            drawn = sl.new_session_id()
            if EARLIEST_MS <= now <= LATEST_MS:
                latest = max(latest, now)
                if before <= now and drawn <= last:
                    broken.append(f"step {step}: {drawn} is not behind {last}, though the clock went on to {now}")
                if timestamp_ms_of(drawn) > latest + MAX_DRIFT_MS:
                    broken.append(
                        f"step {step}: {drawn} is ahead of every right time that the clock ever showed ({now})"
                    )
            before, last = now, drawn
    finally:
        time.time_ns = real
    return steps, broken


def clocks(lab: Lab) -> list[Tried]:
    """Record on every clock, each in a process of its own: ids remember."""
    rows = []
    steps = lab.amount(LONG, SHORT)
    with lab.folder("clocks") as root:
        walks = {
            name: in_child(functools.partial(_walk, root / str(n), name, lab.seed, steps))
            for n, name in enumerate(CLOCKS)
        }
    draws = {name: in_child(functools.partial(_draws, name, lab.seed, 10 * steps)) for name in CLOCKS}
    promises = {
        "whatever the clock does: times never decrease in a segment, a child's id is greater, no id comes twice": walks,
        "ids are in order while the clock goes on, and never ahead of every right time it showed": draws,
    }
    for promise, found in promises.items():
        broken = [f"a clock that {name}: {what}" for name, (_, some) in found.items() for what in some]
        tried = sum(count for count, _ in found.values())
        rows.append(
            Tried(promise=promise, unit="ids", tried=tried, broken=tuple(broken), figures=f"{len(CLOCKS)} clocks")
        )
    return rows
