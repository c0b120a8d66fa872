"""What is measured as things grow: the operations, and the places of each size that they work in."""

import os
import random
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.bench import SEED, Bench
from benchmarks.measure import timed
from session_log import (
    AssistantItem,
    FsStore,
    Head,
    Message,
    RequestConfig,
    SegmentStart,
    SegmentWriter,
    TextInput,
    TurnEnd,
    UserInput,
    append_entry,
    create_segment,
    encode_line,
    ensure_head_or_fork,
    fork_at,
    head,
    restore,
)

Axis = Literal["turns", "sessions"]
Growth = Literal["O(1)", "O(n)"]
Clock = Literal["wall", "CPU"]
SIZES: Mapping[Axis, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "turns": ((10, 100, 1_000, 10_000), (10, 100, 1_000)),
    "sessions": ((100, 10_000, 100_000), (100, 1_000, 10_000)),
}
"""The sizes of a full run, and of a quick one."""
TURNS_FROM_THE_END = 3
LISTED = 20
CHOSEN = 20
"""How many sessions of a population are worked on: as many at every size, so that they are as near at every size."""
FIRST_MS = 1_735_689_600_000
"""When the first session of a population was created: the beginning of 2025. The others follow, one a second."""
NOBODY = "00000000-0000-7000-8000-000000000000"
SAID = AssistantItem(ts=4_000_000_000_000, item=Message.assistant("All 214 tests pass now."))


class Place:
    """A store that has a size, and the segments in it to work on."""

    def __init__(self, store: FsStore, chosen: list[tuple[str, str]], size: int) -> None:
        self.store = store
        self.chosen = chosen
        self.session_id, self.segment_id = chosen[0]
        self.size = size

    @cached_property
    def writer(self) -> SegmentWriter:
        """A writer on the first segment."""
        return SegmentWriter.resume(self.store, self.session_id, self.segment_id)

    @cached_property
    def synced(self) -> FsStore:
        """The same store, with the default durability."""
        return FsStore(self.store.root, feed=False)

    @cached_property
    def head(self) -> Head:
        """Where the first segment ends."""
        return head(self.store, self.session_id, self.segment_id)


class Operation(NamedTuple):
    """Something to do in a place, ``times`` in a round; it is given the number of the round.

    What lasts long enough to lose the processor, or waits for the disk, is measured in seconds of the processor.
    """

    name: str
    growth: Growth
    clock: Clock
    rounds: int
    times: int
    action: Callable[[Place, int], object]


def side(operation: Operation, place: Place) -> Callable[[int], float]:
    """Return what times the operation in that place, in seconds."""
    action, times = operation.action, operation.times
    clock = time.process_time if operation.clock == "CPU" else time.perf_counter

    def in_round(number: int) -> float:
        def repeated() -> object:
            for _ in range(times - 1):
                action(place, number)
            return action(place, number)

        return timed(repeated, clock) / times

    return in_round


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def log_of(bench: Bench, turns: int) -> Place:
    """Return a log of so many turns, alone in its store."""
    log = bench.log(turns)
    return Place(log.store, [(log.session_id, log.segment_id)], turns)


def population_of(bench: Bench, sessions: int) -> Place:
    """Return a store of so many sessions, each of one turn; some are read back to see that they are sessions."""
    store = FsStore(bench.fresh_root("population"), durability="process", feed=False)
    ids = populate(Path(store.root), sessions)
    chosen = [ids[0], *random.Random(SEED).sample(ids[1:], CHOSEN - 1)]
    for session_id, segment_id in chosen:
        state = restore(store, session_id, segment_id)
        assert (state.session_id, state.turn_count, len(state.history)) == (session_id, 1, 2), state
    assert store.list_sessions() == sorted((session_id for session_id, _ in ids), reverse=True)
    return Place(store, chosen, sessions)


def populate(root: Path, sessions: int) -> list[tuple[str, str]]:
    """Write so many sessions into ``root`` as FORMAT.md says, oldest first, and return their ids.

    Not through the library: that would take five times as long.
    """
    text = b"\n".join(encode_line(entry) for entry in _conversation()) + b"\n"
    written = []
    for number in range(sessions):
        session_id, segment_id = _id(number, 0x8), _id(number, 0x9)
        os.mkdir(root / session_id, 0o700)
        fd = os.open(root / session_id / f"{segment_id}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, text.replace(NOBODY.encode(), session_id.encode(), 1))
        os.close(fd)
        written.append((session_id, segment_id))
    return written


def _conversation() -> tuple[SegmentStart | UserInput | AssistantItem | TurnEnd, ...]:
    return (
        SegmentStart(ts=FIRST_MS, session_id=NOBODY, system_prompt=None, config=RequestConfig(), history=(), v=1),
        UserInput(ts=FIRST_MS, segments=(TextInput("Does the writer agree with the parser on empty headers?"),)),
        AssistantItem(
            ts=FIRST_MS, item=Message.assistant("It does not: the parser accepts one, the writer never does.")
        ),
        TurnEnd(ts=FIRST_MS, turn_count=1),
    )


def _id(number: int, variant: int) -> str:
    """Return the UUID of version 7 that the number's second gives."""
    ms = f"{FIRST_MS + 1_000 * number:012x}"
    return f"{ms[:8]}-{ms[8:]}-7000-{variant:x}000-{number:012x}"


PLACES: Mapping[Axis, Callable[[Bench, int], Place]] = {"turns": log_of, "sessions": population_of}


# ── operations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _list_sessions(place: Place, number: int) -> object:
    return place.store.list_sessions(limit=LISTED)


def _list_segments(place: Place, number: int) -> object:
    return place.store.list_segments(place.session_id)


def _lookup(place: Place, number: int) -> object:
    assert place.store.lookup_session_of(place.segment_id) == place.session_id
    return None


def _restore(place: Place, number: int) -> object:
    return restore(place.store, *place.chosen[number % len(place.chosen)])


def _resume(place: Place, number: int) -> object:
    with SegmentWriter.resume(place.store, *place.chosen[number % len(place.chosen)]) as writer:
        return writer


def _check_head(place: Place, number: int) -> object:
    return ensure_head_or_fork(place.store, place.head)


def _fork(place: Place, number: int) -> object:
    return fork_at(place.store, place.session_id, place.segment_id, place.size - TURNS_FROM_THE_END)


def _synced_fork(place: Place, number: int) -> object:
    return fork_at(place.synced, place.session_id, place.segment_id, place.size - TURNS_FROM_THE_END)


def _first_fork(place: Place, number: int) -> object:
    with FsStore(place.store.root, durability="process", feed=False) as store:
        return fork_at(store, place.session_id, place.segment_id, place.size - TURNS_FROM_THE_END)


def _append(place: Place, number: int) -> object:
    return place.writer.append(SAID)


def _append_entry(place: Place, number: int) -> object:
    return append_entry(place.store, place.session_id, place.segment_id, SAID)


def _create(place: Place, number: int) -> object:
    return create_segment(place.store)


_LIST_SESSIONS = f"list_sessions(limit={LISTED})"
OPERATIONS: Mapping[Axis, tuple[Operation, ...]] = {
    "turns": (
        Operation("restore", "O(n)", "CPU", 7, 1, _restore),
        Operation("SegmentWriter.resume", "O(n)", "CPU", 7, 1, _resume),
        Operation(_LIST_SESSIONS, "O(1)", "wall", 50, 10, _list_sessions),
        Operation("list_segments", "O(1)", "wall", 50, 10, _list_segments),
        Operation("head check", "O(1)", "wall", 50, 50, _check_head),
        Operation("fork_at", "O(1)", "wall", 50, 1, _fork),
        Operation("fork_at, synced", "O(1)", "CPU", 15, 1, _synced_fork),
        Operation("first fork_at of a store", "O(n)", "CPU", 7, 1, _first_fork),
        Operation("writer.append", "O(1)", "wall", 50, 10, _append),
        Operation("append_entry", "O(1)", "wall", 50, 10, _append_entry),
    ),
    "sessions": (
        Operation("lookup_session_of", "O(n)", "CPU", 3, 1, _lookup),
        Operation(_LIST_SESSIONS, "O(n)", "CPU", 15, 1, _list_sessions),
        Operation("list_segments", "O(1)", "wall", 50, 10, _list_segments),
        Operation("restore", "O(1)", "wall", 50, 1, _restore),
        Operation("SegmentWriter.resume", "O(1)", "wall", 50, 1, _resume),
        Operation("head check", "O(1)", "wall", 50, 50, _check_head),
        Operation("writer.append", "O(1)", "wall", 50, 10, _append),
        Operation("create_segment", "O(1)", "wall", 50, 1, _create),
    ),
}
"""In the order in which they are measured: what reads before what adds to what is read, a few percent of it."""
