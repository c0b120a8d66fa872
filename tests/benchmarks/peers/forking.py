"""Fork a conversation of many turns three turns before its end: the time, and the bytes it adds to the disk."""

import os
from functools import partial
from pathlib import Path

from benchmarks.measure import scaled
from benchmarks.peers.figures import Figure, figure
from benchmarks.peers.interface import Driver
from benchmarks.peers.setting import Setting, Side

TURNS, QUICK_TURNS = 1_000, 50
TURNS_FROM_THE_END = 3
ROUNDS = 15
BUDGET_S = 8.0


def fork(setting: Setting) -> list[Figure]:
    """Fork in every system, most of which have no call for it: the note says how it is done."""
    turns = setting.amount(TURNS, QUICK_TURNS)
    where = f"fork {turns:,} turns near the end"
    rows: list[Figure] = []
    for synced, title in ((False, f"{where}, not synced"), (True, f"{where}, durable")):
        drivers = [some for some in setting.among("system", "durability") if (some.survives != "process") is synced]
        sides = [_side(setting, driver, turns) for driver in drivers]
        os.sync()
        measured = setting.within(sides, setting.bench.rounds(ROUNDS), BUDGET_S)
        rows += [
            figure(driver, title, "ms", scaled(samples, 1e3), note=driver.forking)
            for driver, samples in zip(drivers, measured, strict=True)
        ]
    return rows + [
        figure(driver, f"{where}, what it adds to the files", "KiB", (_added(setting, driver, turns) / 1024,))
        for driver in setting.among("system")
    ]


def _side(setting: Setting, driver: Driver, turns: int) -> Side:
    session = setting.fresh(driver, turns).session
    return lambda _: setting.clock.time(partial(session.fork, turns - TURNS_FROM_THE_END)).seconds


def _added(setting: Setting, driver: Driver, turns: int) -> int:
    """Return by how much one fork makes the files longer; they are closed each time, so that no WAL is left."""
    shelf = setting.fresh(driver, turns)
    name = shelf.session.name
    shelf.sessions.close()
    before = size_bytes(shelf.folder)
    sessions = driver.start(shelf.folder)
    setting.clock.time(partial(sessions.open(name).fork, turns - TURNS_FROM_THE_END))
    sessions.close()
    return size_bytes(shelf.folder) - before


def size_bytes(folder: Path) -> int:
    """Return the length of all files below a folder."""
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def disk_bytes(folder: Path) -> int:
    """Return what the files and folders below a folder occupy."""
    found = [os.path.join(at, name) for at, folders, names in os.walk(folder) for name in (*folders, *names)]
    return sum(os.lstat(path).st_blocks * 512 for path in found)
