"""That the account of the faults tells files apart that are not what was said."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import session_log as sl
from proof.account import Account
from proof.before import IDS, POD, SESSION, TORN, everything
from proof.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "sessions").mkdir()
    found = Stage(tmp_path / "sessions", "turn", Account())
    everything(found)
    found.voices.clear()
    assert found.account.compare(found.root) == []
    return found


def path_of(stage: Stage, suffix: str = ".jsonl") -> Path:
    return stage.root / IDS[0] / (IDS[1] + suffix)


def a_segment_more(stage: Stage) -> None:
    sl.create_segment(sl.FsStore(stage.root))


def a_segment_less(stage: Stage) -> None:
    store = sl.FsStore(stage.root)
    store.segment_path(SESSION, store.list_segments(SESSION)[0]).unlink()


def an_entry_more(stage: Stage) -> None:
    sl.save_user_input(sl.FsStore(stage.root), *IDS, "nobody said so")


def torn_bytes(stage: Stage) -> None:
    with path_of(stage).open("ab") as file:
        file.write(TORN)


def torn_bytes_that_are_gone(stage: Stage) -> None:
    stage.account.torn[IDS] = (TORN,)


def another_pod(stage: Stage) -> None:
    sl.FsPodStore(stage.root).delete_by_name(POD.pod_name)


def no_blob(stage: Stage) -> None:
    for path in (stage.root / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()


def an_event_more(stage: Stage) -> None:
    stage.account.traces[IDS].append("never written")


def a_temporary_file(stage: Stage) -> None:
    path_of(stage).with_name(".0123456789abcdef.tmp").touch()


def something_in_the_trash(stage: Stage) -> None:
    (stage.root / "trash" / SESSION).mkdir(parents=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (a_segment_more, "nobody was told"),
        (a_segment_less, "is gone"),
        (an_entry_more, "history: expected"),
        (torn_bytes, "27 uncommitted bytes"),
        (torn_bytes_that_are_gone, "are nowhere"),
        (another_pod, "the pods are {}"),
        (no_blob, "NotFound"),
        (an_event_more, "the trace of"),
        (a_temporary_file, "left over: .0123456789abcdef.tmp"),
        (something_in_the_trash, "the trash holds"),
    ],
)
def test_files_that_are_not_what_was_said_are_told_apart(
    stage: Stage, change: Callable[[Stage], None], said: str
) -> None:
    """Whatever is more, less or other than the account says is found by a reader who knows nothing else."""
    change(stage)

    assert said in "; ".join(stage.account.compare(stage.root))


def test_a_lock_that_was_left_is_found(stage: Stage) -> None:
    """A descriptor that nobody closes would keep everybody else waiting."""
    fd = os.open(path_of(stage), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert stage.account.compare(stage.root) == [f"{IDS[1]} is locked"]
        stage.account.locked.add(IDS)
        assert stage.account.compare(stage.root) == []
    finally:
        os.close(fd)
