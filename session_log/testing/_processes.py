"""The laws of many processes. Workers are spawned: what they run and get can be pickled."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from session_log import SegmentExists, Store, new_segment_id, new_session_id
from session_log.testing._law import Ids, Trial, expect, law_of_processes, line, returned, start, together
from session_log.testing._racing import append_expected, append_numbered, expect_acknowledged

_WORKERS = 3
_ROUNDS = 20


@law_of_processes
def racing_processes_lose_nothing(trial: Trial) -> None:
    """Of several processes that append at once, every acknowledged line is there once, each batch in one piece."""
    expect("shared_between_processes", trial.store.capabilities().shared_between_processes, True)
    ids = trial.segment()
    outcomes = _in_processes(trial, append_in_process, [(ids, who) for who in range(_WORKERS)])
    expect_acknowledged(trial.lines(ids), outcomes, 1)


@law_of_processes
def one_of_racing_processes_creates(trial: Trial) -> None:
    """Of several processes that create one id at the same moment exactly one wins; the others change nothing."""
    rounds = [(new_session_id(), new_segment_id()) for _ in range(_ROUNDS)]
    outcomes = _in_processes(trial, create_in_process, [(rounds, who) for who in range(_WORKERS)])
    for at, ids in enumerate(rounds):
        winners = [who for who in range(_WORKERS) if outcomes[who][at]]
        expect("how many creators won", len(winners), 1)
        expect("the segment", trial.lines(ids), [start(ids), line(winners[0]), line("more", winners[0])])


@law_of_processes
def a_follower_sees_other_processes(trial: Trial) -> None:
    """A follower returns what other processes append, each line once and in order, while it happens."""
    ids = trial.segment()
    follow = functools.partial(_follow_all, trial.store, ids)
    work = functools.partial(_in_processes, trial, append_in_process, [(ids, who) for who in range(_WORKERS)])
    followed, acknowledged = together(follow, functools.partial(_and_say_so, work, trial, ids))
    returned(acknowledged)
    expect("the lines that were followed", returned(followed), trial.lines(ids))


def _follow_all(store: Store, ids: Ids) -> list[Any]:
    found: list[Any] = []
    for one in store.follow(*ids):
        found.append(one)
        if one == line("end"):
            break
    return found


def _and_say_so(work: Callable[[], list[Any]], trial: Trial, ids: Ids) -> list[Any]:
    try:
        return work()
    finally:
        trial.store.append(*ids, [line("end")])


# ── in the worker ──────────────────────────────────────────────────────────────────────────────────────────────────


def append_in_process(store: Store, ids: Ids, who: int) -> list[Any]:
    """Append with and without expectation."""
    return [*append_numbered(store, ids, who), *append_expected(store, ids, _WORKERS + who)]


def create_in_process(store: Store, rounds: list[Ids], who: int) -> list[bool]:
    """Create segments that others create as well; tell which were won."""
    won = []
    for ids in rounds:
        try:
            won.append(store.create_segment(*ids, [start(ids), line(who), line("more", who)]) == 3)
        except SegmentExists:
            won.append(False)
    return won


def _serve(
    open_store: Callable[[], Store], work: Callable[..., Any], arguments: tuple[Any, ...], connection: Connection
) -> None:
    store = open_store()
    connection.send("ready")
    connection.recv()
    try:
        connection.send(work(store, *arguments))
    except Exception as exc:  # noqa: BLE001  (the parent tells it)
        connection.send(RuntimeError(f"a worker process raised {type(exc).__name__}: {exc}"))
    store.close()


def _in_processes(trial: Trial, work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Run ``work(store, *arguments)`` in processes that start it at the same moment; return what each returned."""
    spawn = multiprocessing.get_context("spawn")
    workers = []
    for each in arguments:
        ours, theirs = spawn.Pipe()
        worker = spawn.Process(target=_serve, args=(trial.elsewhere(), work, each, theirs), daemon=True)
        worker.start()
        theirs.close()
        workers.append((worker, ours))
    try:
        for _, connection in workers:
            connection.recv()
        for _, connection in workers:
            connection.send("go")
        return [returned(connection.recv()) for _, connection in workers]
    finally:
        for worker, connection in workers:
            connection.close()
            worker.join()
