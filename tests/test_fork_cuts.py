"""Places at which a log cannot be cut: refused, with the nearest that are cuts, and nothing made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from recorded import session, state_of, unchanged


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


# ── places that are no cut ─────────────────────────────────────────────────────────────────────────────────────────


TURN_CUTS: list[tuple[Any, tuple[int, ...]]] = [
    (99, (3,)),
    (4, (3,)),
    (-1, ()),
    (-(10**30), ()),
    (10**30, (3,)),
    (True, ()),
    (1.0, ()),
    ("1", ()),
    (None, ()),
]


@pytest.mark.parametrize(("turn", "nearest"), TURN_CUTS, ids=[repr(turn)[:9] for turn, _ in TURN_CUTS])
@pytest.mark.parametrize("copy", [False, True])
def test_a_turn_that_does_not_exist_is_an_error(
    store: sl.Store, turn: Any, nearest: tuple[int, ...], copy: bool
) -> None:
    """F33: never the whole log; nothing is created; the nearest turns are named."""
    with session(store, 3) as writer:
        before = unchanged(store, writer.session_id)

        for act in (
            writer.fork_at,
            lambda at, **more: sl.fork_at(store, writer.session_id, writer.segment_id, at, **more),
        ):
            with pytest.raises(sl.InvalidCut) as caught:
                act(turn, copy_history=copy)
            assert caught.value.nearest[-1:] == nearest
            assert writer.segment_id in str(caught.value)
        if turn is not None:
            with pytest.raises(sl.InvalidCut):
                sl.restore(store, writer.session_id, writer.segment_id, at_turn=turn)

        assert unchanged(store, writer.session_id) == before


ENTRY_CUTS: list[tuple[Any, tuple[int, ...]]] = [
    (0, (1,)),
    (-5, (1,)),
    (18, (17,)),
    (10**30, (17,)),
    (4, (3, 5)),
    (12, (11, 13)),
    (True, (17,)),
    (2.0, (17,)),
    ("2", (17,)),
]


@pytest.mark.parametrize(("entries", "nearest"), ENTRY_CUTS, ids=[repr(cut)[:9] for cut, _ in ENTRY_CUTS])
@pytest.mark.parametrize("copy", [False, True])
def test_a_line_count_that_is_no_cut_is_an_error(
    store: sl.Store, entries: Any, nearest: tuple[int, ...], copy: bool
) -> None:
    """F10: not outside, and never between a call and its result; the nearest cuts are named, and are cuts."""
    with session(store, 2) as writer:
        before = unchanged(store, writer.session_id)
        free: Callable[..., Any] = lambda at, **more: sl.fork_at_entry(  # noqa: E731
            store, writer.session_id, writer.segment_id, at, **more
        )
        for act in (writer.fork_at_entry, free):
            with pytest.raises(sl.InvalidCut) as caught:
                act(entries, copy_history=copy)
            assert caught.value.nearest == nearest
        with pytest.raises(sl.InvalidCut):
            writer.rollback(entries)

        assert unchanged(store, writer.session_id) == before
        for cut in nearest:
            writer.fork_at_entry(cut, copy_history=copy)


def test_parallel_calls_are_parted_by_no_cut_among_them(store: sl.Store) -> None:
    """F10: by position and not by id: overlapping calls are one stretch, a reused id is another call."""
    writer = sl.SegmentWriter.create(store)
    call, result = sl.ToolCall("x", "run", "{}"), sl.ToolResult("x", "ok")
    other, other_result = sl.ToolCall("y", "run", "{}"), sl.ToolResult("y", "ok")
    # entries:         2     3      4       5             6     7       8     9
    writer.save_delta([call, other, result, other_result, call, result, call, call])

    refused = {}
    for cut in range(1, writer.head.entries + 1):
        try:
            writer.fork_at_entry(cut)
        except sl.InvalidCut as exc:
            refused[cut] = exc.nearest
    assert refused == {2: (1, 5), 3: (1, 5), 4: (1, 5), 6: (5, 7)}


def test_a_call_and_its_result_are_not_parted_in_lines_that_were_rolled_back(store: sl.Store) -> None:
    """F10: what was rolled back can be forked and redone, as whole as it was."""
    writer = sl.SegmentWriter.create(store)
    writer.save_delta([sl.ToolCall("x", "run", "{}"), sl.ToolResult("x", "ok")])
    writer.rollback(1)

    for act in (writer.fork_at_entry, writer.rollback):
        with pytest.raises(sl.InvalidCut) as caught:
            act(2)
        assert caught.value.nearest == (1, 3)
    assert len(state_of(store, writer, writer.fork_at_entry(3)).history) == 2


def test_a_call_that_was_rolled_back_is_not_answered_by_a_later_result(store: sl.Store) -> None:
    """F9, F10: calls are matched by position: a result behind a rollback has nothing to do with the call before it."""
    writer = sl.SegmentWriter.create(store)
    writer.save_delta([sl.ToolCall("x", "run", "{}")])
    writer.rollback(1)
    writer.save_delta([sl.ToolResult("x", "late")])

    for cut in (1, 2, 3, 4):
        child = writer.fork_at_entry(cut)
        assert state_of(store, writer, child) == state_of(store, writer, writer.segment_id, at_entries=cut)
    assert sl.restore(store, writer.session_id, writer.segment_id).pending_tool_calls == ()


def test_config_as_of_a_cut_in_lines_that_were_rolled_back(store: sl.Store) -> None:
    """A fork has the settings of its cut, whatever became of those lines later."""
    writer = sl.SegmentWriter.create(store)
    writer.save_config_changed(sl.RequestConfig(max_tokens=5))
    head = writer.head
    writer.rollback(1)

    for child in (writer.fork_at_entry(2), sl.ensure_head_or_fork(store, head).segment_id):
        assert sl.restore(store, writer.session_id, child).config.max_tokens == 5
    assert sl.restore(store, writer.session_id, writer.fork_at_entry(3)).config.max_tokens is None


def test_compaction_refuses_a_source_with_another_number_of_turns(store: sl.Store) -> None:
    """The caller's count is checked: a compaction of something else than it saw would lose turns."""
    with session(store, 2) as writer:
        before = unchanged(store, writer.session_id)

        for wrong in (1, 3, -1, True, None):
            with pytest.raises(sl.InvalidCut) as caught:
                sl.create_compacted_segment(
                    store,
                    sl.SegmentStartState(),
                    writer.session_id,
                    writer.segment_id,
                    wrong,  # type: ignore[arg-type]
                )
            assert caught.value.nearest == (2,)

        assert unchanged(store, writer.session_id) == before


def test_a_missing_source_creates_nothing(store: sl.Store) -> None:
    """Forks and compactions of what is not there are refused, and leave nothing behind."""
    session_id, _ = sl.create_segment(store)
    before = unchanged(store, session_id)
    gone = sl.new_segment_id()

    for act in (
        lambda: sl.fork_at(store, session_id, gone, 0),
        lambda: sl.fork_at_entry(store, session_id, gone, 1),
        lambda: sl.fork_at_entry(store, session_id, gone, 1, copy_history=True),
        lambda: sl.create_compacted_segment(store, sl.SegmentStartState(), session_id, gone, 0),
        lambda: sl.ensure_head_or_fork(store, sl.Head(session_id, gone, 1, 1)),
    ):
        with pytest.raises(sl.NotFound):
            act()
    assert unchanged(store, session_id) == before
