"""Faults that were found once, in what may stand in a file, or on a clock: none must come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import session_log as sl
from session_log import _clock, _frame, _ids
from session_log._codec import ts_of
from session_log.pods import CorruptPodMetadata, FsPodStore, PodMetadata, decode_pod_metadata

Ids = tuple[str, str]
TOO_LATE = 2**63
"""The first time, and the first number of turns, that 64 bits with a sign do not hold."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


def segment(store: sl.FsStore, *lines: bytes) -> Ids:
    """A segment into which somebody else wrote these lines."""
    ids = sl.create_segment(store)
    with store.segment_path(*ids).open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
    return ids


def invoke(ts: int) -> bytes:
    return b'{"kind":"invoke","ts":%d,"trigger":"user_send"}' % ts


def extension(domain: bytes, payload: bytes) -> bytes:
    return b'{"kind":"extension","ts":1,"domain":"%b","payload":%b}' % (domain, payload)


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ts", [TOO_LATE, 2**64, 10**40])
def test_a_time_beyond_64_bits_stops_no_writer(store: sl.FsStore, ts: int) -> None:
    """Such a line was read, but then no verb could write behind it for ever; it is no time to wait for."""
    ids = segment(store, invoke(ts))
    writer = sl.SegmentWriter.resume(store, *ids)

    writer.save_user_input("writer")
    sl.save_user_input(store, *ids, "verb")
    writer.save_user_input("fork")
    writer.compact(sl.SegmentStartState())

    assert [ts_of(entry) >= TOO_LATE for entry in sl.read_entries(store, *ids)] == [False, True, False, False]
    assert sl.restore(store, ids[0], writer.segment_id).turn_count == 0


@pytest.mark.parametrize("turns", [-1, TOO_LATE, 10**40])
def test_a_number_of_turns_that_is_none_is_damage_with_its_place(store: sl.FsStore, turns: int) -> None:
    """It was restored, and compaction refused the segment for ever: now the line is wrong, and the rest can be had."""
    ids = segment(store, b'{"kind":"turn_end","ts":1,"turn_count":%d}' % turns, invoke(1))
    first = next(iter(store.read(*ids)))

    with pytest.raises(sl.CorruptSegment, match="turn_count") as caught:
        sl.restore(store, *ids)

    assert (caught.value.line, caught.value.byte_offset) == (2, len(first) + 1)
    state = sl.restore(store, *ids, salvage=True)
    assert (len(state.damage), state.turn_count, state.last_run_interrupted) == (1, 0, True)


def test_a_number_out_of_range_is_damage_and_not_infinity(store: sl.FsStore) -> None:
    """``1e999999`` was read as ``inf``, which has no JSON form: compaction was impossible for ever."""
    ids = segment(store, extension(b"d", b"[1,1e999999]"), extension(b"d", b"2"))

    with pytest.raises(sl.CorruptSegment, match="1e999999 is out of range") as caught:
        sl.restore(store, *ids)

    assert caught.value.line == 2
    assert [found.payload for found in sl.restore(store, *ids, salvage=True).extensions] == [2]
    sl.repair(store, *ids)
    assert sl.SegmentWriter.resume(store, *ids).compact(sl.SegmentStartState()) != ids[1]


def test_a_reference_that_says_another_number_of_turns_does_not_change_it(store: sl.FsStore) -> None:
    """A hostile ``at_turn_index`` became the copy's own count: the lines decide, for state and copy alike."""
    ids = segment(store, b'{"kind":"turn_end","ts":1,"turn_count":1}')
    child = sl.fork_at_entry(store, *ids, 2)
    path = store.segment_path(ids[0], child)
    path.write_bytes(path.read_bytes().replace(b'"at_turn_index":1', b'"at_turn_index":7'))

    copy = sl.fork_at_entry(store, ids[0], child, 1, copy_history=True)

    assert [sl.restore(store, ids[0], one).turn_count for one in (child, copy)] == [1, 1]


def test_a_first_line_that_cannot_be_folded_is_not_said_to_be_mended(store: sl.FsStore) -> None:
    """``repair`` returned nothing found, and restore went on asking for it."""
    ids = segment(store, b'{"kind":"turn_end","ts":1,"turn_count":1}')
    child = sl.fork_at(store, *ids, 1, copy_history=True)
    path = store.segment_path(ids[0], child)
    path.write_bytes(path.read_bytes().replace(b'"turn_count":1', b'"turn_count":-1'))
    before = path.read_bytes()

    with pytest.raises(sl.CorruptSegment, match="turn_count") as caught:
        sl.repair(store, ids[0], child)

    assert (caught.value.path, caught.value.line) == (str(path), 1)
    assert path.read_bytes() == before


# ── text ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pod_scope_with_a_lone_surrogate_is_damage_with_its_place(store: sl.FsStore) -> None:
    """It was an UnicodeEncodeError, with salvage, too: the session could not be opened at all."""
    ids = segment(store, extension(b"pod.scope", rb'"\ud83d\ud83d"'), invoke(1))

    for door in (sl.restore, sl.SegmentWriter.resume):
        with pytest.raises(sl.CorruptSegment, match="lone surrogate") as caught:
            door(store, *ids)
        assert caught.value.line == 2

    state = sl.restore(store, *ids, salvage=True)
    assert ([found.line for found in state.damage], state.last_run_interrupted) == ([2], True)


def test_a_pod_file_with_a_lone_surrogate_is_a_typed_error_and_can_be_replaced(tmp_path: Path) -> None:
    """It was an UnicodeEncodeError, in writing, too, which looks whose the file is."""
    pods = FsPodStore(tmp_path)
    pods.write(PodMetadata("a"))
    bad = rb'{"pod_name":"a","spawned_children":["\ud800"]}'
    (tmp_path / "pods" / "a.json").write_bytes(bad)

    with pytest.raises(sl.InvalidEntry, match="lone surrogate"):
        decode_pod_metadata(bad)
    doors: list[Callable[[], object]] = [
        lambda: pods.read_by_name("a"),
        lambda: pods.update("a", lambda old: PodMetadata("a")),
    ]
    for door in doors:
        with pytest.raises(CorruptPodMetadata, match="lone surrogate"):
            door()
    pods.write(PodMetadata("a"))

    assert pods.read_by_name("a") == PodMetadata("a")


def test_bytes_that_are_no_utf8_in_a_key_nobody_knows_stop_no_copy(store: sl.FsStore) -> None:
    """What the decoder skips unseen was refused by the copy, without a place: now the copy skips it, too."""
    item = sl.encode_line(sl.AssistantItem(ts=1, item=sl.Message.assistant("a")))
    ids = segment(store, item[:-1] + b',"x\xf2":null}', b'{"kind":"turn_end","ts":1,"turn_count":1,"x":"\xf2"}')
    history = sl.restore(store, *ids).history

    copy = sl.fork_at_entry(store, *ids, 3, copy_history=True)
    sl.SegmentWriter.resume(store, *ids).compact(sl.SegmentStartState())

    state = sl.restore(store, ids[0], copy)
    assert (state.history, state.turn_count) == (history, 1)


# ── batches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def cut_short(*marks: bytes) -> list[bytes]:
    return [invoke(at)[:-1] + mark + b"}" for at, mark in enumerate(marks)]


@pytest.mark.parametrize(
    ("lines", "committed"),
    [
        (cut_short(b',"batch":5', b',"batch":2', b',"batch":0'), 4),
        (cut_short(b',"batch":5', b',"batch":0', b',"batch":2', b',"batch":0', b""), 6),
        (cut_short(b',"batch":5', b',"batch":2'), 1),
    ],
    ids=["by a whole one", "by a whole one and a line", "by one that is cut as well"],
)
def test_a_batch_cut_short_by_another_is_seen_alike_from_both_ends(
    store: sl.FsStore, lines: list[bytes], committed: int
) -> None:
    """A reader looks from the end, a follower from the beginning: it was stuck there for ever, and silent."""
    ids = segment(store, *lines)

    followed = list(store.follow(*ids, stop=lambda: True))

    assert len(followed) == committed
    assert followed == list(store.read(*ids))
    assert store.length(*ids) == committed


def test_a_batch_mark_is_never_spelled_with_escapes(store: sl.FsStore) -> None:
    """A key that JSON reads as ``batch`` was a mark for the follower alone, if the line had a token as well."""
    escaped = rb'{"kind":"invoke","token":"t","\u0062atch":9,"ts":1,"trigger":"user_send"}'
    ids = segment(store, escaped, invoke(2))

    followed = list(store.follow(*ids, stop=lambda: True))

    assert _frame.marks_of(escaped) == _frame.Marks(None, "t")
    assert len(followed) == 3
    assert followed == list(store.read(*ids))


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_times_inside_a_batch_do_not_go_back_with_the_clock(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F27: the writer's last time moved only when the batch was written, so 631, 617 could stand in a file."""
    writer = sl.SegmentWriter.create(store)
    later = iter(range(30, 0, -10))
    now = sl.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: (now + next(later)) * 1_000_000)

    with writer.batch():
        writer.save_invoke()
        writer.append(sl.Invoke(ts=5, trigger="as it is"))
        writer.save_delta([sl.Message.assistant("a"), sl.ToolCall("c", "run", "{}")])
        writer.save_turn_end()

    found = sl.read_entries(store, writer.session_id, writer.segment_id)[1:]
    assert [ts_of(entry) - now for entry in found] == [30, 5 - now, 30, 30, 30]


YEAR_2200_MS = 7_258_118_400_000


def test_one_look_at_a_wrong_clock_does_not_spoil_the_ids_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the year 2200 and a clock set back, all ids were of the year 2100, for the life of the process."""
    monkeypatch.setattr(_clock, "_last_ms", 0)
    now = sl.now_ms()
    behind = now - 2 * _clock.MAX_DRIFT_MS
    drawn = []
    for at in (YEAR_2200_MS, now, behind, behind):
        monkeypatch.setattr(time, "time_ns", lambda at=at: at * 1_000_000)
        drawn.append(_ids.timestamp_ms_of(sl.new_session_id()))

    assert drawn[2:] == [behind, behind + 1]
