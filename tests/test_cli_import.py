"""``import``: what was taken and what was not is said, once; a dry run leaves everything alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import ESCAPES, SESSION, run, sample

pytest.importorskip("session_log.importers")
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path / "root")


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(CHAT))
    return path


def test_a_recording_becomes_a_session(root: Path, chat: Path) -> None:
    said = run("import", chat, root=root)

    (new,) = set(sl.FsStore(root).list_sessions()) - set(sl.FsStore(sample(root.parent / "other")).list_sessions())
    assert (said.code, said.err) == (0, "")
    assert said.out == (f"{chat}: session {new}, 1 segment, from 2 openai records\n  taken: 2 (1 assistant, 1 user)\n")
    assert "hello" in run("show", new, root=root).out


def test_the_same_again_is_refused_unless_asked_for(root: Path, chat: Path) -> None:
    first = json.loads(run("import", chat, "--json", root=root).out)

    again = run("import", chat, root=root)
    assert (again.code, again.out) == (1, "")
    assert first["session_id"] in again.err
    assert json.loads(run("import", chat, "--update", "--json", root=root).out)["added"] == 0
    other = json.loads(run("import", chat, "--again", "--json", root=root).out)
    assert other["session_id"] != first["session_id"]
    assert other["file"] == str(chat)


def test_a_source_that_grew_is_gone_on_with(root: Path, chat: Path) -> None:
    first = json.loads(run("import", chat, "--source-id", "chat-7", "--json", root=root).out)
    chat.write_text(json.dumps([*CHAT, {"role": "user", "content": "more"}]))

    said = run("import", chat, "--source-id", "chat-7", "--update", root=root)

    assert said.out.startswith(f"{chat}: updated {first['session_id']}")
    assert "more" in run("show", first["session_id"], root=root).out


def test_a_dry_run_tells_and_writes_nothing(root: Path, chat: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    said = run("import", chat, "--dry-run", root=root)

    assert said.out.startswith(f"{chat}: would be imported, 1 segment")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    run("import", chat, root=root)
    assert "was imported before" in run("import", chat, "--dry-run", root=root).err
    assert run("import", chat, "--dry-run", "--again", root=root).code == 0


def test_what_was_dropped_or_odd_is_listed_by_line(root: Path, tmp_path: Path) -> None:
    """Text of a source is escaped, as that of a log."""
    path = tmp_path / "chats.jsonl"
    odd = json.dumps({"role": ESCAPES, "content": "x"})
    path.write_text("\n".join([*map(json.dumps, CHAT), odd, '{"torn']))

    said = run("import", path, "--from", "openai", root=root)

    assert said.code == 0
    assert "\x1b" not in said.out
    assert "line 4: " in said.out


def test_an_export_comes_back(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(run("export", "a1aa", root=root).out)

    said = json.loads(run("import", path, "--json", "--root", tmp_path / "copy").out)

    assert said["format"] == "session-log"
    assert run("show", said["session_id"], "--root", tmp_path / "copy").code == 0
    assert SESSION in sl.FsStore(root).list_sessions()


def test_every_format_can_be_asked_for() -> None:
    from session_log.cli import imports
    from session_log.importers import FORMATS

    assert set(imports.FORMATS) == {"auto", *FORMATS}


def test_codes(root: Path, chat: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "prose").write_text("just some prose")
    data = json.dumps(CHAT).encode()

    assert run("import", tmp_path / "nowhere", root=root).code == 3
    assert run("import", tmp_path / "empty", root=root).code == 5
    assert run("import", tmp_path / "prose", root=root).code == 2
    assert run("import", chat, "--update", "--again", root=root).code == 2
    assert run("import", chat, chat, "--source-id", "x", root=root).code == 2
    assert run("import", "-", root=root, stdin=data).code == 0
    assert run("import", "-", root=root, stdin=data).code == 1
