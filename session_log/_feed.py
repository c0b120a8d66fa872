"""The lines of the feed: which session changed, and how. Pure.

A line is short, and one write: that is all that keeps the lines of many processes apart.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from session_log._errors import InvalidId
from session_log._facts import ARCHIVED
from session_log._ids import parse_id

FEED_VERSION: Final = 1
MAX_FEED_LINE_BYTES: Final = 1024
"""A line of the feed, newline included: what is longer is none."""
MAX_FEED_TITLE_CHARS: Final = 100
"""How much of a new title the feed says: of six bytes each at most, the line stays below its bound."""
FeedKind = Literal["create", "fork", "compact", "run_end", "rename", "archive", "unarchive", "delete"]
KINDS: Final[frozenset[str]] = frozenset(get_args(FeedKind))
STARTS: Final[frozenset[str]] = frozenset({"create", "fork", "compact"})
GAP: Final = b'{"kind":"gap","ts":%d}\n'
"""Says that a write before this one failed: what it would have said is missing."""
_RUN_END: Final = b'{"kind":"run_'
_RUN_ENDS: Final = (b'{"kind":"run_completed"', b'{"kind":"run_errored"')
_TS_WITHIN: Final = 64
_ID_CHARS: Final = 36


class FeedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a session. ``segment_id``: where there is one; ``title``: of a ``rename``, cut short if it is long.

    ``ts``: milliseconds, UTC; the time of the entry or fact that is announced, of a ``delete`` that of the call.
    """

    kind: FeedKind
    ts: int
    session_id: str
    segment_id: str | None = None
    title: str | None = None


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. ``whole``: nothing that was before this feed is missing in it.

    What a replaced feed said from its byte ``since`` on, was carried over: here it begins at byte ``carried``.
    ``replaced``: its device and inode.
    """

    kind: str
    ts: int
    v: int
    whole: bool
    replaced: tuple[int, int] | None = None
    since: int = 0
    carried: int = 0


class Gap(NamedTuple):
    """A place where something is missing, and why."""

    reason: str


class _Line(msgspec.Struct, frozen=True):
    kind: str
    ts: int
    session_id: Any = None
    segment_id: Any = None
    title: str | None = None


class _Start(msgspec.Struct, frozen=True):
    ts: int = 0
    forked_from: msgspec.Raw = msgspec.Raw(b"null")
    compacted_from: msgspec.Raw = msgspec.Raw(b"null")


class _Time(msgspec.Struct, frozen=True):
    ts: int = 0


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_start = msgspec.json.Decoder(_Start).decode
_decode_time = msgspec.json.Decoder(_Time).decode


def feed_line(kind: FeedKind, ts: int, session_id: str, segment_id: str | None = None) -> bytes:
    """Return a line about a canonical session, and perhaps one of its segments."""
    segment = f',"segment_id":"{segment_id}"' if segment_id is not None else ""
    return f'{{"kind":"{kind}","ts":{ts},"session_id":"{session_id}"{segment}}}\n'.encode()


def rename_line(ts: int, session_id: str, title: str | None) -> bytes:
    """Return the line of a new title; None: it was taken away."""
    short = title[:MAX_FEED_TITLE_CHARS] if title is not None else None
    return b'%b,"title":%b}\n' % (feed_line("rename", ts, session_id)[:-2], msgspec.json.encode(short))


def line_of(event: FeedEvent) -> bytes:
    """Return the line that says this."""
    if event.kind == "rename":
        return rename_line(event.ts, event.session_id, event.title)
    return feed_line(event.kind, event.ts, event.session_id, event.segment_id)


def header_line(ts: int, *, whole: bool) -> bytes:
    """Return the first line of a new feed."""
    return f'{{"kind":"feed","ts":{ts},"v":{FEED_VERSION},"whole":{"true" if whole else "false"}}}\n'.encode()


def replacing_header_line(ts: int, replaced: tuple[int, int], since: int, carried: int, *, whole: bool) -> bytes:
    """Return the first line of a feed that replaces one: as long whatever it says, so that ``whole`` can come later."""
    said = "true " if whole else "false"
    places = f'"replaced":[{replaced[0]:20d},{replaced[1]:20d}],"since":{since:15d},"carried":{carried:15d}'
    return f'{{"kind":"feed","ts":{ts:15d},"v":{FEED_VERSION},"whole":{said},{places}}}\n'.encode()


def header_of(data: bytes) -> Header | None:
    """Return the header that a feed begins with, or None."""
    line, newline, _ = data.partition(b"\n")
    try:
        found = _decode_header(line) if newline else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found is not None and found.kind == "feed" else None


def decode_feed_line(line: bytes) -> FeedEvent | Gap | None:
    """Return what a committed line says; None: nothing, as a blank line, a header, or a kind of a later version."""
    if not line.strip():
        return None
    if len(line) >= MAX_FEED_LINE_BYTES:
        return Gap("a line is damaged")
    try:
        found = _decode_line(line)
        if found.kind == "gap":
            return Gap("a write to it failed")
        if found.kind not in KINDS:
            return None
        return FeedEvent(
            kind=found.kind,  # type: ignore[arg-type]  # one of KINDS
            ts=found.ts,
            session_id=_id(found.session_id),
            segment_id=None if found.segment_id is None else _id(found.segment_id),
            title=found.title,
        )
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidId):
        return Gap("a line is damaged")


def _id(value: object) -> str:
    """Return a canonical id; it will be a path."""
    parsed = parse_id(value)
    if parsed != value:
        raise InvalidId(value)
    return parsed


# ── what lines of a segment announce ───────────────────────────────────────────────────────────────────────────────


def ts_of(line: bytes, at: int = 0) -> int | None:
    """Return the time of the line that begins at ``at``, or None if it says none."""
    start = line.find(b'"ts":', at, at + _TS_WITHIN) + 5
    stop = line.find(b",", start, start + 20)
    digits = line[start:stop] if start > 4 else b""
    if digits.isdigit():
        return int(digits)
    end = line.find(b"\n", at)
    try:
        return _decode_time(line[at : end if end >= 0 else len(line)]).ts or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def last_run_end(data: bytes) -> int:
    """Return where the last line that ends a run begins, in lines as we write them; -1: nowhere."""
    stop = len(data)
    while True:
        at = data.rfind(b"\n" + _RUN_END, 0, stop) + 1
        if data.startswith(_RUN_ENDS, at):
            return at
        if at == 0:
            return -1
        stop = at


def start_kind(line: bytes) -> FeedKind:
    """Return how a segment with this first line came to be. Only one that may say so is decoded."""
    if b'"forked_from"' not in line and b'"compacted_from"' not in line:
        return "create"
    try:
        start = _decode_start(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "create"
    if bytes(start.forked_from) != b"null":
        return "fork"
    return "compact" if bytes(start.compacted_from) != b"null" else "create"


def fact_lines(session_id: str, kind: str, ts: int, changes: Mapping[str, Any], *, archived: bool) -> list[bytes]:
    """Return the lines of a change of a session's facts; ``archived``: it was so before."""
    if kind in {"archive", "unarchive"}:
        return [feed_line("archive" if kind == "archive" else "unarchive", ts, session_id)]
    if kind != "set":
        return []
    lines = [rename_line(ts, session_id, changes["title"])] if "title" in changes else []
    if "status" in changes and (changes["status"] == ARCHIVED) != archived:
        lines.append(feed_line("unarchive" if archived else "archive", ts, session_id))
    return lines
