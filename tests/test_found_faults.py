"""Faults that were found once, where the system refuses something: each must not come back.

``every_failure`` lets a system call fail once, at each of its calls in turn.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import session_log as sl
from oracle import folded
from recorded import restored
from session_log import _folder_lock, _quick, _segment_file
from session_log.pods import FsPodStore, PodMetadata

Ids = tuple[str, str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="process", feed=False) as found:
        yield found


def fail(number: int = errno.EIO) -> Any:
    raise OSError(number, os.strerror(number))


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def every_failure(act: Callable[[], object], where: ModuleType, name: str) -> list[tuple[type[BaseException], str]]:
    """Return what ``act`` raised, if so, until there is no call left that could fail; no descriptor stays open."""
    found: list[tuple[type[BaseException], str]] = []
    at = 0
    real = getattr(where, name)
    while True:
        left = at = at + 1

        def failing(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            return fail() if left == 0 else real(*arguments, **more)

        before = open_files()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, failing)
            try:
                act()
            except Exception as exc:  # noqa: BLE001  looked at by the caller
                found.append((type(exc), str(exc)))
        if left > 0:
            return found
        assert open_files() <= before


def recorded(store: sl.FsStore) -> Ids:
    """A segment with a turn and a trace, in a store that keeps nothing open."""
    with sl.SegmentWriter.create(store, trace=True) as writer:
        writer.save_user_input("x")
        writer.save_turn_end()
        writer.trace_event(None)
        ids = writer.session_id, writer.segment_id
    store.close()
    return ids


def doors(store: sl.FsStore, ids: Ids) -> dict[str, Callable[[], object]]:
    def fresh() -> sl.FsStore:
        return sl.FsStore(store.root, durability="process")

    def closing(act: Callable[[sl.FsStore], object]) -> Callable[[], object]:
        def run() -> object:
            with fresh() as own:
                return act(own)

        return run

    return {
        "restore": closing(lambda own: sl.restore(own, *ids)),
        "resume": closing(lambda own: sl.SegmentWriter.resume(own, *ids).close()),
        "read": closing(lambda own: list(own.read(*ids))),
        "follow": closing(lambda own: list(own.follow(*ids, stop=lambda: True))),
        "trace": closing(lambda own: sl.read_trace(own, *ids)),
        "verb": closing(lambda own: sl.save_invoke(own, *ids, "user_send")),
        "fork": closing(lambda own: sl.fork_at(own, *ids, 1)),
        "copy": closing(lambda own: sl.fork_at_entry(own, *ids, 3, copy_history=True)),
        "repair": closing(lambda own: sl.repair(own, *ids)),
    }


@pytest.mark.parametrize("call", ["fstat", "pread"])
@pytest.mark.parametrize("door", ["restore", "resume", "read", "follow", "trace", "verb", "fork", "copy", "repair"])
def test_a_file_that_cannot_be_looked_at_is_a_typed_error_that_names_it(
    store: sl.FsStore, call: str, door: str
) -> None:
    """A bad sector or a stale NFS handle was an OSError without a name, and left a descriptor open."""
    ids = recorded(store)
    with store.segment_path(*ids).open("ab") as file:
        file.write(b'{"torn')
    act = doors(store, ids)[door]

    found = every_failure(act, os, call)

    assert found
    assert [raised for raised in found if not issubclass(raised[0], sl.StorageError)] == []
    assert [raised for raised in found if str(store.root) not in raised[1]] == []


def test_damage_that_cannot_be_read_is_a_typed_error_and_stays(store: sl.FsStore) -> None:
    """What ``repair`` is about to keep was read outside of its try; an overwriting that came short was no error."""
    ids = recorded(store)
    path = store.segment_path(*ids)
    with path.open("ab") as file:
        file.write(b"damaged\n{}\n")
    before = path.read_bytes()

    found = every_failure(lambda: sl.repair(store, *ids), os, "pread")

    assert {kind for kind, _ in found} == {sl.StoreUnavailable}
    assert path.read_bytes() == before.replace(b"damaged\n{}", b"       \n  ")


def test_damage_is_blanked_whole_however_little_a_write_takes(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``repair`` said that it had repaired a line that was half spaces, half damage."""
    ids = recorded(store)
    path = store.segment_path(*ids)
    before = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"damaged\n")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))

    found = sl.repair(store, *ids)

    assert len(found) == 1
    assert path.read_bytes() == before + b"       \n"


def test_a_folder_that_cannot_be_looked_at_is_a_typed_error(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root behind EIO was called a file where a folder belongs; a session's folder raised an OSError."""
    session_id, _ = sl.create_segment(store)
    other = sl.FsStore(store.root, durability="process")
    looks = every_failure(
        lambda: sl.create_segment_with_ids(other, session_id, sl.new_segment_id(), sl.SegmentStartState()), os, "lstat"
    )
    real = os.stat
    root = str(store.root)
    monkeypatch.setattr(os, "stat", lambda path, **more: fail() if path == root else real(path, **more))

    with pytest.raises(sl.StoreUnavailable, match="EIO") as caught:
        sl.create_segment(sl.FsStore(root, durability="process"))

    assert caught.value.where == root
    assert {kind for kind, _ in looks} == {sl.StoreUnavailable}


def test_a_lookup_that_could_not_look_everywhere_does_not_say_that_there_is_none(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``None`` and NotFound are true only if all folders were seen."""
    held = sl.create_segment(store)
    closed = sl.create_segment(store)
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: fail() if closed[0] in str(path) else real(path, *a, **k))

    for door in (store.lookup_session_of, lambda one: sl.restore_by_segment(store, one)):
        for segment_id in (closed[1], sl.new_segment_id()):
            with pytest.raises(sl.StoreUnavailable, match=closed[0]):
                door(segment_id)

    assert store.lookup_session_of(held[1]) == held[0]


# ── what is done is done ───────────────────────────────────────────────────────────────────────────────────────────


def blind_after(monkeypatch: pytest.MonkeyPatch, where: ModuleType, name: str) -> None:
    """Once this call has succeeded, no file can be opened, read or looked at any more."""
    real = getattr(where, name)

    def last(*arguments: Any, **more: Any) -> Any:
        found = real(*arguments, **more)
        for call in ("open", "pread", "stat", "fstat"):
            monkeypatch.setattr(os, call, lambda *_, **__: fail(errno.EMFILE))
        return found

    monkeypatch.setattr(where, name, last)


def test_create_does_not_raise_behind_the_segment_it_created(store: sl.FsStore) -> None:
    """It read back what it had just written: a session was there whose id nobody had."""
    with pytest.MonkeyPatch.context() as patch:
        blind_after(patch, os, "link")

        writer = sl.SegmentWriter.create(store, sl.SegmentStartState("prompt", history=(sl.Message.user("a"),)))

    assert folded(writer.state) == restored(store, writer)
    assert writer.head == sl.head(store, writer.session_id, writer.segment_id)


def test_compact_does_not_raise_behind_the_segment_it_created(store: sl.FsStore) -> None:
    """Nor is the writer left between two segments: a second ``compact`` would have compacted twice."""
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("x")
    writer.save_turn_end()
    with pytest.MonkeyPatch.context() as patch:
        blind_after(patch, os, "link")

        made = writer.compact(sl.SegmentStartState(history=(sl.Message.user("summary"),)))

    assert writer.segment_id == made
    assert folded(writer.state) == restored(store, writer)
    assert writer.save_invoke() == 2


def test_an_append_that_is_on_file_is_not_said_to_have_failed(store: sl.FsStore) -> None:
    """Where it ends was looked up afterwards, at a file that others had written to: that look could fail."""
    ids = sl.create_segment(store)
    entries: list[sl.LogEntry] = [sl.Invoke(ts=1, trigger="user_send"), sl.TurnEnd(ts=1, turn_count=1)]
    with pytest.MonkeyPatch.context() as patch:
        blind_after(patch, _segment_file, "_write")

        head = sl.append_entries(store, *ids, entries)

    assert head == sl.head(store, *ids)
    assert sl.read_entries(store, *ids, 1) == entries
    with pytest.MonkeyPatch.context() as patch:
        blind_after(patch, _segment_file, "_write")
        with pytest.raises(sl.AppendUnknown, match="on file"):
            sl.append_entries(store, *ids, entries, token="t")
    assert sl.head(store, *ids).entries == 5


def test_a_deletion_whose_folder_cannot_be_synced_is_done_and_says_that_it_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that nothing was written, and a repetition said NotFound."""
    store = sl.FsStore(tmp_path, durability="turn")
    session_id, _ = sl.create_segment(store)
    sl.FsStore(tmp_path, durability="turn").delete_session(sl.create_segment(store)[0])  # there is a trash
    moved = tmp_path / "trash" / session_id
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: fail() if moved.exists() else real(fd))

    with pytest.raises(sl.AppendUnknown, match="in the trash"):
        store.delete_session(session_id)

    assert store.list_sessions() == []
    assert moved.is_dir()


def test_a_pod_write_whose_lock_cannot_be_freed_has_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ENOLCK of NFS at the end was an OSError for a write that was there; closing frees the lock as well."""
    pods = FsPodStore(tmp_path)
    monkeypatch.setattr(_folder_lock, "_flock", lambda *_: fail(errno.ENOLCK))

    pods.write(PodMetadata("a"))
    pods.update("a", lambda old: old or PodMetadata("b"))
    pods.delete_by_name("a")

    with (tmp_path / "pods" / ".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert pods.list_names() == []


def test_a_refused_write_of_which_nothing_is_there_needs_no_taking_back(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full btrfs has no room to cut off nothing: each refused append was in doubt, and stopped its writer."""
    writer = sl.SegmentWriter.create(store)
    writer.save_invoke()
    acts: list[Callable[[], object]] = [
        lambda: writer.append(sl.Invoke(ts=1, trigger="x")),
        lambda: writer.save_delta([sl.Message.assistant("a"), sl.ToolCall("c", "run", "{}")]),
        lambda: sl.save_invoke(store, writer.session_id, writer.segment_id, "x"),
    ]
    with monkeypatch.context() as patch:
        for where in (_quick, _segment_file):
            patch.setattr(where, "_write", lambda *_: fail(errno.EDQUOT))
        patch.setattr(os, "ftruncate", lambda *_: fail(errno.EDQUOT))
        for act in acts:
            with pytest.raises(sl.StoreUnavailable, match="EDQUOT"):
                act()

    assert writer.save_invoke() == 3
