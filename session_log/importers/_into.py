"""The segments of an import into a store: all of a session, or nothing that could be taken for one.

The ids are made of the source's own, so that whoever imports the same source makes the same session. The first segment
is created last: without it, nothing of a session can be restored, and the next import goes on with what is there. What
a source that has grown adds is announced in the first segment, so that an update that was cut short is completed, too.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final

from session_log import MAX_BATCH_BYTES, MAX_BATCH_LINES, CallerError, FsStore, NotFound, SegmentExists, Store
from session_log import StoreUnavailable as Unavailable
from session_log.importers._shapes import LATEST_MS

EARLIEST_MS: Final = 1_577_836_800_000
"""2020-01-01: the time in the ids of sessions that do not say when they were; before it, nobody recorded agents."""
_MARKS: Final = re.compile(rb',"batch":\d+}$')


class AlreadyImported(CallerError):
    """The source was imported before, as ``session_id``; nothing was written."""

    def __init__(self, where: str, source_id: str, session_id: str) -> None:
        remedy = 'on_existing="update" adds what is new in it, "new" makes another session'
        super().__init__(f"{where}: {source_id!r:.200} is session {session_id} already; {remedy}")
        self.where = where
        self.source_id = source_id
        self.session_id = session_id


class SourceChanged(CallerError):
    """What was imported before is not the beginning of the source any more, or not that of its session."""

    def __init__(self, where: str, session_id: str, reason: str) -> None:
        super().__init__(f'{where}: {reason}, so session {session_id} cannot go on; import it with on_existing="new"')
        self.where = where
        self.session_id = session_id
        self.reason = reason


class Ids:
    """The ids of a session and its segments, made of the source's own; UUIDs of version 7, in the order of time."""

    def __init__(self, fmt: str, source_id: str, attempt: int, ts: int | None) -> None:
        self._seed = f"{fmt}\0{source_id}\0{attempt}".encode("utf-8", "surrogatepass")
        self._ms = min(max(ts or EARLIEST_MS, EARLIEST_MS), LATEST_MS)
        self.session_id = self._id(0)

    def segment_id(self, index: int) -> str:
        """Return the id of a segment; each is greater than those before it."""
        return self._id(index + 1)

    def _id(self, number: int) -> str:
        digest = int.from_bytes(sha256(self._seed + b"\0%d" % number).digest()[:16])
        value = (self._ms + number) << 80 | 0x7 << 76 | (digest >> 116) << 64 | 0x2 << 62 | digest & ((1 << 62) - 1)
        text = f"{value:032x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def missing(store: Store, ids: Ids, index: int, lines: list[bytes]) -> int | None:
    """Return how many of the planned lines a segment has; None if it has others.

    A segment that somebody went on with has all of them, and more.
    """
    session_id, segment_id = ids.session_id, ids.segment_id(index)
    if not store.exists(session_id, segment_id):
        return 0
    at = 0
    for at, line in enumerate(store.read(session_id, segment_id), 1):
        if at > len(lines):
            return len(lines)
        if line != lines[at - 1] and _MARKS.sub(b"}", line) != lines[at - 1]:
            return None
    return at


def write(store: Store, ids: Ids, plan: list[list[bytes]], step: Callable[[], None]) -> int | None:
    """Write what a store lacks of the planned segments, the first one last; return how many lines that was.

    None: something else stands there, and nothing was written.
    """
    there = [missing(store, ids, index, lines) for index, lines in enumerate(plan)]
    if None in there:
        return None
    added = 0
    first_too = bool(plan) and there[0]  # it exists, and announces what is new before it is written
    order = range(len(plan)) if first_too else [*range(1, len(plan)), 0]
    for index in order:
        have = there[index] or 0
        lines = plan[index]
        if not have:
            _create(store, ids, index, lines)
        elif have < len(lines):
            _append(store, ids, index, lines, have)
        added += len(lines) - have
        step()
    return added


def _create(store: Store, ids: Ids, index: int, lines: list[bytes]) -> None:
    try:
        store.create_segment(ids.session_id, ids.segment_id(index), lines)
    except SegmentExists:
        if missing(store, ids, index, lines) != len(lines):
            raise  # of another import of the same source, just now, that saw less of it


def _append(store: Store, ids: Ids, index: int, lines: list[bytes], have: int) -> None:
    while have < len(lines):
        stop, size = have, 0
        while stop < len(lines) and stop - have < MAX_BATCH_LINES and size + len(lines[stop]) < MAX_BATCH_BYTES:
            size += len(lines[stop]) + 1
            stop += 1
        store.append(ids.session_id, ids.segment_id(index), lines[have:stop], expected=have)
        have = stop


def discard(store: Store, ids: Ids) -> None:
    """Move what an import left that was cut short to the trash."""
    with contextlib.suppress(NotFound):
        store.delete_session(ids.session_id)


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Keep other imports out of a store of files until the block ends, or the process does.

    Raises:
        StoreUnavailable: the root cannot be made or locked.
    """
    if not isinstance(store, FsStore):
        yield
        return
    try:
        os.makedirs(store.root, mode=0o700, exist_ok=True)
        fd = os.open(store.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise Unavailable(str(store.root), exc.strerror or str(exc)) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
