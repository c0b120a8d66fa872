"""Every example in the help of every command runs, and every option of every command is in one of them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from commands import SESSION, sample
from session_log.cli._app import COMMANDS, group
from session_log.cli._exits import Exit

COMMON = {"--root", "--help"}
"""What every command has; ``ls`` shows the rest of it."""
MISSING = {"jq": "jq", "timeout": "coreutils"}
"""Programs that examples use, and the package they are in."""


def commands() -> dict[str, click.Command]:
    context = click.Context(group)
    return {name: found for name in COMMANDS if (found := group.get_command(context, name)) is not None}


def examples(command: click.Command) -> list[str]:
    assert command.epilog is not None
    return [line.strip() for line in command.epilog.partition("Examples:\n")[2].splitlines()]


EXAMPLES = [(name, line) for name, command in commands().items() for line in examples(command)]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which ``session-log`` is the one of this source."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "session-log"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m session_log.cli "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_an_example_runs(name: str, line: str, shim: str, tmp_path: Path) -> None:
    """It may find nothing; it is no wrong call, and nothing goes wrong."""
    for program, package in MISSING.items():
        if re.search(rf"\b{program}\b", line) and not any(
            os.access(Path(folder, program), os.X_OK) for folder in shim.split(os.pathsep)
        ):
            pytest.skip(f"needs {program} (package {package})")
    root, work, home = sample(tmp_path / "root"), tmp_path / "work", tmp_path / "home"
    work.mkdir()
    (home / ".local/share/bash-completion/completions").mkdir(parents=True)
    (work / "prices.json").write_text('{"model-a": {"input": 3, "output": 15}}')

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=work,
        env={**os.environ, "PATH": shim, "SESSION_LOG_ROOT": str(root), "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "Traceback" not in done.stderr
    assert "Usage:" not in done.stderr
    assert done.returncode in (Exit.YES, Exit.NO, 124), f"{name}: {done.stdout}{done.stderr}"  # 124: by timeout
    assert (root / SESSION).is_dir() or name in ("rm", "prune")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_an_example(name: str) -> None:
    command = commands()[name]
    words = {word.split("=")[0] for line in examples(command) for word in shlex.split(line, comments=False)}
    words |= COMMON | ({"--color", "--full-ids"} if name != "ls" else set())

    missing = [
        option.opts
        for option in command.get_params(click.Context(command))
        if isinstance(option, click.Option) and not {*option.opts, *option.secondary_opts} & words
    ]

    assert missing == []
