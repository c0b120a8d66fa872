"""Verify beside others: writers at work, sessions that go away, an interrupt; nothing false, nothing kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import session_log as sl
from recorded import record_turn, unchanged
from session_log.verify import VerifyProgress, verify

WRITER = """
import sys
import session_log as sl

root, session_id, segment_id, rounds = *sys.argv[1:4], int(sys.argv[4])
store = sl.FsStore(root, durability="process")
writer = sl.SegmentWriter.resume(store, session_id, segment_id, chain=True)
print("ready", flush=True)
for number in range(rounds):
    with writer.batch():
        writer.save_invoke()
        writer.save_user_input("x" * (number % 5) * 50_000)
        writer.save_turn_end()
    writer.save_usage(1, 2, 0, 0, 1)
    writer.save_run_completed()
print(writer.segment_id, flush=True)
"""
NOTES = {"chain_open", "interrupted"}


def writing(store: sl.FsStore, ids: tuple[str, str], rounds: int) -> subprocess.Popen[str]:
    """Start a process that writes to the segment; return when it is about to."""
    args = [sys.executable, "-c", WRITER, str(store.root), *ids, str(rounds)]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_writers_at_work_give_no_false_finding(tmp_path: Path) -> None:
    """Two processes on one segment, of which one goes on in a fork: lines half written, forks half made, open runs."""
    store = sl.FsStore(tmp_path, durability="process")
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
    ids = writer.session_id, writer.segment_id
    processes = [writing(store, ids, 60) for _ in range(2)]
    kinds, lines, looks = set(), 0, 0
    while any(process.poll() is None for process in processes) or looks < 3:
        report = verify(store)
        kinds |= {each.kind for each in report.findings}
        assert report.lines >= lines
        lines, looks = report.lines, looks + 1
    for process in processes:
        process.communicate()
        assert process.returncode == 0

    assert kinds <= NOTES
    report = verify(store)
    assert {each.kind for each in report.findings} <= {"chain_open"} and report.lines > 600
    assert report.chained_segments == report.segments == len(store.list_segments(ids[0]))


@pytest.mark.parametrize("rounds", [1, 7, 23])
def test_a_writer_that_is_killed_leaves_a_chain_that_goes_on(tmp_path: Path, rounds: int) -> None:
    store = sl.FsStore(tmp_path, durability="process")
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
    ids = writer.session_id, writer.segment_id
    process = writing(store, ids, 100_000)
    for found, _ in enumerate(store.follow(*ids)):
        if found > 8 + 5 * rounds:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert {each.kind for each in verify(store).findings} <= {*NOTES, "torn_tail"}
    with sl.SegmentWriter.resume(store, *ids, chain=True) as again:
        again.save_turn_end()

    report = verify(store)
    assert report.is_sound and not {each.kind for each in report.findings} - {"interrupted"}
    assert report.lines == store.length(*ids)


def test_a_session_that_is_deleted_meanwhile_is_not_reported(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    for _ in range(3):
        with sl.SegmentWriter.create(store) as writer:
            writer.save_invoke()
            child = writer.fork_at_entry(1)
    gone = writer.session_id

    def delete(progress: VerifyProgress) -> None:
        if progress.session_id == gone and gone in store.list_sessions():
            store.delete_session(gone)

    report = verify(store, progress=delete)

    assert child and report.sessions == 2
    assert {each.kind for each in report.findings} == {"interrupted"}
    assert not [each for each in report.findings if gone in each.path]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_file_that_gets_shorter_meanwhile_is_looked_at_again(tmp_path: Path, comes_back: bool) -> None:
    """As after a failed sync of its writer. One that stays so, with the rest of a line at its end, is reported."""
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store, chain=True) as writer:
        for number in range(4):
            writer.save_user_input(str(number) * 200_000)
        writer.save_turn_end()
    path = store.segment_path(writer.session_id, writer.segment_id)
    data = path.read_bytes()
    looks: list[VerifyProgress] = []

    def shorten(progress: VerifyProgress) -> None:
        looks.append(progress)
        if len(looks) == 1:
            os.truncate(path, 300_000)
        elif comes_back:
            path.write_bytes(data)

    report = verify(store, progress=shorten)

    assert len(looks) == 2  # the block before the end, twice
    kinds = {each.kind for each in report.findings}
    assert kinds == (set() if comes_back else {"torn_tail"})


def test_an_interrupt_leaves_nothing_open_and_nothing_changed(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
    store.close()
    before, descriptors = unchanged(store, writer.session_id), os.listdir("/dev/fd")

    def stop(progress: VerifyProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(store, progress=stop)

    assert len(os.listdir("/dev/fd")) == len(descriptors)
    assert unchanged(store, writer.session_id) == before
    assert verify(store).findings == ()


def test_a_large_segment_takes_no_more_memory_than_a_few_blocks(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path, durability="process")
    with sl.SegmentWriter.create(store, chain=True) as writer:
        for number in range(60):
            with writer.batch():
                for _ in range(40):
                    writer.save_user_input(str(number % 10) * 8_000)
                writer.save_turn_end()
    size = store.segment_path(writer.session_id, writer.segment_id).stat().st_size
    verify(store)
    tracemalloc.start()
    try:
        report = verify(store)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert report.findings == () and report.size_bytes == size > 19_000_000
    assert peak < 6_000_000


def test_a_tail_that_is_committed_while_it_is_looked_at_is_not_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer in the middle of its write: between two looks it is through."""
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("x")
    path = store.segment_path(writer.session_id, writer.segment_id)
    line = b'{"kind":"user_input","ts":9999999999999,"segments":[]}\n'
    path.write_bytes(path.read_bytes() + line[:20])
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            path.write_bytes(path.read_bytes() + line[20:])

    monkeypatch.setattr("time.sleep", nap)

    assert verify(store).findings == () and len(naps) == 1
