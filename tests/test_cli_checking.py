"""``verify``, ``repair`` and ``close``: what is wrong and what to do, and that it is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import ODD, OPEN, OTHER, ROOT, SESSION, STRANGE, run, sample
from session_log.facts import set_facts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path)


def damage(root: Path) -> Path:
    """Put two damaged lines behind a segment, and return its path."""
    path = sl.FsStore(root).segment_path(ODD, STRANGE)
    path.write_bytes(path.read_bytes() + b"no entry\n{}\n")
    return path


FOUND = """\
error damaged_line {strange}:8 (byte 950): $: is no JSON (at character 0: expecting value)
  → restore it from a copy, or give the line up with repair(), which keeps its bytes in .damage; \
here: session-log repair {strange}
note interrupted {open}:2 (byte 247): a run began and did not end, 1 tool calls are open
  → nothing, if a run is under way; else resume, and close_interrupted(writer); here: session-log close {open}
warning open_mode {other}: its mode is 0644, not 0600
  → chmod 600 {other}
"""


def test_findings_say_where_and_what_to_do(root: Path) -> None:
    store = sl.FsStore(root)
    path = store.segment_path(ODD, STRANGE)
    path.write_bytes(path.read_bytes() + b"no entry\n")
    store.segment_path(SESSION, ROOT).chmod(0o644)
    places = {
        "strange": path,
        "open": store.segment_path(OTHER, OPEN),
        "other": store.segment_path(SESSION, ROOT),
    }

    said = run("verify", root=root)

    assert (said.code, said.out) == (5, FOUND.format(**places))
    assert said.err == "session-log: 1 error, 1 warning, 1 note: 3 sessions, 5 segments, 37 lines\n"


def test_verify_is_of_all_or_of_those_that_are_named(root: Path) -> None:
    damage(root)

    assert run("verify", "a1aa", "a2aa", "b1bbb", root=root).code == 0
    assert run("verify", "a1aa", "b1bbb", root=root).err.count("session-log: ") == 1
    assert run("verify", "a1aa", "a3aa", root=root).code == 5
    said = run("verify", "--errors", "--json", root=root)
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [(one["v"], one["severity"], one["line"]) for one in found] == [(1, "error", 8), (1, "error", 9)]
    data = sl.FsStore(root).segment_path(SESSION, ROOT).read_bytes()
    assert run("verify", "-", root=root, stdin=data).code == 0
    assert run("verify", "-", root=root, stdin=data + b"x\n").code == 5


def test_payloads_are_checked_unless_not_asked_for(root: Path) -> None:
    store = sl.FsStore(root)
    with sl.SegmentWriter.resume(store, SESSION, ROOT, max_inline_bytes=1024) as writer:
        writer.save_user_input("long " * 1000)
    (blob,) = (path for path in (root / "blobs").rglob("*") if path.is_file() and path.name != ".lock")
    blob.unlink()

    assert run("verify", root=root).code == 5
    assert "missing_blob" in run("verify", "a1aa", root=root).out
    assert run("verify", "--no-blobs", root=root).code == 0


def test_a_finding_cannot_move_the_cursor(root: Path) -> None:
    path = sl.FsStore(root).segment_path(ODD, STRANGE)
    path.write_bytes(path.read_bytes() + b'{"kind":"\x1b[2J"}\n')

    assert "\x1b" not in run("verify", root=root).out


def test_repair_blanks_and_says_where_the_bytes_are(root: Path) -> None:
    path = damage(root)
    size = path.stat().st_size

    said = run("repair", "a3aa", root=root)

    assert said.code == 0
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == [f"{path}:8", f"{path}:9"]
    assert said.err == f"session-log: the bytes are in {path.with_suffix('.damage')}\n"
    kept = path.with_suffix(".damage").read_bytes().split(b"\n")
    assert {b"no entry", b"{}"} <= set(kept)
    assert path.stat().st_size == size
    assert run("verify", "--errors", root=root).out == ""
    assert run("repair", "a3aa", root=root) == (1, "", "session-log: no line is damaged\n")


def test_repair_of_a_segment_leaves_the_others(root: Path) -> None:
    path = damage(root)
    first = sl.FsStore(root).segment_path(SESSION, ROOT)
    first.write_bytes(first.read_bytes() + b"x\n")
    facts = root / SESSION / "session.jsonl"
    facts.write_bytes(facts.read_bytes() + b"x\n")

    assert run("repair", "b1bbb", root=root).code == 0
    assert run("verify", "a1aa", "--errors", root=root).out.startswith("error damaged_facts")
    assert run("repair", "a1aa", root=root).out.startswith(f"{facts}:3")
    assert path.read_bytes().endswith(b"{}\n")


def test_what_cannot_be_repaired_is_said(root: Path) -> None:
    path = sl.FsStore(root).segment_path(OTHER, OPEN)
    path.write_bytes(b"[" + path.read_bytes())

    said = run("repair", "a2aa", root=root)

    assert (said.code, said.out) == (5, "")
    assert "left as it is" in said.err


def test_close_answers_calls_and_ends_the_run(root: Path) -> None:
    said = run("close", "a2aa", root=root)

    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "0000000c1ccc: answered call call-1: interrupted: the run ended before this tool returned\n"
        "0000000c1ccc: ended the run: interrupted, and closed later\n"
    )
    state = sl.restore(sl.FsStore(root), OTHER, OPEN)
    assert (state.pending_tool_calls, state.last_run_interrupted) == ((), False)
    assert run("close", "a2aa", root=root) == (1, "", "session-log: 0000000c1ccc has no open run\n")
    assert "interrupted" not in run("ls", root=root).out


def test_a_status_of_running_is_believed_unless_forced(root: Path) -> None:
    set_facts(sl.FsStore(root), OTHER, status="running")

    assert run("close", "a2aa", root=root).code == 6
    assert run("close", "a2aa", "--force", "-m", "restarted", root=root).out.endswith("ended the run: restarted\n")
