"""One writer, many threads: each line once, units whole, state and file one."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import session_log as sl
from oracle import folded
from points import Points

THREADS = 64


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sl.Store]:
    found: sl.Store = sl.MemoryStore() if request.param == "memory" else sl.FsStore(tmp_path, durability="process")
    yield found
    found.close()


@contextmanager
def eager_switching() -> Iterator[None]:
    """Let threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(count: int, act: Callable[[int], object]) -> None:
    """Run ``act(0)`` to ``act(count - 1)`` in a thread each, started at once; raise what the first of them raised."""
    gate = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        gate.wait()
        try:
            act(number)
        except BaseException as exc:  # noqa: BLE001  raised below
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    with eager_switching():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def texts(store: sl.Store, session_id: str, segment_id: str) -> list[str]:
    history = sl.restore(store, session_id, segment_id).history
    return [item.text for item in history if isinstance(item, sl.Message)]


def test_64_threads_on_one_writer_each_line_once_and_in_order(store: sl.Store) -> None:
    """F6, F35: nothing lost, doubled, torn or out of its thread's order; the state is what restore gives."""
    writer = sl.SegmentWriter.create(store, on_conflict="raise")
    lengths: list[list[int]] = [[] for _ in range(THREADS)]

    def act(number: int) -> None:
        for round_ in range(6):
            lengths[number].append(writer.save_user_input(f"{number}.{round_}"))
            if round_ == 3:
                assert writer.state.entries_count >= lengths[number][-1]

    together(THREADS, act)

    found = texts(store, writer.session_id, writer.segment_id)
    assert sorted(found) == sorted(f"{number}.{round_}" for number in range(THREADS) for round_ in range(6))
    for number in range(THREADS):
        assert [text for text in found if text.startswith(f"{number}.")] == [f"{number}.{n}" for n in range(6)]
        assert [found[length - 2] for length in lengths[number]] == [f"{number}.{n}" for n in range(6)]
    assert folded(writer.state) == folded(sl.restore(store, writer.session_id, writer.segment_id))
    assert writer.head == sl.head(store, writer.session_id, writer.segment_id)


def test_batches_of_many_threads_are_whole_and_their_own(store: sl.Store) -> None:
    """A batch collects what its own thread records, and lands in one piece; those that fail leave nothing."""
    writer = sl.SegmentWriter.create(store, on_conflict="raise")

    def act(number: int) -> None:
        for round_ in range(3):
            try:
                with writer.batch():
                    for part in "abc":
                        writer.save_user_input(f"{number}.{round_}.{part}")
                    if number % 4 == 0:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            writer.save_user_input(f"{number}.{round_}.single")

    together(16, act)

    found = texts(store, writer.session_id, writer.segment_id)
    expected = [
        f"{number}.{round_}.{part}"
        for number in range(16)
        for round_ in range(3)
        for part in ("a", "b", "c", "single")
        if number % 4 or part == "single"
    ]
    assert sorted(found) == sorted(expected)
    for at, text in enumerate(found):
        if text.endswith(".a"):
            assert found[at : at + 3] == [text[:-1] + part for part in "abc"]
    assert folded(writer.state) == folded(sl.restore(store, writer.session_id, writer.segment_id))


def test_turns_are_counted_once_by_many_threads(store: sl.Store) -> None:
    """The number of a turn is taken and written in one step."""
    writer = sl.SegmentWriter.create(store)

    together(16, lambda _: [writer.save_turn_end() for _ in range(5)])

    entries = sl.read_entries(store, writer.session_id, writer.segment_id)
    assert [entry.turn_count for entry in entries if isinstance(entry, sl.TurnEnd)] == list(range(1, 81))


def test_times_never_decrease_though_many_threads_take_them(store: sl.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """F27: the time of an entry is taken when its place is: not before another thread's that gets in first."""
    ticks = itertools.count(1_763_000_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(ticks) * 1_000_000)
    writer = sl.SegmentWriter.create(store)

    def act(number: int) -> None:
        for round_ in range(20):
            if (number + round_) % 5:
                writer.save_invoke()
            else:
                with writer.batch():
                    writer.save_invoke()
                    writer.save_delta([sl.Message.assistant("x"), sl.Message.assistant("y")])

    together(16, act)

    times = [getattr(entry, "ts", 0) for entry in sl.read_entries(store, writer.session_id, writer.segment_id)]
    assert times == sorted(times)


def test_threads_of_one_writer_go_on_together_in_its_forks(store: sl.Store) -> None:
    """F6: while others write into whatever segment it is in, all its threads' lines are in its lineage, each once."""
    writer = sl.SegmentWriter.create(store)
    session_id = writer.session_id
    stop = threading.Event()

    def intrude() -> None:
        for round_ in range(40):
            sl.save_extension(store, session_id, writer.segment_id, "other", round_)
        stop.set()

    def act(number: int) -> None:
        if number == 0:
            return intrude()
        round_ = 0
        while not stop.is_set() or round_ < 5:
            writer.save_user_input(f"{number}.{round_}")
            round_ += 1
        done[number] = round_
        return None

    done = [0] * 5
    together(5, act)

    found = texts(store, session_id, writer.segment_id)
    assert sorted(found) == sorted(f"{number}.{n}" for number in range(1, 5) for n in range(done[number]))
    for number in range(1, 5):
        assert [text for text in found if text.startswith(f"{number}.")] == [
            f"{number}.{n}" for n in range(done[number])
        ]
    others = [
        entry.payload
        for segment_id in store.list_segments(session_id)
        for entry in sl.read_entries(store, session_id, segment_id)
        if isinstance(entry, sl.Extension)
    ]
    assert sorted(others) == list(range(40))


def test_forks_of_a_segment_that_another_thread_goes_on_writing(store: sl.Store) -> None:
    """A fork is of what was there at its cut, however the source grows or rolls back meanwhile."""
    writer = sl.SegmentWriter.create(store, on_conflict="raise")
    ids = writer.session_id, writer.segment_id
    writing = threading.Event()
    pairs: list[tuple[sl.RestoredState, str]] = []  # what was there, and the fork of it

    def write() -> None:
        for number in range(40):
            writer.save_invoke()
            writer.save_config_changed(sl.RequestConfig(max_tokens=number))
            writer.save_turn_end()
            writer.save_run_completed()
            if number % 10 == 9:
                writer.rollback(writer.head.entries - 4)
        writing.set()

    def fork() -> None:
        while not writing.is_set() or len(pairs) < 10:
            known = sl.restore(store, *ids)
            pairs.append((known, sl.fork_at_entry(store, *ids, known.entries_count)))
            child = sl.fork_at(store, *ids, max(0, known.turn_count - 4))  # further back than any rollback
            assert sl.restore(store, ids[0], child).turn_count == max(0, known.turn_count - 4)

    together(3, lambda number: write() if number == 0 else fork())

    for expected, child in pairs:
        assert folded(sl.restore(store, ids[0], child)) == folded(expected)


def test_many_writers_of_one_process_lose_nothing(store: sl.Store) -> None:
    """F6, F35: threads with a writer each, on one segment: each has all of its own lines, once, in order."""
    session_id, segment_id = sl.create_segment(store)
    writers = [sl.SegmentWriter.resume(store, session_id, segment_id) for _ in range(8)]

    together(8, lambda number: [writers[number].save_user_input(f"{number}.{n}") for n in range(20)])

    for number, writer in enumerate(writers):
        assert texts(store, session_id, writer.segment_id) == [f"{number}.{n}" for n in range(20)]
        assert folded(writer.state) == folded(sl.restore(store, session_id, writer.segment_id))
    assert len({writer.segment_id for writer in writers}) == 8


def test_an_exclusive_segment_is_one_writers_though_many_threads_want_it(store: sl.Store) -> None:
    """F35: the lock excludes the threads of one process, too: exactly one gets it."""
    session_id, segment_id = sl.create_segment(store)
    got: list[sl.SegmentWriter] = []
    busy: list[int] = []

    def act(number: int) -> None:
        try:
            got.append(sl.SegmentWriter.resume(store, session_id, segment_id, on_conflict="raise", exclusive=True))
        except sl.SegmentBusy:
            busy.append(number)

    together(16, act)

    assert (len(got), len(busy)) == (1, 15)
    assert got[0].save_invoke() == 2


BLOCKED_S = 0.002
"""How long a paused thread gives the other one. If that waits for a lock, this passes in vain, and nothing is wrong."""


def discarded_batch(writer: sl.SegmentWriter) -> None:
    try:
        with writer.batch():
            writer.save_user_input("discarded")
            writer.save_turn_end()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def kept_batch(writer: sl.SegmentWriter) -> None:
    with writer.batch():
        writer.save_user_input("batch a")
        writer.save_user_input("batch b")


def one_entry(writer: sl.SegmentWriter) -> None:
    writer.save_user_input("single")


Act = Callable[[sl.SegmentWriter], None]
EXPECTED: dict[Act, list[str]] = {discarded_batch: [], kept_batch: ["batch a", "batch b"], one_entry: ["single"]}


@pytest.mark.parametrize("other", [discarded_batch, kept_batch], ids=lambda act: act.__name__)
@pytest.mark.parametrize("paused", EXPECTED, ids=lambda act: act.__name__)
def test_a_thread_paused_at_any_point_disturbs_no_other(store: sl.Store, paused: Act, other: Act) -> None:
    """Wherever threads switch inside the writer, batches stay batches, and what is discarded stays away."""
    rehearsal = Points(0, lambda: None)
    rehearsal.run(lambda: paused(sl.SegmentWriter.create(store)))
    for at in range(1, rehearsal.count + 1):
        writer = sl.SegmentWriter.create(store, on_conflict="raise")
        now, done = threading.Event(), threading.Event()

        def run_other() -> None:
            now.wait()  # noqa: B023
            other(writer)  # noqa: B023
            done.set()  # noqa: B023

        def pause() -> None:
            now.set()  # noqa: B023
            done.wait(BLOCKED_S)  # noqa: B023

        thread = threading.Thread(target=run_other)
        thread.start()
        points = Points(at, pause)
        points.run(lambda: paused(writer))  # noqa: B023
        now.set()
        thread.join()

        found = texts(store, writer.session_id, writer.segment_id)
        assert sorted(found) == sorted(EXPECTED[paused] + EXPECTED[other]), points.place
        if "batch a" in found:
            assert found[found.index("batch a") + 1] == "batch b", points.place
        assert folded(writer.state) == folded(sl.restore(store, writer.session_id, writer.segment_id)), points.place
