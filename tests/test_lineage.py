"""References to a parent that do not hold: typed errors, listed by a salvage, never a loop or a path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import session_log as sl
from oracle import Blank, Folded, fold, folded, lines_of
from recorded import TURN_LINES, session, state_of, unchanged


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── references that do not hold ────────────────────────────────────────────────────────────────────────────────────


def child_line(session_id: str, origin: Any) -> bytes:
    """The first line of a hostile child; ``origin`` is any JSON object."""
    return msgspec.json.encode(
        {
            "kind": "segment_start",
            "ts": 1,
            "session_id": session_id,
            "system_prompt": None,
            "config": msgspec.to_builtins(sl.RequestConfig()),
            "history": [],
            "forked_from": origin,
            "v": 1,
        }
    )


def good_origin(store: sl.Store, writer: sl.SegmentWriter, entries: int) -> dict[str, Any]:
    child = sl.fork_at_entry(store, writer.session_id, writer.segment_id, entries)
    start = sl.read_entries(store, writer.session_id, child)[0]
    assert isinstance(start, sl.SegmentStart)
    found: dict[str, Any] = msgspec.to_builtins(start.forked_from)
    return found


def broken(store: sl.Store, session_id: str, segment_id: str, error: type[sl.SessionLogError]) -> sl.SessionLogError:
    """The law of a reference that does not hold: typed and strict, listed in a salvage, and no ground to build on."""
    before = unchanged(store, session_id)
    found = []
    for act in (
        lambda: sl.restore(store, session_id, segment_id),
        lambda: sl.SegmentWriter.resume(store, session_id, segment_id),
        lambda: sl.fork_at_entry(store, session_id, segment_id, 1, copy_history=True),
        lambda: sl.create_compacted_segment(store, sl.SegmentStartState(), session_id, segment_id, 0),
    ):
        with pytest.raises(error) as caught:
            act()
        found.append(caught.value)
    state = sl.restore(store, session_id, segment_id, salvage=True)
    assert len(state.damage) == 1
    assert state.damage[0].reason == getattr(found[0], "reason", None)
    assert state.session_id == session_id
    assert unchanged(store, session_id) == before
    return found[0]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("too many entries", {"entries": 99}, "99"),
    ("too few entries", {"entries": 8}, "byte"),
    ("no entries", {"entries": 0}, "0"),
    ("negative entries", {"entries": -1}, "-1"),
    ("huge entries", {"entries": (1 << 63) - 1}, "inherits"),
    ("offset one too far", {"byte_offset": 1}, "byte"),
    ("offset inside a line", {"byte_offset": -7}, "byte"),
    ("another hash", {"tail_sha256": "0" * 64}, "hash"),
    ("no hash at all", {"tail_sha256": "x"}, "hash"),
]


@pytest.mark.parametrize(("name", "change", "word"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_reference_that_does_not_fit_the_parent(
    store: sl.Store, name: str, change: dict[str, Any], word: str
) -> None:
    """F16: entries, offset and hash must all be those of the parent's lines."""
    with session(store, 2) as writer:
        origin = good_origin(store, writer, 9)
        if "byte_offset" in change:
            change = {"byte_offset": origin["byte_offset"] + change["byte_offset"]}
        child = sl.new_segment_id()
        store.create_segment(writer.session_id, child, [child_line(writer.session_id, origin | change)])

        exc = broken(store, writer.session_id, child, sl.BrokenLineage)

        assert word in str(exc)
        assert writer.segment_id in str(exc)


def test_a_parent_that_is_not_there(store: sl.Store) -> None:
    """F23: a dangling child says which parent it misses; its own lines can be salvaged."""
    with session(store, 1) as writer:
        origin = good_origin(store, writer, 9)
        gone, child = sl.new_segment_id(), sl.new_segment_id()
        line = child_line(writer.session_id, origin | {"segment_id": gone})
        store.create_segment(writer.session_id, child, [line, sl.encode_line(sl.Invoke(ts=1, trigger="x"))])

        exc = broken(store, writer.session_id, child, sl.MissingAncestor)

        assert gone in str(exc)
        assert child in str(exc)
        assert sl.restore(store, writer.session_id, child, salvage=True).last_run_interrupted


HOSTILE = [
    "",
    "x",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "a" * 5000,
    "00000000-0000-0000-0000-00000000000g",
    "\0",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_parent_id_that_is_no_id(store: sl.Store, text: str) -> None:
    """F24: a text in a file never becomes a path; it is named in the error, not followed."""
    session_id, child = sl.new_session_id(), sl.new_segment_id()
    origin = {"segment_id": text, "at_turn_index": 0, "entries": 1, "byte_offset": 1, "tail_sha256": "0" * 64}
    store.create_segment(session_id, child, [child_line(session_id, origin)])

    exc = broken(store, session_id, child, sl.BrokenLineage)

    assert child in str(exc)
    assert len(str(exc)) < 6_000
    with pytest.raises(sl.SessionLogError):
        sl.fork_at(store, session_id, child, 5)


def test_a_parent_id_in_another_spelling_is_the_same_parent(store: sl.Store) -> None:
    """Ids are UUIDs in any spelling."""
    with session(store, 1) as writer:
        origin = good_origin(store, writer, 9)
        child = sl.new_segment_id()
        spelled = origin | {"segment_id": writer.segment_id.upper().replace("-", "")}
        store.create_segment(writer.session_id, child, [child_line(writer.session_id, spelled)])

        state = sl.restore(store, writer.session_id, child)

        assert state.turn_count == 1
        assert state_of(store, writer, child, at_turn=1).history == list(writer.state.history)


def test_ancestors_in_a_circle(store: sl.Store) -> None:
    """F16: a segment that is its own ancestor, at once or over others, ends in an error, not in a loop."""
    session_id = sl.new_session_id()
    for length in (1, 2, 3):
        ids = [sl.new_segment_id() for _ in range(length)]
        for at, segment_id in enumerate(ids):
            origin = {"segment_id": ids[at - 1], "at_turn_index": 0, "entries": 1}
            store.create_segment(session_id, segment_id, [child_line(session_id, origin)])

        exc = broken(store, session_id, ids[0], sl.BrokenLineage)

        assert "circle" in str(exc)
        for turn in (0, 1):
            with pytest.raises(sl.BrokenLineage):
                sl.fork_at(store, session_id, ids[0], turn)
            with pytest.raises(sl.BrokenLineage):
                sl.restore(store, session_id, ids[0], at_turn=turn)


def chain_of_forks(store: sl.Store, session_id: str, segment_id: str, forks: int) -> str:
    for _ in range(forks):
        segment_id = sl.fork_at_entry(store, session_id, segment_id, 1)
    return segment_id


def test_ancestors_up_to_the_limit_and_no_further(store: sl.Store) -> None:
    """MAX_FORK_DEPTH is reached: one more is refused with the remedy, a file that has more is an error."""
    session_id, root = sl.create_segment(store, sl.SegmentStartState("prompt"))
    deepest = chain_of_forks(store, session_id, root, sl.MAX_FORK_DEPTH)
    assert sl.restore(store, session_id, deepest).system_prompt == "prompt"

    before = store.list_segments(session_id)
    with pytest.raises(sl.InvalidCut, match="copy_history"):
        sl.fork_at_entry(store, session_id, deepest, 1)
    assert store.list_segments(session_id) == before
    alone = sl.fork_at_entry(store, session_id, deepest, 1, copy_history=True)
    assert sl.restore(store, session_id, sl.fork_at_entry(store, session_id, alone, 1)).system_prompt == "prompt"

    too_deep = sl.new_segment_id()
    origin = {"segment_id": deepest, "at_turn_index": 0, "entries": 1}
    store.create_segment(session_id, too_deep, [child_line(session_id, origin)])
    assert "MAX_FORK_DEPTH" in str(broken(store, session_id, too_deep, sl.BrokenLineage))
    with pytest.raises(sl.BrokenLineage):
        sl.restore(store, session_id, too_deep, at_turn=7)


def test_a_writer_at_the_limit_goes_on_in_a_copy(store: sl.Store) -> None:
    """An automatic fork never fails for depth: it stands alone, and the chain begins anew."""
    session_id, root = sl.create_segment(store, sl.SegmentStartState("prompt"))
    writer = sl.SegmentWriter.resume(store, session_id, chain_of_forks(store, session_id, root, sl.MAX_FORK_DEPTH))
    writer.save_user_input("mine")
    for round_ in range(3):
        sl.save_extension(store, session_id, writer.segment_id, "other", round_)
        writer.save_user_input(f"mine {round_}")

    deepest = sl.SegmentWriter.resume(store, session_id, chain_of_forks(store, session_id, root, sl.MAX_FORK_DEPTH))
    sl.save_extension(store, session_id, deepest.segment_id, "other", None)
    with deepest.batch():
        deepest.save_user_input("one")
        deepest.save_user_input("two")

    history = sl.restore(store, session_id, writer.segment_id).history
    assert [item.text for item in history if isinstance(item, sl.Message)] == ["mine", "mine 0", "mine 1", "mine 2"]
    lines = list(store.read(session_id, deepest.segment_id))
    assert (len(lines), b'"batch":2' in lines[1], b'"batch":0' in lines[2]) == (3, True, True)
    assert folded(deepest.state) == state_of(store, deepest, deepest.segment_id)
    assert folded(writer.state) == state_of(store, writer, writer.segment_id)
    assert writer.state.extensions == ()


def test_a_repaired_parent_still_carries_its_children(fs: sl.FsStore) -> None:
    """A line blanked out inside the inherited prefix changes no number and no offset."""
    with session(fs, 2) as writer:
        child = writer.fork_at(1)
        grandchild = sl.fork_at_entry(fs, writer.session_id, child, 1)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    raw = path.read_bytes().split(b"\n")
    lines = lines_of([sl.decode_line(line) for line in raw[:-1]])
    raw[3] = b"damage" + raw[3][6:]
    path.write_bytes(b"\n".join(raw))
    for segment_id in (child, grandchild):
        with pytest.raises(sl.CorruptSegment) as caught:
            sl.restore(fs, writer.session_id, segment_id)
        assert (caught.value.path, caught.value.line) == (str(path), 4)
        assert sl.restore(fs, writer.session_id, segment_id, salvage=True).damage[0].line == 4

    sl.repair(fs, writer.session_id, writer.segment_id)

    lines[3] = Blank()
    base = Folded("You are helpful.", sl.RequestConfig(max_tokens=4096, temperature=0.5))
    for segment_id in (child, grandchild):
        assert folded(sl.restore(fs, writer.session_id, segment_id)) == fold(base, lines[: 1 + TURN_LINES])
        assert state_of(fs, writer, segment_id, at_turn=1) == fold(base, lines[: 1 + TURN_LINES])


def test_a_parent_repaired_in_the_last_line_a_child_inherits_still_carries_it(fs: sl.FsStore) -> None:
    """The line that the child knows by its hash was damaged and blanked out: its place is right, and it is nothing."""
    with session(fs, 2) as writer:
        child = writer.fork_at(1)
        expected = sl.restore(fs, writer.session_id, writer.segment_id, at_entries=TURN_LINES)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    raw = path.read_bytes().split(b"\n")
    raw[TURN_LINES] = b"damage" + raw[TURN_LINES][6:]
    path.write_bytes(b"\n".join(raw))
    with pytest.raises(sl.CorruptSegment):
        sl.restore(fs, writer.session_id, child)

    sl.repair(fs, writer.session_id, writer.segment_id)

    assert folded(sl.restore(fs, writer.session_id, child)) == folded(expected)


def test_a_parent_that_was_cut_short_is_an_error(fs: sl.FsStore) -> None:
    """Lines a child inherits are gone: strict refuses, salvage returns what there is and says so."""
    with session(fs, 2) as writer:
        child = writer.fork_at(2)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    data = path.read_bytes()
    lines = data.split(b"\n")
    for kept in (len(data) - 1, len(b"\n".join(lines[:10])) + 1, len(lines[0]) + 1):
        path.write_bytes(data[:kept])
        fs = sl.FsStore(fs.root)

        exc = broken(fs, writer.session_id, child, sl.BrokenLineage)

        assert f"child inherits {1 + 2 * TURN_LINES}" in str(exc)


def test_a_rollback_that_points_nowhere_is_an_error_with_its_place(fs: sl.FsStore) -> None:
    """A hostile rollback line is damage like any other, whoever meets it first."""
    session_id, segment_id = sl.create_segment(fs)
    for number, target in enumerate((0, -1, 2, 99, "1", None, True)):
        session_id, segment_id = sl.create_segment(fs)
        line = msgspec.json.encode(
            {"kind": "extension", "ts": 1, "domain": "session_log.rollback", "payload": {"to_entries": target}}
        )
        fs.append(session_id, segment_id, [line])

        for act in (
            lambda: sl.restore(fs, session_id, segment_id),  # noqa: B023
            lambda: sl.fork_at(fs, session_id, segment_id, 0),  # noqa: B023
            lambda: sl.fork_at_entry(fs, session_id, segment_id, 1),  # noqa: B023
            lambda: sl.fork_at_entry(fs, session_id, segment_id, 2, copy_history=True),  # noqa: B023
        ):
            with pytest.raises(sl.CorruptSegment) as caught:
                act()
            assert (caught.value.line, number) == (2, number)
        assert len(sl.restore(fs, session_id, segment_id, salvage=True).damage) == 1
