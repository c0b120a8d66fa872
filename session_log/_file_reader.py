"""Reading segment files: never writes, never locks, opens each file anew. Live files and read-only media alike."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from session_log import _layout
from session_log._committed import committed_end, count_lines, read_span
from session_log._errors import CorruptSegment, HeadMoved, NotFound, UnsafePath
from session_log._frame import check_counts, committed_length, newlines, split_committed
from session_log._ids import parse_id

BLOCK_BYTES: Final = 1 << 18
"""How much is read at once: small enough for the processor's cache, large enough to forget the call."""
MAX_KNOWN: Final = 4096
_NEAR_LINES: Final = 2048
_FIRST_NAP_S: Final = 0.0005
_LAST_NAP_S: Final = 0.01
Key = tuple[str, str]


class _Descriptor:
    """A descriptor that is closed with its last reference: an iterator may be dropped before its first step."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self.fd = _layout.open_file(path, os.O_RDONLY)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class FileReader:
    """The reading half of a store of files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)
        self._known: dict[Key, tuple[int, int, int]] = {}

    def _path(self, session_id: str, segment_id: str) -> str:
        return f"{self._root}/{session_id}/{segment_id}{_layout.SEGMENT_SUFFIX}"

    def _trace_path(self, session_id: str, segment_id: str) -> str:
        return f"{self._root}/{session_id}/{segment_id}{_layout.TRACE_SUFFIX}"

    def segment_path(self, session_id: str, segment_id: str) -> Path:
        """Return where the segment is, or would be."""
        return Path(self._path(parse_id(session_id), parse_id(segment_id)))

    def trace_path(self, session_id: str, segment_id: str) -> Path:
        """Return where the segment's trace is, or would be."""
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
        file = _Descriptor(path)
        end = os.fstat(file.fd).st_size
        if (stop, start) == (1, 0):
            offset = 0  # the first line is there with the file, or the segment was never created
        if offset is None or stop is None:
            end = committed_end(file.fd, end)
        at = offset if offset is not None else self._byte_of(file.fd, (session_id, segment_id), start, end)
        return _blocks(file, at, end, None if stop is None else stop - start)

    def _byte_of(self, fd: int, key: Key, start: int, end: int) -> int:
        """Return where line ``start`` begins: counted from the end that is known, if that is near, else from the start."""
        known = self._last_known((parse_id(key[0]), parse_id(key[1])))
        if (
            known is None
            or known[0] != os.fstat(fd).st_ino
            or known[2] > end
            or not 0 <= known[1] - start <= _NEAR_LINES
        ):
            return _skip_lines(fd, start, end)
        _, entries, at = known
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
        file = _Descriptor(self._path(parse_id(session_id), parse_id(segment_id)))
        size = os.fstat(file.fd).st_size
        return size - committed_end(file.fd, size, committed) if size > committed else 0

    def read_trace(self, session_id: str, segment_id: str) -> Iterator[bytes]:
        """Return the lines of the trace; none if there is no trace."""
        path = self._trace_path(parse_id(session_id), parse_id(segment_id))
        try:
            file = _Descriptor(path)
        except NotFound:
            if not self.exists(session_id, segment_id):
                raise
            return iter(())
        end = committed_end(file.fd, os.fstat(file.fd).st_size)
        return (line for block in _blocks(file, 0, end, None) for line in block[:-1].split(b"\n"))

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
        fd = _layout.open_file(path, os.O_RDONLY)
        try:
            found = os.fstat(fd)
            entries, at = known[1:] if known and known[0] == found.st_ino and known[2] <= found.st_size else (0, 0)
            end = committed_end(fd, found.st_size, at)
            entries += count_lines(fd, at, end)
        finally:
            os.close(fd)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = found.st_ino, entries, end
        return entries, end

    def read_span(self, session_id: str, segment_id: str, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to ``stop``, which are known to be committed."""
        file = _Descriptor(self._path(parse_id(session_id), parse_id(segment_id)))
        return read_span(file.fd, start, stop)

    def last_line(self, session_id: str, segment_id: str) -> bytes:
        """Return the last committed line, found from the end."""
        end = self.position(session_id, segment_id)[1]
        file = _Descriptor(self._path(parse_id(session_id), parse_id(segment_id)))
        window = 1 << 12
        while True:
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
        return _follow(path, _Descriptor(path), start, stop)

    # ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        """Return the session ids, newest first, those less than ``before``, at most ``limit``."""
        check_counts(limit=limit)
        bound = parse_id(before) if before is not None else None
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
        return ids[:limit]

    def list_segments(self, session_id: str) -> list[str]:
        """Return the segment ids of a session, newest first."""
        path = f"{self._root}/{parse_id(session_id)}"
        with _layout.folder(path) as fd, os.scandir(fd) as found:
            ids = [
                entry.name[:36]
                for entry in found
                if entry.name[36:] == _layout.SEGMENT_SUFFIX
                and _layout.as_id(entry.name[:36])
                and entry.is_file(follow_symlinks=False)
            ]
        ids.sort(reverse=True)
        return ids

    def lookup_session_of(self, segment_id: str) -> str | None:
        """Return the session that holds the segment, or None; looks into each session's folder, newest first."""
        segment_id = parse_id(segment_id)
        for session_id in self.list_sessions():
            if self.exists(session_id, segment_id):
                return session_id
        return None


def _skip_lines(fd: int, lines: int, end: int) -> int:
    """Return where the line after the first ``lines`` begins, or ``end``."""
    at = 0
    while lines > 0 and at < end:
        block = read_span(fd, at, min(at + BLOCK_BYTES, end))
        count = newlines(block)
        if not block:
            return at
        if count < lines:
            lines -= count
            at += len(block)
            continue
        place = -1
        for _ in range(lines):
            place = block.index(b"\n", place + 1)
        return at + place + 1
    return at


def _blocks(file: _Descriptor, at: int, end: int, limit: int | None) -> Iterator[bytes]:
    """Yield whole lines from ``at`` to ``end``, ``limit`` lines at most; close the file at the end."""
    fd = file.fd
    try:
        size = BLOCK_BYTES
        while at < end and (limit is None or limit > 0):
            block = read_span(fd, at, min(at + size, end))
            cut = block.rfind(b"\n") + 1
            if not cut:
                if at + len(block) < min(at + size, end):
                    lines = count_lines(fd, 0, at)
                    raise CorruptSegment(file.path, lines + 1, at, "got shorter while it was read; read it again")
                if at + len(block) >= end:
                    return
                size *= 4  # a line longer than a block
                continue
            if cut != len(block):
                block = block[:cut]
            if limit is not None:
                count = newlines(block)
                if count > limit:
                    place = -1
                    for _ in range(limit):
                        place = block.index(b"\n", place + 1)
                    block = block[: place + 1]
                limit -= count
            yield block
            at += len(block)
            size = BLOCK_BYTES
    finally:
        file.close()


def _follow(path: str, file: _Descriptor, start: int, stop: Callable[[], bool] | None) -> Iterator[bytes]:
    fd = file.fd
    try:
        end = committed_end(fd, os.fstat(fd).st_size)
        at = _skip_lines(fd, start, end)
        skip = start - count_lines(fd, 0, at)  # lines that are not there yet, and not asked for
        nap = _FIRST_NAP_S
        size = BLOCK_BYTES
        ending = False
        while True:
            buffer = _behind(path, fd, at, size)
            if b"\0" in buffer:  # after a power cut: what is torn stays unread until the next writer removes it
                buffer = buffer[: committed_length(buffer, whole=True)]
            lines, used = split_committed(buffer)
            at += used
            if lines:
                yield from lines[max(skip, 0) :]
                skip -= len(lines)
                nap, size = _FIRST_NAP_S, BLOCK_BYTES
                continue
            if len(buffer) == size:
                size *= 4  # a unit longer than a block
                continue
            if ending:
                return
            ending = stop is not None and stop()
            if ending:
                continue  # one more look: what came before stop() said so is to be returned
            _still_there(path, fd, at)
            time.sleep(nap)
            nap = min(nap * 2, _LAST_NAP_S)
    finally:
        file.close()


def _behind(path: str, fd: int, at: int, size: int) -> bytes:
    """Return the bytes from ``at``, where a line was seen to end, if it still ends there.

    Raises:
        HeadMoved: what was returned was taken back, and something else written in its place.
    """
    if at == 0:
        return os.pread(fd, size, at)
    data = os.pread(fd, size + 1, at - 1)
    if data[:1] not in (b"", b"\n"):
        lines = count_lines(fd, 0, at)
        raise HeadMoved(path, lines + 1, lines)
    return data[1:]


def _still_there(path: str, fd: int, at: int) -> None:
    found = os.fstat(fd)
    if found.st_size < at:
        raise HeadMoved(path, count_lines(fd, 0, found.st_size) + 1, count_lines(fd, 0, found.st_size))
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError:
        named = None
    if named is None or (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
        raise NotFound(path, "it was deleted or replaced while it was followed")
