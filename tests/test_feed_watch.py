"""Watching a whole root: each change once, whatever becomes of the feed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import session_log as sl
from feeding import feed_file, run, ticking
from session_log.feed import reindex, watch


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path / "root", durability="process") as found:
        yield found


def test_a_watcher_sees_what_comes_after_it_began(store: sl.FsStore) -> None:
    """Of a feed that is there, and of one that is not there yet."""
    none_yet = watch(store, stop=lambda: True)
    writer = sl.SegmentWriter.create(store)
    later = watch(store, stop=lambda: True)
    run(writer)

    assert [event.kind for event in none_yet] == ["create", "run_end"]
    assert [(event.kind, event.session_id) for event in later] == [("run_end", writer.session_id)]


def test_a_watcher_goes_over_to_a_rebuilt_feed_and_sees_each_event_once(store: sl.FsStore) -> None:
    """What was carried over, was returned before, or comes later: each once, whenever the watcher looks."""
    for looks in range(4):
        events: list[str] = []
        ending = [False]
        watcher = watch(store, stop=lambda: ending[0])  # noqa: B023
        made: list[str] = []

        def make() -> None:
            made.append(sl.create_segment(store)[0])  # noqa: B023

        def look() -> None:
            if len(events) < len(made):  # noqa: B023
                events.extend(next(watcher).session_id for _ in range(len(made) - len(events)))  # noqa: B023

        make()
        if looks & 1:
            look()
        reindex(store, lambda done, total: make() if done == 1 else None)
        if looks & 2:
            look()
        make()
        ending[0] = True
        events += [event.session_id for event in watcher]

        assert events == made


@pytest.mark.parametrize("back_ms", [0, 5_000])
def test_a_watcher_that_missed_a_whole_feed_loses_nothing(store: sl.FsStore, back_ms: int) -> None:
    """Even if the clock of another process is behind."""
    with ticking() as now:
        sl.create_segment(store)
        watcher = watch(store, stop=lambda: True)
        made = [sl.create_segment(store)[0]]
        now[0] -= back_ms
        for _ in range(3):
            made.append(sl.create_segment(store)[0])
            reindex(store)
        made.append(sl.create_segment(store)[0])

    assert list(dict.fromkeys(event.session_id for event in watcher)) == made


def test_a_watcher_goes_over_to_a_feed_that_was_begun_anew(store: sl.FsStore) -> None:
    """What is in a feed without a name is read, too; of one that was emptied, what came after that."""
    sl.create_segment(store)
    watcher = watch(store, stop=lambda: True)
    made = [sl.create_segment(store)[0]]
    feed_file(store).unlink()
    made.append(sl.create_segment(store)[0])
    with feed_file(store).open("wb"):
        pass
    made.append(sl.create_segment(store)[0])

    assert [event.session_id for event in watcher] == made


def test_what_came_between_the_last_read_and_the_replacement_is_returned(
    store: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old feed is read once more after it was seen to be replaced."""
    sl.create_segment(store)
    watcher = watch(store, stop=lambda: True)
    made: list[str] = []
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        if not made and path == str(feed_file(store)):
            made.append("")
            made[0] = sl.create_segment(store)[0]
            reindex(store)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)

    assert [event.session_id for event in watcher] == made
