"""The newest sessions, found by the feed and by what changed since, are those that a look at every session finds."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from session_log.facts import move_active, rename, set_facts
from session_log.feed import reindex
from session_log.lifecycle import delete_session
from session_log.overviews import SessionOverview, read_overview, recent_sessions
from session_log.trash import list_trash, undelete_session

DAY_MS = 86_400_000
DEEDS = ("run", "open", "old", "fork", "title", "label", "delete", "undelete", "unfed", "copied", "reindex", "pointer")


def every(store: sl.FsStore) -> list[SessionOverview]:
    """Return what a look at every session finds."""
    found = [read_overview(store, session_id) for session_id in store.list_sessions()]
    return sorted(found, key=lambda one: (one.last_ts, one.session_id), reverse=True)


def started(store: sl.FsStore, ts: int) -> tuple[str, str]:
    session_id, segment_id = sl.new_session_id(), sl.new_segment_id()
    first = sl.SegmentStart(ts=ts, session_id=session_id, v=1, config=sl.RequestConfig(), history=())
    store.create_segment(session_id, segment_id, [sl.encode_line(first)])
    age(store, session_id, ts)
    return session_id, segment_id


def age(store: sl.FsStore, session_id: str, ts: int) -> None:
    """Give the files of a session the time of what is in them."""
    for path in (store.root / session_id).iterdir():
        os.utime(path, (ts / 1000, ts / 1000))


def do(store: sl.FsStore, deed: str, at: int) -> None:  # noqa: C901  one deed after another
    sessions = store.list_sessions()
    if not sessions or deed == "run":
        ts = sl.now_ms() - (at + 1) * DAY_MS
        key = started(store, ts)
        store.append(*key, [sl.encode_line(sl.RunCompleted(ts=ts + 5, interrupted=False, result="finished"))])
        age(store, key[0], ts + 5)
        return
    session_id = sessions[at % len(sessions)]
    segment_id = store.list_segments(session_id)[-1]
    match deed:
        case "open":
            sl.save_invoke(store, session_id, segment_id, "user_send")
        case "old":  # written now, of a time long ago: an import
            store.append(session_id, segment_id, [sl.encode_line(sl.Invoke(ts=at, trigger="x"))])
        case "fork":
            sl.fork_at(store, session_id, segment_id, 0)
        case "title":
            rename(store, session_id, f"title {at}")
        case "label":
            set_facts(store, session_id, labels=[str(at)])
        case "delete":
            delete_session(store, session_id)
        case "undelete" if trash := list_trash(store):
            undelete_session(store, trash[0].session_id)
        case "unfed":
            sl.save_invoke(sl.FsStore(store.root, feed=False), session_id, segment_id, "x")
        case "copied":
            started(sl.FsStore(store.root, feed=False), sl.now_ms() - at * DAY_MS)
        case "reindex":
            reindex(store)
        case "pointer":
            move_active(store, session_id, segment_id)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 9)), max_size=12),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_the_newest_are_those_that_a_look_at_all_finds(
    deeds: list[tuple[str, int]], limit: int, days: int | None
) -> None:
    """Open runs, imports of old times, sessions placed by hand and changed facts included."""
    with tempfile.TemporaryDirectory() as folder, sl.FsStore(folder, durability="process") as store:
        for deed, at in [("run", 3), ("run", 5), *deeds]:
            do(store, deed, at)
        since = None if days is None else sl.now_ms() - days * DAY_MS - DAY_MS // 2
        wanted = [one for one in every(store) if since is None or one.last_ts >= since]

        found = recent_sessions(store, limit, since=since)

        assert list(found) == wanted[:limit]
        assert list(recent_sessions(store, since=since)) == wanted
        assert found.reason is None


def many(store: sl.FsStore, count: int) -> list[str]:
    """Make sessions a minute apart, the newest last."""
    now = sl.now_ms()
    return [started(store, now - 60_000 * (count - at))[0] for at in range(count)]


def test_a_session_whose_run_is_open_is_not_lost(tmp_path: Path) -> None:
    """The feed tells of starts and ends of runs only; a run that began since is seen by the time of its file."""
    store = sl.FsStore(tmp_path, durability="process")
    sessions = many(store, 30)
    sl.save_invoke(store, sessions[0], store.list_segments(sessions[0])[0], "user_send")

    assert recent_sessions(store, 1)[0].session_id == sessions[0]


def test_only_those_that_may_be_among_them_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that opens 10,000 sessions takes seconds."""
    store = sl.FsStore(tmp_path, durability="process")
    sessions = many(store, 40)
    read: list[str] = []

    def counted(store: sl.Store, session_id: str) -> SessionOverview:
        read.append(session_id)
        return read_overview(store, session_id)

    monkeypatch.setattr("session_log.overviews.read_overview", counted)

    assert [one.session_id for one in recent_sessions(store, 3)] == sessions[:-4:-1]
    assert len(read) == 3
    read.clear()
    assert len(recent_sessions(store, since=sl.now_ms() - 5 * 60_000 - 30_000)) == 5
    assert len(read) == 5


@pytest.mark.parametrize("harm", ["missing", "damaged", "partial"])
def test_a_feed_of_no_use_is_said_and_every_session_read(tmp_path: Path, harm: str) -> None:
    store = sl.FsStore(tmp_path, durability="process")
    sessions = many(store, 5)
    path = tmp_path / "feed.jsonl"
    match harm:
        case "missing":
            path.unlink()
        case "damaged":
            path.write_bytes(path.read_bytes() + b"{]\n")
        case "partial":
            path.write_bytes(path.read_bytes().replace(b'"whole":true', b'"whole":false'))
    for session_id in sessions:  # then not even files' times count
        age(store, session_id, 1000)

    found = recent_sessions(store, 2)

    assert [one.session_id for one in found] == sessions[:-3:-1]
    assert found.reason is not None
    assert "reindex" in found.reason


def test_a_store_without_a_feed_is_read() -> None:
    store = sl.MemoryStore()
    session_id, _ = sl.create_segment(store)

    found = recent_sessions(store)

    assert [one.session_id for one in found] == [session_id]
    assert "keeps no feed" in str(found.reason)
