"""Appends: entry by entry, a turn as one batch, a turn as one durable batch."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from benchmarks.bench import Bench, as_dicts, as_entries, rounds_of_lines
from benchmarks.measure import Row, grown_heap, interleave, scaled, timed
from session_log import (
    AssistantItem,
    FsStore,
    Invoke,
    LlmUsage,
    LogEntry,
    RunCompleted,
    SegmentStartState,
    SegmentWriter,
    ToolResultEntry,
    TurnEnd,
    UserInput,
    append_entry,
    create_segment,
)
from session_log._codec import encode_struct

T = TypeVar("T")
Action = Callable[[], object]
TURNS_A_ROUND = 10
PAUSE_S = 100e-6
sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""What makes written data durable; macOS has no fdatasync."""


def append(bench: Bench) -> list[Row]:
    """Append entry by entry, through every door there is."""
    rounds = bench.rounds(150)
    lines = rounds_of_lines(rounds, TURNS_A_ROUND)
    root = bench.fresh_root("append")
    store = FsStore(root / "store", durability="process", feed=False)
    free = partial(append_entry, store, *create_segment(store, SegmentStartState()))
    with (
        grown_heap(),
        _appending(root / "limit") as fd,
        _appending(root / "bare") as locked_fd,
        SegmentWriter.create(store) as writer,
        SegmentWriter.create(store, exclusive=True) as exclusive,
        SegmentWriter.create(store) as recorder,
    ):
        limit, bare, *ours = interleave(
            [
                _per_entry(lines, as_dicts, partial(_dump_each, fd)),
                _per_entry(lines, as_entries, partial(_lock_and_write_each, locked_fd)),
                _per_entry(lines, as_entries, partial(_append_each, writer.append)),
                _per_entry(lines, as_entries, partial(_append_each, exclusive.append)),
                _per_entry(lines, lambda some: verbs(recorder, as_entries(some)), _call_each),
                _per_entry(lines, as_entries, partial(_append_each, free)),
            ],
            rounds,
        )
    row = partial(Row, beside="orjson.dumps + os.write", unit="µs/entry", limit=scaled(limit, 1e6))
    return [
        row(operation="append entry by entry", ours=scaled(ours[0], 1e6), target=2.0),
        row(operation="  of it: encode, lock, seek, write, unlock", ours=scaled(bare, 1e6)),
        row(operation="  writer with exclusive=True", ours=scaled(ours[1], 1e6)),
        row(operation="  the writer's save_* verbs", ours=scaled(ours[2], 1e6)),
        row(operation="  append_entry(store, …)", ours=scaled(ours[3], 1e6)),
        _append_paced(bench),
    ]


def _append_paced(bench: Bench) -> Row:
    """Append with a pause before each entry, as a worker does: what may be skipped right after another is done here."""
    rounds = bench.rounds(200)
    turns = rounds_of_lines(rounds, 1)
    root = bench.fresh_root("append-paced")
    store = FsStore(root / "store", durability="process", feed=False)
    with grown_heap(), _appending(root / "limit") as fd, SegmentWriter.create(store) as writer:

        def limit_side(number: int) -> float:
            return _paced([partial(_dump_each, fd, [value]) for value in as_dicts(turns[number])])

        def our_side(number: int) -> float:
            return _paced([partial(writer.append, entry) for entry in as_entries(turns[number])])

        limit, ours = interleave([limit_side, our_side], rounds)
    return Row(
        operation=f"  writer, {PAUSE_S * 1e6:.0f} µs before each entry",
        beside="the same, as far apart",
        unit="µs/entry",
        ours=scaled(ours, 1e6),
        limit=scaled(limit, 1e6),
    )


def _paced(actions: Sequence[Action]) -> float:
    """Return the seconds an action takes on average, a pause before each, which does not count."""
    seconds = 0.0
    for action in actions:
        until = time.perf_counter() + PAUSE_S
        while time.perf_counter() < until:
            pass
        seconds += timed(action)
    return seconds / len(actions)


def batch(bench: Bench) -> list[Row]:
    """Append a turn as one batch: given as a list, and collected by ``batch()``."""
    rounds = bench.rounds(500)
    turns = rounds_of_lines(rounds, 1)
    root = bench.fresh_root("batch")
    store = FsStore(root / "store", durability="process", feed=False)
    with (
        grown_heap(),
        _appending(root / "limit") as fd,
        SegmentWriter.create(store) as writer,
        SegmentWriter.create(store, exclusive=True) as exclusive,
        SegmentWriter.create(store) as collector,
    ):
        limit, *ours = interleave(
            [
                _per_turn(turns, as_dicts, partial(_dump_joined, fd)),
                _per_turn(turns, as_entries, writer.append_entries),
                _per_turn(turns, as_entries, exclusive.append_entries),
                _per_turn(turns, as_entries, partial(_collect, collector)),
            ],
            rounds,
        )
    row = partial(Row, beside="join + one os.write", unit="µs/turn", limit=scaled(limit, 1e6))
    return [
        row(operation="append a turn as one batch", ours=scaled(ours[0], 1e6), target=1.5),
        row(operation="  writer with exclusive=True", ours=scaled(ours[1], 1e6)),
        row(operation="  through batch() and append", ours=scaled(ours[2], 1e6)),
    ]


def durable(bench: Bench) -> list[Row]:
    """Append a turn as one batch that survives a power cut when the call returns."""
    rounds = bench.rounds(500)
    turns = rounds_of_lines(rounds, 1)
    root = bench.fresh_root("durable")
    store = FsStore(root / "store", durability="power", feed=False)
    with grown_heap(), _appending(root / "limit") as fd, SegmentWriter.create(store) as writer:
        limit, ours, encoding = interleave(
            [
                _per_turn(turns, lambda lines: b"\n".join([*lines, b""]), partial(_write_and_sync, fd)),
                _per_turn(turns, as_entries, writer.append_entries),
                _per_turn(turns, as_dicts, partial(_dump_and_sync, fd)),
            ],
            rounds,
        )
    row = partial(Row, unit="µs/turn", ours=scaled(ours, 1e6))
    return [
        row(
            operation="append a turn as one durable batch",
            beside="os.write + fdatasync",
            limit=scaled(limit, 1e6),
            target=1.15,
        ),
        row(operation="  the limit encodes, too", beside="dumps, join, write, fdatasync", limit=scaled(encoding, 1e6)),
    ]


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _per_turn(
    turns: Sequence[list[bytes]], prepare: Callable[[list[bytes]], T], act: Callable[[T], object]
) -> Callable[[int], float]:
    """Return the side that times ``act`` on what ``prepare`` makes of one turn.

    It is prepared just before, untimed: what a worker records, it has just received, so it is in the processor's cache.
    """
    return lambda number: timed(partial(act, prepare(turns[number])))


def _per_entry(
    rounds: Sequence[list[bytes]], prepare: Callable[[list[bytes]], T], act: Callable[[T], object]
) -> Callable[[int], float]:
    """Return the side that times ``act`` on the entries of one round, divided by their number."""
    return lambda number: timed(partial(act, prepare(rounds[number]))) / len(rounds[number])


# The limits are loops in one function each: a call of a Python function an entry would make them slower than they are.


def _dump_each(fd: int, values: list[object]) -> None:
    dumps, write = orjson.dumps, os.write
    for value in values:
        write(fd, dumps(value) + b"\n")


def _lock_and_write_each(fd: int, entries: list[LogEntry]) -> None:
    """Do the least that an append does which several processes may do at once: no check, no state, no thread lock."""
    encode, flock, seek, write = encode_struct, fcntl.flock, os.lseek, os.write
    for entry in entries:
        data = encode(entry) + b"\n"
        flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seek(fd, 0, os.SEEK_END)
        write(fd, data)
        flock(fd, fcntl.LOCK_UN)


def _dump_joined(fd: int, values: list[object]) -> None:
    os.write(fd, b"\n".join([*map(orjson.dumps, values), b""]))


def _write_and_sync(fd: int, data: bytes) -> None:
    os.write(fd, data)
    sync_data(fd)


def _dump_and_sync(fd: int, values: list[object]) -> None:
    _dump_joined(fd, values)
    sync_data(fd)


def _append_each(append_one: Callable[[LogEntry], object], entries: list[LogEntry]) -> None:
    for entry in entries:
        append_one(entry)


def _call_each(actions: list[Action]) -> None:
    for action in actions:
        action()


def _collect(writer: SegmentWriter, entries: list[LogEntry]) -> None:
    with writer.batch():
        for entry in entries:
            writer.append(entry)


def verbs(writer: SegmentWriter, entries: list[LogEntry]) -> list[Action]:
    return [_verb(writer, entry) for entry in entries]


def _verb(writer: SegmentWriter, entry: LogEntry) -> Action:
    """Return the call that records what ``entry`` says."""
    match entry:
        case Invoke():
            return partial(writer.save_invoke, entry.trigger)
        case UserInput():
            return partial(writer.save_user_input, entry.segments)
        case AssistantItem() | ToolResultEntry():
            return partial(writer.save_delta, (entry.item,))
        case TurnEnd():
            return writer.save_turn_end
        case LlmUsage():
            return partial(writer.save_usage, **_usage_arguments(entry))
        case RunCompleted():
            return partial(writer.save_run_completed, entry.result, entry.interrupted)
    raise AssertionError(f"the generator makes no {type(entry).__name__}")


def _usage_arguments(entry: LlmUsage) -> dict[str, Any]:
    names = ("history_len", "input_total_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    return {name: getattr(entry, name) for name in (*names, "model", "latency_ms")}
