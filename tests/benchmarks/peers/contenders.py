"""Let processes append to a system at once, and print what they were told and what is there, as JSON.

    contenders.py SYSTEM FOLDER own|same PROCESSES TURNS

Every item carries marks. An item whose append raised is tried again after a refresh, as a worker would do that was
told that it is behind or that the database is locked; the error counts. At the end, an acknowledged mark that no
conversation has is lost, one that they have twice is doubled.
"""

import json
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.peers.interface import Clock, Driver, Item, Session, Sessions
from benchmarks.peers.material import marked
from benchmarks.peers.systems import driver, missing

MARK = re.compile(r"⟦[\d.]+⟧")
FIRST = "⟦0."
"""What every conversation starts with."""
MOST_TRIES = 20
Names = dict[int, str]


@dataclass
class Told:
    """What a process was told."""

    started_s: float = 0.0
    ended_s: float = 0.0
    items: int = 0
    given_up: int = 0
    marks: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def main(key: str, folder: str, where: str, *numbers: str) -> None:
    """Create, contend, verify: each in processes of their own, so that nothing is open when they fork."""
    processes, turns = map(int, numbers)
    logging.disable()  # what a system says about damage is counted below
    competing = driver(key)
    assert missing(competing) is None
    marked(0, "")  # made once, before they fork
    names: Names = _run(_create, [(competing, folder, where, processes)])[0]
    told: list[Told] = _run(_append, [(competing, folder, where, names[at], at, turns) for at in range(processes)])
    there: Counter[str] = _run(_look, [(competing, folder, sorted(set(names.values())))])[0]
    acknowledged = {mark for one in told for mark in one.marks}
    print(
        json.dumps(
            {
                "acknowledged": len(acknowledged),
                "lost": len(acknowledged - there.keys()),
                "doubled": sum(count > 1 for count in there.values()),
                "given_up": sum(one.given_up for one in told),
                "errors": sum((one.errors for one in told), Counter()),
                "entries_per_s": len(acknowledged)
                / (max(one.ended_s for one in told) - min(one.started_s for one in told)),
            }
        )
    )


def _run(work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Do the work in a forked process for each of the arguments, all starting at once; return what they return."""
    context = get_context("fork")
    barrier = context.Barrier(len(arguments))
    pipes = [context.Pipe(duplex=False) for _ in arguments]
    children = [
        context.Process(target=_child, args=(work, some, barrier, pipe[1]), daemon=True)
        for some, pipe in zip(arguments, pipes, strict=True)
    ]
    for child in children:
        child.start()
    for _, sending in pipes:
        sending.close()  # theirs; without it, one that dies would be waited for
    results = [receiving.recv() for receiving, _ in pipes]
    for child in children:
        child.join()
    return results


def _child(work: Callable[..., Any], arguments: tuple[Any, ...], barrier: Any, sending: Any) -> None:
    try:
        sending.send(work(*arguments, barrier))
    except BaseException:
        barrier.abort()  # nobody need wait for it
        raise


def _create(competing: Driver, folder: str, where: str, processes: int, _: Any) -> Names:
    sessions = competing.start(Path(folder))
    created = [_named(sessions) for _ in range(processes if where == "own" else 1)]
    sessions.close()
    return {at: created[at % len(created)] for at in range(processes)}


def _named(sessions: Sessions) -> str:
    """Return the name of a new conversation with a turn in it: some systems have none before that."""
    session = sessions.create()
    clock = Clock()
    clock.wait(session.append(sessions.items(marked(0, "0"))))
    clock.close()
    return session.name


def _append(competing: Driver, folder: str, where: str, name: str, number: int, turns: int, barrier: Any) -> Told:
    sessions = competing.start(Path(folder))
    session = sessions.open(name) if where == "own" else sessions.shared(name)
    said = [sessions.items(marked(turn, f"{number + 1}.{turn}")) for turn in range(turns)]
    told, clock = Told(), Clock()
    barrier.wait()
    told.started_s = time.monotonic()
    for items in said:
        if where == "same":
            clock.wait(session.refresh())
        for item in items:
            _try(session, item, told, clock)
    told.ended_s = time.monotonic()
    sessions.close()
    clock.close()
    return told


def _try(session: Session, item: Item, told: Told, clock: Clock) -> None:
    for _ in range(MOST_TRIES):
        try:
            clock.wait(session.append_each([item]))
        except Exception as exc:  # noqa: BLE001  # whatever a system raises is an error to count
            told.errors[type(exc).__name__] += 1
            _refresh(session, told, clock)
        else:
            told.marks += marks_of([item])
            return
    told.given_up += 1


def _refresh(session: Session, told: Told, clock: Clock) -> None:
    try:
        clock.wait(session.refresh())
    except Exception as exc:  # noqa: BLE001
        told.errors[type(exc).__name__] += 1


def _look(competing: Driver, folder: str, names: list[str], _: Any) -> Counter[str]:
    sessions = competing.start(Path(folder))
    clock = Clock()
    found: Counter[str] = Counter()
    for name in names:
        found.update(marks_of(clock.time(partial(sessions.restore, name)).value))
    sessions.close()
    clock.close()
    return Counter({mark: count for mark, count in found.items() if not mark.startswith(FIRST)})


def marks_of(items: Iterable[Item]) -> list[str]:
    """Return the marks in the texts of some items."""
    return [mark for item in items for mark in MARK.findall(str(item))]


if __name__ == "__main__":
    main(*sys.argv[1:])
