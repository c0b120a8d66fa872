"""Lines: the committed lines of a segment with their places, inherited ones first if asked, and which of them to see.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.lines import Selection, read_lines, select
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("hello")
...     _ = writer.save_turn_end()
>>> [
...     found.number
...     for found in select(read_lines(store, writer.session_id, writer.segment_id), Selection(kinds={"turn_end"}))
... ]
[3]
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from session_log._backwards import lines_back
from session_log._codec import decode_line, ts_of
from session_log._entries import AssistantItem, LogEntry, SystemItemEntry, ToolResultEntry, UnknownEntry, UserInput
from session_log._errors import CallerError, InvalidCut, InvalidEntry
from session_log._forking import locate
from session_log._frame import check_counts
from session_log._ids import parse_id
from session_log._items import Message, Reasoning, ToolCall, ToolResult
from session_log._lineage import Span, lineage
from session_log._reader import raw_blocks, where
from session_log._state import Damage
from session_log._store import Store
from session_log._trace import TraceEntry, decode_trace

ROLES: Final = ("user", "assistant", "system", "tool")
"""Who speaks in a line."""


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A committed line: its segment, its number there from 1, where it begins, its bytes without the newline."""

    session_id: str
    segment_id: str
    number: int
    byte_offset: int
    line: bytes
    inherited: bool = False

    def entry(self) -> LogEntry | None:
        """Return its entry; None for a blank line.

        Raises:
            InvalidEntry: it is none.
        """
        return decode_line(self.line) if self.line.strip() else None

    def trace_entry(self) -> TraceEntry:
        """Return the entry of a line of a trace.

        Raises:
            InvalidEntry: it is none.
        """
        return decode_trace(self.line)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines to see: those that all of these let through. Empty sets and None let everything through.

    ``kinds`` are kinds of entries, ``roles`` some of :data:`ROLES`, ``tools`` names of tools (calls and their results).
    ``since`` and ``until`` are milliseconds, UTC, both included. ``last``: only so many, the last ones.
    """

    kinds: frozenset[str] | set[str] = frozenset()
    roles: frozenset[str] | set[str] = frozenset()
    tools: frozenset[str] | set[str] = frozenset()
    since: int | None = None
    until: int | None = None
    last: int | None = None

    @property
    def is_all(self) -> bool:
        """Tell whether it lets every line through, whatever is in it."""
        return not (self.kinds or self.roles or self.tools) and self.since is None and self.until is None


def read_lines(
    store: Store,
    session_id: str,
    segment_id: str,
    *,
    line: int | None = None,
    turn: int | None = None,
    resolve: bool = False,
) -> Iterator[Line]:
    """Return the committed lines of a segment: all, one (``line``), or those up to the end of a turn.

    With ``resolve``, those that it inherits by reference come first, under their own segment and number.

    Raises:
        NotFound: there is no such segment.
        InvalidCut: there is no such line or turn.
        BrokenLineage, MissingAncestor: what it refers to does not hold.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    stop: int | None = None
    if turn is not None:
        segment_id, cut = locate(store, session_id, segment_id, turn)
        stop = cut.entries
    if line is not None:
        length = store.length(session_id, segment_id)
        if not 1 <= line <= length:
            raise InvalidCut(where(store, session_id, segment_id), f"there is no line {line}", (length,))
        return _span(store, session_id, Span(segment_id, line, None), False, line - 1)
    if not resolve:
        return _span(store, session_id, Span(segment_id, stop, None), False)
    spans = lineage(store, session_id, segment_id, stop)
    return (found for span in spans for found in _span(store, session_id, span, span is not spans[-1]))


def _span(store: Store, session_id: str, span: Span, inherited: bool, start: int = 0) -> Iterator[Line]:
    number, offset = start, 0
    if start:
        offset = sum(len(block) for block in raw_blocks(store, session_id, span.segment_id, 0, start, None))
    for block in raw_blocks(store, session_id, span.segment_id, start, span.entries, None):
        for line in block[:-1].split(b"\n"):
            number += 1
            yield Line(
                session_id=session_id,
                segment_id=span.segment_id,
                number=number,
                byte_offset=offset,
                line=line,
                inherited=inherited,
            )
            offset += len(line) + 1


def last_lines(store: Store, session_id: str, segment_id: str, selection: Selection) -> list[Line]:
    """Return the last lines of a segment that a selection lets through, in order: ``selection.last`` of them.

    They are looked for from the end, as far as it takes; only tools need all lines, since a result names its call.
    """
    check_counts(last=selection.last)
    if not hasattr(store, "read_span") or selection.tools or selection.last is None:
        return list(select(read_lines(store, session_id, segment_id), selection))
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    found: list[Line] = []
    for placed in lines_back(store, session_id, Span(segment_id, None, None)) if selection.last else ():
        line = Line(
            session_id=session_id,
            segment_id=segment_id,
            number=placed.at + 1,
            byte_offset=placed.byte_offset or 0,
            line=placed.line,
        )
        found += select([line], selection)
        if len(found) == selection.last:
            break
    return found[::-1]


def read_trace_lines(store: Store, session_id: str, segment_id: str) -> Iterator[Line]:
    """Yield the lines of a segment's trace, with their places there.

    Raises:
        NotFound: there is no such segment.
    """
    offset = 0
    for number, line in enumerate(store.read_trace(session_id, segment_id), 1):
        yield Line(session_id=session_id, segment_id=segment_id, number=number, byte_offset=offset, line=line)
        offset += len(line) + 1


def select_trace(lines: Iterable[Line], selection: Selection, damage: list[Damage] | None = None) -> Iterator[Line]:
    """Return the lines of a trace that a selection lets through; a kind may be a label, too.

    Raises:
        CallerError: it asks for roles or tools, which a trace does not know.
    """
    check_counts(last=selection.last)
    if selection.roles or selection.tools:
        raise CallerError("a trace has no roles and tools; give kinds or times")
    found = iter(lines) if selection.is_all else _traced(lines, selection, damage)
    return found if selection.last is None else iter(deque(found, selection.last))


def _traced(lines: Iterable[Line], selection: Selection, damage: list[Damage] | None) -> Iterator[Line]:
    for line in lines:
        try:
            entry = line.trace_entry()
        except InvalidEntry as exc:
            if damage is not None:
                damage.append(Damage(line.segment_id, line.number, line.byte_offset, len(line.line), str(exc)))
            continue
        if selection.kinds and not selection.kinds & {entry.kind, entry.label}:
            continue
        if _in_time(entry.ts, selection):
            yield line


def _in_time(ts: int, selection: Selection) -> bool:
    return (selection.since is None or ts >= selection.since) and (selection.until is None or ts <= selection.until)


def select(lines: Iterable[Line], selection: Selection, damage: list[Damage] | None = None) -> Iterator[Line]:
    """Return the lines that a selection lets through.

    What is no entry is appended to ``damage``, and let through only if everything is.
    """
    check_counts(last=selection.last)
    found = iter(lines) if selection.is_all else _matching(lines, selection, damage)
    return found if selection.last is None else iter(deque(found, selection.last))


def _matching(lines: Iterable[Line], selection: Selection, damage: list[Damage] | None) -> Iterator[Line]:
    calls: set[str] = set()
    for found in lines:
        try:
            entry = found.entry()
        except InvalidEntry as exc:
            if damage is not None:
                place = f"{found.segment_id}"
                damage.append(Damage(place, found.number, found.byte_offset, len(found.line), str(exc)))
            continue
        if entry is not None and matches(entry, selection, calls):
            yield found


def matches(entry: LogEntry, selection: Selection, calls: set[str]) -> bool:
    """Tell whether a selection lets an entry through; ``calls`` remembers the ids of calls to the selected tools."""
    item = entry.item if isinstance(entry, (AssistantItem, ToolResultEntry)) else None
    if selection.tools:
        if isinstance(item, ToolCall) and item.name in selection.tools:
            calls.add(item.call_id)
        elif not (isinstance(item, ToolResult) and item.call_id in calls):
            return False
    if selection.kinds and kind_of(entry) not in selection.kinds:
        return False
    if selection.roles and role_of(entry) not in selection.roles:
        return False
    return _in_time(ts_of(entry), selection)


def kind_of(entry: LogEntry) -> str:
    """Return the kind of an entry, as its line says."""
    return entry.kind if isinstance(entry, UnknownEntry) else str(type(entry).__struct_config__.tag)


def role_of(entry: LogEntry) -> str | None:
    """Return who speaks in an entry, one of :data:`ROLES`; None where nobody does."""
    match entry:
        case UserInput():
            return "user"
        case SystemItemEntry():
            return "system"
        case ToolResultEntry() | AssistantItem(item=ToolResult()):
            return "tool"
        case AssistantItem(item=Message(role=role)):
            return role
        case AssistantItem(item=ToolCall() | Reasoning()):
            return "assistant"
        case _:
            return None
