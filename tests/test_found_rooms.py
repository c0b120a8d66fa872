"""Faults that were found once beside the entries, by storms and power cuts: each must not come back."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from recorded import intrude
from session_log import _key_index, _references, _session_check, keys
from session_log._facts_file import FactsFile
from session_log.facts import set_facts
from session_log.feed import RecentSession, recent_sessions, reindex, watch
from session_log.keys import find_key, open_or_create
from session_log.lifecycle import delete_segment, delete_session, detach_segment
from session_log.trash import list_trash, purge, undelete_segment, undelete_session
from session_log.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


def talk(store: sl.FsStore) -> sl.SegmentWriter:
    """Record a turn and a run that ends."""
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("question")
        writer.save_turn_end()
        writer.save_run_completed()
    return writer


def test_what_comes_back_is_in_a_feed_that_was_made_while_it_was_in_the_trash(store: sl.FsStore) -> None:
    """The feed leaves out deleted sessions; one that is brought back is among the recent ones, as it was."""
    back = talk(store)
    talk(store)
    delete_session(store, back.session_id)
    reindex(store)
    watched = watch(store, stop=lambda: True)

    undelete_session(store, back.session_id)

    recent = recent_sessions(store)
    assert not recent.scanned
    assert recent.sessions[0] == next(each for each in _scanned(store) if each.session_id == back.session_id)
    assert recent.sessions[0].kind == "run_end"
    assert [event.kind for event in watched] == ["create", "create", "run_end"]  # before it is there, and all of it


def test_a_segment_that_comes_back_is_in_the_feed(store: sl.FsStore) -> None:
    """The same of a segment."""
    writer = talk(store)
    child = sl.fork_at(store, writer.session_id, writer.segment_id, 1)
    sl.save_run_errored(store, writer.session_id, child, "no")
    delete_segment(store, writer.session_id, child)
    reindex(store)

    undelete_segment(store, writer.session_id, child)

    assert recent_sessions(store).sessions == _scanned(store)
    assert (recent_sessions(store).sessions[0].segment_id, recent_sessions(store).sessions[0].kind) == (
        child,
        "run_end",
    )


def test_a_session_is_announced_before_it_is_back(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed right behind the move, the feed knows of it."""
    back = talk(store)
    delete_session(store, back.session_id)
    reindex(store)
    rename = os.rename

    def killed(*args: str) -> None:
        rename(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        undelete_session(store, back.session_id)

    assert [each.session_id for each in recent_sessions(store)] == [back.session_id]


def _scanned(store: sl.FsStore) -> tuple[RecentSession, ...]:
    """Return what the sessions themselves say."""
    feed, aside = store.root / "feed.jsonl", store.root / "feed.aside"
    feed.rename(aside)
    found = recent_sessions(store)
    aside.rename(feed)
    assert found.scanned
    return found.sessions


def test_a_run_end_that_goes_into_a_fork_is_announced_there(store: sl.FsStore) -> None:
    """Somebody else wrote: the line is in the first append of a fork, and the feed says so."""
    with sl.SegmentWriter.create(store) as writer:
        ids = writer.session_id, writer.segment_id
        writer.save_invoke()
        intrude(store, writer)
        writer.save_run_completed()

        assert writer.segment_id != ids[1]
        last = recent_sessions(store).sessions[0]
        assert (last.kind, last.segment_id) == ("run_end", writer.segment_id)
        assert recent_sessions(store).sessions == _scanned(store)


def test_a_child_does_not_come_back_before_its_parent(store: sl.FsStore) -> None:
    """A fork by reference whose parent is in the trash, too, stays there; behind its parent it restores as it was."""
    root = talk(store)
    parent = sl.fork_at(store, root.session_id, root.segment_id, 1)
    child = sl.fork_at_entry(store, root.session_id, parent, 1)
    delete_segment(store, root.session_id, parent, recursive=True)

    with pytest.raises(sl.MissingAncestor, match="bring that back first"):
        undelete_segment(store, root.session_id, child)

    assert not store.exists(root.session_id, child) and len(list_trash(store)) == 2
    undelete_segment(store, root.session_id, parent)
    undelete_segment(store, root.session_id, child)
    assert sl.restore(store, root.session_id, child).history == (sl.Message.user("question"),)


def test_a_child_whose_parent_was_purged_comes_back_as_it_is(store: sl.FsStore) -> None:
    """Nothing is better later: it can be read with salvage."""
    root = talk(store)
    parent = sl.fork_at(store, root.session_id, root.segment_id, 1)
    child = sl.fork_at_entry(store, root.session_id, parent, 1)
    delete_segment(store, root.session_id, child)
    delete_segment(store, root.session_id, parent)
    trash = store.root / "trash" / "segments" / root.session_id
    (trash / child).rename(store.root / "aside")
    purge(store)
    trash.mkdir(exist_ok=True)
    (store.root / "aside").rename(trash / child)

    undelete_segment(store, root.session_id, child)

    assert sl.restore(store, root.session_id, child, salvage=True).damage


def test_a_purge_is_on_the_disk_in_both_folders_before_a_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut may bring half of the session back into the trash."""
    store = sl.FsStore(tmp_path / "root", durability="turn")
    doomed = talk(store)
    delete_session(store, doomed.session_id)
    done: list[str] = []
    fsync, unlink = os.fsync, os.unlink

    def synced(fd: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def removed(path: str, **how: int) -> None:
        done.append("removed")
        unlink(path, **how)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "unlink", removed)
    purge(store)

    assert {"trash", "purging"} <= set(done[: done.index("removed")])


def fail(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "Input/output error")


def test_a_key_that_cannot_be_taken_back_from_the_index_is_moved_all_the_same(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts were changed: an error would say that they were not. The old entry misleads nobody."""
    session_id = open_or_create(store, "old")[0]
    append = _key_index.append

    def failing(files: sl.FsStore, key: str, owner: str | None) -> None:
        if owner is None:
            raise sl.StoreUnavailable("keys", "no room")
        append(files, key, owner)

    monkeypatch.setattr(keys, "append", failing)
    assert set_facts(store, session_id, external_key="new").external_key == "new"

    assert find_key(store, "old") is None
    assert open_or_create(store, "new")[0] == session_id
    monkeypatch.undo()
    assert open_or_create(store, "old")[2]


def test_a_lock_that_cannot_be_asked_for_is_reported_in_our_words(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bare OSError leaves a deletion."""
    writer = talk(store)
    monkeypatch.setattr(fcntl, "flock", fail)

    with pytest.raises(sl.StoreUnavailable, match="Input/output error"):
        _references.holders(store, writer.session_id, (writer.segment_id,))


def test_facts_or_a_root_that_cannot_be_looked_at_are_not_taken_for_others(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a run that is under way, and not for a session that is not there."""
    writer = talk(store)
    set_facts(store, writer.session_id, title="x")
    monkeypatch.setattr(FactsFile, "facts", fail_to_read)
    with pytest.raises(sl.StoreUnavailable, match="no reading"):
        delete_session(store, writer.session_id)
    monkeypatch.undo()

    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: fail() if path == store.root else stat(path, **how))
    with pytest.raises(sl.StoreUnavailable, match="Input/output error"):
        delete_session(store, writer.session_id)


def fail_to_read(_: object) -> Any:
    raise sl.StoreUnavailable("session.jsonl", "no reading")


def test_a_segment_that_is_detached_while_it_is_verified_is_no_broken_chain(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first line was read before and its lines behind the replacement: it is looked at again."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        writer.save_user_input("question")
        writer.save_turn_end()
        writer.save_user_input("and")
        child = writer.fork_at_entry(writer.head.entries)
    with sl.SegmentWriter.resume(store, writer.session_id, child, chain=True) as other:
        other.save_turn_end()
    check, done = _session_check._check_segment, list[bool]()

    def detached_first(checks: Any, session_id: str, segment_id: str, *rest: Any) -> Any:
        if segment_id == child:
            done.append(detach_segment(store, session_id, segment_id))
        return check(checks, session_id, segment_id, *rest)

    monkeypatch.setattr(_session_check, "_check_segment", detached_first)
    report = verify(store)

    assert done == [True] and report.is_sound, report.findings
