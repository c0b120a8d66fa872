"""What the feed would say of a session, read from the session itself: first lines, last run ends, facts."""

import os
from typing import Any, Final, NamedTuple

import msgspec

from session_log import _layout
from session_log._committed import OpenFile, committed_end, read_span
from session_log._errors import NotFound, StorageError, UnsupportedVersion
from session_log._facts_file import scan
from session_log._feed import FeedEvent, Gap, decode_feed_line, fact_lines, last_run_end, line_of, start_kind, ts_of
from session_log._file_store import FsStore
from session_log._store import Store

_STEP_BYTES: Final = 1 << 16
_MAX_STEP_BYTES: Final = 1 << 22
_OVERLAP_BYTES: Final = 256
"""How much of a line that ends a run is needed to see that it does, and when."""


class Scanned(NamedTuple):
    """What a session shows, the oldest first, and whether something of it cannot be read."""

    events: list[FeedEvent]
    damaged: bool


def scan_session(store: Store, session_id: str) -> Scanned:
    """Return the start and the last run end of each segment, and the last changes of title and archive.

    A session that is not there shows nothing.
    """
    events: list[FeedEvent] = []
    damaged = False
    try:
        for segment_id in reversed(store.list_segments(session_id)):
            try:
                events += _of_segment(store, session_id, segment_id)
            except NotFound:
                continue
            except StorageError:
                damaged = True
        if events and isinstance(store, FsStore):
            events += _of_facts(store, session_id)
    except NotFound:
        pass
    except StorageError:
        damaged = True
    events.sort(key=lambda event: event.ts)
    return Scanned(events, damaged)


def first_line(path: str) -> bytes:
    """Return the first line of a file, however long it is, without its newline."""
    data = bytearray()
    with OpenFile(path) as file, _layout.reported(path):
        while piece := os.pread(file.fd, _STEP_BYTES, len(data)):
            data += piece
            if b"\n" in piece:
                break
    return bytes(data.partition(b"\n")[0])


def announce_return(store: FsStore, session_id: str, folder: str, segment_id: str | None = None) -> None:
    """Say that what is in a folder of the trash is about to be back: a feed made meanwhile does not know of it.

    The newest segment, or this one, stands for all of it, until :func:`announce_again` says more.
    """
    if store.feed is None:
        return
    names = [_layout.segment_name(segment_id)] if segment_id is not None else os.listdir(folder)
    found = [name[:36] for name in names if name[36:] == _layout.SEGMENT_SUFFIX and _layout.as_id(name[:36])]
    if found:
        newest = max(found)
        store.feed.announce_start(session_id, newest, first_line(f"{folder}/{_layout.segment_name(newest)}"))


def announce_again(store: FsStore, session_id: str, segment_id: str | None = None) -> None:
    """Say all that a session, or a segment of it, shows."""
    if store.feed is None:
        return
    for event in scan_session(store, session_id).events:
        if segment_id in {None, event.segment_id}:
            store.feed.write(line_of(event))


def _of_segment(store: Store, session_id: str, segment_id: str) -> list[FeedEvent]:
    first = next(iter(store.read(session_id, segment_id, 0, 1)), b"")
    start = FeedEvent(kind=start_kind(first), ts=ts_of(first) or 0, session_id=session_id, segment_id=segment_id)
    ts = _last_run_end(store, session_id, segment_id)
    return [start] if ts is None else [start, msgspec.structs.replace(start, kind="run_end", ts=ts)]


def _last_run_end(store: Store, session_id: str, segment_id: str) -> int | None:
    if isinstance(store, FsStore):
        with OpenFile(str(store.segment_path(session_id, segment_id))) as file, _layout.reported(file.path):
            return _last_in_file(file.fd)
    lines = list(store.read(session_id, segment_id))
    found = (ts_of(line) or 0 for line in reversed(lines) if last_run_end(line) == 0)
    return next(found, None)


def _last_in_file(fd: int) -> int | None:
    """Return the time of the last line that ends a run, of which nothing behind it is kept."""
    stop = end = committed_end(fd, os.fstat(fd).st_size)
    step = _STEP_BYTES
    while stop > 0:
        start = max(0, stop - step)
        data = read_span(fd, start, min(end, stop + _OVERLAP_BYTES))
        at = last_run_end(data)
        if at > 0 or (at == 0 and start == 0):  # at the beginning of a block it may stand within a line
            return ts_of(data, at) or 0
        stop, step = start, min(step * 4, _MAX_STEP_BYTES)
    return None


def _of_facts(store: FsStore, session_id: str) -> list[FeedEvent]:
    """Return the last change of the title and the last of the archive.

    Raises:
        CorruptSegment: there is damage.
    """
    last: dict[bool, FeedEvent] = {}
    archived = False
    try:
        found = scan(store, session_id, salvage=True)
    except (NotFound, UnsupportedVersion):
        return []
    for change in found.changes:
        for line in fact_lines(session_id, change.kind, change.ts, _texts(change.changes), archived=archived):
            event = decode_feed_line(line[:-1])
            if event is not None and not isinstance(event, Gap):
                last[event.kind == "rename"] = event
                archived = archived if event.kind == "rename" else event.kind == "archive"
    return list(last.values())


def _texts(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is None or isinstance(value, str)}
