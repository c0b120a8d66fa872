"""Faults that were found once, in what a power cut or a failing disk leaves: each must not come back."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from recorded import intrude
from session_log.pods import FsPodStore, PodMetadata

Call = tuple[str, int]
"""The name of a system call, and the inode it was for."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="turn") as found:
        yield found


def fail(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "Input/output error")


def failing_once(real: Callable[[int], None]) -> Callable[[int], None]:
    """A sync that fails, and says OK from then on."""
    first = [fail]
    return lambda fd: first.pop()() if first else real(fd)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What brings something to the disk, shortens a file or gives one its name, in order."""
    found: list[Call] = []

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(of: Any, *arguments: Any, **more: Any) -> Any:
            found.append((name, os.stat(of).st_ino))
            return real(of, *arguments, **more)

        return call

    for name in ("fdatasync", "fsync", "ftruncate", "pwrite", "link", "rename"):
        monkeypatch.setattr(os, name, watched(name))
    return found


def inode(path: Path) -> int:
    return path.stat().st_ino


def path_of(store: sl.FsStore, writer: sl.SegmentWriter) -> Path:
    return store.segment_path(writer.session_id, writer.segment_id)


def amid_a_turn(store: sl.FsStore) -> sl.SegmentWriter:
    """A writer whose last lines were not synced."""
    writer = sl.SegmentWriter.create(store)
    writer.save_turn_end()
    writer.save_invoke()
    writer.save_user_input("not synced")
    return writer


def torn(store: sl.FsStore, writer: sl.SegmentWriter) -> Path:
    """The path of a segment, behind which somebody's write was cut short."""
    path = path_of(store, writer)
    path.write_bytes(path.read_bytes() + b'{"torn')
    return path


def in_order(wanted: tuple[Call, ...], found: list[Call]) -> bool:
    rest = iter(found)
    return all(one in rest for one in wanted)


# ── a reference survives no power cut that its parent does not ─────────────────────────────────────────────────────


def behind_another(act: Callable[[sl.SegmentWriter], object]) -> Callable[[sl.SegmentWriter, sl.FsStore], object]:
    def fork(writer: sl.SegmentWriter, store: sl.FsStore) -> None:
        intrude(store, writer)
        act(writer)

    return fork


def ensured(writer: sl.SegmentWriter, store: sl.FsStore) -> None:
    head = writer.head
    intrude(store, writer)
    sl.ensure_head_or_fork(store, head)


def held(writer: sl.SegmentWriter, store: sl.FsStore) -> None:
    with sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id, exclusive=True):
        writer.save_user_input("goes into a fork")


FORKS: dict[str, Callable[[sl.SegmentWriter, sl.FsStore], object]] = {
    "fork_at": lambda w, _: w.fork_at(1),
    "fork_at_entry": lambda w, _: w.fork_at_entry(4),
    "behind another": behind_another(lambda w: w.save_user_input("goes into a fork")),
    "a rollback behind another": behind_another(lambda w: w.rollback(3)),
    "ensure_head_or_fork": ensured,
    "an exclusive owner": held,
}


@pytest.mark.parametrize("how", FORKS)
def test_a_parent_is_on_the_disk_before_a_child_refers_to_it(store: sl.FsStore, calls: list[Call], how: str) -> None:
    """A turn finished in the child was lost with the lines of the parent, which nobody had synced; owned or not."""
    writer = amid_a_turn(store)
    parent = inode(path_of(store, writer))
    calls.clear()

    FORKS[how](writer, store)

    assert ("fdatasync", parent) in calls[: [name for name, _ in calls].index("link")]
    assert len(store.list_segments(writer.session_id)) == 2


def test_no_child_is_made_of_a_parent_that_cannot_be_brought_to_the_disk(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork says so, and what was acknowledged is where it was."""
    writer = amid_a_turn(store)
    before = path_of(store, writer).read_bytes()
    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(sl.AppendUnknown):
        writer.fork_at(1)

    assert store.list_segments(writer.session_id) == [writer.segment_id]
    assert path_of(store, writer).read_bytes() == before


def test_a_parent_whose_sync_fails_is_in_a_new_file_before_the_child_is(
    store: sl.FsStore, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second sync would say OK of lines that are lost; the parent's own writer goes on in the new file."""
    writer = amid_a_turn(store)
    path = path_of(store, writer)
    before, old = path.read_bytes(), inode(path)
    monkeypatch.setattr(os, "fdatasync", failing_once(os.fdatasync))
    calls.clear()

    child = writer.fork_at(1)

    new = inode(path)
    assert in_order((("fsync", new), ("rename", new), ("fsync", inode(path.parent))), calls)
    assert [name for name, _ in calls].index("rename") < [name for name, _ in calls].index("link")
    assert (path.read_bytes(), new != old) == (before, True)
    assert writer.save_turn_end() == 5
    assert [sl.restore(store, writer.session_id, one).turn_count for one in (child, writer.segment_id)] == [1, 2]


def test_a_fork_leaves_the_torn_bytes_of_its_source_where_they_are(store: sl.FsStore) -> None:
    """To bring it to the disk, it was opened for writing and mended, though a fork does not touch its source."""
    writer = amid_a_turn(store)
    path = torn(store, writer)
    before = path.read_bytes()

    writer.fork_at_entry(4)

    assert path.read_bytes() == before


# ── what else must be on the disk ──────────────────────────────────────────────────────────────────────────────────


def test_a_new_file_of_torn_bytes_has_its_name_on_the_disk_before_the_cut(store: sl.FsStore, calls: list[Call]) -> None:
    """They were synced, their folder not: after a power cut they were neither in the segment nor beside it."""
    writer = sl.SegmentWriter.create(store)
    path = torn(store, writer)
    calls.clear()

    writer.save_invoke()

    kept = path.with_suffix(".torn")
    order = ("fsync", inode(kept)), ("fsync", inode(path.parent)), ("ftruncate", inode(path))
    assert in_order(order, calls), calls


def test_a_new_file_of_damaged_bytes_has_its_name_on_the_disk_before_they_go(
    store: sl.FsStore, calls: list[Call]
) -> None:
    """As for torn bytes: what ``repair`` takes away is kept first, name and all."""
    writer = sl.SegmentWriter.create(store)
    path = path_of(store, writer)
    with path.open("ab") as file:
        file.write(b"damage\n{}\n")

    sl.repair(store, writer.session_id, writer.segment_id)

    kept = path.with_suffix(".damage")
    order = ("fsync", inode(kept)), ("fsync", inode(path.parent)), ("pwrite", inode(path)), ("fsync", inode(path))
    assert in_order(order, calls), calls


def test_sync_brings_the_names_to_the_disk_as_well(tmp_path: Path, calls: list[Call]) -> None:
    """With ``durability="process"`` nobody else does: the whole segment could be missing behind a ``sync()``."""
    writer = sl.SegmentWriter.create(sl.FsStore(tmp_path / "made" / "root", durability="process"))
    calls.clear()

    writer.sync()

    above = (tmp_path / "made" / "root" / writer.session_id, tmp_path / "made" / "root", tmp_path / "made", tmp_path)
    assert {("fsync", inode(folder)) for folder in above} <= set(calls)
    assert calls[0][0] == "fdatasync"


def test_pods_are_durable_below_a_root_that_somebody_else_made(tmp_path: Path, calls: list[Call]) -> None:
    """A store that promises nothing had made the root: its name was on no disk, whatever the pods synced in it."""
    root = tmp_path / "made" / "root"
    sl.SegmentWriter.create(sl.FsStore(root, durability="process"))
    calls.clear()

    FsPodStore(root).write(PodMetadata("a"))

    assert {("fsync", inode(folder)) for folder in (tmp_path, tmp_path / "made", root, root / "pods")} <= set(calls)


# ── syncs that fail ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_sync_leaves_the_lines_of_others_behind_ours(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sync()`` cut the file to where its own writer stood, without the lock: acknowledged lines were gone."""
    writer = amid_a_turn(store)
    intrude(store, writer)
    path = path_of(store, writer)
    before = path.read_bytes()
    locked: list[bool] = []

    def failing(_: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked.append(True)
        finally:
            os.close(fd)
        fail()

    monkeypatch.setattr(os, "fdatasync", failing)

    with pytest.raises(sl.AppendUnknown):
        writer.sync()

    assert path.read_bytes() == before
    assert locked == [True]


def test_torn_bytes_that_could_not_be_kept_are_kept_in_other_blocks(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch, calls: list[Call]
) -> None:
    """Taken back without a sync, the next try went into the lost blocks, and the segment was cut all the same."""
    writer = sl.SegmentWriter.create(store)
    path = torn(store, writer)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_once(os.fsync))
        calls.clear()
        with pytest.raises(sl.StoreUnavailable):
            writer.save_invoke()

    kept = path.with_suffix(".torn")
    assert in_order((("ftruncate", inode(kept)), ("fsync", inode(kept))), calls), calls
    assert (path.read_bytes(), kept.read_bytes()) == (before, b"")
    assert writer.save_invoke() == 2
    assert kept.read_bytes() == b'{"torn\n'


def test_a_torn_tail_whose_removal_was_not_synced_is_there_for_the_next_writer(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next one writes where the old bytes may come back: half of them behind its line, after a power cut."""
    writer = sl.SegmentWriter.create(store)
    path = torn(store, writer)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(sl.StoreUnavailable):
            writer.save_invoke()

    assert path.read_bytes() == before
    assert writer.save_invoke() == 2
    assert path.with_suffix(".torn").read_bytes() == b'{"torn\n' * 2
