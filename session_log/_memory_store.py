"""The store in memory: a dict of lists, for tests and for what need not survive. Same contract, no files."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

from session_log._at_fork import renew_after_fork
from session_log._blob_content import Payload, check_content, hash_of, read_payload, sha256_of
from session_log._blob_ref import BlobRef
from session_log._errors import HeadMoved, NotFound, SegmentBusy, SegmentExists, SessionDeleted, WriterClosed
from session_log._frame import (
    MAX_BATCH_BYTES,
    MAX_BATCH_LINES,
    MAX_LINE_BYTES,
    check_counts,
    check_trace_lines,
    framed,
    framed_whole,
    marks_of,
)
from session_log._ids import parse_id
from session_log._store import Appender, Capabilities

_NAP_S = 0.05
"""How long a follower sleeps at most before it asks ``stop`` again; an append wakes it at once."""


class MemoryStore:
    """Sessions in memory, shared by the threads of one process; gone with it."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, list[bytes]]] = {}
        self._traces: dict[tuple[str, str], list[bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._deleted: set[str] = set()
        self._holders: weakref.WeakValueDictionary[tuple[str, str], object] = weakref.WeakValueDictionary()
        self._changed = threading.Condition()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._changed = threading.Condition()

    def create_segment(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: str | None = None
    ) -> int:
        """Create the segment with these lines, whole or not at all, and return its length. See :class:`Store`."""
        session_id, segment_id = parse_id(session_id), parse_id(segment_id)
        lines = framed_whole(lines, token)
        with self._changed:
            if session_id in self._deleted:
                raise SessionDeleted(session_id, "was deleted")
            segments = self._sessions.setdefault(session_id, {})
            present = segments.get(segment_id)
            if present is None:
                segments[segment_id] = lines
            elif token is None or present[: len(lines)] != lines:
                raise SegmentExists(session_id, segment_id)
            return len(lines)

    def was_deleted(self, session_id: str) -> bool:
        """Tell whether a session of this id was deleted: the id is not used again."""
        return parse_id(session_id) in self._deleted

    def adopt(self, session_id: str, segment_id: str, lines: Sequence[bytes]) -> None:
        """Take the lines of a segment from elsewhere as they are, damaged ones too; what was here is dropped."""
        with self._changed:
            self._sessions.setdefault(parse_id(session_id), {})[parse_id(segment_id)] = list(lines)
            self._changed.notify_all()

    def append(
        self,
        session_id: str,
        segment_id: str,
        lines: Sequence[bytes],
        *,
        expected: int | None = None,
        token: str | None = None,
    ) -> int:
        """Append the lines, all or nothing, and return the new length. See :class:`Store`."""
        return self._append(session_id, segment_id, framed(lines, token), expected, token, None)

    def _append(
        self,
        session_id: str,
        segment_id: str,
        lines: list[bytes],
        expected: int | None,
        token: str | None,
        holder: object,
    ) -> int:
        with self._changed:
            present = self._segment(session_id, segment_id)
            if token is not None:
                start = expected if expected is not None else max(0, len(present) - MAX_BATCH_LINES)
                stop = start + 1 if expected is not None else len(present)
                for at in range(start, min(stop, len(present))):
                    if marks_of(present[at]).token == token and present[at : at + len(lines)] == lines:
                        return at + len(lines)
            key = parse_id(session_id), parse_id(segment_id)
            held_by = self._holders.get(key)
            if held_by is not None and held_by is not holder:
                raise SegmentBusy("/".join(key), "another writer of this process")
            if expected is not None and expected != len(present):
                raise HeadMoved("/".join(key), expected, len(present))
            present += lines
            self._changed.notify_all()
            return len(present)

    def _segment(self, session_id: str, segment_id: str) -> list[bytes]:
        session_id, segment_id = parse_id(session_id), parse_id(segment_id)
        try:
            return self._sessions[session_id][segment_id]
        except KeyError:
            raise NotFound(f"{session_id}/{segment_id}", "no such segment") from None

    def appender(self, session_id: str, segment_id: str, position: tuple[int, int]) -> Appender:
        """Return a writer's grip on a segment."""
        return _MemoryAppender(self, session_id, segment_id)

    def read(self, session_id: str, segment_id: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the lines from ``start`` to before ``stop``."""
        check_counts(start=start, stop=stop)
        with self._changed:
            return iter(self._segment(session_id, segment_id)[start:stop])

    def length(self, session_id: str, segment_id: str) -> int:
        """Return how many lines there are."""
        with self._changed:
            return len(self._segment(session_id, segment_id))

    def exists(self, session_id: str, segment_id: str) -> bool:
        """Tell whether the segment is there."""
        return parse_id(segment_id) in self._sessions.get(parse_id(session_id), {})

    def follow(
        self, session_id: str, segment_id: str, start: int = 0, *, stop: Callable[[], bool] | None = None
    ) -> Iterator[bytes]:
        """Return the lines from ``start`` on as they are appended. See :class:`Store`."""
        check_counts(start=start)
        key = parse_id(session_id), parse_id(segment_id)
        with self._changed:
            return self._follow(key, self._segment(*key), start, stop)

    def _follow(
        self, key: tuple[str, str], segment: list[bytes], at: int, stop: Callable[[], bool] | None
    ) -> Iterator[bytes]:
        ending = False
        while True:
            with self._changed:
                lines = segment[at:]
                gone = self._sessions.get(key[0], {}).get(key[1]) is not segment
            yield from lines
            at += len(lines)
            if lines:
                continue
            if ending:
                return
            if gone:
                raise NotFound("/".join(key), "it was deleted while it was followed")
            ending = stop is not None and stop()
            if ending:
                continue  # one more look: what came before stop() said so is to be returned
            with self._changed:
                if len(segment) <= at and self._sessions.get(key[0], {}).get(key[1]) is segment:
                    self._changed.wait(_NAP_S)

    def list_sessions(self, *, before: str | None = None, limit: int | None = None) -> list[str]:
        """Return the session ids, newest first, those less than ``before``, at most ``limit``."""
        check_counts(limit=limit)
        bound = parse_id(before) if before is not None else None
        with self._changed:
            ids = [session_id for session_id in self._sessions if bound is None or session_id < bound]
        return sorted(ids, reverse=True)[:limit]

    def list_segments(self, session_id: str) -> list[str]:
        """Return the segment ids of a session, newest first."""
        with self._changed:
            segments = self._sessions.get(parse_id(session_id))
            if segments is None:
                raise NotFound(parse_id(session_id), "no such session")
            return sorted(segments, reverse=True)

    def lookup_session_of(self, segment_id: str) -> str | None:
        """Return the session that holds the segment, or None."""
        segment_id = parse_id(segment_id)
        with self._changed:
            return next((found for found, segments in self._sessions.items() if segment_id in segments), None)

    def append_trace(self, session_id: str, segment_id: str, lines: Sequence[bytes]) -> None:
        """Append lines to the segment's trace."""
        check_trace_lines(lines)
        with self._changed:
            self._segment(session_id, segment_id)
            self._traces.setdefault((parse_id(session_id), parse_id(segment_id)), []).extend(lines)

    def read_trace(self, session_id: str, segment_id: str) -> Iterator[bytes]:
        """Return the lines of the trace; none if there is no trace."""
        with self._changed:
            self._segment(session_id, segment_id)
            return iter(list(self._traces.get((parse_id(session_id), parse_id(segment_id)), [])))

    def put_blob(self, data: Payload, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        """Keep a payload by its hash."""
        content = read_payload(data)
        ref = BlobRef(sha256_of(content), len(content), media_type, kind)
        self._blobs[ref.sha256] = content
        return ref

    def get_blob(self, ref: BlobRef | str) -> bytes:
        """Return a payload, its hash checked."""
        name = hash_of(ref)
        data = self._blobs.get(name)
        if data is None:
            raise NotFound(f"blob {name}", "no such payload")
        check_content(ref, data, f"blob {name}")
        return data

    def delete_session(self, session_id: str) -> None:
        """Take the session away; writers on it get NotFound from then on."""
        session_id = parse_id(session_id)
        with self._changed:
            if self._sessions.pop(session_id, None) is None:
                raise NotFound(session_id, "no such session")
            self._deleted.add(session_id)
            for key in [key for key in self._traces if key[0] == session_id]:
                del self._traces[key]
            self._changed.notify_all()

    def capabilities(self) -> Capabilities:
        """Return what this store promises."""
        return Capabilities(
            durability="memory",
            shared_between_processes=False,
            max_line_bytes=MAX_LINE_BYTES,
            max_batch_lines=MAX_BATCH_LINES,
            max_batch_bytes=MAX_BATCH_BYTES,
            tail_latency_ms=1,
        )

    def close(self) -> None:
        """Do nothing: memory is freed with the store."""


class _MemoryAppender:
    """A writer's grip on a segment in memory."""

    def __init__(self, store: MemoryStore, session_id: str, segment_id: str) -> None:
        self._store = store
        self._key = session_id, segment_id
        self._closed = False

    def append(self, data: bytes, count: int, expected: int | None = None, final: bool = False) -> int:
        """Append ``count`` lines and return the new length."""
        if self._closed:
            raise WriterClosed("/".join(self._key), "it was closed")
        lines = data[:-1].split(b"\n")
        return self._store._append(*self._key, lines, expected, None, self)

    def hold(self) -> None:
        """Keep others from appending until :meth:`close`."""
        with self._store._changed:
            holder = self._store._holders.setdefault(self._key, self)
            if holder is not self:
                raise SegmentBusy("/".join(self._key), "another writer of this process")

    def sync(self) -> None:
        """Do nothing: memory has no disk to bring it to."""

    def close(self) -> None:
        """Let go."""
        self._closed = True
        with self._store._changed:
            if self._store._holders.get(self._key) is self:
                del self._store._holders[self._key]
