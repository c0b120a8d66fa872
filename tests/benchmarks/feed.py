"""The feed: what its line costs a turn, and the sessions that were active last among very many."""

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import SEED, Bench
from benchmarks.growing import FIRST_MS, populate
from benchmarks.measure import Row, interleave, scaled, timed
from session_log import FsStore, RunCompleted, SegmentWriter, create_segment
from session_log.feed import recent_sessions

RUNS_A_ROUND = 50
LIMIT = 20
SESSIONS, FEW_SESSIONS = 100_000, 2_000
MAX_LINE_US, MAX_RECENT_MS = 10.0, 1.0


def feed(bench: Bench) -> list[Row]:
    """Measure what comes on top of a run's end, and how long the list takes."""
    return [_line(bench), _recent(bench)]


def _line(bench: Bench) -> Row:
    roots = bench.fresh_root("feed-without"), bench.fresh_root("feed-with")
    stores = [FsStore(root, durability="process", feed=root is roots[1]) for root in roots]
    with SegmentWriter.create(stores[0]) as without, SegmentWriter.create(stores[1]) as with_feed:
        limit, ours = interleave([_ends(without), _ends(with_feed)], bench.rounds(150))
    return Row(
        operation="a run's end is said in the feed",
        beside="the same with feed=False",
        unit="µs/run",
        compared="difference",
        ours=scaled(ours, 1e6),
        limit=scaled(limit, 1e6),
        target=MAX_LINE_US,
    )


def _ends(writer: SegmentWriter) -> Callable[[int], float]:
    ended = RunCompleted(ts=FIRST_MS, interrupted=False, result="finished")

    def in_round(_: int) -> float:
        def repeated() -> None:
            for _ in range(RUNS_A_ROUND):
                writer.append(ended)

        return timed(repeated) / RUNS_A_ROUND

    return in_round


def _recent(bench: Bench) -> Row:
    sessions = FEW_SESSIONS if bench.quick else SESSIONS
    store = store_of(bench.fresh_root("feed-recent"), sessions)
    found = recent_sessions(store, LIMIT)
    assert not found.scanned and len(found) == LIMIT, found.reason
    (ours,) = interleave([lambda _: timed(partial(recent_sessions, store, LIMIT))], bench.rounds(200))
    return Row(
        operation=f"recent_sessions({LIMIT}) of {sessions:,}",
        beside="",
        unit="ms",
        compared="value",
        ours=scaled(ours, 1e3),
        target=MAX_RECENT_MS,
    )


def store_of(root: Path, sessions: int) -> FsStore:
    """Return a store of so many sessions, whose feed says that each was active once more, in any order.

    The feed is written as FORMAT-BESIDE.md says, not by so many stores.
    """
    store = FsStore(root, durability="process")
    create_segment(store)  # which begins the feed
    ids = populate(root, sessions - 1)
    lines = [_said("create", ids) for ids in ids]
    random.Random(SEED).shuffle(ids)
    lines += [_said("run_end", ids) for ids in ids]
    fd = os.open(root / "feed.jsonl", os.O_WRONLY | os.O_APPEND)
    try:
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    return store


def _said(kind: str, ids: tuple[str, str]) -> bytes:
    return f'{{"kind":"{kind}","ts":{FIRST_MS},"session_id":"{ids[0]}","segment_id":"{ids[1]}"}}\n'.encode()
