"""The laws of ``follow``: every line once, in order, whole units only, until told to stop."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools
import json
import threading
from collections.abc import Callable, Iterator

from session_log import NotFound, Store
from session_log.testing._law import Ids, Trial, expect, law, line, marked, refused, returned, together, units

_LAST = line("the last line")


@law
def follow_returns_what_is_there(trial: Trial) -> None:
    """From any start, also beyond the end, ``follow`` returns each line there is once, in order, then asks to stop."""
    ids = trial.segment(line(1), line(2))
    trial.store.append(*ids, [line(3), line(4), line(5)])
    trial.other.append(*ids, [line(6)])
    every = trial.lines(ids)
    for store in trial.handles:
        for first in range(len(every) + 3):
            expect(f"followed from {first}", list(store.follow(*ids, first, stop=lambda: True)), every[first:])


@law
def follow_returns_what_comes(trial: Trial) -> None:
    """Followers, on any handle and from any start, return each line that is appended later once and in order."""
    ids = trial.segment(line("before"))
    starts = (0, 1, 2, 7, 30)
    calls = [functools.partial(_until_last, store.follow(*ids, first)) for store in trial.handles for first in starts]
    outcomes = together(*calls, functools.partial(_append_many, trial, ids))
    returned(outcomes[-1])
    every = trial.lines(ids)
    for outcome, first in zip(outcomes, starts * len(trial.handles), strict=False):
        expect(f"followed from {first}", returned(outcome), every[first:])


def _until_last(lines: Iterator[bytes]) -> list[bytes]:
    found = []
    for one in lines:
        found.append(one)
        if one == _LAST:
            break
    return found


def _append_many(trial: Trial, ids: Ids) -> list[bytes]:
    for number in range(40):
        store = trial.handles[number % len(trial.handles)]
        store.append(*ids, [line(number, part) for part in range(1 + number % 4)])
    trial.store.append(*ids, [_LAST])
    return []


@law
def follow_waits_from_beyond_the_end(trial: Trial) -> None:
    """A follower that starts beyond the end returns nothing before that position, and everything from it on."""
    ids = trial.segment(line(1))
    follower = trial.other.follow(*ids, 4, stop=lambda: True)
    expect("followed while there are 2 lines", list(follower), [])
    waiting = trial.other.follow(*ids, 4)
    trial.store.append(*ids, [line(2)])
    trial.store.append(*ids, [line(3), line(4), line(5)])
    expect("the first line followed from 4", next(waiting), marked([line(3), line(4), line(5)])[1])


@law
def follow_parts_no_batch(trial: Trial) -> None:
    """When a follower returns a batch's first line all of it is committed, and it returns the rest before it stops."""
    ids = trial.segment(line(1))
    batch = [line("batch", part) for part in range(5)]
    trial.store.append(*ids, batch)
    for store in trial.handles:
        stop = threading.Event()
        follower = store.follow(*ids, 2, stop=stop.is_set)
        first = next(follower)
        stop.set()
        expect("the rest of a batch after the wish to stop", [first, *follower], marked(batch))
    outcomes = together(
        functools.partial(_whole_batches, trial.other, ids), functools.partial(_append_many, trial, ids)
    )
    for outcome in outcomes:
        returned(outcome)


def _whole_batches(store: Store, ids: Ids) -> list[bytes]:
    followed: list[bytes] = []
    for one in store.follow(*ids):
        followed.append(one)
        if one == _LAST:
            break
        size = json.loads(one).get("batch")
        if size:  # the first line of a batch
            at = len(followed) - 1
            units([*store.read(*ids, at, at + size)])
    return followed


@law
def follow_stops_when_told(trial: Trial) -> None:
    """``stop`` is asked when nothing new is there, not before; False means wait, and its errors reach the caller."""
    ids = trial.segment(line(1), line(2))
    asked: list[int] = []
    found: list[bytes] = []

    def stop() -> bool:
        asked.append(len(found))
        return len(asked) == 3

    for one in trial.store.follow(*ids, stop=stop):
        found += [one]
    expect("after how many lines stop was asked", asked, [3, 3, 3])

    for error in (ZeroDivisionError, ConnectionResetError):

        def _fail(error: type[Exception] = error) -> bool:
            raise error

        refused("a stop that fails", error, functools.partial(_drain, trial.store, ids, _fail))


def _drain(store: Store, ids: Ids, stop: Callable[[], bool]) -> list[bytes]:
    return list(store.follow(*ids, stop=stop))


@law
def follow_returns_what_came_before_the_stop(trial: Trial) -> None:
    """What was committed before ``stop`` said True is returned: who appends and then sets an event loses nothing."""
    ids = trial.segment(line(1))
    for number, store in enumerate(trial.handles):

        def _append_and_stop(number: int = number) -> bool:
            if trial.store.length(*ids) == 2 + number:
                trial.store.append(*ids, [line("just before", number)])
            return True

        found = list(store.follow(*ids, 2 + number, stop=_append_and_stop))
        expect("followed up to the stop", found, [line("just before", number)])


@law
def followers_do_not_share_a_place(trial: Trial) -> None:
    """Two followers, one of them dropped half-way, another one never begun, return all lines each."""
    ids = trial.segment(line(1), line(2))
    every = trial.lines(ids)
    one, two = trial.store.follow(*ids, stop=lambda: True), trial.store.follow(*ids, stop=lambda: True)
    never = trial.store.follow(*ids)
    expect("the first lines", [next(one), next(two), next(two)], [every[0], *every[:2]])
    del one, never
    expect("the rest of the second", list(two), every[2:])
    expect("an append afterwards", trial.store.append(*ids, [line(3)]), 4)


@law
def follow_ends_with_the_segment(trial: Trial) -> None:
    """A follower of a session that is deleted gets NotFound behind what it has seen; it does not wait for ever."""
    for store in trial.handles:
        ids = trial.segment(line(1))
        every = trial.lines(ids)
        follower = store.follow(*ids)
        expect("the lines before the deletion", [next(follower), next(follower)], every)
        trial.store.delete_session(ids[0])
        refused("the next line of a deleted segment", NotFound, functools.partial(next, follower))
