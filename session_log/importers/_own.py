"""Segments of our own format: one file with one segment, or several one behind another, as an export writes them. Pure.

Lines are taken over byte for byte, but for the first one of each segment, which names the new session and the new
parent, and for the marks of batches: the segments are created whole. Each line keeps its number, so that rollbacks and
references stay right; what is no entry leaves an extension in its place.
"""

import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from session_log import (
    Extension,
    InvalidEntry,
    RequestConfig,
    SegmentOrigin,
    SegmentStart,
    UnknownEntry,
    decode_line,
    encode_line,
)
from session_log._chain import unlinked
from session_log.importers._draft import extension
from session_log.importers._report import Tally
from session_log.importers._steps import Record
from session_log.importers._verbatim import verbatim

DOMAIN: Final = "import.session-log"
_ROLLBACK: Final = "session_log.rollback"
_MARKS: Final = re.compile(rb'(?:,"(?:batch":\d+|token":"[^"\\]*"))+}$')
_BATCH: Final = re.compile(rb'"batch":(\d+)')


class OwnSegment:
    """The lines of one segment of the source, and those that it becomes."""

    def __init__(self, start: SegmentStart, raw: bytes, line: int) -> None:
        self.start = start
        self.line = line
        self.raws = [raw]
        self.lines = [b""]
        self.parent: OwnSegment | None = None
        self.ts = start.ts

    def add(self, raw: bytes, line: bytes) -> None:
        """Add a line."""
        self.raws.append(raw)
        self.lines.append(line)


def segments_of(records: Iterable[Record], tally: Tally) -> list[OwnSegment]:
    """Return the segments of a source, parents first."""
    found: list[OwnSegment] = []
    for record in _committed(records):
        tally.records += 1
        if record.problem in {"blank", "torn"}:
            tally.drop(record.line, record.problem)
            if found and record.problem == "blank":
                found[-1].add(record.raw, extension(DOMAIN, {"line": record.line, "why": "blank"}, found[-1].ts))
            continue
        entry = entry_of(record, tally)
        if isinstance(entry, SegmentStart):
            tally.take("segment_start")
            found.append(OwnSegment(entry, record.raw, record.line))
            continue
        if not found:
            found.append(OwnSegment(_EMPTY, b"", record.line))
            tally.warn(record.line, "the source begins in the middle of a segment")
        _add(found[-1], entry, record, tally)
    return _in_order(found, tally)


_EMPTY: Final = SegmentStart(ts=0, session_id="", config=RequestConfig(), history=())
"""How a segment begins whose beginning is not in the source."""


def _add(segment: OwnSegment, entry: Any, record: Record, tally: Tally) -> None:
    stray = isinstance(entry, Extension) and entry.domain == _ROLLBACK and not segment.raws[0]
    if entry is not None and not stray:
        segment.add(record.raw, unlinked(_unmarked(record.raw)))
        segment.ts = getattr(entry, "ts", segment.ts)
        tally.keep(entry.kind) if isinstance(entry, UnknownEntry) else tally.take(_kind_of(entry))
        return
    if stray:
        tally.problem(record.line, "a rollback to lines that are not all here")
    try:
        segment.add(record.raw, extension(DOMAIN, verbatim(record, record.problem), segment.ts))
    except InvalidEntry as exc:
        segment.add(record.raw, extension(DOMAIN, {"line": record.line, "why": "too long"}, segment.ts))
        tally.drop(record.line, str(exc))
        return
    tally.keep("damaged")


def _kind_of(entry: Any) -> str:
    return str(type(entry).__struct_config__.tag)


def entry_of(record: Record, tally: Tally) -> Any:
    """Return the entry of a line; None, if it is none, which is counted."""
    if record.problem is None:
        try:
            return decode_line(record.raw)
        except InvalidEntry as exc:
            tally.problem(record.line, str(exc))
            return None
    tally.problem(record.line, record.problem)
    return None


def _committed(records: Iterable[Record]) -> Iterable[Record]:
    """Yield the lines that were committed: of a batch at the end that is not whole, none was."""
    held: list[Record] = []
    missing = 0
    for record in records:
        size = _BATCH.search(record.raw) if record.problem is None and b'"batch"' in record.raw else None
        count = record.value.get("batch") if size and isinstance(record.value, dict) else None
        if isinstance(count, int) and not isinstance(count, bool) and count > 1:
            yield from held
            held, missing = [], count
        if missing:
            held.append(record)
            missing -= record.problem != "torn"
            if not missing:
                yield from held
                held = []
        else:
            yield record
    for record in held:
        yield msgspec.structs.replace(record, problem="torn")


def _unmarked(raw: bytes) -> bytes:
    """Return a line without the marks of the append it was part of."""
    if b'"batch"' not in raw and b'"token"' not in raw:
        return raw
    line = _MARKS.sub(b"}", raw)
    value = orjson.loads(line) if b'"batch"' in line or b'"token"' in line else {}
    if value.keys() & {"batch", "token"}:  # written by somebody else, in another order
        return orjson.dumps({name: inner for name, inner in value.items() if name not in {"batch", "token"}})
    return line


# ── the tree ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_order(found: list[OwnSegment], tally: Tally) -> list[OwnSegment]:
    for segment in found:
        origin = segment.start.forked_from
        if origin is None or origin.entries is None:
            continue
        segment.parent = _parent(segment, origin, found)
        if segment.parent is None:
            tally.warn(
                segment.line, f"its parent {origin.segment_id} is not in the source: what it inherits is not here"
            )
    ordered: list[OwnSegment] = []
    waiting = list(found)
    while waiting:
        ready = [one for one in waiting if one.parent is None or one.parent in ordered]
        if not ready:  # a circle: no such file was written by us
            waiting[0].parent = None
            tally.warn(waiting[0].line, "its ancestors go in a circle")
            continue
        ordered += ready
        waiting = [one for one in waiting if one not in ready]
    return ordered


def _parent(segment: OwnSegment, origin: SegmentOrigin, found: list[OwnSegment]) -> OwnSegment | None:
    """Return the segment of which the last inherited line is one: the references name it by its hash."""
    at = (origin.entries or 0) - 1
    for other in found:
        inside = other is not segment and 0 <= at < len(other.raws)
        if inside and sha256(other.raws[at]).hexdigest() == origin.tail_sha256:
            return other
    return None


def lines_of(
    ordered: list[OwnSegment], session_id: str, segment_id: Callable[[int], str], ts: int
) -> list[list[bytes]]:
    """Return the lines of each segment, as they are written into the new session."""
    for index, segment in enumerate(ordered):
        start = msgspec.structs.replace(segment.start, session_id=session_id, ts=segment.start.ts or ts)
        origin = start.forked_from
        if segment.parent is not None and origin is not None and origin.entries is not None:
            above = segment.parent.lines[: origin.entries]
            origin = SegmentOrigin(
                segment_id(ordered.index(segment.parent)),
                origin.at_turn_index,
                len(above),
                sum(len(line) + 1 for line in above),
                sha256(above[-1]).hexdigest(),
            )
            start = msgspec.structs.replace(start, forked_from=origin)
        elif origin is not None and origin.entries is not None:
            start = msgspec.structs.replace(start, forked_from=None, turn_count=origin.at_turn_index)
        elif start.compacted_from is not None and index:
            compacted = SegmentOrigin(segment_id(index - 1), start.compacted_from.at_turn_index)
            start = msgspec.structs.replace(start, compacted_from=compacted)
        segment.lines[0] = encode_line(start)
    return [segment.lines for segment in ordered]
