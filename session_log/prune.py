"""Pruning: which sessions are old, too many or too large, as a plan that says why; nothing goes before it is applied.

>>> import tempfile
>>> from session_log import FsStore, create_segment
>>> from session_log.prune import apply_prune, plan_prune
>>> store = FsStore(tempfile.mkdtemp())
>>> old, new = [create_segment(store)[0] for _ in range(2)]
>>> plan = plan_prune(store, keep_last=1)
>>> [(found.session_id == old, found.why) for found in plan.doomed]
[(True, 'not among the newest 1')]
>>> apply_prune(store, plan).deleted == (old,)
True
"""

import contextlib
from collections.abc import Iterable
from typing import Final

import msgspec

from session_log._activity import last_activity
from session_log._clock import now_ms
from session_log._errors import CallerError, NotFound, SessionLogError, StillReferenced, StorageError
from session_log._facts import SessionFacts
from session_log._facts_file import files_of, scan
from session_log._file_store import FsStore
from session_log._references import RUNNING, OnProgress, PodAt, holders, pods_of, tell
from session_log._store import Store
from session_log.lifecycle import delete_session
from session_log.trash import files_in

PINNED: Final = "pinned"
"""The label of a session that is never pruned."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was looked at, and why it would go, or why it stays.

    ``last_ts`` is the time of its last entry, None if that cannot be read.
    """

    session_id: str
    last_ts: int | None
    size_bytes: int
    why: str


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would go, and what would go but for its protection, each longest unused first."""

    doomed: tuple[Candidate, ...]
    protected: tuple[Candidate, ...]

    @property
    def size_bytes(self) -> int:
        """What the sessions that would go take, without their payloads."""
        return sum(found.size_bytes for found in self.doomed)


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was moved to the trash, and what was left because it changed since the plan."""

    deleted: tuple[str, ...]
    left: tuple[Candidate, ...]


class _Limits(msgspec.Struct, frozen=True, kw_only=True):
    older_than_ms: int | None
    keep_last: int | None
    max_bytes: int | None
    labels: frozenset[str]
    without_labels: frozenset[str]
    statuses: frozenset[str]
    keyed: bool

    def check(self) -> None:
        """Refuse bounds that are none."""
        for name in ("older_than_ms", "keep_last", "max_bytes"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 0):
                raise CallerError(f"{name}={value!r}: is no count, of milliseconds, sessions or bytes")
        if self.older_than_ms is self.keep_last is self.max_bytes is None and not self.labels and not self.statuses:
            raise CallerError("plan_prune: no limit is given, all sessions would go; give one")


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    last_ts: int | None
    size_bytes: int
    facts: SessionFacts | None
    trouble: str | None


def plan_prune(
    store: Store,
    *,
    older_than_ms: int | None = None,
    keep_last: int | None = None,
    max_bytes: int | None = None,
    labels: Iterable[str] = (),
    without_labels: Iterable[str] = (),
    statuses: Iterable[str] = (),
    keyed: bool = False,
    progress: OnProgress | None = None,
) -> PrunePlan:
    """Return which sessions would go; nothing is changed.

    Looked at are the sessions with all of ``labels`` and none of ``without_labels``, whose status is among
    ``statuses``. The ``keep_last`` of them that were used last stay. Of the others, those go whose last entry is older
    than ``older_than_ms``, and those used longest ago until what stays takes ``max_bytes``; without either, all of
    them. Protected are sessions that a pod is in, that are running (by their status, or because a writer holds a
    segment), that have the label ``pinned``, that cannot be read, and, unless ``keyed``, those with an external key.

    Raises:
        CallerError: there is no limit, or it is none; or the store has no files.
    """
    files = files_of(store)
    for name, texts in (("labels", labels), ("without_labels", without_labels), ("statuses", statuses)):
        if isinstance(texts, str):
            raise CallerError(f"{name}={texts!r}: is one text; give several, or [{texts!r}]")
    limits = _Limits(
        older_than_ms=older_than_ms,
        keep_last=keep_last,
        max_bytes=max_bytes,
        labels=frozenset(labels),
        without_labels=frozenset(without_labels),
        statuses=frozenset(statuses),
        keyed=keyed,
    )
    limits.check()
    seen = []
    session_ids = files.list_sessions()
    for number, session_id in enumerate(session_ids):
        tell(progress, number, len(session_ids), f"looking at {session_id}")
        with contextlib.suppress(NotFound):
            found = _see(files, session_id)
            if _matches(found.facts, limits):
                seen.append(found)
    seen.sort(key=lambda found: (found.last_ts if found.last_ts is not None else now_ms(), found.session_id))
    return _plan(files, seen, limits)


def _see(store: FsStore, session_id: str) -> _Seen:
    """Look at a session; what is wrong with it is noted, and protects it."""
    trouble, facts, last_ts = None, None, None
    try:
        last_ts = last_activity(store, session_id)
    except NotFound:
        raise
    except SessionLogError as exc:
        trouble = str(exc)
    try:
        found = scan(store, session_id, salvage=False)
        facts = found.folding.facts(())
    except NotFound:
        pass
    except SessionLogError as exc:
        trouble = str(exc)
    size = sum(known.st_size for _, known in files_in(f"{store.root}/{session_id}"))
    return _Seen(session_id=session_id, last_ts=last_ts, size_bytes=size, facts=facts, trouble=trouble)


def _matches(facts: SessionFacts | None, limits: _Limits) -> bool:
    labels = frozenset(facts.labels) if facts is not None else frozenset()
    status = facts.status if facts is not None else "idle"
    if not limits.labels <= labels or limits.without_labels & labels:
        return False
    return not limits.statuses or status in limits.statuses


def _plan(store: FsStore, seen: list[_Seen], limits: _Limits) -> PrunePlan:
    """Decide, those used longest ago first."""
    pods = pods_of(store)
    now = now_ms()
    room = sum(found.size_bytes for found in seen)
    doomed, protected = [], []
    for at, found in enumerate(seen):
        if limits.keep_last is not None and len(seen) - at <= limits.keep_last:
            break
        why = _excess(found, limits, now, room)
        if why is None:
            continue
        shield = _protection(store, found, limits, pods)
        candidate = Candidate(
            session_id=found.session_id,
            last_ts=found.last_ts,
            size_bytes=found.size_bytes,
            why=shield or why,
        )
        if shield is not None:
            protected.append(candidate)
        else:
            doomed.append(candidate)
            room -= found.size_bytes
    return PrunePlan(doomed=tuple(doomed), protected=tuple(protected))


def _excess(found: _Seen, limits: _Limits, now: int, room: int) -> str | None:
    """Return why a session would go, or None."""
    age = now - found.last_ts if found.last_ts is not None else 0
    if limits.older_than_ms is not None and age > limits.older_than_ms:
        return f"last used {age} ms ago, more than {limits.older_than_ms}"
    if limits.max_bytes is not None and room > limits.max_bytes:
        return f"{room} bytes with all that were used later, more than {limits.max_bytes}"
    if limits.older_than_ms is None and limits.max_bytes is None:
        if limits.keep_last is not None:
            return f"not among the newest {limits.keep_last}"
        return "has the labels and the status that were asked for"
    return None


def _protection(store: FsStore, found: _Seen, limits: _Limits, pods: list[PodAt]) -> str | None:
    """Return what protects a session, or None."""
    if found.trouble is not None:
        return f"cannot be read: {found.trouble}"
    for pod in pods:
        if pod.active is None or pod.active.session_id == found.session_id:
            return str(pod)
    facts = found.facts
    if facts is not None and facts.status == RUNNING:
        return "its status is running"
    if facts is not None and PINNED in facts.labels:
        return f"has the label {PINNED!r}"
    if facts is not None and facts.external_key is not None and not limits.keyed:
        return f"has the external key {facts.external_key!r:.100}"
    held = holders(store, found.session_id, tuple(store.list_segments(found.session_id)))
    return f"{held[0][0]} is held by {held[0][1] or 'a writer'}" if held else None


def apply_prune(store: Store, plan: PrunePlan, *, progress: OnProgress | None = None) -> Pruned:
    """Move to the trash what a plan says, but for sessions that were used, taken or deleted since.

    Interrupted, those that have gone are in the trash, and the others are untouched.

    Raises:
        CallerError: the store has no files.
    """
    files = files_of(store)
    deleted: list[str] = []
    left: list[Candidate] = []
    for number, found in enumerate(plan.doomed):
        tell(progress, number, len(plan.doomed), f"deleting {found.session_id}")
        why = _delete(files, found)
        if why is None:
            deleted.append(found.session_id)
        else:
            left.append(msgspec.structs.replace(found, why=why))
    return Pruned(deleted=tuple(deleted), left=tuple(left))


def _delete(store: FsStore, found: Candidate) -> str | None:
    """Delete a session of a plan, or return why not."""
    try:
        seen = _see(store, found.session_id)
        if (seen.last_ts, seen.trouble) != (found.last_ts, None):
            return "was used since the plan was made"
        if seen.facts is not None and PINNED in seen.facts.labels:
            return f"has the label {PINNED!r}"
        delete_session(store, found.session_id)
    except (StorageError, StillReferenced) as exc:
        return str(exc)
    return None
