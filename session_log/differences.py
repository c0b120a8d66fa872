"""Differences: what two conversations have in common, and what each has alone.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.differences import Side, read_difference
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("hello")
...     _ = writer.save_turn_end()
...     child = writer.fork_at(0)
>>> left, right = Side(store, writer.session_id, writer.segment_id), Side(store, writer.session_id, child)
>>> found = read_difference(left, right)
>>> (found.ancestor == writer.segment_id, found.common, [piece.kind for piece in found.left], list(found.right))
(True, 1, ['user_input', 'turn_end'], [])

Branches of one session that share lines by reference are compared by lines; the first line of a fork by reference is
none of them, for it says what the lines before it say. All others (a copy or compaction lies between them, or they are
of two sessions) are compared by the items of their histories.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from session_log._codec import clock_time
from session_log._entries import (
    AssistantItem,
    LlmUsage,
    LogEntry,
    RequestConfig,
    SegmentStart,
    SystemItemEntry,
    ToolResultEntry,
    TurnEnd,
    UserInput,
)
from session_log._errors import InvalidCut
from session_log._forking import locate
from session_log._ids import parse_id
from session_log._items import Item, Unknown
from session_log._lineage import inherits
from session_log._reader import head_at, read_blocks, where
from session_log._session import restore
from session_log._state import Damage, RestoredState
from session_log._store import Store
from session_log.branches import Comparison, Stretch, compare
from session_log.lines import kind_of

_SAYING: Final = UserInput, AssistantItem, ToolResultEntry, SystemItemEntry
"""The entries that put an item into the history."""


class Side(NamedTuple):
    """One of the two: a segment; its first ``entries`` lines; or what there is of it after a turn."""

    store: Store
    session_id: str
    segment_id: str
    entries: int | None = None
    turn: int | None = None


class Piece(NamedTuple):
    """What one side has alone: an entry in a line, or an item of the history. ``number`` counts either from 1.

    ``ts`` and ``size_bytes`` (newline included) are those of the line; of an item, 0.
    """

    segment_id: str
    number: int
    kind: str
    value: LogEntry | Item
    ts: int
    size_bytes: int


class Suffix(msgspec.Struct, frozen=True, kw_only=True):
    """What one side has alone: lines, or items of a history from the ``first`` on, counted from 1."""

    side: Side
    stretches: tuple[Stretch, ...] = ()
    items: tuple[Item, ...] = ()
    first: int = 1

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces()

    def pieces(self, damage: list[Damage] | None = None) -> Iterator[Piece]:
        """Yield its pieces, in order; lines are read anew each time, in blocks.

        Raises:
            CorruptSegment: a line is no entry, and ``damage`` was not given.
        """
        store, session_id = self.side.store, parse_id(self.side.session_id)
        for segment_id, start, stop in map(msgspec.structs.astuple, self.stretches):
            offset = head_at(store, session_id, segment_id, start).byte_offset if start else 0
            for block in read_blocks(store, session_id, segment_id, start, stop, offset=offset, damage=damage):
                found = zip(block.entries, block.lines(), strict=True)
                for number, (entry, line) in enumerate(found, block.first_line + 1):
                    if entry is None or (isinstance(entry, SegmentStart) and inherits(entry)):
                        continue
                    yield Piece(segment_id, number, kind_of(entry), entry, clock_time(entry), len(line) + 1)
        for number, item in enumerate(self.items, self.first):
            yield Piece(parse_id(self.side.segment_id), number, _kind_of_item(item), item, 0, 0)


def _kind_of_item(item: Item) -> str:
    return item.kind if isinstance(item, Unknown) else str(type(item).__struct_config__.tag)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How much a side has alone. ``items`` are those that it puts into the history.

    Tokens are those that its own lines say; None where items were compared, which say none.
    """

    pieces: int
    size_bytes: int
    items: int
    turns: int
    input_tokens: int | None
    output_tokens: int | None
    kinds: dict[str, int]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What two sides have in common, and what each has alone.

    ``by`` says what was compared, and ``common`` how many lines or items are the same, from the first on. ``ancestor``
    is the segment in which the common lines end, or, where there are none, the nearest that both descend from.
    ``ancestor_entries`` says after how many of its lines; 0 where there are none.
    """

    by: Literal["lines", "items"]
    ancestor: str | None
    ancestor_entries: int
    common: int
    left: Suffix
    right: Suffix
    damage: tuple[Damage, ...] = ()

    @property
    def is_same(self) -> bool:
        """Tell whether neither side has anything alone."""
        return not any(next(suffix.pieces([]), None) for suffix in (self.left, self.right))


def read_difference(left: Side, right: Side, *, salvage: bool = False) -> Difference:
    """Compare two sides. With ``salvage``, damage in a history is skipped, and listed in ``damage``.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: as :func:`session_log.restore`.
        InvalidCut: a side has no such line or turn.
    """
    left, right = _cut(left), _cut(right)
    found: Comparison | None = None
    if left.session_id == right.session_id and _root(left.store) == _root(right.store):
        found = compare(
            left.store, left.session_id, left.segment_id, right.segment_id, at_left=left.entries, at_right=right.entries
        )
        if found.common:
            return Difference(
                by="lines",
                ancestor=found.segment_id,
                ancestor_entries=found.entries,
                common=sum(stretch.stop - stretch.start for stretch in found.common),
                left=Suffix(side=left, stretches=found.left),
                right=Suffix(side=right, stretches=found.right),
            )
    states = [_state(side, salvage) for side in (left, right)]
    ours, theirs = (state.history for state in states)
    same = first_difference(ours, theirs)
    return Difference(
        by="items",
        ancestor=found.segment_id if found is not None else None,
        ancestor_entries=0,
        common=same,
        left=Suffix(side=left, items=ours[same:], first=same + 1),
        right=Suffix(side=right, items=theirs[same:], first=same + 1),
        damage=tuple(damage for state in states for damage in state.damage),
    )


def _root(store: Store) -> object:
    """Return what tells whether two stores are the same: their folder, if they have one."""
    return getattr(store, "root", store)


def _cut(side: Side) -> Side:
    """Return a side whose ids are as they are printed, and whose end is a line."""
    session_id, segment_id, entries = parse_id(side.session_id), parse_id(side.segment_id), side.entries
    if side.turn is not None:
        segment_id, cut = locate(side.store, session_id, segment_id, side.turn)
        entries = cut.entries
    elif entries is not None:
        length = side.store.length(session_id, segment_id)
        if not 1 <= entries <= length:
            raise InvalidCut(where(side.store, session_id, segment_id), f"there are no {entries} lines", (length,))
    return Side(side.store, session_id, segment_id, entries)


def _state(side: Side, salvage: bool) -> RestoredState:
    return restore(side.store, side.session_id, side.segment_id, at_entries=side.entries, salvage=salvage)


def tally(suffix: Suffix, damage: list[Damage] | None = None) -> Tally:
    """Count what a side has alone.

    Raises:
        CorruptSegment: a line is no entry, and ``damage`` was not given.
    """
    kinds: dict[str, int] = {}
    size = items = turns = taken = given = 0
    for piece in suffix.pieces(damage):
        kinds[piece.kind] = kinds.get(piece.kind, 0) + 1
        size += piece.size_bytes
        items += isinstance(piece.value, _SAYING)
        turns += isinstance(piece.value, TurnEnd)
        if isinstance(piece.value, LlmUsage):
            taken += piece.value.input_total_tokens
            given += piece.value.output_tokens
    by_items = not suffix.stretches and bool(suffix.items)
    return Tally(
        pieces=sum(kinds.values()),
        size_bytes=size,
        items=len(suffix.items) if by_items else items,
        turns=turns,
        input_tokens=None if by_items else taken,
        output_tokens=None if by_items else given,
        kinds=dict(sorted(kinds.items())),
    )


# ── two states ─────────────────────────────────────────────────────────────────────────────────────────────────────


class StateDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two states: a field, ``config.temperature`` for one, and what either has there.

    Of a sequence, ``at`` is how many leading members are the same, and ``left`` and ``right`` are the rest.
    """

    name: str
    at: int | None
    left: Any
    right: Any


_PLAIN: Final = ("system_prompt", "turn_count", "last_run_interrupted", "pod_scope", "unknown_entries")
_SEQUENCES: Final = ("history", "user_segments", "usage_history", "extensions", "pending_tool_calls")


def read_state_differences(left: Side, right: Side, damage: list[Damage] | None = None) -> tuple[StateDifference, ...]:
    """Restore both sides, and compare the states. What is damaged is appended to ``damage``, if it is given.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion, InvalidCut: as
            :func:`session_log.restore`.
    """
    states = [_state(_cut(side), damage is not None) for side in (left, right)]
    if damage is not None:
        damage += [found for state in states for found in state.damage]
    return state_differences(*states)


def state_differences(left: RestoredState, right: RestoredState) -> tuple[StateDifference, ...]:
    """Compare two states; where they were restored from is no difference. Pure."""
    pairs = [(name, getattr(left, name), getattr(right, name)) for name in _PLAIN]
    pairs += [
        (f"config.{name}", getattr(left.config, name), getattr(right.config, name))
        for name in RequestConfig.__struct_fields__
    ]
    found = [
        StateDifference(name=name, at=None, left=ours, right=theirs) for name, ours, theirs in pairs if ours != theirs
    ]
    for name in _SEQUENCES:
        ours, theirs = getattr(left, name), getattr(right, name)
        at = first_difference(ours, theirs)
        if at < max(len(ours), len(theirs)):
            found.append(StateDifference(name=name, at=at, left=ours[at:], right=theirs[at:]))
    return tuple(found)


def first_difference(left: Sequence[object], right: Sequence[object]) -> int:
    """Return how many leading members of two sequences are the same."""
    for at, (ours, theirs) in enumerate(zip(left, right, strict=False)):
        if not _is_same(ours, theirs):
            return at
    return min(len(left), len(right))


def _is_same(left: object, right: object) -> bool:
    """Tell whether two values say the same in JSON: there, true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_is_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(_is_same, left, right))
    return isinstance(left, bool) is isinstance(right, bool) and left == right
