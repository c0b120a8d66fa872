"""The command: what it prints where, and the codes it ends with. Run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import session_log as sl
from commands import ESCAPES, FORK, ODD, OPEN, OTHER, ROOT, SESSION, STRANGE, command, interruptible, reads, run, sample
from session_log.cli._app import COMMANDS
from session_log.facts import set_facts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample that no test changes."""
    return sample(tmp_path_factory.mktemp("root"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A sample of the test's own."""
    return sample(tmp_path)


# ── what is printed where ──────────────────────────────────────────────────────────────────────────────────────────


def test_help_names_every_command(root: Path) -> None:
    said = run("--help", root=root)

    assert said.code == 0
    assert all(f"  {name} " in said.out for name in COMMANDS)
    assert run("-h", root=root).out == said.out
    assert sl.__name__ == "session_log"
    assert run("--version", root=root).out.startswith("session-log, version ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str, root: Path) -> None:
    said = run(name, "--help", root=root)

    assert said.code == 0
    assert "Examples:" in said.out


def test_ls_shows_sessions_by_activity(root: Path) -> None:
    said = run("ls", root=root)

    rows = [line.split() for line in said.out.splitlines()]
    assert [row[0] for row in rows] == ["00000000a3aa", "00000000a2aa", "00000000a1aa"]
    assert rows[1][-1] == "interrupted"
    assert rows[2][-3:] == ["The", "folder", "#nightly"]
    assert said.err == ""


def test_ls_of_a_session_shows_its_segments(root: Path) -> None:
    said = run("ls", "a1aa", root=root)

    assert [line.split()[0] for line in said.out.splitlines()] == [
        "00000000b3bbb"[-12:],
        "0000000b2bbb",
        "0000000b1bbb",
    ]
    assert "fork of 0000000b1bbb@1" in said.out
    assert "compaction of 0000000b1bbb@2 ← active" in said.out


def test_json_is_one_object_a_line_with_its_version(root: Path) -> None:
    said = run("ls", "--json", "--color", "always", root=root)

    found = [json.loads(line) for line in said.out.splitlines()]
    assert {one["v"] for one in found} == {1}
    assert [one["session_id"] for one in found] == [ODD, OTHER, SESSION]
    assert "\x1b" not in said.out


def test_cat_prints_the_lines_as_they_are(root: Path) -> None:
    store = sl.FsStore(root)
    data = store.segment_path(SESSION, ROOT).read_bytes().decode()

    assert run("cat", ROOT, root=root).out == data
    assert run("cat", f"{ROOT}:2", root=root).out == data.splitlines(keepends=True)[1]
    inherited = run("cat", "--resolve", FORK, root=root).out
    assert inherited.startswith("".join(data.splitlines(keepends=True)[:10]))
    assert inherited.endswith(store.segment_path(SESSION, FORK).read_text())
    assert run("cat", f"{ROOT}@1", root=root).out == "".join(data.splitlines(keepends=True)[:10])
    assert run("cat", ROOT, FORK, root=root).out == data + store.segment_path(SESSION, FORK).read_text()


def test_cat_filters(root: Path) -> None:
    def kinds(*args: str) -> list[str]:
        return [json.loads(line)["kind"] for line in run("cat", ROOT, *args, root=root).out.splitlines()]

    assert kinds("--kind", "turn_end") == ["turn_end", "turn_end"]
    assert kinds("--role", "user", "-n", "1") == ["user_input"]
    assert kinds("--tool", "shell") == ["assistant_item", "tool_result"]
    assert kinds("--tool", "other") == []
    assert kinds("--since", "2025-10-09T08:53:27+00:00", "--until", "2025-10-09T08:53:27Z") == ["turn_end"]
    assert kinds("--since", "1h") == []


def test_cat_with_source_says_where_a_line_is(root: Path) -> None:
    (found,) = [json.loads(line) for line in run("cat", f"{ROOT}:3", "--with-source", root=root).out.splitlines()]

    assert (found["v"], found["segment_id"], found["line"], found["entry"]["kind"]) == (1, ROOT, 3, "user_input")


def test_cat_reads_standard_input_and_files(root: Path) -> None:
    data = sl.FsStore(root).segment_path(SESSION, ROOT).read_bytes()

    assert run("cat", "-", stdin=data, root=root).out == data.decode()
    assert run("cat", "--", "-:1", stdin=data, root=root).out.count("\n") == 1


def test_damaged_lines_are_counted_on_standard_error(own: Path) -> None:
    path = sl.FsStore(own).segment_path(OTHER, OPEN)
    path.write_bytes(path.read_bytes() + b"no entry\n")

    assert run("cat", OPEN, root=own).out.endswith("no entry\n")
    said = run("cat", OPEN, "--kind", "invoke", root=own)
    assert said.out.count("\n") == 1
    assert "1 lines are no entries" in said.err


def test_the_trace_is_a_file_of_its_own(own: Path) -> None:
    store = sl.FsStore(own)
    with sl.SegmentWriter.resume(store, OTHER, OPEN, trace=True) as writer:
        writer.trace_lifecycle("request_start")

    assert '"request_start"' in run("cat", OPEN, "--trace", root=own).out
    assert run("path", OPEN, "--trace", root=own).out == f"{store.trace_path(OTHER, OPEN)}\n"


def test_path_prints_the_file_of_a_segment(root: Path) -> None:
    assert run("path", "b1bbb", root=root).out == f"{root}/{SESSION}/{ROOT}.jsonl\n"
    assert run("path", "-", stdin=Path(root, SESSION, f"{ROOT}.jsonl").read_bytes(), root=root).code == 3


# ── codes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_codes_say_what_happened(own: Path) -> None:
    """They are promised to scripts."""
    store = sl.FsStore(own)
    other = store.segment_path(OTHER, OPEN)
    other.write_bytes(b"[" + other.read_bytes())
    strange = store.segment_path(ODD, STRANGE)
    strange.write_bytes(strange.read_bytes().replace(b'"v":1', b'"v":2', 1))

    codes = {
        "": 2,
        "nothing": 2,
        "ls": 0,
        "ls --status nothing": 1,
        "ls --nothing": 2,
        "cat": 2,
        "cat nothing": 3,
        f"cat {ROOT}:99": 3,
        f"cat {ROOT}@99": 3,
        "cat aa": 3,
        "cat 0199c7": 2,
        "ls @last --since yesterday": 2,
        f"cat --resolve {OPEN}": 5,
        f"cat --resolve {STRANGE}": 7,
        f"cat {SESSION} {OTHER}": 0,
    }
    assert {args: run(*args.split(), root=own).code for args in codes} == codes


def test_ambiguity_has_a_code_and_lists(own: Path) -> None:
    said = run("path", "bbb", root=own)
    assert said.code == 3  # three digits are not enough
    set_facts(sl.FsStore(own), OTHER, title="the folder")
    said = run("path", "The Folder", root=own)
    assert (said.code, said.out) == (4, "")
    assert SESSION in said.err
    assert OTHER in said.err


def test_a_closed_pipe_is_no_error(root: Path, tmp_path: Path) -> None:
    with sl.FsStore(tmp_path, durability="process") as store, sl.SegmentWriter.create(store) as writer:
        writer.append_entries([sl.Invoke(ts=1, trigger="x" * 1000)] * 1000)
    environment = {**os.environ, "SESSION_LOG_ROOT": str(tmp_path)}
    with subprocess.Popen(
        command("cat", "@last"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


def test_ctrl_c_is_130_without_a_word() -> None:
    with subprocess.Popen(interruptible("cat", "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"{")
        process.stdin.flush()
        while not reads(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()

    assert (process.returncode, said) == (130, b"")


# ── hostile text ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_control_characters_of_logs_are_escaped(root: Path) -> None:
    """F28: a log cannot move the cursor of who reads it; ``--raw`` is the reader's own wish."""
    said = run("ls", "--color", "never", root=root)

    assert "\x1b" not in said.out
    assert "\\x1b[31mred\\x1b[0m \\x07\\x9b2J" in said.out
    assert not set(ESCAPES) & {"\x1b", "\x07", "\x9b", "\u202e", "\u2028"} & set(said.out)


def test_colour_is_as_asked_and_as_the_environment_says(root: Path) -> None:
    def coloured(*args: str, **env: str) -> bool:
        return "\x1b[" in run("ls", *args, root=root, env=env).out

    assert not coloured()
    assert coloured("--color", "always")
    assert coloured(FORCE_COLOR="1")
    assert not coloured(FORCE_COLOR="1", NO_COLOR="1")
    assert coloured("--color", "always", NO_COLOR="1")
    assert not coloured("--color", "never", FORCE_COLOR="1")
