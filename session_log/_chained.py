"""The chain of a writer: how far it has hashed its segment, and, after it was opened, read back from the last link."""

from collections.abc import Sequence
from typing import Final

from session_log._backwards import lines_back
from session_log._chain import ROOT, Stretch, add_links, link_of
from session_log._codec import decode_line, encode_struct
from session_log._entries import LogEntry, RunCompleted, RunErrored, SegmentOrigin, SegmentStart, TurnEnd
from session_log._errors import BrokenLineage
from session_log._lineage import Restored, Span, in_steady_lineage, inherits, restore_span
from session_log._reader import raw_blocks
from session_log._state import Head
from session_log._store import Store

_ENDS: Final = (TurnEnd, RunCompleted, RunErrored)
_Known = tuple[str, int, Stretch]


class Chain:
    """Adds links to what one writer appends. Not safe for threads: its owner keeps them out.

    It keeps the hash up to two places, a segment and a byte each: where the writer stands, and where it will when what
    was linked last is on file. Nobody has to tell it whether that succeeded: it looks where the writer stands next
    time, and reads back what it does not know, as after an interrupt.
    """

    __slots__ = ("_known", "_store")

    def __init__(self, store: Store, head: Head, last_line: bytes) -> None:
        self._store = store
        self._known: tuple[_Known, ...] = ()
        self._known = ((head.segment_id, head.byte_offset, self._stretch(head, last_line + b"\n")),)

    def forget(self) -> None:
        """Look at what is on file next time: others may have written up to the very place where this would have."""
        self._known = ()

    def linked(self, head: Head, tail: bytes, data: bytes, entries: Sequence[LogEntry]) -> bytes:
        """Return the lines of an append behind ``head`` with their links; ``tail`` is what a writer knows of before it.

        Raises:
            NotFound, BrokenLineage, StoreUnavailable: what is before it had to be read back, and could not be.
        """
        stretch = self._stretch(head, tail)
        linked, behind = _add_links(stretch, data, entries)
        self._known = (
            (head.segment_id, head.byte_offset, stretch),
            (head.segment_id, head.byte_offset + len(linked), behind),
        )
        return linked

    def linked_in_fork(
        self, head: Head, tail: bytes, segment_id: str, start: bytes, data: bytes, entries: Sequence[LogEntry]
    ) -> bytes:
        """Return the lines that a fork from ``head`` has behind its first line, ``start``, with their links."""
        behind = self._stretch(head, tail).copy()
        behind.feed(start + b"\n")
        linked, behind = _add_links(behind, data, entries)
        self._known += ((segment_id, len(start) + 1 + len(linked), behind),)
        return linked

    def _stretch(self, head: Head, tail: bytes) -> Stretch:
        for segment_id, byte_offset, stretch in self._known:
            if (segment_id, byte_offset) == (head.segment_id, head.byte_offset):
                return stretch
        if head.entries == 1:  # just begun: to look there again could only fail
            start = decode_line(tail)
            if isinstance(start, SegmentStart) and not inherits(start):
                stretch = Stretch()
                stretch.feed(tail)
                return stretch
        return _read_back(self._store, head)


def restored_with_chain(store: Store, session_id: str, segment_id: str) -> tuple[Restored, Chain]:
    """Restore a segment for a writer that goes on with its chain.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, UnsupportedVersion: as :func:`session_log.restore`.
    """
    restored = restore_span(store, session_id, segment_id)
    try:
        return restored, Chain(store, restored.head, restored.last_line)
    except BrokenLineage:  # was it detached in between? then it ends at another byte
        again = restore_span(store, session_id, segment_id)
        if again.head == restored.head:
            raise
        return again, Chain(store, again.head, again.last_line)


def _add_links(stretch: Stretch, data: bytes, entries: Sequence[LogEntry]) -> tuple[bytes, Stretch]:
    if any(isinstance(entry, TurnEnd) and entry.chain is not None for entry in entries):
        lines = data.split(b"\n")
        for at, entry in enumerate(entries):
            if isinstance(entry, TurnEnd) and entry.chain is not None:  # read from elsewhere: it means nothing here
                before, _, marks = lines[at].rpartition(b',"chain":%b' % encode_struct(entry.chain))
                lines[at] = before + marks
        data = b"\n".join(lines)
    return add_links(stretch, data, [isinstance(entry, _ENDS) for entry in entries])


def _read_back(store: Store, head: Head) -> Stretch:
    """Find the last link before ``head``, from the end, and hash what is behind it; nothing is kept of either."""
    return in_steady_lineage(
        store, head.session_id, head.segment_id, head.entries, lambda spans: _hashed(store, head, spans)
    )


def _hashed(store: Store, head: Head, inherited: Sequence[Span]) -> Stretch:
    # (a reference to itself, as it were: so the end of what is wanted need not be found by counting)
    itself = SegmentOrigin(head.segment_id, 0, head.entries, head.byte_offset)
    spans = [*inherited[:-1], Span(head.segment_id, head.entries, itself)]
    link, wanted = None, []
    for span in reversed(spans):
        start, offset = 0, 0
        for placed in lines_back(store, head.session_id, span):
            link = link_of(placed.line)
            if link is not None:
                start = placed.at + 1
                offset = (placed.byte_offset or 0) + len(placed.line) + 1
                break
        wanted.append((span, start, offset))
        if link is not None:
            break
    stretch = Stretch(link if link is not None else ROOT)
    for span, start, offset in reversed(wanted):
        for data in raw_blocks(store, head.session_id, span.segment_id, start, span.entries, offset):
            stretch.feed(data)
    return stretch
