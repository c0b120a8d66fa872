"""What is done to a segment beside appending: bringing it to the disk for others, blanking damaged lines."""

import os
from collections.abc import Sequence

from session_log import _layout, _repair
from session_log._committed import OpenFile, committed_end, count_lines, read_span
from session_log._errors import CorruptSegment, SegmentBusy
from session_log._segment_file import SegmentFile


def settle(path: str, *, durability: str) -> None:
    """Bring what is in a segment to the disk; what is torn at its end stays as it is.

    Raises:
        StoreUnavailable, AppendUnknown: a sync failed, and so did bringing it to the disk in a new file.
    """
    with OpenFile(path) as file:
        try:
            _repair.sync(file.fd)
        except OSError as exc:
            broken = SegmentFile(path, durability=durability)
            try:
                broken.rescue(exc)
            except SegmentBusy:  # its owner is alive, and will notice at its own next sync
                raise _layout.unavailable(path, exc) from exc
            finally:
                broken.close()


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
                size = os.fstat(fd).st_size
                committed = committed_end(fd, size)
                blanked = [(offset, read_span(fd, offset, offset + length)) for offset, length in spans]
                _repair.blank_lines(fd, path, spans)
                if committed_end(fd, size) < committed:  # a mark on one of them held others together
                    _repair.put_back(fd, path, blanked)
                    reason = "to blank it would take back lines behind it, which the mark on it says are committed"
                    raise CorruptSegment(path, count_lines(fd, 0, spans[0][0]) + 1, spans[0][0], reason)
        finally:
            os.close(fd)
    finally:
        holder.close()
