"""Batches: one write at the end, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from oracle import folded
from recorded import CALL, RESULT, intrude, lines, on_file, restored


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── batches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_is_nothing_until_its_end_and_then_all(fs: sl.FsStore) -> None:
    """One write at the end; until then neither file nor state has it, though each call says where it will be."""
    writer = sl.SegmentWriter.create(fs)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    before = path.read_bytes()

    with writer.batch() as same:
        assert same is writer
        lengths = [writer.save_invoke(), writer.save_user_input("x"), writer.save_delta([CALL, RESULT])]
        assert path.read_bytes() == before
        assert writer.state.entries_count == writer.head.entries == 1
        turns = [writer.save_turn_end(), writer.save_turn_end()]
    assert (lengths, turns) == ([2, 3, 5], [6, 7])
    assert writer.state.turn_count == 2
    assert b'"batch":6' in path.read_bytes().split(b"\n")[1]
    assert folded(writer.state) == restored(fs, writer)

    before = path.read_bytes()
    with writer.batch():
        pass
    assert path.read_bytes() == before
    with writer.batch():
        writer.save_invoke()
    assert b'"batch"' not in path.read_bytes()[len(before) :]


def test_a_batch_that_fails_is_discarded_whole(store: sl.Store) -> None:
    """An exception inside, whatever it is, leaves nothing of the batch."""
    writer = sl.SegmentWriter.create(store)
    before = lines(store, writer)

    for error in (ZeroDivisionError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error), writer.batch():  # noqa: PT012
            writer.save_invoke()
            writer.save_turn_end()
            raise error
        assert lines(store, writer) == before
        assert writer.state.turn_count == 0
    writer.save_turn_end()
    assert writer.state.turn_count == 1


def test_batches_neither_nest_nor_hold_rollbacks(store: sl.Store) -> None:
    """The refusal discards the batch, and the writer goes on."""
    writer = sl.SegmentWriter.create(store)
    writer.save_invoke()

    for bad in (lambda: writer.batch().__enter__(), lambda: writer.rollback(1)):
        with pytest.raises(sl.CallerError), writer.batch():  # noqa: PT012
            writer.save_invoke()
            bad()
    assert writer.head.entries == 2
    assert writer.rollback(1) == 3


def test_a_batch_behind_another_writer_goes_into_the_fork_whole(store: sl.Store) -> None:
    """The batch is in the fork from its first moment on, and still a batch."""
    writer = sl.SegmentWriter.create(store)
    source = writer.segment_id
    with writer.batch():
        writer.save_invoke()
        writer.save_user_input("x")
        intrude(store, writer)

    assert writer.segment_id > source
    assert [type(entry) for entry in on_file(store, writer)] == [sl.SegmentStart, sl.Invoke, sl.UserInput]
    assert b'"batch":2' in lines(store, writer)[1]
    assert folded(writer.state) == restored(store, writer)
