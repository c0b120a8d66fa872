"""Differences: what two sides have in common and alone; together they are what was there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from commands import COMPACTED, FORK, OPEN, OTHER, ROOT, SESSION, sample
from session_log.branches import compare
from session_log.differences import (
    Piece,
    Side,
    first_difference,
    read_difference,
    read_state_differences,
    state_differences,
    tally,
)
from strategies import SESSION_ID, histories, plain_payloads


def stored(entries: list[sl.LogEntry], store: sl.MemoryStore | None = None) -> Side:
    store, segment_id = store or sl.MemoryStore(), sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])
    return Side(store, SESSION_ID, segment_id)


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


def places(pieces: Any) -> list[tuple[str, int, str]]:
    return [(piece.segment_id, piece.number, piece.kind) for piece in pieces]


# ── laws ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40)
@given(histories())
def test_nothing_differs_from_itself(entries: list[sl.LogEntry]) -> None:
    """Neither by lines, nor, in a copy, by items; nor do the states."""
    side = stored(entries)
    copy = stored(entries)

    by_lines, by_items = read_difference(side, side), read_difference(side, copy)

    assert (by_lines.by, by_lines.is_same, by_lines.common) == ("lines", True, len(entries))
    assert (by_items.by, by_items.is_same) == ("items", True)
    assert by_items.common == len(sl.restore(side.store, SESSION_ID, side.segment_id).history)
    assert read_state_differences(side, copy) == ()


@settings(max_examples=40)
@given(histories(max_turns=2), histories(max_turns=2))
def test_what_is_common_and_what_is_alone_make_up_each_history(
    one: list[sl.LogEntry], other: list[sl.LogEntry]
) -> None:
    """Of sessions that have no line in common; and the first items alone are not the same."""
    left, right = stored(one), stored(other)

    found = read_difference(left, right)

    ours, theirs = (sl.restore(side.store, SESSION_ID, side.segment_id).history for side in (left, right))
    assert ours[: found.common] == theirs[: found.common]
    assert [piece.value for piece in found.left] == list(ours[found.common :])
    assert [piece.value for piece in found.right] == list(theirs[found.common :])
    assert found.is_same is (ours == theirs)
    for mine, other_one in zip(found.left, found.right, strict=False):
        assert mine.value != other_one.value
        break


@settings(max_examples=40)
@given(histories(max_turns=2, tails=False), st.integers(0, 99), st.integers(0, 99))
def test_two_forks_share_what_both_inherit(entries: list[sl.LogEntry], left_at: int, right_at: int) -> None:
    """What either has alone is what the parent has after its own cut, and before that of neither."""
    side = stored(entries)
    turns = sl.restore(side.store, SESSION_ID, side.segment_id).turn_count
    cuts = [at % (turns + 1) for at in (left_at, right_at)]
    forks = [sl.fork_at(side.store, SESSION_ID, side.segment_id, cut) for cut in cuts]

    found = read_difference(*(side._replace(segment_id=fork) for fork in forks))

    starts = [sl.read_entries(side.store, SESSION_ID, fork)[0] for fork in forks]
    lengths = [start.forked_from.entries or 0 for start in starts if isinstance(start, sl.SegmentStart)
               and start.forked_from is not None]  # fmt: skip
    assert found.common == min(lengths)
    alone = [[piece.number for piece in suffix] for suffix in (found.left, found.right)]
    assert alone == [list(range(min(lengths) + 1, length + 1)) for length in lengths]
    assert found.is_same is (lengths[0] == lengths[1])


@given(plain_payloads(), plain_payloads())
def test_a_state_is_no_other_for_what_json_says_the_same(one: Any, other: Any) -> None:
    """Payloads are the same if their JSON is: true is not 1 there."""
    states = [sl.RestoredState(extensions=(sl.ExtensionRecord("d", value),)) for value in (one, other)]

    same = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")

    if same:
        assert state_differences(*states) == ()
    elif one != other:
        (found,) = state_differences(*states)
        assert (found.name, found.at) == ("extensions", 0)


@pytest.mark.parametrize("pair", [(True, 1), ({"a": [False]}, {"a": [0]})])
def test_true_is_not_one(pair: tuple[Any, Any]) -> None:
    assert first_difference(pair[:1], pair[1:]) == 0
    assert first_difference(pair[:1], pair[:1]) == 1


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_first_difference(left: list[int], right: list[int]) -> None:
    at = first_difference(left, right)

    assert left[:at] == right[:at]
    assert at in (len(left), len(right)) or left[at] != right[at]


# ── examples ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_branches_by_lines(store: sl.FsStore) -> None:
    found = read_difference(Side(store, SESSION, ROOT), Side(store, SESSION, FORK))

    assert (found.by, found.ancestor, found.ancestor_entries, found.common) == ("lines", ROOT, 10, 10)
    assert [place[1] for place in places(found.left)] == [11, 12, 13, 14, 15, 16]
    assert places(found.right)[0] == (FORK, 2, "invoke")
    first = next(iter(found.left))
    line = list(store.read(SESSION, ROOT))[10]
    assert first == Piece(ROOT, 11, "invoke", sl.decode_line(line), 1_760_000_010_000, len(line) + 1)
    counted = tally(found.right)
    assert (counted.pieces, counted.items, counted.turns, counted.input_tokens) == (6, 2, 1, 1800)
    assert counted.size_bytes == sum(len(line) + 1 for line in list(store.read(SESSION, FORK))[1:])


def test_stores_of_one_folder_are_one(store: sl.FsStore) -> None:
    """Two paths of one root are opened as two stores."""
    found = read_difference(Side(store, SESSION, ROOT), Side(sl.FsStore(store.root), SESSION, FORK))

    assert (found.by, found.common) == ("lines", 10)


def test_up_to_a_line_or_a_turn(store: sl.FsStore) -> None:
    left, right = Side(store, SESSION, ROOT, turn=1), Side(store, SESSION, FORK, turn=1)
    assert read_difference(left, right).is_same
    shorter = read_difference(Side(store, SESSION, ROOT, entries=3), Side(store, SESSION, FORK))
    assert (shorter.common, places(shorter.left), places(shorter.right)[0]) == (3, [], (ROOT, 4, "assistant_item"))
    for side in (left._replace(turn=9), left._replace(turn=None, entries=99), left._replace(turn=None, entries=0)):
        with pytest.raises(sl.InvalidCut):
            read_difference(side, right)


@pytest.mark.parametrize(
    ("other", "ancestor"),
    [(Side(sl.MemoryStore(), SESSION, COMPACTED), ROOT), (Side(sl.MemoryStore(), OTHER, OPEN), None)],
)
def test_without_a_common_line_items_are_compared(store: sl.FsStore, other: Side, ancestor: str | None) -> None:
    """A compaction lies between, or they are of two sessions."""
    found = read_difference(Side(store, SESSION, ROOT), other._replace(store=store))

    assert (found.by, found.common, found.ancestor, found.ancestor_entries) == ("items", 0, ancestor, 0)
    counted = tally(found.left)
    assert (counted.pieces, counted.items, counted.input_tokens) == (7, 7, None)
    assert counted.kinds == {"message": 4, "reasoning": 1, "tool_call": 1, "tool_result": 1}


def test_a_copy_has_no_difference(store: sl.FsStore) -> None:
    copy = sl.fork_at(store, SESSION, ROOT, 2, copy_history=True)

    found = read_difference(Side(store, SESSION, ROOT), Side(store, SESSION, copy))

    assert (found.by, found.is_same, found.common, found.ancestor) == ("items", True, 7, ROOT)
    assert read_state_differences(Side(store, SESSION, ROOT), Side(store, SESSION, copy)) == ()


def test_states_differ_field_by_field(store: sl.FsStore) -> None:
    with sl.SegmentWriter.resume(store, SESSION, FORK) as writer:
        writer.save_config_changed(sl.RequestConfig(temperature=0.5))
        writer.save_extension("d", {"a": 1})

    found = read_state_differences(Side(store, SESSION, ROOT), Side(store, SESSION, FORK))

    by_name = {one.name: one for one in found}
    assert list(by_name) == ["config.temperature", "history", "user_segments", "extensions"]
    assert (by_name["config.temperature"].left, by_name["config.temperature"].right) == (None, 0.5)
    assert (by_name["history"].at, len(by_name["history"].left), len(by_name["history"].right)) == (5, 2, 2)
    assert by_name["extensions"].right == (sl.ExtensionRecord("d", {"a": 1}),)


def test_damage_is_raised_or_listed_with_its_place(store: sl.FsStore) -> None:
    path = store.segment_path(SESSION, FORK)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"no entry\n")
    sides = Side(store, SESSION, ROOT), Side(store, SESSION, FORK)
    found, damage = read_difference(*sides), list[sl.Damage]()

    assert len(list(found.right.pieces(damage))) == 6
    assert [(one.path, one.line, one.byte_offset) for one in damage] == [(str(path), 8, size)]
    with pytest.raises(sl.CorruptSegment):
        list(found.right)
    with pytest.raises(sl.CorruptSegment):
        read_state_differences(*sides)
    read_state_differences(*sides, damage)
    assert len(damage) == 2
    other = Side(store, SESSION, COMPACTED)
    with pytest.raises(sl.CorruptSegment):
        read_difference(sides[1], other)
    assert read_difference(sides[1], other, salvage=True).damage[0].line == 8


def test_a_segment_that_grows_meanwhile_is_compared_as_it_was() -> None:
    """It is asked for its length twice; that it is longer the second time does not make it too short before."""

    class Growing(sl.MemoryStore):
        def length(self, session_id: str, segment_id: str) -> int:
            found = super().length(session_id, segment_id)
            self.append(session_id, segment_id, [sl.encode_line(sl.TurnEnd(ts=5, turn_count=found))])
            return found

    store = Growing()
    session_id, segment_id = sl.create_segment(store)

    found = compare(store, session_id, segment_id, segment_id)

    assert (found.entries, found.left_entries, found.right_entries) == (1, 0, 1)


def test_lines_of_a_stretch_are_numbered_as_in_the_file() -> None:
    """Those of a long file, too, which is read in many blocks."""
    with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
        session_id, parent = sl.create_segment(store)
        entries = [sl.AssistantItem(ts=5, item=sl.Message.assistant("x" * 2000)) for _ in range(2000)]
        for start in range(0, 2000, 500):
            store.append(session_id, parent, [sl.encode_line(entry) for entry in entries[start : start + 500]])
        child = sl.fork_at_entry(store, session_id, parent, 700)

        found = read_difference(Side(store, session_id, parent), Side(store, session_id, child))

        assert [piece.number for piece in found.left] == list(range(701, 2002))
