"""Two writers on one segment: a fork, an error, or one of them waits outside."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import session_log as sl
from oracle import folded
from recorded import CALL, SAID, intrude, lines


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


# ── somebody else ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_behind_another_writer_it_goes_on_in_a_fork_of_what_it_had(store: sl.Store) -> None:
    """F6: nothing of either is lost, and neither sees the other's lines."""
    mine = sl.SegmentWriter.create(store)
    mine.save_user_input("both")
    theirs = sl.SegmentWriter.resume(store, mine.session_id, mine.segment_id)
    theirs.save_user_input("theirs")

    assert mine.save_user_input("mine") == 2

    assert theirs.segment_id < mine.segment_id
    for writer, texts in ((mine, ["both", "mine"]), (theirs, ["both", "theirs"])):
        state = sl.restore(store, writer.session_id, writer.segment_id)
        assert [item.text for item in state.history if isinstance(item, sl.Message)] == texts
        assert folded(writer.state) == folded(state)
    theirs.save_invoke()
    assert theirs.segment_id != mine.segment_id


def test_with_raise_nothing_is_written_and_nothing_changes(store: sl.Store) -> None:
    """F6: the one behind is told where the log is, as often as it tries."""
    writer = sl.SegmentWriter.create(store, on_conflict="raise")
    intrude(store, writer)
    before = lines(store, writer)

    acts: list[Callable[[], object]] = [
        writer.save_invoke,
        lambda: writer.save_delta([SAID, CALL]),
        lambda: writer.rollback(1),
    ]
    for act in acts:
        with pytest.raises(sl.HeadMoved) as caught:
            act()
        assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert lines(store, writer) == before
    assert store.list_segments(writer.session_id) == [writer.segment_id]
    assert writer.state.extensions == ()
    assert sl.ensure_head_or_fork(store, writer.head).segment_id != writer.segment_id


def test_a_policy_must_be_one_of_two(store: sl.Store) -> None:
    """A mistyped policy is refused before anything is opened."""
    session_id, segment_id = sl.create_segment(store)

    with pytest.raises(sl.CallerError, match="neither"):
        sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="merge")  # type: ignore[arg-type]


def test_an_exclusive_writer_keeps_others_out_until_it_is_closed(store: sl.Store) -> None:
    """Others are told who holds it, or go on in a fork at once; closing lets them in."""
    holder = sl.SegmentWriter.create(store, exclusive=True)
    ids = holder.session_id, holder.segment_id
    other = sl.SegmentWriter.resume(store, *ids, on_conflict="raise")
    for act in (
        other.save_invoke,
        lambda: sl.save_invoke(store, *ids, "notify"),
        lambda: sl.SegmentWriter.resume(store, *ids, on_conflict="raise", exclusive=True),
    ):
        with pytest.raises(sl.SegmentBusy) as caught:
            act()
        assert caught.value.owner
    holder.save_user_input("mine")
    forked = sl.SegmentWriter.resume(store, *ids, exclusive=True)
    assert forked.segment_id > holder.segment_id
    late = sl.SegmentWriter.resume(store, *ids)
    late.save_invoke()
    assert late.segment_id not in (holder.segment_id, forked.segment_id)
    assert sl.restore(store, *ids).entries_count == 2

    holder.close()
    with pytest.raises(sl.HeadMoved):
        other.save_invoke()
    with sl.SegmentWriter.resume(store, *ids, on_conflict="raise", exclusive=True) as again:
        again.save_invoke()


@pytest.mark.parametrize("how", ["fork", "compact"])
def test_an_exclusive_writer_is_exclusive_where_it_goes_on(store: sl.Store, how: str) -> None:
    """After an automatic fork or a compaction it holds the new segment, and lets the old one go."""
    writer = sl.SegmentWriter.create(store)
    ids = writer.session_id, writer.segment_id
    writer.close()
    holder = sl.SegmentWriter.resume(store, *ids, exclusive=True)
    if how == "compact":
        holder.compact(sl.SegmentStartState())
    else:
        blocked = holder
        holder = sl.SegmentWriter.resume(store, *ids, exclusive=True)
        blocked.close()
    assert holder.segment_id != ids[1]

    with pytest.raises(sl.SegmentBusy):
        sl.save_invoke(store, holder.session_id, holder.segment_id, "notify")
    sl.save_invoke(store, *ids, "notify")
    holder.save_invoke()


def test_an_exclusive_writer_at_the_greatest_depth_is_exclusive_in_its_copy(store: sl.Store) -> None:
    """The fork that stands alone because the chain is too long is held like any other."""
    session_id, segment_id = sl.create_segment(store)
    for _ in range(sl.MAX_FORK_DEPTH):
        segment_id = sl.fork_at_entry(store, session_id, segment_id, 1)
    first = sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True)
    second = sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True)
    second.save_invoke()

    assert len({first.segment_id, second.segment_id}) == 2
    for writer in (first, second):
        with pytest.raises(sl.SegmentBusy):
            sl.save_invoke(store, session_id, writer.segment_id, "notify")


def test_a_writer_forgotten_without_close_holds_nothing(store: sl.Store) -> None:
    """F35: the collector frees its lock and its descriptor."""
    writer = sl.SegmentWriter.create(store, exclusive=True)
    ids = writer.session_id, writer.segment_id
    writer.save_invoke()
    gc.collect()
    open_before = len(os.listdir("/dev/fd"))
    del writer
    gc.collect()

    assert len(os.listdir("/dev/fd")) == open_before - isinstance(store, sl.FsStore)
    with sl.SegmentWriter.resume(store, *ids, on_conflict="raise", exclusive=True) as again:
        assert again.save_invoke() == 3
