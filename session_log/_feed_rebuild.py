"""Making the feed anew from the sessions, while others go on writing into the old one.

A line comes before what it announces: what the old feed said last, and the scan did not see, is kept. What it says from
the beginning of the scan on is carried over when the new one has taken its place; who writes into the old one even
later notices (:mod:`session_log._feed_file`). Until all is carried over the new feed says that it is not whole, so
whoever is killed in between leaves a feed that readers do not trust.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

import msgspec

from session_log import _layout, _repair
from session_log._at_fork import parent_locks
from session_log._clock import now_ms
from session_log._committed import read_span
from session_log._errors import StoreUnavailable
from session_log._feed import (
    GAP,
    STARTS,
    FeedEvent,
    Gap,
    decode_feed_line,
    line_of,
    replacing_header_line,
)
from session_log._feed_file import feed_path, open_feed
from session_log._feed_scan import scan_session
from session_log._file_store import FsStore

Progress = Callable[[int, int], None]
_TAIL_BYTES: Final = 1 << 16
_IN_FLIGHT_BYTES: Final = 1 << 20
"""How far back in the old feed a line may be of something that has not happened yet: seven thousand lines."""
_CREATED: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL


class FeedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`session_log.feed.reindex` found: how many sessions, and how many lines it wrote of them.

    ``carried``: how many lines others wrote meanwhile; ``damaged``: sessions that are not all readable.
    """

    sessions: int
    lines: int
    carried: int
    damaged: tuple[str, ...]


def rebuild(store: FsStore, progress: Progress | None) -> FeedReport:
    """Put a new feed into the place of the old one.

    Raises:
        StoreUnavailable: it cannot be written; the old one is in its place.
    """
    root = str(store.root)
    path = feed_path(root)
    with _layout.reported(path):
        _layout.make_parents(root, durable=False)
        old = _locked(root)
        try:
            since = _line_end(old)
            found = _Found()
            found.scan(store, progress)
            found.add_announced(old, since)
            return _replace(root, old, since, found)
        finally:
            try:
                parent_locks.discard(old)
            finally:
                os.close(old)  # which frees the lock


class _Found:
    """What the sessions show."""

    def __init__(self) -> None:
        self.events: list[FeedEvent] = []
        self.damaged: list[str] = []
        self.sessions = 0

    def scan(self, store: FsStore, progress: Progress | None) -> None:
        """Gather the events of every session, oldest first."""
        session_ids = store.list_sessions()
        for done, session_id in enumerate(reversed(session_ids), 1):
            scanned = scan_session(store, session_id)
            self.events += scanned.events
            self.sessions += bool(scanned.events)
            if scanned.damaged:
                self.damaged.append(session_id)
            if progress is not None:
                progress(done, len(session_ids))

    def add_announced(self, old: int, since: int) -> None:
        """Add what the old feed announced and the scan did not see: it may have happened just behind its look."""
        shown = {_what(event): event.ts for event in self.events}
        seen: set[tuple[str | None, ...]] = set()
        start = max(0, since - _IN_FLIGHT_BYTES)
        for line in reversed(read_span(old, start, since).split(b"\n")[bool(start) : -1]):
            event = decode_feed_line(line)
            if not isinstance(event, FeedEvent) or (event.session_id,) in seen or _what(event) in seen:
                continue
            # of each the last line counts; behind a delete nothing that was said of the session before
            seen.add((event.session_id,) if event.kind == "delete" else _what(event))
            if event.kind != "delete" and event.ts > shown.get(_what(event), -1):
                self.events.append(event)
        self.events.sort(key=lambda event: event.ts)


def _what(event: FeedEvent) -> tuple[str | None, ...]:
    """Return what an event is the last of."""
    of = "start" if event.kind in STARTS else "archive" if event.kind == "unarchive" else event.kind
    return event.session_id, event.segment_id, of


def _locked(root: str) -> int:
    """Return a descriptor of the feed, under a lock that keeps other rebuilders, and nobody else, out."""
    while True:
        fd = open_feed(root)
        kept = False
        try:
            parent_locks.add(fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            found = os.fstat(fd)
            with contextlib.suppress(FileNotFoundError):
                named = os.lstat(feed_path(root))
                kept = (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino)
            if kept:
                return fd
        except BaseException:
            kept = False
            raise
        finally:
            if not kept:
                parent_locks.discard(fd)
                os.close(fd)


def _line_end(fd: int) -> int:
    """Return where the last whole line ends."""
    size = os.fstat(fd).st_size
    start = max(0, size - _TAIL_BYTES)
    return start + read_span(fd, start, size).rfind(b"\n") + 1


def _replace(root: str, old: int, since: int, found: _Found) -> FeedReport:
    path, temporary = feed_path(root), f"{root}/.{os.urandom(8).hex()}.tmp"
    rebuilt = b"".join(map(line_of, found.events))
    identity = os.fstat(old)
    replaced = identity.st_dev, identity.st_ino
    carried_at = len(replacing_header_line(0, replaced, 0, 0, whole=False)) + len(rebuilt)
    head = partial(replacing_header_line, now_ms(), replaced, since, carried_at)
    try:
        with _opened(temporary, _CREATED) as fd, _opened(temporary, os.O_WRONLY | os.O_APPEND) as end:
            # From its first moment at the path it is locked: the next rebuilder waits until all is carried over.
            parent_locks.add(fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            _repair.write_all(fd, head(whole=False) + rebuilt)
            os.fsync(fd)
            os.rename(temporary, path)
            carried = _carry(old, since, end)
            os.pwrite(fd, head(whole=True), 0)
    finally:
        with contextlib.suppress(OSError):  # gone, when it was moved
            os.unlink(temporary)
    return FeedReport(sessions=found.sessions, lines=len(found.events), carried=carried, damaged=tuple(found.damaged))


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        try:
            parent_locks.discard(fd)
        finally:
            os.close(fd)


def _carry(old: int, since: int, new: int) -> int:
    """Copy the whole lines of the old feed behind ``since``, and return how many.

    Of what is damaged there it stays known that something is missing.
    """
    size = os.fstat(old).st_size
    data = read_span(old, since, size)
    data = data[: data.rfind(b"\n") + 1]
    lines = [*_sound(data[:-1].split(b"\n") if data else ())]
    for line in lines:  # one by one: others append to the new one, too
        _write_line(new, line)
    return len(lines)


def _sound(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        if isinstance(decode_feed_line(line), Gap):
            yield GAP % now_ms()
        elif line.strip():
            yield line + b"\n"


def _write_line(fd: int, line: bytes) -> None:
    if os.write(fd, line) != len(line):
        raise StoreUnavailable("the new feed", "a line could be written only in part")
