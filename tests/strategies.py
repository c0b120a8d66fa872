"""Hypothesis strategies: texts, payloads, items, entries, and whole plausible histories.

Import them as ``from strategies import entries``: this folder is on the path (of pytest and of mypy), it is no package.
Each returns a strategy. What they draw is sound: it encodes, and reads back as the same entry.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from item_strategies import (
    counts,
    finite,
    input_segments,
    items,
    later_objects,
    maybe,
    messages,
    payloads,
    plain_payloads,
    reasonings,
    system_items,
    texts,
    times,
    tool_calls,
    tool_results,
    tuples,
    unknowns,
)
from session_log import (
    AssistantItem,
    Carried,
    ConfigChanged,
    Extension,
    Invoke,
    LlmUsage,
    LogEntry,
    Message,
    PausedTurnAbandoned,
    RequestConfig,
    RunCompleted,
    RunErrored,
    SegmentOrigin,
    SegmentStart,
    SessionExtension,
    SystemItemEntry,
    ToolResult,
    ToolResultEntry,
    TraceEntry,
    TurnEnd,
    UnknownEntry,
    UsageRecord,
    UserInput,
)

__all__ = [
    "SEGMENT_ID",
    "SESSION_ID",
    "appendable_entries",
    "carried",
    "configs",
    "counts",
    "domains",
    "entries",
    "extensions",
    "histories",
    "input_segments",
    "items",
    "later_objects",
    "messages",
    "origins",
    "payloads",
    "plain_payloads",
    "pod_scopes",
    "reasonings",
    "segment_starts",
    "system_items",
    "texts",
    "times",
    "tool_calls",
    "tool_results",
    "trace_entries",
    "tuples",
    "unknown_entries",
    "usage_fields",
]

SESSION_ID = "01971f3a-7c00-7abc-8def-0123456789ab"
"""The session of every drawn history: a store must be given it as the session's id."""
SEGMENT_ID = "01971f3a-7c11-7abc-8def-0123456789ac"


# ── entries ────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def configs() -> SearchStrategy[RequestConfig]:
    """Request parameters."""
    return st.builds(
        RequestConfig,
        max_tokens=maybe(counts()),
        temperature=maybe(finite()),
        top_p=maybe(finite()),
        top_k=maybe(counts()),
        stop_sequences=tuples(texts(), 2),
        reasoning=st.none() | texts() | st.integers(-1, 100_000),
    )


@cache
def usage_fields() -> SearchStrategy[dict[str, Any]]:
    """The fields of a usage record."""
    tokens = ("history_len", "input_total_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    return st.fixed_dictionaries(
        {name: counts() for name in tokens},
        optional={
            "model": texts(),
            "source": texts(),
            "reasoning_tokens": counts(),
            "latency_ms": counts(),
            "node_id": texts(),
        },
    )


@cache
def domains() -> SearchStrategy[str]:
    """A domain that is nobody's own, so that any payload fits."""
    return st.sampled_from(["memory.extract", "flow.runtime.v1", "später"])


@cache
def _extensions() -> SearchStrategy[tuple[SessionExtension, ...]]:
    return tuples(st.builds(SessionExtension, domains(), payloads()), 2)


@cache
def carried() -> SearchStrategy[Carried]:
    """What a segment that stands alone knows of the log before it."""
    return st.builds(
        Carried,
        interrupted=st.booleans(),
        usage=tuples(usage_fields().map(lambda found: UsageRecord(**found)), 2),
        usage_before_compaction=counts(),
        user_segments=tuples(tuples(input_segments(), 2), 2),
        extensions=_extensions(),
        extensions_before_compaction=counts(),
        unknown=tuples(unknown_entries().map(lambda entry: msgspec.Raw(entry.raw.strip())), 2),
    )


def origins(*, references: bool = True) -> SearchStrategy[SegmentOrigin]:
    """Where a segment comes from, by reference or not."""
    alone = st.builds(SegmentOrigin, st.just(SEGMENT_ID), counts())
    by_reference = st.builds(SegmentOrigin, st.just(SEGMENT_ID), counts(), counts(), counts(), st.just("ab" * 32))
    return alone | by_reference if references else alone


def segment_starts(*, references: bool = True) -> SearchStrategy[SegmentStart]:
    """A first line; without ``references``, one that stands alone."""
    return st.builds(
        SegmentStart,
        ts=times(),
        idem=maybe(texts()),
        session_id=st.just(SESSION_ID),
        system_prompt=maybe(texts()),
        config=configs(),
        history=tuples(items()),
        forked_from=maybe(origins(references=references)),
        compacted_from=maybe(origins(references=False)),
        turn_count=counts(),
        carried=maybe(carried()),
        detached=maybe(texts()),
        v=maybe(st.just(1)),
    )


@cache
def pod_scopes() -> SearchStrategy[dict[str, Any]]:
    """The payload of a pod scope."""
    rule = st.fixed_dictionaries(
        {"target": texts(), "permission": st.sampled_from(["read", "write"]), "recursive": st.booleans()}
    )
    return st.fixed_dictionaries({"allow": st.lists(rule, max_size=2), "deny": st.lists(rule, max_size=2)})


@cache
def extensions() -> SearchStrategy[Extension]:
    """An extension of any domain but the library's own."""
    keys = st.tuples(domains(), payloads()) | st.tuples(st.just("pod.scope"), pod_scopes())
    return st.builds(lambda ts, idem, pair: Extension(ts=ts, idem=idem, domain=pair[0], payload=pair[1]),
                     times(), maybe(texts()), keys)  # fmt: skip


@cache
def unknown_entries() -> SearchStrategy[UnknownEntry]:
    """An entry of a later kind."""
    return later_objects().map(lambda pair: UnknownEntry(kind=pair[0], raw=pair[1]))


@cache
def appendable_entries() -> SearchStrategy[LogEntry]:
    """An entry that may be appended as it is: anything but a first line and a rollback."""
    head: dict[str, SearchStrategy[Any]] = {"ts": times(), "idem": maybe(texts())}
    triggers = st.sampled_from(["user_send", "notify", "pod_event", "worker_event", "system_reminder", "wakeup", "x"])
    results = st.sampled_from(["finished", "paused", "limit_reached", "yielded", "later"])
    return st.one_of(
        st.builds(Invoke, **head, trigger=triggers),
        st.builds(UserInput, **head, segments=tuples(input_segments()), extensions=_extensions()),
        st.builds(AssistantItem, **head, item=items()),
        st.builds(ToolResultEntry, **head, item=tool_results() | unknowns()),
        st.builds(SystemItemEntry, **head, item=system_items()),
        st.builds(TurnEnd, **head, turn_count=counts(), chain=maybe(texts())),
        st.builds(RunCompleted, **head, interrupted=st.booleans(), result=results),
        st.builds(RunErrored, **head, interrupted=st.booleans(), message=texts()),
        st.builds(PausedTurnAbandoned, **head),
        st.builds(ConfigChanged, **head, config=configs()),
        st.builds(lambda ts, found: LlmUsage(ts=ts, **found), times(), usage_fields()),
        extensions(),
        unknown_entries(),
    )


@cache
def entries() -> SearchStrategy[LogEntry]:
    """An entry of any kind, first lines and later kinds too."""
    return appendable_entries() | segment_starts()


@cache
def trace_entries() -> SearchStrategy[TraceEntry]:
    """A line of a trace."""
    return st.builds(
        TraceEntry.stream_event, ts=times(), turn=counts(), llm_call=counts(), event=payloads()
    ) | st.builds(
        TraceEntry.lifecycle, ts=times(), turn=counts(), label=texts(), llm_call=maybe(counts()), data=payloads()
    )


# ── histories ──────────────────────────────────────────────────────────────────────────────────────────────────────

Add = Callable[[Callable[[int], LogEntry]], None]


@st.composite
def histories(draw: DrawFn, *, max_turns: int = 4, tails: bool = True) -> list[LogEntry]:
    """The entries of one segment as a runtime writes them, of session :data:`SESSION_ID`, first line first.

    Each turn: invoke, input, model calls with their results, turn_end, usage, run_completed or run_errored. In between,
    config changes, extensions, system items and entries of later kinds. With ``tails``, the last turn may break off
    anywhere, a call without its result included.
    """
    found: list[LogEntry] = []
    clock = 1_748_512_345_678

    def add(make: Callable[[int], LogEntry]) -> None:
        nonlocal clock
        clock += draw(st.integers(0, 3))
        found.append(make(clock))

    config, prompt = draw(configs()), draw(maybe(texts()))
    seed = draw(tuples(messages(), 2))
    add(lambda ts: SegmentStart(ts=ts, session_id=SESSION_ID, system_prompt=prompt, config=config, history=seed, v=1))
    for turn in range(1, draw(st.integers(0, max_turns)) + 1):
        before = len(found)
        _between_turns(draw, add)
        _turn(draw, add, turn)
    if tails and len(found) > 1 and draw(st.booleans()):
        del found[draw(st.integers(before + 1, len(found))) :]
    return found


def _between_turns(draw: DrawFn, add: Add) -> None:
    for kind in draw(st.lists(st.sampled_from(["config", "extension", "system", "later"]), max_size=2)):
        if kind == "config":
            config = draw(configs())
            add(lambda ts, config=config: ConfigChanged(ts=ts, config=config))  # type: ignore[misc]
        elif kind == "extension":
            extension = draw(extensions())
            add(lambda ts, e=extension: Extension(ts=ts, domain=e.domain, payload=e.payload))  # type: ignore[misc]
        elif kind == "system":
            item = draw(system_items())
            add(lambda ts, item=item: SystemItemEntry(ts=ts, item=item))  # type: ignore[misc]
        else:
            later = draw(unknown_entries())
            add(lambda _ts, later=later: later)  # type: ignore[misc]


def _turn(draw: DrawFn, add: Add, turn: int) -> None:
    add(lambda ts: Invoke(ts=ts, trigger="user_send"))
    segments = draw(tuples(input_segments(), 2))
    add(lambda ts: UserInput(ts=ts, segments=segments))
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            reasoning = draw(reasonings())
            add(lambda ts, item=reasoning: AssistantItem(ts=ts, item=item))  # type: ignore[misc]
        calls = draw(st.lists(tool_calls(), max_size=2))
        for call in calls:
            add(lambda ts, item=call: AssistantItem(ts=ts, item=item))  # type: ignore[misc]
        for call in draw(st.permutations(calls)):
            summary, is_error = draw(texts()), draw(st.booleans())
            result = ToolResult(call.call_id, summary, is_error=is_error)
            add(lambda ts, item=result: ToolResultEntry(ts=ts, item=item))  # type: ignore[misc]
    answer = draw(texts())
    add(lambda ts: AssistantItem(ts=ts, item=Message.assistant(answer)))
    add(lambda ts: TurnEnd(ts=ts, turn_count=turn))
    for usage in draw(st.lists(usage_fields(), max_size=2)):
        add(lambda ts, usage=usage: LlmUsage(ts=ts, **usage))  # type: ignore[misc]
    interrupted, failed = draw(st.booleans()), draw(st.booleans())
    if failed:
        add(lambda ts: RunErrored(ts=ts, interrupted=interrupted, message="provider 500"))
    else:
        add(lambda ts: RunCompleted(ts=ts, interrupted=interrupted, result="finished"))
