"""A segment that stands alone: the history of others written into its first line. Pure.

The items and payloads are the raw bytes of the lines they were recorded in: nothing is decoded and encoded again, so
keys and numbers that this version does not know come through as they are.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from session_log._codec import encode_struct
from session_log._entries import (
    AssistantItem,
    Carried,
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
    UsageRecord,
    UserInput,
)
from session_log._fold import system_text, usage_record
from session_log._inputs import (
    InputSegment,
    flatten_input,
)
from session_log._items import Message
from session_log._payload import to_raw


class _RawItem(msgspec.Struct):
    item: msgspec.Raw


class _RawHistory(msgspec.Struct):
    history: list[msgspec.Raw]


class _RawPayload(msgspec.Struct):
    payload: msgspec.Raw


_ITEM = msgspec.json.Decoder(_RawItem)
_HISTORY = msgspec.json.Decoder(_RawHistory)
_PAYLOAD = msgspec.json.Decoder(_RawPayload)


class Inlined:
    """The history and the rest of a state, as raw JSON, gathered from the lines that made it."""

    def __init__(self) -> None:
        self._began = False
        self._clear()

    def _clear(self) -> None:
        self.history: list[msgspec.Raw] = []
        self.usage: list[UsageRecord] = []
        self.stale_usage = 0
        self.user_segments: list[tuple[InputSegment, ...]] = []
        self.extensions: list[SessionExtension] = []
        self.interrupted = False

    def carried(self, *, compacted: bool = False) -> Carried | None:
        """Return what a segment carries beside its history, or None if that is nothing."""
        carried = Carried(
            interrupted=self.interrupted,
            usage=tuple(self.usage),
            usage_before_compaction=len(self.usage) if compacted else self.stale_usage,
            user_segments=tuple(self.user_segments),
            extensions=tuple(self.extensions),
        )
        return None if carried == Carried() else carried

    def add(self, entry: LogEntry, line: bytes) -> None:
        """Take in one line of the effective order, ancestors first."""
        match entry:
            case SegmentStart():
                self._start(entry, line)
            case AssistantItem(item=item) | ToolResultEntry(item=item):
                self.history.append(_raw(_ITEM, line, "item", item))
            case UserInput():
                self.history.append(msgspec.Raw(encode_struct(Message.user(flatten_input(entry.segments)))))
                self.user_segments.append(entry.segments)
                self._extend(entry.extensions)
            case SystemItemEntry():
                self.history.append(msgspec.Raw(encode_struct(Message.system(system_text(entry)))))
            case Extension(domain=domain, payload=payload):
                self.extensions.append(SessionExtension(domain, _raw(_PAYLOAD, line, "payload", payload)))
            case LlmUsage():
                self.usage.append(usage_record(entry))
            case Invoke():
                self.interrupted = True
            case RunCompleted(interrupted=interrupted) | RunErrored(interrupted=interrupted):
                self.interrupted = interrupted
            case PausedTurnAbandoned():
                self.interrupted = False
            case _:
                return  # turn ends and configs are fields of the first line; unknown kinds are not ours to carry

    def _extend(self, extensions: Iterable[SessionExtension]) -> None:
        for extension in extensions:
            self.extensions.append(SessionExtension(extension.domain, to_raw(extension.payload, "$.payload")))

    def _start(self, entry: SegmentStart, line: bytes) -> None:
        origin = entry.forked_from
        if origin is not None and origin.entries is not None and self._began:
            return
        self._clear()
        self._began = True
        try:
            self.history = [msgspec.Raw(bytes(item)) for item in _HISTORY.decode(line).history]
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.history = [msgspec.Raw(encode_struct(item)) for item in entry.history]
        if (carried := entry.carried) is not None:
            self.usage = list(carried.usage)
            self.stale_usage = carried.usage_before_compaction
            self.user_segments = list(carried.user_segments)
            self.interrupted = carried.interrupted
            self._extend(carried.extensions)


def _raw(decoder: msgspec.json.Decoder[Any], line: bytes, name: str, value: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(bytes(getattr(decoder.decode(line), name)))
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ):  # a lone surrogate: only the tolerant path splits it
        return to_raw(value, f"$.{name}") if name == "payload" else msgspec.Raw(encode_struct(value))
