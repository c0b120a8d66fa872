"""``state``: what a restore gives, at any place, as JSON; and what a provider is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import FORK, OPEN, OTHER, ROOT, SESSION, run, sample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path)


def test_it_is_what_a_restore_gives(root: Path) -> None:
    state = sl.restore(sl.FsStore(root), SESSION, FORK)

    pretty, compact = run("state", FORK, root=root), run("state", FORK, "--json", root=root)

    found = json.loads(compact.out)
    assert json.loads(pretty.out) == {key: value for key, value in found.items() if key != "v"}
    assert (found["v"], found["turn_count"], len(found["history"])) == (1, 2, len(state.history))
    assert (pretty.code, pretty.err) == (0, "")


@pytest.mark.parametrize("place", [["--at", "@1"], ["--at", "7"], []])
def test_a_place_may_be_before_the_end(root: Path, place: list[str]) -> None:
    ref = f"{ROOT}@1" if not place else ROOT
    turn, entries = (None, 7) if "7" in place else (1, None)
    wanted = sl.restore(sl.FsStore(root), SESSION, ROOT, at_turn=turn, at_entries=entries)

    lines = run("state", ref, "--history", *place, root=root).out.splitlines()

    assert len(lines) == len(wanted.history)
    assert {json.loads(line)["v"] for line in lines} == {1}


def test_messages_are_ready_to_send(root: Path) -> None:
    """An interrupted call is answered; what has no place is said on standard error."""
    said = run("state", OPEN, "--messages", "openai", root=root)
    messages = json.loads(said.out)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert "1 reasoning" in said.err

    sent = json.loads(run("state", ROOT, "--messages", "anthropic", root=root).out)
    assert sent["system"] == "You are terse."
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant"] * 3


@pytest.mark.parametrize(("at", "code"), [("x", 2), ("@99", 3), ("99", 3), ("0", 3)])
def test_a_place_that_is_none_is_refused(root: Path, at: str, code: int) -> None:
    assert run("state", ROOT, "--at", at, root=root).code == code


def test_damage_is_an_error_or_is_skipped_and_said(root: Path) -> None:
    path = sl.FsStore(root).segment_path(OTHER, OPEN)
    path.write_bytes(path.read_bytes() + b"no entry\n" + b'{"kind":"invoke","ts":1,"trigger":"x"}\n')

    refused, salvaged = run("state", OPEN, root=root), run("state", OPEN, "--salvage", "--json", root=root)

    assert (refused.code, refused.out) == (5, "")
    assert ":6 (byte" in refused.err
    assert salvaged.code == 5
    assert json.loads(salvaged.out)["damage"][0]["line"] == 6
