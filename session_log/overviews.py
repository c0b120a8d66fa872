"""Overviews: what a list of sessions says of each, from first and last lines, never from whole files.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.overviews import read_overview
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_invoke()
...     _ = writer.save_user_input("hello")
>>> overview = read_overview(store, writer.session_id)
>>> (overview.turns, overview.run_open, len(overview.segments))
(0, True, 1)
"""

import heapq
import math
import os
from collections.abc import Iterator
from typing import Final

import msgspec

from session_log import _entries as e
from session_log._codec import decode_line, ts_of
from session_log._entries import Extension, Invoke, LogEntry, RunCompleted, RunErrored, SegmentStart, TurnEnd
from session_log._errors import CorruptSegment, InvalidEntry, NotFound, SessionLogError, StoreUnavailable
from session_log._facts_file import FACTS_NAME
from session_log._file_store import FsStore
from session_log._fold import turns_before
from session_log._ids import parse_id
from session_log._layout import SEGMENT_SUFFIX
from session_log._lineage import inherits
from session_log._owner import living_owner
from session_log._reader import read_start, where
from session_log._session import restore
from session_log._store import Store
from session_log._tree import MAX_FORK_DEPTH
from session_log.facts import active_segment, read_facts

_TELLING: Final = tuple(
    b'{"kind":"%b"' % kind
    for kind in (b"turn_end", b"run_completed", b"run_errored", b"invoke", b"segment_start", b"extension")
)
"""How the lines begin that say how many turns there are, and whether a run is open."""


LOOK_BACK_BYTES: Final = 1 << 18
"""How far from the end a run is looked for once a turn was found: who records no runs has no open one."""


FILE_TIME_SLACK_MS: Final = 2_000
"""How far a file's time may lag behind the clock that its last line was stamped with: file systems count in steps."""
_FACTS_FILE: Final = f"{FACTS_NAME}{SEGMENT_SUFFIX}"


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


class SessionOverview(msgspec.Struct, frozen=True, kw_only=True):
    """A session: its facts, and its active segment. ``damage`` says why some of it could not be told.

    ``status`` is what its facts say; but ``running`` while a process holds it, and ``interrupted`` where a run was left
    open and the facts do not say that it is running.
    """

    session_id: str
    segment_id: str
    segments: tuple[str, ...]
    title: str | None
    labels: tuple[str, ...]
    status: str
    turns: int
    size_bytes: int
    created_ts: int
    last_ts: int
    run_open: bool
    held_by: str | None = None
    damage: str | None = None


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


def read_overview(store: Store, session_id: str) -> SessionOverview:
    """Return the overview of a session. What is damaged of it is said in ``damage``.

    Raises:
        NotFound: there is no such session.
    """
    session_id = parse_id(session_id)
    try:
        segments = tuple(store.list_segments(session_id))
    except StoreUnavailable as exc:  # the folder of another user, for one; the others are no worse for it
        return _unreadable(session_id, str(exc))
    if not segments:
        raise NotFound(f"session {session_id}", "no segment in it")
    facts, active, damage = None, segments[0], None
    if isinstance(store, FsStore):
        try:
            facts = read_facts(store, session_id, salvage=True)
            active = active_segment(store, session_id)
        except SessionLogError as exc:
            damage = str(exc)
        if active not in segments:
            active = segments[0]
    try:
        found = read_segment_overview(store, session_id, active)
    except SessionLogError as exc:
        damage = str(exc)
        found = unknown_segment(session_id, active)
    said = facts.status if facts is not None else "idle"
    return SessionOverview(
        session_id=session_id,
        segment_id=active,
        segments=segments,
        title=facts.title if facts is not None else None,
        labels=facts.labels if facts is not None else (),
        status=_status(said, found, damage),
        turns=found.turns,
        size_bytes=_size(store, session_id, segments),
        created_ts=facts.created_ts if facts is not None and facts.created_ts else found.created_ts,
        last_ts=max(found.last_ts, facts.updated_ts if facts is not None else 0),
        run_open=found.run_open,
        held_by=found.held_by,
        damage=damage,
    )


def unknown_segment(session_id: str, segment_id: str) -> SegmentOverview:
    """Return the overview of a segment of which nothing can be told."""
    return SegmentOverview(
        session_id=session_id, segment_id=segment_id, turns=0, size_bytes=0, created_ts=0, last_ts=0, run_open=False
    )


def _unreadable(session_id: str, damage: str) -> SessionOverview:
    return SessionOverview(
        session_id=session_id,
        segment_id="",
        segments=(),
        title=None,
        labels=(),
        status="damaged",
        turns=0,
        size_bytes=0,
        created_ts=0,
        last_ts=0,
        run_open=False,
        damage=damage,
    )


def _status(said: str, found: SegmentOverview, damage: str | None) -> str:
    if damage is not None:
        return "damaged"
    if said == "archived":
        return said
    if found.held_by is not None:
        return "running"
    return "interrupted" if found.run_open and said != "running" else said


def _size(store: Store, session_id: str, segments: tuple[str, ...]) -> int:
    if not isinstance(store, FsStore):
        return 0
    size = 0
    for segment_id in segments:
        try:
            size += os.stat(store.segment_path(session_id, segment_id), follow_symlinks=False).st_size
        except FileNotFoundError:
            continue  # taken away since it was listed
    return size


class RecentOverviews(msgspec.Struct, frozen=True, kw_only=True):
    """Overviews, newest activity first; a collection of them.

    ``reason``: why the feed was of no use and every session was read; None: it was of use.
    """

    overviews: tuple[SessionOverview, ...]
    reason: str | None = None

    def __iter__(self) -> Iterator[SessionOverview]:
        return iter(self.overviews)

    def __len__(self) -> int:
        return len(self.overviews)

    def __getitem__(self, at: int) -> SessionOverview:
        return self.overviews[at]


def recent_sessions(
    store: Store,
    limit: int | None = None,
    *,
    statuses: frozenset[str] = frozenset(),
    labels: frozenset[str] = frozenset(),
    since: int | None = None,
    until: int | None = None,
) -> RecentOverviews:
    """Return the overviews of the sessions with the newest activity, newest first, those that match.

    ``statuses``: one of them; ``labels``: all of them; ``since`` and ``until``: milliseconds of the last activity.

    Only sessions that may be among them are read: none was active after both the last time that the feed tells of it
    and the times of its files. (The feed does not tell of a run that is open; a file's time never counts for more
    than that a session is worth a look.)
    """
    bounds, reason = _bounds(store)
    found: list[SessionOverview] = []
    newest: list[int] = []
    for bound, session_id in bounds:
        if since is not None and bound < since:
            break
        if limit is not None and len(newest) >= limit and (not newest or newest[0] > bound):
            break
        try:
            overview = read_overview(store, session_id)
        except NotFound:
            continue
        if (
            (not statuses or overview.status in statuses)
            and labels <= set(overview.labels)
            and (since is None or overview.last_ts >= since)
            and (until is None or overview.last_ts <= until)
        ):
            found.append(overview)
            heapq.heappush(newest, overview.last_ts)
            if limit is not None and len(newest) > limit:
                heapq.heappop(newest)
    found.sort(key=lambda overview: (overview.last_ts, overview.session_id), reverse=True)
    return RecentOverviews(overviews=tuple(found[:limit]), reason=reason)


def _bounds(store: Store) -> tuple[list[tuple[float, str]], str | None]:
    """Return each session with a time after which it was not active, the latest first; why nobody knows, if so."""
    from session_log.feed import known_sessions  # slow to import, for who looks at one session

    known = known_sessions(store)
    if known.reason is not None or not isinstance(store, FsStore):
        return [(math.inf, session_id) for session_id in store.list_sessions()], known.reason
    bounds: list[tuple[float, str]] = []
    for session_id in store.list_sessions():
        told = known.sessions.get(session_id)
        if told is None:  # placed here by hand, or by who writes no feed
            bounds.append((math.inf, session_id))
            continue
        names = [f"{segment_id}{SEGMENT_SUFFIX}" for segment_id in told.segments]
        changed = _changed_ms(f"{store.root}/{session_id}", [_FACTS_FILE, *names])
        bounds.append((max(told.ts, changed + FILE_TIME_SLACK_MS), session_id))
    return sorted(bounds, reverse=True), None


def _changed_ms(folder: str, names: list[str]) -> int:
    """Return when one of these files was changed last; 0 if none is there."""
    newest = 0
    for name in names:
        try:
            newest = max(newest, os.stat(f"{folder}/{name}", follow_symlinks=False).st_mtime_ns)
        except OSError:
            continue  # gone, or announced and never made
    return newest // 1_000_000
