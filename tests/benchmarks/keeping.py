"""Blobs: a payload hashed and written, from memory and from a file, and one that is there already."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measure import Row, Samples, interleave, scaled, timed
from session_log import FsStore

SIZES = (1 << 20, 16 << 20)
MAX_PUT = 1.3
CHUNK_BYTES = 1 << 20


def blobs(bench: Bench) -> list[Row]:
    """Put payloads that nobody has put, beside their hash and one write; then the same ones again."""
    return [row for size_bytes in SIZES for row in _of_size(bench, size_bytes)]


def _of_size(bench: Bench, size_bytes: int) -> list[Row]:
    root = bench.fresh_root("blobs")
    store = FsStore(root / "store", durability="process")
    (root / "bare").mkdir()
    (root / "copies").mkdir()
    source = root / "source"
    rounds = bench.rounds(20)
    limit, put, again, copied, streamed = interleave(
        [
            lambda number: _timed(
                _payload(size_bytes, b"a", number), lambda data: _hash_and_write(root / "bare", data)
            ),
            lambda number: _timed(_payload(size_bytes, b"b", number), store.put_blob),
            lambda number: _timed(_payload(size_bytes, b"b", number), store.put_blob),
            lambda number: _from_file(source, size_bytes, b"c", number, lambda: _copy(source, root / "copies")),
            lambda number: _from_file(source, size_bytes, b"d", number, lambda: store.put_blob(source)),
        ],
        rounds,
    )
    size = f"{size_bytes >> 20} MiB"

    def row(operation: str, ours: Samples, beside: str, limit: Samples, target: float | None = None) -> Row:
        ours, limit = scaled(ours, 1e3), scaled(limit, 1e3)
        return Row(operation=operation, unit="ms", ours=ours, beside=beside, limit=limit, target=target)

    return [
        row(f"put a blob of {size}", put, "sha256 + one write", limit, MAX_PUT),
        row("  the same again", again, "sha256 + one write", limit),
        row("  from a file", streamed, "read, hash and write 1 MiB at a time", copied),
    ]


def _payload(size_bytes: int, salt: bytes, number: int) -> bytes:
    """Return a payload that no other side or round has."""
    return (b"%b%d " % (salt, number)).ljust(64) + bytes(size_bytes - 64)


def _timed(data: bytes, action: Callable[[bytes], object]) -> float:
    return timed(lambda: action(data))


def _from_file(source: Path, size_bytes: int, salt: bytes, number: int, action: Callable[[], object]) -> float:
    source.write_bytes(_payload(size_bytes, salt, number))
    return timed(action)


def _hash_and_write(folder: Path, data: bytes) -> None:
    name = hashlib.sha256(data).hexdigest()
    fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _copy(source: Path, folder: Path) -> None:
    found = hashlib.sha256()
    with source.open("rb", buffering=0) as file, (folder / "part").open("xb", buffering=0) as copy:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            copy.write(chunk)
    os.replace(folder / "part", folder / found.hexdigest())
