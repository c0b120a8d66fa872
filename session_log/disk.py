"""Disk usage: what takes how much, by session, by kind of file, and by kind of entry.

>>> import tempfile
>>> from session_log import FsStore, SegmentWriter
>>> from session_log.disk import disk_usage
>>> store = FsStore(tempfile.mkdtemp())
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("6 × 7?")
>>> usage = disk_usage(store)
>>> usage.entries["user_input"].count, usage.files["segments"].bytes > 300
(1, True)

Bytes are those of the files' contents; what a file system adds is not known. A file with two names counts twice.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

import msgspec

from session_log import _layout, _trash
from session_log._atomic import TEMPORARY_PREFIX
from session_log._committed import OpenFile, blocks, committed_end
from session_log._errors import NotFound
from session_log._facts_file import FACTS_NAME, files_of
from session_log._ids import parse_id
from session_log._references import OnProgress, tell
from session_log._store import Store
from session_log.trash import files_in

_START: Final = b'{"kind":"'
_DAMAGED: Final = "?"
"""The kind of a line that has none."""


class Amount(msgspec.Struct, frozen=True, gc=False):
    """How many files or lines, and their bytes."""

    count: int
    bytes: int


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What takes how much.

    ``files`` by kind: ``segments``, ``traces``, ``facts``, ``torn``, ``damage``, ``temporary``, ``blobs``, ``keys``,
    ``pods``, ``trash``, ``feed``, ``other``. ``sessions`` by id: all their files. ``entries`` by kind: the committed
    lines of segments, ``?`` being those that are none; ``trace_entries`` likewise. What there is none of is left out.
    """

    files: dict[str, Amount]
    sessions: dict[str, Amount]
    entries: dict[str, Amount]
    trace_entries: dict[str, Amount]

    @property
    def total(self) -> Amount:
        """All files."""
        return Amount(sum(found.count for found in self.files.values()), sum(f.bytes for f in self.files.values()))


class _Kind(msgspec.Struct, frozen=True):
    kind: str = _DAMAGED


_decoder = msgspec.json.Decoder(_Kind)


class _Tally:
    """Sums by name."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}

    def add(self, name: str, size: int) -> None:
        """Count one more of a name."""
        found = self._sums.setdefault(name, [0, 0])
        found[0] += 1
        found[1] += size

    def amounts(self) -> dict[str, Amount]:
        """Return how many there are of each name, and their bytes, by name."""
        return {name: Amount(*found) for name, found in sorted(self._sums.items())}


def disk_usage(store: Store, session_id: str | None = None, *, progress: OnProgress | None = None) -> DiskUsage:
    """Return what the files below the root take, or those of one session alone. Lines are read, but not decoded.

    Raises:
        NotFound: there is no such session.
        CallerError: the store has no files.
    """
    files = files_of(store)
    root = str(files.root)
    kinds, sessions, entries, traces = _Tally(), _Tally(), _Tally(), _Tally()
    wanted = [parse_id(session_id)] if session_id is not None else files.list_sessions()
    for number, found in enumerate(wanted):
        tell(progress, number, len(wanted), f"reading {found}")
        folder = f"{root}/{found}"
        if session_id is not None:
            os.close(_layout.open_folder(folder))
        for path, known in files_in(folder):
            kind = _kind_of(os.path.basename(path))
            kinds.add(kind, known.st_size)
            sessions.add(found, known.st_size)
            if kind in ("segments", "traces"):
                _count(path, entries if kind == "segments" else traces)
    if session_id is None:
        for kind, size in _besides(root):
            kinds.add(kind, size)
    return DiskUsage(
        files=kinds.amounts(),
        sessions=sessions.amounts(),
        entries=entries.amounts(),
        trace_entries=traces.amounts(),
    )


def _kind_of(name: str) -> str:
    """Return what a file of a session is."""
    stem, _, suffix = name.partition(".")
    if stem == "" and (name.endswith(".tmp") or name.startswith(TEMPORARY_PREFIX)):
        return "temporary"
    if stem == FACTS_NAME and suffix == "jsonl":
        return "facts"
    if stem != FACTS_NAME and _layout.as_id(stem) is None:
        return "other"
    known = {"jsonl": "segments", "trace.jsonl": "traces", "torn": "torn", "trace.torn": "torn", "damage": "damage"}
    return known.get(suffix, "other")


def _besides(root: str) -> Iterator[tuple[str, int]]:
    """Yield the kind and size of every file that is of no session."""
    for path, known in files_in(root):
        yield "feed" if os.path.basename(path).startswith("feed.") else "other", known.st_size
    for name, kind in (("blobs", "blobs"), ("keys", "keys"), ("pods", "pods"), (_trash.TRASH, "trash")):
        yield from ((kind, size) for size in _below(f"{root}/{name}"))
    if not _layout.is_folder(root):
        return
    with _layout.reported(root), os.scandir(root) as found:
        drafts = [e.path for e in found if e.name.endswith(".tmp") and e.is_dir(follow_symlinks=False)]
    for draft in drafts:
        yield from (("temporary", size) for size in _below(draft))


def _below(folder: str) -> Iterator[int]:
    """Yield the sizes of all files below a folder; no symlink is followed."""
    for _, known in files_in(folder):
        yield known.st_size
    if not _layout.is_folder(folder):
        return
    with _layout.reported(folder), os.scandir(folder) as found:
        folders = [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
    for path in folders:
        yield from _below(path)


def _count(path: str, tally: _Tally) -> None:
    """Add the lines of a file by kind: of most lines it stands at the beginning."""
    with contextlib.suppress(NotFound):
        file = OpenFile(path)
        with _layout.reported(path):
            end = committed_end(file.fd, os.fstat(file.fd).st_size)
        for block in blocks(file, 0, end, None):
            for line in block[:-1].split(b"\n"):
                if line.startswith(_START) and (stop := line.find(b'"', len(_START))) > 0:
                    tally.add(line[len(_START) : stop].decode(errors="replace"), len(line) + 1)
                elif line.strip():
                    tally.add(_slowly(line), len(line) + 1)


def _slowly(line: bytes) -> str:
    try:
        return _decoder.decode(line).kind
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _DAMAGED
