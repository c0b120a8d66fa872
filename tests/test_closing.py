"""Closing: every history that may be interrupted can be closed, once, and whoever writes it is let alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

import session_log as sl
from session_log.closing import CLOSED_MESSAGE, close_run, open_run
from session_log.facts import set_facts
from strategies import SESSION_ID, histories


@settings(max_examples=80)
@given(histories())
def test_a_run_is_closed_once(entries: list[sl.LogEntry]) -> None:
    """Afterwards no call is open and no run; what was said before is still said; closing again writes nothing."""
    store, segment_id = sl.MemoryStore(), sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])
    before = sl.restore(store, SESSION_ID, segment_id)
    opened = open_run(store, SESSION_ID, segment_id)

    closed = close_run(store, SESSION_ID, segment_id)

    after = sl.restore(store, SESSION_ID, segment_id)
    assert (opened.pending, opened.run_open) == (before.pending_tool_calls, before.last_run_interrupted)
    assert [result.call_id for result in closed.answered] == [call.call_id for call in before.pending_tool_calls]
    assert closed.is_changed == bool(before.pending_tool_calls or before.last_run_interrupted)
    assert (after.pending_tool_calls, after.last_run_interrupted) == ((), False)
    assert after.history[: len(before.history)] == before.history
    length = store.length(SESSION_ID, segment_id)
    assert not close_run(store, SESSION_ID, segment_id).is_changed
    assert store.length(SESSION_ID, segment_id) == length


@pytest.fixture
def key(tmp_path: Path) -> tuple[sl.FsStore, str, str]:
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        writer.save_invoke()
        writer.save_delta([sl.ToolCall("call-1", "shell", "{}")])
    return store, writer.session_id, writer.segment_id


def test_whoever_holds_it_is_let_alone(key: tuple[sl.FsStore, str, str]) -> None:
    """Also with ``even_if_running``, which is for a status that nobody took back."""
    store, session_id, segment_id = key
    with sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True):
        for force in (False, True):
            with pytest.raises(sl.SegmentBusy):
                close_run(sl.FsStore(store.root), session_id, segment_id, even_if_running=force)
            with pytest.raises(sl.SegmentBusy):
                open_run(sl.FsStore(store.root), session_id, segment_id, even_if_running=force)
    set_facts(store, session_id, status="running")
    with sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True), pytest.raises(sl.SegmentBusy):
        close_run(sl.FsStore(store.root), session_id, segment_id, even_if_running=True)

    assert sl.restore(store, session_id, segment_id).last_run_interrupted


def test_a_status_of_running_counts_unless_it_is_known_better(key: tuple[sl.FsStore, str, str]) -> None:
    store, session_id, segment_id = key
    set_facts(store, session_id, status="running")

    with pytest.raises(sl.SegmentBusy):
        close_run(store, session_id, segment_id)
    assert close_run(store, session_id, segment_id, even_if_running=True).ended


def test_the_message_is_on_file(key: tuple[sl.FsStore, str, str]) -> None:
    store, session_id, segment_id = key
    with pytest.raises(sl.InvalidEntry):
        close_run(store, session_id, segment_id, message=None)  # type: ignore[arg-type]

    close_run(store, session_id, segment_id)

    last = sl.decode_line(list(store.read(session_id, segment_id))[-1])
    assert isinstance(last, sl.RunErrored)
    assert (last.message, last.interrupted) == (CLOSED_MESSAGE, False)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    for store in (sl.FsStore(tmp_path), sl.MemoryStore()):
        with pytest.raises(sl.NotFound):
            close_run(store, SESSION_ID, SESSION_ID)
