"""Collecting garbage: payloads that no line refers to any more.

A payload is put first, and the line that refers to it is written then: what was put, or put again, within the grace
period stays, whatever refers to it. Whoever puts a payload that is there already gives it the present time; that, and
taking one away, are kept apart by a lock on its folder.

>>> import tempfile
>>> from session_log import FsStore
>>> from session_log.collection import collect_blobs
>>> store = FsStore(tempfile.mkdtemp())
>>> ref = store.put_blob(b"nobody refers to this")
>>> collect_blobs(store).removed, collect_blobs(store, grace_s=0, dry_run=True).removed
(0, 1)
"""

import contextlib
import os
import re
import time
from typing import Final

import msgspec

from session_log import _layout, _trash
from session_log._atomic import TEMPORARY_PREFIX, Folder
from session_log._errors import CallerError, NotFound, SessionLogError, StorageError
from session_log._facts_file import files_of
from session_log._file_store import FsStore
from session_log._marks import mark_folder, mark_text, places_of
from session_log._references import OnProgress, tell
from session_log._state import Damage
from session_log._store import Store

DEFAULT_GRACE_S: Final = 86_400.0
"""A day: longer than any writer waits between putting a payload and writing the line that refers to it."""
MAX_GRACE_S: Final = 1e9
"""Thirty years: before this there were no such files."""
_PATIENCE_S: Final = 2.0
_BLOB: Final = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,8})?")
"""The hash, and how it is packed, if it is."""


class UncertainMarks(StorageError):
    """Lines that might refer to payloads cannot be read; ``damage`` says which. Nothing was removed."""

    def __init__(self, damage: tuple[Damage, ...]) -> None:
        places = [f"{found.path}:{found.line}" if found.line else found.path for found in damage]
        listed = ", ".join(places[:20]) + (f" and {len(places) - 20} more" if len(places) > 20 else "")
        super().__init__(f"{listed}: {damage[0].reason}; what they refer to is not known: mend or delete them first")
        self.damage = damage


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection found: payloads in all, those referred to or too new, and those removed (or that would be)."""

    blobs: int
    kept: int
    removed: int
    removed_bytes: int
    busy: int = 0
    """Payloads that were left because somebody was putting into their folder all the time."""


def collect_blobs(
    store: Store, *, grace_s: float = DEFAULT_GRACE_S, dry_run: bool = False, progress: OnProgress | None = None
) -> Collected:
    """Remove the payloads that no line of a segment, trace or session, in the trash or not, refers to.

    Only those that nobody put for ``grace_s`` seconds, by the file's time. With ``dry_run``, only count, and write
    nothing; what comes back from the trash in that moment may be missed. Writers go on meanwhile. Memory: about 120
    bytes for each payload older than that. Interrupted, what is left is left whole.

    Raises:
        UncertainMarks: a segment cannot be read, or has a damaged line; nothing was removed.
        CallerError: the period is none, or the store has no files.
    """
    files = files_of(store)
    if not isinstance(grace_s, (int, float)) or not 0 <= grace_s <= MAX_GRACE_S:
        raise CallerError(f"grace_s={grace_s!r}: is no period in seconds")
    if not _layout.is_folder(f"{files.root}/blobs"):
        return Collected(blobs=0, kept=0, removed=0, removed_bytes=0)
    # Nothing comes back from the trash while it is looked through. (Who only counts makes no lock file for that.)
    with contextlib.nullcontext() if dry_run else _trash.settled(files.root, durable=False):
        bound_ns = time.time_ns() - int(grace_s * 1e9)
        blobs, unmarked = _candidates(files, bound_ns)
        if unmarked:
            _mark(files, unmarked, progress)
        removed, size, busy = _sweep(files, unmarked, bound_ns, dry_run=dry_run, progress=progress)
    return Collected(blobs=blobs, kept=blobs - removed, removed=removed, removed_bytes=size, busy=busy)


def _shards(store: FsStore) -> list[str]:
    root = f"{store.root}/blobs"
    with _layout.reported(root), os.scandir(root) as found:
        return sorted(e.name for e in found if len(e.name) == 2 and e.is_dir(follow_symlinks=False))


def _candidates(store: FsStore, bound_ns: int) -> tuple[int, set[bytes]]:
    """Return how many payloads there are, and the hashes of those that are old enough to go."""
    blobs, old = 0, set()
    for shard in _shards(store):
        for name, size in _old(store, shard, bound_ns):
            blobs += 1
            if size is not None:
                old.add(bytes.fromhex(name[:64]))
    return blobs, old


def _old(store: FsStore, shard: str, bound_ns: int) -> list[tuple[str, int | None]]:
    """Return the payloads of a folder, each with its size if it is old enough to go, else None."""
    path, found = f"{store.root}/blobs/{shard}", list[tuple[str, int | None]]()
    with _layout.folder(path) as fd, _layout.reported(path), os.scandir(fd) as entries:
        for entry in entries:
            if _BLOB.fullmatch(entry.name) and entry.name[:2] == shard and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    known = entry.stat(follow_symlinks=False)
                    found.append((entry.name, known.st_size if known.st_mtime_ns < bound_ns else None))
    return found


def _mark(store: FsStore, unmarked: set[bytes], progress: OnProgress | None) -> None:
    damage: list[Damage] = []
    for number, folder in enumerate(places_of(str(store.root))):
        tell(progress, number, number + 1, f"reading {folder}")
        mark_folder(folder, unmarked, damage)
    if damage:
        raise UncertainMarks(tuple(damage))
    with contextlib.suppress(NotFound), Folder.open(store.root, "pods") as pods:
        for name in pods.names():
            mark_text(pods.read(name), unmarked)


def _sweep(
    store: FsStore, unmarked: set[bytes], bound_ns: int, *, dry_run: bool, progress: OnProgress | None
) -> tuple[int, int, int]:
    """Remove the payloads that are still old; return how many, their bytes, and how many could not be looked at."""
    removed = size = busy = 0
    shards = _shards(store)
    for number, shard in enumerate(shards):
        tell(progress, number, len(shards), f"removing from {shard}")
        doomed = [
            (name, length)
            for name, length in _old(store, shard, bound_ns)
            if length is not None and bytes.fromhex(name[:64]) in unmarked
        ]
        if not dry_run:
            with Folder.open(store.root, "blobs", shard) as folder:
                if not _claimed(folder):
                    busy += len(doomed)
                    continue
                doomed = [item for item in doomed if _remove(folder, item[0], bound_ns)]
                _remove_temporaries(folder, bound_ns)
        removed += len(doomed)
        size += sum(length for _, length in doomed)
    if not dry_run and shards:
        with Folder.open(store.root, "blobs") as folder:  # where streams are written before their hash is known
            _remove_temporaries(folder, bound_ns)
    return removed, size, busy


def _claimed(folder: Folder) -> bool:
    give_up = time.monotonic() + _PATIENCE_S
    while not folder.claim():
        if time.monotonic() > give_up:
            return False
        time.sleep(1e-3)
    return True


def _remove(folder: Folder, name: str, bound_ns: int) -> bool:
    """Remove a payload unless somebody put it again meanwhile; nobody can while the folder is claimed."""
    try:
        if folder.stat(name).st_mtime_ns >= bound_ns:
            return False
    except NotFound:
        return False
    folder.drop(name)
    return True


def _remove_temporaries(folder: Folder, bound_ns: int) -> None:
    """Remove what writers that were killed left behind."""
    for name in folder.names():
        if name.startswith(TEMPORARY_PREFIX):
            with contextlib.suppress(SessionLogError):
                if folder.stat(name).st_mtime_ns < bound_ns:
                    folder.drop(name)
