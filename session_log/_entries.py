"""Entries: what a line says. One class a kind, in the order of the reference format (yoi's ``LogEntry``).

Every entry is frozen and carries ``ts`` (integer milliseconds, UTC) and, if given, ``idem`` (idempotency key).
Fields are written in the order they are declared; those with a default are omitted while they hold it, but for
``system_prompt``, ``config`` and ``history``, which the reference always writes.
"""

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from session_log._items import Item, JsonValue, Tagged, ToolResult, Unknown

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


class ScopeRule(msgspec.Struct, frozen=True, gc=False):
    """One rule of a scope: ``permission`` (``read``, ``write``) on ``target`` and, if ``recursive``, below it."""

    target: str
    permission: str
    recursive: bool


class PodScope(msgspec.Struct, frozen=True, gc=False):
    """What a pod may touch, as the runtime recorded it last."""

    allow: tuple[ScopeRule, ...] = ()
    deny: tuple[ScopeRule, ...] = ()


# ── what a user typed ──────────────────────────────────────────────────────────────────────────────────────────────


class TextInput(Tagged, frozen=True, gc=False, tag="text"):
    """Typed text."""

    content: str


class PasteInput(Tagged, frozen=True, gc=False, tag="paste"):
    """Pasted text, shown as a chip: the ``id``-th paste, with its size in characters and lines."""

    id: int
    chars: int
    lines: int
    content: str


class FileRef(Tagged, frozen=True, gc=False, tag="file_ref"):
    """``@path``."""

    path: str


class KnowledgeRef(Tagged, frozen=True, gc=False, tag="knowledge_ref"):
    """``#slug``."""

    slug: str


class WorkflowInvoke(Tagged, frozen=True, gc=False, tag="workflow_invoke"):
    """``/slug``."""

    slug: str


class FlowInvoke(Tagged, frozen=True, gc=False, tag="flow"):
    """``/selector``, the later spelling of a workflow."""

    selector: str


class UnknownInput(Tagged, frozen=True, gc=False, tag="unknown"):
    """What the reference writes for an input it did not know itself."""


if TYPE_CHECKING:
    InputSegment: TypeAlias = (
        TextInput | PasteInput | FileRef | KnowledgeRef | WorkflowInvoke | FlowInvoke | UnknownInput | Unknown
    )
else:  # see _items: the unknown variant is for the type checker
    InputSegment = TextInput | PasteInput | FileRef | KnowledgeRef | WorkflowInvoke | FlowInvoke | UnknownInput


class SessionExtension(msgspec.Struct, frozen=True):
    """An extension that travels inside a ``user_input`` line."""

    domain: str
    payload: JsonValue


# ── what the runtime put in ────────────────────────────────────────────────────────────────────────────────────────


class TurnEnded(Tagged, frozen=True, gc=False, omit_defaults=True, tag="turn_ended"):
    """A child pod (later spelling: worker) ended its turn."""

    pod_name: str | None = None
    worker_name: str | None = None


class Errored(Tagged, frozen=True, gc=False, omit_defaults=True, tag="errored", kw_only=True):
    """A child pod failed."""

    pod_name: str | None = None
    worker_name: str | None = None
    message: str


class ShutDown(Tagged, frozen=True, gc=False, omit_defaults=True, tag="shut_down"):
    """A child pod shut down."""

    pod_name: str | None = None
    worker_name: str | None = None


class ScopeSubDelegated(Tagged, frozen=True, gc=False, omit_defaults=True, tag="scope_sub_delegated", kw_only=True):
    """A child pod handed part of its scope on."""

    parent_pod: str | None = None
    sub_pod: str | None = None
    parent_worker: str | None = None
    sub_worker: str | None = None
    sub_socket: str
    scope: tuple[ScopeRule, ...]


if TYPE_CHECKING:
    LifecycleEvent: TypeAlias = TurnEnded | Errored | ShutDown | ScopeSubDelegated | Unknown
else:
    LifecycleEvent = TurnEnded | Errored | ShutDown | ScopeSubDelegated


class PromptProvenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Which prompt template wrapped a notification."""

    config_revision: int | None = None
    source_digest: str | None = None
    projection_digest: str | None = None
    logical_name: str | None = None


class Notification(Tagged, frozen=True, gc=False, omit_defaults=True, tag="notification"):
    """A message from outside, and the ``body`` the model sees."""

    message: str
    body: str
    prompt_provenance: PromptProvenance | None = None


class PodEvent(Tagged, frozen=True, gc=False, tag="pod_event"):
    """Something happened to a child pod."""

    event: LifecycleEvent
    body: str


class WorkerEvent(Tagged, frozen=True, gc=False, tag="worker_event"):
    """The later spelling of :class:`PodEvent`."""

    event: LifecycleEvent
    body: str


class FileAttachment(Tagged, frozen=True, gc=False, tag="file_attachment"):
    """The content of a file the user referred to."""

    path: str
    body: str


class Knowledge(Tagged, frozen=True, gc=False, tag="knowledge"):
    """A knowledge page the user referred to."""

    slug: str
    body: str


class Workflow(Tagged, frozen=True, gc=False, omit_defaults=True, tag="workflow"):
    """A workflow the user started; later writers leave ``body`` out."""

    slug: str
    body: str | None = None


class TaskReminder(Tagged, frozen=True, gc=False, tag="task_reminder"):
    """A reminder the runtime injected."""

    source: str
    body: str


class Interrupt(Tagged, frozen=True, gc=False, tag="interrupt"):
    """The user interrupted the run."""

    body: str


class SkillActivation(Tagged, frozen=True, gc=False, tag="skill_activation"):
    """A skill was loaded."""

    name: str
    body: str


if TYPE_CHECKING:
    SystemItem: TypeAlias = (
        Notification
        | PodEvent
        | WorkerEvent
        | FileAttachment
        | Knowledge
        | Workflow
        | TaskReminder
        | Interrupt
        | SkillActivation
        | Unknown
    )
    ResultItem: TypeAlias = ToolResult | Unknown
else:
    SystemItem = (
        Notification
        | PodEvent
        | WorkerEvent
        | FileAttachment
        | Knowledge
        | Workflow
        | TaskReminder
        | Interrupt
        | SkillActivation
    )
    ResultItem = ToolResult


# ── the entries ────────────────────────────────────────────────────────────────────────────────────────────────────


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", gc=False):
    """What every entry has. Not an entry itself; see :data:`LogEntry`."""

    ts: int
    idem: str | None = None


class Carried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a segment that stands alone knows of the log before it, beside its ``history``.

    ``usage_before_compaction`` counts the leading records of ``usage`` that measured a history since compacted away.
    """

    interrupted: bool = False
    usage: tuple[UsageRecord, ...] = ()
    usage_before_compaction: int = 0
    user_segments: tuple[tuple[InputSegment, ...], ...] = ()
    extensions: tuple[SessionExtension, ...] = ()


def _none() -> None:
    return None


class SegmentStart(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=True, tag="segment_start"):
    """The first line of a segment: its settings, where it comes from, and the history it starts with."""

    session_id: str
    # default_factory, because omit_defaults leaves out plain defaults and the reference wants these three in any case
    system_prompt: str | None = msgspec.field(default_factory=_none)
    config: RequestConfig
    history: tuple[Item, ...]
    forked_from: SegmentOrigin | None = None
    compacted_from: SegmentOrigin | None = None
    turn_count: int = 0
    carried: Carried | None = None
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


def classify_history_item(item: Item, ts: int) -> AssistantItem | ToolResultEntry:
    """Return the entry that records ``item``: a ``tool_result`` for a result, else an ``assistant_item``."""
    if isinstance(item, ToolResult):
        return ToolResultEntry(ts=ts, item=item)
    return AssistantItem(ts=ts, item=item)


def flatten_input(segments: tuple[InputSegment, ...]) -> str:
    """Return the text the model receives for what the user typed (references in their sigil form, as the reference)."""
    if len(segments) == 1 and type(segments[0]) is TextInput:
        return segments[0].content
    texts = []
    for segment in segments:
        match segment:
            case TextInput(content=text) | PasteInput(content=text):
                texts.append(text)
            case FileRef(path=path):
                texts.append(f"@{path}")
            case KnowledgeRef(slug=slug):
                texts.append(f"#{slug}")
            case WorkflowInvoke(slug=slug):
                texts.append(f"/{slug}")
            case FlowInvoke(selector=selector):
                texts.append(f"/{selector}")
            case _:
                texts.append("[unknown input segment]")
    return "".join(texts)
