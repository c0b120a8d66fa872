"""Reading segment files: never writes, never locks, opens each file anew. Live files and read-only media alike."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from session_log import _layout
from session_log._committed import OpenFile, blocks, committed_end, count_lines, lines_before, read_span, skip_lines
from session_log._errors import NotFound, StoreUnavailable, UnsafePath
from session_log._follow import follow_file
from session_log._frame import check_counts, newlines
from session_log._ids import parse_id

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package


MAX_KNOWN: Final = 4096
_NEAR_LINES: Final = 2048
_TAIL_BYTES: Final = 256
Key = tuple[str, str]


class FileReader:
    """The reading half of a store of files."""

    def __init__(self, root: "Path") -> None:
        self.root = root
        self._root = str(root)
        self._known: dict[Key, tuple[int, int, int]] = {}
        self._tails: dict[Key, bytes] = {}

    def _path(self, session_id: str, segment_id: str) -> str:
        return f"{self._root}/{session_id}/{segment_id}{_layout.SEGMENT_SUFFIX}"

    def _trace_path(self, session_id: str, segment_id: str) -> str:
        return f"{self._root}/{session_id}/{segment_id}{_layout.TRACE_SUFFIX}"

    def segment_path(self, session_id: str, segment_id: str) -> "Path":
        """Return where the segment is, or would be."""
        from pathlib import Path

        return Path(self._path(parse_id(session_id), parse_id(segment_id)))

    def trace_path(self, session_id: str, segment_id: str) -> "Path":
        """Return where the segment's trace is, or would be."""
        from pathlib import Path

        return Path(self._trace_path(parse_id(session_id), parse_id(segment_id)))

    # ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the committed lines from ``start`` to before ``stop``. See :class:`Store`."""
        blocks = self.read_blocks(session_id, segment_id, start, stop)
        return (line for block in blocks for line in block[:-1].split(b"\n"))

    def read_blocks(
        self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None, *, offset: int | None = None
    ) -> Iterator[bytes]:
        """Return the same lines as blocks of bytes, newlines included. See :class:`BlockReader`."""
        check_counts(start=start, stop=stop)
        path = self._path(parse_id(session_id), parse_id(segment_id))
        file = self._open(path)
        with _layout.reported(path):
            end = os.fstat(file.fd).st_size
            if (stop, start) == (1, 0):
                offset = 0  # the first line is there with the file, or the segment was never created
            if offset is None or stop is None:
                end = committed_end(file.fd, end)
            at = offset if offset is not None else self._byte_of(file.fd, (session_id, segment_id), start, end)
        return blocks(file, at, end, None if stop is None else stop - start)

    def _byte_of(self, fd: int, key: Key, start: int, end: int) -> int:
        """Return where line ``start`` begins, counted from the known end, if that is near, else from the start."""
        if start == 0:
            return 0
        inode, entries, at = self._last_known((parse_id(key[0]), parse_id(key[1]))) or (0, 0, 0)
        if inode != os.fstat(fd).st_ino or at > end or not 0 <= entries - start <= _NEAR_LINES:
            return skip_lines(fd, start, end)
        if start == entries:
            return at
        window = 1 << 16
        while True:
            tail = read_span(fd, max(0, at - window), at)
            if newlines(tail) > entries - start or window >= at:
                break
            window *= 4
        place = len(tail)
        for _ in range(entries - start + 1):  # the newline of each line wanted, and the one before them
            place = tail.rfind(b"\n", 0, place)
        return at - len(tail) + place + 1

    def torn_bytes(self, session_id: str, segment_id: str, committed: int = 0) -> int:
        """Return how many uncommitted bytes there are at the tail right now, behind those that are known not to be."""
        path = self._path(parse_id(session_id), parse_id(segment_id))
        file = self._open(path)
        with _layout.reported(path):
            size = os.fstat(file.fd).st_size
            return size - committed_end(file.fd, size, committed) if size > committed else 0

    def read_trace(self, session_id: str, segment_id: str) -> Iterator[bytes]:
        """Return the lines of the trace; none if there is no trace."""
        path = self._trace_path(parse_id(session_id), parse_id(segment_id))
        try:
            file = self._open(path)
        except NotFound:
            if not self.exists(session_id, segment_id):
                raise
            return iter(())
        with _layout.reported(path):
            end = committed_end(file.fd, os.fstat(file.fd).st_size)
        return (line for block in blocks(file, 0, end, None) for line in block[:-1].split(b"\n"))

    def length(self, session_id: str, segment_id: str) -> int:
        """Return how many lines are committed."""
        return self.position(session_id, segment_id)[0]

    def position(self, session_id: str, segment_id: str) -> tuple[int, int]:
        """Return how many lines and bytes are committed; without a look at those that were counted before."""
        key = parse_id(session_id), parse_id(segment_id)
        path = self._path(*key)
        known = self._last_known(key)
        try:
            found = os.stat(path, follow_symlinks=False)
        except OSError:
            found = None
        if known is not None and found is not None and known[0] == found.st_ino and known[2] == found.st_size:
            return known[1:]
        file = self._open(path)
        with _layout.reported(path):
            found = os.fstat(file.fd)
            entries, at = self._still_known(file.fd, key, found)
            end = committed_end(file.fd, found.st_size, at)
            entries += count_lines(file.fd, at, end)
            tail = read_span(file.fd, max(0, end - _TAIL_BYTES), end)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._tails.clear()
        self._known[key] = found.st_ino, entries, end
        self._tails[key] = tail
        return entries, end

    def _still_known(self, fd: int, key: Key, found: os.stat_result) -> tuple[int, int]:
        """Return the entries and bytes that were counted before, if the file still begins with them, else (0, 0).

        The number of an inode is soon used again: a file that was deleted and made anew may have the same.
        """
        inode, entries, end = self._last_known(key) or (0, 0, 0)
        if inode != found.st_ino or end > found.st_size:
            return 0, 0
        tail = self._tails.get(key)
        if (
            tail is not None
            and self._known[key] == (inode, entries, end)
            and read_span(fd, end - len(tail), end) != tail
        ):
            return 0, 0
        return entries, end

    def _open(self, path: str) -> OpenFile:
        try:
            return OpenFile(path)
        except StoreUnavailable as exc:
            if not self._spare_descriptors(exc):
                raise
            return OpenFile(path)

    def _spare_descriptors(self, exc: StoreUnavailable) -> bool:
        """Close some descriptors, if ``exc`` says that there are too many; tell whether there were any to close."""
        return False

    def read_span(self, session_id: str, segment_id: str, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to ``stop``, which are known to be committed."""
        path = self._path(parse_id(session_id), parse_id(segment_id))
        file = self._open(path)
        with _layout.reported(path):
            return read_span(file.fd, start, stop)

    def lines_back(self, session_id: str, segment_id: str, end: int | None = None) -> Iterator[bytes]:
        """Return the committed lines, last first, or those before byte ``end``; what is not asked for is not read."""
        path = self._path(parse_id(session_id), parse_id(segment_id))
        file = self._open(path)
        if end is None:
            with _layout.reported(path):
                end = committed_end(file.fd, os.fstat(file.fd).st_size)
        return lines_before(file, end)

    def last_line(self, session_id: str, segment_id: str) -> bytes:
        """Return the last committed line, found from the end."""
        end = self.position(session_id, segment_id)[1]
        file = self._open(self._path(parse_id(session_id), parse_id(segment_id)))
        window = 1 << 12
        while True:
            with _layout.reported(file.path):
                tail = read_span(file.fd, max(0, end - window), end)
            start = tail.rfind(b"\n", 0, len(tail) - 1) + 1
            if start or window >= end:
                return tail[start:-1]
            window *= 8

    def _last_known(self, key: Key) -> tuple[int, int, int] | None:
        """Return what is known of a segment: inode, entries, bytes."""
        return self._known.get(key)

    def exists(self, session_id: str, segment_id: str) -> bool:
        """Tell whether the segment is there."""
        try:
            os.close(_layout.open_file(self._path(parse_id(session_id), parse_id(segment_id)), os.O_RDONLY))
        except (NotFound, UnsafePath):
            return False
        return True

    def follow(
        self, session_id: str, segment_id: str, start: int = 0, *, stop: Callable[[], bool] | None = None
    ) -> Iterator[bytes]:
        """Return the lines from ``start`` on as they are committed. See :class:`Store`.

        It naps between looks, from 0.5 ms up to 10 ms when nothing comes: below 1 % of a core.

        Raises:
            NotFound: the segment was deleted or replaced, after everything in it was returned.
            HeadMoved: lines that were returned were taken back after a failed sync.
        """
        check_counts(start=start)
        path = self._path(parse_id(session_id), parse_id(segment_id))
        return follow_file(self._open(path), start, stop)

    # ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        """Return the session ids, newest first, those less than ``before``, at most ``limit``."""
        check_counts(limit=limit)
        bound = parse_id(before) if before is not None else None
        if limit is not None:
            return self._newest_sessions(bound, limit)
        try:
            with os.scandir(self._root) as found:
                ids = [
                    entry.name
                    for entry in found
                    if len(entry.name) == 36
                    and (bound is None or entry.name < bound)
                    and _layout.as_id(entry.name)
                    and entry.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise _layout.unavailable(self._root, exc) from exc
        ids.sort(reverse=True)
        return ids

    def _newest_sessions(self, bound: str | None, limit: int) -> list[str]:
        """Look only at as many names as are returned: that takes a third of the time."""
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise _layout.unavailable(self._root, exc) from exc
        names = [name for name in names if len(name) == 36 and (bound is None or name < bound)]
        names.sort(reverse=True)
        found = (name for name in names if _layout.as_id(name) and _layout.is_folder(f"{self._root}/{name}"))
        return list(itertools.islice(found, limit))

    def list_segments(self, session_id: str) -> list[str]:
        """Return the segment ids of a session, newest first."""
        path = f"{self._root}/{parse_id(session_id)}"
        with _layout.folder(path) as fd:
            try:
                with os.scandir(fd) as found:
                    ids = [
                        entry.name[:36]
                        for entry in found
                        if entry.name[36:] == _layout.SEGMENT_SUFFIX
                        and _layout.as_id(entry.name[:36])
                        and entry.is_file(follow_symlinks=False)
                    ]
            except OSError as exc:
                raise _layout.unavailable(path, exc) from exc
        ids.sort(reverse=True)
        return ids

    def lookup_session_of(self, segment_id: str) -> str | None:
        """Return the session that holds the segment, or None; looks into each session's folder, newest first."""
        segment_id = parse_id(segment_id)
        unseen: StoreUnavailable | None = None
        for session_id in self.list_sessions():
            try:
                if self.exists(session_id, segment_id):
                    return session_id
            except StoreUnavailable as exc:  # it may be in another folder; if it is not, nobody knows
                unseen = unseen or exc
        if unseen is not None:
            raise unseen
        return None
