"""Following many segments: every line once, in order, from where one began; forks and new ones as they come."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from commands import FORK, OPEN, OTHER, ROOT, SESSION, interruptible, run, sample
from session_log.following import Notice, follow_lines, whole_root, with_forks
from session_log.lines import Line

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(sample(tmp_path))


def record(root: Path, name: str, count: int) -> None:
    """Append from another process: one by one, in batches, in a session of its own."""
    with sl.FsStore(root, durability="process") as store, sl.SegmentWriter.create(store) as writer:
        for at in range(count):
            sl.save_user_input(store, OTHER, OPEN, f"{name} {at}")
            writer.save_user_input(f"own {name} {at}")
            sl.append_entries(store, SESSION, ROOT, [sl.Invoke(ts=1, trigger=f"{name} {at} {part}") for part in "ab"])


def said(line: Line) -> str:
    entry = line.entry()
    return entry.segments[0].content if isinstance(entry, sl.UserInput) else getattr(entry, "trigger", "")  # type: ignore[union-attr]


def test_what_processes_record_is_seen_once_and_in_order(store: sl.FsStore) -> None:
    writers = [SPAWN.Process(target=record, args=(store.root, name, 40)) for name in ("one", "two")]
    for writer in writers:
        writer.start()

    seen: list[Line] = []
    for found in follow_lines(store, whole_root(store), stop=lambda: all(not writer.is_alive() for writer in writers)):
        assert isinstance(found, Line)
        seen.append(found)

    for key in {(line.session_id, line.segment_id) for line in seen}:
        numbers = [line.number for line in seen if line.segment_id == key[1]]
        assert numbers == list(range(numbers[0], store.length(*key) + 1))
        assert [line.line for line in seen if line.segment_id == key[1]] == list(store.read(*key, numbers[0] - 1))
    for name in ("one", "two"):
        texts = [said(line) for line in seen]
        assert [text for text in texts if text.startswith(name) and text.count(" ") == 1] == [
            f"{name} {at}" for at in range(40)
        ]
        assert [text for text in texts if text.startswith(f"own {name}")] == [f"own {name} {at}" for at in range(40)]


def steps(store: sl.FsStore, targets: object, actions: list[object]) -> Iterator[Line | Notice]:
    """Follow, and do the next thing whenever nothing is new."""

    def stop() -> bool:
        if not actions:
            return True
        actions.pop(0)()  # type: ignore[operator]
        return False

    return follow_lines(store, targets, stop=stop)  # type: ignore[arg-type]


def test_forks_and_forks_of_forks_are_followed(store: sl.FsStore) -> None:
    """An automatic fork is one; what was there before is not."""
    writer = sl.SegmentWriter.resume(store, OTHER, OPEN)

    def conflict() -> None:
        sl.save_extension(store, OTHER, OPEN, "somebody else", 1)
        writer.save_user_input("goes on in a fork")

    def again() -> None:
        sl.save_user_input(store, OTHER, sl.fork_at_entry(store, OTHER, writer.segment_id, 2), "a fork of it")

    seen = [
        found for found in steps(store, with_forks(store, OTHER, OPEN), [conflict, again]) if isinstance(found, Line)
    ]

    assert writer.segment_id != OPEN
    assert {"goes on in a fork", "a fork of it"} <= {said(line) for line in seen}
    assert [line.number for line in seen if line.segment_id == writer.segment_id] == [1, 2]


def test_a_deleted_segment_is_told_of_and_read_again_when_it_is_back(store: sl.FsStore) -> None:
    path = store.segment_path(OTHER, OPEN)
    data = path.read_bytes()
    actions = [path.unlink, lambda: path.write_bytes(data), lambda: sl.save_user_input(store, OTHER, OPEN, "more")]

    seen = list(steps(store, lambda: [(OTHER, OPEN)], [*actions]))

    assert isinstance(seen[0], Notice)
    assert "deleted" in seen[0].what
    assert [found.number for found in seen if isinstance(found, Line)] == [1, 2, 3, 4, 5, 6]


def test_lines_taken_back_are_told_of(store: sl.FsStore) -> None:
    path = store.segment_path(OTHER, OPEN)
    size = path.stat().st_size

    def cut() -> None:
        os.truncate(path, size)

    seen = list(steps(store, lambda: [(OTHER, OPEN)], [lambda: sl.save_invoke(store, OTHER, OPEN, "wakeup"), cut]))

    assert [type(found) for found in seen] == [Line, Notice]


def test_a_torn_line_is_not_seen_before_it_is_whole(store: sl.FsStore) -> None:
    path = store.segment_path(OTHER, OPEN)
    line = sl.encode_line(sl.Invoke(ts=1, trigger="whole")) + b"\n"

    def part(data: bytes) -> None:
        with open(path, "ab") as file:
            file.write(data)

    seen = list(steps(store, lambda: [(OTHER, OPEN)], [lambda: part(line[:20]), lambda: part(line[20:])]))

    assert [found.line for found in seen if isinstance(found, Line)] == [line[:-1]]


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tail_prints_the_last_entries(tmp_path: Path) -> None:
    root = sample(tmp_path)

    assert [line.split()[1:3] for line in run("tail", "b1bbb", "-n", "2", root=root).out.splitlines()] == [
        ["15", "llm_usage"],
        ["16", "run_completed"],
    ]
    assert run("tail", "b1bbb", root=root).out.count("\n") == 10
    assert run("tail", "b2bbb", "--resolve", "-n", "99", root=root).out.count("\n") == 17
    (found,) = map(json.loads, run("tail", "b1bbb", "--json", "--role", "user", "-n", "1", root=root).out.splitlines())
    assert (found["v"], found["segment_id"], found["line"], found["entry"]["kind"]) == (1, ROOT, 12, "user_input")
    assert run("tail", root=root).code == 2
    assert run("tail", "b1bbb", "--follow-forks", root=root).code == 2


def test_tail_f_shows_what_comes_until_it_is_interrupted(tmp_path: Path) -> None:
    root = sample(tmp_path)
    store = sl.FsStore(root)
    environment = {**os.environ, "SESSION_LOG_ROOT": str(root), "TZ": "UTC"}
    with subprocess.Popen(
        interruptible("tail", "-f", "--follow-forks", "-n", "1", "c1ccc"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        sl.save_user_input(store, OTHER, OPEN, "größer\x1b[2J")
        second = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()

    assert first == "08:53:48 0000000c1ccc:5 call shell command: ls -l\n"
    assert second.split(" ", 1)[1] == "0000000c1ccc:6 user größer\\x1b[2J\n"
    assert (process.returncode, rest, errors) == (130, "", "")
    assert FORK not in first
