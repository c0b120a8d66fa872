"""Many processes on one segment: whole lines, each exactly once, and nobody's acknowledged entry is lost."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl

PROCESSES = 4
ROUNDS = 300

OPEN = """
import json, sys
import session_log as sl

root, session_id, segment_id, name, rounds = *sys.argv[1:5], int(sys.argv[5])
store = sl.FsStore(root, durability="process")

def say(**what):
    print(json.dumps(what), flush=True)
"""

WAIT = """
say(ready=True)
sys.stdin.readline()
"""

RESUME = """
writer = sl.SegmentWriter.resume(store, session_id, segment_id)
"""

WRITES = """
for number in range(rounds):
    if number % 3 == 0:
        with writer.batch():
            for part in "abc":
                writer.save_user_input(f"{name}.{number}.{part} " + "x" * (number % 2) * 5000)
    else:
        writer.save_user_input(f"{name}.{number}")
say(segment=writer.segment_id)
"""

APPENDS = (
    WAIT
    + """
for number in range(rounds):
    entries = [sl.UserInput(ts=sl.now_ms(), segments=(sl.TextInput(f"{name}.{number}.{part}"),)) for part in "abc"]
    if number % 2:
        entries = entries[:1]
    sl.append_entries(store, session_id, segment_id, entries, expected=None)
say(segment=segment_id)
"""
)

SAVES = (
    WAIT
    + """
for number in range(rounds):
    sl.save_user_input(store, session_id, segment_id, f"{name}.{number}")
say(segment=segment_id)
"""
)

RETRIES = (
    WAIT
    + """
writer = sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="raise")
number = moved = 0
while number < rounds:
    try:
        writer.save_user_input(f"{name}.{number}")
        number += 1
    except sl.HeadMoved:
        moved += 1
        writer.close()
        writer = sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="raise")
say(segment=writer.segment_id, moved=moved)
"""
)

HOLDS = (
    WAIT
    + """
got = busy = 0
while got < rounds:
    try:
        with sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="raise", exclusive=True) as writer:
            writer.save_user_input(f"{name}.{got}.a")
            writer.save_user_input(f"{name}.{got}.b")
        got += 1
    except (sl.SegmentBusy, sl.HeadMoved):
        busy += 1
say(segment=segment_id, busy=busy)
"""
)


@contextlib.contextmanager
def started(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", OPEN + code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def race(store: sl.FsStore, session_id: str, segment_id: str, codes: list[str], rounds: int) -> list[dict[str, object]]:
    """Run a process for each of ``codes``, all let go at the same moment; return the last word of each."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(started(code, store.root, session_id, segment_id, f"p{at}", rounds))
            for at, code in enumerate(codes)
        ]
        for process in processes:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"ready": True}
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        words = [process.communicate()[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(word[-1]) for word in words]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


def texts(store: sl.FsStore, session_id: str, segment_id: str) -> list[str]:
    history = sl.restore(store, session_id, segment_id).history
    return [item.text.split()[0] for item in history if isinstance(item, sl.Message)]


def recorded(name: str, rounds: int) -> list[str]:
    found = []
    for number in range(rounds):
        found += [f"{name}.{number}.{part}" for part in "abc"] if number % 3 == 0 else [f"{name}.{number}"]
    return found


def whole_lines(store: sl.FsStore, session_id: str) -> None:
    """Every file of the session ends with a newline, and every line of it is an entry."""
    for segment_id in store.list_segments(session_id):
        assert store.segment_path(session_id, segment_id).read_bytes().endswith(b"\n")
        state = sl.restore(store, session_id, segment_id)
        assert (state.torn_bytes, state.unknown_entries) == (0, 0)
        assert not store.segment_path(session_id, segment_id).with_suffix(".torn").exists()


def test_each_process_has_all_of_its_own_entries_through_its_forks(store: sl.FsStore) -> None:
    """F6: writers that fork: each finds what was acknowledged to it, once, in order, in its last segment's lineage."""
    session_id, segment_id = sl.create_segment(store)

    words = race(store, session_id, segment_id, [RESUME + WAIT + WRITES] * PROCESSES, ROUNDS)

    for at, word in enumerate(words):
        assert texts(store, session_id, str(word["segment"])) == recorded(f"p{at}", ROUNDS)
    assert len({word["segment"] for word in words}) == PROCESSES
    whole_lines(store, session_id)
    written = [
        entry.segments[0].content.split()[0]
        for found in store.list_segments(session_id)
        for entry in sl.read_entries(store, session_id, found)
        if isinstance(entry, sl.UserInput) and isinstance(entry.segments[0], sl.TextInput)
    ]
    assert sorted(written) == sorted(text for at in range(PROCESSES) for text in recorded(f"p{at}", ROUNDS))


def test_free_appends_of_many_processes_are_whole_and_each_once(store: sl.FsStore) -> None:
    """F6: without a position, lines and batches of all land in one segment, whole, each exactly once, in order."""
    session_id, segment_id = sl.create_segment(store)

    race(store, session_id, segment_id, [APPENDS, APPENDS, SAVES, SAVES], ROUNDS)

    found = texts(store, session_id, segment_id)
    for at in range(2):
        mine = [text for text in found if text.startswith(f"p{at}.")]
        assert mine == [f"p{at}.{number}.{part}" for number in range(ROUNDS) for part in ("a" if number % 2 else "abc")]
    for at in (2, 3):
        assert [text for text in found if text.startswith(f"p{at}.")] == [f"p{at}.{n}" for n in range(ROUNDS)]
    for at, text in enumerate(found):
        if text.endswith(".b"):
            assert (found[at - 1], found[at + 1]) == (text[:-1] + "a", text[:-1] + "c")
    assert len(found) == 2 * ROUNDS * 2 + 2 * ROUNDS
    assert sl.head(store, session_id, segment_id).entries == 1 + len(found)
    assert store.list_segments(session_id) == [segment_id]
    whole_lines(store, session_id)


def test_writers_and_free_appends_together(store: sl.FsStore) -> None:
    """F6: a writer that forks keeps its own; what others append to its first segment is nobody else's business."""
    session_id, segment_id = sl.create_segment(store)

    words = race(store, session_id, segment_id, [RESUME + WAIT + WRITES, APPENDS, SAVES], ROUNDS)

    last = str(words[0]["segment"])
    mine = texts(store, session_id, last)
    assert [text for text in mine if text.startswith("p0.")] == recorded("p0", ROUNDS)
    assert last == segment_id or len(mine) == len(recorded("p0", ROUNDS))  # (it forked, unless it was through first)
    found = texts(store, session_id, segment_id)
    assert [text for text in found if text.startswith("p2.")] == [f"p2.{number}" for number in range(ROUNDS)]
    assert sum(text.startswith("p1.") for text in found) == 2 * ROUNDS
    whole_lines(store, session_id)


def test_with_raise_the_only_error_is_that_the_head_moved(store: sl.FsStore) -> None:
    """F6: those behind are told, look again and go on: all lines of all in one segment, in order, no fork."""
    session_id, segment_id = sl.create_segment(store)

    words = race(store, session_id, segment_id, [RETRIES] * PROCESSES, ROUNDS)

    found = texts(store, session_id, segment_id)
    for at in range(PROCESSES):
        assert [text for text in found if text.startswith(f"p{at}.")] == [f"p{at}.{n}" for n in range(ROUNDS)]
    assert len(found) == PROCESSES * ROUNDS
    assert {word["segment"] for word in words} == {segment_id}
    assert store.list_segments(session_id) == [segment_id]
    whole_lines(store, session_id)


def test_exclusive_writers_of_many_processes_are_one_at_a_time(store: sl.FsStore) -> None:
    """What one writes between taking and giving back the segment stands together."""
    session_id, segment_id = sl.create_segment(store)

    race(store, session_id, segment_id, [HOLDS] * 3, 10)

    found = texts(store, session_id, segment_id)
    assert len(found) == 60
    assert [text[:-1] + "b" for text in found[::2]] == found[1::2]
    for at in range(3):
        assert [text for text in found if text.startswith(f"p{at}.")] == [
            f"p{at}.{n}.{x}" for n in range(10) for x in "ab"
        ]
    whole_lines(store, session_id)


def test_a_follower_sees_each_line_of_other_processes_once_and_whole(store: sl.FsStore) -> None:
    """Followed from another process while many append: what comes is the file, line by line, batches whole."""
    session_id, segment_id = sl.create_segment(store)
    follow = (
        WAIT
        + """
seen = []
for line in store.follow(session_id, segment_id):
    seen.append(line.decode())
    if len(seen) == 1 + rounds:
        break
say(seen=seen)
"""
    )
    with started(follow, store.root, session_id, segment_id, "follower", 4 * ROUNDS) as follower:
        assert follower.stdout is not None
        assert follower.stdin is not None
        assert follower.stdout.readline()
        follower.stdin.write("go\n")
        follower.stdin.flush()
        race(store, session_id, segment_id, [APPENDS, APPENDS], ROUNDS)
        seen = json.loads(follower.stdout.readline())["seen"]

    assert seen == [line.decode() for line in store.read(session_id, segment_id)]


def test_the_lock_of_a_process_that_was_killed_is_free(store: sl.FsStore) -> None:
    """The kernel frees what a dead owner held; its note is not believed."""
    session_id, segment_id = sl.create_segment(store)
    hold = (
        WAIT
        + """
writer = sl.SegmentWriter.resume(store, session_id, segment_id, exclusive=True)
writer.save_user_input(name)
say(holding=True)
sys.stdin.readline()
"""
    )
    with started(hold, store.root, session_id, segment_id, "dead", 0) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"holding": True}
        with pytest.raises(sl.SegmentBusy) as caught:
            sl.save_invoke(store, session_id, segment_id, "notify")
        assert str(process.pid) in str(caught.value)
        process.kill()
        process.wait()

        note = next(store.segment_path(session_id, segment_id).parent.glob("*.owner"))
        left = note.read_bytes()
        with sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="raise", exclusive=True) as writer:
            assert writer.save_invoke() == 3
    note.write_bytes(left)
    race(store, session_id, segment_id, [SAVES, SAVES], ROUNDS)  # they wait for each other, not for the dead
    assert store.length(session_id, segment_id) == 3 + 2 * ROUNDS
