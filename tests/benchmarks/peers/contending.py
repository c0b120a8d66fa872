"""Many processes at once: each on a conversation of its own, and all on the same one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.bench import environment
from benchmarks.peers.figures import Figure, figure
from benchmarks.peers.interface import Driver
from benchmarks.peers.setting import Setting

PROCESSES, QUICK_PROCESSES = 8, 3
TURNS = {"own": 10, "same": 5}
QUICK_TURNS = 2
ROUNDS = 3
CONTENDERS = Path(__file__).with_name("contenders.py")
WHERE = {"own": "a session each", "same": "the same session"}


def contention(setting: Setting) -> list[Figure]:
    """Let processes append item by item, and count what was acknowledged and what is there afterwards."""
    drivers = {
        "own": setting.among("system", "durability"),
        "same": setting.among("system", "durability", "conflict"),
    }
    return [row for where, some in drivers.items() for row in _rows(setting, where, some)]


def _rows(setting: Setting, where: str, drivers: list[Driver]) -> list[Figure]:
    processes = setting.amount(PROCESSES, QUICK_PROCESSES)
    turns = setting.amount(TURNS[where], QUICK_TURNS)
    rounds = range(setting.amount(ROUNDS, 1))
    told = [[_contend(setting, driver, where, processes, turns) for driver in drivers] for _ in rounds]
    operation = f"{processes} processes, {WHERE[where]}, {turns} turns each"
    return [
        figure(driver, operation, "entries/s", tuple(one["entries_per_s"] for one in some), note=_note(some))
        for driver, some in zip(drivers, zip(*told, strict=True), strict=True)
    ]


def _note(told: tuple[dict[str, Any], ...]) -> str:
    counted = {name: sum(one[name] for one in told) for name in ("acknowledged", "lost", "doubled", "given_up")}
    errors: dict[str, int] = {}
    for one in told:
        for name, count in one["errors"].items():
            errors[name] = errors.get(name, 0) + count
    raised = ", ".join(f"{count} {name}" for name, count in sorted(errors.items())) or "none"
    lost, doubled, given_up = counted["lost"], counted["doubled"], counted["given_up"]
    note = f"of {counted['acknowledged']:,}: {lost:,} lost, {doubled:,} doubled; errors: {raised}"
    return note + (f"; {given_up:,} given up" if given_up else "")


def _contend(setting: Setting, driver: Driver, where: str, processes: int, turns: int) -> dict[str, Any]:
    folder = setting.bench.fresh_root(f"{driver.key}-{where}")
    command = [sys.executable, str(CONTENDERS), driver.key, str(folder), where, str(processes), str(turns)]
    os.sync()  # what others left to be written is not theirs to pay
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), start_new_session=True)
    try:
        out, _ = child.communicate()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)  # it and those it forked
        child.wait()
        raise
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, CONTENDERS.name)
    told: dict[str, Any] = json.loads(out)
    return told
