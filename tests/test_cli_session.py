"""The session in the README: what these commands print is what they print there, but for ids and times."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import session_log as sl
from commands import ODD, OPEN, OTHER, interruptible, run, sample

SESSION_TEXT = Path(__file__).parent / "golden" / "cli" / "session.txt"
README = Path(__file__).parents[1] / "README.md"
UTC = {"TZ": "UTC"}


def normalised(text: str) -> str:
    """Return a text without ids, times of day, and how long ago."""
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\b\d\d:\d\d:\d\d\b", "TIME", text)
    return re.sub(r"\b[0-9a-f]{12} +\d+[smhdy]\b", "ID AGE", re.sub(r"(?m)(?<=[└├]─ )[0-9a-f]{12}\b", "ID", text))


def work(root: Path) -> None:
    """Do what a worker does that goes on with an interrupted turn."""
    with sl.SegmentWriter.resume(sl.FsStore(root), OTHER, OPEN) as writer:
        writer.save_delta(
            [sl.ToolCall("call-9", "shell", '{"command":"pytest -q"}'), sl.ToolResult("call-9", "3 passed")]
        )
        writer.save_delta([sl.Message.assistant("All tests pass.")])
        writer.save_turn_end()
        writer.save_run_completed("finished")


def followed(words: list[str], root: Path, meanwhile: Callable[[Path], None], *, lines: int) -> str:
    """Return what a command prints that follows, up to so many lines and Ctrl-C."""
    environment = {**os.environ, **UTC, "SESSION_LOG_ROOT": str(root)}
    with subprocess.Popen(interruptible(*words), stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        seen = process.stdout.readline()  # from here on it follows
        meanwhile(root)
        seen += "".join(process.stdout.readline() for _ in range(lines - 1))
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 130
    return seen + "^C\n"


def recorded(root: Path) -> str:
    """Return the session as somebody types it."""
    shutil.rmtree(sample(root) / ODD)
    text = ""
    for line in (
        "ls",
        "tree 'The folder'",
        "tail -f -n 1 @last",
        "grep -i -C 1 redis",
        "fork b1bbb@1 --title 'The folder, once more'",
        "tree a1aa",
        "show b1bbb@1 --tool shell",
    ):
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", line)]
        if "-f" in words:
            said = followed(words, root, work, lines=6)
        else:
            done = run(*words, root=root, env=UTC)
            assert (done.code, done.err) == (0, "")
            said = done.out
        text += f"$ session-log {line}\n{said}\n"
    return text


def test_the_session_is_what_the_commands_print(tmp_path: Path) -> None:
    """``python -c`` with ``recorded()`` writes it anew."""
    assert normalised(recorded(tmp_path)) == normalised(SESSION_TEXT.read_text(encoding="utf-8"))


def test_the_readme_shows_the_session() -> None:
    assert SESSION_TEXT.read_text(encoding="utf-8").strip() in README.read_text(encoding="utf-8")


def test_normalising_leaves_what_counts() -> None:
    text = "└─ 0000000b2bbb @1 fork 2 turns"

    assert normalised(text) == "└─ ID @1 fork 2 turns"
    assert normalised("08:53:24 5 call shell") == "TIME 5 call shell"
    assert normalised("0000000b2bbb:12: redis") == "0000000b2bbb:12: redis"
