"""What the first and last lines of a segment tell of it; what is between is not read."""

import os
from collections.abc import Iterator
from typing import Final

import msgspec

from session_log import _entries as e
from session_log._codec import decode_line, ts_of
from session_log._entries import Extension, Invoke, LogEntry, RunCompleted, RunErrored, SegmentStart, TurnEnd
from session_log._errors import CorruptSegment, InvalidEntry
from session_log._file_store import FsStore
from session_log._fold import turns_before
from session_log._ids import parse_id
from session_log._lineage import inherits
from session_log._owner import living_owner
from session_log._reader import read_start, where
from session_log._session import restore
from session_log._store import Store
from session_log._tree import MAX_FORK_DEPTH

_TELLING: Final = tuple(
    b'{"kind":"%b"' % kind
    for kind in (b"turn_end", b"run_completed", b"run_errored", b"invoke", b"segment_start", b"extension")
)
"""How the lines begin that say how many turns there are, and whether a run is open."""


LOOK_BACK_BYTES: Final = 1 << 18
"""How far from the end a run is looked for once a turn was found: who records no runs has no open one."""


class SegmentOverview(msgspec.Struct, frozen=True, kw_only=True):
    """A segment, as its first and last lines tell of it.

    ``turns`` includes those before it. ``run_open``: the last run did not come to its end: it goes on, or was
    interrupted. ``held_by`` says which living process holds it exclusively. Times are milliseconds, UTC.
    """

    session_id: str
    segment_id: str
    turns: int
    size_bytes: int
    created_ts: int
    last_ts: int
    run_open: bool
    held_by: str | None = None


def read_segment_overview(store: Store, session_id: str, segment_id: str) -> SegmentOverview:
    """Read the first line of a segment, and as many of its last as it takes to find the end of a turn.

    Raises:
        NotFound: there is no such segment.
        CorruptSegment: a line that was looked at is no entry.
        UnsupportedVersion: a later version wrote it.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    start = read_start(store, session_id, segment_id)
    path = where(store, session_id, segment_id)
    last_ts, turns, run_open = start.ts, None, None
    seen = 0
    for at, line in enumerate(_lines_back(store, session_id, segment_id)):
        if turns is not None and (run_open is not None or seen > LOOK_BACK_BYTES):
            break
        seen += len(line) + 1
        if at == 0 or line.startswith(_TELLING) or not line.startswith(b'{"kind"'):
            entry = _entry(line, path)
            last_ts = max(last_ts, ts_of(entry)) if at == 0 else last_ts
            match entry:
                case TurnEnd(turn_count=count) if turns is None:
                    turns = count
                case RunCompleted(interrupted=value) | RunErrored(interrupted=value) if run_open is None:
                    run_open = value
                case Invoke() if run_open is None:
                    run_open = True
                case Extension(domain=e.ROLLBACK_DOMAIN):
                    state = restore(store, session_id, segment_id)  # what counts is not what stands last
                    turns, run_open = state.turn_count, state.last_run_interrupted
                case SegmentStart(carried=carried) if run_open is None and not inherits(entry):
                    run_open = carried is not None and carried.interrupted
    size, held_by = 0, None
    if isinstance(store, FsStore):
        size = os.stat(path, follow_symlinks=False).st_size
        owner = living_owner(path)
        held_by = str(owner) if owner is not None else None
    return SegmentOverview(
        session_id=session_id,
        segment_id=segment_id,
        turns=turns if turns is not None else turns_before(start),
        size_bytes=size,
        created_ts=start.ts,
        last_ts=last_ts,
        run_open=bool(run_open),
        held_by=held_by,
    )


def _entry(line: bytes, path: str) -> LogEntry | None:
    try:
        return decode_line(line) if line.strip() else None
    except InvalidEntry as exc:
        raise CorruptSegment(path, 0, 0, str(exc)) from None


def _lines_back(store: Store, session_id: str, segment_id: str) -> Iterator[bytes]:
    """Yield the lines of a segment, last first, and go on in those that it inherits."""
    span: tuple[int | None, int | None] = None, None
    for _ in range(MAX_FORK_DEPTH + 1):
        if isinstance(store, FsStore):
            yield from store.lines_back(session_id, segment_id, span[1])
        else:
            yield from reversed(list(store.read(session_id, segment_id, 0, span[0])))
        origin = read_start(store, session_id, segment_id).forked_from
        if origin is None or origin.entries is None:
            return
        segment_id, span = parse_id(origin.segment_id), (origin.entries, origin.byte_offset)


def unknown_segment(session_id: str, segment_id: str) -> SegmentOverview:
    """Return the overview of a segment of which nothing can be told."""
    return SegmentOverview(
        session_id=session_id, segment_id=segment_id, turns=0, size_bytes=0, created_ts=0, last_ts=0, run_open=False
    )
