"""The store of plain files: ``{root}/{session_id}/{segment_id}.jsonl``.

Nothing is made before the first segment is: a store on read-only media reads. What is listed can be restored: a segment
appears with all of its first lines, by an exclusive link to a file that is complete.
"""

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import BinaryIO, Final, Literal, Self

from session_log import _layout, _mend, _trash, blobs
from session_log._blob_content import Payload
from session_log._blob_ref import BlobRef
from session_log._clock import now_ms
from session_log._compression import COMPRESS_ABOVE_BYTES, Method, compression
from session_log._errors import (
    CallerError,
    NotFound,
    SegmentExists,
    SessionDeleted,
    StoreUnavailable,
    UnsafePath,
)
from session_log._feed_file import RunEnds
from session_log._feed_reader import sessions_in_feed
from session_log._frame import (
    MAX_BATCH_BYTES,
    MAX_BATCH_LINES,
    MAX_LINE_BYTES,
    check_trace_lines,
    framed,
    framed_whole,
    marks_of,
)
from session_log._ids import parse_id
from session_log._open_files import OpenFiles, announced
from session_log._segment_file import SegmentFile
from session_log._state import Damage
from session_log._store import Appender, Capabilities
from session_log._whole import create_whole, move_to_trash

_DURABILITIES: Final = ("process", "turn", "power")
TAIL_LATENCY_MS: Final = 20
_FINAL_KINDS: Final = (b'{"kind":"turn_end"', b'{"kind":"run_completed"', b'{"kind":"run_errored"')
"""How the lines begin that end a turn or run: from there on it survives a power cut, if the store promises that."""
Durability = Literal["process", "turn", "power"]
Key = tuple[str, str]
Position = tuple[int, int]


class FsStore(OpenFiles):
    """Sessions below ``root`` (default: :func:`default_root`), in plain files. Safe for threads and processes.

    ``durability``: what an acknowledged append survives: ``"process"`` (the death of the process), ``"turn"`` (a
    power cut, from the end of each turn or run on), ``"power"`` (a power cut, each append). ``compress_blobs``: how
    to keep blobs of more than ``compress_above`` bytes that get smaller by it, ``"zlib"`` or ``"zstd"``.
    ``feed``: say in ``feed.jsonl`` which session changed (:mod:`session_log.feed`).

    Raises:
        CallerError: an argument is no such thing, or the package for zstd is not there.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "turn",
        feed: bool = True,
        compress_blobs: Method | None = None,
        compress_above: int = COMPRESS_ABOVE_BYTES,
    ) -> None:
        if durability not in _DURABILITIES:
            raise CallerError(f"durability={durability!r}: is none of {', '.join(map(repr, _DURABILITIES))}")
        if root is not None and not isinstance(root, (str, os.PathLike)):
            raise CallerError(f"root={root!r}: is no path")
        from pathlib import Path

        where = Path(os.path.abspath(root if root is not None else _layout.default_root()))
        super().__init__(where, durability=durability, feed=feed)
        self.durability: Durability = durability
        self._compression = compression(compress_blobs, compress_above)
        self._synced: set[str] = set()

    def __repr__(self) -> str:
        return f"FsStore({str(self.root)!r}, durability={self.durability!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def create_segment(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: str | None = None
    ) -> int:
        """Create the segment with these lines, whole or not at all, and return its length. See :class:`Store`."""
        key = parse_id(session_id), parse_id(segment_id)
        lines = framed_whole(lines, token)
        data = b"\n".join(lines) + b"\n"
        try:
            try:
                self._create(key, data)
            except FileNotFoundError:  # the session was deleted since its folder was made: make it again
                self._synced.discard(f"{self._root}/{key[0]}")
                self._create(key, data)
        except FileExistsError:
            if token is not None and self._starts_with(key, data):
                return len(lines)
            raise SegmentExists(*key) from None
        except FileNotFoundError as exc:
            raise _layout.unavailable(self._path(*key), exc) from exc
        return len(lines)

    def _create(self, key: Key, data: bytes) -> None:
        folder = f"{self._root}/{key[0]}"
        durable = self.durability != "process"
        if folder not in self._synced or not _layout.is_folder(folder):
            _layout.make_parents(self._root, durable=durable)
            _trash.refuse_deleted(self._root, key[0])
            if not _layout.make_folder(folder, durable=durable) and durable:
                _layout.sync_folder(self._root)  # once a store: whoever made the folder may have died before that
            self._synced.add(folder)
        if self.feed is not None:
            start = data.index(b"\n")
            self.feed.announce_start(*key, data[:start])
            if data[start:] != b"\n":  # a writer's fork has from the beginning what it was about to append
                RunEnds(self.feed, *key)(data[start + 1 :])
        create_whole(self._path(*key), data, durable=durable)

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
        key = parse_id(session_id), parse_id(segment_id)
        lines = framed(lines, token)
        data, count, final = _joined(lines)

        def attempt(file: SegmentFile) -> int:
            if token is None:
                return file.append(data, count, expected, final)
            already = partial(self._already_in, key, lines, expected, token)
            return file.append_once(data, count, expected, final, already)

        return self._with_file(self._files, key, attempt)

    def appender(self, session_id: str, segment_id: str, position: tuple[int, int]) -> Appender:
        """Return a descriptor of its own on the segment, for a writer that knows its first lines and bytes."""
        key = parse_id(session_id), parse_id(segment_id)
        file = SegmentFile(self._path(*key), durability=self.durability, position=position)
        return file if self.feed is None else announced(file, self.feed, key)

    def settle(self, session_id: str, segment_id: str) -> None:
        """Bring what is in a segment to the disk, unless this store promises nothing about power cuts.

        Raises:
            StoreUnavailable, AppendUnknown: a sync failed, and so did bringing it to the disk in a new file.
        """
        if self.durability != "process":
            _mend.settle(self._path(parse_id(session_id), parse_id(segment_id)), durability=self.durability)

    def is_in_doubt(self, session_id: str, segment_id: str) -> bool:
        """Tell whether :meth:`settle` failed, and will again: nothing that must last can refer to the segment."""
        return _mend.is_in_doubt(self._path(parse_id(session_id), parse_id(segment_id)))

    def append_placed(self, session_id: str, segment_id: str, lines: Sequence[bytes], expected: int | None) -> Position:
        """Append like :meth:`append`, and return the new length in entries and in bytes."""
        data, count, final = _joined(framed(lines))
        return self.append_data((parse_id(session_id), parse_id(segment_id)), data, count, expected, final=final)

    def append_data(
        self, key: Key, data: bytes, count: int, expected: int | None = None, *, final: bool = False
    ) -> Position:
        """Append framed lines to a file of a session, its facts too, and return the new length in entries and bytes."""
        return self._with_file(self._files, key, lambda file: file.append_placed(data, count, expected, final))

    def append_trace(self, session_id: str, segment_id: str, lines: Sequence[bytes]) -> None:
        """Append lines to the segment's trace, which is created with the first; never synced."""
        key = parse_id(session_id), parse_id(segment_id)
        check_trace_lines(lines)
        if key not in self._traces and not self.exists(*key):
            raise NotFound(self._path(*key), "no such segment")
        data = b"\n".join(lines) + b"\n"
        self._with_file(self._traces, key, lambda file: file.append(data, len(lines)))

    def delete_session(self, session_id: str) -> None:
        """Move the session's folder to the trash; writers on it get NotFound from then on."""
        session_id = parse_id(session_id)
        folder = str(self.root / session_id)
        os.close(_layout.open_folder(folder))
        self.let_go(session_id)
        if self.feed is not None:
            self.feed.announce("delete", now_ms(), session_id)
        move_to_trash(self._root, session_id, durable=self.durability != "process")

    def let_go(self, session_id: str) -> None:
        """Close what is open of a session: it is about to go, or files of it to be replaced."""
        self._release_session(session_id)
        self._synced.discard(f"{self._root}/{session_id}")

    def was_deleted(self, session_id: str) -> bool:
        """Tell whether a session of this id was deleted, and is not there: the id is not used again."""
        try:
            _trash.refuse_deleted(self._root, parse_id(session_id))
        except SessionDeleted:
            return True
        return False

    def confirm_parent(self, session_id: str, parent: str, child: str) -> None:
        """Take a child back that was just created, if its parent was deleted meanwhile.

        Raises:
            MissingAncestor: it was.
        """
        session_id, parent = parse_id(session_id), parse_id(parent)
        try:
            alone = os.lstat(self._path(session_id, parent)).st_nlink == 1
        except OSError:
            alone = False
        if not alone:
            _trash.confirm_parent(self.root, session_id, parent, child)

    def blank_lines(self, session_id: str, segment_id: str, damage: Sequence[Damage]) -> None:
        """Save damaged lines beside the segment and overwrite them with spaces; everything else stays where it is."""
        path = self._path(parse_id(session_id), parse_id(segment_id))
        spans = [(found.byte_offset, found.length_bytes) for found in damage]
        _mend.blank(path, spans, durability=self.durability)

    def put_blob(self, data: Payload, *, media_type: str | None = None, kind: str | None = None) -> BlobRef:
        """Keep a payload by its hash, below ``blobs``."""
        durable, how = self.durability != "process", self._compression
        return blobs.put_blob(self.root, data, durable=durable, how=how, media_type=media_type, kind=kind)

    def get_blob(self, ref: BlobRef | str) -> bytes:
        """Return a payload, its hash checked."""
        return blobs.get_blob(self.root, ref)

    def open_blob(self, ref: BlobRef | str) -> AbstractContextManager[BinaryIO]:
        """Give a payload as a binary file, its hash checked; see :func:`session_log.blobs.open_blob`."""
        return blobs.open_blob(self.root, ref)

    def capabilities(self) -> Capabilities:
        """Return what this store promises."""
        return Capabilities(
            durability=self.durability,
            shared_between_processes=True,
            max_line_bytes=MAX_LINE_BYTES,
            max_batch_lines=MAX_BATCH_LINES,
            max_batch_bytes=MAX_BATCH_BYTES,
            tail_latency_ms=TAIL_LATENCY_MS,
        )

    def lookup_session_of(self, segment_id: str) -> str | None:
        """Return the session that holds the segment, or None; what the feed does not know is looked for in folders."""
        segment_id = parse_id(segment_id)
        for session_id in sessions_in_feed(self._root, segment_id):
            with contextlib.suppress(StoreUnavailable):
                if self.exists(session_id, segment_id):
                    return session_id
        return super().lookup_session_of(segment_id)

    def _already_in(self, key: Key, lines: list[bytes], expected: int | None, token: str) -> int | None:
        """Return the length after an earlier append of the same lines under the same token, if there was one."""
        length = self.length(*key)
        if expected is not None and length <= expected:
            return None
        start = expected if expected is not None else max(0, length - MAX_BATCH_LINES)
        found = list(self.read(*key, start, start + len(lines) if expected is not None else None))
        for at, line in enumerate(found):
            if b'"token"' in line and marks_of(line).token == token and found[at : at + len(lines)] == lines:
                return start + at + len(lines)
        return None

    def _starts_with(self, key: Key, data: bytes) -> bool:
        try:
            fd = _layout.open_file(self._path(*key), os.O_RDONLY)
        except (NotFound, UnsafePath, StoreUnavailable):
            return False
        try:
            return os.pread(fd, len(data), 0) == data
        finally:
            os.close(fd)


def _joined(lines: Sequence[bytes]) -> tuple[bytes, int, bool]:
    """Return the bytes of an append, how many lines they are, and whether one of them ends a turn or run."""
    return b"\n".join(lines) + b"\n", len(lines), any(line.startswith(_FINAL_KINDS) for line in lines)
