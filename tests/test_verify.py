"""Verify: what is wrong with lines and references, on real files, each with its place; and the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from recorded import record_turn, unchanged
from session_log._findings import Findings
from session_log.lifecycle import detach_segment
from session_log.verify import KINDS, MAX_FINDINGS, VerifyProgress, repair_session, verify
from verified import Session, found, only

HASH = "ab" * 32


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with sl.FsStore(tmp_path / "root", durability="process") as store:
        yield Session(store)


def test_nothing_is_found_where_nothing_is_wrong(session: Session) -> None:
    report = verify(session.store)

    assert report.findings == () and report.is_sound
    assert (report.sessions, report.segments, report.chained_segments, report.lines) == (1, 2, 2, 13)
    assert report.size_bytes == session.path.stat().st_size + session.child_path.stat().st_size
    assert (report.blobs, report.unreferenced_blobs, report.findings_left_out) == (1, 0, 0)


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        b"no entry",
        b"\0\0\0",
        b'{"kind":"invoke"}',
        b'{"kind":"extension","ts":1,"domain":"pod.scope","payload":1}',
        b'{"kind":"extension","ts":1,"domain":"session_log.rollback","payload":{"to_entries":99}}',
        b'{"kind":"user_input","ts":1,"segments":[],"extensions":[{"domain":"pod.scope","payload":7}]}',
    ],
)
def test_a_line_that_is_no_entry(session: Session, text: bytes) -> None:
    place = session.change(4, lambda line: text)

    assert only(session, "damaged_line") == (str(session.path), 4, place)


@pytest.mark.parametrize("text", [b"", b"x", b'{"kind":"invoke","ts":1,"trigger":"x"}'])
def test_a_first_line_that_is_none(session: Session, text: bytes) -> None:
    session.change(1, lambda line: text)

    assert only(session, "damaged_start") == (str(session.path), 1, 0)


def test_a_segment_of_another_session_and_one_without_a_line(session: Session) -> None:
    session.change(1, lambda line: line.replace(session.session_id.encode(), sl.new_session_id().encode()))
    assert only(session, "damaged_start") == (str(session.path), 1, 0)

    session.path.write_bytes(b"")
    assert only(session, "damaged_start") == (str(session.path), 1, 0)


def test_a_later_format(session: Session) -> None:
    session.change(1, lambda line: line.replace(b'"v":1', b'"v":2'))

    assert only(session, "newer_version") == (str(session.path), 1, 0)


def test_a_time_that_goes_back_is_told_once(session: Session) -> None:
    place = session.change(4, lambda line: re.sub(rb'"ts":\d+', b'"ts":7', line))

    assert only(session, "time_back") == (str(session.path), 4, place)


def test_a_line_that_was_blanked_and_one_that_is_empty(session: Session) -> None:
    place = session.change(4, lambda line: b" " * len(line))
    session.change(6, lambda line: b"\r")

    assert only(session, "blanked_line") == (str(session.path), 4, place)


@pytest.mark.parametrize("text", [b'{"kind":"inv', b"\0\0\n", b'{"kind":"invoke","ts":1,"trigger":"x","batch":2}\n'])
def test_bytes_that_were_not_committed(session: Session, text: bytes) -> None:
    number, place = session.append(text)

    assert only(session, "torn_tail") == (str(session.path), number, place)
    assert verify(session.store).is_sound


def test_a_run_that_did_not_end_and_calls_without_an_answer(session: Session) -> None:
    """Information, not damage; a fork that goes on from there has it, too; one that ends it has not."""
    with sl.SegmentWriter.resume(session.store, session.session_id, session.segment_id) as writer:
        number, place = writer.head.entries + 1, writer.head.byte_offset
        writer.save_invoke()
        writer.save_delta([sl.ToolCall("open", "run", "{}")])
        head = writer.head
        writer.save_user_input("more")
    child = sl.ensure_head_or_fork(session.store, head).segment_id
    both = {(each.path, each.line, each.byte_offset) for each in found(session, "interrupted")}
    child_path = str(session.store.segment_path(session.session_id, child))
    assert both == {(str(session.path), number, place), (child_path, 1, 0)}

    with sl.SegmentWriter.resume(session.store, session.session_id, child) as writer:
        sl.close_interrupted(writer)
        writer.save_run_completed()
    assert only(session, "interrupted") == (str(session.path), number, place)
    assert verify(session.store).is_sound


def test_what_was_rolled_back_is_not_interrupted_any_more(session: Session) -> None:
    with sl.SegmentWriter.resume(session.store, session.session_id, session.segment_id) as writer:
        before = writer.head.entries
        writer.save_invoke()
        writer.save_delta([sl.ToolCall("open", "run", "{}")])
        assert len(found(session, "interrupted")) == 1
        writer.rollback(before)

    assert found(session, "interrupted") == []


def test_a_fork_of_what_was_rolled_back_has_what_is_open_in_it(session: Session) -> None:
    with sl.SegmentWriter.resume(session.store, session.session_id, session.segment_id) as writer:
        writer.rollback(2)
        assert found(session, "interrupted") != []  # before line 3 a run had begun
        child = writer.fork_at_entry(writer.head.entries)
        writer.save_run_completed()

    path = str(session.store.segment_path(session.session_id, child))
    assert only(session, "interrupted") == (path, 1, 0)


def test_a_line_of_a_trace_that_is_none(session: Session) -> None:
    number, place = session.append(b"x\n", session.trace_path)

    assert only(session, "damaged_trace") == (str(session.trace_path), number, place)


# ── facts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_of_the_facts_that_is_none_and_one_that_is_torn(session: Session) -> None:
    number, place = session.append(b'{"kind":"set","ts":1,"title":7}\n', session.facts_path)
    torn = session.append(b"half", session.facts_path)

    assert only(session, "damaged_facts") == (str(session.facts_path), number, place)
    assert only(session, "torn_tail") == (str(session.facts_path), *torn)


def test_facts_of_a_later_format(session: Session) -> None:
    session.change(1, lambda line: line.replace(b'"v":1', b'"v":2'), session.facts_path)

    assert only(session, "damaged_facts") == (str(session.facts_path), 1, 0)


# ── references ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_parent_that_is_not_there(session: Session) -> None:
    session.path.unlink()

    assert only(session, "missing_parent") == (str(session.child_path), 1, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb'"entries":\d+', b'"entries":3'),
        (rb'"entries":\d+', b'"entries":99'),
        (rb'"entries":\d+', b'"entries":0'),
        (rb'"byte_offset":\d+', b'"byte_offset":3'),
        (rb'"tail_sha256":"..', b'"tail_sha256":"zz'),
        (rb'"forked_from":\{"segment_id":"', b'"forked_from":{"segment_id":"no id '),
    ],
)
def test_a_reference_that_does_not_hold(session: Session, old: bytes, new: bytes) -> None:
    session.change(1, lambda line: re.sub(old, new, line), session.child_path)

    assert only(session, "broken_reference") == (str(session.child_path), 1, 0)


def test_ancestors_in_a_circle(session: Session) -> None:
    """One of them is told; those below it are checked all the same."""
    sl.fork_at_entry(session.store, session.session_id, session.child, 1)
    session.change(
        1, lambda line: line.replace(session.segment_id.encode(), session.child.encode()), session.child_path
    )

    assert only(session, "circular_reference") == (str(session.child_path), 1, 0)
    assert verify(session.store).segments == 3


def test_a_chain_of_too_many_forks(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a restore has it: so many ancestors are read, one more is not."""
    from session_log import _forking, _lineage, _session_check

    limit = 3
    for module in (_forking, _lineage, _session_check):
        monkeypatch.setattr(module, "MAX_FORK_DEPTH", limit)
    at = session.child
    for _ in range(limit - 1):
        at = sl.fork_at_entry(session.store, session.session_id, at, 1)
    assert found(session, "too_deep") == []
    monkeypatch.setattr(_forking, "MAX_FORK_DEPTH", limit + 1)
    at = sl.fork_at_entry(session.store, session.session_id, at, 1)

    assert only(session, "too_deep") == (str(session.store.segment_path(session.session_id, at)), 1, 0)
    with pytest.raises(sl.BrokenLineage):
        sl.restore(session.store, session.session_id, at)


def test_what_was_compacted_and_is_gone(session: Session) -> None:
    with sl.SegmentWriter.resume(session.store, session.session_id, session.segment_id) as writer:
        compacted = writer.compact(sl.SegmentStartState())
    assert found(session, "missing_source") == []
    session.path.unlink()

    path = str(session.store.segment_path(session.session_id, compacted))
    assert only(session, "missing_source") == (path, 1, 0)


# ── the report ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_kind_of_finding_has_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_verify*.py"))

    assert {kind for kind in KINDS if f'"{kind}"' not in tests} == set()


def test_more_findings_than_anybody_reads_are_counted(session: Session) -> None:
    many = Findings()
    for number in range(MAX_FINDINGS + 3):
        many.add("damaged_line", "p", "what", number, 0)
    assert (len(many.kept), many.left_out) == (MAX_FINDINGS, 3)

    session.append(b"x\n" * (MAX_FINDINGS + 2))
    report = verify(session.store)
    assert (len(report.findings), report.findings_left_out, report.is_sound) == (MAX_FINDINGS, 3, False)


def test_progress_is_told_after_each_block(session: Session) -> None:
    told: list[VerifyProgress] = []
    report = verify(session.store, progress=told.append)

    assert [each.segment_id for each in told] == [session.segment_id, session.child]
    assert told[-1].read_bytes == report.size_bytes
    assert {(each.session_id, each.sessions_done, each.sessions) for each in told} == {(session.session_id, 0, 1)}


def test_a_session_that_is_not_there(session: Session) -> None:
    with pytest.raises(sl.NotFound):
        verify(session.store, sl.new_session_id())


def test_a_store_in_memory_is_checked_as_far_as_it_has_such_things() -> None:
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store, chain=True, trace=True) as writer:
        record_turn(writer, "x")
        writer.save_extension("d", f"blobs/ab/{HASH}")
        writer.trace_lifecycle("x")
    store._sessions[writer.session_id][writer.segment_id][2] = b"x"
    report = verify(store)

    where = f"{writer.session_id}/{writer.segment_id}"
    assert {each.kind for each in report.findings} == {"damaged_line", "chain_broken", "chain_open", "missing_blob"}
    assert {each.path for each in report.findings} == {where}
    assert (report.segments, report.unreferenced_blobs) == (1, None)


# ── repair ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_is_repaired_in_all_its_files_and_nothing_moves(session: Session) -> None:
    place = session.change(4, lambda line: b"x" * len(line))
    facts_place = session.append(b"x\n", session.facts_path)
    session.change(1, lambda line: b"x" * len(line), session.child_path)
    size = session.path.stat().st_size

    done = repair_session(session.store, session.session_id)

    assert [(each.path, each.line, each.byte_offset) for each in done.blanked] == [
        (str(session.path), 4, place),
        (str(session.facts_path), *facts_place),
    ]
    assert len(done.left) == 1 and str(session.child_path) in done.left[0]
    assert session.path.stat().st_size == size
    assert {each.kind for each in verify(session.store).findings} == {"blanked_line", "chain_broken", "damaged_start"}
    assert repair_session(session.store, session.session_id).blanked == ()


def test_a_session_that_is_sound_is_repaired_by_doing_nothing(session: Session) -> None:
    before = unchanged(session.store, session.session_id)

    done = repair_session(session.store, session.session_id)

    assert (done.blanked, done.left) == ((), ())
    assert unchanged(session.store, session.session_id) == before
    memory = sl.MemoryStore()
    with pytest.raises(sl.CallerError):
        repair_session(memory, sl.create_segment(memory)[0])


def test_a_detached_segment_is_sound_and_so_is_what_refers_to_it(session: Session) -> None:
    """Its first line is another one, its lines have other offsets; what an earlier link covers cannot be checked."""
    store, (session_id, child) = session.store, (session.session_id, session.child)
    with sl.SegmentWriter.resume(store, session_id, child, chain=True) as writer:
        record_turn(writer, "more")
        grandchild = writer.fork_at_entry(writer.head.entries)
    detach_segment(store, session_id, child)
    with sl.SegmentWriter.resume(store, session_id, grandchild, chain=True) as writer:
        record_turn(writer, "again")

    report = verify(store)

    assert report.is_sound, report.findings
    assert "chain_unchecked" in {found.kind for found in report.findings}
