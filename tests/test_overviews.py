"""Overviews: what first and last lines tell of a session equals what a restore of it says; nothing else is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings

import session_log as sl
from commands import FORK, NOON, OPEN, OTHER, ROOT, SESSION, sample
from lookers import bytes_read
from session_log.facts import archive, move_active, set_facts
from session_log.overviews import read_overview, read_segment_overview, recent_sessions
from strategies import SESSION_ID, histories


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


@settings(max_examples=80)
@given(histories())
def test_turns_and_an_open_run_are_what_a_restore_says(entries: list[sl.LogEntry]) -> None:
    """Rollbacks included."""
    store = sl.MemoryStore()
    segment_id = sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])
    state = sl.restore(store, SESSION_ID, segment_id)

    found = read_segment_overview(store, SESSION_ID, segment_id)

    assert (found.turns, found.run_open) == (state.turn_count, state.last_run_interrupted)


def test_what_a_fork_inherits_counts(store: sl.FsStore) -> None:
    """A child without a turn of its own; with a run that was open at the cut."""
    with sl.SegmentWriter.create(store) as writer:
        writer.save_invoke()
        writer.save_user_input("one")
        writer.save_turn_end()
        in_the_run = writer.head.entries
        writer.save_run_completed()
        after = writer.fork_at_entry(writer.head.entries)
        within = writer.fork_at_entry(in_the_run)

    assert read_segment_overview(store, writer.session_id, after).turns == 1
    assert [read_segment_overview(store, writer.session_id, found).run_open for found in (after, within)] == [
        False,
        True,
    ]


def test_a_rolled_back_turn_does_not_count(store: sl.FsStore) -> None:
    with sl.SegmentWriter.create(store) as writer:
        for _ in range(2):
            writer.save_user_input("x")
            writer.save_turn_end()
        writer.rollback(3)

    assert read_overview(store, writer.session_id).turns == 1


def test_the_active_segment_is_the_one_that_is_told_of(store: sl.FsStore) -> None:
    move_active(store, SESSION, FORK)

    found = read_overview(store, SESSION)

    assert (found.segment_id, found.turns, found.title, found.labels) == (FORK, 2, "The folder", ("nightly",))
    assert found.created_ts == NOON


def test_a_status_is_what_is_known_best(store: sl.FsStore) -> None:
    """Held is running; an open run nobody says is running was interrupted; the archive comes first."""
    assert [read_overview(store, found).status for found in (SESSION, OTHER)] == ["idle", "interrupted"]
    set_facts(store, OTHER, status="running")
    assert read_overview(store, OTHER).status == "running"
    with sl.SegmentWriter.resume(store, SESSION, ROOT, exclusive=True):
        held = read_segment_overview(store, SESSION, ROOT)
    assert held.held_by is not None
    assert f"process {os.getpid()}" in held.held_by
    archive(store, OTHER)
    assert read_overview(store, OTHER).status == "archived"


def test_damage_is_told_and_hides_no_other_session(store: sl.FsStore) -> None:
    path = store.segment_path(OTHER, OPEN)
    path.write_bytes(b"[" + path.read_bytes())

    found = {overview.session_id: overview for overview in recent_sessions(store)}

    assert found[OTHER].status == "damaged"
    assert "first line" in str(found[OTHER].damage) or ":1 " in str(found[OTHER].damage)
    assert len(found) == 3


def test_long_segments_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that reads whole files takes minutes."""
    with sl.FsStore(tmp_path, durability="process") as store, sl.SegmentWriter.create(store) as writer:
        for _ in range(20_000):
            writer.save_user_input("x" * 1000)
        writer.save_turn_end()
    with bytes_read(monkeypatch) as sizes:
        assert read_overview(sl.FsStore(tmp_path), writer.session_id).turns == 1

    assert sum(sizes) < 5_000_000  # of 20,000,000: 1,024 lines, to see where the last batch ends, and a look back


def test_sessions_are_listed_by_activity_and_filtered(store: sl.FsStore) -> None:
    sl.save_user_input(store, OTHER, OPEN, "again")

    assert recent_sessions(store)[0].session_id == OTHER
    assert [found.session_id for found in recent_sessions(store, labels=frozenset({"nightly"}))] == [SESSION]
    assert [found.session_id for found in recent_sessions(store, statuses=frozenset({"interrupted"}))] == [OTHER]
    assert OTHER not in {found.session_id for found in recent_sessions(store, until=NOON + 100_000)}
    assert len(recent_sessions(store, 2)) == 2
