"""A segment that stands alone: the history of others written into its first line. Pure.

The items and payloads are the raw bytes of the lines they were recorded in: nothing is decoded and encoded again, so
keys and numbers that this version does not know come through as they are.
"""

from collections.abc import Iterable
from typing import assert_never

import msgspec

from session_log._codec import encode_struct
from session_log._entries import (
    AssistantItem,
    Carried,
    CarriedKey,
    ConfigChanged,
    Extension,
    Invoke,
    LlmUsage,
    LogEntry,
    PausedTurnAbandoned,
    RunCompleted,
    RunErrored,
    SegmentStart,
    SessionExtension,
    SystemItemEntry,
    ToolResultEntry,
    TurnEnd,
    UnknownEntry,
    UsageRecord,
    UserInput,
)
from session_log._fold import system_part, usage_record, within_64_bits
from session_log._idem import MAX_CARRIED_KEYS
from session_log._inputs import (
    input_text,
)
from session_log._items import Message
from session_log._tolerant import elements_of, members_of


class Inlined:
    """The history and the rest of a state, as raw JSON, gathered from the lines that made it."""

    def __init__(self) -> None:
        self._began = False
        self._clear()

    def _clear(self) -> None:
        self.history: list[msgspec.Raw] = []
        self.usage: list[UsageRecord] = []
        self.stale_usage = 0
        self.user_segments: list[msgspec.Raw] = []
        self.extensions: list[SessionExtension] = []
        self.stale_extensions = 0
        self.unknown: list[msgspec.Raw] = []
        self.idem: dict[str, CarriedKey] = {}
        self.interrupted = False

    def carried(self, *, compacted: bool = False) -> Carried | None:
        """Return what a segment carries beside its history, or None if that is nothing."""
        carried = Carried(
            interrupted=self.interrupted,
            usage=tuple(self.usage),
            usage_before_compaction=len(self.usage) if compacted else self.stale_usage,
            user_segments=tuple(self.user_segments),  # type: ignore[arg-type]  # raw JSON of segments
            extensions=tuple(self.extensions),
            extensions_before_compaction=len(self.extensions) if compacted else self.stale_extensions,
            unknown=() if compacted else tuple(self.unknown),  # they are about a history that is gone
            idem=tuple(self.idem.values())[-MAX_CARRIED_KEYS:],
        )
        return None if carried == Carried() else carried

    def add_keys(self, keys: Iterable[CarriedKey]) -> None:
        """Take in the idempotency keys of a segment, in order, after its lines."""
        for key in keys:
            self.idem.pop(key.key, None)  # the newest last
            self.idem[key.key] = key

    def add(self, entry: LogEntry, line: bytes) -> None:
        """Take in one line of the effective order, ancestors first."""
        match entry:
            case SegmentStart():
                self._start(entry, line)
            case AssistantItem() | ToolResultEntry():
                self.history.append(msgspec.Raw(members_of(line).item))
            case UserInput():
                self.history.append(msgspec.Raw(encode_struct(Message("user", (input_text(entry.segments),)))))
                members = members_of(line)
                self.user_segments.append(msgspec.Raw(members.segments))
                self._extend(members.extensions)
            case SystemItemEntry():
                self.history.append(msgspec.Raw(encode_struct(Message("system", (system_part(entry),)))))
            case Extension(domain=domain):
                self.extensions.append(SessionExtension(domain, msgspec.Raw(members_of(line).payload)))
            case LlmUsage():
                self.usage.append(usage_record(entry))
            case Invoke():
                self.interrupted = True
            case RunCompleted(interrupted=interrupted) | RunErrored(interrupted=interrupted):
                self.interrupted = interrupted
            case PausedTurnAbandoned():
                self.interrupted = False
            case UnknownEntry():
                self.unknown.append(msgspec.Raw(entry.raw.strip()))
            case TurnEnd() | ConfigChanged():
                return  # fields of the first line
            case _:
                assert_never(entry)

    def _extend(self, raw: bytes) -> None:
        for element in elements_of(raw):
            members = members_of(element)
            domain = msgspec.json.decode(members.domain, type=str)
            self.extensions.append(SessionExtension(domain, msgspec.Raw(members.payload)))

    def _start(self, entry: SegmentStart, line: bytes) -> None:
        origin = entry.forked_from
        if origin is not None and origin.entries is not None and self._began:
            return
        self._clear()
        self._began = True
        members = members_of(line)
        self.history = [msgspec.Raw(item) for item in elements_of(members.history)]
        if (carried := entry.carried) is not None:
            raw = members_of(members.carried)
            self.usage = [within_64_bits(usage) for usage in carried.usage]
            self.stale_usage = carried.usage_before_compaction
            self.stale_extensions = carried.extensions_before_compaction
            self.user_segments = [msgspec.Raw(segments) for segments in elements_of(raw.user_segments)]
            self.interrupted = carried.interrupted
            self._extend(raw.extensions)
            self.unknown = [msgspec.Raw(line) for line in elements_of(raw.unknown)]
            self.add_keys(carried.idem)
