"""Figures: what was counted, as values that add up, and the tally they are made with. Pure."""

import bisect
import heapq
import itertools
import math
from typing import Final

import msgspec

MAX_NAMES: Final = 10_000
"""How many kinds, and names of tools, are told apart; those that come later are added up under :data:`OTHERS`."""
OTHERS: Final = "…"


class KindFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of a kind, and their bytes, newlines included."""

    entries: int = 0
    size_bytes: int = 0


class ToolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a tool: how many, how many results were errors, how many calls got none.

    ``times`` says how often a call took so many milliseconds from its line to that of its result, ascending. Up to a
    second they are exact; above, rounded to three digits. ``p50_ms`` and ``p95_ms`` are percentiles by nearest rank.
    """

    calls: int = 0
    errors: int = 0
    unanswered: int = 0
    times: tuple[tuple[int, int], ...] = ()

    @property
    def p50_ms(self) -> int | None:
        """The median."""
        return self.percentile(50)

    @property
    def p95_ms(self) -> int | None:
        """What 95 % of the calls did not exceed."""
        return self.percentile(95)

    def percentile(self, percent: int) -> int | None:
        """Return the least time that at least so many percent of the answered calls did not exceed; None: no call."""
        totals = list(itertools.accumulate(count for _, count in self.times))
        if not totals:
            return None
        rank = max(1, math.ceil(totals[-1] * percent / 100))
        return self.times[bisect.bisect_left(totals, rank)][0]


class LongLine(msgspec.Struct, frozen=True, kw_only=True):
    """Where a long line is: its number, from 1, its kind, its bytes with the newline."""

    session_id: str
    segment_id: str
    line: int
    kind: str
    size_bytes: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted: in how many ``segments`` there was something to count, and what.

    ``lines`` are committed ones: those of all ``kinds``, ``blank`` ones and ``damaged`` ones. ``turns`` are turns that
    ended. ``runs_interrupted`` say so, or another run began before they ended; ``runs_open`` stand last in their
    segment without an end: they go on, or were interrupted. ``stray_results`` answer no call of their segment.
    ``torn_bytes`` were never committed. ``longest`` comes longest first. Times are milliseconds, UTC, or None.
    """

    segments: int = 0
    lines: int = 0
    size_bytes: int = 0
    blank: int = 0
    damaged: int = 0
    torn_bytes: int = 0
    turns: int = 0
    runs_completed: int = 0
    runs_errored: int = 0
    runs_interrupted: int = 0
    runs_open: int = 0
    stray_results: int = 0
    first_ts: int | None = None
    last_ts: int | None = None
    kinds: dict[str, KindFigures] = {}  # msgspec gives each its own
    tools: dict[str, ToolFigures] = {}
    longest: tuple[LongLine, ...] = ()


_COUNTS: Final = (
    "segments", "lines", "size_bytes", "blank", "damaged", "torn_bytes", "turns", "runs_completed", "runs_errored",
    "runs_interrupted", "runs_open", "stray_results",
)  # fmt: skip


# ── counting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def rounded(time_ms: int) -> int:
    """Return a time as it is kept: above a second with three digits, so that there is a bounded number of them."""
    unit = 10 ** max(0, len(str(time_ms)) - 3)
    return (time_ms + unit // 2) // unit * unit if unit > 1 else time_ms


class _Tool:
    """The figures of a tool in the making."""

    __slots__ = ("calls", "errors", "times", "unanswered")

    def __init__(self) -> None:
        self.calls = self.errors = self.unanswered = 0
        self.times: dict[int, int] = {}


class Tally:
    """Figures in the making."""

    def __init__(self, longest: int) -> None:
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.times: list[int] = []
        self.kinds: dict[str, list[int]] = {}
        self.tools: dict[str, _Tool] = {}
        self._most = longest
        self._longest: list[tuple[int, str, str, int, str]] = []

    def kind(self, name: str) -> list[int]:
        """Return the entries and bytes of a kind, to be added to."""
        if name not in self.kinds and len(self.kinds) >= MAX_NAMES:
            name = OTHERS
        return self.kinds.setdefault(name, [0, 0])

    def tool(self, name: str) -> _Tool:
        """Return the figures of a tool, to be added to."""
        if name not in self.tools and len(self.tools) >= MAX_NAMES:
            name = OTHERS
        return self.tools.setdefault(name, _Tool())

    def long(self, size: int, session_id: str, segment_id: str, line: int, kind: str) -> None:
        """Remember a line, if it is among the longest."""
        found = size, segment_id, session_id, -line, kind
        if len(self._longest) < self._most:
            heapq.heappush(self._longest, found)
        elif self._most and found > self._longest[0]:
            heapq.heapreplace(self._longest, found)

    def at(self, ts: int) -> None:
        """Remember a time, if it is the first or last so far."""
        self.times = [min(self.times[0], ts), max(self.times[1], ts)] if self.times else [ts, ts]

    def add(self, figures: Figures) -> None:
        """Add what was counted before."""
        for name in _COUNTS:
            self.counts[name] += getattr(figures, name)
        for ts in (figures.first_ts, figures.last_ts):
            if ts is not None:
                self.at(ts)
        for name, kind in figures.kinds.items():
            sums = self.kind(name)
            sums[0] += kind.entries
            sums[1] += kind.size_bytes
        for name, found in figures.tools.items():
            tool = self.tool(name)
            tool.calls += found.calls
            tool.errors += found.errors
            tool.unanswered += found.unanswered
            for time_ms, count in found.times:
                tool.times[time_ms] = tool.times.get(time_ms, 0) + count
        for line in figures.longest:
            self.long(line.size_bytes, line.session_id, line.segment_id, line.line, line.kind)

    def frozen(self) -> Figures:
        """Return the figures so far; kinds and tools by name."""
        first, last = self.times or (None, None)
        return Figures(
            **self.counts,
            first_ts=first,
            last_ts=last,
            kinds={
                name: KindFigures(entries=entries, size_bytes=size)
                for name, (entries, size) in sorted(self.kinds.items())
            },
            tools={
                name: ToolFigures(
                    calls=tool.calls,
                    errors=tool.errors,
                    unanswered=tool.unanswered,
                    times=tuple(sorted(tool.times.items())),
                )
                for name, tool in sorted(self.tools.items())
            },
            longest=tuple(
                LongLine(session_id=session_id, segment_id=segment_id, line=-line, kind=kind, size_bytes=size)
                for size, segment_id, session_id, line, kind in sorted(self._longest, reverse=True)
            ),
        )
