"""Faults that were found once, behind a sync that failed: what is acknowledged goes into a new file, as all others do.

A failed sync loses the data, though it can still be read, and the next sync says OK.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from oracle import folded
from session_log import _held_file, _quick, _segment_file

UNTOUCHED_S = 1e9
"""A trusted window that does not end during a test."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="turn") as found:
        yield found


def fail(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "Input/output error")


def path_of(store: sl.FsStore, writer: sl.SegmentWriter) -> Path:
    return store.segment_path(writer.session_id, writer.segment_id)


def again(store: sl.FsStore, writer: sl.SegmentWriter) -> sl.SegmentWriter:
    return sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id, on_conflict="raise")


def amid_a_turn(store: sl.FsStore) -> sl.SegmentWriter:
    """A writer whose last lines were acknowledged and never synced."""
    writer = sl.SegmentWriter.create(store, on_conflict="raise")
    writer.save_turn_end()
    writer.save_invoke()
    writer.save_user_input("acknowledged")
    return writer


def fail_to_sync(store: sl.FsStore, writer: sl.SegmentWriter) -> None:
    """Somebody else resumes the segment, and the sync of the turn it ends fails."""
    with pytest.MonkeyPatch.context() as patch, again(store, writer) as other:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(sl.AppendUnknown, match="taken back"):
            other.save_turn_end()


def noted(name: str, steps: list[tuple[str, int]]) -> Callable[..., None]:
    """The system call of this name, which notes that it was made, and for which inode."""
    real = getattr(os, name)

    def call(of: Any, *more: Any) -> None:
        steps.append((name, os.stat(of).st_ino))
        real(of, *more)

    return call


def test_a_writer_that_resumed_amid_a_turn_whose_sync_fails_loses_nothing(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took what it found for durable, and the turn that the next writer ended was on no disk, though synced."""
    writer = amid_a_turn(store)
    writer.close()
    path = path_of(store, writer)
    before, old, state = path.read_bytes(), path.stat().st_ino, folded(writer.state)
    steps: list[tuple[str, int]] = []
    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, noted(name, steps))

    fail_to_sync(store, writer)

    new = path.stat().st_ino
    assert steps == [("fsync", new), ("rename", new), ("fsync", path.parent.stat().st_ino)]
    assert (path.read_bytes(), new != old) == (before, True)
    assert sorted(os.listdir(path.parent)) == [path.name]
    with again(store, writer) as third:
        assert (folded(third.state), third.head) == (state, writer.head)
        assert third.save_turn_end() == 5
        assert third.head.byte_offset == path.stat().st_size


def test_what_a_segment_was_created_with_is_never_taken_back(store: sl.FsStore) -> None:
    """A fork appears with its lines, whole and durable: cut below them, acknowledged lines were missing for a while."""
    writer = sl.SegmentWriter.create(store)
    sl.save_extension(store, writer.session_id, writer.segment_id, "other", None)
    writer.save_user_input("in the fork from the beginning")
    before = path_of(store, writer).read_bytes()

    fail_to_sync(store, writer)

    assert path_of(store, writer).read_bytes() == before


@pytest.mark.parametrize("how", ["fsync", "rename", "write", "pread"])
def test_a_disk_that_fails_again_leaves_the_old_file_as_long_as_it_was(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nothing is taken from it that may be on the disk, the append goes, and no temporary file stays."""
    writer = amid_a_turn(store)
    path = path_of(store, writer)
    before, old = path.read_bytes(), path.stat().st_ino
    with again(store, writer) as other, monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: (patch.setattr(os, how, fail), fail()))
        with pytest.raises(sl.AppendUnknown, match="failed too"):
            other.save_turn_end()

    assert (path.read_bytes(), path.stat().st_ino) == (before, old)
    assert os.listdir(path.parent) == [path.name]
    assert writer.save_turn_end() == 5


def test_a_follower_gets_all_that_was_acknowledged_and_then_an_end(store: sl.FsStore) -> None:
    """It sees the old file: everything in it, and that it is no longer the one at its path."""
    writer = amid_a_turn(store)
    expected = list(store.read(writer.session_id, writer.segment_id))
    followed = store.follow(writer.session_id, writer.segment_id)
    found = [next(followed)]
    fail_to_sync(store, writer)
    writer.save_invoke()

    with pytest.raises(sl.NotFound, match="replaced"):
        found.extend(followed)

    assert found == expected
    assert len(list(store.read(writer.session_id, writer.segment_id))) == 5


# ── the others ─────────────────────────────────────────────────────────────────────────────────────────────────────


def quick_append(writer: sl.SegmentWriter) -> None:
    writer.append(sl.Invoke(ts=1, trigger="notify"))


def batch(writer: sl.SegmentWriter) -> None:
    with writer.batch():
        writer.save_invoke()
        writer.save_user_input("x")


def turn_end(writer: sl.SegmentWriter) -> None:
    writer.save_turn_end()


@pytest.mark.parametrize("append", [quick_append, batch, turn_end])
def test_a_writer_with_the_old_file_open_goes_on_in_the_new_one(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch, append: Callable[[sl.SegmentWriter], None]
) -> None:
    """Even one that looked at the path just now and trusts it: the old file does not end where it was left."""
    monkeypatch.setattr(_quick, "UNTOUCHED_S", UNTOUCHED_S)
    monkeypatch.setattr(_segment_file, "UNTOUCHED_S", UNTOUCHED_S)
    monkeypatch.setattr(_segment_file, "_RECHECK_S", UNTOUCHED_S)
    writer = amid_a_turn(store)
    quick_append(writer)
    segment_id = writer.segment_id
    fail_to_sync(store, writer)

    append(writer)
    quick_append(writer)

    assert writer.segment_id == segment_id
    assert writer.head == sl.head(store, writer.session_id, segment_id)
    assert folded(writer.state) == folded(sl.restore(store, writer.session_id, segment_id))
    assert path_of(store, writer).stat().st_size == writer.head.byte_offset


def test_a_file_that_is_replaced_twice_is_gone_on_with_in_the_third(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the lock of the second file wrote into it, though a third was at the path when the lock came."""
    writer = amid_a_turn(store)
    real = _held_file._flock

    def replaced_meanwhile(fd: int, how: int) -> None:
        monkeypatch.setattr(_held_file, "_flock", real)
        fail_to_sync(store, writer)
        real(fd, how)

    fail_to_sync(store, writer)
    monkeypatch.setattr(_held_file, "_flock", replaced_meanwhile)

    assert writer.save_invoke() == 5

    assert writer.head == sl.head(store, writer.session_id, writer.segment_id)
    assert writer.save_invoke() == 6


def in_a_child(work: Callable[[], object]) -> int:
    """Do it in a process of its own, and return that."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001  (a child must never return into the tests)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def test_writers_of_other_processes_go_on_in_the_new_file(store: sl.FsStore) -> None:
    """Theirs is the old one, which nobody reads any more; what they append is acknowledged, and so it is there."""
    writer = amid_a_turn(store)
    told, tell = os.pipe()
    go, start = os.pipe()

    def work() -> None:
        with sl.FsStore(store.root, durability="process") as own, again(own, writer) as mine:
            mine.save_user_input("before")
            os.write(tell, b".")
            assert os.read(go, 1) == b"."
            mine.save_user_input("after")
            sl.save_user_input(own, writer.session_id, writer.segment_id, "verb")

    child = in_a_child(work)
    os.close(tell)
    assert os.read(told, 1) == b"."
    fail_to_sync(store, writer)

    os.write(start, b".")

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for fd in (told, go, start):
        os.close(fd)
    history = sl.restore(store, writer.session_id, writer.segment_id).history
    assert [item.text for item in history if isinstance(item, sl.Message)] == [
        "acknowledged",
        "before",
        "after",
        "verb",
    ]


def test_threads_lose_nothing_while_syncs_fail_beside_them(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged is on file once, and what was said to be taken back is not."""
    writer = sl.SegmentWriter.create(store)
    ids = writer.session_id, writer.segment_id
    main = threading.get_ident()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: fail() if threading.get_ident() == main else real(fd))
    acknowledged: list[list[int]] = [[], []]

    def append(done: list[int]) -> None:
        with sl.FsStore(store.root, durability="turn") as own:
            for number in range(100):
                sl.save_extension(own, *ids, "d", number)
                done.append(number)

    threads = [threading.Thread(target=append, args=(done,)) for done in acknowledged]
    for thread in threads:
        thread.start()
    for number in itertools.takewhile(lambda _: any(thread.is_alive() for thread in threads), itertools.count()):
        with pytest.raises(sl.AppendUnknown, match="taken back"):
            sl.append_entry(store, *ids, sl.TurnEnd(ts=1, turn_count=number))
    for thread in threads:
        thread.join()

    state = sl.restore(store, *ids)
    assert sorted(found.payload for found in state.extensions) == sorted(2 * list(range(100)))
    assert state.turn_count == 0
    assert acknowledged == [list(range(100))] * 2
