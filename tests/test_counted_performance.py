"""Performance by counting: what an operation costs in calls, bytes and lines does not depend on the machine.

Every number below is the exact present one. A test that fails says what it found instead (``pytest --tb=line`` lists
all of it). If the change is meant, for better or worse, write what was found into the table, in the commit that causes
it, and say there why: what got better and is not written down can creep back unseen. The cases are in
``counted_cases``, how they are counted in ``counted``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import counted
import session_log as sl
from counted import Work
from counted_cases import LONG, SAID, SHORT, TS, TURN, log

COUNTED_WITH = (3, 11)
OTHER_PYTHONS = 1.5
"""Another Python enters comprehensions, or a standard library, otherwise: there the calls have this much room."""


class Bound(NamedTuple):
    """The system calls in their order; calls into, within and out of the library, of Python and of C; bytes; lines."""

    calls: str
    python_calls: int
    c_calls: int
    bytes_read: int
    bytes_written: int
    lines_decoded: int


OPENED = "open open close stat stat"  # the folder, the file in it, which is a plain one; how long it is, or which
AT_ONCE = "lseek write"  # the head check, the line
LOOKED = "lseek stat write"  # is the file still at its path?
SYNCED = "open fsync close"  # a folder
MADE = "getrandom open write close link unlink"  # a temporary name, an exclusive link
DURABLY_MADE = f"getrandom open write fdatasync close link {SYNCED} unlink"
FORKED = f"{MADE} stat"  # and is the parent still there?
HEADER = f"{OPENED} pread close"  # the first line, for the lineage
BODY = f"{OPENED} pread"  # where does it end? then come the blocks
UNTORN = f"{OPENED} close"  # is anything torn behind it?
CUT = "stat stat open open close stat pread close getrandom"  # the head, the last inherited line, an id
SETTLED = "open open close stat fdatasync close"  # the parent, before a child refers to it
BLOCKS = "pread " * 19
COUNTED = f"{OPENED} {'pread ' * 7}close"  # the first time, how many lines there are
FIRST_FORK = (
    f"stat {COUNTED} {BODY} {BLOCKS}close stat {HEADER} open open close stat pread close getrandom stat {FORKED}"
)

SAID_SO = "write stat"  # a line of the feed; is its file still the one with the name?
BEGUN = (
    f"open open stat getdents open stat getdents getdents close getdents close {MADE} open stat stat pread"  # a feed
)
FROM_ITS_END = "open stat pread pread"  # the feed: its header, then its last block

BOUNDS = {
    "process, shared: first append": Bound(f"{OPENED} flock {LOOKED} flock", 26, 19, 0, 133, 0),
    "process, shared: append at once": Bound(f"flock {AT_ONCE} flock", 2, 9, 0, 133, 0),
    "process, shared: append after a pause": Bound(f"flock {LOOKED} flock", 6, 13, 0, 133, 0),
    "process, shared: end of a turn": Bound(f"flock {AT_ONCE} flock", 2, 9, 0, 54, 0),
    "process, shared: batch of ten": Bound(f"flock {AT_ONCE} flock", 17, 16, 0, 1_431, 0),
    "process, exclusive: first append": Bound(LOOKED, 6, 11, 0, 133, 0),
    "process, exclusive: append at once": Bound(AT_ONCE, 2, 7, 0, 133, 0),
    "process, exclusive: append after a pause": Bound(LOOKED, 6, 11, 0, 133, 0),
    "process, exclusive: end of a turn": Bound(AT_ONCE, 2, 7, 0, 54, 0),
    "process, exclusive: batch of ten": Bound(AT_ONCE, 17, 14, 0, 1_431, 0),
    "turn, shared: first append": Bound(f"{OPENED} flock {LOOKED} flock", 26, 19, 0, 133, 0),
    "turn, shared: append at once": Bound(f"flock {AT_ONCE} flock", 2, 9, 0, 133, 0),
    "turn, shared: append after a pause": Bound(f"flock {LOOKED} flock", 6, 13, 0, 133, 0),
    "turn, shared: end of a turn": Bound(f"flock {AT_ONCE} fdatasync flock", 12, 20, 0, 54, 0),
    "turn, shared: batch of ten": Bound(f"flock {AT_ONCE} flock", 17, 17, 0, 1_431, 0),
    "turn, exclusive: first append": Bound(LOOKED, 6, 11, 0, 133, 0),
    "turn, exclusive: append at once": Bound(AT_ONCE, 2, 7, 0, 133, 0),
    "turn, exclusive: append after a pause": Bound(LOOKED, 6, 11, 0, 133, 0),
    "turn, exclusive: end of a turn": Bound(f"{AT_ONCE} fdatasync", 12, 18, 0, 54, 0),
    "turn, exclusive: batch of ten": Bound(AT_ONCE, 17, 15, 0, 1_431, 0),
    "power, shared: first append": Bound(f"{OPENED} flock {LOOKED} fdatasync flock", 32, 27, 0, 133, 0),
    "power, shared: append at once": Bound(f"flock {AT_ONCE} fdatasync flock", 12, 20, 0, 133, 0),
    "power, shared: append after a pause": Bound(f"flock {LOOKED} fdatasync flock", 12, 21, 0, 133, 0),
    "power, shared: end of a turn": Bound(f"flock {AT_ONCE} fdatasync flock", 12, 20, 0, 54, 0),
    "power, shared: batch of ten": Bound(f"flock {AT_ONCE} fdatasync flock", 19, 18, 0, 1_431, 0),
    "power, exclusive: first append": Bound(f"{LOOKED} fdatasync", 12, 19, 0, 133, 0),
    "power, exclusive: append at once": Bound(f"{AT_ONCE} fdatasync", 12, 18, 0, 133, 0),
    "power, exclusive: append after a pause": Bound(f"{LOOKED} fdatasync", 12, 19, 0, 133, 0),
    "power, exclusive: end of a turn": Bound(f"{AT_ONCE} fdatasync", 12, 18, 0, 54, 0),
    "power, exclusive: batch of ten": Bound(f"{AT_ONCE} fdatasync", 19, 16, 0, 1_431, 0),
    "append_entry, 10 turns": Bound(f"flock {AT_ONCE} flock", 19, 28, 0, 133, 0),
    "append_entry, 10,000 turns": Bound(f"flock {AT_ONCE} flock", 19, 28, 0, 133, 0),
    "writer.save_user_input": Bound(f"flock {AT_ONCE} flock", 13, 18, 0, 88, 0),
    "writer.save_delta": Bound(f"flock {AT_ONCE} flock", 22, 28, 0, 133, 0),
    "create_segment, process: first of a root": Bound(
        f"getrandom getrandom stat stat mkdir stat mkdir {MADE}", 76, 152, 0, 247, 1
    ),
    "create_segment, process": Bound(f"getrandom getrandom stat stat mkdir {MADE}", 73, 150, 0, 247, 1),
    "create_segment, turn: first of a root": Bound(
        f"getrandom getrandom stat stat mkdir {SYNCED} stat mkdir {SYNCED} {DURABLY_MADE}", 82, 163, 0, 247, 1
    ),
    "create_segment, turn": Bound(f"getrandom getrandom stat stat mkdir {SYNCED} {DURABLY_MADE}", 78, 158, 0, 247, 1),
    "create_segment, process: first of a root with a feed": Bound(
        f"getrandom getrandom stat stat mkdir stat mkdir {BEGUN} write stat {MADE}", 102, 185, 1, 442, 1
    ),
    "create_segment, process, with a feed": Bound(
        f"getrandom getrandom stat stat mkdir {SAID_SO} {MADE}", 80, 159, 0, 388, 1
    ),
    "process, shared: end of a run, with a feed": Bound(f"flock lseek {SAID_SO} write flock", 15, 28, 0, 226, 0),
    "process, shared: end of a run after a pause, with a feed": Bound(
        f"flock lseek stat stat {SAID_SO} write flock", 17, 30, 0, 226, 0
    ),
    "process, shared: end of a turn, with a feed": Bound(f"flock {AT_ONCE} flock", 2, 9, 0, 54, 0),
    "recent_sessions, 2 sessions": Bound(f"{FROM_ITS_END} {'stat ' * 4}close", 75, 82, 1_524, 0, 7),
    "recent_sessions, 1,002 sessions": Bound(f"{FROM_ITS_END} {'stat ' * 40}close", 279, 336, 17_408, 0, 21),
    "fork_at, 10 turns": Bound(f"{CUT} stat {FORKED}", 117, 98, 84, 446, 0),
    "writer.fork_at, 10 turns": Bound(f"{CUT} stat {FORKED}", 119, 99, 84, 446, 0),
    "fork_at, synced, 10 turns": Bound(f"{CUT} {SETTLED} stat {DURABLY_MADE} stat", 143, 116, 84, 446, 0),
    "first fork_at of a store": Bound(FIRST_FORK, 160_450, 230_486, 11_861_338, 455, 40_002),
    "fork_at, 10,000 turns": Bound(f"{CUT} stat {FORKED}", 135, 98, 84, 455, 0),
    "writer.fork_at, 10,000 turns": Bound(f"{CUT} stat {FORKED}", 137, 99, 84, 455, 0),
    "fork_at, synced, 10,000 turns": Bound(f"{CUT} {SETTLED} stat {DURABLY_MADE} stat", 161, 116, 84, 455, 0),
    "head check, 10 turns": Bound("stat", 8, 8, 0, 0, 0),
    "head check, 10,000 turns": Bound("stat", 8, 8, 0, 0, 0),
    "restore, 10 turns": Bound(f"{HEADER} {BODY} pread close {UNTORN}", 279, 183, 14_292, 0, 42),
    "resume, 10 turns": Bound(f"{HEADER} {BODY} pread close {UNTORN} {HEADER}", 356, 226, 18_388, 0, 43),
    "restore, 10 turns, the head known": Bound(f"{HEADER} {BODY} pread close {UNTORN}", 279, 183, 14_292, 0, 42),
    "restore, 10,000 turns": Bound(f"{HEADER} {BODY} {BLOCKS}close {UNTORN}", 33_004, 41_686, 5_933_281, 0, 40_002),
    "resume, 10,000 turns": Bound(
        f"{HEADER} {BODY} {BLOCKS}close {UNTORN} {HEADER}", 33_081, 41_729, 5_937_377, 0, 40_003
    ),
    "restore, 10,000 turns, the head known": Bound(
        f"{HEADER} {BODY} {BLOCKS}close {UNTORN}", 33_004, 41_686, 5_933_281, 0, 40_002
    ),
    "restore of a fork, 10,000 turns": Bound(
        f"{HEADER} {BODY} close {BODY} {BLOCKS}close {BODY} pread close {UNTORN}", 30_493, 41_813, 5_934_646, 0, 39_992
    ),
    "list_sessions, 100 sessions": Bound(f"open stat getdents getdents close {'stat ' * 20}", 85, 183, 0, 0, 0),
    "list_segments, 100 segments": Bound(
        "open fcntl stat fcntl fcntl getdents getdents lseek close close", 209, 307, 0, 0, 0
    ),
    "follow: nothing new": Bound("stat stat sleep pread", 15, 7, 1, 0, 0),
    "follow: woken by a line": Bound("stat stat sleep pread", 14, 9, 134, 0, 0),
    "follow: the next line is there": Bound("pread", 9, 6, 134, 0, 0),
}
KEPT = {"writer.append": 0.0, "writer.save_user_input": 3.0, "append_entry": 0.0, "head check": 0.0, "follow": 0.0}
"""Blocks of memory kept of an entry: by a writer what is in its state, an entry it made with what is in it; no more."""
WINDOW_BYTES, HEADER_BYTES, BLOCK_BYTES = 1 << 20, 1 << 12, 1 << 18
"""What a restore reads besides the file: its end, to see what is committed, and its first line; and in what pieces."""
MAX_FORK_BYTES = 600


@pytest.fixture(scope="module")
def system_calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if reason := counted.why_not_traced():
        pytest.skip(reason)
    return counted.system_calls(tmp_path_factory.mktemp("traced"))


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Work], dict[str, float]]:
    if reason := counted.why_not_worked():
        pytest.skip(reason)
    return counted.work(tmp_path_factory.mktemp("worked"))


@pytest.fixture(scope="module")
def work(worked: tuple[dict[str, Work], dict[str, float]]) -> dict[str, Work]:
    return worked[0]


@pytest.mark.parametrize("case", BOUNDS)
def test_an_operation_makes_exactly_these_system_calls(case: str, system_calls: dict[str, str]) -> None:
    assert system_calls[case] == BOUNDS[case].calls.strip()


@pytest.mark.parametrize("case", BOUNDS)
def test_an_operation_calls_reads_writes_and_decodes_exactly_so_much(case: str, work: dict[str, Work]) -> None:
    found, bound = work[case], Work(*BOUNDS[case][1:])
    row = f'"{case}": {", ".join(f"{number:_}" for number in found)}'

    if sys.version_info[:2] == COUNTED_WITH:
        assert found == bound, row
    assert found[2:] == bound[2:], row
    assert found.python_calls <= bound.python_calls * OTHER_PYTHONS, row
    assert found.c_calls <= bound.c_calls * OTHER_PYTHONS, row


def test_every_case_has_a_bound(system_calls: dict[str, str], work: dict[str, Work]) -> None:
    assert set(system_calls) == set(work) == set(BOUNDS)


# ── what the table means ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", ["append_entry", "head check", "fork_at", "fork_at, synced", "writer.fork_at"])
def test_what_must_be_flat_does_the_same_in_a_log_a_thousand_times_as_long(operation: str) -> None:
    short, long = BOUNDS[f"{operation}, {SHORT:,} turns"], BOUNDS[f"{operation}, {LONG:,} turns"]
    digits = 3 * len("000")  # of the lines, bytes and turns that a fork inherits

    assert (short.calls, short.c_calls, short.bytes_read) == (long.calls, long.c_calls, long.bytes_read)
    assert short.lines_decoded == long.lines_decoded == 0
    assert long.bytes_written - short.bytes_written in (0, digits)


@pytest.mark.parametrize("turns", [SHORT, LONG])
@pytest.mark.parametrize("known", ["", ", the head known"])
def test_a_restore_reads_the_file_once_and_decodes_each_line_once(turns: int, known: str, tmp_path: Path) -> None:
    """But for the first line, which is read before the others, to find the ancestors; and for the end of the file."""
    store = sl.FsStore(tmp_path)
    size = store.segment_path(*log(store, turns)).stat().st_size

    bound = BOUNDS[f"restore, {turns:,} turns{known}"]

    cut_lines = size // BLOCK_BYTES * max(map(len, TURN))  # a line that a block ends in is read again, with the next
    assert bound.bytes_read <= size + cut_lines + min(size, WINDOW_BYTES) + HEADER_BYTES
    assert bound.lines_decoded == 1 + turns * len(TURN) + 1
    assert bound.bytes_written == 0


def test_a_fork_by_reference_has_at_most_600_bytes() -> None:
    forks = {case: bound.bytes_written for case, bound in BOUNDS.items() if "fork_at" in case}

    assert len(forks) > 4
    assert max(forks.values()) <= MAX_FORK_BYTES


def test_a_writer_keeps_of_an_entry_what_the_state_needs_and_nobody_else_keeps_anything(
    worked: tuple[dict[str, Work], dict[str, float]],
) -> None:
    assert worked[1].keys() == KEPT.keys()
    assert {name: kept for name, kept in worked[1].items() if kept > KEPT[name]} == {}


# ── bytes on disk ──────────────────────────────────────────────────────────────────────────────────────────────────

TEXT = "größer\n"
WRITTEN = r"größer\n".encode()
USAGE = sl.LlmUsage(
    ts=TS, history_len=7, input_total_tokens=7, cache_read_tokens=7, cache_write_tokens=7, output_tokens=7
)
ON_DISK: dict[str, tuple[Any, int]] = {
    "invoke": (sl.Invoke(ts=TS, trigger="wakeup"), 56),
    "user_input": (sl.UserInput(ts=TS, segments=(sl.TextInput(TEXT),)), 83),
    "message": (sl.AssistantItem(ts=TS, item=sl.Message.assistant(TEXT)), 128),
    "reasoning": (sl.AssistantItem(ts=TS, item=sl.Reasoning(text=TEXT)), 83),
    "tool_call": (sl.AssistantItem(ts=TS, item=sl.ToolCall("", "", TEXT)), 111),
    "tool_result": (sl.ToolResultEntry(ts=TS, item=sl.ToolResult("", "", TEXT)), 111),
    "turn_end": (sl.TurnEnd(ts=TS, turn_count=7), 54),
    "run_completed": (sl.RunCompleted(ts=TS, interrupted=False, result="finished"), 84),
    "llm_usage": (USAGE, 142),
    "extension": (sl.Extension(ts=TS, domain="", payload=TEXT), 65),
}
"""Entries, and how many bytes each takes in the file besides ``TEXT``, if that is in it; the newline is one of them."""


@pytest.mark.parametrize("kind", ON_DISK)
def test_an_entry_takes_exactly_so_many_bytes_besides_its_payload(kind: str, tmp_path: Path) -> None:
    entry, bound = ON_DISK[kind]
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        path = store.segment_path(writer.session_id, writer.segment_id)
        before = path.stat().st_size

        writer.append(entry)

    added = path.read_bytes()[before:]
    payload = len(WRITTEN) if WRITTEN in added else 0
    assert len(added) - payload == bound, added


def test_a_batch_costs_ten_bytes_a_line_and_its_number(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        path = store.segment_path(writer.session_id, writer.segment_id)
        before = path.stat().st_size

        writer.append_entries([SAID] * 10)

    marks = len(b',"batch":10') + 9 * len(b',"batch":0')
    assert path.stat().st_size - before == 10 * (len(sl.encode_line(SAID)) + 1) + marks
