"""The feed: which sessions changed last, over the whole root, without a look at each.

``{root}/feed.jsonl`` has a short line for each start of a segment (create, fork, compact), run end, change of title,
archive and delete, newest last. An :class:`~session_log.FsStore` writes it unless told not to (``feed=False``), each
line just before what it announces. It is derived: whoever deletes it, or does not trust it, makes it again with
:func:`reindex`. Lines of a conversation other than those that end a run are not in it: follow the segment for them.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from typing import Final

import msgspec

from session_log._errors import CallerError, NotFound, UnsafePath
from session_log._facts import STATUSES
from session_log._facts_file import files_of
from session_log._feed import FEED_VERSION, FeedEvent, FeedKind, Gap
from session_log._feed_reader import FeedReader
from session_log._feed_rebuild import FeedReport, Progress, rebuild
from session_log._feed_scan import scan_session
from session_log._feed_watch import FeedFollower
from session_log._file_store import FsStore
from session_log._frame import check_counts
from session_log._layout import SEGMENT_SUFFIX, is_folder
from session_log._store import Store
from session_log.facts import read_facts

__all__ = [
    "FeedEvent",
    "FeedKind",
    "FeedReport",
    "KnownSession",
    "KnownSessions",
    "RecentSession",
    "RecentSessions",
    "known_sessions",
    "recent_sessions",
    "reindex",
    "watch",
]

_MENDS: Final = "session_log.feed.reindex mends it"


class RecentSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session and what was done to it last: ``kind`` at ``ts``, in ``segment_id`` if it concerned one."""

    session_id: str
    segment_id: str | None
    ts: int
    kind: FeedKind


class RecentSessions(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions that were active last, the latest first; a collection of them.

    ``reason``: why the feed was of no use and every session was read, in order of ``ts``; None: it was of use.
    """

    sessions: tuple[RecentSession, ...]
    reason: str | None = None

    @property
    def scanned(self) -> bool:
        """Tell whether every session was read."""
        return self.reason is not None

    def __iter__(self) -> Iterator[RecentSession]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)


class KnownSession(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed tells of a session: the latest time, and its segments, which may be gone, or never came to be."""

    ts: int
    segments: frozenset[str]


class KnownSessions(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed tells of all sessions, by id; nothing, if it was of no use, with the ``reason``."""

    sessions: dict[str, KnownSession]
    reason: str | None = None


class _Useless(Exception):
    """The feed is missing, or does not say all."""


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; facts are read only of sessions that are asked about."""

    store: Store
    status: str | None
    labels: frozenset[str]
    before: int | None

    def fits(self, event: FeedEvent) -> bool:
        """Tell whether the session of an event is asked for."""
        if self.before is not None and event.ts >= self.before:
            return False
        if self.status is None and not self.labels:
            return True
        try:
            facts = read_facts(self.store, event.session_id, salvage=True)
        except NotFound:
            return False
        return self.status in {None, facts.status} and self.labels.issubset(facts.labels)


def recent_sessions(
    store: Store,
    limit: int = 20,
    *,
    status: str | None = None,
    labels: Collection[str] = (),
    before: int | None = None,
) -> RecentSessions:
    """Return the sessions that were active last, at most ``limit``; deleted ones are not shown.

    ``status`` and ``labels`` (all of them) are those of the session's facts; ``before``: of those whose last activity
    was before this time in milliseconds. Activity is what the feed tells, in its order, and never a file's time. A feed
    that is missing, damaged, or began after the first session is not trusted: every session is read, and ``reason``
    says so. A store without a feed is always read so. Writes nothing.

    Raises:
        CallerError: ``status`` is none, or one is asked for and the store keeps no facts.
    """
    check_counts(limit=limit, before=before)
    if status is not None and status not in STATUSES:
        raise CallerError(f"status={status!r:.100}: is none of {', '.join(STATUSES)}")
    if isinstance(labels, str):
        raise CallerError(f"labels={labels!r:.100}: is one text; give a list of them")
    if status is not None or labels:
        files_of(store)
    wanted = _Wanted(store=store, status=status, labels=frozenset(labels), before=before)
    try:
        return RecentSessions(sessions=_by_feed(store, limit, wanted))
    except _Useless as exc:
        return RecentSessions(sessions=_by_scan(store, limit, wanted), reason=str(exc))


def known_sessions(store: Store) -> KnownSessions:
    """Return what the feed tells of every session, at one reading of all of it; no session is looked at.

    Entries behind the last end of a run are in no feed, nor is what was written without one. Writes nothing.
    """
    times: dict[str, int] = {}
    segments: dict[str, set[str]] = {}
    try:
        for event in _events_back(store):
            times[event.session_id] = max(times.get(event.session_id, 0), event.ts)
            if event.segment_id is not None:
                segments.setdefault(event.session_id, set()).add(event.segment_id)
    except _Useless as exc:
        return KnownSessions(sessions={}, reason=str(exc))
    return KnownSessions(
        sessions={
            found: KnownSession(ts=ts, segments=frozenset(segments.get(found, ()))) for found, ts in times.items()
        }
    )


def _by_feed(store: Store, limit: int, wanted: _Wanted) -> tuple[RecentSession, ...]:
    root = str(getattr(store, "root", ""))
    found: list[RecentSession] = []
    seen: set[str] = set()
    for event in _events_back(store):
        if len(found) < limit and event.session_id not in seen and event.kind != "delete":
            if not is_folder(f"{root}/{event.session_id}"):
                seen.add(event.session_id)
            elif _is_there(root, event):
                seen.add(event.session_id)
                if wanted.fits(event):
                    found.append(_recent(event))
        if len(found) >= limit:
            break  # what is wrong further back does not matter
    return tuple(found)


def _events_back(store: Store) -> Iterator[FeedEvent]:
    """Yield what the feed says, the last first.

    Raises:
        _Useless: it does not say all.
    """
    if not isinstance(store, FsStore):
        raise _Useless(f"{store!r}: keeps no feed")
    root = str(store.root)
    try:
        with FeedReader(root) as feed:
            _refuse_partial(feed)
            for at, event in feed.events_back():
                if isinstance(event, Gap):
                    raise _Useless(f"{feed.path}: byte {at}: {event.reason}; {_MENDS}")
                yield event
    except FileNotFoundError:
        raise _Useless(f"{root}/feed.jsonl: is missing; session_log.feed.reindex makes it") from None
    except (OSError, UnsafePath) as exc:
        raise _Useless(f"{root}/feed.jsonl: cannot be read ({exc})") from None


def _refuse_partial(feed: FeedReader) -> None:
    header = feed.header()
    if header is None or not header.whole:
        raise _Useless(f"{feed.path}: does not go back to the first session; {_MENDS}")
    if header.v > FEED_VERSION:
        raise _Useless(f"{feed.path}: is of format version {header.v}, and this one reads up to {FEED_VERSION}")


def _is_there(root: str, event: FeedEvent) -> bool:
    """Tell whether what was announced came to be, as far as a look at the names shows."""
    if event.segment_id is None:
        return True
    try:
        mode = os.lstat(f"{root}/{event.session_id}/{event.segment_id}{SEGMENT_SUFFIX}").st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode)


def _recent(event: FeedEvent) -> RecentSession:
    return RecentSession(session_id=event.session_id, segment_id=event.segment_id, ts=event.ts, kind=event.kind)


def _by_scan(store: Store, limit: int, wanted: _Wanted) -> tuple[RecentSession, ...]:
    last = []
    for session_id in store.list_sessions():
        events = scan_session(store, session_id).events
        if events:
            last.append(events[-1])
    last.sort(key=lambda event: event.ts, reverse=True)
    found: list[RecentSession] = []
    for event in last:
        if len(found) >= limit:
            break
        if wanted.fits(event):
            found.append(_recent(event))
    return tuple(found)


def reindex(store: Store, progress: Progress | None = None) -> FeedReport:
    """Make the feed anew from the sessions, and put it into the place of the old one, whole or not at all.

    ``progress`` is called with how many sessions are done, of how many. Others may write meanwhile: nothing they say is
    lost. Old run ends but the last of each segment, and all of deleted sessions, are left out.

    Raises:
        CallerError: the store has no files.
        StoreUnavailable: it cannot be written; the old feed is in its place.
    """
    return rebuild(files_of(store), progress)


def watch(store: Store, *, stop: Callable[[], bool] | None = None) -> Iterator[FeedEvent]:
    """Return the changes of all sessions from now on, as any process announces them; the iterator does not end.

    ``stop`` is asked whenever nothing new is there; the iterator ends when it says True. An event comes just before
    what it announces, which may be there a moment later, or never, if it failed. It naps between looks, from 0.5 ms up
    to 10 ms when nothing comes. When the feed is made anew, nothing is lost; if that happens twice between two steps,
    an event may come twice, of run ends of one segment, titles, or archives of one session perhaps only the last, and
    no ``delete``.

    Raises:
        CallerError: the store has no files.
        UnsafePath, StoreUnavailable: the feed cannot be read.
    """
    return FeedFollower(str(files_of(store).root)).follow(stop)
