"""Reading the feed from its end: in blocks, as far back as is asked. Writes nothing, takes no lock."""

import os
import stat
from collections.abc import Iterator
from typing import Final, Self

from session_log._committed import read_span
from session_log._errors import UnsafePath
from session_log._feed import MAX_FEED_LINE_BYTES, FeedEvent, Gap, Header, decode_feed_line, header_of
from session_log._feed_file import feed_path
from session_log._layout import reported
from session_log._plain import PLAIN

BLOCK_BYTES: Final = 1 << 14
"""How much is read at once from the end: a hundred lines, of which twenty sessions are mostly found."""
_LARGE_BLOCK_BYTES: Final = 1 << 20
_GROWTH: Final = 4


class FeedReader:
    """The feed of a root as it is now. A context manager that closes it; also closed with its last reference.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        UnsafePath: it is no plain file.
    """

    fd = -1

    def __init__(self, root: str) -> None:
        self.path = feed_path(root)
        self.fd = os.open(self.path, os.O_RDONLY | PLAIN)
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafePath(self.path, "is a FIFO or device where a plain file belongs")
        self.identity = found.st_dev, found.st_ino
        self.size = found.st_size

    def close(self) -> None:
        """Close it. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    __del__ = close

    def header(self) -> Header | None:
        """Return what the feed says about itself, if anything."""
        return header_of(os.pread(self.fd, MAX_FEED_LINE_BYTES, 0))

    def events_back(self) -> Iterator[tuple[int, FeedEvent | Gap]]:
        """Yield what the lines say, the last one first, with the byte of each; a torn end says nothing."""
        for at, line in self._lines_back():
            found = decode_feed_line(line)
            if found is not None:
                yield at, found

    def _lines_back(self) -> Iterator[tuple[int, bytes]]:
        rest, torn, at, size = b"", True, self.size, BLOCK_BYTES
        while at > 0:
            start = max(0, at - size)
            data = read_span(self.fd, start, at) + rest
            lines = data.split(b"\n")
            place = start + len(data)
            for line in reversed(lines[1:]):
                place -= len(line) + 1
                if not torn:
                    yield place + 1, line
                torn = False
            at, rest, size = start, lines[0], min(size * _GROWTH, _LARGE_BLOCK_BYTES)
            if len(rest) > _LARGE_BLOCK_BYTES:  # no line, however far it goes back
                yield at, rest
                return
        if not torn:
            yield 0, rest

    def sessions_of(self, segment_id: str) -> Iterator[str]:
        """Yield the sessions that lines about a segment name, the last line first."""
        needle = f'"segment_id":"{segment_id}"'.encode()
        stop = self.size
        while stop > 0:
            start = max(0, stop - _LARGE_BLOCK_BYTES)
            data = read_span(self.fd, start, stop)
            end = len(data)
            while (at := data.rfind(needle, 0, end)) >= 0:
                end = data.rfind(b"\n", 0, at) + 1
                found = decode_feed_line(data[end : at + MAX_FEED_LINE_BYTES].partition(b"\n")[0])
                if isinstance(found, FeedEvent) and found.segment_id == segment_id:
                    yield found.session_id
            stop = start + MAX_FEED_LINE_BYTES if start else 0  # a line may lie across the border of two blocks


def sessions_in_feed(root: str, segment_id: str) -> list[str]:
    """Return the sessions that the feed names for a segment, the likeliest first; none if it cannot be read."""
    try:
        with FeedReader(root) as feed, reported(feed.path):
            return list(dict.fromkeys(feed.sessions_of(segment_id)))
    except (OSError, UnsafePath):
        return []
