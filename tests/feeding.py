"""What the feed says, boiled down to what a rebuilt one says too; and a clock that goes as it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from session_log.feed import RecentSessions, recent_sessions, reindex

Line = dict[str, Any]
STARTS = ("create", "fork", "compact")


def feed_file(store: sl.FsStore) -> Path:
    return store.root / "feed.jsonl"


def feed_lines(store: sl.FsStore) -> list[Line]:
    """Every line but the header."""
    lines = [json.loads(line) for line in feed_file(store).read_bytes().split(b"\n") if line]
    return [line for line in lines if line["kind"] != "feed"]


def digest(store: sl.FsStore) -> dict[tuple[str, ...], Line]:
    """The start and the last run end of each segment that is there, the last title and archive of each session."""
    said: dict[tuple[str, ...], Line] = {}
    for line in feed_lines(store):
        session_id, segment_id, kind = line["session_id"], line.get("segment_id"), line["kind"]
        folder = store.root / session_id
        if (folder / f"{segment_id}.jsonl" if segment_id else folder).exists() and kind != "delete":
            of = "start" if kind in STARTS else "archive" if kind == "unarchive" else kind
            said[session_id, segment_id or "", of] = line
    return said


def thrice(store: sl.FsStore, limit: int = 20, **filters: Any) -> RecentSessions:
    """What the feed says is what the sessions say, and what a rebuilt feed says."""
    before = feed_file(store).read_bytes()
    said = recent_sessions(store, limit, **filters)
    assert said.reason is None
    kept = digest(store)
    feed_file(store).unlink()
    scanned = recent_sessions(store, limit, **filters)
    assert scanned.scanned and "is missing" in str(scanned.reason)
    assert scanned.sessions == said.sessions
    reindex(store)
    assert recent_sessions(store, limit, **filters) == said
    assert digest(store) == kept
    feed_file(store).write_bytes(before)
    return said


@contextmanager
def ticking(first_ms: int = 1_800_000_000_000) -> Iterator[list[int]]:
    """Each look at the clock is a millisecond later than the one before; what is yielded holds the next."""
    now = [first_ms]

    def time_ns() -> int:
        now[0] += 1
        return now[0] * 1_000_000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", time_ns)
        yield now


def run(writer: sl.SegmentWriter, text: str = "Hello") -> None:
    """A run of one turn."""
    writer.save_invoke()
    writer.save_user_input(text)
    writer.save_turn_end()
    writer.save_run_completed()


def ids_of(found: RecentSessions) -> list[str]:
    return [one.session_id for one in found]
