"""One session among very many: the ones that were active last, and the one of a key; the first time, and again."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import SEED, Bench, environment
from benchmarks.growing import FIRST_MS, populate
from benchmarks.measure import Row, Samples, interleave, scaled, timed
from session_log import FsStore, create_segment
from session_log.feed import recent_sessions
from session_log.keys import open_or_create

RECENT = 20
SESSIONS, FEW_SESSIONS = 100_000, 2_000
ASKED = 100
"""How many keys are asked for: more than are remembered are not, so each but the first time is warm."""
MAX_RECENT_MS, MAX_COLD_MS, MAX_WARM_US = 1.0, 5.0, 50.0
COLD = """\
import sys, time
from session_log import FsStore
from session_log.keys import open_or_create
started = time.perf_counter()
_, _, created = open_or_create(FsStore(sys.argv[1], durability="process"), sys.argv[2])
print(time.perf_counter() - started)
assert not created
"""


def many(bench: Bench) -> list[Row]:
    """Measure a look at the feed and at the index of keys of one store of so many sessions."""
    sessions = FEW_SESSIONS if bench.quick else SESSIONS
    store = store_of(bench.fresh_root("many"), sessions)
    return [_recent(bench, store, sessions), *_keys(bench, store, sessions)]


def _recent(bench: Bench, store: FsStore, sessions: int) -> Row:
    found = recent_sessions(store, RECENT)
    assert not found.scanned and len(found) == RECENT, found.reason
    (ours,) = interleave([lambda _: timed(partial(recent_sessions, store, RECENT))], bench.rounds(200))
    return _row(f"recent_sessions({RECENT}) of {sessions:,}", "ms", scaled(ours, 1e3), MAX_RECENT_MS)


def _keys(bench: Bench, store: FsStore, sessions: int) -> list[Row]:
    keys = [_key(number) for number in random.Random(SEED).sample(range(1, sessions - 1), ASKED)]
    for key in keys:
        assert not open_or_create(store, key)[2], key
    warm, again = interleave([_opening(store, keys), _opening_anew(store.root, keys)], bench.rounds(200))
    (cold,) = interleave([_in_a_process(store.root, keys)], bench.rounds(15))
    return [
        _row(f"open_or_create a key among {sessions:,}, in a new process", "ms", scaled(cold, 1e3), MAX_COLD_MS),
        _row("  in a new store of the same process", "ms", scaled(again, 1e3)),
        _row("  again", "µs", scaled(warm, 1e6), MAX_WARM_US),
    ]


def _row(operation: str, unit: str, ours: Samples, target: float | None = None) -> Row:
    return Row(operation=operation, beside="", unit=unit, compared="value", ours=ours, target=target)


def _opening(store: FsStore, keys: list[str]) -> Callable[[int], float]:
    return lambda number: timed(lambda: open_or_create(store, keys[number % len(keys)]))


def _opening_anew(root: Path, keys: list[str]) -> Callable[[int], float]:
    def side(number: int) -> float:
        return _opening(FsStore(root, durability="process"), keys)(number)

    return side


def _in_a_process(root: Path, keys: list[str]) -> Callable[[int], float]:
    """Return the side that asks for a key first thing after the import, which is not counted."""

    def side(number: int) -> float:
        command = [sys.executable, "-c", COLD, str(root), keys[number % len(keys)]]
        return float(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)

    return side


# ── the store ──────────────────────────────────────────────────────────────────────────────────────────────────────


def store_of(root: Path, sessions: int) -> FsStore:
    """Return a store of so many sessions, each with a key; its feed says that each was active once more, in any order.

    Feed, facts and index are written as FORMAT-BESIDE.md says, not by so many stores.
    """
    store = FsStore(root, durability="process")
    create_segment(store)  # which begins the feed
    open_or_create(store, _key(0))  # which begins the index
    ids = populate(root, sessions - 2)
    index: dict[str, list[bytes]] = {}
    for number, (session_id, segment_id) in enumerate(ids, start=1):
        key = _key(number)
        _append(root / session_id / "session.jsonl", _facts(session_id, segment_id, key))
        line = f'{{"kind":"key","ts":{FIRST_MS},"key":"{key}","session_id":"{session_id}"}}\n'
        index.setdefault(hashlib.sha256(key.encode()).hexdigest()[0], []).append(line.encode())
    for digit, lines in index.items():
        _append(root / "keys" / f"{digit}.jsonl", b"".join(lines))
    said = [_said("create", pair) for pair in ids]
    random.Random(SEED).shuffle(ids)
    _append(root / "feed.jsonl", b"".join(said + [_said("run_end", pair) for pair in ids]))
    return store


def _key(number: int) -> str:
    return f"thread-{number:06d}"


def _facts(session_id: str, segment_id: str, key: str) -> bytes:
    return (
        f'{{"kind":"session","ts":{FIRST_MS},"session_id":"{session_id}","v":1}}\n'
        f'{{"kind":"set","ts":{FIRST_MS},"external_key":"{key}"}}\n'
        f'{{"kind":"point","ts":{FIRST_MS},"name":"main","segment_id":"{segment_id}"}}\n'
    ).encode()


def _said(kind: str, ids: tuple[str, str]) -> bytes:
    return f'{{"kind":"{kind}","ts":{FIRST_MS},"session_id":"{ids[0]}","segment_id":"{ids[1]}"}}\n'.encode()


def _append(path: Path, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        data = memoryview(text)
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
