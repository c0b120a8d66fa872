"""The writer: what each of its methods records, and what it is worth after everything that can go wrong."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from oracle import Folded, fold, folded


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


def on_file(store: sl.Store, writer: sl.SegmentWriter) -> list[sl.LogEntry]:
    return sl.read_entries(store, writer.session_id, writer.segment_id)


def restored(store: sl.Store, writer: sl.SegmentWriter) -> Folded:
    return folded(sl.restore(store, writer.session_id, writer.segment_id))


def lines(store: sl.Store, writer: sl.SegmentWriter) -> list[bytes]:
    return list(store.read(writer.session_id, writer.segment_id))


def intrude(store: sl.Store, writer: sl.SegmentWriter, text: str = "other") -> None:
    """Somebody else writes to the writer's segment."""
    sl.save_extension(store, writer.session_id, writer.segment_id, text, None)


# ── what each method records ───────────────────────────────────────────────────────────────────────────────────────

TOKENS = (3, 100, 20, 10, 5)
SCOPE = sl.PodScope(allow=(sl.ScopeRule("/src", "write", True),), deny=(sl.ScopeRule("/src/.git", "write", True),))
CALL, RESULT = sl.ToolCall("c", "run", "{}"), sl.ToolResult("c", "ok")
SAID = sl.Message.assistant("größer")
VERBS: list[tuple[str, Callable[[sl.SegmentWriter], int], list[Any]]] = [
    ("invoke", lambda w: w.save_invoke(), [sl.Invoke(ts=0, trigger="user_send")]),
    ("invoke by", lambda w: w.save_invoke("wakeup"), [sl.Invoke(ts=0, trigger="wakeup")]),
    ("text", lambda w: w.save_user_input("hi"), [sl.UserInput(ts=0, segments=(sl.TextInput("hi"),))]),
    (
        "typed",
        lambda w: w.save_user_input([sl.FileRef("a.py"), sl.KnowledgeRef("k")]),
        [sl.UserInput(ts=0, segments=(sl.FileRef("a.py"), sl.KnowledgeRef("k")))],
    ),
    (
        "delta",
        lambda w: w.save_delta([sl.Message.user("skipped"), SAID, CALL, RESULT]),
        [
            sl.AssistantItem(ts=0, item=SAID),
            sl.AssistantItem(ts=0, item=CALL),
            sl.ToolResultEntry(ts=0, item=RESULT),
        ],
    ),
    ("nothing", lambda w: w.save_delta([sl.Message.user("skipped")]), []),
    ("nothing at all", lambda w: w.append_entries([]), []),
    ("turn end", lambda w: w.save_turn_end(), [sl.TurnEnd(ts=0, turn_count=1)]),
    ("turn end of", lambda w: w.save_turn_end(7), [sl.TurnEnd(ts=0, turn_count=7)]),
    ("completed", lambda w: w.save_run_completed(), [sl.RunCompleted(ts=0, interrupted=False, result="finished")]),
    (
        "paused",
        lambda w: w.save_run_completed("paused", interrupted=True),
        [sl.RunCompleted(ts=0, interrupted=True, result="paused")],
    ),
    ("errored", lambda w: w.save_run_errored("boom"), [sl.RunErrored(ts=0, interrupted=False, message="boom")]),
    (
        "usage",
        lambda w: w.save_usage(*TOKENS, model="m", latency_ms=9),
        [
            sl.LlmUsage(
                ts=0,
                history_len=3,
                input_total_tokens=100,
                cache_read_tokens=20,
                cache_write_tokens=10,
                output_tokens=5,
                model="m",
                latency_ms=9,
            )
        ],
    ),
    (
        "config",
        lambda w: w.save_config_changed(sl.RequestConfig(max_tokens=1)),
        [sl.ConfigChanged(ts=0, config=sl.RequestConfig(max_tokens=1))],
    ),
    (
        "extension",
        lambda w: w.save_extension("d", {"x": [1, None]}),
        [sl.Extension(ts=0, domain="d", payload={"x": [1, None]})],
    ),
    (
        "pod scope",
        lambda w: w.save_pod_scope(SCOPE),
        [
            sl.Extension(
                ts=0,
                domain="pod.scope",
                payload={
                    "allow": [{"target": "/src", "permission": "write", "recursive": True}],
                    "deny": [{"target": "/src/.git", "permission": "write", "recursive": True}],
                },
            )
        ],
    ),
    (
        "system item",
        lambda w: w.append_system_item(sl.Interrupt(body="stop")),
        [sl.SystemItemEntry(ts=0, item=sl.Interrupt(body="stop"))],
    ),
    ("entry", lambda w: w.append(sl.PausedTurnAbandoned(ts=5)), [sl.PausedTurnAbandoned(ts=5)]),
    (
        "entries",
        lambda w: w.append_entries(iter([sl.Invoke(ts=1, trigger="a"), sl.Invoke(ts=2, trigger="b")])),
        [sl.Invoke(ts=1, trigger="a"), sl.Invoke(ts=2, trigger="b")],
    ),
    (
        "later kind",
        lambda w: w.append(sl.UnknownEntry(kind="k", raw=b'{"kind":"k","n":1.0}')),
        [sl.UnknownEntry(kind="k", raw=b'{"kind":"k","n":1.0}')],
    ),
]


def timeless(entry: Any) -> Any:
    return entry if isinstance(entry, sl.UnknownEntry) else type(entry)(**{**_fields(entry), "ts": 0})


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


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
        lambda w: w.save_delta([SAID, sl.ToolCall("c", "run", 5)]),
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
    """F27: an imported entry keeps its own time, and what follows is not before it; an early one does not set it back."""
    writer = sl.SegmentWriter.create(store)
    writer.append(sl.Invoke(ts=NOW * 2, trigger="imported"))
    writer.append(sl.Invoke(ts=5, trigger="imported"))
    writer.append_entries([sl.Invoke(ts=NOW * 3, trigger="imported"), sl.Invoke(ts=6, trigger="imported")])
    writer.save_invoke()
    again = sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id)
    again.save_invoke()

    found = times(store, writer.session_id, writer.segment_id)
    assert found[1:-2] == [NOW * 2, 5, NOW * 3, 6]
    assert min(found[-2:]) >= NOW * 3


# ── what is the caller's is the caller's ───────────────────────────────────────────────────────────────────────────


def test_what_a_caller_changes_later_does_not_reach_the_log(store: sl.Store) -> None:
    """F31: neither what was given, nor what was returned, nor what was read is part of the writer or the store."""
    payload: dict[str, Any] = {"list": [1], "map": {"a": 1}}
    inner = {"n": [1]}
    history: list[Any] = [sl.Message.user("seed")]
    typed = [sl.TextInput("typed")]
    items = [SAID, CALL]
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


# ── batches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_is_nothing_until_its_end_and_then_all(fs: sl.FsStore) -> None:
    """One write at the end; until then neither file nor state has it, though each call says where it will be."""
    writer = sl.SegmentWriter.create(fs)
    path = fs.segment_path(writer.session_id, writer.segment_id)
    before = path.read_bytes()

    with writer.batch() as same:
        assert same is writer
        lengths = [writer.save_invoke(), writer.save_user_input("x"), writer.save_delta([CALL, RESULT])]
        assert path.read_bytes() == before
        assert writer.state.entries_count == writer.head.entries == 1
        turns = [writer.save_turn_end(), writer.save_turn_end()]
    assert (lengths, turns) == ([2, 3, 5], [6, 7])
    assert writer.state.turn_count == 2
    assert b'"batch":6' in path.read_bytes().split(b"\n")[1]
    assert folded(writer.state) == restored(fs, writer)

    before = path.read_bytes()
    with writer.batch():
        pass
    assert path.read_bytes() == before
    with writer.batch():
        writer.save_invoke()
    assert b'"batch"' not in path.read_bytes()[len(before) :]


def test_a_batch_that_fails_is_discarded_whole(store: sl.Store) -> None:
    """An exception inside, whatever it is, leaves nothing of the batch."""
    writer = sl.SegmentWriter.create(store)
    before = lines(store, writer)

    for error in (ZeroDivisionError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error), writer.batch():  # noqa: PT012
            writer.save_invoke()
            writer.save_turn_end()
            raise error
        assert lines(store, writer) == before
        assert writer.state.turn_count == 0
    writer.save_turn_end()
    assert writer.state.turn_count == 1


def test_batches_neither_nest_nor_hold_rollbacks(store: sl.Store) -> None:
    """The refusal discards the batch, and the writer goes on."""
    writer = sl.SegmentWriter.create(store)
    writer.save_invoke()

    for bad in (lambda: writer.batch().__enter__(), lambda: writer.rollback(1)):
        with pytest.raises(sl.CallerError), writer.batch():  # noqa: PT012
            writer.save_invoke()
            bad()
    assert writer.head.entries == 2
    assert writer.rollback(1) == 3


def test_a_batch_behind_another_writer_goes_into_the_fork_whole(store: sl.Store) -> None:
    """The batch is in the fork from its first moment on, and still a batch."""
    writer = sl.SegmentWriter.create(store)
    source = writer.segment_id
    with writer.batch():
        writer.save_invoke()
        writer.save_user_input("x")
        intrude(store, writer)

    assert writer.segment_id > source
    assert [type(entry) for entry in on_file(store, writer)] == [sl.SegmentStart, sl.Invoke, sl.UserInput]
    assert b'"batch":2' in lines(store, writer)[1]
    assert folded(writer.state) == restored(store, writer)


# ── somebody else ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_behind_another_writer_it_goes_on_in_a_fork_of_what_it_had(store: sl.Store) -> None:
    """F6: nothing of either is lost, and neither sees the other's lines."""
    mine = sl.SegmentWriter.create(store)
    mine.save_user_input("both")
    theirs = sl.SegmentWriter.resume(store, mine.session_id, mine.segment_id)
    theirs.save_user_input("theirs")

    assert mine.save_user_input("mine") == 2

    assert theirs.segment_id < mine.segment_id
    for writer, texts in ((mine, ["both", "mine"]), (theirs, ["both", "theirs"])):
        state = sl.restore(store, writer.session_id, writer.segment_id)
        assert [item.text for item in state.history if isinstance(item, sl.Message)] == texts
        assert folded(writer.state) == folded(state)
    theirs.save_invoke()
    assert theirs.segment_id != mine.segment_id


def test_with_raise_nothing_is_written_and_nothing_changes(store: sl.Store) -> None:
    """F6: the one behind is told where the log is, as often as it tries."""
    writer = sl.SegmentWriter.create(store, on_conflict="raise")
    intrude(store, writer)
    before = lines(store, writer)

    for act in (writer.save_invoke, lambda: writer.save_delta([SAID, CALL]), lambda: writer.rollback(1)):
        with pytest.raises(sl.HeadMoved) as caught:
            act()
        assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert lines(store, writer) == before
    assert store.list_segments(writer.session_id) == [writer.segment_id]
    assert writer.state.extensions == ()
    assert sl.ensure_head_or_fork(store, writer.head).segment_id != writer.segment_id


def test_a_policy_must_be_one_of_two(store: sl.Store) -> None:
    """A mistyped policy is refused before anything is opened."""
    session_id, segment_id = sl.create_segment(store)

    with pytest.raises(sl.CallerError, match="neither"):
        sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="merge")  # type: ignore[arg-type]


def test_an_exclusive_writer_keeps_others_out_until_it_is_closed(store: sl.Store) -> None:
    """Others are told who holds it, or go on in a fork at once; closing lets them in."""
    holder = sl.SegmentWriter.create(store, exclusive=True)
    ids = holder.session_id, holder.segment_id
    other = sl.SegmentWriter.resume(store, *ids, on_conflict="raise")
    for act in (
        other.save_invoke,
        lambda: sl.save_invoke(store, *ids, "notify"),
        lambda: sl.SegmentWriter.resume(store, *ids, on_conflict="raise", exclusive=True),
    ):
        with pytest.raises(sl.SegmentBusy) as caught:
            act()
        assert caught.value.owner
    holder.save_user_input("mine")
    forked = sl.SegmentWriter.resume(store, *ids, exclusive=True)
    assert forked.segment_id > holder.segment_id
    late = sl.SegmentWriter.resume(store, *ids)
    late.save_invoke()
    assert late.segment_id not in (holder.segment_id, forked.segment_id)
    assert sl.restore(store, *ids).entries_count == 2

    holder.close()
    with pytest.raises(sl.HeadMoved):
        other.save_invoke()
    with sl.SegmentWriter.resume(store, *ids, on_conflict="raise", exclusive=True) as again:
        again.save_invoke()


@pytest.mark.parametrize("how", ["fork", "compact", "rollback"])
def test_an_exclusive_writer_is_exclusive_where_it_goes_on(store: sl.Store, how: str) -> None:
    """After an automatic fork or a compaction it holds the new segment, and lets the old one go."""
    writer = sl.SegmentWriter.create(store)
    ids = writer.session_id, writer.segment_id
    writer.close()
    holder = sl.SegmentWriter.resume(store, *ids, exclusive=True)
    if how == "compact":
        holder.compact(sl.SegmentStartState())
    else:
        blocked = holder
        holder = sl.SegmentWriter.resume(store, *ids, exclusive=True)
        blocked.close()
    assert holder.segment_id != ids[1]

    with pytest.raises(sl.SegmentBusy):
        sl.save_invoke(store, holder.session_id, holder.segment_id, "notify")
    sl.save_invoke(store, *ids, "notify")
    holder.save_invoke()


def test_an_exclusive_writer_at_the_greatest_depth_is_exclusive_in_its_copy(store: sl.Store) -> None:
    """The fork that stands alone because the chain is too long is held like any other."""
    session_id, segment_id = sl.create_segment(store)
    for _ in range(sl.MAX_FORK_DEPTH):
        segment_id = sl.fork_at_entry(store, session_id, segment_id, 1)
    first = sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True)
    second = sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True)
    second.save_invoke()

    assert len({first.segment_id, second.segment_id}) == 2
    for writer in (first, second):
        with pytest.raises(sl.SegmentBusy):
            sl.save_invoke(store, session_id, writer.segment_id, "notify")


def test_a_writer_forgotten_without_close_holds_nothing(store: sl.Store) -> None:
    """F35: the collector frees its lock and its descriptor."""
    writer = sl.SegmentWriter.create(store, exclusive=True)
    ids = writer.session_id, writer.segment_id
    writer.save_invoke()
    gc.collect()
    open_before = len(os.listdir("/dev/fd"))
    del writer
    gc.collect()

    assert len(os.listdir("/dev/fd")) == open_before - isinstance(store, sl.FsStore)
    with sl.SegmentWriter.resume(store, *ids, on_conflict="raise", exclusive=True) as again:
        assert again.save_invoke() == 3


# ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_close_nothing_can_be_recorded_and_everything_be_read(store: sl.Store) -> None:
    """Closing is idempotent; state, head and ids stay."""
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("x")
    expected, head = folded(writer.state), writer.head
    writer.close()
    writer.close()
    before = lines(store, writer)

    for _, verb, entries in VERBS:
        if entries:
            with pytest.raises(sl.WriterClosed, match="resume"):
                verb(writer)
    with pytest.raises(sl.WriterClosed), writer.batch():
        writer.save_invoke()
    with pytest.raises(sl.WriterClosed):
        writer.rollback(1)
    assert lines(store, writer) == before
    assert (folded(writer.state), writer.head) == (expected, head)
    assert writer.segment_id in repr(writer)


def test_a_writer_closed_inside_its_batch_writes_none_of_it(store: sl.Store) -> None:
    """The batch ends in an error that says so, not in silence."""
    writer = sl.SegmentWriter.create(store)

    with pytest.raises(sl.WriterClosed), writer.batch():  # noqa: PT012
        writer.save_invoke()
        writer.close()

    assert len(lines(store, writer)) == 1


def broken_sync(fd: int) -> None:
    raise OSError(5, "Input/output error")


def test_after_an_unknown_outcome_the_writer_is_of_no_use_and_a_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F19: a sync that failed is taken back and said; nothing acknowledged is lost, nothing else is in any state."""
    store = sl.FsStore(tmp_path, durability="turn")
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("acknowledged")
    expected = folded(writer.state)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken_sync)
        with pytest.raises(sl.AppendUnknown, match="reopen"):
            writer.save_turn_end()
    for act in (writer.save_invoke, writer.save_turn_end, lambda: writer.rollback(1)):
        with pytest.raises(sl.WriterClosed, match="unknown outcome"):
            act()
    assert folded(writer.state) == expected

    with sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id, on_conflict="raise") as again:
        assert folded(again.state) == expected
        assert again.save_turn_end() == 3
    assert restored(store, writer) == fold(expected, [sl.TurnEnd(ts=0, turn_count=1)])


def test_sync_reaches_the_disk_or_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sync`` is one fdatasync of the segment, whatever the durability; a failed one is no success."""
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd))[1])
    store = sl.FsStore(tmp_path, durability="process")
    writer = sl.SegmentWriter.create(store)
    writer.save_turn_end()
    assert synced == []

    writer.sync()

    assert synced == [store.segment_path(writer.session_id, writer.segment_id).stat().st_ino]
    monkeypatch.setattr(os, "fdatasync", broken_sync)
    writer.save_invoke()
    with pytest.raises(sl.AppendUnknown):
        writer.sync()
    sl.SegmentWriter.create(sl.MemoryStore()).sync()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """No file can be opened: what a full process looks like, or a full disk to one who makes a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_fork_that_could_not_be_made_can_be_tried_again(fs: sl.FsStore) -> None:
    """F19: the append raised, so it is nowhere; the writer is as it was, and the next one makes the fork."""
    writer = sl.SegmentWriter.create(fs)
    writer.save_user_input("mine")
    source = writer.segment_id
    intrude(fs, writer)
    expected = folded(writer.state)

    with no_more_descriptors(), pytest.raises(sl.StoreUnavailable):
        writer.save_user_input("lost")

    assert fs.list_segments(writer.session_id) == [source]
    assert folded(writer.state) == expected
    writer.save_user_input("found")
    assert writer.segment_id != source
    texts = [item.text for item in writer.state.history if isinstance(item, sl.Message)]
    assert texts == ["mine", "found"]
    assert folded(writer.state) == restored(fs, writer)


def test_a_deleted_session_is_an_error_and_not_a_file_without_a_name(store: sl.Store) -> None:
    """What is acknowledged is on file: an append behind a deletion is refused."""
    writer = sl.SegmentWriter.create(store)
    writer.save_user_input("x")
    expected = folded(writer.state)
    store.delete_session(writer.session_id)

    for act in (writer.save_invoke, lambda: writer.save_delta([SAID, CALL]), lambda: writer.fork_at(0)):
        with pytest.raises(sl.NotFound):
            act()
    assert folded(writer.state) == expected
    assert not store.exists(writer.session_id, writer.segment_id)


def test_a_file_that_something_else_made_shorter_is_not_written_to(fs: sl.FsStore) -> None:
    """An acknowledged line is missing: nothing is put in its place, and the error has the place."""
    writer = sl.SegmentWriter.create(fs)
    writer.save_user_input("x")
    path = fs.segment_path(writer.session_id, writer.segment_id)
    os.truncate(path, path.stat().st_size - 1)
    before = path.read_bytes()

    with pytest.raises(sl.CorruptSegment, match="cut to") as caught:
        writer.save_invoke()

    assert caught.value.path == str(path)
    assert path.read_bytes() == before


# ── interrupted calls ──────────────────────────────────────────────────────────────────────────────────────────────


def test_interrupted_calls_are_closed_with_error_results_in_one_write(store: sl.Store) -> None:
    """F9: each pending call gets its result, by position, once; a provider accepts the history again."""
    writer = sl.SegmentWriter.create(store)
    assert sl.close_interrupted(writer) == ()
    writer.save_delta([CALL, RESULT, sl.ToolCall("a", "run", "{}"), CALL])
    assert writer.state.pending_tool_calls == (sl.ToolCall("a", "run", "{}"), CALL)

    closed = sl.close_interrupted(writer)

    assert [(result.call_id, result.is_error) for result in closed] == [("a", True), ("c", True)]
    assert b'"batch":2' in lines(store, writer)[5]
    assert writer.state.pending_tool_calls == ()
    assert writer.state.history[-2:] == closed
    assert sl.close_interrupted(writer) == ()
    assert folded(writer.state) == restored(store, writer)


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


# ── trace ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trace_is_off_unless_asked_for(store: sl.Store) -> None:
    """Nothing is written, and no file made."""
    writer = sl.SegmentWriter.create(store)
    writer.trace_event({"type": "ping"})
    writer.trace_lifecycle("request_start")

    assert sl.read_trace(store, writer.session_id, writer.segment_id) == []
    if isinstance(store, sl.FsStore):
        assert not store.trace_path(writer.session_id, writer.segment_id).exists()


def test_a_trace_is_linked_to_turn_and_call_and_is_no_part_of_the_log(store: sl.Store) -> None:
    """Events and markers in order, beside the segment; restore does not know of them."""
    writer = sl.SegmentWriter.create(store, trace=True)
    writer.trace_lifecycle("request_start", {"model": "m"}, llm_call=0)
    writer.trace_event({"type": "delta", "text": "größer"})
    writer.save_turn_end()
    before = restored(store, writer)
    writer.trace_event(None, llm_call=2)

    found = sl.read_trace(store, writer.session_id, writer.segment_id)
    assert [(entry.kind, entry.turn, entry.llm_call, entry.label, entry.data) for entry in found] == [
        ("lifecycle", 0, 0, "request_start", {"model": "m"}),
        ("stream_event", 0, 0, None, None),
        ("stream_event", 1, 2, None, None),
    ]
    assert [entry.event for entry in found[1:]] == [{"type": "delta", "text": "größer"}, None]
    assert restored(store, writer) == before
    assert store.list_segments(writer.session_id) == [writer.segment_id]


def bad_event(writer: sl.SegmentWriter) -> None:
    writer.trace_event({"x": float("inf")})


def no_place(writer: sl.SegmentWriter) -> None:
    writer.trace_lifecycle("marker")


def test_a_failing_trace_is_reported_once_and_stops_nothing(fs: sl.FsStore) -> None:
    """Whatever is wrong with it: an event that is no JSON, a folder in its place, no session any more, a rollback."""
    for fail in (bad_event, no_place):
        writer = sl.SegmentWriter.create(fs, trace=True)
        fs.trace_path(writer.session_id, writer.segment_id).mkdir()
        with pytest.warns(RuntimeWarning, match="trace is incomplete") as caught:
            for _ in range(3):
                fail(writer)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert writer.save_invoke() == 2

    writer = sl.SegmentWriter.create(fs, trace=True)
    writer.rollback(1)
    fs.delete_session(writer.session_id)
    with pytest.warns(RuntimeWarning, match="trace is incomplete"):
        writer.trace_event({"type": "ping"})


def test_a_trace_warning_that_is_an_error_stops_nothing_either(store: sl.Store) -> None:
    """Warnings may be turned into errors: the run goes on all the same, because the trace never stops it."""
    writer = sl.SegmentWriter.create(store, trace=True)
    try:
        bad_event(writer)
    except RuntimeWarning:
        pass  # this suite makes errors of warnings; the writer is whole
    bad_event(writer)

    assert writer.save_invoke() == 2
    assert folded(writer.state) == restored(store, writer)
