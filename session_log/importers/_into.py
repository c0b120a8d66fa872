"""The segments of an import into a store: all of a session, or nothing that could be taken for one.

The ids are made of the source's own, so that whoever imports the same source makes the same session. The first segment
is created last: without it, nothing of a session can be restored, and the next import goes on with what is there. What
a source that has grown adds is announced in the first segment, so that an update that was cut short is completed, too.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

import msgspec

from session_log import (
    MAX_BATCH_BYTES,
    MAX_BATCH_LINES,
    CallerError,
    FsStore,
    NotFound,
    SegmentExists,
    SegmentOrigin,
    Store,
    decode_line,
    encode_line,
)
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


class Planned(msgspec.Struct, frozen=True):
    """The lines of a segment; of a fork by reference, also of which one, and how many of that one's lines."""

    lines: list[bytes]
    parent: int | None = None
    inherited: int = 0


class Target:
    """The segments of one session in a store, as they are planned and as they are."""

    def __init__(self, store: Store, ids: Ids, plan: list[Planned]) -> None:
        self._store = store
        self._ids = ids
        self._plan = plan
        self._stored: dict[int, list[bytes]] = {}

    def have(self) -> list[int] | None:
        """Return how many of its planned lines each segment has; None if one of them has others.

        A segment that somebody went on with has all of them, and more.
        """
        found = [self._have(index) for index in range(len(self._plan))]
        return None if any(have is None for have in found) else [have or 0 for have in found]

    def whole(self, have: list[int]) -> bool:
        """Tell whether nothing is missing."""
        return have == [len(planned.lines) for planned in self._plan]

    def write(self) -> int | None:
        """Write what is missing, and return how many lines that was; None, if there are others: nothing was written.

        The first segment is created last; if it exists, it comes first, for it announces what is new.
        """
        self._stored.clear()  # another process may have written since
        have = self.have()
        if have is None:
            return None
        indexes = range(len(self._plan))
        for index in indexes if have[0] else [*indexes[1:], 0]:
            if not have[index]:
                self._create(index)
            elif have[index] < len(self._plan[index].lines):
                self._append(index, have[index])
        return sum(len(planned.lines) for planned in self._plan) - sum(have)

    def _read(self, index: int) -> list[bytes]:
        """Return the lines of a segment as they are, read once until it is written."""
        if index not in self._stored:
            self._stored[index] = list(self._store.read(self._ids.session_id, self._ids.segment_id(index)))
        return self._stored[index]

    def _exists(self, index: int) -> bool:
        return self._store.exists(self._ids.session_id, self._ids.segment_id(index))

    def _have(self, index: int) -> int | None:
        if not self._exists(index):
            return 0
        lines, at = [self._start(index), *self._plan[index].lines[1:]], 0
        for at, line in enumerate(self._read(index), 1):
            if at > len(lines):
                return len(lines)
            if line != lines[at - 1] and _MARKS.sub(b"}", line) != lines[at - 1]:
                return None
        return at

    def _start(self, index: int) -> bytes:
        """Return the first line of a segment, which refers to the lines of its parent as they are, with marks."""
        planned = self._plan[index]
        line = planned.lines[0]
        if planned.parent is None or not self._exists(planned.parent):
            return line
        above = self._read(planned.parent)[: planned.inherited]
        if len(above) < planned.inherited or above == self._plan[planned.parent].lines[: planned.inherited]:
            return line
        start: Any = decode_line(line)
        size = sum(len(one) + 1 for one in above)
        origin = start.forked_from
        origin = SegmentOrigin(origin.segment_id, origin.at_turn_index, len(above), size, sha256(above[-1]).hexdigest())
        return encode_line(msgspec.structs.replace(start, forked_from=origin))

    def _create(self, index: int) -> None:
        lines = [self._start(index), *self._plan[index].lines[1:]]
        parent = self._plan[index].parent
        settle = getattr(self._store, "settle", None)
        if parent is not None and settle is not None and self._exists(parent):
            # a reference must not survive a power cut that what it refers to does not
            settle(self._ids.session_id, self._ids.segment_id(parent))
        try:
            self._store.create_segment(self._ids.session_id, self._ids.segment_id(index), lines)
        except SegmentExists:
            if self._have(index) != len(lines):
                raise  # of another import of the same source, just now, that saw less of it

    def _append(self, index: int, have: int) -> None:
        self._stored.pop(index, None)
        lines = self._plan[index].lines
        while have < len(lines):
            stop, size = have, 0
            while stop < len(lines) and stop - have < MAX_BATCH_LINES and size + len(lines[stop]) < MAX_BATCH_BYTES:
                size += len(lines[stop]) + 1
                stop += 1
            self._store.append(self._ids.session_id, self._ids.segment_id(index), lines[have:stop], expected=have)
            have = stop


def was_deleted(store: Store, session_id: str) -> bool:
    """Tell whether the store says that a session of this id was deleted."""
    asked = getattr(store, "was_deleted", None)
    return asked is not None and bool(asked(session_id))


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
