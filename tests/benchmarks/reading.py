"""Reads: restore in time and in memory, and the head check."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import orjson

from benchmarks.bench import Bench, Log, environment
from benchmarks.measure import FLAT, Row, clocked, cpu_ms, interleave, scaled, timed, wall_ms
from session_log import ensure_head_or_fork, head, restore
from session_log._codec import decode_plain_lines
from session_log._fold import Fold
from session_log._reader import Block, read_blocks

RESTORED_TURNS = 1_000
BLOCK_BYTES = 1 << 20
SHORT_LOG_TURNS, LONG_LOG_TURNS = 10, 10_000
CHECKS_A_ROUND = 200
MIB = 1 << 20
PROBE = Path(__file__).with_name("memory_probe.py")


def restore_time(bench: Bench) -> list[Row]:
    """Restore to typed state, beside parsing the same lines to dicts; the file is in the page cache."""
    log = bench.log(RESTORED_TURNS)
    data = log.path.read_bytes()
    blocks = list(read_blocks(log.store, log.session_id, log.segment_id))
    lean, ours, usual, decoding, folding = interleave(
        [
            lambda _: clocked(partial(_parse_uncollected, log.path)),
            lambda _: clocked(partial(restore, log.store, log.session_id, log.segment_id)),
            lambda _: clocked(partial(_parse, log.path)),
            lambda _: clocked(partial(_decode_uncollected, data)),
            lambda _: clocked(partial(_fold, blocks)),
        ],
        bench.rounds(15),
    )
    name, beside = f"restore {log.turns:,} turns", "orjson.loads, 1 MiB blocks"
    return [
        Row(operation=f"{name}, CPU", beside=beside, unit="ms", ours=cpu_ms(ours), limit=cpu_ms(lean), target=1.0),
        Row(operation="  on the wall", beside=beside, unit="ms", ours=wall_ms(ours), limit=wall_ms(lean)),
        Row(
            operation="  CPU, the limit with its collector on",
            beside=beside,
            unit="ms",
            ours=cpu_ms(ours),
            limit=cpu_ms(usual),
        ),
        Row(operation="  of it: decoding alone", beside=beside, unit="ms", ours=cpu_ms(decoding), limit=cpu_ms(lean)),
        Row(operation="  of it: folding alone", beside=beside, unit="ms", ours=cpu_ms(folding), limit=cpu_ms(lean)),
    ]


def _decode_uncollected(data: bytes) -> list[object]:
    """Decode to typed entries what is in memory already, in blocks of the size that a restore reads."""
    gc.disable()
    try:
        size = len(data) // BLOCK_BYTES + 1
        cuts = [0, *(data.index(b"\n", at * BLOCK_BYTES) + 1 for at in range(1, size)), len(data)]
        return [decode_plain_lines(data[start:stop]) for start, stop in pairwise(cuts)]
    finally:
        gc.enable()


def _fold(blocks: list[Block]) -> Fold:
    fold = Fold()
    for block in blocks:
        fold.extend(block.entries)
    return fold


def _parse_uncollected(path: Path) -> list[object]:
    """Parse with the garbage collector paused: the lower limit, because dicts by the hundred thousand make it run."""
    gc.disable()
    try:
        return _parse(path)
    finally:
        gc.enable()


def _parse(path: Path) -> list[object]:
    return [orjson.loads(b"[" + block.replace(b"\n", b",") + b"]") for block in _blocks(path)]


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines, the last newline of each left out."""
    rest = b""
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            whole, _, tail = block.rpartition(b"\n")
            yield rest + whole
            rest = tail


def memory(bench: Bench) -> list[Row]:
    """Measure what a restore keeps and its peak, each time in a fresh process, beside the size of the file."""
    log, small = bench.log(RESTORED_TURNS), bench.log(SHORT_LOG_TURNS)
    if sys.platform != "linux":
        return []  # resident sizes come from /proc
    probes = [_probe(log, small) for _ in range(bench.rounds(5))]
    file_mib = tuple(log.size_bytes / MIB for _ in probes)
    kept = scaled([probe["kept_bytes"] for probe in probes], 1 / MIB)
    peak = scaled([probe["peak_bytes"] for probe in probes], 1 / MIB)
    row = partial(Row, beside="size of the file", unit="MiB", limit=file_mib, target=2.0)
    return [
        row(operation=f"memory kept by a restore of {log.turns:,} turns", ours=kept),
        row(operation="  its peak", ours=peak),
    ]


def _probe(log: Log, small: Log) -> dict[str, int]:
    """Return what the probe saw: it restores ``small`` first, so that code loaded on first use does not count."""
    arguments = [str(part) for some in (small, log) for part in (some.store.root, some.session_id, some.segment_id)]
    done = subprocess.run([sys.executable, PROBE, *arguments], stdout=subprocess.PIPE, check=True, env=environment())
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def head_check(bench: Bench) -> list[Row]:
    """Check that nobody else wrote, at two sizes: it must not depend on the history."""
    rounds = bench.rounds(100)
    short, long = bench.log(SHORT_LOG_TURNS), bench.log(LONG_LOG_TURNS)
    seconds = interleave([_checking(short), _checking(long)], rounds)
    at_short, at_long = (scaled(samples, 1e6) for samples in seconds)
    row = partial(Row, beside="", unit="µs", compared="value", target=5.0)
    return [
        row(operation=f"head check at {short.turns:,} turns", ours=at_short),
        row(operation=f"head check at {long.turns:,} turns", ours=at_long),
        Row(operation="  long beside short", beside="short log", unit="µs", ours=at_long, limit=at_short, target=FLAT),
    ]


def _checking(log: Log) -> Callable[[int], float]:
    """Return the side that times a number of checks at the end of ``log``."""
    at_end = head(log.store, log.session_id, log.segment_id)

    def check() -> None:
        for _ in range(CHECKS_A_ROUND):
            ensure_head_or_fork(log.store, at_end)

    assert ensure_head_or_fork(log.store, at_end) == at_end
    return lambda _: timed(check) / CHECKS_A_ROUND
