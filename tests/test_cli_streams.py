"""Where a command prints to, what it is refused, and what it loads: streams, permissions, modules."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from commands import FORK, ODD, OPEN, OTHER, ROOT, SESSION, Ran, command, run, sample
from session_log.cli._app import COMMANDS

UNPRIVILEGED = """
import importlib, os, sys
import difflib, encodings.unicode_escape, platformdirs, uuid6
from session_log.cli import _app, _completion
import session_log._unnamed
for module, _ in _app.COMMANDS.values():
    importlib.import_module("session_log.cli." + module)
if os.geteuid() == 0:
    os.setgroups([]), os.setegid(65534), os.seteuid(65534)
sys.exit(_app.run(sys.argv[1:]))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A sample that anybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        made = sample(Path(folder) / "root")
        for path in (Path(folder), *made.parent.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield made


def unprivileged(*args: str, root: Path) -> Ran:
    """Run the command as somebody who may not read everything."""
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, *args],
        capture_output=True,
        env={**os.environ, "SESSION_LOG_ROOT": str(root)},
        text=True,
        timeout=240,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "line", ["ls", "show b1bbb", "cat b1bbb", "grep redis", "--help", "export b1bbb", "tree --json"]
)
def test_a_full_disk_behind_standard_output_is_said(line: str, root: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("--root", root, *line.split()), stdout=full, stderr=subprocess.PIPE, timeout=240, check=False
        )

    assert (done.returncode, done.stderr) == (8, b"session-log: standard output: No space left on device\n")


@pytest.mark.parametrize("line", ["ls", "cat b1bbb", "completion bash", "--help"])
def test_streams_may_be_closed(line: str, root: Path) -> None:
    shell = '"$@" >&- <&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command("--root", root, *line.split())],
        capture_output=True,
        timeout=240,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_that_cannot_be_written_is_named(root: Path) -> None:
    said = run("export", "b1bbb", "-o", "/proc/nothing/x.jsonl", root=root)

    assert said.code == 8
    assert "/proc/nothing" in said.err


def test_a_session_that_cannot_be_read_hides_no_other(root: Path) -> None:
    (root / SESSION).chmod(0)

    listed = unprivileged("ls", root=root)
    assert [row.split()[0] for row in listed.out.splitlines()] == ["00000000a3aa", "00000000a2aa", "00000000a1aa"]
    assert "damaged" in listed.out.splitlines()[-1]
    assert "Permission denied" in listed.err
    assert unprivileged("cat", "c1ccc", root=root).out.count("\n") == 5
    assert unprivileged("cat", "b1bbb", root=root).code == 8
    (root / SESSION).chmod(0o755)
    (root / ODD).chmod(0)  # listed first
    assert unprivileged("cat", "c1ccc", root=root).out.count("\n") == 5
    (root / ODD).chmod(0o755)
    (root / SESSION).chmod(0)
    assert unprivileged("tree", root=root).code == 8
    assert "00000000a3aa" in unprivileged("tree", root=root).out
    assert unprivileged("grep", "red", root=root).code == 0
    unsure = unprivileged("grep", "redis", root=root)
    assert (unsure.code, unsure.out) == (8, "")
    assert "not searched: " in unsure.err


def test_a_segment_that_cannot_be_read_is_refused(root: Path) -> None:
    (root / SESSION / f"{ROOT}.jsonl").chmod(0)

    for line in ("cat b1bbb", "show b1bbb", "tail b1bbb", "state b2bbb", "export b2bbb", "fork b2bbb", "grep redis"):
        assert unprivileged(*line.split(), root=root).code == 8, line


def test_a_root_that_cannot_be_read_or_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no root")

    for line in ("ls", "tree", "grep x", "cat @last", "tail @last"):
        assert run(*line.split(), root=file).code == 8, line
    assert [run(*line.split(), root=tmp_path / "no").code for line in ("ls", "tree", "grep x", "cat @last")] == [
        1,
        0,
        1,
        3,
    ]


def test_a_damaged_or_newer_segment_hides_no_other(root: Path) -> None:
    first = sl.FsStore(root).segment_path(OTHER, OPEN)
    first.write_bytes(b"[" + first.read_bytes())
    newer = sl.FsStore(root).segment_path(SESSION, FORK)
    newer.write_bytes(newer.read_bytes().replace(b'"v":1', b'"v":2', 1))

    assert run("grep", "redis", root=root).out == "0000000b1bbb:12: Try redis?\n"
    assert run("grep", "nothing of the kind", root=root).code == 7
    assert run("ls", root=root).out.count("\n") == 3
    assert "upgrade session_log" in run("ls", "a1aa", root=root).err


def test_help_is_a_word_too(root: Path) -> None:
    assert run("help", root=root) == run("--help", root=root)
    assert run("help", "ls", root=root) == run("ls", "--help", root=root)
    assert "Did you mean 'ls'?" in run("help", "lss", root=root).err


SLOW = ("rich", "asyncio", "multiprocessing", "statistics", "session_log.importers", "session_log.trash", "uuid6",
        "session_log.verify", "session_log.redaction", "difflib", "session_log.cli._completion")  # fmt: skip


@pytest.mark.parametrize("line", ["path b1bbb", "cat b1bbb", "tail b1bbb", "grep redis"])
def test_what_is_called_often_loads_little(line: str, root: Path) -> None:
    """What starts in a tenth of a second does so because it loads neither rich nor what it does not use."""
    listing = (
        "import sys; before = set(sys.modules)\n"  # (who measures coverage has loaded some already)
        "from session_log.cli._app import run; run(sys.argv[1:]); print(*set(sys.modules) - before, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing, "--root", str(root), *line.split()],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    loaded = set(done.stderr.split())

    assert "session_log.addresses" in loaded
    assert loaded & set(SLOW) == set()
    others = {
        f"session_log.cli.{module}" for name, (module, _) in COMMANDS.items() if name != line.split(maxsplit=1)[0]
    }
    assert loaded & others == set()
