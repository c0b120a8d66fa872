"""Writing the feed where it cannot be written, and reading what is left of it: sessions are never affected."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import session_log as sl
from feeding import digest, feed_file, feed_lines, ids_of, run, ticking
from session_log import _feed_file
from session_log.facts import archive, read_facts
from session_log.feed import recent_sessions, reindex

KILLED, FINISHED = 33, 44


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="process") as found:
        yield found


def everything(store: sl.FsStore) -> None:
    """Every way to come to the feed."""
    with sl.SegmentWriter.create(store) as writer:
        run(writer)
    archive(store, writer.session_id)
    store.delete_session(sl.create_segment(store)[0])


# ── it cannot be written ───────────────────────────────────────────────────────────────────────────────────────────


def _folder(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _symlink(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"")
    path.symlink_to(outside)


@pytest.mark.parametrize("foreign", [_folder, _fifo, _symlink])
def test_what_is_no_plain_file_is_left_alone_and_told_once(store: sl.FsStore, foreign: Callable[[Path], None]) -> None:
    """Sessions go on as ever; there is one warning a store; a symlink is not followed."""
    store.root.mkdir()
    foreign(feed_file(store))

    def twice() -> None:
        everything(store)
        everything(store)

    with pytest.warns(RuntimeWarning, match="could not be announced") as told:
        twice()

    assert len(told) == 1
    assert len(store.list_sessions()) == 2
    assert all(one.kind == "archive" for one in recent_sessions(store))
    assert "cannot be read" in str(recent_sessions(store).reason)
    outside = store.root.parent / "outside"
    assert not outside.exists() or outside.read_bytes() == b""


@pytest.mark.parametrize("name", ["_write", "_fstat"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE])
def test_whatever_the_system_says_an_append_goes_on(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    """Afterwards it is tried again, a second later; that something is missing is on file then, and readers say so."""
    session_id = sl.create_segment(store)[0]
    now = [100.0]
    monkeypatch.setattr(_feed_file, "_monotonic", lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr(_feed_file, name, lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
        with pytest.warns(RuntimeWarning, match="feed.jsonl"):
            everything(store)
    assert {line["session_id"] for line in feed_lines(store) if "session_id" in line} >= {session_id}

    now[0] += 2.0
    last = sl.create_segment(store)[0]

    kinds = [line["kind"] for line in feed_lines(store)]
    assert kinds[-2:] == ["gap", "create"]
    found = recent_sessions(store)
    assert "a write to it failed" in str(found.reason) and len(found) == 3
    assert ids_of(recent_sessions(store, 1)) == [last] and not recent_sessions(store, 1).scanned
    reindex(store)
    assert recent_sessions(store).sessions == found.sessions and not recent_sessions(store).scanned


def test_half_a_line_costs_that_line_alone(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a line: the next one begins on a line of its own."""
    writer = sl.SegmentWriter.create(store)
    now = [100.0]
    monkeypatch.setattr(_feed_file, "_monotonic", lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr(_feed_file, "_write", lambda fd, data: os.write(fd, data[:30]))
        with pytest.warns(RuntimeWarning, match="only 30 of"):
            run(writer)

    now[0] += 2.0
    run(writer)

    lines = feed_file(store).read_bytes().split(b"\n")
    assert len(lines[-4]) == 30
    assert [json.loads(line)["kind"] for line in lines[-3:-1]] == ["gap", "run_end"]


def test_where_warnings_are_errors_an_append_goes_on(store: sl.FsStore) -> None:
    """The filter ``error`` makes an exception of a warning; it is not that of an append."""
    store.root.mkdir()
    feed_file(store).mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        everything(store)

    assert len(store.list_sessions()) == 1


def test_an_interrupt_in_the_feed_leaves_the_entry_unwritten(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line comes first: what was interrupted there is not found afterwards, and the writer goes on."""
    writer = sl.SegmentWriter.create(store)
    before = writer.head

    def interrupted(fd: int, data: bytes) -> int:
        os.write(fd, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_feed_file, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.save_run_completed()
        with pytest.raises(KeyboardInterrupt):
            sl.create_segment(store)
        with pytest.raises(KeyboardInterrupt):
            archive(store, writer.session_id)

    assert writer.head == before == sl.head(store, writer.session_id, writer.segment_id)
    assert [store.list_segments(found) for found in store.list_sessions()] == [[], [writer.segment_id]]
    assert not read_facts(store, writer.session_id).archived
    run(writer)
    assert [(one.session_id, one.kind) for one in recent_sessions(store)] == [(writer.session_id, "run_end")]


# ── the file at the path ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_feed_that_was_deleted_is_begun_anew_at_once(store: sl.FsStore) -> None:
    """Nothing is written into a file without a name; and the new one does not say that it is whole."""
    with sl.SegmentWriter.create(store) as writer:
        for _ in range(3):
            feed_file(store).unlink()
            run(writer)
            assert [line["kind"] for line in feed_lines(store)] == ["run_end"]

    assert "does not go back" in str(recent_sessions(store).reason)


def test_a_feed_that_was_moved_away_is_noticed_within_a_second(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(_feed_file, "_monotonic", lambda: now[0])
    with sl.SegmentWriter.create(store) as writer:
        feed_file(store).rename(store.root / "feed.old")
        run(writer)
        now[0] += _feed_file.LOOK_S
        run(writer)

    assert len(feed_lines(store)) == 1
    old = (store.root / "feed.old").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["kind"] for line in old] == ["feed", "create", "run_end"]


def test_a_child_has_a_descriptor_of_its_own(store: sl.FsStore) -> None:
    """After a fork of the process both write; a lock that another thread held is no hindrance."""
    writer = sl.SegmentWriter.create(store)
    assert store.feed is not None
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.feed._lock:  # type: ignore[union-attr]
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    child = os.fork()
    if not child:
        try:
            sl.create_segment(store)
            os._exit(0)
        finally:
            os._exit(1)
    leave.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    run(writer)

    assert [line["kind"] for line in feed_lines(store)] == ["create", "create", "run_end"]


def test_closing_frees_the_descriptor_and_the_next_line_opens_it(store: sl.FsStore) -> None:
    before = len(os.listdir("/dev/fd"))
    sl.create_segment(store)
    store.close()
    assert len(os.listdir("/dev/fd")) == before
    sl.create_segment(store)
    assert len(os.listdir("/dev/fd")) == before + 1


def test_permissions_are_the_owner_s(store: sl.FsStore) -> None:
    everything(store)
    reindex(store)

    assert feed_file(store).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in store.root.iterdir() if path.name.startswith(".")] == []


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cut_at_every_byte_it_is_read_as_far_as_it_goes_or_not_at_all(store: sl.FsStore) -> None:
    """A cut feed names sessions that are there, in order, or every session is read; and it goes on after that."""
    with ticking():
        writers = [sl.SegmentWriter.create(store) for _ in range(3)]
        run(writers[0])
    store.close()
    data = feed_file(store).read_bytes()
    path = store.segment_path(writers[1].session_id, writers[1].segment_id)
    segment = path.read_bytes()
    every = [writers[0].session_id, writers[2].session_id, writers[1].session_id]

    for length in range(len(data)):
        feed_file(store).write_bytes(data[:length])
        path.write_bytes(segment)
        found = recent_sessions(store)
        said = [json.loads(line).get("session_id") for line in data[:length].split(b"\n")[:-1]][::-1]
        assert ids_of(found) == (every if found.scanned else list(dict.fromkeys(filter(None, said))))

        with ticking(1_900_000_000_000), sl.FsStore(store.root, durability="process") as other:
            run(sl.SegmentWriter.resume(other, writers[1].session_id, writers[1].segment_id))

        torn = data[:length].rpartition(b"\n")[2]
        lines = feed_file(store).read_bytes().split(b"\n")
        assert json.loads(lines[-2])["session_id"] == writers[1].session_id
        assert not torn or lines[-3] == torn
        assert ids_of(recent_sessions(store, 1)) == [writers[1].session_id]


@pytest.mark.parametrize("damage", [b"\0", b"x", b"\n", b'"', b"{", b"\xff"])
def test_a_byte_changed_anywhere_shows_no_session_that_is_not_there(store: sl.FsStore, damage: bytes) -> None:
    """Nothing raises; and no name that a line makes up becomes a path."""
    with ticking():
        writers = [sl.SegmentWriter.create(store) for _ in range(2)]
        run(writers[0])
    data = feed_file(store).read_bytes()
    every = {writer.session_id for writer in writers}

    scanned = 0
    for at in range(len(data)):
        feed_file(store).write_bytes(data[:at] + damage + data[at + 1 :])
        found = recent_sessions(store)
        scanned += found.scanned
        assert set(ids_of(found)) <= every
        assert not found.scanned or set(ids_of(found)) == every
        assert store.lookup_session_of(writers[0].segment_id) == writers[0].session_id
    assert scanned > 100


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"create","ts":1,"session_id":"../../etc"}',
        b'{"kind":"create","ts":1,"session_id":"0197B2C4-1A00-7C3E-9F10-5E2D8A7B0C01"}',
        b'{"kind":"run_end","ts":1,"session_id":"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01","segment_id":"x"}',
        b'{"kind":"create","ts":1}',
        b'{"kind":"create","ts":"1","session_id":"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"}',
        b'{"kind":"create","ts":1,"session_id":"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01","x":"' + b"x" * 1024 + b'"}',
        b"[]",
        b"x" * 3_000_000,
    ],
)
def test_a_line_that_is_none_is_damage(store: sl.FsStore, line: bytes) -> None:
    """The sessions are read instead, and it is said where the damage is; a rebuild mends it."""
    session_id = sl.create_segment(store)[0]
    size = feed_file(store).stat().st_size
    with feed_file(store).open("ab") as file:
        file.write(line + b"\n")

    found = recent_sessions(store)

    assert ids_of(found) == [session_id]
    assert "a line is damaged" in str(found.reason)
    assert f"byte {size}:" in str(found.reason) or len(line) > 100_000
    reindex(store)
    assert not recent_sessions(store).scanned


def test_lines_of_later_versions_and_blank_ones_are_passed_over(store: sl.FsStore) -> None:
    session_id = sl.create_segment(store)[0]
    with feed_file(store).open("ab") as file:
        file.write(b'\n\r\n{"kind":"purge","ts":1,"n":{}}\n')

    assert ids_of(recent_sessions(store)) == [session_id] and not recent_sessions(store).scanned

    feed_file(store).write_bytes(feed_file(store).read_bytes().replace(b'"v":1', b'"v":2'))
    assert "format version 2" in str(recent_sessions(store).reason)


def test_a_session_that_cannot_be_read_is_reported_by_the_rebuild(store: sl.FsStore) -> None:
    """What is left of it stands in the feed."""
    damaged, segment_id = sl.create_segment(store)
    archive(store, damaged)
    path = store.segment_path(damaged, segment_id)
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    (path.parent / f"{sl.new_segment_id()}.jsonl").symlink_to("/dev/null")
    store.close()

    report = reindex(store)

    assert report.sessions == 1
    assert ids_of(recent_sessions(store)) == [damaged]


# ── killed, interrupted ────────────────────────────────────────────────────────────────────────────────────────────


def killed_at(call: int, deed: Callable[[], object]) -> int:
    """Do ``deed`` in a forked child that dies before its ``call``-th system call; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = call

    def count(frame: FrameType, event: str, found: Any) -> None:
        nonlocal left
        if event == "c_call" and getattr(found, "__module__", None) in ("posix", "fcntl"):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.setprofile(count)
        deed()
        sys.setprofile(None)
        os._exit(FINISHED)
    finally:
        os._exit(1)


@pytest.mark.parametrize("first", [True, False])
def test_killed_anywhere_what_is_on_file_is_in_the_feed(tmp_path: Path, first: bool) -> None:
    """A run end, a new session, a fact: each is announced before it is there. Also when the feed is just begun."""
    call, ends = -first, set[int]()
    while FINISHED not in ends:
        call += 2  # of the two histories the first begins a call later
        store = sl.FsStore(tmp_path / str(call), durability="turn")
        if not first:
            sl.create_segment(store)

        ends.add(killed_at(call, lambda root=store.root: everything(sl.FsStore(root))))  # type: ignore[misc]

        kept = digest(store) if feed_file(store).exists() else {}
        reindex(store)
        assert digest(store).items() <= kept.items()
        assert not recent_sessions(store).scanned
    assert ends == {FINISHED, -signal.SIGKILL} and call > 30


def test_a_rebuild_killed_anywhere_leaves_a_feed_that_says_all_or_that_it_does_not(store: sl.FsStore) -> None:
    with ticking():
        for _ in range(3):
            with sl.SegmentWriter.create(store) as writer:
                run(writer)
    sessions = recent_sessions(store).sessions
    call, ends, scanned = 0, set[int](), 0
    while FINISHED not in ends:
        call += 1

        ends.add(killed_at(call, lambda: reindex(store)))

        found = recent_sessions(store)
        scanned += found.scanned
        assert found.sessions == sessions
        run_end = feed_lines(store)[-1]
        assert run_end["kind"] == "run_end" and run_end["session_id"] == sessions[0].session_id
        reindex(store)
    assert scanned > 1 and call > 30


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_an_interrupted_rebuild_leaves_the_old_feed(store: sl.FsStore, raised: type[BaseException]) -> None:
    """Ctrl-C in the middle; nothing temporary stays, and the lock is free. Progress comes session by session."""
    for _ in range(3):
        sl.create_segment(store)
    before = feed_file(store).read_bytes()
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise raised

    with pytest.raises(raised):
        reindex(store, progress)

    assert told == [(1, 3), (2, 3)]
    assert feed_file(store).read_bytes() == before
    assert [path.name for path in store.root.iterdir() if path.name.startswith(".")] == []
    assert reindex(store).sessions == 3
