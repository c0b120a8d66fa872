"""Places: where each item of a history stands, newest first, and forks from there.

>>> from session_log import MemoryStore, Message, SegmentWriter
>>> from session_log.places import fork_after, walk_back
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("hello")
...     _ = writer.save_delta([Message.assistant("hi"), Message.assistant("oh")])
>>> [(place.line, place.item.text) for place in walk_back(store, writer.session_id, writer.segment_id, limit=2)]
[(4, 'oh'), (3, 'hi')]
"""

import itertools
from collections.abc import Iterator

import msgspec

from session_log._backwards import Placed, lines_back
from session_log._codec import decode_line
from session_log._entries import (
    AssistantItem,
    Invoke,
    LogEntry,
    SegmentStart,
    SystemItemEntry,
    ToolResultEntry,
    UserInput,
)
from session_log._errors import CorruptSegment, InvalidCut, InvalidEntry
from session_log._fold import system_part
from session_log._frame import check_counts
from session_log._ids import parse_id
from session_log._inputs import input_text
from session_log._items import Item, Message
from session_log._lineage import Span, inherits, lineage
from session_log._reader import head_at, where
from session_log._rollback import rollback_target
from session_log._session import fork_at_entry
from session_log._store import Store


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a history, and where it stands: a segment and a line of it, counted from 1.

    The items that a segment starts with stand all in line 1: ``index`` of ``items_in_line``. Elsewhere that is 0 of 1.
    ``ts`` is the time of the line.
    """

    item: Item
    segment_id: str
    line: int
    index: int
    items_in_line: int
    ts: int


def walk_back(
    store: Store, session_id: str, segment_id: str, *, limit: int | None = None, at_entries: int | None = None
) -> Iterator[Place]:
    """Return the history of a branch item by item, newest first, ``limit`` at most; what is not asked for is not read.

    It is ``restore(...).history`` backwards: through what a fork inherits by reference, without what was rolled back.
    A compaction and a self-contained fork begin with the history that they hold themselves: the walk ends with it, and
    :func:`session_log.branches.read_path` tells which segment it was made from. ``at_entries`` is where to begin: for
    the page before a place, give its segment and ``at_entries=place.line - 1``.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: as :func:`session_log.restore`,
            when the walk comes to it.
        InvalidCut: there are no ``at_entries`` lines.
    """
    check_counts(limit=limit)
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if at_entries is not None:
        length = store.length(session_id, segment_id)
        if type(at_entries) is not int or not 1 <= at_entries <= length:
            nearest = (min(max(at_entries, 1), length),) if type(at_entries) is int else ()
            raise InvalidCut(where(store, session_id, segment_id), f"there are no {at_entries!r} entries", nearest)
    return itertools.islice(_places(store, session_id, lineage(store, session_id, segment_id, at_entries)), limit)


def _places(store: Store, session_id: str, spans: list[Span]) -> Iterator[Place]:
    for span in reversed(spans):
        keep: int | None = None  # a rollback came: of the lines before it, only so many count
        for placed in lines_back(store, session_id, span):
            if (keep is not None and placed.at >= keep) or not placed.line.strip():
                continue
            try:
                entry = decode_line(placed.line)
                target = rollback_target(entry, placed.at)
                if target is not None:
                    keep = target
                    continue
                items = _items(entry)
            except InvalidEntry as exc:
                raise _corrupt(store, session_id, span, placed, str(exc)) from None
            for index in range(len(items) - 1, -1, -1):
                yield Place(
                    item=items[index],
                    segment_id=span.segment_id,
                    line=placed.at + 1,
                    index=index,
                    items_in_line=len(items),
                    ts=getattr(entry, "ts", 0),
                )
            if isinstance(entry, SegmentStart) and not inherits(entry):
                return


def _items(entry: LogEntry) -> tuple[Item, ...]:
    match entry:
        case AssistantItem(item=item) | ToolResultEntry(item=item):
            return (item,)
        case UserInput(segments=segments):
            return (Message("user", (input_text(segments),)),)
        case SystemItemEntry():
            return (Message("system", (system_part(entry),)),)
        case SegmentStart(history=history) if not inherits(entry):
            return history
        case _:
            return ()


def _corrupt(store: Store, session_id: str, span: Span, placed: Placed, reason: str) -> CorruptSegment:
    offset = placed.byte_offset
    if offset is None:
        offset = head_at(store, session_id, span.segment_id, placed.at).byte_offset
    return CorruptSegment(where(store, session_id, span.segment_id), placed.at + 1, offset, reason)


# ── forks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fork_after(store: Store, session_id: str, place: Place, *, copy_history: bool = False) -> str:
    """Fork with the item at ``place`` as the last one, and return the new segment's id; the source is not touched.

    Raises:
        InvalidCut: the cut would part a tool call from its result, or items of one line; names the nearest.
    """
    if place.index + 1 != place.items_in_line:
        raise _parted(store, session_id, place)
    return fork_at_entry(store, session_id, place.segment_id, place.line, copy_history=copy_history)


def fork_before(store: Store, session_id: str, place: Place, *, copy_history: bool = False) -> str:
    """Fork with everything before the item at ``place``, to say something else in its stead; return the new id.

    An ``invoke`` right before the item belongs to it, and is not taken over.

    Raises:
        InvalidCut: the cut would part a tool call from its result, or items of one line; names the nearest.
    """
    if place.index or place.line < 2:
        raise _parted(store, session_id, place)
    entries = place.line - 1
    if entries > 1:
        (line,) = store.read(parse_id(session_id), parse_id(place.segment_id), entries - 1, entries)
        if line.strip() and isinstance(decode_line(line), Invoke):
            entries -= 1
    return fork_at_entry(store, session_id, place.segment_id, entries, copy_history=copy_history)


def _parted(store: Store, session_id: str, place: Place) -> InvalidCut:
    path = where(store, parse_id(session_id), parse_id(place.segment_id))
    reason = f"item {place.index} of line {place.line} stands among {place.items_in_line}; a line is cut as a whole"
    return InvalidCut(path, reason, tuple(sorted({max(1, place.line - 1), place.line})))
