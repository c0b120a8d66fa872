"""What a writer is worth after everything that can go wrong, the trace beside it included."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import session_log as sl
from oracle import fold, folded
from recorded import CALL, SAID, VERBS, intrude, lines, restored


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_close_nothing_can_be_recorded_and_everything_be_read(store: sl.Store) -> None:
    """Closing is idempotent; state, head and ids stay."""
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("x")
    expected, head = folded(writer.state), writer.head
    writer.close()
    writer.close()
    before = lines(store, writer)

    for _, verb, entries in VERBS:
        if entries:
            with pytest.raises(sl.WriterClosed, match="resume"):
                verb(writer)
    with pytest.raises(sl.WriterClosed), writer.batch():
        writer.save_invoke()
    with pytest.raises(sl.WriterClosed):
        writer.rollback(1)
    assert lines(store, writer) == before
    assert (folded(writer.state), writer.head) == (expected, head)
    assert writer.segment_id in repr(writer)


def test_a_writer_closed_inside_its_batch_writes_none_of_it(store: sl.Store) -> None:
    """The batch ends in an error that says so, not in silence."""
    writer = sl.SegmentWriter.create(store)

    with pytest.raises(sl.WriterClosed), writer.batch():  # noqa: PT012
        writer.save_invoke()
        writer.close()

    assert len(lines(store, writer)) == 1


def broken_sync(fd: int) -> None:
    raise OSError(5, "Input/output error")


def test_after_an_unknown_outcome_the_writer_is_of_no_use_and_a_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F19: a sync that failed is taken back and said; nothing acknowledged is lost, nothing else is in any state."""
    store = sl.FsStore(tmp_path, durability="turn")
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("acknowledged")
    expected = folded(writer.state)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken_sync)
        with pytest.raises(sl.AppendUnknown, match="reopen"):
            writer.save_turn_end()
    acts: list[Callable[[], object]] = [writer.save_invoke, writer.save_turn_end, lambda: writer.rollback(1)]
    for act in acts:
        with pytest.raises(sl.WriterClosed, match="unknown outcome"):
            act()
    assert folded(writer.state) == expected

    with sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id, on_conflict="raise") as again:
        assert folded(again.state) == expected
        assert again.save_turn_end() == 3
    assert restored(store, writer) == fold(expected, [sl.TurnEnd(ts=0, turn_count=1)])


def test_sync_reaches_the_disk_or_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sync`` is one fdatasync of the segment, whatever the durability; a failed one is no success."""
    synced: list[int] = []
    real = os.fdatasync

    def counted(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    store = sl.FsStore(tmp_path, durability="process")
    writer = sl.SegmentWriter.create(store)
    writer.save_turn_end()
    assert synced == []

    writer.sync()

    assert synced == [store.segment_path(writer.session_id, writer.segment_id).stat().st_ino]
    monkeypatch.setattr(os, "fdatasync", broken_sync)
    writer.save_invoke()
    with pytest.raises(sl.AppendUnknown):
        writer.sync()
    sl.SegmentWriter.create(sl.MemoryStore()).sync()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """No file can be opened: what a full process looks like, or a full disk to one who makes a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_fork_that_could_not_be_made_can_be_tried_again(fs: sl.FsStore) -> None:
    """F19: the append raised, so it is nowhere; the writer is as it was, and the next one makes the fork."""
    writer = sl.SegmentWriter.create(fs)
    writer.save_user_input("mine")
    source = writer.segment_id
    intrude(fs, writer)
    expected = folded(writer.state)

    with no_more_descriptors(), pytest.raises(sl.StoreUnavailable):
        writer.save_user_input("lost")

    assert fs.list_segments(writer.session_id) == [source]
    assert folded(writer.state) == expected
    writer.save_user_input("found")
    assert writer.segment_id != source
    texts = [item.text for item in writer.state.history if isinstance(item, sl.Message)]
    assert texts == ["mine", "found"]
    assert folded(writer.state) == restored(fs, writer)


def test_a_deleted_session_is_an_error_and_not_a_file_without_a_name(store: sl.Store) -> None:
    """What is acknowledged is on file: an append behind a deletion is refused."""
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("x")
    expected = folded(writer.state)
    store.delete_session(writer.session_id)

    for act in (writer.save_invoke, lambda: writer.save_delta([SAID, CALL]), lambda: writer.fork_at(0)):
        with pytest.raises(sl.NotFound):
            act()
    assert folded(writer.state) == expected
    assert not store.exists(writer.session_id, writer.segment_id)


def test_a_file_that_something_else_made_shorter_is_not_written_to(fs: sl.FsStore) -> None:
    """An acknowledged line is missing: nothing is put in its place, and the error has the place."""
    writer = sl.SegmentWriter.create(fs)
    writer.save_user_input("x")
    path = fs.segment_path(writer.session_id, writer.segment_id)
    os.truncate(path, path.stat().st_size - 1)
    before = path.read_bytes()

    with pytest.raises(sl.CorruptSegment, match="cut to") as caught:
        writer.save_invoke()

    assert caught.value.path == str(path)
    assert path.read_bytes() == before


# ── trace ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trace_is_off_unless_asked_for(store: sl.Store) -> None:
    """Nothing is written, and no file made."""
    writer = sl.SegmentWriter.create(store)
    writer.trace_event({"type": "ping"})
    writer.trace_lifecycle("request_start")

    assert sl.read_trace(store, writer.session_id, writer.segment_id) == []
    if isinstance(store, sl.FsStore):
        assert not store.trace_path(writer.session_id, writer.segment_id).exists()


def test_a_trace_is_linked_to_turn_and_call_and_is_no_part_of_the_log(store: sl.Store) -> None:
    """Events and markers in order, beside the segment; restore does not know of them."""
    writer = sl.SegmentWriter.create(store, trace=True)
    writer.trace_lifecycle("request_start", {"model": "m"}, llm_call=0)
    writer.trace_event({"type": "delta", "text": "größer"})
    writer.save_turn_end()
    before = restored(store, writer)
    writer.trace_event(None, llm_call=2)

    found = sl.read_trace(store, writer.session_id, writer.segment_id)
    assert [(entry.kind, entry.turn, entry.llm_call, entry.label, entry.data) for entry in found] == [
        ("lifecycle", 0, 0, "request_start", {"model": "m"}),
        ("stream_event", 0, 0, None, None),
        ("stream_event", 1, 2, None, None),
    ]
    assert [entry.event for entry in found[1:]] == [{"type": "delta", "text": "größer"}, None]
    assert restored(store, writer) == before
    assert store.list_segments(writer.session_id) == [writer.segment_id]


def bad_event(writer: sl.SegmentWriter) -> None:
    writer.trace_event({"x": float("inf")})


def no_place(writer: sl.SegmentWriter) -> None:
    writer.trace_lifecycle("marker")


def test_a_failing_trace_is_reported_once_and_stops_nothing(fs: sl.FsStore) -> None:
    """Whatever is wrong with it: an event that is no JSON, a folder in its place, no session any more, a rollback."""
    for fail in (bad_event, no_place):
        writer = sl.SegmentWriter.create(fs, trace=True)
        fs.trace_path(writer.session_id, writer.segment_id).mkdir()
        with pytest.warns(RuntimeWarning, match="trace is incomplete") as caught:
            fail(writer)
        fail(writer)  # a second warning would be an error here
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert writer.save_invoke() == 2

    writer = sl.SegmentWriter.create(fs, trace=True)
    writer.rollback(1)
    fs.delete_session(writer.session_id)
    with pytest.warns(RuntimeWarning, match="trace is incomplete"):
        writer.trace_event({"type": "ping"})


def test_a_trace_warning_that_is_an_error_stops_nothing_either(store: sl.Store) -> None:
    """Warnings may be turned into errors: the run goes on all the same, because the trace never stops it."""
    writer = sl.SegmentWriter.create(store, trace=True)
    try:
        bad_event(writer)
    except RuntimeWarning:
        pass  # this suite makes errors of warnings; the writer is whole
    bad_event(writer)

    assert writer.save_invoke() == 2
    assert folded(writer.state) == restored(store, writer)
