"""Transcripts: everything that was said is there once and in order, calls with their results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given

import session_log as sl
from commands import FORK, OPEN, OTHER, ROOT, SESSION, run, sample
from session_log.lines import read_lines
from session_log.transcripts import Block, transcript
from strategies import SESSION_ID, histories


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


def blocks(store: sl.Store, *ids: str, resolve: bool = False) -> list[Block]:
    return list(transcript(read_lines(store, *ids, resolve=resolve)))


@given(histories())
def test_all_calls_and_results_are_there_once(entries: list[sl.LogEntry]) -> None:
    """A result stands with its call, or by itself; nothing else is held back."""
    store, segment_id = sl.MemoryStore(), sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])

    shown = blocks(store, SESSION_ID, segment_id)

    items = [entry.item for entry in entries if isinstance(entry, (sl.AssistantItem, sl.ToolResultEntry))]
    of_start = [item for entry in entries if isinstance(entry, sl.SegmentStart) for item in entry.history]
    calls = sum(isinstance(item, sl.ToolCall) for item in (*of_start, *items))
    results = sum(isinstance(item, sl.ToolResult) for item in (*of_start, *items))
    assert sum(block.what == "call" for block in shown) == calls
    assert sum((block.what == "result") + (block.result is not None) for block in shown) == results
    assert [block.line for block in shown] == sorted(block.line for block in shown)


def test_a_call_has_its_result_and_its_place(store: sl.FsStore) -> None:
    (call,) = [block for block in blocks(store, SESSION, ROOT) if block.what == "call"]

    assert (call.text, call.line, call.result_line, call.is_error) == ("shell command: ls -l", 5, 6, False)
    assert str(call.result).startswith("2 files\ntotal 8\n")
    (waiting,) = [block for block in blocks(store, OTHER, OPEN) if block.what == "call"]
    assert (waiting.result, waiting.result_line) == (None, None)


def test_equal_ids_of_calls_meet_in_order() -> None:
    """Providers reuse them."""
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        for at in range(2):
            writer.save_delta(
                [sl.ToolCall("c", f"tool{at}", "{}"), sl.ToolResult("c", f"result{at}", is_error=at == 1)]
            )
        writer.save_delta([sl.ToolResult("c", "of no call")])

    shown = blocks(store, writer.session_id, writer.segment_id)

    assert [(block.what, block.text, block.result, block.is_error) for block in shown] == [
        ("call", "tool0", "result0", False),
        ("call", "tool1", "result1", True),
        ("result", "of no call", None, False),
    ]


def test_a_fork_does_not_say_its_prompt_again(store: sl.FsStore) -> None:
    assert [block.text for block in blocks(store, SESSION, FORK, resolve=True) if block.what == "system"] == [
        "You are terse."
    ]
    assert [block.inherited for block in blocks(store, SESSION, FORK, resolve=True) if block.what == "user"] == [
        True,
        False,
    ]


def test_a_rollback_is_a_note_and_hides_nothing() -> None:
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("one")
        writer.save_user_input("two")
        writer.rollback(2)

    assert [(block.what, block.text) for block in blocks(store, writer.session_id, writer.segment_id)] == [
        ("user", "one"),
        ("user", "two"),
        ("note", "rolled back to line 2"),
    ]


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


SHOWN = """\
user · 2025-10-09 08:53:46 · 0000000c1ccc:3
Go on

reasoning · 2025-10-09 08:53:47 · 0000000c1ccc:4
I look first.

call · 2025-10-09 08:53:48 · 0000000c1ccc:5
shell command: ls -l
→ no result

"""


def test_show_is_a_block_for_each_thing_said(tmp_path: Path) -> None:
    root = sample(tmp_path)

    assert run("show", "c1ccc", root=root, env={"TZ": "UTC"}) == (0, SHOWN, "")
    assert "shell" not in run("show", "b1bbb", "--no-tools", root=root).out
    assert "Try redis" not in run("show", "b1bbb@1", root=root).out
    assert run("show", "b2bbb", "--resolve", root=root).out.count("· inherited") == 5
    found = [json.loads(line) for line in run("show", "b1bbb", "--json", "--tool", "shell", root=root).out.splitlines()]
    assert [(one["v"], one["what"], one["result_line"]) for one in found] == [(1, "call", 6)]


def test_show_cuts_long_output_unless_all_is_wanted(tmp_path: Path) -> None:
    root = sample(tmp_path)
    store = sl.FsStore(root)
    text = "\n".join(f"line {at}" for at in range(100))
    sl.save_delta(store, OTHER, OPEN, [sl.ToolResult("call-1", "long", text)])

    cut, full = run("show", "c1ccc", root=root).out, run("show", "c1ccc", "--full", root=root).out

    assert "line 3" in cut
    assert "line 50" not in cut
    assert "… 89 lines more (--full) …" in cut
    assert text.replace("\n", "\n  ") in full


def test_show_escapes_text_and_counts_damage(tmp_path: Path) -> None:
    root = sample(tmp_path)
    path = sl.FsStore(root).segment_path(OTHER, OPEN)
    path.write_bytes(path.read_bytes() + b"no entry\n")

    assert "\x1b" not in run("show", "a3aa", root=root).out
    assert "\x1b[31mred" in run("show", "a3aa", "--raw", root=root).out
    said = run("show", "c1ccc", root=root)
    assert said.code == 5
    assert "1 damaged lines, the first is 0000000c1ccc:6" in said.err
