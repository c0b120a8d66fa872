"""The laws of listings and of deletion."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools
import random
import threading

from session_log import NotFound, SegmentExists, SessionDeleted, Store, new_segment_id, new_session_id
from session_log.testing._law import Ids, Trial, expect, law, line, refused, start, together


@law
def an_empty_store_lists_nothing(trial: Trial) -> None:
    """A store that was just made has no sessions, and looking does not make any."""
    for store in trial.handles:
        expect("the sessions", store.list_sessions(), [])
        expect("the sessions before an id", store.list_sessions(before=new_session_id(), limit=5), [])
        expect("the session of a segment", store.lookup_session_of(new_segment_id()), None)
        expect("exists", store.exists(new_session_id(), new_segment_id()), False)
        expect("the sessions after a look", store.list_sessions(), [])


@law
def sessions_are_listed_newest_first(trial: Trial) -> None:
    """Sessions are listed by id, newest first, whatever order they came in; ``before`` and ``limit`` cut."""
    made = [new_session_id() for _ in range(7)]
    for session_id in random.Random(7).sample(made, len(made)):
        trial.segment(session_id=session_id)
    newest_first = sorted(made, reverse=True)
    for store in trial.handles:
        expect("the sessions", store.list_sessions(), newest_first)
        for limit in (0, 1, 3, 7, 100):
            expect(f"limit={limit}", store.list_sessions(limit=limit), newest_first[:limit])
        for at, session_id in enumerate(newest_first):
            expect(f"before number {at}", store.list_sessions(before=session_id), newest_first[at + 1 :])
            expect("with a limit, too", store.list_sessions(before=session_id, limit=2), newest_first[at + 1 : at + 3])
        expect("before one that is not there", store.list_sessions(before=new_session_id()), newest_first)


@law
def segments_are_listed_newest_first(trial: Trial) -> None:
    """The segments of a session, and of no other, are listed by id, newest first, and are found by their ids."""
    session_ids = new_session_id(), new_session_id()
    made: dict[str, list[str]] = {session_id: [] for session_id in session_ids}
    drawn = [(session_ids[number % 2], new_segment_id()) for number in range(10)]
    for ids in random.Random(7).sample(drawn, len(drawn)):
        trial.store.create_segment(*ids, [start(ids)])
        made[ids[0]].append(ids[1])
    for store in trial.handles:
        for session_id, segment_ids in made.items():
            expect("the segments", store.list_segments(session_id), sorted(segment_ids, reverse=True))
            for segment_id in segment_ids:
                expect("the session of a segment", store.lookup_session_of(segment_id), session_id)


@law
def what_was_deleted_is_gone(trial: Trial) -> None:
    """After ``delete_session`` its ids are listed nowhere and every method says NotFound, to every handle."""
    gone, stays = trial.segment(line(1)), trial.segment(line(1))
    for store in trial.handles:
        store.append(*gone, [line(2)])
        store.append_trace(*gone, [line("trace")])
        store.length(*gone)
    trial.other.delete_session(gone[0])
    for store in trial.handles:
        _expect_gone(store, gone)
        expect("the sessions", store.list_sessions(), [stays[0]])
    expect("the other session", trial.lines(stays), [start(stays), line(1)])


def _expect_gone(store: Store, ids: Ids) -> None:
    refused("append", NotFound, lambda: store.append(*ids, [line(9)]))
    refused("append with a token", NotFound, lambda: store.append(*ids, [line(9)], token="t"))
    refused("append with expected", NotFound, lambda: store.append(*ids, [line(9)], expected=4))
    refused("append_trace", NotFound, lambda: store.append_trace(*ids, [line(9)]))
    refused("read", NotFound, lambda: list(store.read(*ids)))
    refused("read_trace", NotFound, lambda: list(store.read_trace(*ids)))
    refused("length", NotFound, lambda: store.length(*ids))
    refused("follow", NotFound, lambda: list(store.follow(*ids, stop=lambda: True)))
    refused("list_segments", NotFound, lambda: store.list_segments(ids[0]))
    refused("delete_session", NotFound, lambda: store.delete_session(ids[0]))
    expect("exists", store.exists(*ids), False)
    expect("lookup_session_of", store.lookup_session_of(ids[1]), None)


@law
def a_deleted_id_is_not_used_again(trial: Trial) -> None:
    """Nothing is created under the id of a deleted session, by no handle; its segment ids are free in others."""
    for number in range(4):
        ids = new_session_id(), new_segment_id()
        trial.store.create_segment(*ids, [start(ids), line(number)])
        again = functools.partial(trial.store.create_segment, *ids, [start(ids)])
        refused("create on a taken id", SegmentExists, again)
        trial.store.append_trace(*ids, [line("trace", number)])
        trial.handles[number % len(trial.handles)].delete_session(ids[0])
        for store in trial.handles:
            for segment_id in (ids[1], new_segment_id()):
                deleted = ids[0], segment_id
                create = functools.partial(store.create_segment, *deleted, [start(deleted)])
                refused("create in a deleted session", SessionDeleted, create)
            _expect_gone(store, ids)
        other = new_session_id(), ids[1]
        expect("the length", trial.store.create_segment(*other, [start(other)]), 1)
        expect("the trace", list(trial.store.read_trace(*other)), [])


@law
def appenders_learn_of_a_deletion(trial: Trial) -> None:
    """A session deleted under writers ends each of them with NotFound; no append brings it back."""
    for _ in range(3):
        ids = trial.segment()
        deleted = threading.Event()
        calls = [functools.partial(_append_until, store, ids, deleted) for store in (*trial.handles, *trial.handles)]
        outcomes = together(*calls, functools.partial(_delete_when_it_grows, trial.store, ids, deleted))
        expect("what the writers got", [type(one) for one in outcomes[:-1]], [NotFound] * len(calls))
        expect("what the deletion got", outcomes[-1], None)
        for store in trial.handles:
            _expect_gone(store, ids)
        expect("the sessions", trial.store.list_sessions(), [])


def _append_until(store: Store, ids: Ids, deleted: threading.Event) -> None:
    last = False
    while not last:
        last = deleted.is_set()
        store.append(*ids, [line("one")])
        store.append(*ids, [line("a"), line("batch")])


def _delete_when_it_grows(store: Store, ids: Ids, deleted: threading.Event) -> None:
    try:
        while store.length(*ids) < 20:
            pass
        store.delete_session(ids[0])
    finally:
        deleted.set()
