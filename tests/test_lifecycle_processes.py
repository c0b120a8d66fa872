"""Deleting, detaching, purging and collecting beside writers, forkers and readers, and killed at any moment."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from session_log.branches import read_tree
from session_log.collection import collect_blobs
from session_log.lifecycle import StillReferenced, delete_segment, delete_session
from session_log.trash import list_trash, purge
from session_log.verify import verify

PREAMBLE = """
import os, sys
import session_log as sl
from session_log.collection import collect_blobs
from session_log.lifecycle import delete_segment, delete_session, detach_segment
from session_log.trash import purge, undelete_session
root, session_id, segment_id = sys.argv[1:4]
store = sl.FsStore(root, durability="process")
print("ready", flush=True)
sys.stdin.readline()
"""

FORK = """
made, refused = [], 0
for _ in range(200):
    try:
        made.append(sl.fork_at(store, session_id, segment_id, 1))
    except (sl.NotFound, sl.MissingAncestor):
        refused += 1
print("done")
"""

DELETE_WHEN_FREE = """
from session_log.lifecycle import StillReferenced
deleted = 0
for _ in range(300):
    try:
        delete_segment(store, session_id, segment_id, recursive=True)
        deleted += 1
    except (StillReferenced, sl.NotFound, sl.SegmentBusy):
        pass
print("done")
"""

DETACH = """
for _ in range(30):
    for name in store.list_segments(session_id):
        if name != segment_id:
            detach_segment(store, session_id, name)
delete_segment(store, session_id, segment_id, detach=True)
print("done")
"""

RESTORE = """
for _ in range(100):
    for name in store.list_segments(session_id):
        if name != segment_id:
            assert len(sl.restore(store, session_id, name).history) >= 2, name
print("done")
"""

PUT = """
for number in map(int, sys.argv[4:]):
    data = b"%d" % number
    ref = store.put_blob(data)
    sl.save_extension(store, session_id, segment_id, "d", {"blob": ref.sha256})
    assert store.get_blob(ref) == data
print("done")
"""

COLLECT = """
while not os.path.exists(root + "/stop"):
    collect_blobs(store, grace_s=3600)
print("done")
"""


def begin(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    assert process.communicate(timeout=240)[0] == "done\n"
    assert process.returncode == 0


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
        processes.append(begin(script, *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


Start = Callable[..., subprocess.Popen[str]]


def talk(root: Path, children: int = 0) -> tuple[sl.FsStore, str, str]:
    """Create a session of one turn, a fork that stands alone, and some that do not."""
    store = sl.FsStore(root, durability="process")
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("question")
        writer.save_delta([sl.Message.assistant("answer")])
        writer.save_turn_end()
    ids = writer.session_id, writer.segment_id
    sl.fork_at(store, *ids, 1, copy_history=True)
    for _ in range(children):
        child = sl.fork_at(store, *ids, 1)
        sl.save_user_input(store, ids[0], child, "on")
        sl.fork_at_entry(store, ids[0], child, 2)
    return store, *ids


def all_sound(store: sl.FsStore, session_id: str) -> None:
    """Every segment that is listed can be restored, with its first question."""
    assert not any(branch.orphan for branch in read_tree(store, session_id) if branch.link == "fork")
    for segment_id in store.list_segments(session_id):
        assert sl.restore(store, session_id, segment_id).history[0] == sl.Message.user("question")


def test_no_fork_dangles_however_it_meets_a_deletion(tmp_path: Path, started: Start) -> None:
    """Forks are taken back or the deletion is refused: who deletes and who forks see each other."""
    for number in range(4):
        store, session_id, segment_id = talk(tmp_path / str(number))
        processes = [started(FORK, store.root, session_id, segment_id) for _ in range(2)]
        processes.append(started(DELETE_WHEN_FREE, store.root, session_id, segment_id))
        for process in processes:
            go(process)
        for process in processes:
            end(process)

        all_sound(store, session_id)
        assert not store.exists(session_id, segment_id)


def test_readers_go_on_while_segments_are_detached(tmp_path: Path, started: Start) -> None:
    """A restore that began before and ends after is that of the segment as it was, and as it is."""
    store, session_id, segment_id = talk(tmp_path / "root", children=6)
    processes = [started(RESTORE, store.root, session_id, segment_id) for _ in range(2)]
    processes.append(started(DETACH, store.root, session_id, segment_id))
    for process in processes:
        go(process)
    for process in processes:
        end(process)

    all_sound(store, session_id)


def payloads_of_one_folder(root: Path, wanted: int) -> list[int]:
    """Put payloads that nobody refers to and nobody put for years, all below ``blobs/00``."""
    folder = root / "blobs" / "00"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[int] = []
    number = 0
    while len(found) < wanted:
        number += 1
        sha256 = hashlib.sha256(b"%d" % number).hexdigest()
        if sha256.startswith("00"):
            (folder / sha256).write_bytes(b"%d" % number)
            os.utime(folder / sha256, (0, 0))
            found.append(number)
    return found


def test_a_payload_put_again_is_never_collected(tmp_path: Path, started: Start) -> None:
    """Who puts a payload that is there, and refers to it in a line then, finds it, whoever collects garbage."""
    for number in range(4):
        root = tmp_path / str(number)
        store = talk(root)[0]
        payloads = payloads_of_one_folder(root, 600)
        random.Random(number).shuffle(payloads)
        ids = [sl.create_segment(store) for _ in range(2)]
        collector = started(COLLECT, root, *ids[0])
        putters = [started(PUT, root, *ids[at], *map(str, payloads[at::2])) for at in range(2)]
        for process in (*putters, collector):
            go(process)
        for process in putters:
            end(process)
        (root / "stop").touch()
        end(collector)

        for payload in payloads:
            assert store.get_blob(hashlib.sha256(b"%d" % payload).hexdigest()) == b"%d" % payload
        for session_id, _ in ids:
            delete_session(store, session_id)
        purge(store)
        assert collect_blobs(store, grace_s=0).removed == len(payloads)


def test_a_deleted_id_is_never_used_again_by_any_process(tmp_path: Path, started: Start) -> None:
    """Whoever creates in a session while others delete it: after the first deletion nobody does any more."""
    create = """
made = 0
for _ in range(400):
    try:
        sl.create_segment_with_ids(store, session_id, sl.new_segment_id(), sl.SegmentStartState())
        made += 1
    except (sl.SessionDeleted, sl.StoreUnavailable):
        pass
print("done")
"""
    delete = """
deleted = 0
for _ in range(400):
    try:
        store.delete_session(session_id)
        deleted += 1
    except sl.NotFound:
        pass
assert deleted <= 1, deleted
print("done")
"""
    for number in range(3):
        store, session_id, segment_id = talk(tmp_path / str(number))
        processes = [started(create, store.root, session_id, segment_id) for _ in range(2)]
        processes.append(started(delete, store.root, session_id, segment_id))
        for process in processes:
            go(process)
        for process in processes:
            end(process)

        assert store.list_sessions() == []
        assert sorted(os.listdir(store.root)) == ["feed.jsonl", "trash"]


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    delete_segment(store, session_id, segment_id, detach=True)
except sl.StoreUnavailable as exc:
    print("done" if "nothing was written" in str(exc) else exc)
"""


def test_a_full_disk_detaches_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """No room for the file of the child that would stand alone: everything is as it was, and no leftover is there."""
    store, session_id, segment_id = talk(tmp_path / "root")
    sl.save_user_input(store, session_id, segment_id, "x" * 5_000)
    sl.save_turn_end(store, session_id, segment_id, 2)
    child = sl.fork_at(store, session_id, segment_id, 2)
    session = store.root / session_id
    before = {path.name: path.read_bytes() for path in session.iterdir()}
    for limit in (0, 1, 500, 5_000):
        done = subprocess.run(
            [sys.executable, "-c", PREAMBLE + FULL, store.root, session_id, segment_id, str(limit)],
            input="\n",
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "ready\ndone\n"
        assert {path.name: path.read_bytes() for path in session.iterdir()} == before

    delete_segment(store, session_id, segment_id, detach=True)
    assert sl.restore(store, session_id, child).turn_count == 2


def test_purging_needs_no_room(tmp_path: Path) -> None:
    """On a full disk what was deleted can be purged: the mark that the id is taken comes after the room for it."""
    store, session_id, _ = talk(tmp_path / "root")
    script = PREAMBLE + (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "delete_session(store, session_id)\npurge(store)\nprint('done')"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, store.root, session_id, "-"],
        input="\n",
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "ready\ndone\n"
    assert list_trash(store) == ()
    with pytest.raises(sl.SessionDeleted):
        sl.create_segment_with_ids(store, session_id, sl.new_segment_id(), sl.SegmentStartState())


def test_a_child_whose_maker_was_killed_just_then_keeps_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Created between the look for children and the end of the parent's name, by who could look at nothing any more."""
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("one")
        writer.save_turn_end()
    session_id, parent = writer.session_id, writer.segment_id
    sl.fork_at(store, session_id, parent, 1, copy_history=True)
    child = sl.fork_at(store, session_id, parent, 1)
    lines = list(store.read(session_id, child))
    store.segment_path(session_id, child).unlink()
    path, unlink = str(store.segment_path(session_id, parent)), os.unlink

    def forked_just_before(name: Any, *args: Any, **more: Any) -> None:
        if name == path:
            store.create_segment(session_id, child, lines)
        unlink(name, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", forked_just_before)
        with pytest.raises(StillReferenced, match=child):
            delete_segment(store, session_id, parent)

    assert sl.restore(store, session_id, child).turn_count == 1
    assert list_trash(store) == ()
    assert verify(store).is_sound
    assert delete_segment(store, session_id, parent, recursive=True).segments == (parent, child)
