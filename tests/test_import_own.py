"""Our own segments, alone or one behind another, as an export writes them."""

import pytest
from hypothesis import given, settings

from importing import accounted, imported, state_of, story, text
from session_log import (
    Extension,
    MemoryStore,
    Message,
    SegmentWriter,
    SessionLogError,
    Store,
    ToolCall,
    ToolResult,
    UnknownEntry,
    append_entries,
    append_entry,
    fork_at,
    restore,
)
from session_log.importers import AlreadyImported
from session_log.verify import verify
from test_import_laws import CHANGES, changed


def recorded() -> tuple[Store, str, list[str]]:
    """Record a session of two turns, one batch, a rollback, and a fork by reference."""
    store = MemoryStore()
    with SegmentWriter.create(store) as writer:
        writer.save_user_input("list")
        writer.save_delta([ToolCall("c", "ls", "{}"), ToolResult("c", "a"), Message.assistant("one")])
        writer.save_turn_end()
        writer.save_user_input("again")
        writer.save_delta([Message.assistant("two")])
        writer.save_turn_end()
    session_id, first = writer.session_id, writer.segment_id
    append_entry(store, session_id, first, UnknownEntry(kind="later", raw=b'{"kind":"later","ts":1}'))
    second = fork_at(store, session_id, first, 1)
    with SegmentWriter.resume(store, session_id, second) as writer:
        writer.save_user_input("another way")
        writer.save_turn_end()
    return store, session_id, [first, second]


def exported(store: Store, session_id: str, *segments: str) -> bytes:
    """Return the lines of segments, one behind another."""
    return b"".join(line + b"\n" for segment in segments for line in store.read(session_id, segment))


def test_a_segment_comes_back_as_it_was() -> None:
    """Turns, items, inputs and unknown entries of an imported segment are those of the exported one."""
    store, session_id, segments = recorded()
    there, report = imported(exported(store, session_id, segments[0]))
    before, after = restore(store, session_id, segments[0]), state_of(there, report)

    assert report.format == "session-log"
    assert after.history == before.history
    assert (after.turn_count, after.unknown_entries, after.user_segments) == (2, 1, before.user_segments)
    assert report.session_id != session_id
    assert report.records == accounted(report) == len(list(store.read(session_id, segments[0])))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_fork_finds_its_parent_in_the_file(order: tuple[int, int]) -> None:
    """References are made anew, to the parent's lines as they are now, whichever of them comes first."""
    store, session_id, segments = recorded()
    there, report = imported(exported(store, session_id, *(segments[at] for at in order)))

    assert len(report.segments) == 2 and not report.warnings
    assert [state_of(there, report, at).history for at in range(2)] == [
        restore(store, session_id, segment).history for segment in segments
    ]


def test_a_fork_without_its_parent_says_so() -> None:
    """What it inherits is not in the source: the segment stands alone, and the report says what it lacks."""
    store, session_id, segments = recorded()
    there, report = imported(exported(store, session_id, segments[1]))

    assert [one[1] for one in story(state_of(there, report).history)] == ["another way"]
    assert state_of(there, report).turn_count == 2
    assert "its parent" in report.warnings[0].reason


def test_a_rollback_means_the_same_lines() -> None:
    """Blank and damaged lines keep their place, so that line numbers mean what they meant."""
    store = MemoryStore()
    with SegmentWriter.create(store) as writer:
        writer.save_user_input("kept")
        writer.save_turn_end()
        head = writer.head.entries
        writer.save_user_input("rolled back")
        writer.rollback(head)
    lines = exported(store, writer.session_id, writer.segment_id).splitlines(keepends=True)
    there, report = imported(b"".join([lines[0], b"   \n", b"damaged\n", *lines[1:]]).replace(
        b'"to_entries":%d' % head, b'"to_entries":%d' % (head + 2)))  # fmt: skip

    assert [one[1] for one in story(state_of(there, report).history)] == ["kept"]
    assert [(told.line, told.reason) for told in report.dropped] == [(2, "blank")]
    assert [told.line for told in report.problems] == [3]


def test_half_a_batch_at_the_end_was_never_said() -> None:
    """Lines of a batch that is not whole were not committed: they are dropped, and counted."""
    store, session_id, segments = recorded()
    entries = [Extension(ts=1, domain="x", payload=n) for n in range(3)]
    append_entries(store, session_id, segments[0], entries)
    data = exported(store, session_id, segments[0])
    whole = imported(data)[1]
    half = imported(b"".join(data.splitlines(keepends=True)[:-1]))[1]

    assert whole.taken["extension"] == 3 and not whole.dropped
    assert "extension" not in half.taken
    assert [told.reason for told in half.dropped] == ["torn", "torn"]


def test_the_middle_of_a_segment_is_a_segment() -> None:
    """A source that begins in the middle is imported without a beginning."""
    store, session_id, segments = recorded()
    data = b"".join(exported(store, session_id, segments[0]).splitlines(keepends=True)[1:3])
    there, report = imported(data)

    assert state_of(there, report).history
    assert report.records == accounted(report) == 2
    assert report.warnings


def test_an_export_is_imported_once() -> None:
    """The id of its session is that of the source."""
    store, session_id, segments = recorded()
    data = exported(store, session_id, *segments)
    there, report = imported(data)

    assert report.source_id == session_id
    with pytest.raises(AlreadyImported):
        imported(data, store=there)


def test_an_import_can_be_exported_and_imported() -> None:
    """What an earlier import noted of its own source is not taken for a note of this one."""
    store, session_id, segments = recorded()
    for _ in range(3):
        data = exported(store, session_id, *segments)
        store, report = imported(data)
        assert len(state_of(store, report).history) == len(state_of(*imported(data)).history)
        with pytest.raises(AlreadyImported):
            imported(data, store=store)
        session_id, segments = report.session_id, list(report.segments)


@settings(max_examples=100, deadline=None)
@given(CHANGES)
def test_every_line_of_ours_is_accounted_for(changes: list[tuple[str, int, int, bytes]]) -> None:
    """Whatever was done to its lines, each is taken, kept or dropped, or the source is refused."""
    store, session_id, segments = recorded()
    data = changed(exported(store, session_id, *segments), changes)
    try:
        report = imported(data, "session-log")[1]
    except SessionLogError:
        return
    assert report.records == accounted(report) == data.count(b"\n")


def test_a_block_of_text_is_no_line_of_ours() -> None:
    """A source of another format, read as ours, keeps every line as it is."""
    report = imported(b'{"type":"x"}\n' + repr(text("x")).encode() + b"\n", "session-log")[1]

    assert report.kept == {"damaged": 2}


def test_links_of_a_chain_stay_behind() -> None:
    """They cover the first line, which has another session now."""
    store = MemoryStore()
    with SegmentWriter.create(store, chain=True) as writer:
        for text_ in ("one", "two"):
            writer.save_user_input(text_)
            writer.save_turn_end()
    there, report = imported(exported(store, writer.session_id, writer.segment_id))

    found = verify(there, report.session_id)

    assert found.is_sound, found.findings
    assert found.chained_segments == 0
    assert verify(store, writer.session_id).chained_segments == 1
