"""Following: the lines of several segments as they are committed: a segment and its forks, or a whole root.

``Store.follow`` waits on one segment; this looks at many in turn, and at which ones there are. What is followed is
looked at every 10 ms at most, by a ``stat`` each; which segments there are, every 200 ms.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from session_log._errors import NotFound, SessionLogError
from session_log._file_store import FsStore
from session_log.branches import read_tree
from session_log.lines import Line

_FIRST_NAP_S: Final = 0.0005
_LAST_NAP_S: Final = 0.01
_DISCOVER_S: Final = 0.2
MAX_FOLLOWED: Final = 256
"""How many segments are looked at at once: those that changed last. Each costs a ``stat`` per look."""
Key = tuple[str, str]
"""A session and a segment."""
Place = tuple[int, int]
"""Lines and bytes that were read."""


class Notice(NamedTuple):
    """What happened to a segment that is followed, other than a new line."""

    session_id: str
    segment_id: str
    what: str


class Tail:
    """The end of one segment, as far as it was read."""

    def __init__(self, store: FsStore, key: Key, start: Place) -> None:
        self._store = store
        self._key = key
        self._path = str(store.segment_path(*key))
        self._line, self._offset = start
        self._size = -1
        self._gone = False

    def look(self) -> Iterator[Line | Notice]:
        """Yield the lines that are new, and what else happened."""
        try:
            size = os.stat(self._path, follow_symlinks=False).st_size
        except OSError:
            if not self._gone:
                self._gone = True
                yield Notice(*self._key, "was deleted; if it comes back, it is read from its beginning")
                self._line, self._offset, self._size = 0, 0, -1
            return
        self._gone = False
        if size == self._size:
            return
        if size < self._offset:
            yield Notice(*self._key, "lines were taken back, or the file was replaced; going on at its end")
            self._line, self._offset = self._store.position(*self._key)
        yield from self._read()
        self._size = size

    def _read(self) -> Iterator[Line]:
        for block in self._store.read_blocks(*self._key, self._line, offset=self._offset):
            for line in block[:-1].split(b"\n"):
                self._line += 1
                yield Line(
                    session_id=self._key[0],
                    segment_id=self._key[1],
                    number=self._line,
                    byte_offset=self._offset,
                    line=line,
                )
                self._offset += len(line) + 1


class _Tails:
    """The tails of the segments that are followed."""

    def __init__(self, store: FsStore, targets: Callable[[], Iterable[Key]], start: Mapping[Key, Place]) -> None:
        self._store = store
        self._targets = targets
        self._tails: dict[Key, Tail] = {}
        for key in targets():
            try:
                self._tails[key] = Tail(store, key, start.get(key) or store.position(*key))
            except NotFound:
                continue

    def discover(self) -> bool:
        """Add the segments that came up; tell whether there were any."""
        new = [key for key in self._targets() if key not in self._tails]
        for key in new:
            self._tails[key] = Tail(self._store, key, (0, 0))
        return bool(new)

    def look(self) -> Iterator[Line | Notice]:
        """Yield what is new in any of them."""
        for tail in list(self._tails.values()):
            with contextlib.suppress(NotFound):  # since it was looked at; the next look says so
                yield from tail.look()


def follow_lines(
    store: FsStore,
    targets: Callable[[], Iterable[Key]],
    *,
    start: Mapping[Key, Place] = MappingProxyType({}),
    stop: Callable[[], bool] | None = None,
) -> Iterator[Line | Notice]:
    """Yield what is committed behind ``start``, or the end that a segment has now, and all of those that come up later.

    ``targets`` says which segments to follow, and is asked again and again. Ends when nothing is new and ``stop()``.
    A segment that is deleted or cut short is told of by a :class:`Notice`; the others go on. Writes nothing.
    """
    tails = _Tails(store, targets, start)
    asked = time.monotonic()
    nap, ending = _FIRST_NAP_S, False
    while True:
        new = False
        for found in tails.look():
            new = True
            yield found
        if ending or time.monotonic() - asked > _DISCOVER_S:
            new = tails.discover() or new
            asked = time.monotonic()
        if new:
            nap, ending = _FIRST_NAP_S, False
        elif ending:
            return
        elif stop is not None and stop():
            ending = True  # one more look: what came before that is to be returned
        else:
            time.sleep(nap)
            nap = min(nap * 2, _LAST_NAP_S)


def with_forks(store: FsStore, session_id: str, segment_id: str) -> Callable[[], list[Key]]:
    """Return the targets of a segment and what is forked or compacted from it from now on."""
    known = set(store.list_segments(session_id)) - {segment_id}

    def targets() -> list[Key]:
        try:
            new = set(store.list_segments(session_id)) - known
            if new == {segment_id}:
                return [(session_id, segment_id)]
            tree = read_tree(store, session_id, salvage=True)
            below = {branch.segment_id for branch in tree.descendants(segment_id)} & new
        except SessionLogError:
            return [(session_id, segment_id)]
        return [(session_id, found) for found in (segment_id, *sorted(below))]

    return targets


def whole_root(store: FsStore) -> Callable[[], list[Key]]:
    """Return the targets of everything below the root: the segments that changed last, and those that are new."""

    def targets() -> list[Key]:
        found: list[tuple[int, Key]] = []
        for session_id in store.list_sessions(limit=MAX_FOLLOWED):
            try:
                for segment_id in store.list_segments(session_id):
                    changed = os.stat(store.segment_path(session_id, segment_id), follow_symlinks=False).st_mtime_ns
                    found.append((changed, (session_id, segment_id)))
            except (SessionLogError, OSError):
                continue  # deleted meanwhile
        found.sort(reverse=True)
        return [key for _, key in found[:MAX_FOLLOWED]]

    return targets
