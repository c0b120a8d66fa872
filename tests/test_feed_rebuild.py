"""Making the feed anew, step by step: whoever writes at the worst moment loses nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from feeding import feed_file, feed_lines, ids_of, run, ticking
from session_log import _feed_file, _feed_rebuild, _feed_scan
from session_log.facts import rename
from session_log.feed import recent_sessions, reindex


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="process") as found:
        yield found


def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the path because time went by."""
    monkeypatch.setattr(_feed_file, "_monotonic", lambda: 100.0)


def _around(monkeypatch: pytest.MonkeyPatch, before: Callable[[], Any], after: Callable[[], Any]) -> None:
    """Do something just before and just behind the move of the new feed into its place."""
    real = os.rename

    def moved(source: str, target: str) -> None:
        before()
        real(source, target)
        after()

    monkeypatch.setattr(os, "rename", moved)


def test_what_is_said_just_before_and_just_behind_the_move_is_in_the_new_feed(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is carried over, the other written again; neither waits for the next look at the path."""
    _no_clock(monkeypatch)
    first = sl.create_segment(store)[0]
    other = sl.FsStore(store.root, durability="process")
    made = [sl.create_segment(other)[0]]
    with monkeypatch.context() as patch:
        both = sl.create_segment, store, other
        _around(
            patch,
            lambda: made.append(both[0](both[1])[0]),
            lambda: made.append(both[0](both[2])[0]),
        )
        report = reindex(sl.FsStore(store.root, durability="process"))
    made.append(sl.create_segment(other)[0])
    other.close()

    assert report.sessions == 2 and report.carried >= 1
    said = [line["session_id"] for line in feed_lines(store)]
    assert said[0] == first and set(said) == {first, *made}
    assert not recent_sessions(store).scanned


def test_a_line_is_written_again_until_it_is_in_the_feed_at_the_path(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed may be replaced again just before the line is written the second time; who is never done gives up."""
    _no_clock(monkeypatch)
    session_id = sl.create_segment(store)[0]
    assert store.feed is not None
    for times in (1, 2, 5):
        left = [times]

        def replaced_first(fd: int, data: bytes) -> int:
            if left[0]:  # noqa: B023
                left[0] -= 1  # noqa: B023
                reindex(sl.FsStore(store.root, durability="process", feed=False))
            return os.write(fd, data)

        with monkeypatch.context() as patch:
            patch.setattr(_feed_file, "_write", replaced_first)
            store.feed.announce("run_end", times, session_id, session_id)
        assert feed_lines(store)[-1]["ts"] == times

    left = [1_000]
    with monkeypatch.context() as patch:
        patch.setattr(_feed_file, "_write", replaced_first)
        with pytest.warns(RuntimeWarning, match="again and again"):
            store.feed.announce("run_end", 9, session_id, session_id)


def test_what_is_said_while_the_sessions_are_read_is_carried_over(store: sl.FsStore) -> None:
    """Each line once: of what began before its session was read, and of what came behind that."""
    writers = [sl.SegmentWriter.create(store) for _ in range(3)]
    before = len(feed_lines(store))

    report = reindex(store, lambda done, total: run(writers[1]) if done == 2 else None)

    assert (report.sessions, report.lines, report.carried) == (3, before, 1)
    assert [line["kind"] for line in feed_lines(store)] == ["create"] * 3 + ["run_end"]


def test_what_was_announced_before_and_happens_behind_the_scan_s_look_is_kept(store: sl.FsStore) -> None:
    """A line comes before its segment. Rebuilt between the two, the feed had neither; seen once in 24 runs."""
    session_id = sl.create_segment(store)[0]
    gone = sl.create_segment(store)[0]
    assert store.feed is not None
    segment_id, ts = sl.new_segment_id(), 1_900_000_000_000
    store.feed.announce("fork", ts, session_id, segment_id)
    store.feed.announce("run_end", ts, session_id, segment_id)
    store.feed.announce("archive", ts, session_id)
    store.delete_session(gone)

    reindex(store)

    assert [line["kind"] for line in feed_lines(store)] == ["create", "archive", "run_end", "fork"]
    assert {line["session_id"] for line in feed_lines(store)} == {session_id}


def test_the_last_run_end_counts_whatever_its_time_says(store: sl.FsStore) -> None:
    """The times of entries may be the caller's own, and go back."""
    ids = sl.create_segment(store)
    for ts in (1_900_000_000_009, 1_900_000_000_007, 1_900_000_000_008):
        sl.append_entry(store, *ids, sl.RunCompleted(ts=ts, interrupted=False, result="finished"))

    for _ in range(2):
        reindex(store)
        assert [line["ts"] for line in feed_lines(store) if line["kind"] == "run_end"] == [1_900_000_000_008]


def test_damage_that_is_carried_over_stays_known(store: sl.FsStore) -> None:
    """What was said in a damaged line while the sessions were read may be in none of them: the new feed says so."""
    sl.create_segment(store)
    sl.create_segment(store)

    def progress(done: int, total: int) -> None:
        if done == 1:
            with feed_file(store).open("ab") as file:
                file.write(b'\n{"kind":"cre\n')

    reindex(store, progress)
    assert "a write to it failed" in str(recent_sessions(store).reason)

    reindex(store)
    assert not recent_sessions(store).scanned


def test_the_next_rebuilder_waits_until_all_is_carried_over(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would begin from a feed that does not have everything yet. Two rebuilders and three writers lost a line."""
    sl.create_segment(store)
    locked: list[bool] = []

    def is_locked() -> None:
        fd = os.open(feed_file(store), os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked.append(False)
        except BlockingIOError:
            locked.append(True)
        finally:
            os.close(fd)

    _around(monkeypatch, is_locked, is_locked)
    reindex(store)
    is_locked()

    assert locked == [True, True, False]


def test_a_rebuild_that_fails_leaves_the_old_feed_and_nothing_else(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, for one; the error is ours, and names the feed."""
    sl.create_segment(store)
    before = feed_file(store).read_bytes()
    for name in ("rename", "fsync", "urandom"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(sl.StoreUnavailable, match=r"feed\.jsonl: No space left"):
                reindex(store)

    assert feed_file(store).read_bytes() == before
    assert [path.name for path in store.root.iterdir() if path.name.startswith(".")] == []


def test_on_a_root_that_is_not_there_a_feed_is_begun(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path / "a" / "root")

    assert reindex(store).sessions == 0

    assert recent_sessions(store).sessions == () and not recent_sessions(store).scanned


@pytest.mark.parametrize("behind", [-1, 0, 1])
def test_a_run_s_end_far_from_the_end_of_the_file_is_found_and_no_payload_taken_for_one(
    store: sl.FsStore, behind: int
) -> None:
    """The file is read backwards in blocks; an object in a payload may stand just where a block begins."""
    with ticking():
        writer = sl.SegmentWriter.create(store)
        run(writer)
        ended = recent_sessions(store).sessions[0].ts
        writer.save_extension("mine", {"a": {"kind": "run_completed", "ts": 5, "result": "x"}})
        path = store.segment_path(writer.session_id, writer.segment_id)
        nested = path.read_bytes().rindex(b'{"kind":"run_completed"')
        writer.save_extension("mine", "")
        rest = path.stat().st_size - nested
        writer.save_extension("mine", "x" * (_feed_scan._STEP_BYTES - rest - (path.stat().st_size - nested - rest)))
        line = path.stat().st_size - nested - _feed_scan._STEP_BYTES
        writer.rollback(1)
        writer.close()
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b'"payload":"xxx') + 11] + data[data.index(b"xxx") + line + behind :])
    path.write_bytes(path.read_bytes()[: path.read_bytes().rindex(b"\n", 0, -1) + 1])

    feed_file(store).unlink()
    found = recent_sessions(store).sessions

    assert [(one.kind, one.ts) for one in found] == [("run_end", ended)]


def test_progress_counts_every_session_and_titles_survive(store: sl.FsStore) -> None:
    with ticking():
        sessions = [sl.create_segment(store)[0] for _ in range(4)]
        rename(store, sessions[0], "Größe")
    told: list[tuple[int, int]] = []

    reindex(store, lambda done, total: told.append((done, total)))

    assert told == [(at, 4) for at in range(1, 5)]
    assert feed_lines(store)[-1]["title"] == "Größe"
    assert ids_of(recent_sessions(store, 1)) == [sessions[0]]
    assert _feed_rebuild.FeedReport.__struct_fields__ == ("sessions", "lines", "carried", "damaged")
