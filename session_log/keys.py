"""External keys: any text of the caller's (a thread, a user) names a session, for all processes the same.

The truth is a line in each session's facts. ``{root}/keys/{0-f}.jsonl`` is the index of it: a line for each key, in the
file that the first digit of the key's SHA-256 names. What it says is compared with the session's own facts, so an
entry out of date misleads nobody; without the folder, or with one of its files gone, it is made again.

A new key's session is prepared in a folder of its own, which needs no lock. Then, under the lock of the index: look
again, append the entry, move the folder to its place. Whoever is killed before the move leaves an entry without a
session, which the next caller replaces; the move makes session, segment and key appear at once. So a key never has two
sessions, a session never lacks its key, and no id is used twice.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from session_log import _layout
from session_log._atomic import Folder
from session_log._clock import new_segment_id, new_session_id, now_ms
from session_log._codec import prepare
from session_log._errors import AppendUnknown, CorruptSegment, NotFound, StorageError, StoreUnavailable
from session_log._facts import KeyTaken, SessionFacts, checked_key, first_line, line_of
from session_log._facts_file import FACTS_NAME, created_ts, facts_file, files_of, scan
from session_log._file_store import FsStore
from session_log._frame import framed_whole
from session_log._key_index import Broken, append, glance, locked, read_index, rebuild, search
from session_log._remembered import Remembered
from session_log._session import start_entry
from session_log._state import SegmentStartState
from session_log._store import Store
from session_log._whole import create_whole

MAIN: Final = "main"
"""The pointer to where a conversation goes on."""
MAX_REMEMBERED_KEYS: Final = 4096
"""Keys whose session is remembered for each store; what is remembered is compared with the session's facts, too."""


class KeyCollision(msgspec.Struct, frozen=True, kw_only=True):
    """A key that several sessions have, newest first: copied by hand, or brought back from the trash."""

    key: str
    session_ids: tuple[str, ...]


class KeyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`reindex_keys` found: how many keys, which twice, and which sessions' facts are damaged."""

    keys: int
    collisions: tuple[KeyCollision, ...]
    damaged: tuple[str, ...]


_known: Remembered[str, str] = Remembered(MAX_REMEMBERED_KEYS)
"""Which session a key named when it was last looked up."""


# ── keys and their sessions ────────────────────────────────────────────────────────────────────────────────────────


def _verified(store: FsStore, key: str, session_id: str | None) -> SessionFacts | None:
    """Return the facts of the session that an entry names, or None if it names none that is there.

    Raises:
        CorruptFacts: they are damaged, and what is left of them does not have the key.
    """
    if session_id is None or _layout.as_id(session_id) is None:
        return None
    try:
        facts = facts_file(store, session_id).facts()
    except NotFound:
        if _layout.is_folder(f"{store.root}/{session_id}"):
            raise Broken from None
        return None
    except CorruptSegment:
        found = scan(store, session_id, salvage=True)
        facts = found.folding.facts(tuple(found.damage))
        if facts.external_key != key:
            raise
    if facts.external_key != key:
        raise Broken
    return facts


def find_key(store: FsStore, key: str) -> SessionFacts | None:
    """Return the facts of the session that has a key, if the index knows it; nothing is written, nothing scanned."""
    try:
        session_id = _known.get(store, key)
        if session_id is not None and (facts := _verified(store, key, session_id)) is not None:
            return facts
    except Broken:
        _known.forget(store, key)
    try:
        facts = _verified(store, key, glance(read_index(store, key), key))
    except Broken:
        return None
    if facts is not None:
        _known.put(store, key, facts.session_id)
    return facts


def _find_surely(store: FsStore, folder: Folder, key: str) -> SessionFacts | None:
    """Return the facts of the session that has a key; the lock is held, and an index that does not hold is rebuilt."""
    try:
        return _verified(store, key, search(read_index(store, key), key))
    except Broken:
        for session_id in rebuild(store, folder).owners.get(key, ()):
            with contextlib.suppress(Broken):
                if (facts := _verified(store, key, session_id)) is not None:
                    return facts
        return None


def open_or_create(store: Store, key: str, state: SegmentStartState = SegmentStartState()) -> tuple[str, str, bool]:  # noqa: B008
    """Return (session_id, segment_id, created) of the session that ``key`` names, which is created if there is none.

    The segment is the one that the pointer ``main`` names: :func:`session_log.facts.move_active` moves it. All threads
    and processes that ask at once get the same session. A deleted session's key is free; its id is not used again.

    Raises:
        CallerError: the store has no files.
        InvalidEntry: the key is no text, has lone surrogates, or more than ``MAX_KEY_BYTES``.
        CorruptFacts: the facts of its session are damaged.
    """
    files, key = files_of(store), checked_key(key)
    facts = find_key(files, key)
    if facts is None:
        session_id, segment_id = new_session_id(), new_segment_id()
        with _prepared(files, key, session_id, segment_id, state) as draft, locked(files) as folder:
            facts = _find_surely(files, folder, key)
            if facts is None:
                append(files, key, session_id)
                if files.feed is not None:
                    files.feed.announce_start(session_id, segment_id, draft.first_line)
                _place(files, draft.folder, session_id)
                return session_id, segment_id, True
    return facts.session_id, leaf(files, facts), False


def leaf(store: FsStore, facts: SessionFacts, name: str = MAIN) -> str:
    """Return the segment that a pointer names; without ``main``, the newest.

    Raises:
        NotFound: there is no such pointer.
    """
    if (segment_id := facts.active.get(name)) is not None:
        return segment_id
    segments = store.list_segments(facts.session_id) if name == MAIN else []
    if not segments:
        raise NotFound(f"{store.root}/{facts.session_id}", f"no pointer {name!r}")
    return segments[0]


class _Draft(NamedTuple):
    folder: str
    first_line: bytes


@contextlib.contextmanager
def _prepared(store: FsStore, key: str, session_id: str, segment_id: str, state: SegmentStartState) -> Iterator[_Draft]:
    """Write a session into a folder that no listing shows; what is not moved from there is removed."""
    start = framed_whole([prepare(start_entry(session_id, state))[0]])[0] + b"\n"
    ts = now_ms()
    known = line_of("set", ts, {"external_key": key}) + line_of("point", ts, {"name": MAIN, "segment_id": segment_id})
    files = {segment_id: start, FACTS_NAME: first_line(session_id, ts) + known}
    durable = store.durability != "process"
    _layout.make_parents(str(store.root), durable=durable)
    draft = f"{store.root}/.{os.urandom(8).hex()}.tmp"
    try:
        with _layout.reported(draft):
            os.mkdir(draft, 0o700)
        for name, data in files.items():
            create_whole(f"{draft}/{name}{_layout.SEGMENT_SUFFIX}", data, durable=durable)
        yield _Draft(draft, start)
    finally:
        with contextlib.suppress(OSError):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{draft}/{name}{_layout.SEGMENT_SUFFIX}")
            os.rmdir(draft)


def _place(store: FsStore, draft: str, session_id: str) -> None:
    """Move a prepared session to where it is listed, whole."""
    folder = f"{store.root}/{session_id}"
    with _layout.reported(folder):
        os.rename(draft, folder)
    if store.durability != "process":
        try:
            _layout.sync_folder(str(store.root))
        except StoreUnavailable as exc:
            raise AppendUnknown(folder, f"it is there, and may not be after a power cut ({exc.reason})") from exc


def change_key(store: FsStore, session_id: str, changes: dict[str, object]) -> SessionFacts:
    """Set facts of which one is the external key: no other session has it then.

    Raises:
        KeyTaken: another session has it; nothing was changed.
    """
    file = facts_file(store, session_id)
    new = changes["external_key"]
    with locked(store) as folder:
        try:
            old = file.facts().external_key
        except NotFound:
            created_ts(store, session_id)
            old = None
        if isinstance(new, str) and new != old:
            owner = _find_surely(store, folder, new)
            if owner is not None and owner.session_id != session_id:
                raise KeyTaken(new, owner.session_id)
            append(store, new, session_id)
        facts = file.change(store, "set", changes, final=True)
        if old is not None and old != new:
            # What cannot be taken back here misleads nobody, for the facts do not have that key: the change was made.
            with contextlib.suppress(Broken, StorageError):
                read_index(store, old)  # an index that is not there is not begun with an entry that says nothing
                append(store, old, None)
        return facts


def reindex_keys(store: Store) -> KeyReport:
    """Make the index of keys anew from the sessions' facts, and report keys that several sessions have.

    Of those, the session that the old index named keeps the key, else the newest. Opening a new key waits meanwhile.
    """
    files = files_of(store)
    with locked(files) as folder:
        found = rebuild(files, folder)
    collisions = tuple(
        KeyCollision(key=key, session_ids=tuple(sorted(session_ids, reverse=True)))
        for key, session_ids in found.owners.items()
        if len(session_ids) > 1
    )
    return KeyReport(keys=len(found.owners), collisions=collisions, damaged=tuple(found.damaged))
