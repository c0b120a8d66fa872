"""``tree`` and ``fork``: the tree as it is drawn, and new branches in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import FORK, ODD, OPEN, OTHER, ROOT, SESSION, run, sample
from session_log.facts import active_segment, read_facts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path)


DRAWN = """\
0000000b1bbb "What is in the folder?" 2 turns
├─ 0000000b2bbb @1 fork "Try postgres?" 2 turns
└╌ 0000000b3bbb @2 compaction 2 turns ← active
"""


def test_a_tree_is_drawn(root: Path) -> None:
    said = run("tree", "a1aa", root=root)

    assert (said.code, said.out, said.err) == (0, DRAWN, "")


def test_a_deep_tree_keeps_its_lines(root: Path) -> None:
    store = sl.FsStore(root)
    child = sl.fork_at(store, SESSION, FORK, 1)
    sl.fork_at(store, SESSION, child, 1)

    lines = run("tree", "a1aa", root=root).out.splitlines()

    drawn = [line.partition(" @")[0].rpartition(" ")[0] for line in lines]
    assert drawn[1:] == ["├─", "│  └─", "│     └─", "└╌"]


def test_a_missing_parent_is_marked(root: Path) -> None:
    sl.FsStore(root).segment_path(SESSION, ROOT).unlink()

    said = run("tree", "a1aa", root=root)

    assert "0000000b2bbb @1 fork of 0000000b1bbb, which is missing" in said.out
    assert said.code == 5


def test_without_a_name_all_are_drawn(root: Path) -> None:
    said = run("tree", root=root)

    assert [line for line in said.out.splitlines() if line.startswith("00000000a")] == [
        "00000000a3aa  \\x1b[31mred\\x1b[0m \\x07\\x9b2J \\u202ea",
        "00000000a2aa",
        "00000000a1aa  The folder",
    ]
    assert '"Go on" 0 turns run open ← active' in said.out


def test_a_tree_is_a_graph_and_json(root: Path) -> None:
    graph = run("tree", "a1aa", "--dot", root=root).out
    found = [json.loads(line) for line in run("tree", "a1aa", "--json", root=root).out.splitlines()]

    assert graph.startswith("digraph session {\n")
    assert f'  "{ROOT}" -> "{FORK}" [label="@1"];' in graph
    assert graph.count("style=dashed") == 1
    assert [(one["v"], one["branch"]["link"], one["active"]) for one in found] == [
        (1, "root", False),
        (1, "fork", False),
        (1, "compaction", True),
    ]
    assert run("tree", "--dot", root=root).code == 2


def test_a_damaged_segment_is_drawn_as_such(root: Path) -> None:
    path = sl.FsStore(root).segment_path(OTHER, OPEN)
    path.write_bytes(path.read_bytes() + b"no entry\n")

    said = run("tree", "a2aa", root=root)

    assert "? turns damaged" in said.out
    assert said.code == 5


# ── fork ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("ref", "turns"), [("b1bbb@1", 1), ("b1bbb:10", 1), ("b1bbb", 2), ("b2bbb@0", 0)])
def test_a_fork_is_a_new_segment(root: Path, ref: str, turns: int) -> None:
    said = run("fork", ref, root=root)

    store = sl.FsStore(root)
    assert said.code == 0
    assert sl.restore(store, SESSION, said.out.strip()).turn_count == turns
    assert active_segment(store, SESSION) == said.out.strip()  # the newest, as long as nobody moved the pointer


def test_a_copy_stands_alone_and_may_get_a_title(root: Path) -> None:
    said = run("fork", "b1bbb@1", "--copy", "--title", "Again", "--activate", "--json", root=root)

    store, child = sl.FsStore(root), json.loads(said.out)["segment_id"]
    (start,) = sl.read_entries(store, SESSION, child, 0, 1)
    assert isinstance(start, sl.SegmentStart)
    assert len(start.history) == 5
    facts = read_facts(store, SESSION)
    assert (facts.title, facts.active) == ("Again", {"main": child})


@pytest.mark.parametrize(("ref", "code"), [("b1bbb@9", 3), ("b1bbb:6", 3), ("b1bbb:99", 3), ("nothing", 3)])
def test_a_place_that_is_no_cut_is_refused_with_the_nearest(root: Path, ref: str, code: int) -> None:
    """Line 5 is a tool call, line 6 its result: between them nothing is cut."""
    before = sl.FsStore(root).list_segments(SESSION)
    said = run("fork", "b1bbb:5" if ref == "b1bbb:6" else ref, root=root)

    assert (said.code, said.out) == (code, "")
    assert sl.FsStore(root).list_segments(SESSION) == before


def test_a_dry_run_writes_nothing(root: Path) -> None:
    before = sorted(path for path in root.rglob("*"))
    said = run("fork", "b1bbb@1", "--dry-run", root=root)

    assert (said.code, said.out) == (0, "")
    assert "would fork 0000000b1bbb@1" in said.err
    assert sorted(path for path in root.rglob("*")) == before
    assert run("fork", "b1bbb@9", "--dry-run", root=root).code == 3
    assert ODD in {path.name for path in before}


def test_what_lies_in_no_store_is_not_forked(root: Path) -> None:
    data = sl.FsStore(root).segment_path(SESSION, ROOT).read_bytes()

    assert run("fork", "-", stdin=data, root=root).code == 2
