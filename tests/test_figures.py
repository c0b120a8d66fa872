"""Figures: what is counted equals a count over the raw lines, and adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
import session_log._figures as values
import session_log.figures as room
from commands import FORK, NOON, OTHER, ROOT, SESSION, sample
from session_log.figures import Chosen, Figures, LongLine, ToolFigures, add_up, read_figures
from strategies import SESSION_ID, histories


def stored(*segments: list[sl.LogEntry]) -> tuple[sl.MemoryStore, list[str]]:
    store, ids = sl.MemoryStore(), [sl.new_segment_id() for _ in segments]
    for segment_id, entries in zip(ids, segments, strict=True):
        store.create_segment(SESSION_ID, segment_id, [sl.encode_line(entry) for entry in entries])
    return store, ids


def chosen(*segment_ids: str, session_id: str = SESSION_ID) -> list[Chosen]:
    return [Chosen(session_id, segment_id) for segment_id in segment_ids]


def tool_entry(kind: str, call_id: str, ts: int, **more: Any) -> sl.LogEntry:
    if kind == "call":
        return sl.AssistantItem(ts=ts, item=sl.ToolCall(call_id, more.get("name", "t"), "{}"))
    return sl.ToolResultEntry(ts=ts, item=sl.ToolResult(call_id, "done", is_error=more.get("is_error", False)))


def begun(*entries: sl.LogEntry) -> list[sl.LogEntry]:
    return [sl.SegmentStart(ts=1, session_id=SESSION_ID, config=sl.RequestConfig(), history=(), v=1), *entries]


# ── laws ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60)
@given(histories())
def test_counts_are_those_of_the_raw_lines(entries: list[sl.LogEntry]) -> None:
    """Counted another way: with the json of Python, line by line."""
    store, (segment_id,) = stored(entries)

    found = read_figures(store)

    lines = list(store.read(SESSION_ID, segment_id))
    read = [json.loads(line) for line in lines]
    kinds, sizes = Counter(one["kind"] for one in read), Counter[str]()
    for one, line in zip(read, lines, strict=True):
        sizes[one["kind"]] += len(line) + 1
    assert {name: kind.entries for name, kind in found.kinds.items()} == kinds
    assert {name: kind.size_bytes for name, kind in found.kinds.items()} == sizes
    assert (found.lines, found.size_bytes, found.turns) == (len(lines), sum(sizes.values()), kinds["turn_end"])
    assert found.runs_errored == kinds["run_errored"]
    assert found.runs_completed == sum(one["kind"] == "run_completed" and not one["interrupted"] for one in read)
    items = [one["item"] for one in read if one["kind"] in ("assistant_item", "tool_result")]
    called = Counter(item["name"] for item in items if item["kind"] == "tool_call")
    assert Counter({name: tool.calls for name, tool in found.tools.items() if tool.calls}) == called
    failed = sum(bool(item.get("is_error")) for item in items if item["kind"] == "tool_result")
    assert sum(tool.errors for tool in found.tools.values()) == failed
    longest = sorted((len(line) + 1 for line in lines), reverse=True)[: room.LONGEST]
    assert [line.size_bytes for line in found.longest] == longest


@settings(max_examples=40)
@given(histories(max_turns=2), histories(max_turns=2))
def test_the_figures_of_two_segments_are_their_sum(one: list[sl.LogEntry], other: list[sl.LogEntry]) -> None:
    store, ids = stored(one, other)

    left, right = (read_figures(store, chosen(found)) for found in ids)

    assert add_up([left, right]) == add_up([right, left]) == read_figures(store, chosen(*ids)) == read_figures(store)
    assert add_up([left, Figures()]) == left


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60), st.sampled_from([1, 50, 95, 100]))
def test_a_percentile_is_the_time_of_a_call_by_nearest_rank(times: list[int], percent: int) -> None:
    """The least time that so many percent of the calls did not exceed."""
    entries = begun()
    for at, time_ms in enumerate(times):
        entries += [tool_entry("call", f"{at}", 10_000), tool_entry("result", f"{at}", 10_000 + time_ms)]
    store, _ = stored(entries)

    found = read_figures(store).tools["t"].percentile(percent)

    kept = sorted(map(values.rounded, times))
    assert found is not None
    assert found == next(t for t in kept if 100 * sum(one <= t for one in kept) >= percent * len(kept))


@given(st.integers(0, 10**12))
def test_a_time_is_kept_to_three_digits(time_ms: int) -> None:
    """So that however many calls there are, few different times are remembered."""
    kept = values.rounded(time_ms)

    assert abs(kept - time_ms) * 200 <= time_ms
    assert kept == time_ms or len(str(kept).rstrip("0")) <= 3


# ── each line once ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_fork_inherits_counts_once(tmp_path: Path) -> None:
    store = sl.FsStore(sample(tmp_path))
    whole = read_figures(store, chosen(ROOT, FORK, session_id=SESSION))

    resolved = read_figures(store, [Chosen(SESSION, ROOT), Chosen(SESSION, FORK, resolve=True)])
    of_the_fork = read_figures(store, [Chosen(SESSION, FORK, resolve=True)])

    assert resolved == whole
    assert of_the_fork.lines == 10 + store.length(SESSION, FORK)
    assert (whole.lines, whole.turns) == (store.length(SESSION, ROOT) + store.length(SESSION, FORK), 3)


def test_what_two_forks_inherit_counts_once(tmp_path: Path) -> None:
    """In whatever order they come: of the parent, the lines of the longer prefix, and no others."""
    store = sl.FsStore(sample(tmp_path))
    other = sl.fork_at_entry(store, SESSION, ROOT, 12)
    forks = [Chosen(SESSION, FORK, resolve=True), Chosen(SESSION, other, resolve=True)]
    alone = store.length(SESSION, FORK) + store.length(SESSION, other)

    for order in (forks, forks[::-1]):
        assert read_figures(store, order).lines == 12 + alone
    assert read_figures(store, [*forks, Chosen(SESSION, ROOT), *forks]).lines == store.length(SESSION, ROOT) + alone


def test_lines_up_to_a_line_or_a_turn(tmp_path: Path) -> None:
    store = sl.FsStore(sample(tmp_path))

    assert read_figures(store, [Chosen(SESSION, ROOT, entries=4)]).lines == 4
    assert read_figures(store, [Chosen(SESSION, ROOT, turn=1)]).turns == 1
    assert read_figures(store, [Chosen(SESSION, FORK, turn=2, resolve=True)]).turns == 2
    for nowhere in (Chosen(SESSION, ROOT, turn=9), Chosen(SESSION, ROOT, 99), Chosen(SESSION, ROOT, 0)):
        with pytest.raises(sl.InvalidCut):
            read_figures(store, [nowhere])


def test_times_bound_what_is_counted(tmp_path: Path) -> None:
    store = sl.FsStore(sample(tmp_path))

    found = read_figures(store, since=NOON + 1000, until=NOON + 3000)

    assert (found.lines, found.first_ts, found.last_ts) == (3, NOON + 1000, NOON + 3000)


# ── tools and runs ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_result_answers_the_latest_call_of_its_id() -> None:
    """Ids are used again; a call without a result is unanswered, a result without a call a stray."""
    store, _ = stored(
        begun(
            tool_entry("call", "c", 100, name="first"),
            tool_entry("call", "c", 200, name="second"),
            tool_entry("result", "c", 250, is_error=True),
            tool_entry("result", "other", 300),
            tool_entry("call", "d", 400, name="second"),
            tool_entry("result", "d", 390),
        )
    )

    found = read_figures(store)

    assert found.tools == {
        "first": ToolFigures(calls=1, unanswered=1),
        "second": ToolFigures(calls=2, errors=1, times=((0, 1), (50, 1))),
    }
    assert found.stray_results == 1


def test_a_call_in_a_compacted_history_was_counted_before() -> None:
    """Its result counts where it stands: it may be an error, and how long it took, nobody says."""
    start = sl.SegmentStart(
        ts=1, session_id=SESSION_ID, config=sl.RequestConfig(), history=(sl.ToolCall("c", "shell", "{}"),)
    )
    store, _ = stored([start, tool_entry("result", "c", 9, is_error=True)])

    assert read_figures(store).tools == {"shell": ToolFigures(errors=1)}


def test_runs_are_told_apart() -> None:
    invoke = sl.Invoke(ts=5, trigger="user_send")
    ends = [sl.RunCompleted(ts=6, interrupted=flag, result="finished") for flag in (False, True)]
    store, _ = stored(begun(invoke, ends[0], invoke, ends[1], invoke, invoke, sl.RunErrored(ts=7, interrupted=True,
                            message="x"), invoke))  # fmt: skip

    found = read_figures(store)

    assert (found.runs_completed, found.runs_interrupted, found.runs_errored, found.runs_open) == (1, 2, 1, 1)


def test_more_names_than_are_told_apart_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_NAMES", 2)
    store, _ = stored(begun(*(tool_entry("call", f"{n}", 5, name=f"tool{n}") for n in range(5))))

    found = read_figures(store).tools

    assert {name: tool.calls for name, tool in found.items()} == {"tool0": 1, "tool1": 1, room.OTHERS: 3}


def test_more_open_calls_than_are_waited_for_are_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; the newest still finds its result."""
    monkeypatch.setattr(room, "MAX_OPEN_CALLS", 3)
    calls = [tool_entry("call", f"{n}", 5) for n in range(8)]
    store, _ = stored(begun(*calls, tool_entry("result", "7", 6), tool_entry("result", "0", 6)))

    found = read_figures(store)

    assert found.tools["t"] == ToolFigures(calls=8, unanswered=7, times=((1, 1),))
    assert found.stray_results == 1


# ── odd input ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_damage_is_counted_and_listed_and_torn_bytes_are_not_lines(tmp_path: Path) -> None:
    store = sl.FsStore(sample(tmp_path))
    path = store.segment_path(SESSION, ROOT)
    before = read_figures(store)
    path.write_bytes(path.read_bytes() + b"no entry\n   \n" + b'{"kind":"inv')
    damage: list[sl.Damage] = []

    found = read_figures(store, damage=damage)

    assert (found.damaged, found.blank, found.torn_bytes) == (1, 1, 12)
    assert found.lines == before.lines + 2
    assert found.kinds == before.kinds
    assert [(one.path, one.line) for one in damage] == [(str(path), 17)]
    with pytest.raises(sl.CorruptSegment):
        read_figures(store)


def test_a_file_without_a_line_is_damage(tmp_path: Path) -> None:
    store = sl.FsStore(sample(tmp_path))
    store.segment_path(SESSION, ROOT).write_bytes(b"")
    damage: list[sl.Damage] = []

    assert read_figures(store, chosen(ROOT, session_id=SESSION), damage=damage).lines == 0
    assert "no committed line" in damage[0].reason


def test_nothing_is_nothing_and_what_is_named_must_be_there(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)

    assert read_figures(store) == Figures()
    with pytest.raises(sl.NotFound):
        read_figures(store, chosen(ROOT, session_id=SESSION))


def test_what_is_deleted_meanwhile_is_left_out(tmp_path: Path) -> None:
    store = sl.FsStore(sample(tmp_path))
    told: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        if not told:
            store.delete_session(OTHER)
        told.append((done, total))

    found = read_figures(store, progress=progress)

    assert found.segments == 4
    assert told[-1] == (5, 5)


def test_a_long_line_is_found_at_its_place() -> None:
    text = "x" * 3_000_000
    store, (segment_id,) = stored(begun(sl.AssistantItem(ts=5, item=sl.Message.assistant(text)), sl.TurnEnd(ts=6,
                                  turn_count=1)))  # fmt: skip

    (found,) = read_figures(store, longest=1).longest

    assert found == LongLine(
        session_id=SESSION_ID, segment_id=segment_id, line=2, kind="assistant_item", size_bytes=found.size_bytes
    )
    assert found.size_bytes > len(text)
    assert read_figures(store, longest=0).longest == ()


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Three times the lines take no more of it."""
    store = sl.FsStore(tmp_path, durability="process")
    session_id, segment_id = sl.create_segment(store)
    lines = [sl.encode_line(tool_entry(kind, "c", 5)) for _ in range(5) for kind in ("call", "result")]
    padded = [line[:-1] + b',"pad":"' + b"x" * 20_000 + b'"}' for line in lines]
    peaks = []
    for repeated in (1, 2):
        for _ in range(40 * repeated):
            store.append(session_id, segment_id, padded)
        tracemalloc.start()
        read_figures(store)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert store.segment_path(session_id, segment_id).stat().st_size > 24_000_000
    assert peaks[1] < 1.3 * peaks[0]


WRITER = """
import sys
import session_log as sl
with sl.SegmentWriter.create(sl.FsStore(sys.argv[1], durability="process")) as writer:
    print(writer.session_id, flush=True)
    for number in range(20_000):
        writer.save_delta([sl.ToolCall(f"c{number}", "t", "{}"), sl.ToolResult(f"c{number}", "done")])
"""


def test_a_live_session_is_counted_as_it_is(tmp_path: Path) -> None:
    """While another process writes, whole lines are seen, never fewer than before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        store, seen = sl.FsStore(tmp_path), [0]
        while writer.poll() is None and len(set(seen)) < 8:
            figures = read_figures(store)
            assert figures.damaged == 0
            seen.append(figures.lines)
        writer.kill()

    assert seen == sorted(seen)
    assert len(set(seen)) > 2
