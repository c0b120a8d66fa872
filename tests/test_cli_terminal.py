"""The command on a terminal: colour, width, a pager for what is long, questions before something is changed."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

import session_log as sl
from commands import OPEN, OTHER, SESSION, command, reads, sample

TYPED = Callable[[bytes], bytes | None]


def on_terminal(
    *args: str,
    root: Path,
    columns: int = 80,
    rows: int = 40,
    answer: TYPED | None = None,
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run the command on a terminal of this size; ``answer`` sees what was printed, and says what is typed."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "SESSION_LOG_ROOT": str(root), "TERM": "xterm", "PAGER": "cat", **(env or {})}
    environment.pop("COLUMNS", None)

    def in_the_foreground() -> None:
        """Be what Ctrl-C on this terminal is for; a job in the background inherits that it is ignored."""
        ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command(*args),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
        preexec_fn=in_the_foreground,  # noqa: PLW1509  no thread is at work here
    ) as process:
        os.close(follower)
        seen = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                part = os.read(leader, 1 << 16)
            except OSError:  # nobody holds the other end any more
                break
            if not part:
                break
            seen += part
            if answer is not None and (typed := answer(seen)) is not None:
                while not reads(process.pid):  # what interrupts it just before is noticed with the next key only
                    assert process.poll() is None
                os.write(leader, typed)
                answer = None
        else:
            process.send_signal(signal.SIGKILL)
        os.close(leader)
    return process.returncode, seen.decode().replace("\r\n", "\n")


def waits(pid: int) -> bool:
    """Tell whether a process sleeps: it waits for what is typed."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path)


def test_there_is_colour_on_a_terminal_but_not_on_a_dumb_one(root: Path) -> None:
    assert "\x1b[33m" in on_terminal("ls", root=root)[1]
    assert "\x1b[" not in on_terminal("ls", root=root, env={"TERM": "dumb"})[1]
    assert "\x1b[33m" not in on_terminal("ls", root=root, env={"NO_COLOR": "1"})[1]
    assert "\x1b[33m" not in on_terminal("ls", "--json", root=root)[1]


def test_a_log_cannot_move_the_cursor(root: Path) -> None:
    """F28: not in any command that shows text; only colours of ours are escape sequences."""
    for line in ("ls", "show a3aa", "tail a3aa", "grep red", "tree a3aa", "state a3aa", "cat a3aa"):
        code, seen = on_terminal(*line.split(), root=root)
        assert code == 0
        assert re.findall(r"\x1b(?!\[[0-9;]*m)", seen) == [], line
        assert not set(seen) & set("\x07\x9b\u202e\u2028"), line


def test_long_output_goes_through_the_pager(root: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged\ncat\n")
    pager.chmod(0o755)

    assert on_terminal("show", "b1bbb", root=root, env={"PAGER": str(pager)})[1].startswith("paged\n")
    assert "paged" not in on_terminal("cat", "b1bbb", root=root, env={"PAGER": str(pager)})[1]


def test_lines_are_cut_to_the_width_of_the_terminal(root: Path) -> None:
    sl.save_user_input(sl.FsStore(root), OTHER, OPEN, "wörd " * 100)

    _, seen = on_terminal("tail", "c1ccc", "-n", "1", root=root, columns=50)

    (line,) = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", seen).split("\n") if line]
    assert len(line) == 50
    assert line.endswith("…")


def test_a_command_that_writes_asks_first(root: Path) -> None:
    def answered(word: bytes) -> TYPED:
        return lambda seen: word + b"\n" if b"?" in seen else None

    store = sl.FsStore(root)
    before = store.list_segments(SESSION)

    code, seen = on_terminal("fork", "b1bbb@1", root=root, answer=answered(b"n"))
    assert (code, store.list_segments(SESSION)) == (1, before)
    assert "Fork 0000000b1bbb@1? [y/N]" in seen
    assert on_terminal("fork", "b1bbb@1", root=root, answer=answered(b"y"))[0] == 0
    assert len(store.list_segments(SESSION)) == len(before) + 1
    assert on_terminal("fork", "b1bbb@1", "-y", root=root)[0] == 0
    code, seen = on_terminal("fork", "b1bbb@1", root=root, answer=lambda seen: b"\x03" if b"?" in seen else None)
    assert code == 130
    assert len(store.list_segments(SESSION)) == len(before) + 2


def test_markdown_is_rendered_on_a_terminal(root: Path) -> None:
    sl.save_delta(sl.FsStore(root), OTHER, OPEN, [sl.Message.assistant("# Heading\n\n* one\n* **two**\n\n\x1b[2J")])

    _, seen = on_terminal("show", "c1ccc", root=root)

    assert "# Heading" not in seen
    assert "• one" in re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert "\x1b[2J" not in seen
    assert "\\x1b[2J" in seen
