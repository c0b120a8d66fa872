"""What is done to a segment beside appending: bringing it to the disk for others, blanking damaged lines."""

import os
from collections.abc import Sequence

from session_log import _layout, _repair
from session_log._committed import OpenFile, committed_end, count_lines, read_span
from session_log._errors import CorruptSegment, SegmentBusy
from session_log._frame import MAX_BATCH_BYTES, MAX_LINE_BYTES, committed_length, marks_of
from session_log._segment_file import SegmentFile

_failed: dict[str, OSError] = {}
"""Segments whose sync failed while somebody else held them: the next sync would say OK, and the data is gone."""


def settle(path: str, *, durability: str) -> None:
    """Bring what is in a segment to the disk; what is torn at its end stays as it is.

    Raises:
        StoreUnavailable, AppendUnknown: a sync failed, and so did bringing it to the disk in a new file.
    """
    with OpenFile(path) as file:
        try:
            _repair.sync(file.fd)
            failed = _failed.get(path)
        except OSError as exc:
            failed = _failed[path] = exc
    if failed is None:
        return
    broken = SegmentFile(path, durability=durability)
    try:
        broken.rescue(failed)
        _failed.pop(path, None)
    except SegmentBusy:  # its owner is alive, and will notice at its own next sync
        raise _layout.unavailable(path, failed) from failed
    finally:
        broken.close()


def is_in_doubt(path: str) -> bool:
    """Tell whether a sync of the segment failed here, and its owner has not mended that yet."""
    return path in _failed


def blank(path: str, spans: Sequence[tuple[int, int]], *, durability: str) -> None:
    """Save damaged lines (offset, length) and overwrite them with spaces; everything else stays where it is.

    Raises:
        SegmentBusy: a writer holds the segment.
        CorruptSegment: blank, they would take committed lines with them; nothing is changed.
    """
    holder = SegmentFile(path, durability=durability, exclusive=True)
    try:
        holder.hold()
        fd = _layout.open_file(path, os.O_RDWR)
        try:
            with _layout.reported(path):
                _refuse_to_part(fd, path, spans)
                _repair.blank_lines(fd, path, spans)
                try:
                    os.fsync(fd)
                except OSError as exc:
                    holder.rescue(exc)
        finally:
            os.close(fd)
    finally:
        holder.close()


def _refuse_to_part(fd: int, path: str, spans: Sequence[tuple[int, int]]) -> None:
    """Refuse to blank a line whose batch mark holds lines behind it together: without it they were never committed."""
    if not any(marks_of(read_span(fd, offset, offset + length)).batch for offset, length in spans):
        return
    size = os.fstat(fd).st_size
    start = max(0, size - MAX_BATCH_BYTES - MAX_LINE_BYTES)
    if start:
        start += read_span(fd, start, size).find(b"\n") + 1
    tail = bytearray(read_span(fd, start, size))
    for offset, length in spans:
        if offset >= start:
            tail[offset - start : offset - start + length] = b" " * length
    if start + (committed_length(bytes(tail), whole=start == 0) or 0) < committed_end(fd, size):
        offset = spans[0][0]
        reason = "to blank it would take back lines behind it, which the mark on it says are committed"
        raise CorruptSegment(path, count_lines(fd, 0, offset) + 1, offset, reason)
