"""State: what a worker needs to go on. Frozen values, the result of the fold."""

from typing import NamedTuple

import msgspec

from session_log._entries import (
    PodScope,
    RequestConfig,
    UsageRecord,
)
from session_log._inputs import (
    InputSegment,
)
from session_log._items import Item, JsonValue, ToolCall


class Head(msgspec.Struct, frozen=True, gc=False):
    """A position in a segment: its first ``entries`` lines, which end at ``byte_offset``."""

    session_id: str
    segment_id: str
    entries: int
    byte_offset: int


class SegmentStartState(msgspec.Struct, frozen=True):
    """What a new segment starts with."""

    system_prompt: str | None = None
    config: RequestConfig = RequestConfig()
    history: tuple[Item, ...] = ()


class Damage(msgspec.Struct, frozen=True, gc=False):
    """A piece of a segment that is no entry; ``line`` counts from 1, ``byte_offset`` from 0."""

    path: str
    line: int
    byte_offset: int
    length_bytes: int
    reason: str


class ExtensionRecord(NamedTuple):
    """One recorded extension."""

    domain: str
    payload: JsonValue


class RestoredState(msgspec.Struct, frozen=True, kw_only=True):
    """The state at ``head``, with everything the segment inherits.

    ``entries_count`` counts the lines of this segment alone (blank ones too), as ``head.entries`` does.
    ``usage_before_compaction`` is how many leading records of ``usage_history`` measured a history since compacted
    away, ``extensions_before_compaction`` how many leading ``extensions`` were recorded before that.
    ``pending_tool_calls`` are the calls without a result, oldest first. ``damage`` lists what ``salvage=True``
    skipped, ``torn_bytes`` counts uncommitted bytes seen at the tail, ``unknown_entries`` the entries of later kinds.
    """

    session_id: str | None = None
    system_prompt: str | None = None
    config: RequestConfig = RequestConfig()
    history: tuple[Item, ...] = ()
    turn_count: int = 0
    last_run_interrupted: bool = False
    entries_count: int = 0
    usage_history: tuple[UsageRecord, ...] = ()
    usage_before_compaction: int = 0
    extensions: tuple[ExtensionRecord, ...] = ()
    extensions_before_compaction: int = 0
    pod_scope: PodScope | None = None
    user_segments: tuple[tuple[InputSegment, ...], ...] = ()
    pending_tool_calls: tuple[ToolCall, ...] = ()
    damage: tuple[Damage, ...] = ()
    torn_bytes: int = 0
    unknown_entries: int = 0
    head: Head | None = None
