"""What the ledger of the kill storms and of the soak finds: each way in which files can belie what was said."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import session_log as sl
from proof.filed import Files, crc_of, text_of
from proof.ledger import (
    Acknowledged,
    Failed,
    Followed,
    Intended,
    Ledger,
    Made,
    Refused,
    Restored,
    RolledBack,
)
from proof.share import bucket_of, duration_of, said_in, script
from proof.workers import Crew, Watch, user_texts

SIZES = (60, 70, 80)


class World:
    """A segment of five entries, the last three a batch, and a ledger that has heard of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = Ledger()
        self.store = sl.FsStore(root, durability="process")
        self.writer = sl.SegmentWriter.create(self.store)
        self.segment_id = self.writer.segment_id
        self.path = self.store.segment_path(self.writer.session_id, self.segment_id)
        self.number = 0
        self.append((30,))
        self.append((0,))
        self.append(SIZES)

    def append(self, sizes: tuple[int, ...]) -> None:
        self.say(Intended(self.number, sizes))
        entries = [self.entry(self.number + at, size) for at, size in enumerate(sizes)]
        self.number += len(sizes)
        length = self.writer.append_entries(entries)
        self.say(Acknowledged(self.writer.segment_id, length))

    def entry(self, number: int, size: int) -> sl.LogEntry:
        if size:
            return sl.UserInput(ts=sl.now_ms(), segments=(sl.TextInput(text_of(f"w.{number}", size)),))
        return sl.RunCompleted(ts=sl.now_ms(), interrupted=False, result="finished", idem=f"w.{number}")

    def say(self, report: object) -> None:
        self.ledger.hear("w", report)

    def edit(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        lines = change(self.path.read_bytes().splitlines(keepends=True))
        self.path.write_bytes(b"".join(lines))

    def found(self) -> list[str]:
        files = Files(self.root)
        ledger = self.ledger
        return [*ledger.check_appends(files), *ledger.check_made(files), *ledger.check_seen(files)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.store, made.writer:
        yield made


def without(*gone: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [line for at, line in enumerate(lines) if at not in gone]


def alone(line: bytes) -> bytes:
    return line.replace(b',"batch":3}', b"}").replace(b',"batch":0}', b"}")


def test_files_that_bear_out_what_was_said_are_not_blamed(world: World) -> None:
    """Appends, forks, compactions and rollbacks; followers, readers; in flight and there, or in flight and not."""
    parent, text = world.segment_id, text_of("w.c", 40)
    world.say(RolledBack(parent, world.writer.rollback(2), parent, 2))
    world.append(SIZES)
    for copied in (False, True):
        made = world.writer.fork_at_entry(8, copy_history=copied)
        world.say(Made("copy" if copied else "fork", made, parent, 8))
    made = world.writer.compact(sl.SegmentStartState(history=(sl.Message.user(text),)))
    world.say(Made("compact", made, parent, history=(text,)))
    world.append((90,))
    lines = world.path.read_bytes().count(b"\n")
    world.say(Followed(parent, 2, lines, Files(world.root).segments[parent].crc(2, lines), last=True))
    world.say(Restored(parent, 2, crc_of([text_of("w.0", 30)])))
    there = world.number
    world.say(Intended(there, SIZES))
    world.writer.append_entries([world.entry(there + at, size) for at, size in enumerate(SIZES)])
    world.say(Intended(there + 3, SIZES))

    assert world.found() == []
    assert world.ledger.entries(Acknowledged) == 9


def test_the_history_is_what_the_library_restores(world: World) -> None:
    """Read without the library: inherited, inline, compacted and rolled back."""
    world.writer.rollback(3)
    world.append(SIZES)
    world.writer.fork_at_entry(9, copy_history=True)
    with sl.SegmentWriter.resume(world.store, world.writer.session_id, world.writer.fork_at_entry(9)) as child:
        child.save_user_input("further")
        child.fork_at_entry(2)
        child.rollback(1)
    world.writer.compact(sl.SegmentStartState(history=(sl.Message.user("in short"),)))
    world.append((40,))
    files = Files(world.root)

    restored = {found: sl.restore(world.store, child.session_id, found) for found in files.segments}

    assert len(restored) == 5
    assert {found: user_texts(state) for found, state in restored.items()} == {
        found: files.history(found) for found in restored
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(1), "w.0 was acknowledged, and is lost"),
        (without(5), "is lost"),
        (lambda lines: [*lines, lines[1]], "w.0 was acknowledged, and is there 2 times"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "w.0 was acknowledged, should be at"),
        (lambda lines: [*lines[:3], lines[4], lines[3], lines[5]], "w.3 was acknowledged, should be at"),
        (
            lambda lines: [lines[0], lines[1].replace(b"w.0 w", b"w.0 "), *lines[2:]],
            "w.0 was acknowledged, and is torn",
        ),
        (lambda lines: [*lines[:5], lines[5][:-9]], "w.2 was acknowledged, and is lost"),
        (lambda lines: [*lines, lines[1].replace(b"w.0", b"v.0")], "v.0 is at"),
        (lambda lines: [*lines[:2], lines[2][:9] + b"\n", *lines[3:]], "line 3 is no JSON object"),
    ],
    ids=["lost", "last lost", "doubled", "reordered", "reordered in a batch", "torn", "cut", "nobody's", "damaged"],
)
def test_an_acknowledged_entry_that_is_not_where_it_should_be_is_found(
    world: World, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    world.edit(change)

    assert any(said in found for found in world.found()), world.found()


@pytest.mark.parametrize("kept", [(0,), (0, 1), (1, 2), (0, 2)])
def test_half_a_batch_that_was_in_flight_is_found(world: World, kept: tuple[int, ...]) -> None:
    """Even if what there is of it is committed."""
    world.ledger.appends[-1].outcome = None
    world.edit(lambda lines: lines[:3] + [alone(lines[3 + at]) for at in kept])

    assert any("was in flight, and is lost (others" in found for found in world.found())


def test_an_append_that_raised_and_is_there_is_found(world: World) -> None:
    world.ledger.appends[-1].outcome = Refused("HeadMoved")

    assert any("raised HeadMoved, and is at" in found for found in world.found())


def test_acknowledged_bytes_that_were_moved_aside_are_found(world: World) -> None:
    lines = world.path.read_bytes().splitlines(keepends=True)
    world.path.with_suffix(".torn").write_bytes(lines[2] + lines[3][:-20])

    assert [found.split(" ", 1)[0] for found in world.found()] == ["w.1", "w.2"]


def test_a_fork_compaction_or_rollback_that_is_not_what_it_should_be_is_found(world: World) -> None:
    parent = world.segment_id
    child = world.writer.fork_at_entry(2)
    done = world.writer.rollback(2)

    for said, found in [
        (Made("fork", sl.new_segment_id(), parent, 2), "is not there"),
        (Made("fork", child, parent, 3), "says that it is from"),
        (Made("copy", child, parent, 2), "says that it is from"),
        (Made("new", parent, history=("?",)), "begins with another history"),
        (RolledBack(parent, done - 1, parent, 2), "is not there"),
        (RolledBack(parent, done, parent, 3), "is not there"),
        (RolledBack(parent, done + 1, parent, 2), "is not there"),
        (RolledBack(child, 1, parent, 3), "is not there"),
    ]:
        ledger = Ledger()
        ledger.hear("w", said)
        assert [text for text in ledger.check_made(Files(world.root)) if found in text], said


def test_a_follower_or_reader_that_saw_something_else_is_found(world: World) -> None:
    segment = Files(world.root).segments[world.segment_id]
    lines = [sl.encode_line(entry) for entry in sl.read_entries(world.store, world.writer.session_id, world.segment_id)]

    assert segment.boundaries == {0, 1, 2, 3, 6}
    assert b"".join(line + b"\n" for line in lines) != world.path.read_bytes()  # it has marks
    for said, found in [
        (Followed(segment.path.stem, 0, 3, segment.crc(0, 3) ^ 1), "is not what is on file"),
        (Followed(segment.path.stem, 0, 7, segment.crc(0, 6)), "is not what is on file"),
        (Followed(segment.path.stem, 0, 4, segment.crc(0, 4)), "ends within a batch"),
        (Followed(segment.path.stem, 0, 3, segment.crc(0, 3), last=True), "did not see all 6 lines"),
        (Restored(segment.path.stem, 2, crc_of([])), "is not what is on file"),
    ]:
        ledger = Ledger()
        ledger.hear("w", said)
        assert [text for text in ledger.check_seen(Files(world.root)) if found in text], said


def test_a_child_that_dies_by_itself_is_noticed_and_none_outlives_the_crew(tmp_path: Path) -> None:
    task = Watch(root=str(tmp_path), seed="0", most=1)
    with Crew(Failed) as crew:
        first, second = crew.start("first", "workers:watch", task), crew.start("second", "workers:watch", task)
        os.kill(first.process.pid, signal.SIGKILL)
        while first in crew.alive:
            assert list(crew.listen(1)) == []

    assert crew.failures == [f"first ended by itself, with status {-signal.SIGKILL}"]
    assert second.process.returncode == -signal.SIGKILL


def test_a_child_that_is_asked_to_ends_and_what_it_cannot_answer_is_heard(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with Crew(Failed) as crew:
        crew.start("good", "workers:watch", Watch(root=str(tmp_path), seed="0", most=1)).ask_to_end()
        crew.start("bad", "workers:watch", Watch(root=str(file), seed="0", most=1))
        while crew.alive:
            assert list(crew.listen(1)) == []

    (failure,) = crew.failures
    assert failure.startswith("bad: ")
    assert "StoreUnavailable" in failure


def test_a_range_of_durations_is_three_percent_wide_at_most() -> None:
    for duration in (0, 1, 31, 63, 64, 1_000, 20_123, 10**9 + 7):
        begin, end = duration_of(bucket_of(duration)), duration_of(bucket_of(duration) + 1)

        assert begin <= duration
        assert end <= begin * 1.04 or duration < 64


def test_the_script_of_a_turn_is_read_back_from_its_lines(world: World) -> None:
    """The soak compares what it reads so with what it meant to write."""
    _, (_, question), (_, call), (_, result), (_, answer), *_ = script(7, 3)
    begin = world.writer.head.entries
    world.writer.save_invoke("user_send")
    world.writer.save_user_input(question)
    items = (sl.ToolCall("call_3", "read", call), sl.ToolResult("call_3", "read it", result))
    world.writer.save_delta([*items, sl.Message.assistant(answer)])
    world.writer.save_turn_end(3)
    world.writer.save_usage(3, 1, 1, 1, 1)
    world.writer.save_run_completed()

    entries = Files(world.root).segments[world.segment_id].entries[begin:]

    assert [said_in(entry) for entry in entries] == script(7, 3)
