"""Restore: to whatever the system gives an agent that goes on; in time, and in memory."""

import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import orjson

from benchmarks.bench import environment
from benchmarks.measure import Clocks, clocked, cpu_ms, wall_ms
from benchmarks.peers.figures import Figure, absent, figure, number
from benchmarks.peers.material import line_bytes, lines
from benchmarks.peers.setting import Setting, Shelf

ROUNDS = {10: 50, 100: 25, 1_000: 9, 10_000: 3}
QUICK_TURNS = 100
BUDGET_S = 8.0
MEMORY_TURNS, SMALL_TURNS = 1_000, 10
PROBES = 3
MIB = 1 << 20
PROBE = Path(__file__).with_name("memory_probe.py")


def restore_time(setting: Setting) -> list[Figure]:
    """Restore logs of four sizes, from the page cache."""
    rows: list[Figure] = []
    for turns, rounds in ROUNDS.items():
        if turns <= setting.amount(10_000, QUICK_TURNS):
            rows += _restoring(setting, turns, rounds)
    return rows


def _restoring(setting: Setting, turns: int, rounds: int) -> list[Figure]:
    shelves = [setting.filled(driver, turns) for driver in setting.among("system")]
    path = setting.bench.fresh_root("limit") / "lines"
    path.write_bytes(b"".join(line + b"\n" for line in lines(turns)))
    sides: list[Callable[[int], Clocks]] = [lambda _: clocked(partial(_parse, path))]
    sides += [_side(setting, shelf) for shelf in shelves]
    limit, *measured = setting.within(sides, setting.bench.rounds(rounds), BUDGET_S)
    return [_row(shelf, turns, samples, limit) for shelf, samples in zip(shelves, measured, strict=True)]


def _row(shelf: Shelf, turns: int, samples: Sequence[Clocks], limit: Sequence[Clocks]) -> Figure:
    """Return the figure on the clock of the processor, which a busy machine moves less."""
    note = f"on the wall {number(statistics.median(wall_ms(samples)))}"
    operation = f"restore {turns:,} turns, CPU"
    return figure(
        shelf.driver, operation, "ms", cpu_ms(samples), cpu_ms(limit), "orjson.loads over the lines", note=note
    )


def _side(setting: Setting, shelf: Shelf) -> Callable[[int], Clocks]:
    def side(_: int) -> Clocks:
        gc.collect()
        timed = setting.clock.time(partial(shelf.sessions.restore, shelf.session.name))
        return Clocks(timed.cpu_s, timed.seconds)

    return side


def _parse(path: Path) -> list[object]:
    with open(path, "rb") as file:
        return [orjson.loads(line) for line in file]


def peak_memory(setting: Setting) -> list[Figure]:
    """Measure the peak of a restore, each time in a fresh process, beside the size of the lines."""
    turns = setting.amount(MEMORY_TURNS, QUICK_TURNS)
    operation = f"peak memory of a restore of {turns:,} turns"
    limit = (line_bytes(turns) / MIB,)
    rows = []
    for driver in setting.among("system"):
        if sys.platform != "linux":
            rows.append(absent(driver, operation, "MiB", "resident sizes come from Linux's /proc"))
            continue
        shelves = [setting.filled(driver, some) for some in (SMALL_TURNS, turns)]
        samples = tuple(_probe(shelves) / MIB for _ in range(setting.amount(PROBES, 1)))
        rows.append(figure(driver, operation, "MiB", samples, limit, "the size of the lines"))
    return rows


def _probe(shelves: list[Shelf]) -> int:
    """Return how far the restore of the second shelf raised the resident size of a process that restored the first."""
    places = [part for shelf in shelves for part in (str(shelf.folder), shelf.session.name)]
    command = [sys.executable, str(PROBE), shelves[0].driver.key, *places]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment())
    peak: int = json.loads(done.stdout)["peak_bytes"]
    return peak
