"""Completion: commands, options, ids and titles, in the words of each shell."""

from __future__ import annotations

from pathlib import Path

import pytest

import session_log as sl
from commands import run, sample


def completed(line: str, root: Path) -> list[str]:
    """Return what bash is told for a line, of which the last word is to be completed."""
    words = line.split(" ")
    environment = {
        "_SESSION_LOG_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    said = run(root=root, env=environment)
    assert said.err == ""
    return [row.partition(",")[2] for row in said.out.splitlines()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample(tmp_path_factory.mktemp("root"))


def test_commands_and_options_are_completed(root: Path) -> None:
    assert completed("session-log s", root)[:1] == ["show"]
    assert "--full-ids" in completed("session-log ls --f", root)
    assert completed("session-log completion ", root) == ["bash", "zsh", "fish"]


def test_ids_and_titles_are_completed_newest_first(root: Path) -> None:
    found = completed("session-log show ", root)

    assert found[0] == "@last"
    assert [one for one in found if one.startswith("0000")] == ["00000000a3aa", "00000000a2aa", "00000000a1aa"]
    assert completed("session-log show The", root) == ["The folder"]
    assert not any("\x1b" in one for one in found)


def test_the_root_of_the_line_is_the_one_that_is_looked_into(root: Path, tmp_path: Path) -> None:
    sl.create_segment(sl.FsStore(tmp_path))

    assert len(completed(f"session-log show --root {tmp_path} ", root)) == 2
    assert len(completed(f"session-log --root {tmp_path} show ", root)) == 2
    assert completed(f"session-log --root {tmp_path}/nothing show ", root) == ["@last"]


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "function")])
def test_a_script_for_each_shell(shell: str, sign: str, root: Path) -> None:
    said = run("completion", shell, root=root)

    assert said.code == 0
    assert sign in said.out
    assert "session-log" in said.out
