"""The laws of the trash: everything comes back as it was, until it is purged; an id never comes back for another."""

import json
import os
import shutil
from pathlib import Path

import pytest

import session_log as sl
from session_log.disk import disk_usage
from session_log.facts import read_facts
from session_log.feed import known_sessions, recent_sessions, reindex
from session_log.keys import open_or_create
from session_log.lifecycle import delete_segment, delete_session
from session_log.trash import list_trash, purge, undelete_segment, undelete_session

DAY_MS = 86_400_000


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def backdate(store: sl.FsStore, name: str, ts: int) -> None:
    (store.root / "trash" / name / "deleted.json").write_text(json.dumps({"ts": ts}))


def test_a_session_comes_back_as_it_was(store: sl.FsStore) -> None:
    """Byte for byte, with its key, facts and trace; writers go on in it."""
    session_id, segment_id, _ = open_or_create(store, "thread 7")
    store.append_trace(session_id, segment_id, [b'{"ts":1,"turn":0,"kind":"lifecycle","label":"x"}'])
    before = files(store.root / session_id)
    delete_session(store, session_id)
    (trashed,) = list_trash(store)

    undelete_session(store, session_id)

    assert files(store.root / session_id) == before
    assert (trashed.session_id, trashed.segment_id, trashed.name) == (session_id, None, session_id)
    assert abs(trashed.deleted_ts - sl.now_ms()) < DAY_MS
    assert trashed.size_bytes >= sum(map(len, before.values()))
    assert list_trash(store) == ()
    assert open_or_create(store, "thread 7") == (session_id, segment_id, False)
    assert sl.save_user_input(store, session_id, segment_id, "on") == 2


def test_a_key_taken_meanwhile_is_told_by_the_facts(store: sl.FsStore) -> None:
    """The key of a deleted session is free; brought back, both say that they have it, and nothing is lost."""
    session_id = open_or_create(store, "key")[0]
    delete_session(store, session_id)
    other = open_or_create(store, "key")[0]
    undelete_session(store, session_id)

    assert other != session_id
    assert read_facts(store, session_id).external_key == read_facts(store, other).external_key == "key"


def test_what_is_not_there_does_not_come_back(store: sl.FsStore) -> None:
    """NotFound without a trash or without the session in it; nothing is made by asking."""
    with pytest.raises(sl.NotFound):
        undelete_session(store, sl.new_session_id())
    with pytest.raises(sl.NotFound):
        undelete_segment(store, sl.new_session_id(), sl.new_segment_id())
    assert list_trash(store) == purge(store) == ()
    assert not store.root.exists()
    for call in (list_trash, purge):
        with pytest.raises(sl.CallerError):
            call(sl.MemoryStore())
    session_id, _ = sl.create_segment(store)
    delete_session(store, session_id)
    with pytest.raises(sl.NotFound):
        undelete_session(store, session_id, name="../pods")


def test_a_session_in_its_place_is_not_overwritten(store: sl.FsStore) -> None:
    """Copied back by hand meanwhile: the one in the trash stays there, and another deletion keeps both."""
    session_id, segment_id = sl.create_segment(store)
    delete_session(store, session_id)
    shutil.copytree(store.root / "trash" / session_id, store.root / session_id)
    with pytest.raises(sl.CallerError, match="delete that first"):
        undelete_session(store, session_id)

    sl.save_user_input(store, session_id, segment_id, "second")
    delete_session(store, session_id)

    assert {found.name for found in list_trash(store)} == {session_id, f"{session_id}.2"}
    undelete_session(store, session_id)
    assert store.length(session_id, segment_id) == 2
    delete_session(store, session_id)
    undelete_session(store, session_id, name=session_id)
    assert store.length(session_id, segment_id) == 1


def test_a_segment_deleted_twice_is_there_twice(store: sl.FsStore) -> None:
    """Made again under its id and deleted again: the last one comes back first, then the other if there is room."""
    session_id, segment_id = sl.create_segment(store)
    child = sl.new_segment_id()
    for prompt in ("one", "two"):
        sl.create_segment_with_ids(store, session_id, child, sl.SegmentStartState(prompt))
        delete_segment(store, session_id, child)
    assert len(list_trash(store)) == 2

    undelete_segment(store, session_id, child)

    assert sl.restore(store, session_id, child).system_prompt == "two"
    with pytest.raises(sl.SegmentExists):
        undelete_segment(store, session_id, child)
    assert len(list_trash(store)) == 1
    assert store.list_segments(session_id) == sorted([child, segment_id], reverse=True)


def test_a_purge_is_for_good_and_by_age(store: sl.FsStore) -> None:
    """Only what was deleted long enough ago goes, by what was noted then; a dry run tells the same and does nothing."""
    old, new = sl.create_segment(store)[0], sl.create_segment(store)[0]
    for session_id in (old, new):
        delete_session(store, session_id)
    backdate(store, old, sl.now_ms() - 3 * DAY_MS)
    os.utime(store.root / "trash" / new, (0, 0))
    before = files(store.root)

    planned = purge(store, 2 * DAY_MS, dry_run=True)

    assert [found.session_id for found in planned] == [old]
    assert files(store.root) == before
    assert purge(store, 2 * DAY_MS) == planned
    assert [found.session_id for found in list_trash(store)] == [new]
    with pytest.raises(sl.NotFound):
        undelete_session(store, old)
    undelete_session(store, new)
    for wrong in (-1, 1.5, True):
        with pytest.raises(sl.CallerError):
            purge(store, wrong)  # type: ignore[arg-type]


def test_an_id_is_never_used_again(store: sl.FsStore) -> None:
    """In the trash, purged, by any store; in other sessions a segment's id is free; what was brought back goes on."""
    session_id, segment_id = sl.create_segment(store)
    state = sl.SegmentStartState()
    for step in (lambda: delete_session(store, session_id), lambda: purge(store)):
        step()
        for one in (store, sl.FsStore(store.root), sl.FsStore(store.root, durability="process")):
            with pytest.raises(sl.SessionDeleted, match=session_id):
                sl.create_segment_with_ids(one, session_id, segment_id, state)
    other = sl.new_session_id()
    sl.create_segment_with_ids(store, other, segment_id, state)
    delete_session(store, other)
    undelete_session(store, other)
    sl.create_segment_with_ids(store, other, sl.new_segment_id(), state)
    assert sorted(os.listdir(store.root / "trash" / "gone")) == [session_id]


def test_a_note_that_is_none_is_not_believed(store: sl.FsStore) -> None:
    """Torn, empty or of something else: then the time is that of the move, as the file system has it."""
    session_id, _ = sl.create_segment(store)
    delete_session(store, session_id)
    note = store.root / "trash" / session_id / "deleted.json"
    for text in ("", '{"ts":', "[]", '{"ts":"x"}', "\0" * 9):
        note.write_text(text)
        assert abs(list_trash(store)[0].deleted_ts - sl.now_ms()) < DAY_MS
    note.unlink()
    assert abs(list_trash(store)[0].deleted_ts - sl.now_ms()) < DAY_MS


def test_a_purge_follows_no_symlink(store: sl.FsStore, tmp_path: Path) -> None:
    """F24: a link in the trash goes, what it leads to stays; folders and files that are not ours stay or go with it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    session_id, _ = sl.create_segment(store)
    (store.root / session_id / "link").symlink_to(outside)
    (store.root / session_id / "folder").mkdir()
    (store.root / session_id / "folder" / "file").write_text("x")
    delete_session(store, session_id)
    (store.root / "trash" / sl.new_session_id()).symlink_to(outside)
    (store.root / "trash" / "notes").mkdir()

    purge(store)

    other = sl.FsStore(tmp_path / "other")
    other.root.mkdir()
    (other.root / "trash").symlink_to(store.root)
    assert disk_usage(other).total.count == 0
    assert list_trash(other) == purge(other) == ()
    assert (outside / "precious").read_text() == "x"
    assert (store.root / "trash" / "notes").is_dir()
    assert list_trash(store) == ()
    assert os.listdir(store.root / "trash" / "purging") == [".lock"]


def test_what_is_brought_back_is_announced(store: sl.FsStore) -> None:
    """Before it is there, each segment: also in a feed that was made anew while it was in the trash."""
    session_id, segment_id = sl.create_segment(store)
    child = sl.fork_at(store, session_id, segment_id, 0)
    sl.create_segment(store)
    delete_session(store, session_id)
    reindex(store)
    assert session_id not in known_sessions(store).sessions

    undelete_session(store, session_id)

    assert known_sessions(store).sessions[session_id].segments == {segment_id, child}
    assert [one.session_id for one in recent_sessions(store, 1)] == [session_id]
    delete_segment(store, session_id, child)
    before = (store.root / "feed.jsonl").read_bytes()
    undelete_segment(store, session_id, child)
    new = (store.root / "feed.jsonl").read_bytes().removeprefix(before).splitlines()
    said = {(line["kind"], line["session_id"], line.get("segment_id")) for line in map(json.loads, new)}
    assert said == {("fork", session_id, child)}


def test_what_cannot_come_back_is_not_announced(store: sl.FsStore) -> None:
    session_id, _ = sl.create_segment(store)
    delete_session(store, session_id)
    shutil.copytree(store.root / "trash" / session_id, store.root / session_id)
    before = (store.root / "feed.jsonl").read_bytes()

    with pytest.raises(sl.CallerError):
        undelete_session(store, session_id)
    assert (store.root / "feed.jsonl").read_bytes() == before
