"""Forks and compactions: three ways to say the same state, and what survives them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from oracle import Folded, fold, folded
from recorded import TURN_LINES, record_turn, session, state_of, tokens
from strategies import SESSION_ID, histories

Entries = list[sl.LogEntry]


@contextmanager
def memory() -> Iterator[sl.Store]:
    yield sl.MemoryStore()


@contextmanager
def files() -> Iterator[sl.Store]:
    with tempfile.TemporaryDirectory() as root:
        store = sl.FsStore(root, durability="process")
        yield store
        store.close()


both = pytest.mark.parametrize("open_store", [memory, files])
OpenStore = Callable[[], Any]


@pytest.fixture(params=[memory, files], ids=["memory", "files"])
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with request.param() as found:
        yield found


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── three ways to say one state ────────────────────────────────────────────────────────────────────────────────────


def valid_cut(store: sl.Store, segment_id: str, wanted: int) -> int:
    """Return ``wanted``, or a cut that the refusal names; what it names must be one."""
    length = store.length(SESSION_ID, segment_id)
    entries = 1 + wanted % length
    before = store.list_segments(SESSION_ID)
    try:
        sl.fork_at_entry(store, SESSION_ID, segment_id, entries)
    except sl.InvalidCut as exc:
        assert store.list_segments(SESSION_ID) == before
        assert len(exc.nearest) == 2
        assert exc.nearest[0] < entries < exc.nearest[1]
        for nearest in exc.nearest:
            sl.fork_at_entry(store, SESSION_ID, segment_id, nearest)
        return exc.nearest[wanted % 2]
    return entries


def grow(store: sl.Store, tales: list[Entries], actions: list[tuple[str, int]]) -> str:
    """Record history after history, and between two of them roll back, fork or compact; return where it ended."""
    segment_id = sl.new_segment_id()
    store.create_segment(SESSION_ID, segment_id, [sl.encode_line(tales[0][0])])
    for at, tale in enumerate(tales):
        with sl.SegmentWriter.resume(store, SESSION_ID, segment_id) as writer:
            for entry in tale[1 : len(tale) // 2]:
                writer.append(entry)
            writer.append_entries(tale[max(1, len(tale) // 2) :])
            action, number = actions[at % len(actions)]
            if action == "compact":
                start = tale[0]
                assert isinstance(start, sl.SegmentStart)
                segment_id = writer.compact(sl.SegmentStartState(start.system_prompt, start.config, start.history))
                continue
            cut = valid_cut(store, segment_id, number)
            if action == "rollback":
                writer.rollback(cut)
            elif action == "fork":
                segment_id = writer.fork_at_entry(cut)
            elif action == "copy":
                segment_id = writer.fork_at_entry(cut, copy_history=True)
    return segment_id


ACTIONS = st.tuples(st.sampled_from(["none", "rollback", "rollback", "fork", "copy", "compact"]), st.integers(0, 99))


@both
@given(
    tales=st.lists(histories(max_turns=2), min_size=1, max_size=3),
    actions=st.lists(ACTIONS, min_size=1, max_size=3),
    where=st.integers(0, 99),
)
def test_fork_by_reference_its_copy_and_the_source_at_the_cut_are_one_state(
    open_store: OpenStore, tales: list[Entries], actions: list[tuple[str, int]], where: int
) -> None:
    """F34, F36: after any history, rollbacks, forks of forks and compactions in it, at any cut."""
    with open_store() as store:
        source = grow(store, tales, actions)
        cut = valid_cut(store, source, where)
        expected = sl.restore(store, SESSION_ID, source, at_entries=cut)

        by_reference = sl.restore(store, SESSION_ID, sl.fork_at_entry(store, SESSION_ID, source, cut))
        alone = sl.restore(store, SESSION_ID, sl.fork_at_entry(store, SESSION_ID, source, cut, copy_history=True))

        assert folded(by_reference) == folded(expected)
        assert folded(alone) == folded(expected)
        assert (by_reference.entries_count, alone.entries_count, expected.entries_count) == (1, 1, cut)


@both
@given(tales=st.lists(histories(max_turns=2, tails=False), min_size=1, max_size=3), data=st.data())
def test_a_fork_at_a_turn_is_the_source_at_that_turn(
    open_store: OpenStore, tales: list[Entries], data: st.DataObject
) -> None:
    """Turns inherited over forks of forks can be named; what belongs to a turn behind its turn_end is in it."""
    with open_store() as store:
        segment_id = sl.new_segment_id()
        store.create_segment(SESSION_ID, segment_id, [sl.encode_line(tales[0][0])])
        states: dict[int, Folded] = {0: folded(sl.restore(store, SESSION_ID, segment_id))}
        turn = 0
        for tale in tales:
            with sl.SegmentWriter.resume(store, SESSION_ID, segment_id) as writer:
                for entry in tale[1:]:
                    if isinstance(entry, (sl.Invoke, sl.UserInput)):
                        states.setdefault(turn, folded(writer.state))
                    if isinstance(entry, sl.TurnEnd):
                        turn += 1
                        writer.save_turn_end()
                        states.pop(turn, None)
                    else:
                        writer.append(entry)
                segment_id = writer.fork_at(turn)
        states[turn] = folded(sl.restore(store, SESSION_ID, segment_id))

        named = data.draw(st.sampled_from(sorted(states)))
        expected = states[named]
        if named == 0:
            expected = fold(expected, [])
        assert folded(sl.restore(store, SESSION_ID, segment_id, at_turn=named)) == expected
        assert folded(sl.restore(store, SESSION_ID, sl.fork_at(store, SESSION_ID, segment_id, named))) == expected
        alone = sl.fork_at(store, SESSION_ID, segment_id, named, copy_history=True)
        assert folded(sl.restore(store, SESSION_ID, alone)) == expected


def test_a_fork_of_a_fork_of_a_fork_has_all_of_them(store: sl.Store) -> None:
    """F17: nested forks inherit through each other, and each goes on alone."""
    with session(store, 1) as writer:
        chain = [writer.segment_id]
    for number in (2, 3, 4):
        child = sl.fork_at(store, writer.session_id, chain[-1], number - 1)
        with sl.SegmentWriter.resume(store, writer.session_id, child) as inner:
            record_turn(inner, f"turn {number}")
        chain.append(child)

    for turns, segment_id in enumerate(chain, 1):
        state = sl.restore(store, writer.session_id, segment_id)
        assert state.turn_count == turns
        assert [record.input_total_tokens for record in state.usage_history] == [6] * turns
        assert [segments[0] for segments in state.user_segments] == [
            sl.TextInput(f"turn {number}") for number in range(1, turns + 1)
        ]
        for turn in range(turns + 1):
            assert state_of(store, writer, segment_id, at_turn=turn) == state_of(store, writer, chain[-1], at_turn=turn)


def test_a_child_does_not_see_what_others_go_on_writing(store: sl.Store) -> None:
    """A fork stands on lines, not on a file: appends, rollbacks and compactions of its parent are not its own."""
    with session(store, 2) as writer:
        child = writer.fork_at(1)
        before = {turn: state_of(store, writer, child, at_turn=turn) for turn in (0, 1)}
        changes: list[Callable[[], Any]] = [
            lambda: record_turn(writer, "three"),
            lambda: writer.rollback(1),
            lambda: writer.rollback(TURN_LINES + 1),
            lambda: writer.save_config_changed(sl.RequestConfig(max_tokens=1)),
            lambda: writer.compact(sl.SegmentStartState("other")),
        ]
        for change in changes:
            change()
            assert state_of(store, writer, child) == before[1]
            for turn, state in before.items():
                assert state_of(store, writer, child, at_turn=turn) == state


def test_a_turn_that_its_parent_went_on_with_can_still_be_named(store: sl.Store) -> None:
    """A child forked right behind a turn_end inherits that turn, though the parent's turn has more lines by now."""
    writer = sl.SegmentWriter.create(store)
    writer.save_invoke()
    writer.save_turn_end()
    child = writer.fork_at(1)
    writer.save_run_completed()
    writer.save_invoke()

    assert sl.restore(store, writer.session_id, child, at_turn=1).last_run_interrupted
    assert not sl.restore(store, writer.session_id, writer.segment_id, at_turn=1).last_run_interrupted


def test_a_turn_that_its_parent_rolled_back_can_still_be_named(store: sl.Store) -> None:
    """What a child inherits is what was there when it was forked."""
    with session(store, 2) as writer:
        child = writer.fork_at(2)
        expected = {turn: state_of(store, writer, child, at_turn=turn) for turn in (0, 1, 2)}
        writer.rollback(1)

        for turn, state in expected.items():
            assert state_of(store, writer, child, at_turn=turn) == state
        assert state_of(store, writer, writer.fork_at(0)).turn_count == 0


def test_a_turn_that_ended_in_the_parent_and_went_on_in_the_child_is_one_turn(store: sl.Store) -> None:
    """After an automatic fork behind a turn_end, that turn's usage and run's end are in the child."""
    writer = sl.SegmentWriter.create(store)
    writer.save_invoke()
    writer.save_turn_end()
    sl.save_extension(store, writer.session_id, writer.segment_id, "other", 1)
    writer.save_usage(**tokens(7))
    writer.save_run_completed()
    writer.save_invoke()

    state = sl.restore(store, writer.session_id, writer.segment_id, at_turn=1)
    assert not state.last_run_interrupted
    assert [record.input_total_tokens for record in state.usage_history] == [7]
    assert state_of(store, writer, writer.fork_at(1)) == folded(state)


def test_the_cut_of_a_turn_is_before_the_next_one_and_zero_is_the_start(store: sl.Store) -> None:
    """The usage and the run's end behind a turn_end belong to the turn."""
    with session(store, 2) as writer:
        writer.save_invoke()
        for turn in (0, 1, 2):
            child = sl.read_entries(store, writer.session_id, writer.fork_at(turn))[0]
            assert isinstance(child, sl.SegmentStart)
            assert child.forked_from is not None
            assert (child.forked_from.at_turn_index, child.forked_from.entries) == (turn, 1 + TURN_LINES * turn)
            state = sl.restore(store, writer.session_id, writer.segment_id, at_turn=turn)
            assert (state.turn_count, len(state.usage_history), state.last_run_interrupted) == (turn, turn, False)


@pytest.mark.parametrize(
    "opener",
    [
        sl.Invoke(ts=1, trigger="x"),
        sl.UserInput(ts=1, segments=()),
        sl.AssistantItem(ts=1, item=sl.Message.assistant("x")),
        sl.ToolResultEntry(ts=1, item=sl.ToolResult("c", "x")),
        sl.TurnEnd(ts=1, turn_count=2),
    ],
    ids=lambda entry: type(entry).__name__,
)
def test_whatever_opens_the_next_turn_ends_the_one_before(store: sl.Store, opener: sl.LogEntry) -> None:
    """A run that goes on without a new invoke is a turn of its own, too; what is no part of a turn is not."""
    with session(store, 1) as writer:
        writer.save_extension("between", None)
        writer.append_system_item(sl.Interrupt(body="between"))
        expected = folded(writer.state)
        writer.append(opener)
        writer.save_run_completed()

        assert state_of(store, writer, writer.segment_id, at_turn=1) == expected
        assert state_of(store, writer, writer.fork_at(1)) == expected


# ── what survives ──────────────────────────────────────────────────────────────────────────────────────────────────


def rich_session(store: sl.Store) -> sl.SegmentWriter:
    writer = session(store, 2)
    writer.save_extension("memory.extract", {"facts": [1, {"deep": "größe"}]})
    writer.save_pod_scope(sl.PodScope(allow=(sl.ScopeRule("/src", "write", True),)))
    writer.append(sl.UserInput(ts=1, segments=(sl.FileRef("a.py"),), extensions=(sl.SessionExtension("inner", [1]),)))
    writer.save_invoke()
    return writer


def carried(state: sl.RestoredState) -> tuple[Any, ...]:
    return (
        state.turn_count,
        state.usage_history,
        state.user_segments,
        state.extensions,
        state.pod_scope,
        state.last_run_interrupted,
    )


@pytest.mark.parametrize("steps", ["f", "c", "k", "fck", "kfc", "kk", "ckfkcf"], ids=str)
def test_forks_and_compactions_carry_everything_but_the_history(store: sl.Store, steps: str) -> None:
    """F34: by reference (f), copied (c), compacted (k), in any order: all that is no history is carried."""
    with rich_session(store) as writer:
        expected = carried(writer.state)
        session_id, segment_id = writer.session_id, writer.segment_id
        assert expected[0] == 2
        assert expected[5] is True
    for step in steps:
        with sl.SegmentWriter.resume(store, session_id, segment_id) as writer:
            if step == "k":
                segment_id = writer.compact(sl.SegmentStartState("summary", history=(sl.Message.user("so far"),)))
            else:
                segment_id = writer.fork_at_entry(writer.head.entries, copy_history=step == "c")

        assert carried(sl.restore(store, session_id, segment_id)) == expected
    if "k" in steps:
        state = sl.restore(store, session_id, segment_id)
        assert state.history == (sl.Message.user("so far"),)
        assert state.usage_before_compaction == len(state.usage_history) == 2
        assert state.extensions_before_compaction == len(state.extensions) > 0
        assert state.system_prompt == "summary"


def test_turns_go_on_counting_behind_a_compaction(store: sl.Store) -> None:
    """F34: nothing starts again at zero; turns before a compaction cannot be named behind it."""
    with session(store, 3) as writer:
        source = writer.segment_id
        writer.compact(sl.SegmentStartState(history=(sl.Message.user("so far"),)))
        record_turn(writer, "four")
        writer.compact(sl.SegmentStartState())
        record_turn(writer, "five")

        assert writer.state.turn_count == 5
        assert writer.state.usage_before_compaction == 4
        assert [record.input_total_tokens for record in writer.state.usage_history] == [6, 6, 6, 4, 4]
        with pytest.raises(sl.InvalidCut) as caught:
            writer.fork_at(2)
        assert caught.value.nearest[-1] == 4
        assert state_of(store, writer, writer.fork_at(5)) == folded(writer.state)
        start = sl.read_entries(store, writer.session_id, writer.segment_id)[0]
        assert isinstance(start, sl.SegmentStart)
        assert start.compacted_from is not None
        assert start.forked_from is None
        assert sl.restore(store, writer.session_id, source).turn_count == 3


def test_usage_counts_once_where_it_was_written(store: sl.Store) -> None:
    """F36: over all lines of all segments of a session, each model call is there once."""
    with session(store, 2) as writer:
        for turn in (0, 1, 2):
            child = writer.fork_at(turn)
            with sl.SegmentWriter.resume(store, writer.session_id, child) as inner:
                record_turn(inner, "x" * (10 + turn))
            sl.fork_at(store, writer.session_id, child, turn, copy_history=True)
        writer.compact(sl.SegmentStartState())
        record_turn(writer, "after")

    written = [
        entry.input_total_tokens
        for segment_id in store.list_segments(writer.session_id)
        for entry in sl.read_entries(store, writer.session_id, segment_id)
        if isinstance(entry, sl.LlmUsage)
    ]
    assert sorted(written) == [5, 6, 6, 10, 11, 12]


def test_an_interrupted_call_survives_a_fork_and_can_be_closed_there(store: sl.Store) -> None:
    """F9: a fork at the end of a run that died has its pending call, whichever form it has."""
    writer = session(store, 1)
    writer.save_invoke()
    writer.save_delta([sl.ToolCall("call", "run", "{}")])

    for copy in (False, True):
        child = writer.fork_at_entry(writer.head.entries, copy_history=copy)
        with sl.SegmentWriter.resume(store, writer.session_id, child) as inner:
            (pending,) = inner.state.pending_tool_calls
            assert pending == sl.ToolCall("call", "run", "{}")
            assert inner.state.last_run_interrupted
            (result,) = sl.close_interrupted(inner)
            assert (result.call_id, result.is_error) == ("call", True)
            assert not inner.state.pending_tool_calls
            assert sl.close_interrupted(inner) == ()
    assert len(writer.state.pending_tool_calls) == 1


LATER_ITEM = (
    b'{"kind":"message","role":"assistant","later":{"n":1.0,"e":1e2},'
    b'"content":[{"kind":"text","text":"x","cache":[1]}]}'
)
LATER_CALL = (
    b'{"kind":"tool_call","call_id":"c","name":"run","arguments":"{}","provider":{"id":12345678901234567890123}}'
)
LATER_RESULT = b'{"kind":"tool_result","call_id":"c","summary":"ok","took_ms":5}'
LATER_KIND = b'{"kind":"hologram","voxels":[1,2.50]}'
LATER_PAYLOAD = b'{"b":1.0,"a":123456789012345678901234567890,"s":"\\ud83d"}'
LATER_INPUT = b'{"kind":"text","content":"typed","lang":"de"}'


def later_lines() -> list[bytes]:
    return [
        b'{"kind":"user_input","ts":1,"segments":[%b]}' % LATER_INPUT,
        b'{"kind":"assistant_item","ts":1,"item":%b}' % LATER_ITEM,
        b'{"kind":"assistant_item","ts":1,"item":%b}' % LATER_CALL,
        b'{"kind":"tool_result","ts":1,"item":%b}' % LATER_RESULT,
        b'{"kind":"assistant_item","ts":1,"item":%b}' % LATER_KIND,
        b'{"kind":"extension","ts":1,"domain":"d","payload":%b}' % LATER_PAYLOAD,
    ]


def copied_line(store: sl.Store, copies: int) -> bytes:
    session_id, segment_id = sl.create_segment(store)
    store.append(session_id, segment_id, later_lines())
    for _ in range(copies):
        segment_id = sl.fork_at_entry(
            store, session_id, segment_id, store.length(session_id, segment_id), copy_history=True
        )
    return next(iter(store.read(session_id, segment_id)))


@pytest.mark.parametrize("copies", [1, 2])
def test_keys_that_no_version_knows_survive_a_copy_byte_for_byte(store: sl.Store, copies: int) -> None:
    """F5: items and payloads are copied as they were written, spellings and key order; a copy's copy too."""
    line = copied_line(store, copies)

    for raw in (LATER_ITEM, LATER_CALL, LATER_RESULT, LATER_KIND, LATER_PAYLOAD):
        assert raw in line


def test_unknown_keys_of_typed_input_survive_a_copy(store: sl.Store) -> None:
    """F5: the pieces of what a user typed, too."""
    assert LATER_INPUT in copied_line(store, 1)


def test_a_fork_by_reference_is_small_however_long_the_source(fs: sl.FsStore) -> None:
    """F12: at most 600 bytes, the same after one turn and after many."""
    with session(fs, 40) as writer:
        sizes = {
            turn: fs.segment_path(writer.session_id, writer.fork_at(turn)).stat().st_size for turn in (0, 1, 9, 10, 40)
        }

    assert max(sizes.values()) <= 600
    assert max(sizes.values()) - min(sizes.values()) < 10


# ── ids ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "parent", ["ffffff00-0000-7000-8000-000000000000", "07000000-0000-7fff-bfff-ffffffffffff", "0" * 32]
)
def test_a_child_is_greater_than_its_parent_whatever_the_parents_id(store: sl.Store, parent: str) -> None:
    """Ids give order of creation, also behind an id that lies in the future."""
    session_id = sl.new_session_id()
    sl.create_segment_with_ids(store, session_id, parent, sl.SegmentStartState())
    with sl.SegmentWriter.resume(store, session_id, parent) as writer:
        ids = [
            writer.segment_id,
            writer.fork_at_entry(1),
            writer.fork_at_entry(1, copy_history=True),
            writer.fork_at(0),
        ]
        sl.save_invoke(store, session_id, parent, "notify")
        writer.save_invoke()
        ids.append(writer.segment_id)
        ids.append(writer.compact(sl.SegmentStartState()))

        assert all(child > ids[0] for child in ids[1:])
        assert ids[-1] > ids[-2]
        assert len(set(ids)) == len(ids)
        assert store.list_segments(session_id) == sorted(ids, reverse=True)


def test_fork_of_a_state_is_a_session_of_its_own(store: sl.Store) -> None:
    """``fork`` starts anew from a state, without lineage."""
    history = (sl.Message.user("a"), sl.Message.assistant("b"))

    session_id, segment_id = sl.fork(store, sl.SegmentStartState("p", sl.RequestConfig(top_k=1), history))

    state = sl.restore_by_segment(store, segment_id)
    assert (state.session_id, state.history, state.system_prompt) == (session_id, history, "p")
    start = sl.read_entries(store, session_id, segment_id)[0]
    assert isinstance(start, sl.SegmentStart)
    assert (start.forked_from, start.compacted_from) == (None, None)


def test_an_entry_of_a_later_kind_goes_along_into_a_copy_of_a_copy_byte_for_byte(store: sl.Store) -> None:
    """F5: a copy drops nothing that this version does not know; a later version finds it in ``carried.unknown``."""
    later = (
        b'{"kind":"telepathy","ts":7, "x":{"\\ud83d":[123456789012345678901234567890,{}]}}',
        b'{"kind":"dream","ts":8,"idem":"a"}',
    )
    session_id, segment_id = sl.create_segment(store, sl.SegmentStartState())
    sl.append_entries(store, session_id, segment_id, [sl.decode_line(line) for line in later])

    copy = sl.fork_at_entry(store, session_id, segment_id, 3, copy_history=True)
    again = sl.fork_at_entry(store, session_id, copy, 1, copy_history=True)

    for child in (copy, again):
        start = sl.read_entries(store, session_id, child)[0]
        assert isinstance(start, sl.SegmentStart)
        assert start.carried is not None
        assert tuple(bytes(raw) for raw in start.carried.unknown) == later
        assert sl.restore(store, session_id, child).unknown_entries == len(later)
