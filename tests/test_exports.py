"""Exports: a file that stands alone restores to the same state; text to read holds everything that was said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from commands import FORK, OPEN, OTHER, ROOT, SESSION, run, sample
from oracle import folded
from recorded import record_turn
from session_log.exports import blob_names, export_blobs, export_lines, export_markdown
from session_log.lines import read_lines
from session_log.verify import verify
from strategies import SESSION_ID, histories
from test_forks import ACTIONS, Entries, grow, valid_cut


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


def alone(lines: list[bytes]) -> sl.RestoredState:
    """Restore lines as a segment of their own, as any reader of the format would."""
    start, store = sl.decode_line(lines[0]), sl.MemoryStore()
    assert isinstance(start, sl.SegmentStart)
    store.adopt(start.session_id, start.session_id, lines)
    return sl.restore(store, start.session_id, start.session_id)


@given(
    tales=st.lists(histories(max_turns=2), min_size=1, max_size=3),
    actions=st.lists(ACTIONS, min_size=1, max_size=3),
    where=st.integers(0, 99),
)
def test_what_was_exported_restores_to_the_same_state(
    tales: list[Entries], actions: list[tuple[str, int]], where: int
) -> None:
    """After any history, rollbacks, forks of forks, copies and compactions in it, at any cut."""
    store = sl.MemoryStore()
    source = grow(store, tales, actions)
    cut = valid_cut(store, source, where)

    whole = list(export_lines(store, SESSION_ID, source))
    part = list(export_lines(store, SESSION_ID, source, at_entries=cut))

    assert folded(alone(whole)) == folded(sl.restore(store, SESSION_ID, source))
    assert folded(alone(part)) == folded(sl.restore(store, SESSION_ID, source, at_entries=cut))


def test_lines_are_as_they_are_on_file(store: sl.FsStore) -> None:
    """Byte for byte, with what a fork inherits before it."""
    lines = list(export_lines(store, SESSION, FORK))

    assert lines == [*store.read(SESSION, ROOT, 0, 10), *store.read(SESSION, FORK, 1)]
    assert list(export_lines(store, SESSION, ROOT, at_turn=1)) == list(store.read(SESSION, ROOT, 0, 10))


def test_a_batch_that_a_fork_cuts_is_none_any_more(store: sl.FsStore) -> None:
    """Its first line would wait for lines that are not there."""
    with sl.SegmentWriter.create(store) as writer:
        with writer.batch() as batch:
            for text in ("one", "two", "three"):
                batch.save_user_input(text)
        child = writer.fork_at_entry(3)
    sl.save_user_input(store, writer.session_id, child, "four")

    lines = list(export_lines(store, writer.session_id, child))

    assert not any(b'"batch"' in line for line in lines)
    state = alone(lines)
    assert [item.text for item in state.history if isinstance(item, sl.Message)] == ["one", "two", "four"]


def test_what_was_exported_has_no_link_that_does_not_hold(store: sl.FsStore) -> None:
    """Of a fork, those of its own lines covered a first line that is left out; its parent's still hold."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "one")
        child = writer.fork_at(1)
    with sl.SegmentWriter.resume(store, writer.session_id, child, chain=True) as fork:
        record_turn(fork, "two")
    whole = list(export_lines(store, writer.session_id, writer.segment_id))
    lines = list(export_lines(store, writer.session_id, child))

    memory = sl.MemoryStore()
    for segment_id, exported in ((writer.segment_id, whole), (child, lines)):
        memory.adopt(writer.session_id, segment_id, exported)
    report = verify(memory, writer.session_id)

    assert report.is_sound, report.findings
    assert report.chained_segments == 2
    assert whole == list(store.read(writer.session_id, writer.segment_id))


def test_every_entry_may_be_changed_on_the_way(store: sl.FsStore) -> None:
    def change(entry: sl.LogEntry) -> sl.LogEntry:
        return sl.UserInput(ts=entry.ts, segments=(sl.TextInput("…"),)) if isinstance(entry, sl.UserInput) else entry

    state = alone(list(export_lines(store, SESSION, FORK, change=change)))

    texts = [item.text for item in state.history if isinstance(item, sl.Message) and item.role == "user"]
    assert texts == ["…", "…"]
    assert state.turn_count == 2


def test_blobs_that_lines_name_go_along_once(store: sl.FsStore) -> None:
    """What looks like a hash and names no blob is left alone."""
    ref = store.put_blob(b"large")
    payload = {"blob": ref.sha256, "again": ref.sha256, "other": "0" * 64}
    for _ in range(2):
        sl.save_extension(store, OTHER, OPEN, "my.blobs", payload)
    kept: list[tuple[str, bytes]] = []

    lines = list(export_blobs(store, export_lines(store, OTHER, OPEN), lambda *blob: kept.append(blob)))

    assert kept == [(ref.sha256, b"large")]
    assert lines == list(store.read(OTHER, OPEN))
    assert blob_names(lines[-1]) == [ref.sha256, ref.sha256, "0" * 64]


def test_markdown_holds_what_was_said_and_cannot_be_broken_out_of(store: sl.FsStore) -> None:
    hostile = "````\n# not a heading\n```"
    sl.save_delta(store, OTHER, OPEN, [sl.ToolResult("call-1", hostile)])

    text = "\n".join(export_markdown(read_lines(store, OTHER, OPEN), title="a *b* <c>"))

    assert text.startswith("# a \\*b\\* \\<c\\>\n")
    assert f"`````\n{hostile}\n`````" in text
    assert "## User\n\nGo on" in text


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_export_in_every_format(tmp_path: Path) -> None:
    root = sample(tmp_path / "root")
    store = sl.FsStore(root)

    jsonl = run("export", "b2bbb", root=root)
    assert jsonl.out.encode() == b"".join(line + b"\n" for line in export_lines(store, SESSION, FORK))
    markdown = run("export", "b2bbb", "--format", "md", root=root).out
    assert markdown.startswith("# The folder\n")
    assert "Try postgres?" in markdown
    assert [
        message["role"]
        for message in json.loads(run("export", "b1bbb@1", "--format", "openai", root=root).out)["messages"]
    ] == ["system", "user", "assistant", "tool", "assistant"]
    assert "system" in json.loads(run("export", "b1bbb", "--format", "anthropic", root=root).out)


def test_export_into_a_file_takes_blobs_along(tmp_path: Path) -> None:
    """They lie beside it; nothing that is there is overwritten unasked."""
    root = sample(tmp_path / "root")
    store = sl.FsStore(root)
    ref = store.put_blob(b"large")
    sl.save_extension(store, OTHER, OPEN, "my.blobs", ref.sha256)
    target = tmp_path / "out.jsonl"

    said = run("export", "c1ccc", "-o", target, root=root)
    again = run("export", "c1ccc", "-o", target, root=root)

    assert (said.code, said.out) == (0, "")
    assert target.read_bytes() == store.segment_path(OTHER, OPEN).read_bytes()
    assert (tmp_path / "out.blobs" / ref.sha256[:2] / ref.sha256).read_bytes() == b"large"
    assert again.code == 2
    assert "is there already" in again.err
    assert run("export", "c1ccc", "-o", target, "--force", root=root).code == 0
    assert "1 blob" in run("export", "c1ccc", root=root).err
