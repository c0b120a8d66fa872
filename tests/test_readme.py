"""Words are executed: the README, the docstrings and the examples do what they say."""

import doctest
import importlib
import os
import pkgutil
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import session_log

CHECKOUT = Path(__file__).parents[1]
README = CHECKOUT / "README.md"
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))
PAGES = sorted(path for folder in (CHECKOUT, CHECKOUT / "session_log") for path in folder.glob("*.md"))

Run = Callable[[Sequence[str | Path], Path], str]


class Fence(NamedTuple):
    """A fenced block of a Markdown page; ``mark`` is the HTML comment directly above it."""

    mark: str
    language: str
    line: int
    text: str


def fences(page: Path) -> Iterator[Fence]:
    """Yield the fenced blocks of a page."""
    lines = page.read_text(encoding="utf-8").split("\n")
    opened: int | None = None
    for at, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = at
            continue
        comment = re.fullmatch(r"<!-- (.*) -->", lines[opened - 1].strip()) if opened else None
        text = "\n".join(lines[opened + 1 : at]) + "\n"
        yield Fence(comment[1] if comment else "", lines[opened].strip("` "), opened + 1, text)
        opened = None


def first_line(command: str, cwd: Path) -> str:
    """Start a command that never ends by itself, at a terminal (so that it prints at once); end it after a line."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(["bash", "-c", command], cwd=cwd, stdout=theirs, start_new_session=True)
    os.close(theirs)
    try:
        assert select.select([ours], [], [], 60)[0], f"nothing printed in a minute: {command}"
        with open(ours, "rb", buffering=0, closefd=False) as terminal:
            return terminal.readline().decode()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


@pytest.fixture
def recorded_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the default root of a user who has recorded one turn and set nothing (the one of Linux, anywhere)."""
    root = tmp_path / ".local" / "share" / "session-log" / "sessions"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SESSION_LOG_ROOT", str(root))
    with session_log.FsStore() as store, session_log.SegmentWriter.create(store) as writer:
        writer.save_invoke("user_send")
        writer.save_user_input("How many lines has notes.txt?")
        call = session_log.ToolCall(call_id="call_1", name="run_command", arguments='{"command": "wc -l notes.txt"}')
        writer.save_delta([call, session_log.ToolResult(call_id="call_1", summary="3 notes.txt")])
        writer.save_delta([session_log.Message.assistant("Three.")])
        writer.save_turn_end()
        writer.save_run_completed()
    return root


@pytest.mark.parametrize("mark", ["main command", "test command"])
def test_the_readme_shows_two_commands(mark: str) -> None:
    """What a newcomer runs first, and the tests: each is one line, in one block that CI finds by its mark."""
    assert [block.text.count("\n") for block in fences(README) if block.mark == mark] == [1]


def test_the_python_of_the_readme_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's Python blocks, run from top to bottom as one session, print what stands below them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_LOG_ROOT", str(tmp_path / "root"))
    source = ""
    for block in fences(README):
        if block.language in {"python", "pycon"}:
            source += "\n" * (block.line - source.count("\n")) + block.text

    test = doctest.DocTestParser().get_doctest(source, {}, README.name, str(README), 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)

    assert len(test.examples) >= 8
    assert result.failed == 0


def test_the_shell_lines_of_the_readme_work(recorded_root: Path, run: Run) -> None:
    """Each block marked `run` succeeds inside a root that holds a session; one that follows prints a line."""
    for block in fences(README):
        if block.mark == "run":
            if re.search(r"\btail\b.* -\w*[fF]", block.text):
                assert first_line(block.text, recorded_root).strip(), f"README.md:{block.line} prints nothing"
            else:
                assert run(["bash", "-euo", "pipefail", "-c", block.text], recorded_root)


@pytest.mark.slow
@pytest.mark.usefixtures("package_index")
def test_the_main_command_works_in_a_copy_of_the_project(run: Run, tmp_path: Path) -> None:
    """The command that a newcomer runs first works in a fresh copy, with no environment prepared."""
    (command,) = (block.text for block in fences(README) if block.mark == "main command")
    copy = tmp_path / "project"
    shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__"))

    assert run(["bash", "-euo", "pipefail", "-c", command], copy)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file names a file of the project; one to a heading names a heading of its page."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    headings = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"(?m)^#+ (.*)$", text)}

    for target in (target for target in targets if not re.match(r"[a-z]+:", target)):
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve()
        assert linked.exists(), f"{page.name} links to {target!r}, which is not there"
        assert linked.is_relative_to(CHECKOUT), f"{page.name} links to {target!r}, outside the project"
        assert name or heading in headings, f"{page.name} has no heading {target!r}"


@pytest.mark.parametrize(
    "name", ["session_log", *(module.name for module in pkgutil.walk_packages(session_log.__path__, "session_log."))]
)
def test_docstrings_do_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example in a docstring of the library prints what stands below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_LOG_ROOT", str(tmp_path / "root"))

    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example: Path, run: Run, tmp_path: Path) -> None:
    """Each file of `examples/` does its work, with no variable set and no network, and tells about it."""
    assert run([sys.executable, example], tmp_path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_fits_on_a_screen(example: Path) -> None:
    """An example has 50 lines at most; the worker is a small program of its own."""
    assert example.name == "worker.py" or len(example.read_text(encoding="utf-8").splitlines()) <= 50


def test_there_are_examples() -> None:
    """The worker is there, and one short example for each thing a newcomer wants to do."""
    assert "worker.py" in {example.name for example in EXAMPLES}
    assert len(EXAMPLES) >= 6
