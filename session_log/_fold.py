"""The fold: entries into state. Pure.

One growing set of lists inside one :class:`Fold`, frozen when asked: replacing a frozen state for each entry would be
quadratic.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from session_log._blob_ref import BlobSpan
from session_log._check import MAX_INTEGER, scrub
from session_log._entries import (
    POD_SCOPE_DOMAIN,
    ROLLBACK_DOMAIN,
    AssistantItem,
    ConfigChanged,
    Extension,
    Invoke,
    LlmUsage,
    LogEntry,
    PausedTurnAbandoned,
    PodScope,
    RequestConfig,
    RunCompleted,
    RunErrored,
    SegmentOrigin,
    SegmentStart,
    SystemItemEntry,
    ToolResultEntry,
    TurnEnd,
    UnknownEntry,
    UsageRecord,
    UserInput,
)
from session_log._errors import InvalidEntry
from session_log._inputs import (
    InputSegment,
    input_text,
)
from session_log._items import Item, Message, Text, ToolCall, ToolResult, Unknown
from session_log._payload import from_raw, own
from session_log._rollback import RolledBack, effective_order
from session_log._state import Damage, ExtensionRecord, Head, RestoredState
from session_log._system_items import (
    FileAttachment,
    Workflow,
)


class Fold:
    """A state in the making. Feed it the entries of a root segment and of each child in order."""

    __slots__ = (
        "session_id", "system_prompt", "config", "history", "turn_count", "interrupted", "usage", "stale_usage",
        "extensions", "stale_extensions", "pod_scope", "user_segments", "open_calls", "unknown", "_inherits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.session_id: str | None = None
        self._inherits = False
        self._reset(None)

    def _reset(self, start: SegmentStart | None) -> None:
        carried = start.carried if start is not None else None
        self.system_prompt = start.system_prompt if start is not None else None
        self.config = start.config if start is not None else RequestConfig()
        self.history: list[Item] = []
        self.turn_count = turns_before(start) if start is not None else 0
        self.interrupted = carried.interrupted if carried is not None else False
        self.usage: list[UsageRecord] = (
            [within_64_bits(usage) for usage in carried.usage] if carried is not None else []
        )
        self.stale_usage = carried.usage_before_compaction if carried is not None else 0
        self.extensions: list[ExtensionRecord] = []
        self.stale_extensions = carried.extensions_before_compaction if carried is not None else 0
        self.pod_scope: PodScope | None = None
        self.user_segments: list[tuple[InputSegment, ...]] = list(carried.user_segments) if carried is not None else []
        self.open_calls: list[ToolCall] = []
        self.unknown = len(carried.unknown) if carried is not None else 0
        for item in start.history if start is not None else ():
            self._item(item)
        for extension in carried.extensions if carried is not None else ():
            self._extension(extension.domain, extension.payload)

    def extend(self, entries: Iterable[LogEntry | None]) -> None:
        """Fold entries in order; ``None`` is a line without one.

        Raises:
            InvalidEntry: a pod scope that is none. Those before it are folded, it is not.
            RolledBack: a rollback; this fold is of no use any more.
        """
        handlers = _HANDLERS
        history, calls, usage = self.history, self.open_calls, self.usage
        entry: Any  # its type is what the table and the tests below go by
        for entry in entries:
            kind = type(entry)
            if kind is AssistantItem or kind is ToolResultEntry:  # the most frequent kinds without a call
                item = entry.item
                history.append(item)
                if type(item) is ToolCall:
                    calls.append(item)
                elif type(item) is ToolResult:
                    if calls and calls[-1].call_id == item.call_id:
                        del calls[-1]
                    else:
                        self._answer(item.call_id)
            elif kind is LlmUsage:
                usage.append(usage_record(entry))
            elif kind is Invoke:
                self.interrupted = True
            elif kind is RunCompleted:
                self.interrupted = entry.interrupted
            elif kind is TurnEnd:
                self.turn_count = checked_turns(entry.turn_count)
            else:
                handlers[kind](self, entry)
                if kind is SegmentStart:
                    history, calls, usage = self.history, self.open_calls, self.usage

    def freeze(
        self, head: Head | None, *, entries_count: int, damage: Sequence[Damage] = (), torn_bytes: int = 0
    ) -> RestoredState:
        """Return the state so far; it shares nothing that can change with this fold."""
        return RestoredState(
            session_id=self.session_id,
            system_prompt=self.system_prompt,
            config=self.config,
            history=tuple(self.history),
            turn_count=self.turn_count,
            last_run_interrupted=self.interrupted,
            entries_count=entries_count,
            usage_history=tuple(self.usage),
            usage_before_compaction=self.stale_usage,
            extensions=tuple([ExtensionRecord(domain, own(payload)) for domain, payload in self.extensions]),
            extensions_before_compaction=self.stale_extensions,
            pod_scope=self.pod_scope,
            user_segments=tuple(self.user_segments),
            pending_tool_calls=tuple(self.open_calls),
            damage=tuple(damage),
            torn_bytes=torn_bytes,
            unknown_entries=self.unknown,
            head=head,
        )

    # ── one handler a kind ─────────────────────────────────────────────────────────────────────────────────────────

    def _item(self, item: Item) -> None:
        self.history.append(item)
        if type(item) is ToolCall:
            self.open_calls.append(item)
        elif type(item) is ToolResult:
            self._answer(item.call_id)

    def _answer(self, call_id: str) -> None:
        """Close the latest open call of this id: ids are reused, and a call may have been abandoned."""
        calls = self.open_calls
        for at in range(len(calls) - 1, -1, -1):
            if calls[at].call_id == call_id:
                del calls[at]
                return

    def _segment_start(self, entry: SegmentStart) -> None:
        origin = entry.forked_from
        inherits = origin is not None and origin.entries is not None and self.session_id is not None
        self.session_id = entry.session_id
        if inherits:
            self.system_prompt = entry.system_prompt
            self.config = entry.config
        else:
            self._reset(entry)

    def _user_input(self, entry: UserInput) -> None:
        segments = entry.segments
        for extension in entry.extensions:  # first of all, for it may refuse
            self._extension(extension.domain, extension.payload)
        self.history.append(Message("user", (input_text(segments),)))
        self.user_segments.append(segments)

    def _system_item(self, entry: SystemItemEntry) -> None:
        self.history.append(Message("system", (system_part(entry),)))

    def _run_errored(self, entry: RunErrored) -> None:
        self.interrupted = entry.interrupted

    def _abandoned(self, entry: PausedTurnAbandoned) -> None:
        self.interrupted = False

    def _config_changed(self, entry: ConfigChanged) -> None:
        self.config = entry.config

    def _extension_entry(self, entry: Extension) -> None:
        if entry.domain == ROLLBACK_DOMAIN:
            raise RolledBack
        self._extension(entry.domain, entry.payload)

    def _extension(self, domain: str, payload: Any) -> None:
        if domain == POD_SCOPE_DOMAIN:
            self.pod_scope = pod_scope_of(payload)
        self.extensions.append(ExtensionRecord(domain, payload))

    def _unknown(self, entry: UnknownEntry) -> None:
        self.unknown += 1

    def _nothing(self, entry: None) -> None:
        """Pass over a blank or damaged line: it has its place, and no meaning."""


_HANDLERS: Final[dict[type[Any], Callable[[Fold, Any], None]]] = {
    SegmentStart: Fold._segment_start,
    UserInput: Fold._user_input,
    SystemItemEntry: Fold._system_item,
    RunErrored: Fold._run_errored,
    PausedTurnAbandoned: Fold._abandoned,
    ConfigChanged: Fold._config_changed,
    Extension: Fold._extension_entry,
    UnknownEntry: Fold._unknown,
    type(None): Fold._nothing,
}


class Start(Protocol):
    """As much of a first line as says how many turns are before it."""

    @property
    def forked_from(self) -> SegmentOrigin | None:
        """The parent of a fork."""

    @property
    def compacted_from(self) -> SegmentOrigin | None:
        """The source of a compaction."""

    @property
    def turn_count(self) -> int:
        """The turns before it, where it says so itself."""


def turns_before(start: Start) -> int:
    """Return the turns before a segment that does not inherit them; the reference keeps them in the origin (F34)."""
    origin = start.forked_from or start.compacted_from
    return checked_turns(start.turn_count or (origin.at_turn_index if origin is not None else 0))


def checked_turns(turns: int) -> int:
    """Return ``turns`` as given.

    Raises:
        InvalidEntry: it is no number of turns.
    """
    if turns >> 63:  # negative, or more than a signed 64-bit reader holds
        raise InvalidEntry("$.turn_count", f"{turns} is no number of turns")
    return turns


def usage_record(entry: LlmUsage) -> UsageRecord:
    """Return the tokens of an ``llm_usage`` entry."""
    usage = UsageRecord(
        entry.history_len,
        entry.input_total_tokens,
        entry.cache_read_tokens,
        entry.cache_write_tokens,
        entry.output_tokens,
        entry.model,
        entry.source,
        entry.reasoning_tokens,
        entry.latency_ms,
        entry.node_id,
    )
    return within_64_bits(usage)


def within_64_bits(usage: UsageRecord) -> UsageRecord:
    """Return a record that can be written again: negative counts and those beyond 64 bits become the next that fits."""
    counts = usage.history_len | usage.input_total_tokens | usage.cache_read_tokens | usage.cache_write_tokens
    counts |= usage.output_tokens | (usage.reasoning_tokens or 0) | (usage.latency_ms or 0)
    if not counts >> 63:
        return usage
    numbers = {name: value for name, value in msgspec.structs.asdict(usage).items() if type(value) is int}
    return msgspec.structs.replace(usage, **{name: min(max(n, 0), MAX_INTEGER) for name, n in numbers.items()})


def system_text(entry: SystemItemEntry) -> str:
    """Return what the model sees of a system item: its body; of one without a body, its name."""
    item = entry.item
    if isinstance(item, Unknown):
        body = from_raw(item.raw).get("body")
        return scrub(body) if isinstance(body, str) else f"[{item.kind}]"
    if isinstance(item, Workflow):
        return item.body if item.body is not None else f"/{item.slug}"
    return item.body


def system_part(entry: SystemItemEntry) -> Text:
    """Return the text of :func:`system_text`, and whether it is in a blob."""
    text, item = system_text(entry), entry.item
    if type(item) is FileAttachment and item.body_blob is not None:
        return Text(text, (BlobSpan(0, len(text), item.body_blob),))
    return Text(text)


def pod_scope_of(payload: Any) -> PodScope:
    """Return the typed scope. A malformed one is an error, not an empty scope: what a pod may touch fails closed."""
    try:
        return msgspec.convert(payload, PodScope)
    except msgspec.ValidationError as exc:
        raise InvalidEntry("$.payload", f"is no pod scope ({exc})") from None
    except UnicodeEncodeError:  # msgspec, over a lone surrogate
        raise InvalidEntry("$.payload", "is no pod scope (it holds a lone surrogate)") from None


def collect_state(entries: Sequence[LogEntry]) -> RestoredState:
    """Fold the entries of one segment into a state; pure, so ancestors it refers to are not there.

    Raises:
        InvalidEntry: a pod scope or rollback that is not what it must be.
    """
    fold = Fold()
    order = effective_order(entries)
    fold.extend(entries if len(order) == len(entries) else [entries[at] for at in order])
    return fold.freeze(None, entries_count=len(entries))
