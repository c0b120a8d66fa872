"""Entries: what a line says. One class a kind, in the order of the reference format (yoi's ``LogEntry``).

Every entry is frozen and carries ``ts`` (integer milliseconds, UTC) and, if given, ``idem`` (idempotency key).
Fields are written in the order they are declared; those with a default are omitted while they hold it, but for
``system_prompt``, ``config`` and ``history``, which the reference always writes.
"""

from typing import TypeAlias

import msgspec

from session_log._inputs import InputSegment
from session_log._items import Item, JsonValue, ToolResult
from session_log._system_items import ResultItem, ScopeRule, SystemItem

FORMAT_VERSION = 1
"""What ``segment_start.v`` says in a segment this version writes; a greater one is refused."""
ROLLBACK_DOMAIN = "session_log.rollback"
POD_SCOPE_DOMAIN = "pod.scope"


class RequestConfig(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Parameters of a model request; all six are always written. ``reasoning`` is an effort or a token budget."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    reasoning: str | int | None = None


class SegmentOrigin(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a segment comes from: the parent, and the last turn it inherits.

    With ``entries`` it is a reference: the parent's first ``entries`` lines, which end at ``byte_offset`` and whose
    last has the hash ``tail_sha256``, are part of this segment. Without, the history stands in this segment.
    """

    segment_id: str
    at_turn_index: int
    entries: int | None = None
    byte_offset: int | None = None
    tail_sha256: str | None = None


class UsageRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens of one model call; ``input_total_tokens`` is the whole prompt of ``history_len`` items."""

    history_len: int
    input_total_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    model: str | None = None
    source: str | None = None
    reasoning_tokens: int | None = None
    latency_ms: int | None = None
    node_id: str | None = None


class PodScope(msgspec.Struct, frozen=True, gc=False):
    """What a pod may touch, as the runtime recorded it last."""

    allow: tuple[ScopeRule, ...] = ()
    deny: tuple[ScopeRule, ...] = ()


class SessionExtension(msgspec.Struct, frozen=True):
    """An extension that travels inside a ``user_input`` line."""

    domain: str
    payload: JsonValue


# ── the entries ────────────────────────────────────────────────────────────────────────────────────────────────────


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", gc=False):
    """What every entry has. Not an entry itself; see :data:`LogEntry`."""

    ts: int
    idem: str | None = None


class CarriedKey(msgspec.Struct, frozen=True, gc=False):
    """An idempotency key that was used, and the hash of what was recorded under it."""

    key: str
    content: str


class Carried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a segment that stands alone knows of the log before it, beside its ``history``.

    ``usage_before_compaction`` counts the leading records of ``usage`` that measured a history since compacted away,
    ``extensions_before_compaction`` the leading ``extensions`` that were recorded before it.
    ``unknown`` holds the entries of unknown kinds that a copy took along, each as the JSON of its line.
    ``idem`` holds the newest idempotency keys that were used.
    """

    interrupted: bool = False
    usage: tuple[UsageRecord, ...] = ()
    usage_before_compaction: int = 0
    user_segments: tuple[tuple[InputSegment, ...], ...] = ()
    extensions: tuple[SessionExtension, ...] = ()
    extensions_before_compaction: int = 0
    unknown: tuple[msgspec.Raw, ...] = ()
    idem: tuple[CarriedKey, ...] = ()


def _none() -> None:
    return None


class SegmentStart(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=True, tag="segment_start"):
    """The first line of a segment: its settings, where it comes from, and the history it starts with.

    ``detached`` is the line that stood here before the segment was made to stand alone, as text.
    """

    session_id: str
    # default_factory, because omit_defaults leaves out plain defaults and the reference wants these three in any case
    system_prompt: str | None = msgspec.field(default_factory=_none)
    config: RequestConfig
    history: tuple[Item, ...]
    forked_from: SegmentOrigin | None = None
    compacted_from: SegmentOrigin | None = None
    turn_count: int = 0
    carried: Carried | None = None
    detached: str | None = None
    v: int | None = None


class Invoke(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="invoke"):
    """Idle became active. ``trigger``: user_send, notify, pod_event (worker_event), system_reminder, wakeup."""

    trigger: str


class UserInput(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="user_input"):
    """What the user sent, in its typed form; the history gets its text."""

    segments: tuple[InputSegment, ...]
    extensions: tuple[SessionExtension, ...] = ()


class AssistantItem(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="assistant_item"):
    """One item from the model: message, tool call or reasoning."""

    item: Item


class ToolResultEntry(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="tool_result"):
    """One result of a tool call."""

    item: ResultItem


class SystemItemEntry(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="system_item"):
    """One item the runtime put into the history."""

    item: SystemItem


class TurnEnd(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="turn_end"):
    """A turn ended; ``turn_count`` includes it. ``chain`` is the integrity chain, when it is on."""

    turn_count: int
    chain: str | None = None


class RunCompleted(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="run_completed"):
    """A run returned. ``result``: finished, paused, limit_reached, yielded."""

    interrupted: bool
    result: str


class RunErrored(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="run_errored"):
    """A run failed with ``message``."""

    interrupted: bool
    message: str


class PausedTurnAbandoned(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="paused_turn_abandoned"):
    """A paused turn will not be resumed."""


class ConfigChanged(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="config_changed"):
    """The request parameters from here on."""

    config: RequestConfig


class LlmUsage(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="llm_usage"):
    """Tokens of one model call; the fields of :class:`UsageRecord`."""

    history_len: int
    input_total_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    model: str | None = None
    source: str | None = None
    reasoning_tokens: int | None = None
    latency_ms: int | None = None
    node_id: str | None = None


class Extension(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=True, tag="extension"):
    """Anything else: a ``domain`` and an opaque JSON ``payload``."""

    domain: str
    payload: JsonValue


class UnknownEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of a kind this version does not know, kept as the bytes of its line; the fold counts and skips it."""

    kind: str
    raw: bytes


KnownEntry: TypeAlias = (
    SegmentStart
    | Invoke
    | UserInput
    | AssistantItem
    | ToolResultEntry
    | SystemItemEntry
    | TurnEnd
    | RunCompleted
    | RunErrored
    | PausedTurnAbandoned
    | ConfigChanged
    | LlmUsage
    | Extension
)
LogEntry: TypeAlias = KnownEntry | UnknownEntry
"""One entry of a segment, of any kind."""


def classify_history_item(item: Item, ts: int) -> AssistantItem | ToolResultEntry:
    """Return the entry that records ``item``: a ``tool_result`` for a result, else an ``assistant_item``."""
    if isinstance(item, ToolResult):
        return ToolResultEntry(ts=ts, item=item)
    return AssistantItem(ts=ts, item=item)
