"""The whole of what is in blobs: in state, show and export, but never what redaction did not look into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import OTHER, ROOT, SESSION, run, sample
from session_log.facts import set_facts
from session_log.lifecycle import delete_session

KEY = "sk-ant-api03-" + "a1B2c3D4" * 10
TEXT = "".join(f"{n:06}" for n in range(2000)) + f" {KEY} " + "".join(f"{n:06}" for n in range(2000))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with sl.FsStore(tmp_path / "root") as store, sl.SegmentWriter.create(store, max_inline_bytes=1024) as writer:
        writer.save_user_input(TEXT)
        writer.save_delta([sl.Message.assistant("short")])
        writer.save_turn_end()
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("state @last", False),
        ("state @last --resolve-blobs --json", True),
        ("state @last --messages openai", True),
        ("state @last --messages anthropic", True),
        ("show @last", False),
        ("show @last --full", True),
        ("export @last", False),
        ("export @last --format md", True),
        ("export @last --format openai", True),
        ("export @last --format anthropic", True),
        ("export @last --format md --redact", False),
        ("export @last --format openai --redact", False),
    ],
)
def test_what_is_ready_to_send_or_asked_for_is_whole(line: str, whole: bool, root: Path) -> None:
    said = run(*line.split(), root=root)

    assert said.code == 0
    assert (TEXT in said.out) == whole
    assert (KEY in said.out) == whole


def test_blobs_stand_beside_an_export_unless_it_is_redacted(root: Path, tmp_path: Path) -> None:
    """Spilled texts are seen whole, and stand in the lines then; into other blobs nobody looked for secrets."""
    store = sl.FsStore(root)
    (session_id,) = store.list_sessions()
    named = store.put_blob(KEY.encode()).sha256
    sl.save_extension(store, session_id, store.list_segments(session_id)[0], "my.blobs", named)
    (tmp_path / "out").mkdir()
    said = run("export", "@last", "-o", tmp_path / "out" / "a.jsonl", root=root)
    assert (said.code, said.err) == (0, "")
    beside = {blob.name: blob.read_text() for blob in (tmp_path / "out" / "a.blobs").glob("*/*")}
    assert beside.pop(named) == KEY
    assert list(beside.values()) == [TEXT]

    said = run("export", "@last", "--redact", "-o", tmp_path / "out" / "b.jsonl", root=root)

    assert said.err == "session-log: 1 blob not exported: nobody looked into them for secrets\n"
    assert not (tmp_path / "out" / "b.blobs").exists()
    written = (tmp_path / "out" / "b.jsonl").read_text()
    assert KEY not in written
    assert TEXT.partition(" ")[0] + " [redacted:" in written


def test_a_missing_blob_is_an_error_or_damage(root: Path) -> None:
    for blob in (root / "blobs").glob("*/*"):
        blob.unlink()

    assert run("state", "@last", "--messages", "openai", root=root).code == 5
    said = run("state", "@last", "--resolve-blobs", "--salvage", root=root)
    assert said.code == 5
    assert "is not there" in said.err
    assert run("show", "@last", "--full", root=root).code == 5
    assert run("show", "@last", root=root).code == 0


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A sample with a title that looks like an id, and a key that looks like a path and a place."""
    made = sample(tmp_path / "sample")
    set_facts(sl.FsStore(made), OTHER, title="cafe1", external_key="slack:C1/17@9:3")
    return made


def test_names_may_look_like_something_else(named: Path) -> None:
    def session(*words: str | Path) -> str:
        said = run("path", *words, root=named)
        return Path(said.out.strip()).parent.name if said.code == 0 else f"{said.code} {said.err}"

    folder = named / SESSION
    (named / "link.jsonl").symlink_to(folder / f"{ROOT}.jsonl")
    (named / "folder").symlink_to(folder)
    assert session("cafe1") == OTHER
    assert session("slack:C1/17@9:3") == session("slack:C1/17@9:3:2") == OTHER
    assert session(ROOT.upper()) == session(ROOT.replace("-", "")) == session("B1BBB") == SESSION
    assert session(folder) == session(folder / "session.jsonl") == session(named / "folder") == SESSION
    assert session(named / "link.jsonl") == session(named / "folder" / f"{ROOT}.jsonl") == SESSION
    assert session(folder / f"{ROOT}.trace.jsonl").startswith("2 ")
    assert "is a trace" in session(folder / f"{ROOT}.trace.jsonl")


def test_what_was_deleted_is_said_to_be_in_the_trash(named: Path) -> None:
    delete_session(sl.FsStore(named), OTHER)

    for text in (OTHER, "a2aa"):
        said = run("path", text, root=named)
        assert said.code == 3
        assert f"session {OTHER} was deleted and is in the trash" in said.err


def test_standard_input_may_be_named_again(named: Path) -> None:
    data = (named / SESSION / f"{ROOT}.jsonl").read_bytes()

    said = run("cat", "--", "-:1", "-:2", root=named, stdin=data)

    assert [json.loads(row)["kind"] for row in said.out.splitlines()] == ["segment_start", "invoke"]


def test_a_long_line_is_cut_unless_all_is_wanted(named: Path) -> None:
    store = sl.FsStore(named)
    sl.save_delta(store, OTHER, store.list_segments(OTHER)[0], [sl.ToolCall("c", "shell", "x" * 5000)])

    assert "… 4006 characters more (--full)" in run("show", OTHER, root=named).out
    assert "x" * 5000 in run("show", OTHER, "--full", root=named).out


def test_a_trace_is_read_with_the_filters(named: Path) -> None:
    store = sl.FsStore(named)
    key = OTHER, store.list_segments(OTHER)[0]
    for label in ("request_start", "request_end"):
        sl.append_trace(store, *key, sl.TraceEntry.lifecycle(ts=1, turn=0, label=label, data={"a": 1}))

    said = run("tail", "--trace", "--kind", "request_end", OTHER, root=named, env={"TZ": "UTC"})
    assert (said.code, said.out) == (0, "00:00:00 2 lifecycle request_end a: 1\n")
    assert run("cat", "--trace", "-n", "1", OTHER, root=named).out.count("request_end") == 1
    assert run("cat", "--trace", "--role", "user", OTHER, root=named).code == 2
    assert run("tail", "--trace", "-f", OTHER, root=named).code == 2
