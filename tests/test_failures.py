"""What broke for users of other logs, and belongs to no other file of tests; ids as in the list of failures."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_log import (
    FsStore,
    Invoke,
    Message,
    SegmentStartState,
    SegmentWriter,
    UnknownEntry,
    append_entry,
    create_segment,
    ensure_head_or_fork,
    head,
    read_entries,
    restore,
    save_turn_end,
    save_user_input,
)

LONG = SegmentStartState(system_prompt="x" * 3_000_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FsStore]:
    with FsStore(tmp_path / "root") as opened:
        yield opened


def bytes_read() -> int:
    """How many bytes this process has asked the kernel for, whatever cache they came from."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts bytes in /proc/self/io")


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(root.rglob("*"))}


def test_f8_the_first_prompt_is_on_file_before_anybody_answers(store: FsStore) -> None:
    """F8: when ``save_user_input`` returns, another reader of the same files finds the prompt."""
    session_id, segment_id = create_segment(store)

    save_user_input(store, session_id, segment_id, "the first prompt")

    assert restore(FsStore(store.root), session_id, segment_id).history == (Message.user("the first prompt"),)


@needs_proc
def test_f13_listing_reads_no_segment(store: FsStore) -> None:
    """F13: sessions and segments are listed by name; not a byte of them is read."""
    for _ in range(5):
        create_segment(store, LONG)

    before = bytes_read()
    for session_id in store.list_sessions():
        store.list_segments(session_id)

    assert bytes_read() - before < 10_000


def test_f14_a_long_first_line_hides_nothing(store: FsStore) -> None:
    """F14: a header of megabytes is read as a line; the session is listed, restored and forked as any other."""
    session_id, segment_id = create_segment(store, LONG)
    save_user_input(store, session_id, segment_id, "hello")

    state = restore(store, session_id, segment_id)

    assert store.list_sessions() == [session_id]
    assert state.system_prompt == LONG.system_prompt
    assert [item.text for item in state.history if isinstance(item, Message)] == ["hello"]


def test_f17_a_branch_is_one_linear_file(store: FsStore) -> None:
    """F17: what two writers record after the same line is in two segments; no reader can pick the wrong branch."""
    first = SegmentWriter.create(store)
    second = SegmentWriter.resume(store, first.session_id, first.segment_id)

    first.save_user_input("left")
    second.save_user_input("right")

    assert first.segment_id != second.segment_id
    for writer, text in ((first, "left"), (second, "right")):
        assert restore(store, writer.session_id, writer.segment_id).history == (Message.user(text),)


def test_f21_reading_an_older_file_leaves_it_as_it_is(store: FsStore) -> None:
    """F21: a segment of the reference format, without our keys, is understood in memory; on disk nothing changes."""
    session_id, segment_id = create_segment(store)
    path = store.segment_path(session_id, segment_id)
    path.write_bytes(path.read_bytes().replace(b',"v":1', b""))
    before = snapshot(store.root)

    state = restore(store, session_id, segment_id)
    SegmentWriter.resume(store, session_id, segment_id).close()

    assert state.turn_count == 0
    assert snapshot(store.root) == before


def test_f27_time_never_goes_back_within_a_segment(store: FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F27: with the clock set back an hour, ``ts`` stands still; what an importer gives is kept as it is."""
    session_id, segment_id = create_segment(store)
    save_user_input(store, session_id, segment_id, "before")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600 * 10**9)

    save_user_input(store, session_id, segment_id, "after")
    with SegmentWriter.resume(store, session_id, segment_id) as writer:
        writer.save_turn_end()
    append_entry(store, session_id, segment_id, Invoke(ts=7, trigger="imported"))

    times = [entry.ts for entry in read_entries(store, session_id, segment_id) if not isinstance(entry, UnknownEntry)]
    assert times[:-1] == sorted(times[:-1])
    assert times[-1] == 7


@needs_proc
def test_f32_no_append_and_no_head_check_reads_the_history(store: FsStore) -> None:
    """F32: whether the head moved is told by the size; a long history is not read again, turn after turn."""
    session_id, segment_id = create_segment(store, LONG)
    writer = SegmentWriter.resume(store, session_id, segment_id)
    writer.save_user_input("once")
    save_turn_end(store, session_id, segment_id, 1)
    position = head(store, session_id, segment_id)
    writer = SegmentWriter.resume(store, session_id, segment_id)

    before = bytes_read()
    for _ in range(20):
        writer.save_user_input("again")
    assert bytes_read() - before < 10_000

    ensure_head_or_fork(store, writer.head)
    before = bytes_read()
    for _ in range(20):
        assert ensure_head_or_fork(store, writer.head) == writer.head
    assert bytes_read() - before < 10_000
    assert position.entries < writer.head.entries
