"""The integrity chain: what a link is, and whether it holds. Pure; lines in, links and breaks out.

1. The *document* of a segment is the bytes that it inherits by reference, if any, followed by its own.
2. A *link* is the key ``chain`` of a line that ends a turn or a run, its last key but for the marks.
3. Its value is the SHA-256, in lower case hex, of the link before it in the document (64 characters; :data:`ROOT` if
   there is none) and of all bytes of the document behind the line of that link, up to the end of this line: newline,
   marks, blank lines and lines of other writers included, ``,"chain":"…"`` of this line left out.

So a link vouches for its own stretch, and through the link before it for all of the document. A break costs one
stretch: the next link goes by the link that is written, not by the one that should be.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from session_log._frame import MAX_BATCH_LINES, MAX_LINE_BYTES, MAX_TOKEN_BYTES, unmarked

if TYPE_CHECKING:
    from hashlib import _Hash

ROOT: Final = b"session_log.chain/1"
"""What stands for the link before the first one."""
LINK_BYTES: Final = len(b',"chain":""') + 64
MAX_LINKED_BYTES: Final = MAX_LINE_BYTES - MAX_BATCH_LINES * LINK_BYTES
"""An append of more bytes gets no link, which might make a line too long; the next one covers it."""
_TAIL_BYTES: Final = LINK_BYTES + MAX_TOKEN_BYTES + 64
_KINDS: Final = (b'{"kind":"turn_end",', b'{"kind":"run_completed",', b'{"kind":"run_errored",')
_LINK: Final = re.compile(rb',"chain":"([0-9a-f]{64})"(?=(?:,"batch":\d{1,9})?(?:,"token":"[^"\\]*")?\}\Z)')
# one changed bit in a link, its key, its kind or the marks behind it: still looks like this, or is no JSON
_NEARLY: Final = re.compile(
    rb'"(?!token")[^"]{5}":"([^"]{64})"(?:,"[^"]{5}":[^"]{1,9}?)?(?:,"[^"]{5}":"[^"\\]*")?\}\r?\Z'
)
_HEX: Final = frozenset(b"0123456789abcdef")


def link_of(line: bytes) -> bytes | None:
    """Return the link in a line, as its 64 characters, or None."""
    found = _LINK.search(line, max(0, len(line) - _TAIL_BYTES)) if line.startswith(_KINDS) else None
    return found[1] if found is not None else None


def unlinked(line: bytes) -> bytes:
    """Return a line without its link: what its own link is made of, and what a copy into another segment needs."""
    return _LINK.sub(b"", line, count=1) if link_of(line) is not None else line


def nearly_link(line: bytes) -> bool:
    """Tell whether a line that has no link looks as if a few bits of one were changed."""
    tail = line[-_TAIL_BYTES:]
    if 64 not in map(len, tail.split(b'"')):  # (most lines: this is faster)
        return False
    found = _NEARLY.search(tail)
    return found is not None and sum(byte in _HEX for byte in found[1]) >= 62


class Stretch:
    """The hash of a stretch of a document, from behind a link on. Grows; a copy grows on its own."""

    __slots__ = ("_hash",)

    def __init__(self, link: bytes = ROOT) -> None:
        import hashlib

        self._hash: _Hash = hashlib.sha256(link)

    def copy(self) -> "Stretch":
        """Return a stretch that is the same so far."""
        twin = Stretch.__new__(Stretch)
        twin._hash = self._hash.copy()
        return twin

    def feed(self, data: bytes) -> None:
        """Go on with these bytes."""
        self._hash.update(data)

    def link(self) -> bytes:
        """Return the link that ends the stretch here."""
        return self._hash.hexdigest().encode()


def add_links(stretch: Stretch, data: bytes, ends: Sequence[bool]) -> tuple[bytes, Stretch]:
    """Return whole lines with a link in those that end a turn or run, and the stretch behind them; ``stretch`` stays.

    ``ends`` has an element a line, none of which has a link yet.
    """
    grown = stretch.copy()
    if True not in ends or len(data) > MAX_LINKED_BYTES:
        grown.feed(data)
        return data, grown
    linked = []
    for text, is_end in zip(data[:-1].split(b"\n"), ends, strict=True):
        line = text + b"\n"
        grown.feed(line)
        if is_end:
            link = grown.link()
            place = len(unmarked(text)) - 1
            line = b'%b,"chain":"%b"%b' % (line[:place], link, line[place:])
            grown = Stretch(link)
        linked.append(line)
    return b"".join(linked), grown


# ── check ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Place(msgspec.Struct, frozen=True, gc=False):
    """A line: its segment, its number, from 1, and the byte at which it begins."""

    segment_id: str
    line: int
    byte_offset: int


class Break(msgspec.Struct, frozen=True, gc=False):
    """A link that does not hold, or (``since`` None) a line that looks like a changed one.

    ``since`` is the first line of its stretch, ``blanked`` the first line in it that was overwritten with spaces.
    """

    at: Place
    since: Place | None
    blanked: Place | None


class ChainCheck:
    """Checks the links of a document, whose lines it is given in order. A copy goes on on its own: in a fork.

    ``links`` counts those seen. Without a ``stretch``, what comes before is not known: the first link is not checked.
    """

    def __init__(self, stretch: Stretch | None, since: Place, *, links: int = 0) -> None:
        self._stretch = stretch
        self._blanked: Place | None = None
        self.since = since
        self.links = links
        self.unchecked: Place | None = None

    def copy(self) -> "ChainCheck":
        """Return a check that has seen the same."""
        stretch = self._stretch.copy() if self._stretch is not None else None
        twin = ChainCheck(stretch, self.since, links=self.links)
        twin._blanked = self._blanked
        return twin

    def take(self, lines: Sequence[bytes], first: Place) -> Iterator[Break]:
        """Go on with these lines (without their newlines), the first of which is at ``first``; yield what is wrong."""
        number, offset = first.line, first.byte_offset
        for line in lines:
            link = link_of(line)
            if self._stretch is not None:
                self._stretch.feed((unlinked(line) if link is not None else line) + b"\n")
            if link is not None:
                yield from self._end_stretch(link, Place(first.segment_id, number, offset), len(line) + 1)
            elif nearly_link(line):
                yield Break(Place(first.segment_id, number, offset), None, None)
            elif line and self._blanked is None and not line.strip():
                self._blanked = Place(first.segment_id, number, offset)
            number += 1
            offset += len(line) + 1

    def _end_stretch(self, link: bytes, at: Place, line_bytes: int) -> Iterator[Break]:
        if self._stretch is None:
            self.unchecked = at
        elif self._stretch.link() != link:
            yield Break(at, self.since, self._blanked)
        self._stretch, self._blanked = Stretch(link), None
        self.since = Place(at.segment_id, at.line + 1, at.byte_offset + line_bytes)
        self.links += 1
