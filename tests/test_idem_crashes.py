"""Idempotency keys when it goes wrong: two at once, kill -9, a file cut anywhere, Ctrl-C, a failing disk."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

import session_log as sl
from points import Points
from session_log._idem import idem_of
from test_interrupts import ctrl_c, ignored_by_the_interpreter, in_another_thread, locks_are_free

ROUNDS = 60
PROCESSES = 3


def turn(writer: sl.SegmentWriter, key: str) -> int | None:
    """Record the turn that belongs to the key; return the position behind it."""
    batch = writer.batch(idem=key)
    with batch:
        writer.save_invoke()
        writer.save_user_input(f"ask {key}")
        writer.save_delta([sl.Message.assistant(f"answer {key}")])
        writer.save_turn_end()
    return batch.position


def keys_on_file(store: sl.Store, session_id: str, segment_id: str) -> list[str]:
    found = (idem_of(line) for line in store.read(session_id, segment_id))
    return [key for key in found if key is not None]


def asked(state: sl.RestoredState) -> list[str]:
    return [sl.flatten_input(segments) for segments in state.user_segments]


# ── at once ────────────────────────────────────────────────────────────────────────────────────────────────────────


def retry(root: str, durability: Any, ids: tuple[str, str], way: str, barrier: Barrier, said: Any) -> None:
    """In a process of its own: record every round's key at the moment at which the others do."""
    store = sl.FsStore(root, durability=durability)
    writer = sl.SegmentWriter.resume(store, *ids)
    found: list[Any] = []
    for number in range(ROUNDS):
        barrier.wait(60)
        if way == "free":
            found.append(sl.save_user_input(store, *ids, f"ask {number}", idem=str(number)))
        elif way == "input":
            found.append(writer.save_user_input(f"ask {number}", idem=str(number)))
        else:
            found.append(turn(writer, str(number)))
    said.put((found, writer.segment_id, writer.head.entries))


@pytest.mark.parametrize(
    ("way", "durability"),
    [("turn", "process"), ("turn", "turn"), ("input", "process"), ("input", "turn"), ("free", "turn")],
)
def test_processes_that_retry_one_key_at_once_record_it_once(tmp_path: Path, way: str, durability: Any) -> None:
    """60 rounds of three processes: one append a key, the same position for all, nobody forks."""
    store = sl.FsStore(tmp_path, durability="process")
    ids = sl.create_segment(store)
    spawn = multiprocessing.get_context("spawn")
    barrier, said = spawn.Barrier(PROCESSES), spawn.Queue()
    workers = [
        spawn.Process(target=retry, args=(str(tmp_path), durability, ids, way, barrier, said), daemon=True)
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    answers = [said.get(timeout=240) for _ in workers]
    for worker in workers:
        worker.join(60)

    size = 4 if way == "turn" else 1
    assert [found for found, _, _ in answers] == [[1 + size * (n + 1) for n in range(ROUNDS)]] * PROCESSES
    assert {segment_id for _, segment_id, _ in answers} == {ids[1]}
    assert way == "free" or {entries for _, _, entries in answers} == {1 + size * ROUNDS}
    assert store.list_segments(ids[0]) == [ids[1]]
    assert keys_on_file(store, *ids) == [str(number) for number in range(ROUNDS)]
    assert asked(sl.restore(store, *ids)) == [f"ask {number}" for number in range(ROUNDS)]


@pytest.mark.parametrize("files", [False, True])
def test_threads_of_one_writer_and_of_many_record_a_key_once(tmp_path: Path, files: bool) -> None:
    store: sl.Store = sl.FsStore(tmp_path, durability="process") if files else sl.MemoryStore()
    shared = sl.SegmentWriter.create(store)
    ids = shared.session_id, shared.segment_id
    writers = [shared, shared, *(sl.SegmentWriter.resume(store, *ids) for _ in range(2))]
    barrier = threading.Barrier(len(writers))
    found: list[list[int | None]] = [[] for _ in writers]

    def work(at: int) -> None:
        for number in range(ROUNDS):
            barrier.wait(60)
            found[at].append(turn(writers[at], str(number)))

    threads = [threading.Thread(target=work, args=(at,), daemon=True) for at in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert found == [[5 + 4 * number for number in range(ROUNDS)]] * len(writers)
    assert keys_on_file(store, *ids) == [str(number) for number in range(ROUNDS)]


# ── killed ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LOOP = """
import sys
import session_log as sl
from test_idem_crashes import turn

store = sl.FsStore(sys.argv[1], durability="process")
writer = sl.SegmentWriter.resume(store, sys.argv[2], sys.argv[3])
number = int(sys.argv[4])
while True:
    turn(writer, str(number))
    print(number, flush=True)
    number += 1
"""


def test_a_retry_after_kill_9_does_not_double(tmp_path: Path) -> None:
    """F1: twenty kills at any moment; each process begins with the last key that its predecessor may have recorded."""
    store = sl.FsStore(tmp_path, durability="process")
    ids = sl.create_segment(store)
    chance = random.Random(9)
    acknowledged = -1
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    for _ in range(20):
        arguments = [str(tmp_path), *ids, str(acknowledged + 1)]
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdout is not None
        for _ in range(chance.randint(1, 40)):
            acknowledged = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split(b"\n")[:-1]
        process.wait(60)
        process.stdout.close()
        lost = chance.random() < 0.5  # the answer may have been lost on its way to whoever retries
        acknowledged = acknowledged if lost or not rest else int(rest[-1])

    writer = sl.SegmentWriter.resume(store, *ids)
    last = acknowledged + 1
    turn(writer, str(last))
    found = keys_on_file(store, *ids)
    assert found == [str(number) for number in range(len(found))]
    assert len(found) >= last + 1
    assert asked(writer.state) == [f"ask {key}" for key in found]
    assert writer.state.turn_count == len(found)


def test_a_retry_after_a_cut_at_any_byte_does_not_double(tmp_path: Path) -> None:
    """Whatever a crash left of two keyed appends, both are there once after the retry, in order."""
    store = sl.FsStore(tmp_path, durability="process")
    writer = sl.SegmentWriter.create(store)
    ids = writer.session_id, writer.segment_id
    path = store.segment_path(*ids)
    first = path.stat().st_size
    writer.save_user_input("ask", idem="input")
    turn(writer, "t")
    writer.close()
    data = path.read_bytes()

    for size in range(first, len(data) + 1):
        path.write_bytes(data[:size])
        again = sl.FsStore(tmp_path, durability="process")
        with sl.SegmentWriter.resume(again, *ids) as resumed:
            assert (resumed.save_user_input("ask", idem="input"), turn(resumed, "t")) == (2, 6)
            assert asked(resumed.state) == ["ask", "ask t"]
        assert keys_on_file(again, *ids) == ["input", "t"]
        again.close()


# ── interrupted, refused ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["memory", "files"])
@pytest.mark.parametrize(
    ("others", "way"), [("none", "turn"), ("none", "input"), ("same", "input"), ("before", "input")]
)
def test_a_retry_after_an_interrupt_at_any_point_records_once(tmp_path: Path, kind: str, others: str, way: str) -> None:
    """F19: whether Ctrl-C came before or after the write, others were first or not; and no lock stays behind.

    (A fork that was interrupted may stay behind, as without a key: a branch that nobody goes on with.)
    """
    store: sl.Store = sl.MemoryStore() if kind == "memory" else sl.FsStore(tmp_path, durability="turn")

    def record(writer: sl.SegmentWriter) -> object:
        return turn(writer, "t") if way == "turn" else writer.save_user_input("ask t", idem="t")

    def prepared() -> sl.SegmentWriter:
        writer = sl.SegmentWriter.create(store)
        writer.save_user_input("before", idem="before")
        other = sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id)
        if others == "before":
            other.save_user_input("other")
        if others == "same":
            record(other)
        other.close()
        return writer

    rehearsal = Points(0, ctrl_c)
    writer = prepared()
    rehearsal.run(lambda: record(writer))
    assert rehearsal.count > 20
    for at in range(1, rehearsal.count + 1, 1 + rehearsal.count // 250):
        writer = prepared()
        points = Points(at, ctrl_c)
        with ignored_by_the_interpreter(), contextlib.suppress(KeyboardInterrupt):
            points.run(lambda: record(writer))  # noqa: B023
        try:
            locks_are_free(store, writer.session_id)
            for _ in range(2):
                in_another_thread(lambda: record(writer))  # noqa: B023
            assert asked(writer.state) == ["before", "ask t"]
            assert writer.save_user_input("before", idem="before") in (1, 2)
            assert keys_on_file(store, writer.session_id, writer.segment_id).count("t") == 1
            assert others == "before" or store.list_segments(writer.session_id) == [writer.segment_id]
        except BaseException as exc:
            exc.add_note(f"interrupted at point {at}: {points.place}")
            raise


def test_what_a_failed_sync_took_back_is_recorded_by_the_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AppendUnknown, reopened, repeated: there once."""
    store = sl.FsStore(tmp_path, durability="turn")
    writer = sl.SegmentWriter.create(store)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(sl.AppendUnknown):
            turn(writer, "t")
    with sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id) as again:
        assert (turn(again, "t"), turn(again, "t")) == (5, 5)

    assert keys_on_file(store, writer.session_id, writer.segment_id) == ["t"]


def test_a_full_disk_leaves_the_key_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = sl.FsStore(tmp_path, durability="turn")
    writer = sl.SegmentWriter.create(store)
    with monkeypatch.context() as patch:
        patch.setattr("session_log._segment_file._write", lambda fd, data: os.write(fd, data[:20]))
        with pytest.raises(sl.StoreUnavailable):
            turn(writer, "t")
    assert sl.find_idem(store, writer.session_id, writer.segment_id, "t") is None

    assert (turn(writer, "t"), turn(writer, "t")) == (5, 5)


def test_a_repeated_append_is_as_durable_as_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wrote it may have died before it was synced: the retry syncs the segment that has it, a parent's too."""
    store = sl.FsStore(tmp_path, durability="process")
    writer = sl.SegmentWriter.create(store)
    turn(writer, "t")
    child = writer.fork_at(1)
    synced: list[str] = []
    real = os.fdatasync

    def sync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    durable = sl.FsStore(tmp_path, durability="turn")
    parent = str(durable.segment_path(writer.session_id, writer.segment_id))

    for segment_id in (writer.segment_id, child):
        synced.clear()
        with sl.SegmentWriter.resume(durable, writer.session_id, segment_id) as again:
            turn(again, "t")
        assert parent in synced


def test_a_key_in_an_append_that_is_under_way_is_not_believed(tmp_path: Path) -> None:
    """A reader sees lines that may yet be taken back: a retry waits for whoever holds the lock, and looks again."""
    import fcntl

    store = sl.FsStore(tmp_path, durability="process")
    writer = sl.SegmentWriter.create(store)
    ids = writer.session_id, writer.segment_id
    path = store.segment_path(*ids)
    before = path.stat().st_size
    turn(writer, "t")
    data = path.read_bytes()[before:]
    os.truncate(path, before)
    writer.close()
    with path.open("ab", buffering=0) as file:  # somebody in the middle of an append
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data)
        other = sl.FsStore(tmp_path, durability="process")
        answers: list[int] = []
        entry = sl.UserInput(ts=1, segments=(sl.TextInput("ask t"),))
        content: list[sl.LogEntry] = [
            sl.Invoke(ts=1, trigger="user_send"),
            entry,
            sl.AssistantItem(ts=1, item=sl.Message.assistant("answer t")),
            sl.TurnEnd(ts=1, turn_count=1),
        ]
        thread = threading.Thread(
            target=lambda: answers.append(sl.append_entries(other, *ids, content, idem="t").entries), daemon=True
        )
        thread.start()
        thread.join(0.2)
        assert not answers
        os.truncate(path, before)  # it failed, and takes back what it wrote
        fcntl.flock(file, fcntl.LOCK_UN)
    thread.join(60)

    assert answers == [5]
    assert keys_on_file(other, *ids) == ["t"]
