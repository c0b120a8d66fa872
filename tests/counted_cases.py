"""The cases that are counted: each operation as a runtime meets it, on short logs and on long ones."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import session_log as sl
from counted import Traced
from session_log.feed import recent_sessions

SHORT, LONG = 10, 10_000
TS = 1_900_000_000_000
SAID = sl.AssistantItem(ts=TS, item=sl.Message.assistant("Done."))
ENDED = sl.TurnEnd(ts=TS, turn_count=1)
FINISHED = sl.RunCompleted(ts=TS, interrupted=False, result="finished")
TURN = (
    sl.encode_line(sl.UserInput(ts=TS, segments=(sl.TextInput("What comes next? " * 4),))),
    sl.encode_line(sl.AssistantItem(ts=TS, item=sl.Message.assistant("This, then that. " * 4))),
    sl.encode_line(ENDED).replace(b":1}", b":%d}"),
    sl.encode_line(FINISHED),
)
REPETITIONS = 1_000


def run(count: Traced, directory: Path) -> None:
    """Run every case, each in a root of its own."""
    for number, case in enumerate(
        (appends, functions, creations, announcements, forks, heads, restores, lists, follows, memory)
    ):
        root = directory / str(number)
        root.mkdir()
        case(count, root)


def log(store: sl.FsStore, turns: int) -> tuple[str, str]:
    """Write a segment of so many turns of four entries, straight into its file."""
    session_id, segment_id = sl.create_segment(store)
    text = b"\n".join(TURN) + b"\n"
    with store.segment_path(session_id, segment_id).open("ab") as file:
        file.write(b"".join(text % turn for turn in range(1, turns + 1)))
    return session_id, segment_id


def appends(count: Traced, root: Path) -> None:
    """A writer, in each durability, with and without keeping the lock."""
    for durability in ("process", "turn", "power"):
        for exclusive in (False, True):
            store = sl.FsStore(root, durability=durability, feed=False)
            name = f"{durability}, {'exclusive' if exclusive else 'shared'}"
            with sl.SegmentWriter.resume(store, *log(store, SHORT), exclusive=exclusive) as writer:
                _appends(count, name, writer)


def _appends(count: Traced, name: str, writer: sl.SegmentWriter) -> None:
    with count(f"{name}: first append"):
        writer.append(SAID)
    with count(f"{name}: append at once"):
        writer.append(SAID)
    count.clock.pause()
    with count(f"{name}: append after a pause"):
        writer.append(SAID)
    with count(f"{name}: end of a turn"):
        writer.append(ENDED)
    with count(f"{name}: batch of ten"):
        writer.append_entries([SAID] * 10)


def functions(count: Traced, root: Path) -> None:
    """The free functions, which know no position: a store keeps the descriptor."""
    store = sl.FsStore(root, durability="process", feed=False)
    for turns in (SHORT, LONG):
        ids = log(store, turns)
        for _ in range(2):
            sl.append_entry(store, *ids, SAID)
        with count(f"append_entry, {turns:,} turns"):
            sl.append_entry(store, *ids, SAID)
    with sl.SegmentWriter.resume(store, *ids) as writer:
        writer.save_user_input("Next?")
        with count("writer.save_user_input"):
            writer.save_user_input("Next?")
        writer.save_delta([sl.Message.assistant("This.")])
        with count("writer.save_delta"):
            writer.save_delta([sl.Message.assistant("This.")])


def creations(count: Traced, root: Path) -> None:
    """A new session: the first of a store, and the next."""
    for durability in ("process", "turn"):
        store = sl.FsStore(root / durability, durability=durability, feed=False)
        with count(f"create_segment, {durability}: first of a root"):
            sl.create_segment(store)
        with count(f"create_segment, {durability}"):
            sl.create_segment(store)


def announcements(count: Traced, root: Path) -> None:
    """What a feed adds: to a run's end, to a new session; a reader looks from its end."""
    store = sl.FsStore(root / "fed", durability="process")
    with count("create_segment, process: first of a root with a feed"):
        sl.create_segment(store)
    with count("create_segment, process, with a feed"):
        ids = sl.create_segment(store)
    with sl.SegmentWriter.resume(store, *ids) as writer:
        writer.append(FINISHED)
        with count("process, shared: end of a run, with a feed"):
            writer.append(FINISHED)
        count.clock.pause()
        with count("process, shared: end of a run after a pause, with a feed"):
            writer.append(FINISHED)
        with count("process, shared: end of a turn, with a feed"):
            writer.append(ENDED)
    with count("recent_sessions, 2 sessions"):
        recent_sessions(store)
    for _ in range(LONG // 10):
        sl.create_segment(store)
    with count("recent_sessions, 1,002 sessions"):
        recent_sessions(store)


def forks(count: Traced, root: Path) -> None:
    """Forks by reference near the end, of a segment whose cuts are known."""
    for turns in (SHORT, LONG):
        store = sl.FsStore(root, durability="process", feed=False)
        ids = log(store, turns)
        if turns == LONG:
            with count("first fork_at of a store"):
                sl.fork_at(store, *ids, turns - 3)
        sl.fork_at(store, *ids, turns - 3)
        with count(f"fork_at, {turns:,} turns"):
            sl.fork_at(store, *ids, turns - 3)
        with sl.SegmentWriter.resume(store, *ids) as writer, count(f"writer.fork_at, {turns:,} turns"):
            writer.fork_at(turns - 3)
        synced = sl.FsStore(root, durability="turn", feed=False)
        sl.fork_at(synced, *ids, turns - 3)
        with count(f"fork_at, synced, {turns:,} turns"):
            sl.fork_at(synced, *ids, turns - 3)


def heads(count: Traced, root: Path) -> None:
    """Whether somebody else wrote."""
    store = sl.FsStore(root, durability="process", feed=False)
    for turns in (SHORT, LONG):
        at = sl.head(store, *log(store, turns))
        sl.ensure_head_or_fork(store, at)
        with count(f"head check, {turns:,} turns"):
            sl.ensure_head_or_fork(store, at)


def restores(count: Traced, root: Path) -> None:
    """Reading it all: a restore, and a writer that resumes; then a fork near the end of the long log."""
    for turns in (SHORT, LONG):
        store = sl.FsStore(root, durability="process", feed=False)
        ids = log(store, turns)
        with count(f"restore, {turns:,} turns"):
            sl.restore(store, *ids)
        with count(f"resume, {turns:,} turns"):
            sl.SegmentWriter.resume(store, *ids)
        sl.head(store, *ids)
        with count(f"restore, {turns:,} turns, the head known"):
            sl.restore(store, *ids)
    child = sl.fork_at(store, *ids, turns - 3)
    with count(f"restore of a fork, {turns:,} turns"):
        sl.restore(store, ids[0], child)


def lists(count: Traced, root: Path) -> None:
    """Lists of a hundred: no look at any one of them."""
    store = sl.FsStore(root, durability="process", feed=False)
    session_id, _ = sl.create_segment(store)
    for _ in range(99):
        sl.create_segment(store)
        sl.create_segment_with_ids(store, session_id, sl.new_segment_id(), sl.SegmentStartState())
    with count("list_sessions, 100 sessions"):
        sessions = store.list_sessions(limit=20)
    with count("list_segments, 100 segments"):
        segments = store.list_segments(session_id)
    assert (len(sessions), len(segments)) == (20, 100)


def follows(count: Traced, root: Path) -> None:
    """A follower that finds nothing, then a line, then another one at once."""
    store = sl.FsStore(root, durability="process", feed=False)
    ids = log(store, LONG)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            count.begin("follow: nothing new")
        elif asked == 3:
            count.end()
            sl.append_entry(store, *ids, SAID)
            count.begin("follow: woken by a line")
        return False

    lines = store.follow(*ids, store.length(*ids), stop=stop)
    next(lines)
    count.end()
    sl.append_entry(store, *ids, SAID)
    with count("follow: the next line is there"):
        next(lines)


def memory(count: Traced, root: Path) -> None:
    """What a writer, a store and a follower keep of each of a thousand entries."""
    store = sl.FsStore(root, durability="process", feed=False)
    ids = log(store, SHORT)
    with sl.SegmentWriter.resume(store, *ids) as writer:
        _kept(count, "writer.append", lambda: writer.append(SAID))
        _kept(count, "writer.save_user_input", lambda: writer.save_user_input("Next?"))
    _kept(count, "append_entry", lambda: sl.append_entry(store, *ids, SAID))
    at = sl.head(store, *ids)
    _kept(count, "head check", lambda: sl.ensure_head_or_fork(store, at))
    lines = store.follow(*ids)
    _kept(count, "follow", lambda: next(lines))


def _kept(count: Traced, name: str, action: Callable[[], object]) -> None:
    """Count the blocks of memory that stay allocated, a repetition, to a tenth: what is allocated once is not in it."""
    for _ in range(10):
        action()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(REPETITIONS):
        action()
    gc.collect()
    count.kept[name] = round((sys.getallocatedblocks() - before) / REPETITIONS, 1)
