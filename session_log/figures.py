"""Figures: how much there is in sessions, by kind; how long their tools took, how often they failed.

>>> from session_log import MemoryStore, SegmentWriter, ToolCall, ToolResult
>>> from session_log.figures import read_figures
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_delta([ToolCall("c", "shell", "{}"), ToolResult("c", "done")])
...     _ = writer.save_turn_end()
>>> figures = read_figures(store)
>>> (figures.turns, figures.kinds["assistant_item"].entries, figures.tools["shell"].calls)
(1, 1, 1)

Lines are counted where they stand: what a fork inherits by reference once, in the parent, and what was rolled back all
the same. Figures of segments add up (:func:`add_up`). Memory does not grow with the log: files are read in blocks, and
times are kept to three digits.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from session_log._chosen import Chosen, spans_of
from session_log._codec import clock_time
from session_log._entries import (
    AssistantItem,
    Invoke,
    LogEntry,
    RunCompleted,
    RunErrored,
    SegmentStart,
    ToolResultEntry,
    TurnEnd,
)
from session_log._errors import NotFound
from session_log._figures import MAX_NAMES, OTHERS, Figures, KindFigures, LongLine, Tally, ToolFigures, rounded
from session_log._items import Item, ToolCall, ToolResult
from session_log._reader import Block, read_blocks, report, where
from session_log._state import Damage
from session_log._store import BlockReader, Store
from session_log.lines import kind_of

__all__ = [
    "Chosen",
    "Figures",
    "KindFigures",
    "LONGEST",
    "LongLine",
    "MAX_NAMES",
    "MAX_OPEN_CALLS",
    "OTHERS",
    "ToolFigures",
    "add_up",
    "read_figures",
]
LONGEST: Final = 5
"""How many of the longest lines are listed, unless told."""
MAX_OPEN_CALLS: Final = 10_000
"""How many calls of one segment may wait for their result; the oldest then counts as unanswered."""
Progress = Callable[[int, int | None], None]


def read_figures(
    store: Store,
    chosen: Iterable[Chosen] | None = None,
    *,
    since: int | None = None,
    until: int | None = None,
    longest: int = LONGEST,
    damage: list[Damage] | None = None,
    progress: Progress | None = None,
) -> Figures:
    """Count what was chosen (None: the whole store), each line once. Reads only; files may be written to meanwhile.

    ``since`` and ``until``: only the lines of this time, in milliseconds, UTC, both included; a call and its result
    that lie on two sides of a bound do not find each other. ``longest``: how many of the longest lines to list.
    ``progress`` is told how many segments are done, of how many. Damage is appended to ``damage``, if it is given.

    Raises:
        NotFound: a chosen segment is not there.
        CorruptSegment: a line is no entry, and ``damage`` was not given.
        UnsupportedVersion: a later version wrote it.
    """
    wanted = dict.fromkeys(_every_segment(store)) if chosen is None else spans_of(store, chosen, damage)
    tally = Tally(longest)
    for done, ((session_id, segment_id), stop) in enumerate(wanted.items(), 1):
        try:
            _count(_Segment(tally, session_id, segment_id, since, until), store, stop, damage)
        except NotFound:
            if chosen is not None:
                raise
            continue  # deleted since it was listed
        if progress is not None:
            progress(done, len(wanted))
    return tally.frozen()


def add_up(parts: Iterable[Figures], *, longest: int = LONGEST) -> Figures:
    """Return the figures of all parts. Pure. ``longest``: how many of the longest lines to list, if the parts do."""
    tally = Tally(longest)
    for part in parts:
        tally.add(part)
    return tally.frozen()


def _every_segment(store: Store) -> Iterator[tuple[str, str]]:
    for session_id in store.list_sessions():
        try:
            segments = store.list_segments(session_id)
        except NotFound:
            continue  # deleted since it was listed
        yield from ((session_id, segment_id) for segment_id in segments)


def _count(seen: "_Segment", store: Store, stop: int | None, damage: list[Damage] | None) -> None:
    end = 0
    for block in read_blocks(store, *seen.ids, 0, stop, damage=damage):
        seen.block(block)
        end = block.byte_offset + len(block.data)
    if not end:
        report(Damage(where(store, *seen.ids), 1, 0, 0, ""), "the segment has no committed line", damage)
    torn = store.torn_bytes(*seen.ids, end) if stop is None and isinstance(store, BlockReader) else 0
    seen.end(torn)


class _Segment:
    """One segment on its way into a tally: which calls wait for a result, whether a run is open."""

    def __init__(self, tally: Tally, session_id: str, segment_id: str, since: int | None, until: int | None) -> None:
        self.ids = session_id, segment_id
        self._tally = tally
        self._since = since
        self._until = until
        self._open_calls: dict[str, list[tuple[str, int | None]]] = {}
        self._waiting = 0
        self._run_open = self._seen = False

    def block(self, block: Block) -> None:
        """Count the lines of a block."""
        tally, counts = self._tally, self._tally.counts
        for number, (line, entry) in enumerate(zip(block.lines(), block.entries, strict=True), block.first_line + 1):
            ts = clock_time(entry)
            if not self._is_in_time(ts):
                continue
            self._seen = True
            size = len(line) + 1
            counts["lines"] += 1
            counts["size_bytes"] += size
            if entry is None:
                counts["damaged" if line.strip() else "blank"] += 1
                continue
            kind = kind_of(entry)
            sums = tally.kind(kind)
            sums[0] += 1
            sums[1] += size
            tally.long(size, *self.ids, number, kind)
            if ts:
                tally.at(ts)
            self._entry(entry, ts)

    def _is_in_time(self, ts: int) -> bool:
        """Tell whether a line counts; one without a time does if every time counts."""
        if self._since is None and self._until is None:
            return True
        return bool(ts) and (self._since is None or ts >= self._since) and (self._until is None or ts <= self._until)

    def _entry(self, entry: LogEntry, ts: int) -> None:
        counts = self._tally.counts
        match entry:
            case AssistantItem(item=item) | ToolResultEntry(item=item):
                self._item(item, ts)
            case TurnEnd():
                counts["turns"] += 1
            case Invoke():
                counts["runs_interrupted"] += self._run_open
                self._run_open = True
            case RunCompleted(interrupted=interrupted):
                counts["runs_interrupted" if interrupted else "runs_completed"] += 1
                self._run_open = False
            case RunErrored():
                counts["runs_errored"] += 1
                self._run_open = False
            case SegmentStart(history=history):
                for item in history:
                    if isinstance(item, ToolCall):
                        self._open(item, None)  # counted where it was called
                    elif isinstance(item, ToolResult):
                        self._answered(item.call_id)
            case _:
                return

    def _item(self, item: Item, ts: int) -> None:
        if isinstance(item, ToolCall):
            self._tally.tool(item.name).calls += 1
            self._open(item, ts)
        elif isinstance(item, ToolResult):
            name, called = self._answered(item.call_id)
            if name is None:
                self._tally.counts["stray_results"] += 1
                return
            tool = self._tally.tool(name)
            tool.errors += item.is_error
            if called is not None:
                took = rounded(max(0, ts - called))
                tool.times[took] = tool.times.get(took, 0) + 1

    def _open(self, call: ToolCall, ts: int | None) -> None:
        self._open_calls.setdefault(call.call_id, []).append((call.name, ts))
        self._waiting += 1
        if self._waiting > MAX_OPEN_CALLS:
            self._unanswered(*self._answered(next(iter(self._open_calls)), oldest=True))

    def _answered(self, call_id: str, *, oldest: bool = False) -> tuple[str | None, int | None]:
        """Take the latest open call of an id: ids are reused, and a call may have been abandoned."""
        calls = self._open_calls.get(call_id)
        if calls is None:
            return None, None
        found = calls.pop(0 if oldest else -1)
        if not calls:
            del self._open_calls[call_id]
        self._waiting -= 1
        return found

    def _unanswered(self, name: str | None, called: int | None) -> None:
        if name is not None and called is not None:
            self._tally.tool(name).unanswered += 1

    def end(self, torn_bytes: int) -> None:
        """Count the segment, if a line of it counted, and what was left open in it."""
        self._tally.counts["segments"] += self._seen
        self._tally.counts["torn_bytes"] += torn_bytes
        self._tally.counts["runs_open"] += self._run_open
        for calls in self._open_calls.values():
            for name, called in calls:
                self._unanswered(name, called)
