"""Bytes on disk for each byte that was said, after appends as an agent makes them."""

import time
from functools import partial

from benchmarks.peers.figures import Figure, figure
from benchmarks.peers.forking import disk_bytes, size_bytes
from benchmarks.peers.interface import Driver
from benchmarks.peers.material import exchange
from benchmarks.peers.setting import Setting

TURNS = (100, 1_000)
QUICK_TURNS = 20
BUDGET_S = 15.0


def bytes_per_payload_byte(setting: Setting) -> list[Figure]:
    """Append turn by turn, close, and compare the files with the text in them."""
    rows: list[Figure] = []
    for turns in (QUICK_TURNS,) if setting.bench.quick else TURNS:
        rows += [_row(setting, driver, turns) for driver in setting.among("system")]
    return rows


def _row(setting: Setting, driver: Driver, turns: int) -> Figure:
    folder = setting.bench.fresh_root(f"{driver.key}-footprint")
    sessions = driver.start(folder)
    session = sessions.create()
    payload = done = 0
    end = time.monotonic() + BUDGET_S
    while done < turns and time.monotonic() < end:
        spoken = exchange(done)
        setting.clock.time(partial(session.append, sessions.items(spoken)))
        payload += spoken.payload_bytes
        done += 1
    sessions.close()
    occupied, length = disk_bytes(folder) / payload, size_bytes(folder) / payload
    note = f"length of the files {length:.2f}"
    if done < turns:
        note += f"; only {done:,} turns, then {BUDGET_S:.0f} s were over"
    return figure(driver, f"bytes on disk per byte of text, {turns:,} turns", "B/B", (occupied,), note=note)
