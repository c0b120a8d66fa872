"""Following a segment file as it grows: polling, from 0.5 ms to 10 ms between looks, below 1 % of a core when idle."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from session_log._committed import BLOCK_BYTES, OpenFile, committed_end, count_lines, skip_lines
from session_log._errors import HeadMoved, NotFound
from session_log._frame import committed_length, split_committed
from session_log._layout import reported

_FIRST_NAP_S: Final = 0.0005
_LAST_NAP_S: Final = 0.01


def follow_file(file: OpenFile, start: int, stop: Callable[[], bool] | None) -> Iterator[bytes]:
    """Yield the lines of ``file`` from ``start`` on as they are committed, whole units only; close it at the end.

    Raises:
        NotFound: it was deleted or replaced, after everything in it was returned.
        HeadMoved: lines that were returned were taken back.
    """
    path = file.path
    fd = file.fd
    with file:
        with reported(path):
            end = committed_end(fd, os.fstat(fd).st_size)
            at = skip_lines(fd, start, end)
            skip = start - count_lines(fd, 0, at)  # lines that are not there yet, and not asked for
        nap = _FIRST_NAP_S
        size = BLOCK_BYTES
        ending = gone = False
        while True:
            lines, used, seen = _next_units(path, fd, at, size)
            at += used
            if lines:
                yield from lines[max(skip, 0) :]
                skip -= len(lines)
                nap, size = _FIRST_NAP_S, BLOCK_BYTES
                continue
            if seen == size:
                size *= 4  # a unit longer than a block
                continue
            if ending:
                return
            if gone:
                raise NotFound(path, "it was deleted or replaced while it was followed")
            ending = stop is not None and stop()
            gone = not _still_there(path, fd, at)
            if ending or gone:
                continue  # one more look: what came before that is to be returned
            time.sleep(nap)
            nap = min(nap * 2, _LAST_NAP_S)


def _next_units(path: str, fd: int, at: int, size: int) -> tuple[list[bytes], int, int]:
    """Return the lines of the whole units in the next ``size`` bytes, the bytes they take, and the bytes seen."""
    with reported(path):
        buffer = _behind(path, fd, at, size)
    seen = len(buffer)
    if b"\0" in buffer:  # after a power cut: what is torn stays unread until the next writer removes it
        buffer = buffer[: committed_length(buffer, whole=True)]
    lines, used = split_committed(buffer)
    return lines, used, seen


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


def _still_there(path: str, fd: int, at: int) -> bool:
    """Tell whether the open file is the one at its path.

    Raises:
        HeadMoved: it is shorter than what was returned.
    """
    with reported(path):
        found = os.fstat(fd)
        if found.st_size < at:
            lines = count_lines(fd, 0, found.st_size)
            raise HeadMoved(path, lines + 1, lines)
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError:
        named = None
    return named is not None and (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino)
