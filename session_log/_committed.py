"""Where the committed bytes of an open file end: :mod:`session_log._frame` asked about as little of it as will do."""

import os
from collections.abc import Iterator
from typing import Final, Self

from session_log._errors import CorruptSegment
from session_log._frame import MAX_BATCH_BYTES, MAX_BATCH_LINES, MAX_LINE_BYTES, committed_length, newlines
from session_log._layout import open_file, reported

BLOCK_BYTES: Final = 1 << 18
"""How much is read at once: small enough for the processor's cache, large enough to forget the call."""
_CHUNK: Final = 1 << 20
_FEW_LINES: Final = 16
_FEW_BYTES: Final = 1 << 12
"""Who wants a few lines, mostly the first alone, is not made to wait for a whole block."""
_WINDOW: Final = 1 << 20


def committed_end(fd: int, size: int, start: int = 0) -> int:
    """Return where the committed bytes of ``fd`` end; ``start`` is a place where a unit begins."""
    window = _WINDOW
    while True:
        at = max(start, size - window)
        tail = read_span(fd, at, size)
        whole = at == start
        newline = 0
        if not whole:
            newline = tail.find(b"\n") + 1
            at, tail = at + newline, tail[newline:]
        length = committed_length(tail, whole=whole) if whole or tail else None
        if length is None and newline and tail and not _batch_before(fd, at, start):
            length = committed_length(tail, whole=True)
        if length is not None:
            return at + length
        window *= 4


def _batch_before(fd: int, stop: int, start: int) -> bool:
    """Tell whether a batch might begin before ``stop`` and go on behind it; nothing that is looked at is kept."""
    lines = 0
    bound = max(start, stop - MAX_BATCH_BYTES - MAX_LINE_BYTES)
    while stop > bound and lines <= MAX_BATCH_LINES:
        at = max(bound, stop - _CHUNK)
        data = read_span(fd, at, stop)
        if b'"batch"' in data:
            return True
        lines += newlines(data)
        stop = at + len(b'"batch"') if at > bound else at  # it may stand across the border of two chunks
    return False


def read_span(fd: int, start: int, stop: int) -> bytes:
    """Return the bytes from ``start`` to ``stop``, or to the end of a file that is shorter."""
    data = os.pread(fd, stop - start, start)
    while 0 < len(data) < stop - start:
        more = os.pread(fd, stop - start - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


def count_lines(fd: int, start: int, stop: int) -> int:
    """Return how many newlines there are from ``start`` to ``stop``."""
    return sum(newlines(os.pread(fd, min(_CHUNK, stop - at), at)) for at in range(start, stop, _CHUNK))


def skip_lines(fd: int, lines: int, end: int) -> int:
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


class OpenFile:
    """A file open for reading, closed with its last reference: an iterator may be dropped before its first step."""

    fd = -1

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = open_file(path, os.O_RDONLY)

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


def blocks(file: OpenFile, at: int, end: int, limit: int | None) -> Iterator[bytes]:
    """Yield whole lines from ``at`` to ``end``, ``limit`` lines at most; close the file at the end."""
    fd = file.fd
    with reported(file.path), file:
        size = BLOCK_BYTES if limit is None or limit > _FEW_LINES else _FEW_BYTES
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
            size = BLOCK_BYTES if limit is None or limit > _FEW_LINES else _FEW_BYTES


def lines_before(file: OpenFile, end: int) -> Iterator[bytes]:
    """Yield the lines that end at ``end`` or before, last first; close the file at the end."""
    window = _FEW_BYTES
    with reported(file.path), file:
        while end > 0:
            start = max(0, end - window)
            data = read_span(file.fd, start, end)
            if len(data) != end - start:
                raise CorruptSegment(file.path, 0, start + len(data), "got shorter while it was read; read it again")
            cut = data.find(b"\n") + 1 if start else 0
            if cut == len(data):
                window *= 4  # a line longer than the window
                continue
            yield from reversed(data[cut:-1].split(b"\n"))
            end = start + cut
            window = min(window * 4, BLOCK_BYTES)
