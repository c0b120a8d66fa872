"""The objects that ``--json`` prints: their names and types, written down. Names are added, never taken away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import run, sample

GOLDEN = Path(__file__).parent / "golden" / "cli" / "json.json"
LINES = (
    "ls --json",
    "ls a1aa --json",
    "tree a1aa --json",
    "show b1bbb --json",
    "tail b1bbb --json",
    "cat b1bbb --with-source",
    "grep . --json",
    "grep -c . --json",
    "state b1bbb --json",
    "state b1bbb --history",
    "fork b1bbb@1 --json",
)
FOREIGN = {"entry", "history", "extensions", "user_segments", "pod_scope", "config", "usage_history"}
"""What has a schema of its own: that of the lines."""


def shape(value: Any) -> Any:
    """Return the types of a value; objects by name."""
    match value:
        case dict():
            return {name: "…" if name in FOREIGN else shape(inner) for name, inner in sorted(value.items())}
        case list():
            return [] if not value else [shape(value[0])]
        case _:
            return "null" if value is None else type(value).__name__


def shapes(line: str, root: Path) -> dict[str, Any]:
    """Return for each name the types that it has in what a command prints."""
    said = run(*line.split(), root=root)
    assert (said.code, said.err) == (0, "")
    found: dict[str, list[Any]] = {}
    objects = [json.loads(row) for row in said.out.splitlines()]
    assert objects
    if line != "state b1bbb --history":  # items of several kinds
        assert len({tuple(one) for one in objects}) == 1, "all objects of a command have the same names, in one order"
    for one in objects:
        assert next(iter(one.items())) == ("v", 1)
        for name, kind in shape(one).items():
            if kind not in found.setdefault(name, []):
                found[name].append(kind)
    return {name: sorted(kinds, key=json.dumps) for name, kinds in found.items()}


@pytest.mark.parametrize("line", LINES)
def test_objects_have_the_names_and_types_they_always_had(line: str, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[line]

    found = shapes(line, sample(tmp_path))

    assert {name: found.get(name) for name in golden} == golden
    assert set(found) == set(golden), "a new name belongs into the golden file, too"
