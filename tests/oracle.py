"""The oracle: sessions as a dict of lists, and a fold so naive that it is plainly right.

It knows what the library promises and nothing of how: no files, no positions, no references. Rollbacks are followed
forwards, by keeping the state after every line, where the library walks backwards; a fork by reference is the list of
what its ancestors held. Only the values (entries, items) are the library's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec

import session_log as sl


@dataclass(frozen=True)
class Rollback:
    """A line that says: the state after the first ``to`` lines of this segment."""

    to: int


@dataclass(frozen=True)
class Start:
    """The first line of a segment."""


@dataclass(frozen=True)
class Blank:
    """A line that holds no entry."""


Line: TypeAlias = sl.LogEntry | Rollback | Start | Blank
START = Start()
_OPENERS = (sl.Invoke, sl.UserInput, sl.AssistantItem, sl.ToolResultEntry, sl.TurnEnd)


@dataclass(frozen=True)
class Folded:
    """What a worker needs to go on, in plain lists."""

    system_prompt: str | None = None
    config: sl.RequestConfig = field(default_factory=sl.RequestConfig)
    history: list[Any] = field(default_factory=list)
    turn_count: int = 0
    interrupted: bool = False
    usage: list[sl.UsageRecord] = field(default_factory=list)
    usage_before_compaction: int = 0
    extensions: list[tuple[str, Any]] = field(default_factory=list)
    extensions_before_compaction: int = 0
    pod_scope: sl.PodScope | None = None
    user_segments: list[tuple[Any, ...]] = field(default_factory=list)
    pending: list[sl.ToolCall] = field(default_factory=list)
    unknown: int = 0


def folded(state: sl.RestoredState) -> Folded:
    """Return a state of the library in the oracle's shape."""
    return Folded(
        system_prompt=state.system_prompt,
        config=state.config,
        history=list(state.history),
        turn_count=state.turn_count,
        interrupted=state.last_run_interrupted,
        usage=list(state.usage_history),
        usage_before_compaction=state.usage_before_compaction,
        extensions=[(domain, payload) for domain, payload in state.extensions],
        extensions_before_compaction=state.extensions_before_compaction,
        pod_scope=state.pod_scope,
        user_segments=list(state.user_segments),
        pending=list(state.pending_tool_calls),
        unknown=state.unknown_entries,
    )


def fold(base: Folded, entries: Sequence[Line]) -> Folded:
    """Return what ``base`` becomes by ``entries``, one copy of everything for each of them."""
    for entry in entries:
        base = _after(base, entry)
    return base


def _after(now: Folded, entry: Line) -> Folded:  # noqa: C901, PLR0911 (one case a kind)
    if isinstance(entry, sl.Invoke):
        return replace(now, interrupted=True)
    if isinstance(entry, sl.UserInput):
        now = replace(
            now,
            history=[*now.history, sl.Message.user("".join(_typed(segment) for segment in entry.segments))],
            user_segments=[*now.user_segments, entry.segments],
        )
        for inner in entry.extensions:
            now = _extended(now, inner.domain, inner.payload)
        return now
    if isinstance(entry, (sl.AssistantItem, sl.ToolResultEntry)):
        return _with_item(now, entry.item)
    if isinstance(entry, sl.SystemItemEntry):
        return replace(now, history=[*now.history, sl.Message.system(_shown(entry.item))])
    if isinstance(entry, sl.TurnEnd):
        return replace(now, turn_count=entry.turn_count)
    if isinstance(entry, (sl.RunCompleted, sl.RunErrored)):
        return replace(now, interrupted=entry.interrupted)
    if isinstance(entry, sl.PausedTurnAbandoned):
        return replace(now, interrupted=False)
    if isinstance(entry, sl.ConfigChanged):
        return replace(now, config=entry.config)
    if isinstance(entry, sl.LlmUsage):
        fields = {name: getattr(entry, name) for name in sl.UsageRecord.__struct_fields__}
        return replace(now, usage=[*now.usage, sl.UsageRecord(**fields)])
    if isinstance(entry, sl.Extension):
        return _extended(now, entry.domain, entry.payload)
    if isinstance(entry, sl.UnknownEntry):
        return replace(now, unknown=now.unknown + 1)
    assert isinstance(entry, (Start, Blank))
    return now


def _with_item(now: Folded, item: Any) -> Folded:
    pending = list(now.pending)
    if isinstance(item, sl.ToolCall):
        pending.append(item)
    if isinstance(item, sl.ToolResult):
        answered = [at for at, call in enumerate(pending) if call.call_id == item.call_id]
        if answered:
            del pending[answered[-1]]
    return replace(now, history=[*now.history, item], pending=pending)


def _extended(now: Folded, domain: str, payload: Any) -> Folded:
    if domain == "pod.scope":
        rules = {
            name: tuple(sl.ScopeRule(rule["target"], rule["permission"], rule["recursive"]) for rule in payload[name])
            for name in ("allow", "deny")
        }
        now = replace(now, pod_scope=sl.PodScope(**rules))
    return replace(now, extensions=[*now.extensions, (domain, payload)])


def _typed(segment: Any) -> str:
    sigils = {sl.FileRef: "@", sl.KnowledgeRef: "#", sl.WorkflowInvoke: "/", sl.FlowInvoke: "/"}
    if isinstance(segment, (sl.TextInput, sl.PasteInput)):
        return segment.content
    if type(segment) in sigils:
        (value,) = msgspec.structs.astuple(segment)
        return f"{sigils[type(segment)]}{value}"
    return "[unknown input segment]"


def _shown(item: Any) -> str:
    if isinstance(item, sl.Unknown):
        body = msgspec.json.decode(item.raw).get("body")
        return body if isinstance(body, str) else f"[{item.kind}]"
    return f"/{item.slug}" if item.body is None else str(item.body)


def started(state: sl.SegmentStartState) -> Folded:
    """Return what a new session starts from."""
    now = Folded(system_prompt=state.system_prompt, config=state.config)
    for item in state.history:
        now = _with_item(now, item)
    return now


# ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Log:
    """One segment: its lines, and what it goes on from, a number of lines of another or a state of its own."""

    session_id: str
    base: Folded
    parent: tuple[str, int] | None = None
    lines: list[Line] = field(default_factory=lambda: [START])
    units: list[int] = field(default_factory=lambda: [1])


Place: TypeAlias = tuple[str, int, Line]


class Oracle:
    """What is on file, if the library keeps its word."""

    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}

    # ── changes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, session_id: str, segment_id: str, base: Folded) -> None:
        """Start a segment from a state."""
        self.logs[segment_id] = Log(session_id, base)

    def append(self, segment_id: str, lines: Sequence[Line]) -> int:
        """Append a unit and return the new length."""
        log = self.logs[segment_id]
        log.lines += lines
        if lines:
            log.units.append(len(lines))
        return len(log.lines)

    def fork(self, segment_id: str, entries: int, child_id: str) -> None:
        """Fork by reference."""
        self.logs[child_id] = Log(self.logs[segment_id].session_id, Folded(), (segment_id, entries))

    def fork_alone(self, segment_id: str, entries: int, child_id: str) -> None:
        """Fork with everything copied, lines of later kinds included."""
        self.create(self.logs[segment_id].session_id, child_id, self.state(segment_id, entries))

    def compact(self, segment_id: str, entries: int, child_id: str, state: sl.SegmentStartState) -> None:
        """Go on with another history."""
        before, new = self.state(segment_id, entries), started(state)
        base = replace(
            before,
            system_prompt=new.system_prompt,
            config=new.config,
            history=new.history,
            pending=new.pending,
            usage_before_compaction=len(before.usage),
            extensions_before_compaction=len(before.extensions),
            unknown=0,
        )
        self.create(self.logs[segment_id].session_id, child_id, base)

    def tear(self, segment_id: str) -> None:
        """Lose the last unit."""
        log = self.logs[segment_id]
        del log.lines[-log.units.pop() :]

    def delete_session(self, session_id: str) -> None:
        """Lose a session."""
        for segment_id in [found for found, log in self.logs.items() if log.session_id == session_id]:
            del self.logs[segment_id]

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def length(self, segment_id: str) -> int:
        """Return how many lines a segment has."""
        return len(self.logs[segment_id].lines)

    def view(self, segment_id: str, entries: int | None = None) -> list[Place]:
        """Return the lines that make up a state, ancestors first, each with its place."""
        log = self.logs[segment_id]
        inherited = self.view(*log.parent) if log.parent is not None else []
        own = _snapshots(log.lines)[len(log.lines) if entries is None else entries]
        return inherited + [(segment_id, at, log.lines[at]) for at in own]

    def base(self, segment_id: str) -> Folded:
        """Return what the oldest ancestor starts from."""
        log = self.logs[segment_id]
        return self.base(log.parent[0]) if log.parent is not None else log.base

    def state(self, segment_id: str, entries: int | None = None) -> Folded:
        """Return the state after the first ``entries`` lines of a segment."""
        return fold(self.base(segment_id), [line for _, _, line in self.view(segment_id, entries)])

    def turns(self, segment_id: str) -> dict[int, tuple[str, int]]:
        """Return, for each turn that can be named, the segment and number of lines after it.

        It ends before the next one begins: its usage and its run's end come after its ``turn_end``, and belong to it.
        So do the first lines of a segment that starts with turns of its own; turn 0 is right after the start.
        """
        view, before = self.view(segment_id), self.base(segment_id).turn_count
        found = {}
        for at, (_, _, line) in enumerate(view):
            if at == 0 or isinstance(line, sl.TurnEnd):
                stop = at + 1
                while stop < len(view) and not isinstance(view[stop][2], _OPENERS):
                    stop += 1
                last_segment, last_at, _ = view[stop - 1]
                turn = line.turn_count if isinstance(line, sl.TurnEnd) else before
                found[turn] = (last_segment, last_at + 1)
        return found | {0: (view[0][0], 1)}

    def parts_a_call(self, segment_id: str, entries: int) -> bool:
        """Tell whether a cut after ``entries`` lines is between a call and its result, in the segment's own lines."""
        return any(call < entries <= result for call, result in answers(self.logs[segment_id].lines))


def _snapshots(lines: Sequence[Line]) -> list[list[int]]:
    """Return, for each number of lines, the positions of those that count."""
    found: list[list[int]] = [[]]
    for at, line in enumerate(lines):
        found.append(found[line.to] if isinstance(line, Rollback) else [*found[-1], at])
    return found


def answers(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Return the positions of each call and its result, by position and not by id alone: ids are reused."""
    found = []
    for before, (at, line) in zip(_snapshots(lines), enumerate(lines), strict=False):
        if isinstance(line, (sl.AssistantItem, sl.ToolResultEntry)) and isinstance(line.item, sl.ToolResult):
            open_calls: list[tuple[int, str]] = []
            for place in before:
                inner = lines[place]
                if not isinstance(inner, (sl.AssistantItem, sl.ToolResultEntry)):
                    continue
                if isinstance(inner.item, sl.ToolCall):
                    open_calls.append((place, inner.item.call_id))
                elif isinstance(inner.item, sl.ToolResult):
                    _close(open_calls, inner.item.call_id)
            call = _close(open_calls, line.item.call_id)
            if call is not None:
                found.append((call, at))
    return found


def _close(open_calls: list[tuple[int, str]], call_id: str) -> int | None:
    for place, open_id in reversed(open_calls):
        if open_id == call_id:
            open_calls.remove((place, open_id))
            return place
    return None


def lines_of(entries: Sequence[sl.LogEntry | None]) -> list[Line]:
    """Return entries as the oracle keeps them: rollbacks as such, first lines and lines without an entry marked."""
    found: list[Line] = []
    for entry in entries:
        if entry is None:
            found.append(Blank())
        elif isinstance(entry, sl.SegmentStart):
            found.append(START)
        elif isinstance(entry, sl.Extension) and entry.domain == "session_log.rollback":
            found.append(Rollback(entry.payload["to_entries"]))
        else:
            found.append(entry)
    return found
