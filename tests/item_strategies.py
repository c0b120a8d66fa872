"""Hypothesis strategies for what entries are made of: texts, payloads, items, input, system items.

Import them from ``strategies``, with those of entries and histories.
"""

import json
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from session_log import (
    Attachment,
    Errored,
    FileAttachment,
    FileRef,
    FlowInvoke,
    InputSegment,
    Interrupt,
    Item,
    Knowledge,
    KnowledgeRef,
    LifecycleEvent,
    Message,
    Notification,
    PasteInput,
    PodEvent,
    PromptProvenance,
    Reasoning,
    Refusal,
    ScopeRule,
    ScopeSubDelegated,
    ShutDown,
    SkillActivation,
    SystemItem,
    TaskReminder,
    Text,
    TextInput,
    ToolCall,
    ToolResult,
    TurnEnded,
    Unknown,
    UnknownInput,
    WorkerEvent,
    Workflow,
    WorkflowInvoke,
)

T = TypeVar("T")
MAX_INTEGER = (1 << 63) - 1
AWKWARD_TEXTS = (
    "",
    "\u2028line\u2029separator\u0085next",
    "nul \0, escape \x1b[31m, delete \x7f",
    "\r\n",
    '","batch":3}',
    '{"kind":"turn_end"}',
    "東京 🙂 e\u0301",
    "\\ud83d",
    "\ufeff\ufffd\uffff\U0010ffff",
)

# ── texts, numbers, payloads ───────────────────────────────────────────────────────────────────────────────────────


@cache
def texts() -> SearchStrategy[str]:
    """Any text that UTF-8 can say, the awkward ones more often than chance would have them."""
    return st.text(max_size=12) | st.sampled_from(AWKWARD_TEXTS)


@cache
def times() -> SearchStrategy[int]:
    """A ``ts``: today's, and the ends of the range."""
    return st.integers(1_748_512_345_000, 1_748_512_346_000) | st.sampled_from([0, MAX_INTEGER])


@cache
def counts() -> SearchStrategy[int]:
    """A count that is not negative."""
    return st.integers(0, 10_000) | st.just(MAX_INTEGER)


@cache
def finite() -> SearchStrategy[float]:
    """A number that JSON can say."""
    return st.floats(allow_nan=False, allow_infinity=False)


def _nested(leaves: SearchStrategy[Any], keys: SearchStrategy[str]) -> SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
    )


@cache
def plain_payloads() -> SearchStrategy[Any]:
    """A JSON value that every JSON library can say: integers of 64 bits, no lone surrogates."""
    return _nested(st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | finite() | texts(), texts())


@cache
def payloads() -> SearchStrategy[Any]:
    """Any JSON value: integers of any size, and texts and keys with lone surrogates, too."""
    ragged = st.text(st.characters(), max_size=6) | st.sampled_from(["\ud83d", "a\udfffb", "\ude42\ud83d"])
    leaves = st.none() | st.booleans() | st.integers() | st.integers(1 << 63, 1 << 80) | finite() | texts() | ragged
    return plain_payloads() | _nested(leaves, texts() | ragged)


@cache
def later_kinds() -> SearchStrategy[str]:
    """A kind of any union that no version up to this one knows."""
    return st.sampled_from(["hologram", "später", "audio2", "x.y-z", ""])


def later_objects(kinds: SearchStrategy[str] | None = None) -> SearchStrategy[tuple[str, bytes]]:
    """The kind and the raw JSON of an object of a later kind, spelled as only that writer would (spaces, escapes)."""

    def spell(kind: str, fields: dict[str, Any], spaced: bool, escaped: bool) -> tuple[str, bytes]:
        separators = (", ", ": ") if spaced else (",", ":")
        raw = json.dumps({"kind": kind, **fields}, separators=separators, ensure_ascii=escaped)
        return kind, raw.encode()

    fields = st.dictionaries(st.sampled_from(["body", "v", "data", "größe"]), plain_payloads(), max_size=3)
    return st.builds(spell, kinds or later_kinds(), fields, st.booleans(), st.booleans())


@cache
def unknowns() -> SearchStrategy[Unknown]:
    """A tagged value of a later kind."""
    return later_objects().map(lambda pair: Unknown(*pair))


def maybe(strategy: SearchStrategy[T]) -> SearchStrategy[T | None]:
    """Nothing, or what ``strategy`` draws."""
    return st.none() | strategy


def tuples(strategy: SearchStrategy[T], max_size: int = 3) -> SearchStrategy[tuple[T, ...]]:
    """A tuple of a few of what ``strategy`` draws."""
    return st.lists(strategy, max_size=max_size).map(tuple)


# ── items ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def messages() -> SearchStrategy[Message]:
    """A message of any role, with parts of any kind."""
    parts = st.builds(Text, texts()) | st.builds(Refusal, texts()) | unknowns()
    roles = st.sampled_from(["user", "assistant", "system", "developer"])
    return st.builds(Message, roles, tuples(parts))


@cache
def tool_calls() -> SearchStrategy[ToolCall]:
    """A tool call; the ids are few, so they are reused."""
    return st.builds(
        ToolCall, st.sampled_from(["call_1", "call_2"]), texts(), st.sampled_from(["{}", '{"a":"東"}', ""])
    )


@cache
def tool_results() -> SearchStrategy[ToolResult]:
    """A result; often of a call that is there."""
    attachments = st.builds(Attachment, st.just("image/png"), st.just("UE5HIQ==")) | unknowns()
    ids = st.sampled_from(["call_1", "call_2", "call_3"])
    return st.builds(ToolResult, ids, texts(), maybe(texts()), st.booleans(), tuples(attachments, 2))


@cache
def reasonings() -> SearchStrategy[Reasoning]:
    """A block of reasoning."""
    return st.builds(Reasoning, texts(), tuples(texts(), 2), maybe(texts()), maybe(texts()))


@cache
def items() -> SearchStrategy[Item]:
    """An item of any kind, later ones too."""
    return st.one_of(messages(), tool_calls(), tool_results(), reasonings(), unknowns())


@cache
def input_segments() -> SearchStrategy[InputSegment]:
    """A piece of what a user typed."""
    return st.one_of(
        st.builds(TextInput, texts()),
        st.builds(PasteInput, id=counts(), chars=counts(), lines=counts(), content=texts()),
        st.builds(FileRef, texts()),
        st.builds(KnowledgeRef, texts()),
        st.builds(WorkflowInvoke, texts()),
        st.builds(FlowInvoke, texts()),
        st.builds(UnknownInput),
        unknowns(),
    )


@cache
def scope_rules() -> SearchStrategy[ScopeRule]:
    """A rule of a scope."""
    return st.builds(ScopeRule, texts(), st.sampled_from(["read", "write"]), st.booleans())


@cache
def lifecycle_events() -> SearchStrategy[LifecycleEvent]:
    """An event of a child, in either spelling."""
    names = st.fixed_dictionaries({}, optional={"pod_name": texts(), "worker_name": texts()})
    delegated: dict[str, SearchStrategy[Any]] = {"sub_socket": texts(), "scope": tuples(scope_rules(), 2)}
    parties: dict[str, SearchStrategy[Any]] = {
        name: texts() for name in ("parent_pod", "sub_pod", "parent_worker", "sub_worker")
    }
    return st.one_of(
        names.map(lambda found: TurnEnded(**found)),
        st.builds(lambda found, message: Errored(message=message, **found), names, texts()),
        names.map(lambda found: ShutDown(**found)),
        st.fixed_dictionaries(delegated, optional=parties).map(lambda found: ScopeSubDelegated(**found)),
        unknowns(),
    )


@cache
def system_items() -> SearchStrategy[SystemItem]:
    """What a runtime may put into the history."""
    provenance = st.builds(
        PromptProvenance,
        config_revision=maybe(counts()),
        source_digest=maybe(texts()),
        projection_digest=maybe(texts()),
        logical_name=maybe(texts()),
    )
    return st.one_of(
        st.builds(Notification, texts(), texts(), maybe(provenance)),
        st.builds(PodEvent, lifecycle_events(), texts()),
        st.builds(WorkerEvent, lifecycle_events(), texts()),
        st.builds(FileAttachment, texts(), texts()),
        st.builds(Knowledge, texts(), texts()),
        st.builds(Workflow, texts(), maybe(texts())),
        st.builds(TaskReminder, texts(), texts()),
        st.builds(Interrupt, texts()),
        st.builds(SkillActivation, texts(), texts()),
        unknowns(),
    )
