"""Every command over a log whose every text is hostile: nothing that moves a cursor is printed, anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import ESCAPES, run
from hostile import CONTROL, hostile
from session_log.cli._output import escaped, json_escaped

ROOT, CHILD = "ROOT", "CHILD"
PRINTED = (
    "ls",
    "ls SESSION",
    "tree",
    "tree SESSION",
    "tree SESSION --dot",
    "show ROOT --full",
    "show CHILD --resolve",
    "tail ROOT",
    "tail ROOT --trace",
    "tail CHILD --resolve",
    "grep abc -C 2",
    "grep --trace red",
    "state ROOT",
    "state CHILD",
    "state CHILD --salvage",
    "state ROOT --history",
    "state ROOT --messages openai",
    "state ROOT --messages anthropic",
    "export ROOT --format md",
    "export ROOT --format openai",
    "path ROOT",
    "ls --json",
    "ls SESSION --json",
    "tree --json",
    "show ROOT --json",
    "tail ROOT --json",
    "tail ROOT --trace --json",
    "grep red --json",
    "grep -c red --json",
    "state ROOT --json",
    "fork ROOT --dry-run",
)
TYPED = (
    "cat TEXT --kind TEXT",
    "show TEXT",
    "ls --status TEXT",
    "grep [TEXT",
    "cat /no/TEXT/x.jsonl",
    "export ROOT -o /no/TEXT",
    "--root /no/TEXT ls",
    "--root /no/TEXT cat @last",
    "state ROOT --at TEXT",
    "tail ROOT --since TEXT",
    "TEXT",
    "ls --TEXT",
    "completion TEXT",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    first, child = hostile(folder)
    (session_id,) = sl.FsStore(folder).list_sessions()
    return folder, {ROOT: first, CHILD: child, "SESSION": session_id}


def words(line: str, names: dict[str, str]) -> list[str]:
    return [names.get(word, word.replace("TEXT", ESCAPES)) for word in line.split()]


@pytest.mark.parametrize("line", PRINTED + TYPED)
def test_nothing_that_moves_a_cursor_is_printed(line: str, root: tuple[Path, dict[str, str]]) -> None:
    """Not on standard output, not on standard error; not from logs, names of files, or what was typed."""
    folder, names = root

    said = run(*words(line, names), root=folder)

    raw = set(said.out if "cat" not in line else "") & CONTROL | set(said.err) & CONTROL
    assert raw == set(), line
    assert "Traceback" not in said.err
    assert said.out or said.err


@pytest.mark.parametrize("line", [line for line in PRINTED if "--json" in line])
def test_json_says_the_same_with_escapes(line: str, root: tuple[Path, dict[str, str]]) -> None:
    found = [json.loads(row) for row in run(*words(line, root[1]), root=root[0]).out.splitlines()]

    assert found
    assert all(one["v"] == 1 for one in found)
    assert line.startswith(("ls SESSION", "tree", "grep -c")) or any(
        "\x1b[31m" in str(one.values()) or ESCAPES in _texts(one) for one in found
    )


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [value, *value.split("\n")]
        case dict():
            return [text for inner in (*value, *value.values()) for text in _texts(inner)]
        case list():
            return [text for inner in value for text in _texts(inner)]
        case _:
            return []


def test_cat_through_a_pipe_is_exact_even_where_it_is_no_text(root: tuple[Path, dict[str, str]]) -> None:
    folder, names = root
    path = sl.FsStore(folder).segment_path(names["SESSION"], names[CHILD])

    assert run("cat", names[CHILD], root=folder).out.encode("utf-8", "surrogateescape") == path.read_bytes()


def test_escapes_of_text_and_of_json() -> None:
    text = "".join(map(chr, range(0x2070))) + "\ud800"

    assert not set(escaped(text)) & CONTROL
    assert json.loads(json_escaped(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))) != ""
    clean = text[:-1]
    said = json_escaped(json.dumps(clean, ensure_ascii=False).encode())
    assert json.loads(said) == clean
    assert not set(said.decode()) & CONTROL
    assert json_escaped(b'{"a":1}') == b'{"a":1}'
