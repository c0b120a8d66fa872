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

from session_log._errors import NotFound, SessionLogError, StoreUnavailable
from session_log._facts_file import FACTS_NAME
from session_log._file_store import FsStore
from session_log._ids import parse_id
from session_log._layout import SEGMENT_SUFFIX
from session_log._segment_overview import SegmentOverview, read_segment_overview, unknown_segment
from session_log._store import Store
from session_log.facts import active_segment, read_facts

__all__ = [
    "FILE_TIME_SLACK_MS",
    "RecentOverviews",
    "SegmentOverview",
    "SessionOverview",
    "read_overview",
    "read_segment_overview",
    "recent_sessions",
    "unknown_segment",
]

FILE_TIME_SLACK_MS: Final = 2_000
"""How far a file's time may lag behind the clock that its last line was stamped with: file systems count in steps."""
_FACTS_FILE: Final = f"{FACTS_NAME}{SEGMENT_SUFFIX}"


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
