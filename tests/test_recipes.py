"""Recipes: what RECIPES.md says to type is typed, and prints what it says, where the tool is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import session_log as sl
from commands import ROOT, SESSION, sample

PACKAGE = Path(sl.__file__).parent
RECIPES = PACKAGE / "RECIPES.md"
BLOCK = re.compile(r"^## (?P<tool>\w+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = {"DuckDB": "duckdb", "polars": "polars"}


class Recipe(NamedTuple):
    """A block to run, and what it prints."""

    language: str
    text: str
    printed: str


def recipes() -> dict[str, list[Recipe]]:
    """Return the recipes of each tool, in their order: a later one may need what an earlier one wrote."""
    found: dict[str, list[Recipe]] = {}
    for block in BLOCK.finditer(RECIPES.read_text(encoding="utf-8")):
        if block["tool"]:
            steps: list[Recipe] = []
            found[block["tool"]] = steps
        elif block["language"] == "text":
            steps[-1] = steps[-1]._replace(printed=block["text"])
        else:
            steps.append(Recipe(block["language"], block["text"], ""))
    return found


def need(tool: str) -> None:
    """Skip, unless the tool is there."""
    if tool in MODULES:
        if importlib.util.find_spec(MODULES[tool]) is None:
            pytest.skip(f"the module {MODULES[tool]} is not installed")
    elif shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The folder that holds the root ``sessions``; the command is in ``bin``."""
    sample(tmp_path / "sessions")
    command = tmp_path / "bin" / "session-log"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m session_log.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (command.parent / "python").symlink_to(sys.executable)
    return tmp_path


def run(beside: Path, recipe: Recipe) -> str:
    environment = {
        **os.environ,
        "SESSION_LOG_ROOT": "sessions",
        "HOME": str(beside),
        "XDG_CONFIG_HOME": str(beside),
        "TZ": "UTC",
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path]),
        "PATH": os.pathsep.join([str(beside / "bin"), os.environ["PATH"]]),
    }
    arguments = ["bash", "-c", recipe.text] if recipe.language == "sh" else [sys.executable, "-c", recipe.text]
    done = subprocess.run(arguments, cwd=beside, env=environment, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def plain(text: str) -> list[str]:
    """Return the lines without the spaces at their ends, which tables have."""
    return [line.rstrip() for line in text.rstrip().split("\n")]


@pytest.mark.parametrize("tool", recipes())
def test_what_a_recipe_prints_is_what_is_said_there(tool: str, beside: Path) -> None:
    need(tool)

    for recipe in recipes()[tool]:
        printed = run(beside, recipe)
        if recipe.printed:
            assert plain(printed) == plain(recipe.printed)


def test_there_are_recipes_for_every_tool() -> None:
    found = recipes()

    assert list(found) == ["rg", "jq", "lnav", "DuckDB", "polars"]
    assert all(any(step.printed for step in steps) for steps in found.values())


def test_no_recipe_writes_to_the_root(beside: Path) -> None:
    before = {path: path.read_bytes() for path in (beside / "sessions").rglob("*") if path.is_file()}

    for tool, steps in recipes().items():
        if tool not in MODULES and shutil.which(tool):
            for recipe in steps:
                run(beside, recipe)

    assert {path: path.read_bytes() for path in (beside / "sessions").rglob("*") if path.is_file()} == before


LOADED = {
    "jq": ("sh", "jq -s 'map(.entry | type) | group_by(.) | map(length) | tostring' -r lines.jsonl", "[5,18]"),
    "DuckDB": (
        "python",
        """
import duckdb
columns = "columns = {line: 'BIGINT', entry: 'JSON', text: 'VARCHAR'}"
lines = f"read_json('lines.jsonl', format = 'newline_delimited', {columns})"
print(duckdb.sql(f"SELECT count(text), count(entry->>'kind') FROM {lines}").fetchall())
""",
        "[(5, 17)]",
    ),
    "polars": (
        "python",
        """
import polars as pl
schema = {"line": pl.Int64, "text": pl.String, "entry": pl.Struct({"kind": pl.String})}
found = pl.read_ndjson("lines.jsonl", schema=schema)
print(found.height, found["text"].drop_nulls().len())
""",
        "23 5",
    ),
}


@pytest.mark.parametrize("tool", LOADED)
def test_lines_that_are_none_are_loaded_too(tool: str, beside: Path) -> None:
    """Damaged, blank, no object: what ``cat --with-source`` prints has one shape, whatever is in the file."""
    need(tool)
    path = sl.FsStore(beside / "sessions").segment_path(SESSION, ROOT)
    damaged = b'no entry\n   \n[1,"x"]\n"text"\n5\n{"kind":5}\n{"ts":' + b"9" * 30 + b'}\r\n{"kind":"torn'
    path.write_bytes(path.read_bytes() + damaged)
    to_file = Recipe("sh", "session-log cat b1bbb --with-source > lines.jsonl", "")
    language, text, loaded = LOADED[tool]

    run(beside, to_file)

    assert run(beside, Recipe(language, text, "")).strip() == loaded


# ── the format for lnav ────────────────────────────────────────────────────────────────────────────────────────────


def test_lnav_shows_what_was_said(beside: Path) -> None:
    need("lnav")
    run(beside, recipes()["lnav"][0])
    segment = sl.FsStore(beside / "sessions").segment_path(SESSION, ROOT)

    shown = run(beside, Recipe("sh", f"lnav -n {shlex.quote(str(segment))}", "")).splitlines()

    assert [" ".join(line.split()) for line in shown[:6]] == [
        "2025-10-09T08:53:20.000 segment_start",
        "2025-10-09T08:53:21.000 invoke user_send",
        "2025-10-09T08:53:22.000 user_input What is in the folder?",
        "2025-10-09T08:53:23.000 assistant_item I look first.",
        '2025-10-09T08:53:24.000 assistant_item shell {"command":"ls -l"}',
        "2025-10-09T08:53:25.000 tool_result 2 files",
    ]


def test_the_format_for_lnav_knows_every_kind() -> None:
    """A kind without a level would be shown as unknown; and only segments are of the format."""
    (_, found) = json.loads((PACKAGE / "lnav" / "session_log.json").read_text(encoding="utf-8")).values()

    kinds = {str(kind.__struct_config__.tag) for kind in sl.LogEntry.__args__ if kind is not sl.UnknownEntry}
    levels = [re.compile(pattern) for pattern in found["level"].values()]
    assert {kind for kind in kinds if sum(bool(level.search(kind)) for level in levels) != 1} == set()
    path = f"/root/{SESSION}/{ROOT}.jsonl"
    assert re.search(found["file-pattern"], path)
    assert not re.search(found["file-pattern"], path.replace(".jsonl", ".trace.jsonl"))
    assert not re.search(found["file-pattern"], f"/root/{SESSION}/session.jsonl")
    shown = [part["field"] for part in found["line-format"] if isinstance(part, dict)]
    assert set(shown) - {"__timestamp__"} <= set(found["value"])
