"""Ctrl-C at any point: afterwards state, file and locks agree, and the next append works.

Every point at which a signal can arrive is tried (``points``).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from oracle import folded
from points import Points

DEADLOCK_S = 20.0


@contextlib.contextmanager
def ignored_by_the_interpreter() -> Iterator[list[BaseException | None]]:
    """Collect what was raised in a finalizer: Python itself drops that, whatever it is."""
    found: list[BaseException | None] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda what: found.append(what.exc_value)
    try:
        yield found
    finally:
        sys.unraisablehook = before


def state_is_on_file(store: sl.Store, writer: sl.SegmentWriter, shared: str | None) -> None:
    """The writer's state is that of its segment, where it says it is; the segment's end, if nobody else wrote there."""
    head = writer.head
    ids = writer.session_id, writer.segment_id
    assert folded(writer.state) == folded(sl.restore(store, *ids, at_entries=head.entries))
    if writer.segment_id != shared:
        assert head == sl.head(store, *ids)
    assert any(item == sl.Message.user("recorded before") for item in writer.state.history) or head.entries == 0


def locks_are_free(store: sl.Store, session_id: str) -> None:
    if isinstance(store, sl.FsStore):
        for segment_id in store.list_segments(session_id):
            fd = os.open(store.segment_path(session_id, segment_id), os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(fd)


def in_another_thread(act: Callable[[], Any]) -> None:
    """Run ``act`` where a lock left behind by this thread would block for ever; raise what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as exc:  # noqa: BLE001  raised below
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLOCK_S)
    assert not thread.is_alive(), "a lock was left behind"
    if errors:
        raise errors[0]


def ctrl_c() -> None:
    raise KeyboardInterrupt


def in_a_batch(writer: sl.SegmentWriter) -> None:
    with writer.batch():
        writer.save_user_input("one")
        writer.save_delta([sl.Message.assistant("two")])


STAYS, LEAVES, BEHIND = "the writer stays", "the writer goes on elsewhere", "another has written, so the writer forks"
ACTS: dict[str, tuple[Callable[[sl.SegmentWriter], Any], str]] = {
    "append": (lambda w: w.save_user_input("x"), STAYS),
    "append a batch": (lambda w: w.save_delta([sl.Message.assistant("x"), sl.ToolCall("c", "run", "{}")]), STAYS),
    "append slowly": (lambda w: w.save_extension("d", {"x": [1]}), STAYS),
    "append behind a look": (lambda w: (w.state, w.save_user_input("x"), w.save_user_input("y")), STAYS),
    "turn end": (lambda w: w.save_turn_end(), STAYS),
    "batch": (in_a_batch, STAYS),
    "state": (lambda w: w.state, STAYS),
    "rollback": (lambda w: w.rollback(2), STAYS),
    "compact": (lambda w: w.compact(sl.SegmentStartState(history=(sl.Message.user("recorded before"),))), LEAVES),
    "fork": (lambda w: w.save_user_input("x"), BEHIND),
    "fork with a batch": (in_a_batch, BEHIND),
}


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_an_interrupt_at_any_point_leaves_state_file_and_locks_as_one(tmp_path: Path, kind: str, name: str) -> None:
    """F19: in or out, never half, known or found out; no lock left behind; and it goes on as if nothing had been."""
    act, what = ACTS[name]
    store: sl.Store = sl.MemoryStore() if kind == "memory" else sl.FsStore(tmp_path, durability="turn")

    def prepared() -> sl.SegmentWriter:
        writer = sl.SegmentWriter.create(store)
        writer.save_user_input("recorded before")
        if what is BEHIND:
            sl.save_extension(store, writer.session_id, writer.segment_id, "other", None)
        return writer

    rehearsal = Points(0, ctrl_c)
    writer = prepared()
    rehearsal.run(lambda: act(writer))
    assert rehearsal.count > 5
    for at in range(1, rehearsal.count + 1, 1 + rehearsal.count // 400):  # of very many, one in a few
        writer = prepared()
        source = writer.segment_id
        shared = source if what is BEHIND else None
        points = Points(at, ctrl_c)
        with ignored_by_the_interpreter() as ignored:
            try:
                points.run(lambda: act(writer))  # noqa: B023
                raised = bool(ignored) or points.count < at  # (a look at the file may come sooner or later)
            except KeyboardInterrupt:
                raised = True
        try:
            assert raised, "the interrupt was swallowed"
            locks_are_free(store, writer.session_id)
            for _ in range(2):
                in_another_thread(functools.partial(state_is_on_file, store, writer, shared))
                in_another_thread(functools.partial(writer.save_invoke, "notify"))
            assert what is not STAYS or writer.segment_id == source, "it forked, though nobody else wrote"
            in_another_thread(functools.partial(state_is_on_file, store, writer, shared))
        except BaseException as exc:
            exc.add_note(f"interrupted at point {at}: {points.place}")
            raise
