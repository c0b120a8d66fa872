"""Commands that write: what a dry run and a "no" leave alone, what they ask, and what they say in JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import session_log as sl
from commands import FORK, ODD, OPEN, OTHER, ROOT, SESSION, STRANGE, run, sample
from session_log.lifecycle import delete_session
from test_cli_terminal import on_terminal

BLOB = b"a payload that no line refers to"
WRITING = {
    "repair": ["repair", "a3aa"],
    "repair of a segment": ["repair", "c2ccc"],
    "close": ["close", "a2aa"],
    "name": ["name", "a1aa", "Another"],
    "label": ["label", "a1aa", "+x", "-nightly"],
    "archive": ["archive", "a1aa"],
    "rm of a session": ["rm", "a1aa"],
    "rm of a segment": ["rm", "b2bbb"],
    "trash restore": ["trash", "restore", "d1dd"],
    "trash purge": ["trash", "purge"],
    "prune": ["prune", "--keep-last", "1"],
    "gc": ["gc", "--grace", "0s"],
    "reindex": ["reindex"],
}
GONE = "0199c700-0000-7000-8000-00000000d1dd"


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The sample, with a session in the trash, a payload that nobody names, and, for who repairs it, a damaged line."""
    sample(tmp_path)
    with sl.FsStore(tmp_path, durability="process") as store:
        store.put_blob(BLOB)
        start = sl.SegmentStart(ts=1, session_id=GONE, v=1, config=sl.RequestConfig(), history=())
        store.create_segment(GONE, sl.new_segment_id(), [sl.encode_line(start)])
        delete_session(store, GONE)
        path = store.segment_path(ODD, STRANGE)
    if "[repair" in request.node.name:
        path.write_bytes(path.read_bytes() + b"no entry\n")
    return tmp_path


def tree(root: Path) -> dict[str, bytes | None]:
    """Return every file and folder below a root."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


@pytest.mark.parametrize("args", WRITING.values(), ids=WRITING)
def test_a_dry_run_writes_nothing(root: Path, args: list[str]) -> None:
    before = tree(root)

    said = run(*args, "--dry-run", root=root)

    assert (said.code, tree(root)) == (0, before)
    assert said.err.startswith("session-log: would ") or "would" in said.out


@pytest.mark.parametrize("args", WRITING.values(), ids=WRITING)
def test_a_terminal_is_asked_and_no_is_no(root: Path, args: list[str]) -> None:
    before = tree(root)

    code, seen = on_terminal(*args, root=root, answer=lambda seen: b"n\n" if b"? [y/N]" in seen else None)

    assert (code, tree(root)) == (1, before)
    assert "? [y/N]" in seen


@pytest.mark.parametrize("args", WRITING.values(), ids=WRITING)
def test_yes_on_a_terminal_and_yes_as_an_option_do_it(root: Path, args: list[str], tmp_path: Path) -> None:
    before = tree(root)
    code, _ = on_terminal(*args, root=root, answer=lambda seen: b"y\n" if b"? [y/N]" in seen else None)
    assert code == 0
    assert tree(root) != before

    other = sample(tmp_path / "other") if args[0] != "trash" else root
    if args[0] not in ("trash", "gc", "repair"):
        code, seen = on_terminal(*args, "-y", root=other)
        assert code == 0
        assert "[y/N]" not in seen


@pytest.mark.parametrize("args", WRITING.values(), ids=WRITING)
def test_json_says_its_version(root: Path, args: list[str]) -> None:
    said = run(*args, "--json", "-y", root=root)

    assert said.code == 0
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines
    assert {line["v"] for line in lines} == {1}


@pytest.mark.parametrize(
    "args",
    [
        ["repair", "-"],
        ["close", "-"],
        ["rm", "-"],
        ["name", "a1aa"],
        ["name", "a1aa", "x", "--clear"],
        ["rm", "a1aa", "--detach"],
        ["rm", "b1bbb:3"],
        ["rm", "b2bbb@1"],
        ["prune"],
        ["prune", "--older-than", "28"],
        ["prune", "--max-bytes", "lots"],
        ["gc", "--grace", "soon"],
        ["du", "-"],
        ["checkpoints", "a1aa", "--part", "x", "--past"],
        ["requests", "a1aa", "--prompt"],
    ],
)
def test_a_call_that_must_change_is_2(root: Path, args: list[str]) -> None:
    before = tree(root)
    data = sl.FsStore(root).segment_path(SESSION, ROOT).read_bytes()

    said = run(*args, root=root, stdin=data)

    assert (said.code, said.out, tree(root)) == (2, "", before)
    assert said.err != ""


@pytest.mark.parametrize(
    "args",
    [
        ["verify", "nothing"],
        ["repair", "nothing"],
        ["close", "nothing"],
        ["name", "nothing", "x"],
        ["label", "nothing", "+x"],
        ["archive", "nothing"],
        ["rm", "nothing"],
        ["trash", "restore", "ffff"],
        ["trash", "restore", "nothing"],
        ["du", "nothing"],
        ["pods", "nothing"],
        ["checkpoints", "nothing"],
        ["checkpoints", "a1aa", "nothing"],
        ["requests", "nothing"],
        ["requests", "a1aa", "nothing"],
    ],
)
def test_what_is_not_there_is_3(root: Path, args: list[str]) -> None:
    said = run(*args, root=root)

    assert (said.code, said.out) == (3, "")


def test_what_somebody_writes_is_busy(root: Path) -> None:
    """Nothing of it is changed."""
    with sl.SegmentWriter.resume(sl.FsStore(root), OTHER, OPEN, exclusive=True):
        before = tree(root)
        assert [run(*args, root=root).code for args in (["close", "a2aa"], ["rm", "a2aa"])] == [6, 6]
        assert [run(*args, "--dry-run", root=root).code for args in (["close", "a2aa"], ["rm", "a2aa"])] == [6, 6]
        assert tree(root) == before
    assert (FORK, run("rm", "a2aa", root=root).code) == (FORK, 0)


def test_no_output_moves_the_cursor_of_a_terminal(root: Path) -> None:
    """In JSON, too: it leaves C1 controls and turns of direction as they are, and a terminal obeys them."""
    for line in (
        "ls --json",
        "verify",
        "verify --json",
        "du a3aa",
        "trash ls",
        "prune --older-than 1d --dry-run --json",
    ):
        _, seen = on_terminal(*line.split(), root=root)
        assert re.findall(r"\x1b(?!\[[0-9;]*[mK])", seen) == [], line
        assert not set(seen) & set("\x07\x9b\u202e\u2028"), line
