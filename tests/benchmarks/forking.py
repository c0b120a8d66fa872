"""Forks: a new segment at a turn near the end of a long log, in time and in bytes."""

import os
from collections.abc import Callable
from functools import partial

from benchmarks.bench import Bench, Log
from benchmarks.measure import FLAT, Row, Samples, interleave, scaled, timed
from session_log import FsStore, SegmentWriter, fork_at

LOG_TURNS, LONG_LOG_TURNS = 1_000, 10_000
TURNS_FROM_THE_END = 3
MAX_FORK_BYTES = 600.0


def fork(bench: Bench) -> list[Row]:
    """Fork by reference three turns before the end, at two sizes, warm and cold, beside the creation of one file."""
    log, long = bench.log(LOG_TURNS), bench.log(LONG_LOG_TURNS)
    size_bytes = _fork_size(log)
    with _writer(log) as writer, _writer(long) as long_writer:
        limit, *ours = interleave(
            [
                _creating(log, size_bytes, "warm"),
                lambda _: timed(partial(_fork_in, log.store, log)),
                lambda _: timed(partial(_fork_in, long.store, long)),
                lambda _: timed(partial(writer.fork_at, _cut(log))),
                lambda _: timed(partial(long_writer.fork_at, _cut(long))),
            ],
            bench.rounds(100),
        )
    rows = _rows(log, long, scaled(limit, 1e6), [scaled(samples, 1e6) for samples in ours])
    return [*rows, *_cold(bench, log, long, size_bytes), _bytes_row(size_bytes)]


def _rows(log: Log, long: Log, limit: Samples, ours: list[Samples]) -> list[Row]:
    row = partial(Row, beside="one file with one line", unit="µs", limit=limit, target=4.0)
    return [
        row(operation=f"fork_at near the end of {log.turns:,} turns", ours=ours[0]),
        row(operation=f"fork_at near the end of {long.turns:,} turns", ours=ours[1]),
        Row(operation="  long beside short", beside="short log", unit="µs", ours=ours[1], limit=ours[0], target=FLAT),
        row(operation="  what it adds to the file", ours=ours[1], compared="difference", target=None),
        row(operation=f"writer.fork_at, {log.turns:,} turns", ours=ours[2]),
        row(operation=f"writer.fork_at, {long.turns:,} turns", ours=ours[3]),
    ]


def _cold(bench: Bench, log: Log, long: Log, size_bytes: int) -> list[Row]:
    """Measure the first fork of a store that has not seen the segment yet."""
    limit, *ours = interleave(
        [
            _creating(log, size_bytes, "cold"),
            _forking_cold(log),
            _forking_cold(long),
        ],
        bench.rounds(15),
    )
    row = partial(Row, beside="one file with one line", unit="µs", limit=scaled(limit, 1e6))
    return [
        row(operation=f"  first fork_at of a store, {some.turns:,} turns", ours=scaled(samples, 1e6))
        for some, samples in zip((log, long), ours, strict=True)
    ]


def _bytes_row(size_bytes: int) -> Row:
    return Row(
        operation="size of a forked segment",
        beside="",
        unit="B",
        compared="value",
        ours=(float(size_bytes),),
        target=MAX_FORK_BYTES,
    )


def _cut(log: Log) -> int:
    return log.turns - TURNS_FROM_THE_END


def _fork_in(store: FsStore, log: Log) -> str:
    return fork_at(store, log.session_id, log.segment_id, _cut(log))


def _fork_size(log: Log) -> int:
    child = _fork_in(log.store, log)
    return os.path.getsize(log.store.segment_path(log.session_id, child))


def _writer(log: Log) -> SegmentWriter:
    return SegmentWriter.resume(log.store, log.session_id, log.segment_id)


def _forking_cold(log: Log) -> Callable[[int], float]:
    def side(_: int) -> float:
        store = FsStore(log.store.root, durability="process", feed=False)
        try:
            return timed(partial(_fork_in, store, log))
        finally:
            store.close()

    return side


def _creating(log: Log, size_bytes: int, name: str) -> Callable[[int], float]:
    """Return the side that times the least a fork could do: a new file with one line in it.

    It is made where the forks are, because its price is the disk's: ext4 steps over every inode freed there in the last
    minutes, so that it takes 5 µs or, after a run of tests that removed their files, 100. The forks pay that, too.
    """
    folder = os.path.dirname(log.path)
    line = b"x" * (size_bytes - 1) + b"\n"
    return lambda number: timed(partial(_create, f"{folder}/{name}-{number}.tmp", line))


def _create(path: str, line: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(fd, line)
    os.close(fd)
