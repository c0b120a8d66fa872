"""Deleting, detaching, purging and collecting, killed before every system call that changes something."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import session_log as sl
from oracle import folded
from session_log.collection import collect_blobs
from session_log.lifecycle import delete_segment, delete_session
from session_log.trash import list_trash, purge
from test_lifecycle_processes import all_sound, talk

STEPS = ("link", "unlink", "rename", "open", "close", "write", "mkdir", "rmdir", "replace", "fsync", "utime")
CALLS = ("detach", "recursive", "session", "purge", "collect")


def killed_at(step: int, call: str, root: Path, session_id: str, segment_id: str) -> bool:
    """Run a call in a process that kills itself before its ``step``-th system call; tell whether it came so far."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        return status != 0
    try:
        left = step

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def instead(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return instead

        store = sl.FsStore(root, durability="process")
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        perform(call, store, session_id, segment_id)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("call", CALLS)
def test_killed_anywhere_all_is_readable_and_the_call_can_be_repeated(tmp_path: Path, call: str) -> None:
    """SIGKILL before any system call: nothing dangles, nothing referred to is gone, and the next try ends the work."""
    template = tmp_path / "template"
    store, session_id, segment_id = talk(template, children=2)
    store.append_trace(session_id, segment_id, [b'{"ts":1,"turn":0,"kind":"lifecycle","label":"x"}'])
    kept = store.put_blob(b"kept")
    garbage = store.put_blob(b"garbage")
    sl.save_extension(store, session_id, store.list_segments(session_id)[0], "d", {"blob": kept.sha256})
    old = sl.create_segment(store)
    if call == "purge":
        delete_session(store, old[0])
        delete_segment(store, session_id, store.list_segments(session_id)[0])
    states = {name: folded(sl.restore(store, session_id, name)) for name in store.list_segments(session_id)}
    step, reached = 0, True
    while reached:
        step += 1
        root = tmp_path / str(step)
        shutil.copytree(template, root)
        reached = killed_at(step, call, root, session_id, segment_id)
        here = sl.FsStore(root, durability="process")
        if call == "session":
            assert (session_id in here.list_sessions()) != bool(list_trash(here))
        else:
            left = here.list_segments(session_id)
            assert {name: folded(sl.restore(here, session_id, name)) for name in left} == {n: states[n] for n in left}
        assert here.get_blob(kept) == b"kept"
        taken(here, old[0])
        if reached:
            with contextlib.suppress(sl.NotFound):  # it had ended its work
                perform(call, here, session_id, segment_id)
        finished(call, here, session_id, segment_id, garbage)
        taken(here, old[0])
        shutil.rmtree(root)
    assert step > 10


def taken(store: sl.FsStore, session_id: str) -> None:
    """See that nobody can create a session of this id, which is there, in the trash, or purged."""
    if session_id not in store.list_sessions():
        with pytest.raises(sl.SessionDeleted):
            sl.create_segment_with_ids(store, session_id, sl.new_segment_id(), sl.SegmentStartState())


def perform(call: str, store: sl.FsStore, session_id: str, segment_id: str) -> None:
    match call:
        case "detach":
            delete_segment(store, session_id, segment_id, detach=True)
        case "recursive":
            delete_segment(store, session_id, segment_id, recursive=True)
        case "session":
            delete_session(store, session_id)
        case "purge":
            purge(store)
        case _:
            collect_blobs(store, grace_s=0)


def finished(call: str, store: sl.FsStore, session_id: str, segment_id: str, garbage: sl.BlobRef) -> None:
    """See that what was asked for is so."""
    names = sorted(path.name for path in (store.root / session_id).glob("*"))
    match call:
        case "detach":
            assert [name for name in names if name.startswith(segment_id)] == []
            assert len(store.list_segments(session_id)) == 5
            all_sound(store, session_id)
        case "recursive":
            assert len(store.list_segments(session_id)) == 1
            all_sound(store, session_id)
            assert [name for name in names if name.startswith(segment_id)] == []
        case "session":
            assert session_id not in store.list_sessions()
            taken(store, session_id)
        case "purge":
            assert list_trash(store) == ()
            assert os.listdir(store.root / "trash" / "purging") == [".lock"]
        case _:
            with pytest.raises(sl.NotFound):
                store.get_blob(garbage)
