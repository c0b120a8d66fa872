"""The file of a session's facts: ``{root}/{session_id}/session.jsonl``, read whole once and then only what is new."""

import os
import threading
from collections.abc import Iterator
from typing import Any, Final

from session_log import _layout, _mend, _payload
from session_log._at_fork import renew_after_fork
from session_log._clock import now_ms
from session_log._committed import OpenFile, read_span
from session_log._errors import CallerError, InvalidEntry, NotFound, UnsupportedVersion
from session_log._facts import (
    FACTS_VERSION,
    CorruptFacts,
    FactChange,
    SessionFacts,
    first_line,
    line_of,
)
from session_log._facts_fold import Folding, decode_facts_line
from session_log._feed import fact_lines
from session_log._file_store import FsStore
from session_log._frame import committed_length
from session_log._ids import parse_id
from session_log._reader import read_start
from session_log._remembered import Remembered
from session_log._state import Damage
from session_log._store import Store
from session_log._whole import create_whole

FACTS_NAME: Final = "session"
"""In place of a segment id: the file is opened, appended to and closed like a segment of that name."""
MAX_REMEMBERED: Final = 1024
"""Sessions whose facts are remembered for each store; those of one take about a kilobyte."""
Line = tuple[int, int, bytes, dict[str, Any]]
"""Its number, from 1, its place, its bytes, and its object."""


def files_of(store: Store) -> FsStore:
    """Return the store as one of files.

    Raises:
        CallerError: it is another one.
    """
    if not isinstance(store, FsStore):
        raise CallerError(f"{store!r}: keeps no session facts; they are files: use an FsStore")
    return store


def facts_path(store: FsStore, session_id: str) -> str:
    """Return where the facts of a session are."""
    return f"{store.root}/{session_id}/{FACTS_NAME}{_layout.SEGMENT_SUFFIX}"


def created_ts(store: FsStore, session_id: str) -> int:
    """Return when a session was created: the time of its oldest segment.

    Raises:
        NotFound: there is no such session.
    """
    segments = store.list_segments(session_id)
    if not segments:
        raise NotFound(f"{store.root}/{session_id}", "no such session")
    return read_start(store, session_id, segments[-1]).ts


class _Scan:
    """The lines of a stretch of the file: those that are sound, and, with ``salvage``, the damage between them."""

    def __init__(self, path: str, folding: Folding, *, salvage: bool = False) -> None:
        self.path = path
        self.folding = folding
        self.salvage = salvage
        self.damage: list[Damage] = []
        self.changes: list[FactChange] = []

    def take(self, data: bytes, line: int, offset: int) -> None:
        """Fold committed lines, of which the first is ``line`` (from 1) and begins at ``offset``."""
        for number, text in enumerate(data.split(b"\n")[:-1], line):
            if text.strip():
                self._take_line(number, offset, text)
            offset += len(text) + 1

    def _take_line(self, number: int, offset: int, text: bytes) -> None:
        try:
            found = decode_facts_line(text)
            version = found.get("v") if found["kind"] == "session" else None
            if type(version) is int and version > FACTS_VERSION:
                raise UnsupportedVersion(self.path, version, FACTS_VERSION)
            self.folding.apply(found)
        except (UnsupportedVersion, InvalidEntry) as exc:
            if not self.salvage:
                if isinstance(exc, UnsupportedVersion):
                    raise
                raise CorruptFacts(self.path, number, offset, str(exc)) from None
            self.damage.append(Damage(self.path, number, offset, len(text), str(exc)))
            return
        ts, kind = found.pop("ts"), found.pop("kind")
        self.changes.append(FactChange(ts=ts, kind=kind, changes=found))


def scan(store: FsStore, session_id: str, *, salvage: bool) -> _Scan:
    """Read all of a session's facts anew.

    Raises:
        NotFound: it has none.
        CorruptFacts: a line is damaged, unless ``salvage``.
    """
    path = facts_path(store, session_id)
    with OpenFile(path) as file, _layout.reported(path):
        data = read_span(file.fd, 0, os.fstat(file.fd).st_size)
    found = _Scan(path, Folding(session_id), salvage=salvage)
    found.take(data[: committed_length(data, whole=True)], 1, 0)
    return found


class FactsFile:
    """What is known of one session's file, up to a place in it. Safe for threads; holds nothing open."""

    __slots__ = ("__weakref__", "_folding", "_identity", "_lines", "_lock", "_path", "_session_id", "_size")

    def __init__(self, store: FsStore, session_id: str) -> None:
        self._session_id = session_id
        self._path = facts_path(store, session_id)
        self._forget()
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def _forget(self) -> None:
        self._folding = Folding(self._session_id)
        self._identity: tuple[int, ...] = ()
        self._size = self._lines = 0

    def facts(self) -> SessionFacts:
        """Return the facts as they are on file.

        Raises:
            NotFound: there is no file, or no session.
            CorruptFacts: a line is damaged.
        """
        with self._lock:
            self._catch_up()
            return self._folding.facts()

    def placed(self) -> tuple[SessionFacts, int]:
        """Return the facts as they are on file, and how many lines say so.

        Raises:
            NotFound: there is no file, or no session.
            CorruptFacts: a line is damaged.
        """
        with self._lock:
            self._catch_up()
            return self._folding.facts(), self._lines

    def change(
        self, store: FsStore, kind: str, fields: dict[str, Any], *, final: bool, expected: int | None = None
    ) -> SessionFacts:
        """Append one change and return the facts behind it; ``final`` asks for a sync, as the end of a turn does.

        Raises:
            HeadMoved: the file has not the ``expected`` number of lines any more; nothing was written.
            NotFound: there is no such session.
            CorruptFacts: what is there is damaged; nothing was written.
        """
        with self._lock:
            self._begin(store)
            line = {"kind": kind, "ts": max(now_ms(), self._folding.updated_ts), **fields}
            data = line_of(kind, line["ts"], fields)
            if store.feed is not None:
                for said in fact_lines(self._session_id, kind, line["ts"], fields, archived=self._folding.archived):
                    store.feed.write(said)
            _, size = store.append_data((self._session_id, FACTS_NAME), data, 1, expected, final=final)
            if size - len(data) == self._size:
                if "custom" in fields and fields["custom"] is not None:
                    line["custom"] = _payload.from_raw(bytes(fields["custom"]))
                self._folding.apply(line)
                self._size, self._lines = size, self._lines + 1
            else:  # others wrote in between
                self._catch_up()
            return self._folding.facts()

    def _begin(self, store: FsStore) -> None:
        try:
            self._catch_up()
        except NotFound:
            data = first_line(self._session_id, created_ts(store, self._session_id))
            try:
                create_whole(self._path, data, durable=store.durability != "process")
            except FileExistsError:  # by another, just now
                self._catch_up()
                return
            except FileNotFoundError:
                raise NotFound(self._path, "no such session") from None
            self._catch_up()

    def _catch_up(self) -> None:
        """Fold what is new in the file; all of it, if it is another one."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self._forget()
            raise NotFound(self._path, "no facts of such a session") from None
        except OSError as exc:
            raise _layout.unavailable(self._path, exc) from exc
        if found.st_size == self._size and (found.st_dev, found.st_ino) == self._identity:
            return
        with OpenFile(self._path) as file, _layout.reported(self._path):
            found = os.fstat(file.fd)
            if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._size:
                self._forget()
            data = read_span(file.fd, self._size, found.st_size)
        try:
            data = data[: committed_length(data, whole=True)]
            _Scan(self._path, self._folding).take(data, self._lines + 1, self._size)
        except BaseException:
            self._forget()
            raise
        self._identity = found.st_dev, found.st_ino
        self._size += len(data)
        self._lines += data.count(b"\n")


_remembered: Remembered[str, FactsFile] = Remembered(MAX_REMEMBERED)


def facts_file(store: FsStore, session_id: str) -> FactsFile:
    """Return the file of a session, remembered or new: two threads may have two of it, which agree with the file."""
    return _remembered.get(store, session_id) or _remembered.put(store, session_id, FactsFile(store, session_id))


def every_facts(store: FsStore) -> Iterator[SessionFacts]:
    """Yield the facts of every session that has some, newest session first; damage is in them."""
    for session_id in store.list_sessions():
        try:
            found = scan(store, session_id, salvage=True)
        except NotFound:
            continue
        yield found.folding.facts(tuple(found.damage))


def blank_damage(store: FsStore, session_id: str) -> tuple[Damage, ...]:
    """Blank the damaged lines of a session's facts, keeping their bytes in ``session.damage``; return them."""
    session_id = parse_id(session_id)
    found = tuple(scan(store, session_id, salvage=True).damage)
    if found:
        spans = [(damage.byte_offset, damage.length_bytes) for damage in found]
        _mend.blank(facts_path(store, session_id), spans, durability=store.durability)
    return found
