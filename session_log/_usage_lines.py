"""The usage of one segment, found without reading its texts.

A line that we wrote is known by its first bytes. One of another writer is looked through for the names of our kinds, or
an escape with which they could be spelled. Only lines of our kinds are decoded; of the first, the history is skipped.
"""

from typing import Final, NamedTuple

import msgspec

from session_log._codec import DECODE_ERRORS, decode_line, decode_plain_lines
from session_log._entries import (
    FORMAT_VERSION,
    KnownEntry,
    LlmUsage,
    LogEntry,
    SegmentOrigin,
    SegmentStart,
    TurnEnd,
    UnknownEntry,
    UsageRecord,
)
from session_log._errors import InvalidEntry, UnsupportedVersion
from session_log._fold import checked_turns, turns_before
from session_log._reader import raw_blocks, report, where
from session_log._state import Damage
from session_log._store import Store

_OURS: Final = b'{"kind":"'
_PLAIN: Final = (b'{"kind":"llm_usage"', b'{"kind":"turn_end"')
_OTHERS: Final = frozenset(
    (_OURS + str(kind.__struct_config__.tag).encode())[:13]
    for kind in KnownEntry.__args__
    if kind not in (LlmUsage, TurnEnd)
)
"""How lines of the other kinds begin that we wrote: four letters tell them from ours."""
_SIGNS: Final = (b"llm_usage", b"turn_end", b"\\u00")
"""What a line of others holds if it is of our kinds: the kind, or an escape of one of its letters."""


class Spent(NamedTuple):
    """One ``llm_usage`` entry, its line, counted from 1, and the turn it belongs to."""

    line: int
    turn: int
    entry: LlmUsage


class SegmentUsage(msgspec.Struct, frozen=True):
    """What a segment says of usage: its parent, if it names one, what it carries of that, and its own entries."""

    parent: str | None
    carried: tuple[UsageRecord, ...]
    spent: list[Spent]


class _Carried(msgspec.Struct, frozen=True):
    usage: tuple[UsageRecord, ...] = ()


class _Start(msgspec.Struct, frozen=True, tag_field="kind", tag="segment_start"):
    """A first line without its history."""

    session_id: str
    forked_from: SegmentOrigin | None = None
    compacted_from: SegmentOrigin | None = None
    turn_count: int = 0
    carried: _Carried | None = None
    v: int | None = None


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_start = msgspec.json.Decoder(_Start).decode
_kind = msgspec.json.Decoder(_Kind).decode


def usage_of(store: Store, session_id: str, segment_id: str, damage: list[Damage] | None) -> SegmentUsage | None:
    """Return the usage of a segment, whole blocks at a time; None if its first line is damaged.

    Raises:
        CorruptSegment: a line of ours is damaged, and ``damage`` was not given. Other lines are not looked at.
        UnsupportedVersion: the segment was written by a later format.
    """
    path = where(store, session_id, segment_id)
    start: _Start | None = None
    spent: list[Spent] = []
    turn = line = byte_offset = 0
    for block in raw_blocks(store, session_id, segment_id, 0, None, None):
        lines = block.split(b"\n")
        lines.pop()  # what is behind the last newline: nothing
        if line == 0:
            try:
                start = _first(lines[0], path, session_id)
                turn = turns_before(start)
            except InvalidEntry as exc:
                report(Damage(path, 1, 0, len(lines[0]), ""), exc.reason, damage)
                return None
        places = [at for at, text in enumerate(lines) if text[:13] not in _OTHERS and _may_be_ours(text)]
        for at, entry in zip(places, _entries([lines[at] for at in places]), strict=True):
            try:
                if type(entry) is LlmUsage:
                    spent.append(Spent(line + at + 1, turn, entry))
                elif type(entry) is TurnEnd:
                    turn = checked_turns(entry.turn_count)
                elif isinstance(entry, InvalidEntry):
                    raise entry
            except InvalidEntry as exc:
                offset = byte_offset + sum(len(text) + 1 for text in lines[:at])
                report(Damage(path, line + at + 1, offset, len(lines[at]), ""), str(exc), damage)
        line += len(lines)
        byte_offset += len(block)
    if start is None:
        report(Damage(path, 1, 0, 0, ""), "the segment has no committed line", damage)
        return None
    origin = start.forked_from or start.compacted_from
    carried = start.carried.usage if start.carried is not None else ()
    return SegmentUsage(origin.segment_id if origin is not None else None, carried, spent)


def _may_be_ours(line: bytes) -> bool:
    """Tell whether a line wants a closer look."""
    return line.startswith(_PLAIN) or any(sign in line for sign in _SIGNS)


def _entries(lines: list[bytes]) -> list[LogEntry | InvalidEntry | None]:
    """Return the entry of each line, if it is of one of our kinds, or what is wrong with it."""
    if lines and all(line.startswith(_PLAIN) for line in lines):
        entries = decode_plain_lines(b"\n".join(lines) + b"\n")
        if entries is not None:
            return entries  # type: ignore[return-value]  # a list of entries is one of entries and others
    found: list[LogEntry | InvalidEntry | None] = []
    for line in lines:
        try:
            found.append(decode_line(line) if _kind_of(line) in ("llm_usage", "turn_end") else None)
        except InvalidEntry as exc:
            found.append(exc)
    return found


def _kind_of(line: bytes) -> str:
    if line.startswith(_OURS):
        kind = line[len(_OURS) : line.find(b'"', len(_OURS))]
        if b"\\" not in kind:
            return kind.decode("utf-8", "replace")
    try:
        return _kind(line).kind
    except DECODE_ERRORS:
        entry = decode_line(line)  # what the other reads of a kind, or says of a damage
        return entry.kind if isinstance(entry, UnknownEntry) else str(type(entry).__struct_config__.tag)


def _first(line: bytes, path: str, session_id: str) -> _Start:
    try:
        start = _start(line)
    except DECODE_ERRORS:
        if not line.strip():
            raise InvalidEntry("$", "the first line is no segment_start") from None
        entry = decode_line(line)
        if not isinstance(entry, SegmentStart):
            raise InvalidEntry("$", "the first line is no segment_start") from None
        usage = entry.carried.usage if entry.carried is not None else ()
        start = _Start(
            entry.session_id, entry.forked_from, entry.compacted_from, entry.turn_count, _Carried(usage), entry.v
        )
    if start.v is not None and start.v > FORMAT_VERSION:
        raise UnsupportedVersion(path, start.v, FORMAT_VERSION)
    if start.session_id.lower() != session_id:
        reason = f"belongs to session {start.session_id}, not to the one it lies in"
        raise InvalidEntry("$.session_id", reason)
    return start
