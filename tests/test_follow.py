"""Following: what other processes commit, each line once, in order, whole units only, from anywhere, until the stop.

What the followers of every store have in common is in test_store_contract.py; here are files and processes.
"""

import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from session_log import (
    CorruptSegment,
    Extension,
    FsStore,
    HeadMoved,
    MemoryStore,
    NotFound,
    SegmentWriter,
    Store,
    encode_line,
    follow_entries,
    new_segment_id,
    read_entries,
)
from session_log._committed import BLOCK_BYTES
from test_file_store import (
    Ids,
    batch,
    beside,
    descriptors,
    expect_success,
    file_of,
    halves,
    in_fork,
    line,
    path_of,
    said,
    say,
    segment,
    start,
    tell,
)

LAST = line("the last line")
UNITS = 120


@pytest.fixture(autouse=True)
def nobody_waits_for_ever() -> Iterator[None]:
    """Interrupt a test that hangs, instead of waiting with it."""

    def interrupt(*_: object) -> None:
        raise TimeoutError("the test hangs")

    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(60)
    yield
    signal.alarm(0)


def there(store: Store, ids: Ids, first: int = 0) -> list[bytes]:
    """Follow what is there."""
    return list(store.follow(*ids, first, stop=lambda: True))


def in_steps(steps: Iterable[Callable[[], object]]) -> Callable[[], bool]:
    """A ``stop`` that does the next step each time nothing new is there, and says stop when there is no other."""
    rest = iter(steps)

    def stop() -> bool:
        step = next(rest, None)
        if step is not None:
            step()
        return step is None

    return stop


def write(path: Path, data: bytes) -> None:
    """Do what a writer does that is killed half-way."""
    with path.open("ab", buffering=0) as file:
        file.write(data)


# ── across processes ───────────────────────────────────────────────────────────────────────────────────────────────


def append_units(root: str, session_id: str, segment_id: str) -> None:
    """Append lines and batches, some longer than what a reader takes at once."""
    store = FsStore(root, durability="process")
    for number in range(UNITS):
        size = BLOCK_BYTES // 2 if number % 17 == 5 else 10
        lines = [line(number, part, "é" * size) for part in range(1 + number % 4)]
        store.append(session_id, segment_id, lines)
    store.append(session_id, segment_id, [LAST])
    say("done")
    sys.stdin.readline()


@pytest.mark.parametrize("first", [0, 1, 7, UNITS])
def test_a_follower_gets_what_another_process_commits(tmp_path: Path, first: int) -> None:
    """Exactly the committed lines, in order, from any position, while they are written."""
    store = FsStore(tmp_path)
    ids = segment(store)
    follower = store.follow(*ids, first)

    with beside(append_units, tmp_path, *ids) as writer:
        found = []
        for one in follower:
            found.append(one)
            if one == LAST:
                break
        assert said(writer) == "done"

    every = list(store.read(*ids))
    assert found == every[first:]
    assert len(every) == 2 + sum(1 + number % 4 for number in range(UNITS))


def test_a_follower_has_all_of_a_batch_when_it_has_its_first_line(tmp_path: Path) -> None:
    """At the moment the first line of another process's batch is returned, the whole batch is committed."""
    store = FsStore(tmp_path)
    ids = segment(store)

    with beside(append_units, tmp_path, *ids):
        for at, one in enumerate(store.follow(*ids)):
            for count in (2, 3, 4):
                if one.endswith(b',"batch":%d}' % count):
                    assert len(list(store.read(*ids, at, at + count))) == count
            if one == LAST:
                break


def echo(root: str, session_id: str, segment_id: str, first: str) -> None:
    """Follow, and say each line."""
    for one in FsStore(root).follow(session_id, segment_id, int(first)):
        say(one.decode())
        if one == LAST:
            return


def test_a_following_process_sees_each_append_before_the_next(tmp_path: Path) -> None:
    """In lockstep: what is appended here is seen there, before anything else is appended."""
    store = FsStore(tmp_path)
    ids = segment(store, line("before"))

    with beside(echo, tmp_path, *ids, 1) as follower:
        assert said(follower) == line("before").decode()
        for number in range(20):
            store.append(*ids, [line(number)])
            assert said(follower) == line(number).decode()
            store.append(*ids, [line(number, "a"), line(number, "b")])
            assert [said(follower), said(follower)] == [
                one.decode() for one in batch(line(number, "a"), line(number, "b"))
            ]
        store.append(*ids, [LAST])
        assert said(follower) == LAST.decode()
        assert follower.wait() == 0


def append_for_ever(root: str, session_id: str, segment_id: str) -> None:
    store = FsStore(root, durability="process")
    number = 0
    while True:
        store.append(session_id, segment_id, [line(number, part, "x" * 100_000) for part in range(5)])
        number += 1
        say(number)


def test_a_follower_survives_writers_that_are_killed(tmp_path: Path) -> None:
    """F1, F3: SIGKILL in the middle of batches, again and again; the follower gets what is committed, once."""
    store = FsStore(tmp_path, durability="process")
    ids = segment(store)
    follower = store.follow(*ids)
    found = [next(follower)]
    for _ in range(4):
        with beside(append_for_ever, tmp_path, *ids) as writer:
            said(writer)
            found += [next(follower) for _ in range(10)]
            said(writer)
    store.append(*ids, [LAST])
    for one in follower:
        found.append(one)
        if one == LAST:
            break

    assert found == list(store.read(*ids))
    assert (len(found) - 2) % 5 == 0


def test_a_follower_goes_on_after_a_fork(tmp_path: Path) -> None:
    """F35: an iterator begun before ``os.fork`` returns the same lines in both; neither moves the other's place."""
    store = FsStore(tmp_path)
    ids = segment(store, *map(line, range(20)))
    follower = store.follow(*ids)
    found = [next(follower) for _ in range(5)]
    store.append(*ids, [LAST])
    every = list(store.read(*ids))

    def go_on() -> None:
        assert [*found, *(next(follower) for _ in range(17))] == every

    child = in_fork(go_on)
    go_on()
    expect_success(child)


# ── stopping ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stop_is_asked_only_when_nothing_new_is_there(tmp_path: Path) -> None:
    """A follower that lags behind is not stopped before it has everything; False means another look."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1))
    found: list[bytes] = []
    lengths: list[int] = []
    steps = [lambda: store.append(*ids, [line(2)]), lambda: None, lambda: store.append(*ids, [line(3), line(4)])]
    do = in_steps(steps)

    def stop() -> bool:
        lengths.append(len(found))
        return do()

    for one in store.follow(*ids, stop=stop):
        found.append(one)  # noqa: PERF402  (stop looks at it meanwhile)

    assert found == list(store.read(*ids))
    assert lengths == [2, 3, 3, 5]


def test_a_follower_naps_shorter_than_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing comes the naps grow, up to the promised latency at most; something new makes them short again."""
    store = FsStore(tmp_path)
    ids = segment(store)
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    steps: list[Callable[[], object]] = [lambda: None] * 30
    steps += [lambda: store.append(*ids, [line(1)]), *steps]

    assert list(store.follow(*ids, stop=in_steps(steps))) == [start(ids), line(1)]

    before, after = naps[:30], naps[31:]
    for some in (before, after):
        assert some == sorted(some)
        assert some[0] < 0.002 < some[-1]
        assert some[-1] * 1_000 < store.capabilities().tail_latency_ms
    assert len(naps) == 61


# ── what is not committed ──────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_returned_before_its_last_byte(tmp_path: Path) -> None:
    """F3: a line, or batch, that appears byte by byte is returned when its last newline is there, and not before."""
    store = FsStore(tmp_path)
    ids = segment(store)
    path = path_of(store, ids)
    for lines in ([line("alone")], batch(line(1), line(2), line("three"))):
        before = path.read_bytes()
        data = file_of(*lines)
        first = store.length(*ids)
        for cut in range(len(data)):
            path.write_bytes(before + data[:cut])
            assert there(store, ids, first) == []
            assert there(store, ids) == before[:-1].split(b"\n")
        path.write_bytes(before + data)
        assert there(store, ids, first) == lines


def test_a_live_follower_of_single_bytes_gets_whole_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: the same for one follower that watches each byte arrive."""
    monkeypatch.setattr(time, "sleep", lambda nap: None)
    store = FsStore(tmp_path)
    ids = segment(store)
    path = path_of(store, ids)
    units = [[line("alone")], batch(line(1), line(2), line(3)), [line("é\u2028")], batch(line("a"), line("b"))]
    found: list[bytes] = []
    seen: list[int] = []

    def steps() -> Iterator[Callable[[], object]]:
        for unit in units:
            for byte in file_of(*unit):
                seen.append(len(found))
                yield functools.partial(write, path, bytes([byte]))

    for one in store.follow(*ids, stop=in_steps(steps())):
        found.append(one)  # noqa: PERF402  (the steps look at it meanwhile)

    assert found == [start(ids), *(one for unit in units for one in unit)]
    assert set(seen) == {1, 2, 5, 6}


@pytest.mark.parametrize("kind", halves())
def test_a_torn_tail_is_never_returned(tmp_path: Path, kind: str) -> None:
    """F2, F3: a follower waits before a torn tail, and goes on with what the next writer puts in its place."""
    store = FsStore(tmp_path)
    ids = segment(store, line("a"))
    path = path_of(store, ids)
    found: list[bytes] = []
    seen: list[list[bytes]] = []
    steps: list[Callable[[], object]] = [
        lambda: write(path, halves()[kind]),
        lambda: seen.append(list(found)),
        lambda: FsStore(tmp_path).append(*ids, [line("b"), line("c")]),
        lambda: seen.append(list(found)),
        lambda: write(path, halves()[kind]),
        lambda: FsStore(tmp_path).append(*ids, [line("d")]),
    ]

    for one in store.follow(*ids, stop=in_steps(steps)):
        found.append(one)  # noqa: PERF402  (the steps look at it meanwhile)

    assert seen == [[start(ids), line("a")], [start(ids), line("a"), *batch(line("b"), line("c"))]]
    assert found == [start(ids), line("a"), *batch(line("b"), line("c")), line("d")]
    assert there(store, ids, 1) == found[1:]


@pytest.mark.parametrize("shift", range(-3, 4))
@pytest.mark.parametrize("count", [1, 3])
def test_units_that_end_where_a_block_ends(tmp_path: Path, shift: int, count: int) -> None:
    """A line or batch that ends just before, at, or behind the end of what is read at once is returned once, whole."""
    store = FsStore(tmp_path)
    ids = segment(store)
    around = sum(len(one) + 1 for one in batch(*[line("")] * count)) if count > 1 else len(line("")) + 1
    long = line("x" * (BLOCK_BYTES - around + shift))
    lines = [long] if count == 1 else [line("")] * (count - 1) + [long]
    written = lines if count == 1 else batch(*lines)
    assert len(file_of(*written)) == BLOCK_BYTES + shift
    steps: list[Callable[[], object]] = [
        lambda: store.append(*ids, lines),
        lambda: store.append(*ids, [line("next")]),
        lambda: store.append(*ids, lines),
    ]

    found = list(store.follow(*ids, 1, stop=in_steps(steps)))

    assert found == [*written, line("next"), *written]
    assert there(store, ids, 1) == found
    assert there(store, ids, 1 + count) == found[count:]


def test_a_unit_of_many_blocks(tmp_path: Path) -> None:
    """A batch of 5 MiB is returned whole, from its beginning, from its middle, and to one who waits beyond it."""
    store = FsStore(tmp_path)
    ids = segment(store)
    lines = [line(number, "x" * (1 << 20)) for number in range(5)]
    steps: list[Callable[[], object]] = [lambda: store.append(*ids, lines), lambda: store.append(*ids, [line("next")])]

    assert list(store.follow(*ids, 1, stop=in_steps(steps))) == [*batch(*lines), line("next")]
    assert there(store, ids, 3) == [*batch(*lines)[2:], line("next")]
    steps = [lambda: store.append(*ids, lines), lambda: store.append(*ids, [line("next")])]
    assert list(store.follow(*ids, 10, stop=in_steps(steps))) == [*batch(*lines)[3:], line("next")]


# ── the end of a segment ───────────────────────────────────────────────────────────────────────────────────────────


def delete(root: str, session_id: str) -> None:
    sys.stdin.readline()
    FsStore(root).delete_session(session_id)
    say("deleted")


def test_a_deletion_ends_a_follower_after_everything_was_returned(tmp_path: Path) -> None:
    """A follower that lags behind a deletion by another process still returns every line; then it is NotFound."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1))
    follower = store.follow(*ids)
    found = [next(follower)]
    store.append(*ids, [line(2), line(3)])
    store.append(*ids, [line(4)])
    with beside(delete, tmp_path, ids[0]) as process:
        tell(process)
        assert said(process) == "deleted"

    found += [next(follower) for _ in range(4)]

    assert found == [start(ids), line(1), *batch(line(2), line(3)), line(4)]
    with pytest.raises(NotFound, match=ids[1]):
        next(follower)
    assert list(follower) == []
    store.close()
    assert descriptors(tmp_path) == []


@pytest.mark.parametrize("how", ["deleted", "unlinked", "removed", "replaced", "created anew"])
def test_what_was_appended_just_before_the_end_is_returned(tmp_path: Path, how: str) -> None:
    """Lines that came between the last look and the end are returned before NotFound; nothing of another file is."""
    store = FsStore(tmp_path / "root")
    ids = segment(store, line(1))
    path = path_of(store, ids)

    def end() -> None:
        store.append(*ids, [line(2), line(3)])
        match how:
            case "deleted":
                store.delete_session(ids[0])
            case "unlinked":
                path.unlink()
            case "removed":
                shutil.rmtree(store.root)
            case "replaced":
                other = tmp_path / "other"
                other.write_bytes(path.read_bytes() + file_of(line("of another file")))
                other.rename(path)
            case _:
                shutil.rmtree(path.parent)
                store.create_segment(*ids, [start(ids), *map(line, "abcdefgh")])

    follower = store.follow(*ids, stop=in_steps([end, lambda: None, lambda: None]))
    found = [next(follower) for _ in range(4)]

    assert found == [start(ids), line(1), *batch(line(2), line(3))]
    with pytest.raises(NotFound):
        next(follower)


def test_a_follower_in_memory_does_not_take_a_new_segment_for_the_old(tmp_path: Path) -> None:
    """A segment deleted and created again is another one: its follower gets what it had, then NotFound."""
    store = MemoryStore()
    with SegmentWriter.create(store) as writer:
        ids = writer.session_id, writer.segment_id
    first = list(store.read(*ids))

    def end() -> None:
        store.append(*ids, [line(2)])
        store.delete_session(ids[0])
        store._deleted.clear()  # a store that is asked for it refuses the id
        store.create_segment(*ids, [start(ids), *map(line, "abcdefgh")])

    follower = store.follow(*ids, stop=in_steps([end, lambda: None, lambda: None]))

    assert [next(follower), next(follower)] == [*first, line(2)]
    with pytest.raises(NotFound):
        next(follower)


def test_lines_taken_back_are_no_silent_gap(tmp_path: Path) -> None:
    """After a failed sync, or somebody's truncation, the file is shorter than what was returned: HeadMoved says so."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1), line(2))
    size = len(file_of(start(ids), line(1)))
    follower = store.follow(*ids, stop=in_steps([lambda: os.truncate(path_of(store, ids), size), lambda: None]))

    assert [next(follower) for _ in range(3)] == [start(ids), line(1), line(2)]
    with pytest.raises(HeadMoved) as caught:
        next(follower)
    assert caught.value.actual == 2
    assert str(path_of(store, ids)) in str(caught.value)


def test_lines_taken_back_and_others_written_are_no_silent_change(tmp_path: Path) -> None:
    """The same if the next writer was quicker than the follower: no half of its line is returned."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1), line(2))
    size = len(file_of(start(ids), line(1)))

    def take_back() -> None:
        os.truncate(path_of(store, ids), size)
        write(path_of(store, ids), file_of(line("a longer line than the one that was taken back")))

    follower = store.follow(*ids, stop=in_steps([take_back, lambda: None]))

    assert [next(follower) for _ in range(3)] == [start(ids), line(1), line(2)]
    with pytest.raises(HeadMoved):
        next(follower)


def test_a_segment_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    """Following what is missing is NotFound at once, before the first step, and makes nothing."""
    store = FsStore(tmp_path / "root")
    ids = segment(store)

    for each in ((ids[0], new_segment_id()), (new_segment_id(), ids[1])):
        with pytest.raises(NotFound):
            store.follow(*each)
    with pytest.raises(NotFound):
        FsStore(tmp_path / "nowhere").follow(*ids)
    assert not (tmp_path / "nowhere").exists()


# ── entries ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_entries_are_followed_as_they_were_recorded(tmp_path: Path) -> None:
    """``follow_entries`` returns what ``read_entries`` returns, blank lines passed over, whatever the framing."""
    store = FsStore(tmp_path)
    with SegmentWriter.create(store) as writer:
        ids = writer.session_id, writer.segment_id

        def record() -> None:
            with writer.batch():
                writer.save_user_input("hello")
                writer.save_turn_end()

        steps: list[Callable[[], object]] = [record, writer.save_run_completed]
        steps.append(lambda: write(path_of(store, ids), b"\n  \n"))
        found = list(follow_entries(store, *ids, stop=in_steps(steps)))

    assert found == read_entries(store, *ids)
    assert [type(entry).__name__ for entry in found] == ["SegmentStart", "UserInput", "TurnEnd", "RunCompleted"]
    assert list(follow_entries(store, *ids, 2, stop=lambda: True)) == found[2:]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_damage_ends_a_follower_with_its_place(tmp_path: Path, first: int) -> None:
    """F4: a committed line that is no entry is an error with path, line and byte; what came before it was returned."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1), b"<<<<<<< HEAD", line(3))
    follower = follow_entries(store, *ids, first, stop=lambda: True)

    found = [encode_line(next(follower)) for _ in range(2 - first)]

    assert found == [start(ids), line(1)][first:]
    with pytest.raises(CorruptSegment) as caught:
        next(follower)
    assert (caught.value.path, caught.value.line) == (str(path_of(store, ids)), 3)
    assert caught.value.byte_offset == len(file_of(start(ids), line(1)))


def test_what_is_followed_is_the_callers_own(tmp_path: Path) -> None:
    """F31: changing a payload that was followed changes nothing for the next follower."""
    store = FsStore(tmp_path)
    ids = segment(store, line(1))

    for _ in range(2):
        entry = next(follow_entries(store, *ids, 1, stop=lambda: True))
        assert isinstance(entry, Extension)
        assert entry.payload == [1]
        entry.payload.append("changed")
