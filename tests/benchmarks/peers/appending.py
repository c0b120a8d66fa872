"""Append a turn: in as few calls as the system allows, and item by item; with little and much history before it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import orjson

from benchmarks.measure import grown_heap, scaled, timed
from benchmarks.peers.figures import Figure, figure
from benchmarks.peers.interface import Driver, Item, Later
from benchmarks.peers.material import exchange
from benchmarks.peers.setting import Setting, Shelf, Side
from benchmarks.recording import sync_data

SHORT_TURNS, LONG_TURNS = 100, 1_000
ROUNDS, LONG_ROUNDS = 100, 20
BUDGET_S = 8.0
LIMITS = {False: "orjson.dumps + os.write", True: "orjson.dumps + os.write + fdatasync"}
Values = Sequence[object]


def turn_at_once(setting: Setting) -> list[Figure]:
    """Append a turn with as few calls as possible."""
    rows: list[Figure] = []
    for turns, rounds in ((SHORT_TURNS, ROUNDS), (LONG_TURNS, LONG_ROUNDS)):
        name = f"append a turn, in one call where there is one, to {turns:,} turns"
        rows += _appending(setting, name, turns, rounds, _append, _write_joined)
    return rows


def turn_item_by_item(setting: Setting) -> list[Figure]:
    """Append a turn as an agent makes it: each item is acknowledged before the next."""
    name = f"append a turn item by item, to {SHORT_TURNS:,} turns"
    return _appending(setting, name, SHORT_TURNS, ROUNDS, _append_each, _write_each)


def _appending(
    setting: Setting,
    operation: str,
    turns: int,
    rounds: int,
    act: Callable[[Shelf, Sequence[Item]], Later[None]],
    limit: Callable[[int, Values, bool], None],
) -> list[Figure]:
    """Measure those that do not sync, then those that do: a sync must not pay for what others left to be written."""
    rows: list[Figure] = []
    for synced, title in ((False, f"{operation}, not synced"), (True, f"{operation}, durable")):
        drivers = [some for some in setting.among("system", "durability") if (some.survives != "process") is synced]
        with _lines(setting) as fd, grown_heap():
            sides = [_limit(partial(limit, fd), turns, synced=synced)]
            sides += [_side(setting, driver, turns, act) for driver in drivers]
            os.sync()
            measured = setting.within(sides, setting.bench.rounds(rounds), BUDGET_S)
        least, *seconds = (scaled(samples, 1e6) for samples in measured)
        rows += [
            figure(driver, title, "µs", samples, least, LIMITS[synced])
            for driver, samples in zip(drivers, seconds, strict=True)
        ]
    return rows


@contextlib.contextmanager
def _lines(setting: Setting) -> Iterator[int]:
    path = setting.bench.fresh_root("limit") / "lines"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _side(setting: Setting, driver: Driver, turns: int, act: Callable[[Shelf, Sequence[Item]], Later[None]]) -> Side:
    """Return the side that times the append of the next turn. Its items are made just before, untimed."""
    shelf = setting.fresh(driver, turns)

    def side(number: int) -> float:
        items = shelf.sessions.items(exchange(turns + number))
        return setting.clock.time(partial(act, shelf, items)).seconds

    return side


def _append(shelf: Shelf, items: Sequence[Item]) -> Later[None]:
    return shelf.session.append(items)


def _append_each(shelf: Shelf, items: Sequence[Item]) -> Later[None]:
    return shelf.session.append_each(items)


def _limit(write: Callable[[Values, bool], None], turns: int, *, synced: bool) -> Side:
    return lambda number: timed(partial(write, exchange(turns + number).values, synced))


def _write_joined(fd: int, values: Values, synced: bool) -> None:
    os.write(fd, b"\n".join([*map(orjson.dumps, values), b""]))
    if synced:
        sync_data(fd)


def _write_each(fd: int, values: Values, synced: bool) -> None:
    for value in values:
        os.write(fd, orjson.dumps(value) + b"\n")
        if synced:
            sync_data(fd)
