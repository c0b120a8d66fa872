"""Faults that were found once, in how much is read, looked at or kept for how little: none must come back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from recorded import restored
from session_log._recorded import MAX_FRESH


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="turn") as found:
        yield found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much was asked for at each reading."""
    found: list[int] = []
    real = os.pread

    def pread(fd: int, size: int, at: int) -> bytes:
        data = real(fd, size, at)
        found.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", pread)
    return found


def long_log(store: sl.FsStore) -> sl.SegmentWriter:
    writer = sl.SegmentWriter.create(store)
    for _ in range(20):
        writer.save_user_input("x" * 10_000)
    return writer


def test_a_fork_syncs_its_parent_without_reading_it(store: sl.FsStore, read: list[int]) -> None:
    """The sync counted every line of the parent under its lock: a fork of a long log was linear again."""
    writer = long_log(store)
    writer.fork_at_entry(20)
    read.clear()

    writer.fork_at_entry(21)

    assert sum(read) < 25_000


def test_a_first_line_is_read_without_what_comes_behind_it(store: sl.FsStore, read: list[int]) -> None:
    """A resume reads that of each ancestor: a whole block of each made it slower by a fifth."""
    writer = long_log(store)
    read.clear()

    assert len(list(store.read(writer.session_id, writer.segment_id, 0, 1))) == 1

    assert sum(read) <= 4096


def test_a_store_that_knows_a_file_reads_no_more_of_it_than_one_that_does_not(
    store: sl.FsStore, read: list[int]
) -> None:
    """The first byte was found by counting all lines backwards from the known end."""
    writer = long_log(store)
    ids = writer.session_id, writer.segment_id
    store.append(*ids, [sl.encode_line(sl.Invoke(ts=1, trigger="user_send"))])
    amounts = []
    for reader in (store, sl.FsStore(store.root)):
        read.clear()
        sl.restore(reader, *ids)
        amounts.append(sum(read))

    assert amounts[0] <= amounts[1]


def test_a_page_of_sessions_looks_at_no_more_than_it_returns(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 100,000 names was parsed and looked at for a list of twenty."""
    made = [sl.create_segment(store)[0] for _ in range(12)]
    (store.root / ("f" * 8 + made[0][8:])).touch()  # a newer name, but no folder
    looked: list[str] = []
    real = os.lstat

    def lstat(path: str, **more: Any) -> os.stat_result:
        looked.append(path)
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", lstat)

    page = store.list_sessions(limit=2, before=made[10])

    assert page == [made[9], made[8]]
    assert len(looked) == 2
    assert store.list_sessions(limit=3) == store.list_sessions()[:3] == made[:-4:-1]


# ── what a writer keeps ────────────────────────────────────────────────────────────────────────────────────────────


def record_fresh(writer: sl.SegmentWriter) -> None:
    """Record so much that it is let go, and nothing behind that."""
    for _ in range(MAX_FRESH):
        writer.save_extension("d", 1)
    writer.save_turn_end()
    writer.save_invoke()


def test_a_writer_whose_state_nobody_asks_for_does_not_keep_it(store: sl.FsStore) -> None:
    """An open writer grew with its conversation: it lets go of long lists, and reads them again when asked."""
    writer = sl.SegmentWriter.create(store)
    record_fresh(writer)
    before = sys.getallocatedblocks()

    record_fresh(writer)
    record_fresh(writer)

    assert sys.getallocatedblocks() - before < MAX_FRESH // 8
    assert writer.state.turn_count == 3
    assert len(writer.state.extensions) == 3 * MAX_FRESH


def test_turns_are_counted_on_without_a_look_at_the_state(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of turns outlives the list it was counted from; a turn's end reads nothing."""
    writer = sl.SegmentWriter.create(store)
    record_fresh(writer)
    with monkeypatch.context() as patch:
        patch.setattr(store, "read_blocks", None)

        writer.save_turn_end()
        writer.save_turn_end()

    assert writer.state.turn_count == 3
    assert restored(store, writer).turn_count == 3


def kept_by(act: Callable[[], object], times: int) -> int:
    act()
    before = sys.getallocatedblocks()
    for _ in range(times):
        act()
    return sys.getallocatedblocks() - before


def test_an_append_keeps_nothing_for_ever(store: sl.FsStore) -> None:
    """Msgspec 0.22 keeps the iterator over anything that is no list: each append leaked 48 bytes."""
    writer = sl.SegmentWriter.create(store)
    entry = sl.Invoke(ts=1, trigger="user_send")

    kept = kept_by(lambda: writer.append(entry), 2_000)

    assert kept < 100
