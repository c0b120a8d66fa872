"""The history backwards: every item with its place, what is not asked for unread; and forks from any place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from lookers import Watched, bytes_read
from recorded import TURN_LINES, record_turn, session
from session_log.places import Place, fork_after, fork_before, walk_back
from strategies import SESSION_ID, histories

Entries = list[sl.LogEntry]
KINDS = ["memory", "files", "lines"]


@contextmanager
def opened(kind: str) -> Iterator[Any]:
    """A store; "lines" is one that offers the protocol and nothing more."""
    if kind == "files":
        with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
            yield store
        return
    yield sl.MemoryStore() if kind == "memory" else Watched(sl.MemoryStore())


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with opened(request.param) as found:
        yield found


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


def back(store: sl.Store, session_id: str, segment_id: str, **more: Any) -> list[Place]:
    return list(walk_back(store, session_id, segment_id, **more))


def texts(places: list[Place]) -> list[str]:
    return [place.item.text for place in places if isinstance(place.item, sl.Message)]


# ── any history ────────────────────────────────────────────────────────────────────────────────────────────────────

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["rollback", "rollback", "fork", "copy", "compact", "none"]), st.integers(0, 99)),
    min_size=1,
    max_size=4,
)


def grow(store: sl.Store, tales: list[Entries], actions: list[tuple[str, int]]) -> str:
    """Record history after history; between two of them roll back, fork, copy or compact. Return where it ended."""
    segment_id = sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(tales[0][0])])
    for at, tale in enumerate(tales):
        with sl.SegmentWriter.resume(store, SESSION_ID, segment_id) as writer:
            writer.append_entries(tale[1:])
            action, number = actions[at % len(actions)]
            if action == "compact":
                short = sl.SegmentStartState(history=(sl.Message.user("a"), sl.Message.assistant("b")))
                segment_id = writer.compact(short)
                continue
            entries = 1 + number % store.length(SESSION_ID, segment_id)
            try:
                if action == "rollback":
                    writer.rollback(entries)
                elif action in ("fork", "copy"):
                    segment_id = writer.fork_at_entry(entries, copy_history=action == "copy")
            except sl.InvalidCut:
                continue
    return segment_id


@pytest.mark.parametrize("kind", KINDS)
@given(
    tales=st.lists(histories(max_turns=2), min_size=1, max_size=4), actions=ACTIONS, cut=st.none() | st.integers(0, 99)
)
def test_it_is_the_restored_history_backwards(
    kind: str, tales: list[Entries], actions: list[tuple[str, int]], cut: int | None
) -> None:
    """Through forks of forks, rollbacks, redos, copies and compactions, from any line; and each item is at its place.

    The state after that line ends with it.
    """
    with opened(kind) as store:
        segment_id = grow(store, tales, actions)
        at = None if cut is None else 1 + cut % store.length(SESSION_ID, segment_id)

        places = back(store, SESSION_ID, segment_id, at_entries=at)

        history = sl.restore(store, SESSION_ID, segment_id, at_entries=at).history
        assert [place.item for place in reversed(places)] == list(history)
        for place in places:
            there = sl.restore(store, SESSION_ID, place.segment_id, at_entries=place.line).history
            assert there[len(there) - place.items_in_line + place.index] == place.item
            assert place.items_in_line == 1 or place.line == 1
            (line,) = sl.read_entries(store, SESSION_ID, place.segment_id, place.line - 1, place.line)
            assert place.ts == getattr(line, "ts", None)


@pytest.mark.parametrize("kind", KINDS)
@given(tales=st.lists(histories(max_turns=2), min_size=1, max_size=3), actions=ACTIONS, limit=st.integers(1, 7))
def test_pages_make_up_the_whole(kind: str, tales: list[Entries], actions: list[tuple[str, int]], limit: int) -> None:
    """Each page begins before the last place of the one before it; together they are one walk."""
    with opened(kind) as store:
        segment_id = grow(store, tales, actions)
        whole = back(store, SESSION_ID, segment_id)

        found = page = back(store, SESSION_ID, segment_id, limit=limit)
        while page and page[-1].line > 1:
            place = page[-1]
            page = back(store, SESSION_ID, place.segment_id, at_entries=place.line - 1, limit=limit)
            found = found + page

        alone = [place for place in found if place.line > 1]
        assert alone == [place for place in whole if place.line > 1]
        assert len(page) <= limit


@pytest.mark.parametrize("kind", KINDS)
@given(tales=st.lists(histories(max_turns=2), min_size=1, max_size=3), actions=ACTIONS, data=st.data())
def test_a_fork_after_or_before_any_item(
    kind: str, tales: list[Entries], actions: list[tuple[str, int]], data: st.DataObject
) -> None:
    """F10: the fork's history ends with the item, or just before it; if that is no cut, the error names one that is."""
    with opened(kind) as store:
        places = back(store, SESSION_ID, grow(store, tales, actions))
        if not places:
            return
        number = data.draw(st.integers(0, len(places) - 1))
        place, copy = places[number], data.draw(st.booleans())
        history = [place.item for place in reversed(places)]

        for verb, upto in ((fork_after, len(places) - number), (fork_before, len(places) - number - 1)):
            try:
                fork = verb(store, SESSION_ID, place, copy_history=copy)
            except sl.InvalidCut as exc:
                assert exc.nearest
                for nearest in exc.nearest:
                    sl.fork_at_entry(store, SESSION_ID, place.segment_id, nearest)
                continue
            made = sl.restore(store, SESSION_ID, fork)
            assert list(made.history) == history[:upto]


# ── what it reads ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_reads_the_end_of_the_last_segment_alone(fs: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13: the newest twenty of a megabyte are one block, and the ancestors' first lines."""
    with session(fs, 1) as writer:
        for number in range(1000):
            writer.save_user_input(f"{number} " + "x" * 1000)
        fs.position(writer.session_id, writer.segment_id)

        with bytes_read(monkeypatch) as sizes:
            places = back(fs, writer.session_id, writer.segment_id, limit=20)

    assert texts(places)[0].startswith("999 ") and len(places) == 20
    assert sum(sizes) < 1 << 17


def test_a_limit_asks_a_plain_store_for_few_lines() -> None:
    """A store that has only lines is asked for the last of them."""
    watched = Watched(sl.MemoryStore())
    with session(watched, 1) as writer:
        for number in range(1000):
            writer.save_user_input(str(number))
    watched.reads.clear()

    places = back(watched, writer.session_id, writer.segment_id, limit=20)

    assert texts(places) == [str(number) for number in range(999, 979, -1)]
    assert [read[1:] for read in watched.reads] == [(0, 1), (1 + TURN_LINES + 1000 - 256, 1 + TURN_LINES + 1000)]


def test_a_line_longer_than_a_block(store: sl.Store) -> None:
    """It is found from its end, however long, and so are those around it."""
    session_id, segment_id = sl.create_segment(store)
    said = ["a", "b" * 70_000, "c", "d" * 600_000, "e" * 66_000, "f"]
    for text in said:
        sl.save_user_input(store, session_id, segment_id, text)

    assert texts(back(store, session_id, segment_id)) == said[::-1]
    assert [place.line for place in walk_back(store, session_id, segment_id)] == [7, 6, 5, 4, 3, 2]


def test_cut_at_every_byte(fs: sl.FsStore) -> None:
    """F3: whatever was torn off, the walk is that of the committed lines."""
    with session(fs, 1) as writer, writer.batch():
        writer.save_user_input("größer")
        writer.save_delta([sl.Message.assistant("ja")])
    path = fs.segment_path(writer.session_id, writer.segment_id)
    data = path.read_bytes()

    for size in range(data.index(b"\n") + 1, len(data) + 1):
        path.write_bytes(data[:size])
        again = sl.FsStore(fs.root, durability="process")
        history = sl.restore(again, writer.session_id, writer.segment_id).history
        assert [p.item for p in back(again, writer.session_id, writer.segment_id)] == list(reversed(history))


# ── where it ends ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_at_a_compaction_it_ends_with_the_history_that_was_made_of_it(store: sl.Store) -> None:
    """The walk is what the model sees; what was compacted away is reached over the parent, by who wants it."""
    with session(store, 2) as writer:
        source = writer.segment_id
        short = (sl.Message.user("summary"), sl.Message.assistant("right"))
        segment_id = writer.compact(sl.SegmentStartState(history=short))
        writer.save_user_input("on")

    places = back(store, writer.session_id, segment_id)

    assert texts(places) == ["on", "right", "summary"]
    assert [(p.line, p.index, p.items_in_line) for p in places] == [(2, 0, 1), (1, 1, 2), (1, 0, 2)]
    assert texts(back(store, writer.session_id, source))[0] == "TURN 2"
    assert sl.restore(store, writer.session_id, fork_after(store, writer.session_id, places[1])).history == short
    with pytest.raises(sl.InvalidCut) as caught:
        fork_after(store, writer.session_id, places[2])
    assert caught.value.nearest == (1,)
    for place in places[1:]:
        with pytest.raises(sl.InvalidCut):
            fork_before(store, writer.session_id, place)


@pytest.mark.parametrize("entries", [None, 1])
def test_a_later_first_line_means_what_it_means_to_a_restore(store: sl.Store, entries: int | None) -> None:
    """One that stands alone begins anew, one that refers to lines goes on; nothing of ours writes either."""
    session_id, segment_id = sl.create_segment(store)
    sl.save_user_input(store, session_id, segment_id, "before")
    start = sl.SegmentStart(
        ts=1, session_id=session_id, config=sl.RequestConfig(), history=(sl.Message.user("anew"),),
        forked_from=sl.SegmentOrigin(sl.new_segment_id(), 0, entries),
    )  # fmt: skip
    store.append(session_id, segment_id, [sl.encode_line(start)])
    sl.save_user_input(store, session_id, segment_id, "after")

    history = sl.restore(store, session_id, segment_id).history

    assert [place.item for place in walk_back(store, session_id, segment_id)] == list(reversed(history))
    assert len(history) == 2


def test_a_fork_before_a_message_leaves_its_invoke_behind(store: sl.Store) -> None:
    """What is said instead begins a turn of its own; nothing looks interrupted."""
    with session(store, 2) as writer:
        asked = next(p for p in walk_back(store, writer.session_id, writer.segment_id) if p.item == USER_2)

    fork = fork_before(store, writer.session_id, asked)

    state = sl.restore(store, writer.session_id, fork)
    assert (state.turn_count, state.last_run_interrupted) == (1, False)
    assert len(state.usage_history) == 1


USER_2 = sl.Message.user("turn 2")


def test_a_fork_between_a_call_and_its_result_is_refused(store: sl.Store) -> None:
    """F10: with the nearest cuts, lower first."""
    with session(store, 1) as writer:
        result, call = back(store, writer.session_id, writer.segment_id)[1:3]
    assert isinstance(call.item, sl.ToolCall)

    for fork, place in ((fork_after, call), (fork_before, result)):
        with pytest.raises(sl.InvalidCut) as caught:
            fork(store, writer.session_id, place)
        assert caught.value.nearest == (call.line - 1, result.line)


def test_a_redo_brings_back_what_a_rollback_took(store: sl.Store) -> None:
    with session(store, 2) as writer:
        before = store.length(writer.session_id, writer.segment_id)
        writer.rollback(1 + TURN_LINES)
        assert texts(back(store, writer.session_id, writer.segment_id)) == ["TURN 1", "turn 1"]
        writer.rollback(before)
        record_turn(writer, "on")

    found = back(store, writer.session_id, writer.segment_id)
    assert texts(found) == ["ON", "on", "TURN 2", "turn 2", "TURN 1", "turn 1"]


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_and_lines_that_are_none(store: sl.Store) -> None:
    session_id, segment_id = sl.create_segment(store)

    for limit in (-1, True, "1"):
        with pytest.raises(sl.CallerError):
            walk_back(store, session_id, segment_id, limit=limit)  # type: ignore[arg-type]
    for entries in (0, 2, -1, True, "1"):
        with pytest.raises(sl.InvalidCut):
            walk_back(store, session_id, segment_id, at_entries=entries)  # type: ignore[arg-type]
    with pytest.raises(sl.NotFound):
        walk_back(store, session_id, sl.new_segment_id())
    assert back(store, session_id, segment_id, limit=0) == back(store, session_id, segment_id) == []


def rollback(target: object) -> bytes:
    payload = {"to_entries": target}
    return json.dumps({"kind": "extension", "ts": 1, "domain": "session_log.rollback", "payload": payload}).encode()


def test_damage_is_an_error_with_its_place_when_the_walk_comes_to_it(store: sl.Store) -> None:
    """F4: newer items come first; what a rollback took is not looked at, as in a restore."""
    session_id, segment_id = sl.create_segment(store)
    sl.save_user_input(store, session_id, segment_id, "old")
    damaged = sum(len(line) + 1 for line in store.read(session_id, segment_id))
    store.append(session_id, segment_id, [b'{"kind":"user_input"}'])
    store.append(session_id, segment_id, [rollback(2)])
    sl.save_user_input(store, session_id, segment_id, "new")
    assert texts(back(store, session_id, segment_id)) == ["new", "old"]
    store.append(session_id, segment_id, [rollback(3)])
    sl.save_user_input(store, session_id, segment_id, "newest")

    walk = walk_back(store, session_id, segment_id)
    assert texts([next(walk)]) == ["newest"]
    with pytest.raises(sl.CorruptSegment) as caught:
        next(walk)
    assert (caught.value.line, caught.value.byte_offset) == (3, damaged)


@pytest.mark.parametrize("target", [0, 9, None, "1"])
def test_a_rollback_that_points_nowhere_is_damage(store: sl.Store, target: object) -> None:
    session_id, segment_id = sl.create_segment(store)
    store.append(session_id, segment_id, [rollback(target)])

    with pytest.raises(sl.CorruptSegment) as caught:
        back(store, session_id, segment_id)
    assert caught.value.line == 2


def forged(store: sl.Store, change: dict[str, Any]) -> tuple[str, str]:
    """A session with a child whose reference is right but for ``change``."""
    with session(store, 2) as writer:
        child = writer.fork_at(1)
    (line,) = store.read(writer.session_id, child)
    start = json.loads(line)
    start["forked_from"] |= change
    hostile = sl.new_segment_id()
    store.create_segment(writer.session_id, hostile, [json.dumps(start).encode()])
    return writer.session_id, hostile


@pytest.mark.parametrize(
    "change",
    [
        {"tail_sha256": "0" * 64},
        {"entries": 8},
        {"entries": 10},
        {"entries": 99, "byte_offset": 1 << 40},
        {"byte_offset": 7, "tail_sha256": None},
        {"entries": 99, "byte_offset": None, "tail_sha256": None},
        {"entries": 8, "byte_offset": None},
    ],
    ids=str,
)
def test_a_reference_that_does_not_hold_is_an_error(store: sl.Store, change: dict[str, Any]) -> None:
    """What a restore refuses, the walk refuses, before it returns all of it."""
    session_id, hostile = forged(store, change)
    with pytest.raises(sl.BrokenLineage):
        sl.restore(store, session_id, hostile)

    with pytest.raises(sl.BrokenLineage):
        back(store, session_id, hostile)


def test_a_reference_without_an_offset_holds(store: sl.Store) -> None:
    """It is found by its lines."""
    session_id, hostile = forged(store, {"byte_offset": None, "tail_sha256": None})

    assert texts(back(store, session_id, hostile)) == ["TURN 1", "turn 1"]


def test_a_repaired_parent_still_carries_its_children(fs: sl.FsStore) -> None:
    """The last inherited line was blanked out: it has its place, and no item."""
    with session(fs, 2) as writer:
        child = writer.fork_at_entry(3)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    raw = path.read_bytes().split(b"\n")
    raw[2] = b" " * len(raw[2])
    path.write_bytes(b"\n".join(raw))

    assert back(fs, writer.session_id, child) == []
