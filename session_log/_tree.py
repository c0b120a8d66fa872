"""The tree: where a segment can be cut, and what a child says of its parent. Pure.

A *cut* is a number of lines of one segment. Good cuts are turn boundaries, and any line count that does not part a tool
call from its result. The cut of turn n is before the first line of turn n + 1: a turn's ``llm_usage`` and
``run_completed`` come after its ``turn_end`` and belong to it.
"""

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from session_log._entries import (
    AssistantItem,
    ConfigChanged,
    Extension,
    Invoke,
    LogEntry,
    RequestConfig,
    SegmentOrigin,
    SegmentStart,
    ToolResultEntry,
    TurnEnd,
    UserInput,
)
from session_log._errors import BrokenLineage, InvalidCut
from session_log._items import ToolCall, ToolResult
from session_log._rollback import BadRollback, effective_order, rollback_target

MAX_FORK_DEPTH = 128
"""The longest chain of forks by reference: deeper than anyone forks by hand, and a bound for what a restore opens."""

_OPENS_A_TURN: Final = frozenset({Invoke, UserInput, AssistantItem, ToolResultEntry, TurnEnd})


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A place in a segment: its first ``entries`` lines, ending at ``byte_offset``, after ``turn`` turns.

    The last line has ``tail_bytes``, its newline included.
    """

    entries: int
    byte_offset: int
    tail_bytes: int
    turn: int


class Cuts:
    """Where one segment can be cut. Grows with the segment; answers without looking at it again."""

    def __init__(self) -> None:
        self.start: SegmentStart | None = None
        self.entries = 0
        self.byte_offset = 0
        self.first_line_bytes = 0
        self.last_line_bytes = 0
        self.turn_base = 0
        self._turns: list[Cut] = []
        self._by_turn: dict[int, Cut] = {}
        self._ended: list[tuple[int, int]] = []
        self._first_opener: Cut | None = None
        self._open_turn: int | None = None
        self._configs: list[tuple[int, RequestConfig]] = []
        self._open_calls: list[tuple[str, int]] = []
        self._apart: list[tuple[int, int]] = []
        self.rolled_back = False
        self.depth: int | None = None  # how many spans make up this segment, once somebody has looked

    def add(self, entry: LogEntry | None, line_bytes: int, *, effective: bool = True) -> None:
        """Take in the next line, of ``line_bytes`` with its newline; ``None`` is a line without an entry."""
        at = self.entries
        if entry is not None and effective:
            self._add(entry, at)
        if type(entry) is Extension and _rolls_back(entry, at, effective=effective):
            self.rolled_back = True
        if at == 0:
            self.first_line_bytes = line_bytes
        self.entries = at + 1
        self.byte_offset += line_bytes
        self.last_line_bytes = line_bytes

    def extend(self, lines: Iterable[tuple[LogEntry | None, int]]) -> None:
        """Take in many lines."""
        for entry, line_bytes in lines:
            self.add(entry, line_bytes)

    def _add(self, entry: LogEntry, at: int) -> None:
        kind = type(entry)
        if kind in _OPENS_A_TURN:
            if self._first_opener is None:
                self._first_opener = Cut(at, self.byte_offset, self.last_line_bytes, self.turn_base)
            if self._open_turn is not None:
                cut = Cut(at, self.byte_offset, self.last_line_bytes, self._open_turn)
                self._turns.append(cut)
                self._by_turn[cut.turn] = cut
                self._open_turn = None
        if isinstance(entry, TurnEnd):
            self._open_turn = entry.turn_count
            self._ended.append((at + 1, entry.turn_count))
        elif isinstance(entry, (AssistantItem, ToolResultEntry)):
            item = entry.item
            if isinstance(item, ToolCall):
                self._open_calls.append((item.call_id, at))
            elif isinstance(item, ToolResult):
                self._answer(item.call_id, at)
        elif isinstance(entry, ConfigChanged):
            self._configs.append((at, entry.config))
        elif isinstance(entry, SegmentStart):
            self.start = entry
            origin = entry.forked_from or entry.compacted_from
            self.turn_base = entry.turn_count or (origin.at_turn_index if origin is not None else 0)

    def _answer(self, call_id: str, at: int) -> None:
        for index in range(len(self._open_calls) - 1, -1, -1):
            if self._open_calls[index][0] == call_id:
                start = self._open_calls.pop(index)[1]
                while self._apart and self._apart[-1][1] >= start:  # overlapping or touching: one stretch
                    start = min(start, self._apart.pop()[0])
                self._apart.append((start, at))
                return

    def copy(self) -> "Cuts":
        """Return cuts that grow on their own: those handed out before stay as they are."""
        twin = Cuts()
        twin.__dict__.update(self.__dict__)
        for name in ("_turns", "_by_turn", "_ended", "_configs", "_open_calls", "_apart"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def turns(self) -> list[int]:
        """Return the turns that can be named here, in order; the first is what the segment starts with."""
        open_turn = [] if self._open_turn is None else [self._open_turn]
        return sorted({self.turn_base, *self._by_turn, *open_turn})

    def at_turn(self, turn: int) -> Cut | None:
        """Return the cut after ``turn``, or None if no turn of that number ended in this segment."""
        if turn == self._open_turn:
            return Cut(self.entries, self.byte_offset, self.last_line_bytes, turn)
        return self._by_turn.get(turn)

    def at_base(self) -> Cut:
        """Return the cut before the first line that opens a turn: what comes before belongs to the turn inherited."""
        return self._first_opener or Cut(self.entries, self.byte_offset, self.last_line_bytes, self.turn_base)

    def first(self) -> Cut:
        """Return the cut right after the start."""
        return Cut(1, self.first_line_bytes, self.first_line_bytes, self.turn_base)

    def cut_at(self, entries: int) -> Cut | None:
        """Return the cut of ``entries`` lines if it is a turn boundary or an end; others are not remembered."""
        if entries == self.entries:
            return Cut(entries, self.byte_offset, self.last_line_bytes, self.turn_at(entries))
        at = bisect_left(self._turns, entries, key=lambda cut: cut.entries)
        if at < len(self._turns) and self._turns[at].entries == entries:
            return self._turns[at]
        return self.first() if entries == 1 else None

    def turn_at(self, entries: int) -> int:
        """Return how many turns are complete in the first ``entries`` lines."""
        at = bisect_right(self._ended, entries, key=lambda end: end[0]) - 1
        return self._ended[at][1] if at >= 0 else self.turn_base

    def config_at(self, entries: int) -> RequestConfig:
        """Return the request parameters after the first ``entries`` lines."""
        at = bisect_left(self._configs, entries, key=lambda change: change[0]) - 1
        if at >= 0:
            return self._configs[at][1]
        return self.start.config if self.start is not None else RequestConfig()

    def nearest_to(self, entries: int) -> tuple[int, ...]:
        """Return the nearest good cuts if ``entries`` parts a call from its result, or is outside; else nothing."""
        if not 1 <= entries <= self.entries:
            return (min(max(entries, 1), self.entries),)
        at = bisect_left(self._apart, entries, key=lambda stretch: stretch[0]) - 1
        if at >= 0 and self._apart[at][0] < entries <= self._apart[at][1]:
            return self._apart[at][0], self._apart[at][1] + 1
        return ()


def cuts_of(lines: Sequence[tuple[LogEntry | None, int]]) -> Cuts:
    """Return the cuts of a segment given whole, its rollbacks followed."""
    cuts = _effective_cuts(lines)
    if cuts.rolled_back:  # a call and its result stay together even where they do not count any more
        stretches = list(cuts._apart)
        for at, (entry, _) in enumerate(lines):
            if entry is not None and _rolls_back(entry, at, effective=False):
                with contextlib.suppress(BadRollback):  # before one that was undone later there was no sound state
                    stretches += _effective_cuts(lines[:at])._apart
        cuts._apart = _merged(stretches)
    return cuts


def _rolls_back(entry: LogEntry, at: int, *, effective: bool) -> bool:
    """Tell whether the line is a rollback; one that points nowhere is none, if a later one undid it."""
    try:
        return rollback_target(entry, at) is not None
    except BadRollback:
        if effective:
            raise
        return False


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if found and found[-1][1] >= start:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _effective_cuts(lines: Sequence[tuple[LogEntry | None, int]]) -> Cuts:
    order = set(effective_order([entry for entry, _ in lines]))
    cuts = Cuts()
    for at, (entry, line_bytes) in enumerate(lines):
        cuts.add(entry, line_bytes, effective=at in order)
    return cuts


def refuse_bad_cut(cuts: Cuts, where: str, entries: int) -> None:
    """Raise InvalidCut for a line count at which a segment cannot be cut."""
    nearest = cuts.nearest_to(entries)
    if nearest:
        reason = "there is no such line" if len(nearest) == 1 else "would part a tool call from its result"
        raise InvalidCut(where, f"a cut after {entries} entries {reason}", nearest)


def nearest_turns(turns: Sequence[int], turn: int) -> tuple[int, ...]:
    """Return the turns next to ``turn``, lower first."""
    at = bisect_left(turns, turn)
    return tuple(turns[max(0, at - 1) : at + 1])


def tail_hash(line: bytes) -> str:
    """Return the SHA-256 of a line without its newline, as hex: what a child knows of the last line it inherits."""
    import hashlib

    return hashlib.sha256(line).hexdigest()


def check_reference(path: str, origin: SegmentOrigin, entries: int, byte_offset: int, last_line: bytes) -> None:
    """Raise BrokenLineage if the inherited lines are not those that ``origin`` names.

    ``entries``, ``byte_offset`` and ``last_line`` are what was found when reading up to the cut.
    """
    if entries != origin.entries:
        raise BrokenLineage(path, entries, byte_offset, f"has {entries} lines, a child inherits {origin.entries}")
    if origin.byte_offset is not None and byte_offset != origin.byte_offset:
        reason = f"line {entries} ends at byte {byte_offset}, a child inherits {origin.byte_offset} bytes"
        raise BrokenLineage(path, entries, byte_offset, reason)
    repaired = not last_line.strip()  # blanked by repair(), which keeps every reference right
    if origin.tail_sha256 is not None and not repaired and tail_hash(last_line) != origin.tail_sha256:
        raise BrokenLineage(path, entries, byte_offset, f"line {entries} is not the one a child inherited (hash)")
