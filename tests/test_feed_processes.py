"""Many processes on one feed: nothing any of them says is lost, whatever becomes of the file and of them meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import session_log as sl
from feeding import digest, feed_file, feed_lines
from session_log.feed import recent_sessions, reindex, watch

PROCESSES = 3
WORKER = """
import sys, os, time
import session_log as sl
from session_log.facts import rename
from session_log.feed import reindex, watch

root, rounds = sys.argv[1], int(sys.argv[2])
store = sl.FsStore(root, durability="process")
"""
WRITES = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    with sl.SegmentWriter.create(store) as writer:
        writer.save_invoke()
        writer.save_turn_end()
        writer.save_run_completed()
        rename(store, writer.session_id, f"{os.getpid()} {number}")
        sl.save_run_errored(store, writer.session_id, sl.fork_at(store, writer.session_id, writer.segment_id, 1), "no")
    print(writer.session_id, flush=True)
"""
REBUILDS = """
stopped = []
import threading
print("ready", flush=True)
sys.stdin.readline()
threading.Thread(target=lambda: (sys.stdin.readline(), stopped.append(1)), daemon=True).start()
while not stopped:
    reindex(store)
"""
DELETES = """
print("ready", flush=True)
sys.stdin.readline()
for _ in range(rounds):
    try:
        os.unlink(os.path.join(root, "feed.jsonl"))
    except FileNotFoundError:
        pass
    reindex(store)
"""
WATCHES = """
stopped = []
import threading
threading.Thread(target=lambda: (sys.stdin.readline(), sys.stdin.readline(), stopped.append(1)), daemon=True).start()
events = watch(store, stop=lambda: bool(stopped))
print("ready", flush=True)
for event in events:
    print(event.kind, event.session_id, event.segment_id, event.title, flush=True)
"""


class Process:
    """One of them."""

    def __init__(self, root: Path, script: str, rounds: int) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", WORKER + script, root, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None and self.popen.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def said(self) -> list[str]:
        found = self.popen.communicate(timeout=240)[0].splitlines()
        assert self.popen.returncode == 0
        return found


@contextmanager
def processes(root: Path, scripts: Sequence[str], rounds: int) -> Iterator[list[Process]]:
    """Start them, and let them go together."""
    started: list[Process] = []
    try:
        started += [Process(root, script, rounds) for script in scripts]
        for one in started:
            one.go()
        yield started
    finally:
        for one in started:
            one.popen.kill()
            one.popen.communicate()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="process") as found:
        yield found


def agrees(store: sl.FsStore) -> None:
    """All that a rebuilt feed says, the one that is there says; and each line of it is whole."""
    kept = digest(store)
    reindex(store)
    rebuilt = digest(store)
    assert {what: line for what, line in rebuilt.items() if kept.get(what) != line} == {}


def test_writers_that_begin_together_begin_one_whole_feed(store: sl.FsStore) -> None:
    """Whoever comes first makes it; lines do not mix, and each is there once."""
    rounds = 40
    with processes(store.root, [WRITES] * PROCESSES, rounds) as found:
        made = [session_id for one in found for session_id in one.said()]

    assert not recent_sessions(store).scanned
    assert [line["kind"] for line in feed_lines(store)].count("run_end") == 2 * rounds * PROCESSES
    assert len(recent_sessions(store, 1_000)) == len(made) == rounds * PROCESSES
    agrees(store)


def test_a_rebuild_while_others_write_loses_nothing(store: sl.FsStore) -> None:
    """Lines go into the old file until its replacement is noticed: they are carried over, or written again."""
    rounds = 60
    with processes(store.root, [WRITES] * PROCESSES + [REBUILDS, REBUILDS], rounds) as found:
        made = {session_id for one in found[:PROCESSES] for session_id in one.said()}
        for one in found[PROCESSES:]:  # not killed: a feed that is not whole yet may lack what is in the old one
            one.go()
        for one in found[PROCESSES:]:
            one.said()

    agrees(store)
    assert {one.session_id for one in recent_sessions(store, 1_000)} == made


def test_a_feed_deleted_while_others_write_is_never_trusted_for_more_than_it_says(store: sl.FsStore) -> None:
    rounds = 40
    with processes(store.root, [WRITES] * PROCESSES + [DELETES], rounds) as found:
        made = {session_id for one in found[:PROCESSES] for session_id in one.said()}
        found[PROCESSES].said()

    assert {one.session_id for one in recent_sessions(store, 1_000)} == made


def test_killed_writers_leave_nothing_on_file_that_is_not_in_the_feed(store: sl.FsStore) -> None:
    """SIGKILL anywhere, of writers and of a rebuilder: what is on file was announced before, and is found."""
    sl.create_segment(store)
    for _ in range(4):
        with processes(store.root, [WRITES, WRITES, REBUILDS], 1_000) as found:
            stdout = found[0].popen.stdout
            assert stdout is not None
            for _ in range(5):
                stdout.readline()
            for one in found:
                os.kill(one.popen.pid, signal.SIGKILL)
    if not recent_sessions(store).scanned:  # it was not killed between two feeds
        agrees(store)
    there = {found for found in store.list_sessions() if store.list_segments(found)}
    assert {one.session_id for one in recent_sessions(store, 10_000)} == there


def test_a_watcher_in_another_process_sees_every_change_through_rebuilds(store: sl.FsStore) -> None:
    """None of the events of a session is missing, though the feed is replaced again and again."""
    rounds = 30
    with processes(store.root, [WATCHES, *[WRITES] * PROCESSES, REBUILDS], rounds) as found:
        made = {session_id for one in found[1:-1] for session_id in one.said()}
        found[-1].go()
        found[-1].said()
        found[0].go()
        events = [line.split(" ", 3) for line in found[0].said()]

    seen: dict[str, list[str]] = {}
    for kind, session_id, *_ in events:
        seen.setdefault(session_id, []).append(kind)
    assert seen.keys() == made
    assert {frozenset(kinds) for kinds in seen.values()} == {frozenset(("create", "run_end", "rename", "fork"))}
    assert [kinds for kinds in seen.values() if kinds[0] != "create" or kinds.count("run_end") < 2] == []


def test_watching_costs_next_to_nothing_when_nothing_comes(store: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The naps grow to ten milliseconds: a hundred looks a second, each of a few microseconds."""
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    sl.create_segment(store)

    assert list(watch(store, stop=lambda: len(naps) >= 20)) == []

    assert naps[0] == 0.0005 and naps[-1] == 0.01 and sorted(naps) == naps
    assert json.loads(feed_file(store).read_bytes().split(b"\n")[0])["whole"] is True
