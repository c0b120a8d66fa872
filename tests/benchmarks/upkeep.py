"""What looks over a whole store: verification, the collection of blobs, a restore whose long texts are in blobs."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench, Log, as_entries, turn_lines
from benchmarks.measure import Clocks, Row, Samples, clocked, interleave
from session_log import FsStore, SegmentWriter, restore
from session_log.collection import collect_blobs
from session_log.verify import verify

TURNS, FEW_TURNS = 2_000, 200
MAX_INLINE_BYTES = 1_024


def upkeep(bench: Bench) -> list[Row]:
    """Measure each beside a bare read of the bytes it must look at; what is hashed, hashed."""
    turns = FEW_TURNS if bench.quick else TURNS
    return [*_verified(bench, turns), *_spilled(bench, turns)]


def _verified(bench: Bench, turns: int) -> list[Row]:
    log = bench.log(turns)
    chained = _recorded(bench, turns, chain=True)
    return [
        _beside_read(bench, "verify a segment", log, lambda: _verify(log), _read),
        _beside_read(bench, "  with a chain", chained, lambda: _verify(chained), _read_and_hash),
    ]


def _beside_read(
    bench: Bench, operation: str, log: Log, action: Callable[[], object], limit: Callable[[Path], object]
) -> Row:
    read, ours = interleave(
        [lambda _: clocked(lambda: limit(Path(log.store.root))), lambda _: clocked(action)], bench.rounds(15)
    )
    beside = "its bytes read" + (" and hashed" if limit is _read_and_hash else "")
    return _rate(operation, beside, _size(Path(log.store.root)), ours, read)


def _rate(operation: str, beside: str, size_bytes: int, ours: tuple[Clocks, ...], limit: tuple[Clocks, ...]) -> Row:
    """Return a row of milliseconds for each MB of 10^6 bytes."""

    def per_mb(clocks: tuple[Clocks, ...]) -> Samples:
        return tuple(each.cpu_s * 1e9 / size_bytes for each in clocks)

    return Row(operation=operation, beside=beside, unit="ms CPU/MB", ours=per_mb(ours), limit=per_mb(limit))


def _verify(log: Log) -> None:
    report = verify(log.store, log.session_id)
    assert report.is_sound, report.findings[:3]


def _spilled(bench: Bench, turns: int) -> list[Row]:
    whole, spilled = _recorded(bench, turns), _recorded(bench, turns, max_inline_bytes=MAX_INLINE_BYTES)
    blobs = sorted((Path(spilled.store.root) / "blobs").glob("*/*"))
    assert blobs, "nothing was spilled"
    assert _restored(whole, resolve=False) == _restored(spilled, resolve=True)

    def restore_and_hash() -> list[bytes]:
        _restored(whole, resolve=False)
        return [hashlib.sha256(path.read_bytes()).digest() for path in blobs]

    limit, resolved, inline, unresolved = interleave(
        [
            lambda _: clocked(restore_and_hash),
            lambda _: clocked(lambda: _restored(spilled, resolve=True)),
            lambda _: clocked(lambda: _restored(whole, resolve=False)),
            lambda _: clocked(lambda: _restored(spilled, resolve=False)),
        ],
        bench.rounds(15),
    )
    size, beside = _size(Path(whole.store.root)), "the same log inline"
    name = f"restore {turns:,} turns, {len(blobs):,} texts in blobs, resolved"
    return [
        _rate(name, beside + ", and each blob read and hashed", size, resolved, limit),
        _rate("  not resolved", beside, size, unresolved, inline),
        _collected(bench, spilled, blobs),
    ]


def _collected(bench: Bench, log: Log, blobs: list[Path]) -> Row:
    """Measure a collection that finds every blob in use: each segment is read to its end, each blob looked at twice."""

    def collect() -> None:
        found = collect_blobs(log.store, grace_s=0, dry_run=True)
        assert (found.blobs, found.removed) == (len(blobs), 0), found

    def look() -> None:
        _read(log.path.parent)
        for path in blobs:
            path.lstat()

    limit, ours = interleave([lambda _: clocked(look), lambda _: clocked(collect)], bench.rounds(15))
    beside = "the segments' bytes read, each blob looked at"
    return _rate(f"collect_blobs, all of {len(blobs):,} in use", beside, log.size_bytes, ours, limit)


def _restored(log: Log, *, resolve: bool) -> object:
    return restore(log.store, log.session_id, log.segment_id, resolve_blobs=resolve).history


def _recorded(bench: Bench, turns: int, *, chain: bool = False, max_inline_bytes: int | None = None) -> Log:
    store = FsStore(bench.fresh_root("upkeep"), durability="process", feed=False)
    with SegmentWriter.create(store, chain=chain, max_inline_bytes=max_inline_bytes) as writer:
        for lines in turn_lines(turns):
            for entry in as_entries(lines):
                writer.append(entry)
    return Log(store, writer.session_id, writer.segment_id, turns)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.jsonl"))


def _read(folder: Path) -> int:
    return sum(len(path.read_bytes()) for path in folder.rglob("*.jsonl"))


def _read_and_hash(folder: Path) -> list[bytes]:
    return [hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.jsonl")]
