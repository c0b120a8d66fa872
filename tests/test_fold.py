"""The laws of the fold: entries in, state out; the state at a line depends on the lines up to it, on nothing else."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_log import (
    AssistantItem,
    Carried,
    CorruptSegment,
    Extension,
    FsStore,
    InvalidEntry,
    Invoke,
    Item,
    LogEntry,
    Message,
    PausedTurnAbandoned,
    PodScope,
    Reasoning,
    RequestConfig,
    RestoredState,
    RunCompleted,
    RunErrored,
    ScopeRule,
    SegmentStart,
    SegmentWriter,
    SessionExtension,
    TextInput,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TurnEnd,
    Unknown,
    UnknownEntry,
    UserInput,
    collect_state,
    restore,
)
from session_log._fold import Fold
from strategies import SESSION_ID, entries, extensions, histories

START = SegmentStart(ts=1, session_id=SESSION_ID, config=RequestConfig(max_tokens=100), history=(), v=1)
CALL = ToolCall("c", "read", "{}")
LATER = Unknown("x", b'{"kind":"x"}')


def contents(state: RestoredState) -> RestoredState:
    """Return the state without the count of lines."""
    return msgspec.structs.replace(state, entries_count=0)


# ── whole histories ────────────────────────────────────────────────────────────────────────────────────────────────


@given(histories(), st.data())
def test_folding_bit_by_bit_is_folding_at_once(history: list[LogEntry], draw: st.DataObject) -> None:
    """The fold of a concatenation is the incremental fold, whatever the bits and however often it is looked at."""
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(history)), max_size=4)))
    fold = Fold()

    for start, stop in zip([0, *cuts], [*cuts, len(history)], strict=True):
        fold.extend(history[start:stop])
        assert fold.freeze(None, entries_count=stop) == collect_state(history[:stop])


@given(histories(), st.data())
def test_a_line_without_an_entry_changes_nothing_but_the_count(history: list[LogEntry], draw: st.DataObject) -> None:
    """A blank or damaged line has its place, and no meaning."""
    at = draw.draw(st.integers(0, len(history)))
    fold = Fold()

    fold.extend([*history[:at], None, *history[at:]])

    assert fold.freeze(None, entries_count=len(history)) == collect_state(history)


@given(histories())
def test_a_run_is_interrupted_until_a_record_says_how_it_ended(history: list[LogEntry]) -> None:
    """``last_run_interrupted``: an invoke without a terminal record behind it, or what the last of those says."""
    last: LogEntry = START
    for entry in history:
        if isinstance(entry, (Invoke, RunCompleted, RunErrored, PausedTurnAbandoned)):
            last = entry

    expected = isinstance(last, Invoke) or getattr(last, "interrupted", False)
    assert collect_state(history).last_run_interrupted == expected
    assert not collect_state([*history, PausedTurnAbandoned(ts=1)]).last_run_interrupted


def pending(found: Sequence[Item]) -> list[ToolCall]:
    """Return the calls that no result answers, the plain way: each result takes the nearest open call above it."""
    answered: set[int] = set()
    for at, item in enumerate(found):
        if isinstance(item, ToolResult):
            above = [
                index
                for index in range(at)
                if isinstance(call := found[index], ToolCall) and call.call_id == item.call_id and index not in answered
            ]
            answered.update(above[-1:])
    return [item for at, item in enumerate(found) if isinstance(item, ToolCall) and at not in answered]


ITEMS: list[Item] = [
    *(ToolCall(call_id, name, "") for call_id in "ab" for name in "12"),
    *(ToolResult(call_id, "") for call_id in "abc"),
    Message.user("u"),
    Reasoning("r"),
    LATER,
]


@given(st.lists(st.sampled_from(ITEMS), max_size=10), st.integers(0, 10))
@example([ITEMS[0], ITEMS[1], ITEMS[2], ITEMS[4]], 0)  # the later one of two, behind another call
@example([ITEMS[4], ITEMS[0]], 1)  # a result above the call answers nothing
def test_pending_calls_are_matched_by_position_not_by_id_alone(found: list[Item], seed: int) -> None:
    """F9: ids are reused; a result answers the latest open call of its id, and a call above a start counts, too."""
    start = msgspec.structs.replace(START, history=tuple(found[:seed]))
    recorded = [
        ToolResultEntry(ts=2, item=item) if isinstance(item, ToolResult) else AssistantItem(ts=2, item=item)
        for item in found[seed:]
    ]
    state = collect_state([start, *recorded])

    assert list(state.pending_tool_calls) == pending(found)
    assert list(state.history) == found


def test_a_result_recorded_as_an_assistant_item_answers_its_call() -> None:
    """Providers run some tools themselves: their results come from the model."""
    state = collect_state([START, AssistantItem(ts=2, item=CALL), AssistantItem(ts=2, item=ToolResult("c", "s"))])

    assert state.pending_tool_calls == ()


# ── rollback ───────────────────────────────────────────────────────────────────────────────────────────────────────


def rollback(to_entries: Any) -> Extension:
    """Return the line that says: the state after the first lines."""
    return Extension(ts=3, domain="session_log.rollback", payload={"to_entries": to_entries})


@given(histories(), st.data())
def test_a_rollback_restores_the_state_of_the_first_lines(history: list[LogEntry], draw: st.DataObject) -> None:
    """The state after a rollback to n is the state after n lines, and what comes behind it goes on from there."""
    to = draw.draw(st.integers(1, len(history)))
    more = draw.draw(histories(max_turns=1))[1:]

    assert contents(collect_state([*history, rollback(to)])) == contents(collect_state(history[:to]))
    assert contents(collect_state([*history, rollback(to), *more])) == contents(collect_state([*history[:to], *more]))
    assert collect_state([*history, rollback(to), *more]).entries_count == len(history) + 1 + len(more)


@given(histories(), st.data())
def test_a_redo_is_a_rollback_to_later_lines(history: list[LogEntry], draw: st.DataObject) -> None:
    """Nothing is ever lost: from any depth of undoing, a rollback to the line of a state returns that state."""
    found: list[LogEntry] = list(history)
    states = [contents(collect_state(found[:stop])) for stop in range(1, len(found) + 1)]
    for _ in range(draw.draw(st.integers(1, 4))):
        to = draw.draw(st.integers(1, len(found)))
        found.append(rollback(to))
        states.append(states[to - 1])
        found.append(UserInput(ts=4, segments=(TextInput(f"after {to}"),)))
        states.append(contents(collect_state(found)))

        assert contents(collect_state(found[:-1])) == states[-2]
        assert states[-1].history == (*states[-2].history, Message.user(f"after {to}"))
    for stop in range(1, len(found) + 1):
        assert contents(collect_state([*found, rollback(stop)])) == states[stop - 1]


@pytest.mark.parametrize("to_entries", [0, -1, 3, 1_000, None, "1", 1.0, True, [1]], ids=repr)
def test_a_rollback_that_points_nowhere_is_an_error(to_entries: Any) -> None:
    """It keeps at least the first line, and at most those before it; it is not clipped."""
    with pytest.raises(InvalidEntry) as caught:
        collect_state([START, TurnEnd(ts=2, turn_count=1), rollback(to_entries)])
    assert caught.value.path == "$.payload.to_entries"


@pytest.mark.parametrize("payload", [None, 5, [], "x", {}], ids=repr)
def test_a_rollback_without_a_target_is_an_error(payload: Any) -> None:
    """Its payload is an object with ``to_entries``."""
    with pytest.raises(InvalidEntry):
        collect_state([START, Extension(ts=2, domain="session_log.rollback", payload=payload)])


def test_a_rollback_counts_lines_without_an_entry() -> None:
    """Positions are lines of the segment: what a follower counted stays right."""
    text = UserInput(ts=2, segments=(TextInput("kept"),))
    gone = UserInput(ts=2, segments=(TextInput("gone"),))

    assert collect_state([START, text, gone, rollback(2)]).history == (Message.user("kept"),)
    assert collect_state([START, rollback(1), text, gone, rollback(3)]).history == (Message.user("kept"),)


# ── pod scope ──────────────────────────────────────────────────────────────────────────────────────────────────────

RULE = {"target": "t", "permission": "write", "recursive": False}
MALFORMED: list[Any] = [
    None,
    5,
    "all",
    [RULE],
    {"allow": RULE},
    {"allow": [{**RULE, "target": None}]},
    {"allow": [{"target": "t"}]},
    {"allow": [], "deny": None},
    {"allow": [], "deny": ["t"]},
    {"allow": [{**RULE, "recursive": "yes"}]},
]


def test_the_last_pod_scope_counts() -> None:
    """Absent lists are empty; what a later scope does not allow is not allowed."""
    first = Extension(ts=2, domain="pod.scope", payload={"allow": [RULE], "deny": [RULE]})
    rule = ScopeRule("t", "write", recursive=False)
    last = Extension(ts=3, domain="pod.scope", payload={"deny": [{**RULE, "later": 1}], "later": 2})

    assert collect_state([START]).pod_scope is None
    assert collect_state([START, first]).pod_scope == PodScope(
        (ScopeRule("t", "write", False),) * 1, (ScopeRule("t", "write", False),)
    )
    assert collect_state([START, first, last]).pod_scope == PodScope((), (rule,))
    assert len(collect_state([START, first, last]).extensions) == 2


@pytest.mark.parametrize("payload", MALFORMED, ids=repr)
def test_a_malformed_pod_scope_fails_closed(payload: Any) -> None:
    """What a pod may touch is never guessed: an error, wherever the scope stands."""
    own = SessionExtension("pod.scope", payload)
    places: list[list[LogEntry]] = [
        [START, Extension(ts=2, domain="pod.scope", payload=payload)],
        [START, UserInput(ts=2, segments=(), extensions=(own,))],
        [msgspec.structs.replace(START, carried=Carried(extensions=(own,)))],
    ]
    for found in places:
        with pytest.raises(InvalidEntry, match="pod scope"):
            collect_state(found)


def test_an_entry_that_cannot_be_folded_is_not_folded_in_part() -> None:
    """What salvage lists as damage has left no trace in the state."""
    fold = Fold()
    fold.extend([START])
    bad = UserInput(ts=2, segments=(TextInput("half"),), extensions=(SessionExtension("pod.scope", 5),))

    with pytest.raises(InvalidEntry):
        fold.extend([bad])

    assert fold.freeze(None, entries_count=1) == collect_state([START])


@pytest.mark.parametrize("payload", MALFORMED, ids=repr)
def test_a_malformed_pod_scope_is_not_recorded(tmp_path: Any, payload: Any) -> None:
    """An entry whose append returned can be restored: a scope inside an input is no exception."""
    own = SessionExtension("pod.scope", payload)
    with FsStore(tmp_path) as store, SegmentWriter.create(store) as writer:
        for entry in (
            Extension(ts=2, domain="pod.scope", payload=payload),
            UserInput(ts=2, segments=(), extensions=(own,)),
        ):
            with pytest.raises(InvalidEntry):
                writer.append(entry)

        try:
            assert restore(store, writer.session_id, writer.segment_id).entries_count == 1
        except CorruptSegment as exc:
            pytest.fail(f"recorded, and then not to be restored: {exc}")


# ── values ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(extensions(), min_size=1, max_size=3))
def test_a_state_owns_its_payloads(found: list[Extension]) -> None:
    """F31: changing what a state holds changes neither the entries nor a state taken before or after."""
    fold = Fold()
    fold.extend([START, *found, Extension(ts=2, domain="d", payload={"a": [1, {"b": []}]})])
    one, other = fold.freeze(None, entries_count=2), fold.freeze(None, entries_count=2)
    before = repr(other)

    one.extensions[-1].payload["a"][1]["b"].append("changed")
    one.extensions[-1].payload["a"].clear()
    for record in one.extensions[:-1]:
        if isinstance(record.payload, (dict, list)):
            record.payload.clear()

    assert repr(other) == before == repr(fold.freeze(None, entries_count=2))


def later(entry: LogEntry) -> int:
    """How many entries of later kinds there are in it."""
    if isinstance(entry, SegmentStart):
        return len(entry.carried.unknown) if entry.carried is not None else 0
    return int(isinstance(entry, UnknownEntry))


@given(st.lists(entries(), max_size=6))
def test_any_entries_fold(found: list[LogEntry]) -> None:
    """In whatever order they come, the fold neither fails nor loses an entry of a later kind."""
    state = collect_state(found)
    last_start = max((at for at, entry in enumerate(found) if isinstance(entry, SegmentStart)), default=0)

    assert state.entries_count == len(found)
    assert state.unknown_entries <= sum(map(later, found))
    assert state.unknown_entries >= sum(map(later, found[last_start:]))
