"""Whatever is left of a file: what is whole of it is read, nothing else is, and nothing of it is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from oracle import Blank, Folded, Line, fold, folded, lines_of, started
from strategies import SESSION_ID, histories

GARBAGE = (
    b'{"kind":"turn_end","ts":1,"turn_co',
    b'{"kind":"turn_end","ts":"yesterday","turn_count":1}',
    b"\xff\xfe{}",
    b"{}",
    b"[]",
    b"\0\0\0\0",
    b"<<<<<<< HEAD",
)


@dataclass
class Written:
    """A segment on file, and what is known of it: where each unit ends, and how many lines there are up to there."""

    store: sl.FsStore
    segment_id: str
    data: bytes
    ends: list[tuple[int, int]]
    lines: list[Line]
    base: Folded

    @property
    def path(self) -> Path:
        return self.store.segment_path(SESSION_ID, self.segment_id)

    def put(self, data: bytes) -> None:
        """Leave this on file, for a process that knows nothing of what was there."""
        self.store.close()
        self.store = sl.FsStore(self.store.root, durability="process")
        self.path.write_bytes(data)

    def committed(self, size: int) -> tuple[int, int]:
        """Return the bytes and lines of the units that are whole in the first ``size`` bytes."""
        return max((end for end in self.ends if end[0] <= size), default=(0, 0))

    def state(self, lines: int) -> Folded:
        return fold(self.base, self.lines[:lines])

    def restore(self, *, salvage: bool = False) -> sl.RestoredState:
        return sl.restore(self.store, SESSION_ID, self.segment_id, salvage=salvage)

    def resume(self) -> sl.SegmentWriter:
        return sl.SegmentWriter.resume(self.store, SESSION_ID, self.segment_id)

    def torn(self) -> bytes:
        path = self.path.with_suffix(".torn")
        return path.read_bytes() if path.exists() else b""


def write(root: Path, entries: Sequence[sl.LogEntry], sizes: Sequence[int]) -> Written:
    """Write entries, the first as the start and then batches of these sizes, over and over."""
    store = sl.FsStore(root, durability="process")
    segment_id = sl.new_segment_id()
    lines = [sl.encode_line(entry) for entry in entries]
    store.create_segment(SESSION_ID, segment_id, lines[:1])
    path = store.segment_path(SESSION_ID, segment_id)
    ends = [(path.stat().st_size, 1)]
    at = 1
    while at < len(lines):
        unit = lines[at : at + sizes[len(ends) % len(sizes)]]
        at = store.append(SESSION_ID, segment_id, unit)
        ends.append((path.stat().st_size, at))
    start = entries[0]
    assert isinstance(start, sl.SegmentStart)
    base = started(sl.SegmentStartState(start.system_prompt, start.config, start.history))
    return Written(store, segment_id, path.read_bytes(), ends, lines_of(entries), base)


@contextmanager
def written(entries: Sequence[sl.LogEntry], sizes: Sequence[int]) -> Iterator[Written]:
    with tempfile.TemporaryDirectory() as root:
        yield write(Path(root), entries, sizes)


def small_history() -> list[sl.LogEntry]:
    """A turn and a half: single lines, text of two, three and four bytes a character, a call without its result."""
    turn: list[sl.LogEntry] = [
        sl.SegmentStart(ts=1, session_id=SESSION_ID, config=sl.RequestConfig(), history=(), v=1),
        sl.Invoke(ts=2, trigger="user_send"),
        sl.UserInput(ts=2, segments=(sl.TextInput("größer 東京 🙂"),)),
        sl.AssistantItem(ts=3, item=sl.ToolCall("a", "read", '{"path":"\\u00e9"}')),
        sl.ToolResultEntry(ts=3, item=sl.ToolResult("a", "ok")),
        sl.TurnEnd(ts=4, turn_count=1),
        sl.LlmUsage(
            ts=4, history_len=3, input_total_tokens=5, cache_read_tokens=0, cache_write_tokens=0, output_tokens=1
        ),
        sl.RunCompleted(ts=4, interrupted=False, result="finished"),
        sl.Invoke(ts=5, trigger="user_send"),
        sl.AssistantItem(ts=6, item=sl.ToolCall("a", "run", "{}")),
    ]
    return turn


def check_prefix(log: Written, size: int) -> None:
    """The law of a file of which the first ``size`` bytes are as they were, and the rest torn."""
    damaged = log.path.read_bytes()
    end, lines = log.committed(size)

    state = log.restore()
    assert folded(state) == log.state(lines)
    assert (state.entries_count, state.torn_bytes) == (lines, len(damaged) - end)
    assert log.store.length(SESSION_ID, log.segment_id) == lines
    assert list(log.store.follow(SESSION_ID, log.segment_id, stop=lambda: True)) == log.data[:end].split(b"\n")[:-1]
    assert log.path.read_bytes() == damaged

    before = log.torn()
    with log.resume() as writer:
        assert folded(writer.state) == log.state(lines)
        assert log.path.read_bytes() == damaged
        assert writer.save_invoke("notify") == lines + 1
    repaired = log.path.read_bytes()
    assert repaired[:end] == log.data[:end]
    assert repaired.count(b"\n", end) == 1
    assert log.torn()[: len(before)] == before
    assert log.torn()[len(before) :].removesuffix(b"\n") == damaged[end:].removesuffix(b"\n")

    before = log.torn()
    with log.resume() as writer:
        assert folded(writer.state) == fold(log.state(lines), [sl.Invoke(ts=0, trigger="notify")])
        assert log.path.read_bytes() == repaired
        writer.save_invoke("notify")
    assert log.path.read_bytes()[: len(repaired)] == repaired
    assert log.torn() == before


@pytest.mark.parametrize("sizes", [(1,), (3, 1), (9,)], ids=["lines", "mixed", "one batch"])
def test_every_byte_cut_restores_whole_units_and_the_next_append_repairs(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """F1, F3: cut anywhere behind the first line, whole lines and batches are left, and it can be gone on."""
    log = write(tmp_path, small_history(), sizes)

    for size in range(log.ends[0][0], len(log.data) + 1):
        log.put(log.data[:size])
        check_prefix(log, size)


def test_a_cut_in_the_first_line_is_an_error_with_its_place(tmp_path: Path) -> None:
    """No crash leaves such a file: segments appear whole. Nothing is guessed, and nothing changed."""
    log = write(tmp_path, small_history(), (1,))

    for size in range(log.ends[0][0]):
        log.put(log.data[:size])
        for act in (log.restore, log.resume):
            with pytest.raises(sl.CorruptSegment) as caught:
                act()
            assert (caught.value.path, caught.value.line, caught.value.byte_offset) == (str(log.path), 1, 0)
        assert log.path.read_bytes() == log.data[:size]
    assert log.torn() == b""


def test_an_append_behind_a_first_line_that_is_torn_is_refused(tmp_path: Path) -> None:
    """F1: without its first line a segment is none; an entry in its place would make that final."""
    log = write(tmp_path, small_history(), (1,))
    log.put(log.data[: log.ends[0][0] - 1])
    before = log.path.read_bytes()

    with pytest.raises(sl.CorruptSegment) as caught:
        sl.append_entry(log.store, SESSION_ID, log.segment_id, sl.Invoke(ts=1, trigger="x"))

    assert (caught.value.path, caught.value.line, caught.value.byte_offset) == (str(log.path), 1, 0)
    assert log.path.read_bytes() == before
    assert log.torn() == b""


@given(entries=histories(), sizes=st.lists(st.integers(1, 6), min_size=1), data=st.data())
def test_any_cut_of_any_history_restores_whole_units(
    entries: list[sl.LogEntry], sizes: list[int], data: st.DataObject
) -> None:
    """F3: the same for any history, any batches and any cut."""
    with written(entries, sizes) as log:
        size = data.draw(st.integers(log.ends[0][0], len(log.data)))
        log.put(log.data[:size])
        check_prefix(log, size)


@given(entries=histories(), sizes=st.lists(st.integers(1, 6), min_size=1), data=st.data())
def test_nul_bytes_up_to_the_end_are_torn(entries: list[sl.LogEntry], sizes: list[int], data: st.DataObject) -> None:
    """F2: after a power cut, sectors that never reached the disk are zeros, over one unit or many."""
    with written(entries, sizes) as log:
        size = data.draw(st.integers(log.ends[0][0], len(log.data)), "first lost byte")
        log.put(log.data[:size] + b"\0" * data.draw(st.integers(1, 5000)))

        check_prefix(log, size)


@given(entries=histories(), sizes=st.lists(st.integers(1, 6), min_size=1), data=st.data())
def test_nul_bytes_inside_the_last_unit_tear_all_of_it(
    entries: list[sl.LogEntry], sizes: list[int], data: st.DataObject
) -> None:
    """F2: the end of a line can be on disk without its beginning, newline or not."""
    with written(entries, sizes) as log:
        if len(log.ends) == 1:
            return
        size = data.draw(st.integers(log.ends[-2][0], len(log.data) - 1), "first lost byte")
        stop = data.draw(st.integers(size + 1, len(log.data)), "first byte that is there again")
        log.put(log.data[:size] + b"\0" * (stop - size) + log.data[stop:])

        check_prefix(log, size)


@given(entries=histories(), sizes=st.lists(st.integers(1, 6), min_size=1), data=st.data())
def test_nul_bytes_from_one_unit_into_the_last_tear_all_between(
    entries: list[sl.LogEntry], sizes: list[int], data: st.DataObject
) -> None:
    """F2: of several units that were not yet on the disk, the end of the last may be there and the rest not."""
    with written(entries, sizes) as log:
        if len(log.ends) == 1:
            return
        size = data.draw(st.integers(log.ends[0][0], log.ends[-2][0]), "first lost byte")
        stop = data.draw(st.integers(log.ends[-2][0] + 1, len(log.data)), "first byte that is there again")
        log.put(log.data[:size] + b"\0" * (stop - size) + log.data[stop:])

        check_prefix(log, size)


@given(entries=histories(max_turns=2), sizes=st.lists(st.integers(1, 4), min_size=1), data=st.data())
def test_damage_inside_is_an_error_with_its_place_and_salvage_returns_the_rest(
    entries: list[sl.LogEntry], sizes: list[int], data: st.DataObject
) -> None:
    """F4: path, line, byte and reason; salvage lists it and has all the rest; repair keeps the bytes and the places."""
    with written(entries, sizes) as log:
        if log.ends[-1][1] < 3:
            return
        raw = log.data.split(b"\n")[:-1]
        last_unit = log.ends[-2][1]
        at = data.draw(st.integers(1, max(1, last_unit - 1)), "line")
        if at >= last_unit:
            return
        raw[at] = garbage = data.draw(st.sampled_from(GARBAGE))
        log.put(b"\n".join(raw) + b"\n")
        offset = len(b"\n".join(raw[:at])) + 1
        before = log.path.read_bytes()

        with pytest.raises(sl.CorruptSegment) as caught:
            log.restore()
        with pytest.raises(sl.CorruptSegment):
            log.resume()
        assert (caught.value.path, caught.value.line, caught.value.byte_offset) == (str(log.path), at + 1, offset)
        salvaged = log.restore(salvage=True)
        assert salvaged.damage == (sl.Damage(str(log.path), at + 1, offset, len(garbage), caught.value.reason),)
        log.lines[at] = Blank()
        assert folded(salvaged) == log.state(len(log.lines))
        assert log.path.read_bytes() == before

        assert sl.repair(log.store, SESSION_ID, log.segment_id) == salvaged.damage
        assert garbage in log.path.with_suffix(".damage").read_bytes()
        assert log.path.read_bytes() == before[:offset] + b" " * len(garbage) + before[offset + len(garbage) :]
        assert folded(log.restore()) == log.state(len(log.lines))
        assert log.restore().entries_count == len(log.lines)
        assert sl.repair(log.store, SESSION_ID, log.segment_id) == ()


def test_several_damaged_lines_are_all_listed(tmp_path: Path) -> None:
    """F4: nothing is skipped in silence."""
    log = write(tmp_path, small_history(), (1,))
    raw = log.data.split(b"\n")
    raw[2], raw[5] = b"not json", b'{"kind":"invoke"}'
    log.put(b"\n".join(raw))

    state = log.restore(salvage=True)

    assert [(found.line, found.length_bytes) for found in state.damage] == [(3, 8), (6, 17)]
    assert "$.ts" in state.damage[1].reason
    log.lines[2] = log.lines[5] = Blank()
    assert folded(state) == log.state(len(log.lines))


def test_blank_lines_and_crlf_are_tolerated_and_counted(tmp_path: Path) -> None:
    """An editor or a repair leaves them; line numbers stay those of the file."""
    log = write(tmp_path, small_history(), (1,))
    raw = log.data.split(b"\n")
    raw[3:3] = [b"", b"   ", b"\r"]
    raw[8] += b"\r"
    log.put(b"\n".join(raw))

    state = log.restore()

    assert folded(state) == log.state(len(log.lines))
    assert state.entries_count == len(log.lines) + 3
    with log.resume() as writer:
        assert writer.save_invoke() == len(log.lines) + 4


# ── readers write nothing ──────────────────────────────────────────────────────────────────────────────────────────


def tree(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return everything below ``root`` that a write would change."""
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mtime_ns, status.st_ino, status.st_mode, data)
    return found


def test_restore_resume_and_every_reader_write_nothing(tmp_path: Path) -> None:
    """F20: not with a torn tail, not with damage, not through forks: not a byte, not a time, not a file."""
    log = write(tmp_path / "root", small_history(), (2, 1))
    child = sl.fork_at(log.store, SESSION_ID, log.segment_id, 1)
    torn = log.store.segment_path(SESSION_ID, child)
    torn.write_bytes(torn.read_bytes() + b'{"kind":"invo')
    damaged = sl.fork_at(log.store, SESSION_ID, log.segment_id, 1, copy_history=True)
    path = log.store.segment_path(SESSION_ID, damaged)
    path.write_bytes(path.read_bytes() + b"damage\n" + sl.encode_line(sl.Invoke(ts=1, trigger="x")) + b"\n")
    log.store.close()
    before = tree(tmp_path)

    store = sl.FsStore(tmp_path / "root")
    for segment_id in (log.segment_id, child):
        sl.restore(store, SESSION_ID, segment_id)
        sl.restore(store, SESSION_ID, segment_id, at_turn=1)
        sl.restore(store, SESSION_ID, segment_id, at_entries=1)
        sl.restore_by_segment(store, segment_id)
        sl.head(store, SESSION_ID, segment_id)
        sl.read_entries(store, SESSION_ID, segment_id)
        sl.read_trace(store, SESSION_ID, segment_id)
        list(sl.follow_entries(store, SESSION_ID, segment_id, stop=lambda: True))
        with sl.SegmentWriter.resume(store, SESSION_ID, segment_id) as writer:
            assert writer.state.turn_count == 1
            sl.ensure_head_or_fork(store, writer.head)
    sl.restore(store, SESSION_ID, damaged, salvage=True)
    with pytest.raises(sl.CorruptSegment):
        sl.restore(store, SESSION_ID, damaged)
    with pytest.raises(sl.CorruptSegment):
        sl.SegmentWriter.resume(store, SESSION_ID, damaged)
    assert (store.list_sessions(), len(store.list_segments(SESSION_ID))) == ([SESSION_ID], 3)

    assert tree(tmp_path) == before


def test_a_reader_makes_no_folder(tmp_path: Path) -> None:
    """F20: looking for what is not there leaves nothing there."""
    store = sl.FsStore(tmp_path / "nothing")

    assert store.list_sessions() == []
    assert store.lookup_session_of(sl.new_segment_id()) is None
    with pytest.raises(sl.NotFound):
        sl.restore(store, sl.new_session_id(), sl.new_segment_id())
    with pytest.raises(sl.NotFound):
        sl.SegmentWriter.resume(store, sl.new_session_id(), sl.new_segment_id())
    assert list(tmp_path.iterdir()) == []


# ── a real process, really killed ──────────────────────────────────────────────────────────────────────────────────

WORKER = """
import os, sys
import session_log as sl

root, session_id, segment_id, number = *sys.argv[1:4], int(sys.argv[4])
writer = sl.SegmentWriter.resume(sl.FsStore(root, durability="process"), session_id, segment_id)
sl.close_interrupted(writer)

def note(size):
    global number
    number += 1
    return sl.Message.assistant(f"{number} " + "x" * size)

while True:
    writer.save_invoke()
    writer.save_delta([note(10)])
    os.write(1, b"%d\\n" % number)
    with writer.batch():
        for size in (10, 300_000, 5):
            writer.save_delta([note(size)])
    os.write(1, b"%d\\n" % number)
    writer.save_delta([sl.ToolCall("call", "run", "{}")])
    writer.save_delta([sl.ToolResult("call", "done")])
    writer.save_turn_end()
    writer.save_run_completed()
"""


def numbers(state: sl.RestoredState) -> list[int]:
    return [int(item.text.split()[0]) for item in state.history if isinstance(item, sl.Message)]


def test_sigkill_loses_nothing_that_was_reported_and_leaves_nothing_half(tmp_path: Path) -> None:
    """F1, F3, F19: a dozen rounds of kill -9 in the middle of a loop of turns, each resumed where the last one died."""
    store = sl.FsStore(tmp_path, durability="process")
    session_id, segment_id = sl.create_segment(store)
    dice = random.Random(20)
    known = 0

    for _ in range(12):
        command = [sys.executable, "-c", WORKER, str(tmp_path), session_id, segment_id, str(known)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(dice.randrange(1, 12)):
                reported = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            reported = max([reported, *map(int, process.stdout.read().split(b"\n")[:-1])])

        state = sl.restore(store, session_id, segment_id)
        found = numbers(state)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= reported > known
        assert (len(found) - known) % 4 in (0, 1), "a batch of three is there whole, or not at all"
        assert sl.head(store, session_id, segment_id).entries == state.entries_count
        known = len(found)

    with sl.SegmentWriter.resume(store, session_id, segment_id) as writer:
        sl.close_interrupted(writer)
        assert writer.state.pending_tool_calls == ()
        writer.save_turn_end()
    assert numbers(sl.restore(store, session_id, segment_id)) == list(range(1, known + 1))
    assert store.segment_path(session_id, segment_id).read_bytes().endswith(b"\n")


def test_the_torn_bytes_of_many_crashes_are_all_kept(tmp_path: Path) -> None:
    """F3: what is taken off a file is added to ``.torn``, never written over what is there."""
    log = write(tmp_path, small_history(), (1,))
    pieces = [b'{"kind":"first', b'{"kind":"second","x":[', b"\0\0\0"]

    for piece in pieces:
        log.put(log.path.read_bytes() + piece)
        with log.resume() as writer:
            writer.save_invoke()

    assert log.torn().split(b"\n")[:-1] == pieces
    assert log.restore().entries_count == len(log.lines) + len(pieces)
