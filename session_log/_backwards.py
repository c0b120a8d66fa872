"""The lines of a segment from its end to its beginning, as many as somebody asks for."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from session_log._errors import BrokenLineage
from session_log._lineage import Span
from session_log._reader import head_at, where
from session_log._store import Store
from session_log._tree import check_reference

_WINDOW_BYTES: Final = 1 << 16
_GROUP_LINES: Final = 256


class Placed(NamedTuple):
    """A line, how many there are before it, and the byte at which it begins, where that is known."""

    at: int
    byte_offset: int | None
    line: bytes


def lines_back(store: Store, session_id: str, span: Span) -> Iterator[Placed]:
    """Yield the lines of a span, last first, and check that they are those the child refers to.

    A store of files reads blocks from the end; how many lines there are it counts once, as newlines. The hash of the
    last line is checked first of all, the number of the lines when the first of them is reached.

    Raises:
        BrokenLineage: the span is not what the child says of it.
    """
    by_bytes = hasattr(store, "read_span")
    found = _by_bytes(store, session_id, span) if by_bytes else _by_lines(store, session_id, span)
    first = next(found, None)
    if first is None:
        return
    if span.origin is not None and span.entries is not None:
        offset = span.origin.byte_offset or 0 if first.byte_offset is None else first.byte_offset + len(first.line) + 1
        check_reference(where(store, session_id, span.segment_id), span.origin, span.entries, offset, first.line)
    yield first
    yield from found


def _by_bytes(store: Store, session_id: str, span: Span) -> Iterator[Placed]:
    read_span = store.read_span  # type: ignore[attr-defined]  # a store of files has it
    at, end = _end_of(store, session_id, span)
    window = _WINDOW_BYTES
    while end > 0:
        start = max(0, end - window)
        data: bytes = read_span(session_id, span.segment_id, start, end)
        if len(data) != end - start or data[-1:] != b"\n":
            raise _broken(store, session_id, span, start + len(data), f"no line ends at byte {end}")
        cut = data.find(b"\n") + 1 if start else 0
        if cut == len(data):
            window *= 4  # a line longer than the window
            continue
        for line in reversed(data[cut:-1].split(b"\n")):
            at -= 1
            end -= len(line) + 1
            if (at == 0) != (end == 0):
                raise _broken(store, session_id, span, end, f"has not {span.entries} lines, which a child inherits")
            yield Placed(at, end, line)
        window = _WINDOW_BYTES


def _end_of(store: Store, session_id: str, span: Span) -> tuple[int, int]:
    if span.origin is not None and span.entries is not None and span.origin.byte_offset is not None:
        return span.entries, span.origin.byte_offset
    head = head_at(store, session_id, span.segment_id, span.entries)
    if span.entries not in (None, head.entries):
        raise _broken(store, session_id, span, head.byte_offset, f"has {head.entries} lines, not {span.entries}")
    return head.entries, head.byte_offset


def _by_lines(store: Store, session_id: str, span: Span) -> Iterator[Placed]:
    at = span.entries if span.entries is not None else store.length(session_id, span.segment_id)
    wanted, size = span.origin.byte_offset if span.origin is not None else None, 0
    while at > 0:
        start = max(0, at - _GROUP_LINES)
        lines = list(store.read(session_id, span.segment_id, start, at))
        if len(lines) != at - start:
            raise _broken(store, session_id, span, 0, f"has {start + len(lines)} lines, not {at}")
        for line in reversed(lines):
            at -= 1
            size += len(line) + 1
            if at == 0 and wanted not in (None, size):
                raise _broken(store, session_id, span, size, f"has {size} bytes, a child inherits {wanted}")
            yield Placed(at, None, line)


def _broken(store: Store, session_id: str, span: Span, byte_offset: int, reason: str) -> BrokenLineage:
    return BrokenLineage(where(store, session_id, span.segment_id), span.entries or 0, byte_offset, reason)
