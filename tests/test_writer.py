"""The writer: what each of its methods records, when, and that it is nobody else's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import session_log as sl
from oracle import fold, folded
from recorded import CALL, RESULT, SAID, TOKENS, VERBS, intrude, lines, on_file, restored, timeless


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


# ── what each method records ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("verb", "expected"), [verb[1:] for verb in VERBS], ids=[verb[0] for verb in VERBS])
def test_each_method_records_its_entry_and_returns_the_new_length(
    store: sl.Store, verb: Callable[[sl.SegmentWriter], int], expected: list[Any]
) -> None:
    """On file when it returns, in the state, and the same to every reader."""
    before = sl.now_ms()
    with sl.SegmentWriter.create(store, sl.SegmentStartState("prompt")) as writer:
        start = restored(store, writer)

        length = verb(writer)

        found = on_file(store, writer)[1:]
        assert list(map(timeless, found)) == list(map(timeless, expected))
        assert all(entry.ts >= before for entry in found if not isinstance(entry, sl.UnknownEntry) and entry.ts > 5)
        assert length == 1 + len(expected) == writer.head.entries == writer.state.entries_count
        assert folded(writer.state) == restored(store, writer) == fold(start, expected)
        assert writer.head == sl.head(store, writer.session_id, writer.segment_id)


def test_a_whole_session_is_in_the_state_after_each_step(store: sl.Store) -> None:
    """The state kept by the writer is what restore gives, after each step, looked at or not."""
    looked, blind = sl.SegmentWriter.create(store), sl.SegmentWriter.create(store)
    for _ in range(2):
        for _, verb, _ in VERBS:
            verb(looked)
            verb(blind)
            assert folded(looked.state) == restored(store, looked)
    assert folded(blind.state) == restored(store, blind)
    assert looked.state.head == looked.head


def test_a_writer_goes_on_where_another_left(store: sl.Store) -> None:
    """Resumed, it has the state of before, and turns count on."""
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("a")
        writer.save_turn_end()
    with sl.SegmentWriter.resume(store, writer.session_id.upper(), writer.segment_id) as again:
        assert folded(again.state) == folded(writer.state)
        assert again.head == writer.head
        again.save_turn_end()

        assert again.state.turn_count == 2


@pytest.mark.parametrize(
    "bad",
    [
        lambda w: w.append(sl.SegmentStart(ts=1, session_id=w.session_id, config=sl.RequestConfig(), history=())),
        lambda w: w.append(sl.Extension(ts=1, domain="session_log.rollback", payload={"to_entries": 1})),
        lambda w: w.save_extension("session_log.mine", 1),
        lambda w: w.save_extension("", 1),
        lambda w: w.save_extension("d", {"x": float("nan")}),
        lambda w: w.save_extension("d", {1: 2}),
        lambda w: w.save_extension("pod.scope", {"allow": 5}),
        lambda w: w.append(
            sl.UserInput(ts=1, segments=(), extensions=(sl.SessionExtension("pod.scope", {"deny": 1}),))
        ),
        lambda w: w.save_usage(*TOKENS, colour="red"),
        lambda w: w.save_usage(1.5, 1, 1, 1, 1),
        lambda w: w.save_user_input(5),
        lambda w: w.save_delta([5]),
        lambda w: w.save_delta([SAID, sl.ToolCall("c", "run", cast("Any", 5))]),
        lambda w: w.save_turn_end(-1),
        lambda w: w.save_turn_end("1"),
        lambda w: w.save_pod_scope({"allow": []}),
        lambda w: w.append("entry"),
        lambda w: w.append(sl.Invoke(ts=-1, trigger="x")),
        lambda w: w.append_entries([sl.Invoke(ts=1, trigger="x")] * (sl.MAX_BATCH_LINES + 1)),
    ],
)
def test_what_would_not_read_back_the_same_is_refused_and_nothing_is_written(
    store: sl.Store, bad: Callable[[Any], Any]
) -> None:
    """F19: a refusal changes neither file nor state, and the writer goes on."""
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("kept")
        before = lines(store, writer)

        with pytest.raises(sl.InvalidEntry):
            bad(writer)

        assert lines(store, writer) == before
        assert folded(writer.state) == restored(store, writer)
        with pytest.raises(sl.InvalidEntry), writer.batch():  # noqa: PT012
            writer.save_user_input("discarded with it")
            bad(writer)
        assert lines(store, writer) == before
        assert writer.save_invoke() == 3


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def clock(ticks: Iterator[int]) -> Iterator[None]:
    """Let the machine's clock show these milliseconds, one look after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: next(ticks) * 1_000_000)
        yield


NOW = 1_763_000_000_000


def times(store: sl.Store, session_id: str, segment_id: str) -> list[int]:
    found = sl.read_entries(store, session_id, segment_id)
    return [entry.ts for entry in found if not isinstance(entry, sl.UnknownEntry)]


@pytest.mark.parametrize("step", [-60_000, 7], ids=["back", "on"])
def test_times_never_decrease_within_a_segment_whatever_the_clock_does(store: sl.Store, step: int) -> None:
    """F27: through verbs, batches, resumes, free functions, rollbacks, forks and compactions."""
    with clock(itertools.count(NOW, step)):
        writer = sl.SegmentWriter.create(store)
        for _, verb, _ in VERBS:
            verb(writer)
        with writer.batch():
            for _, verb, _ in VERBS:
                verb(writer)
        writer = sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id)
        ids = writer.session_id, writer.segment_id
        writer.save_invoke()
        sl.save_user_input(store, *ids, "free")
        sl.save_delta(store, *ids, [SAID, CALL])
        writer.save_invoke()
        assert writer.segment_id != ids[1]
        intrude(store, writer)
        with writer.batch():
            writer.save_invoke()
            writer.save_invoke()
        writer.rollback(1)
        for child in (writer.fork_at_entry(1), writer.fork_at_entry(1, copy_history=True)):
            sl.save_invoke(store, writer.session_id, child, "notify")
        writer.compact(sl.SegmentStartState())
        writer.save_invoke()

    for segment_id in store.list_segments(writer.session_id):
        found = times(store, writer.session_id, segment_id)
        known = [ts for ts in found if ts not in (1, 2, 5)]  # those that were given with an entry
        assert known == sorted(known), segment_id


def test_times_go_on_from_an_entry_that_brought_a_later_one(store: sl.Store) -> None:
    """F27: an imported entry keeps its own time; what follows is not before it, and an early one sets nothing back."""
    writer = sl.SegmentWriter.create(store)
    writer.append(sl.Invoke(ts=NOW * 2, trigger="imported"))
    writer.append(sl.Invoke(ts=5, trigger="imported"))
    writer.save_invoke()
    writer.append_entries([sl.Invoke(ts=NOW * 3, trigger="imported"), sl.Invoke(ts=6, trigger="imported")])
    writer.save_invoke()
    again = sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id)
    again.save_invoke()

    found = times(store, writer.session_id, writer.segment_id)
    assert found[1:] == [NOW * 2, 5, NOW * 2, NOW * 3, 6, NOW * 3, NOW * 3]


# ── what is the caller's is the caller's ───────────────────────────────────────────────────────────────────────────


def test_what_a_caller_changes_later_does_not_reach_the_log(store: sl.Store) -> None:
    """F31: neither what was given, nor what was returned, nor what was read is part of the writer or the store."""
    payload: dict[str, Any] = {"list": [1], "map": {"a": 1}}
    inner = {"n": [1]}
    history: list[Any] = [sl.Message.user("seed")]
    typed = [sl.TextInput("typed")]
    items: list[sl.Item] = [SAID, CALL]
    writer = sl.SegmentWriter.create(store, sl.SegmentStartState(history=history))  # type: ignore[arg-type]
    history.append(sl.Message.user("added"))
    writer.save_extension("d", payload)
    writer.append(sl.UserInput(ts=1, segments=typed, extensions=[sl.SessionExtension("e", inner)]))  # type: ignore[arg-type]
    writer.save_delta(items)
    with writer.batch():
        writer.save_extension("b", payload)
        payload["list"].append(2)
    expected = restored(store, writer)
    assert expected.extensions == [
        ("d", {"list": [1], "map": {"a": 1}}),
        ("e", {"n": [1]}),
        ("b", {"list": [1], "map": {"a": 1}}),
    ]

    payload["map"].clear()
    inner["n"].append(2)
    typed.clear()
    items.clear()
    for state in (writer.state, writer.state, sl.restore(store, writer.session_id, writer.segment_id)):
        for _, found in state.extensions:
            found.clear()
    for entry in on_file(store, writer):
        if isinstance(entry, sl.Extension):
            entry.payload.clear()
    child = writer.fork_at_entry(writer.head.entries, copy_history=True)

    assert folded(writer.state) == restored(store, writer) == expected
    assert folded(sl.restore(store, writer.session_id, child)) == expected
    writer.save_invoke()
    assert folded(writer.state) == fold(expected, [sl.Invoke(ts=0, trigger="user_send")])


# ── rollback ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rollback_and_redo_are_lines(store: sl.Store) -> None:
    """History is never rewritten: state goes back and forth, the file only grows."""
    writer = sl.SegmentWriter.create(store)
    states = [folded(writer.state)]
    for number in range(3):
        writer.save_user_input(f"text {number}")
        states.append(folded(writer.state))
    before = lines(store, writer)

    for target in (2, 1, 4, 3, 5, 4):
        expected = states[target - 1] if target < 5 else states[1]
        writer.rollback(target)
        assert folded(writer.state) == restored(store, writer) == expected
    assert lines(store, writer)[: len(before)] == before
    assert writer.head.entries == 10
    writer.save_user_input("on")
    assert folded(writer.state) == restored(store, writer)


def test_a_rollback_behind_another_writer_is_a_fork_at_that_place(store: sl.Store) -> None:
    """Nothing of either is lost, and the state is the one asked for."""
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("one")
    expected = folded(writer.state)
    writer.save_user_input("two")
    source = writer.segment_id
    intrude(store, writer)
    before = lines(store, writer)

    assert writer.rollback(2) == 1

    assert folded(writer.state) == restored(store, writer) == expected
    assert writer.segment_id != source
    assert list(store.read(writer.session_id, source)) == before


# ── interrupted calls ──────────────────────────────────────────────────────────────────────────────────────────────


def test_interrupted_calls_are_closed_with_error_results_in_one_write(store: sl.Store) -> None:
    """F9: each pending call gets its result, by position, once; a provider accepts the history again."""
    writer = sl.SegmentWriter.create(store)
    assert sl.close_interrupted(writer) == ()
    writer.save_delta([CALL, RESULT, sl.ToolCall("a", "run", "{}"), CALL])
    assert list(writer.state.pending_tool_calls) == [sl.ToolCall("a", "run", "{}"), CALL]

    closed = sl.close_interrupted(writer)

    assert [(result.call_id, result.is_error) for result in closed] == [("a", True), ("c", True)]
    assert b'"batch":2' in lines(store, writer)[5]
    assert not writer.state.pending_tool_calls
    assert writer.state.history[-2:] == closed
    assert sl.close_interrupted(writer) == ()
    assert folded(writer.state) == restored(store, writer)
