"""Recording: one verb for each thing a turn is made of, over any store, with the ids in hand.

A worker that records many entries uses :class:`session_log.SegmentWriter`, which knows its position; these functions
find it out each time. Time stamps are taken here, and never go back within a segment.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from session_log import _entries as e
from session_log._clock import now_ms
from session_log._codec import clock_time, decode_line, prepare
from session_log._entries import LogEntry, SegmentStart
from session_log._errors import AppendUnknown, HeadMoved, InvalidEntry, SegmentBusy, SessionLogError
from session_log._fold import pod_scope_of
from session_log._ids import parse_id
from session_log._inputs import InputSegment, TextInput
from session_log._items import Item, Message
from session_log._keyed import record_keyed
from session_log._reader import head_at, where
from session_log._state import Head
from session_log._store import Store
from session_log._system_items import SystemItem
from session_log._trace import TraceEntry, decode_trace, encode_trace

_RETRIES = 1_000
"""How often an append without a known position is tried again while others append; each round, somebody succeeded."""


def append_entry(store: Store, session_id: str, segment_id: str, entry: LogEntry) -> int:
    """Append one entry as it is (its ``ts``, too) and return the new length in entries."""
    return store.append(session_id, segment_id, [prepare(recordable(entry))[0]])


def append_entries(
    store: Store,
    session_id: str,
    segment_id: str,
    entries: Sequence[LogEntry],
    *,
    expected: int | None = None,
    token: str | None = None,
    idem: str | None = None,
) -> Head:
    """Append entries in one write, all or nothing, and return the head behind them.

    ``idem`` makes a retry safe: the same key and content again writes nothing and returns the head behind the first
    append, whatever was ``expected``; if that was inherited, or carried over a compaction, behind the first line. Each
    call reads the segment, and what it inherits, for the key; a :class:`SegmentWriter` remembers.

    Raises:
        HeadMoved: the segment is not at ``expected`` entries.
        IdempotencyConflict: the key was used for other content.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if idem is not None:
        kept = [recordable(entry) for entry in entries]
        length = record_keyed(store, session_id, segment_id, lambda _: kept, idem, expected=expected, token=token)
        return _head_behind(store, session_id, segment_id, length)
    lines = [prepare(recordable(entry))[0] for entry in entries]
    placed = getattr(store, "append_placed", None)  # a store of files knows the byte, too
    if placed is not None and token is None:
        return Head(session_id, segment_id, *placed(session_id, segment_id, lines, expected))
    return _head_behind(
        store, session_id, segment_id, store.append(session_id, segment_id, lines, expected=expected, token=token)
    )


def _head_behind(store: Store, session_id: str, segment_id: str, length: int) -> Head:
    try:
        return head_at(store, session_id, segment_id, length)
    except SessionLogError as exc:
        place = where(store, session_id, segment_id)
        raise AppendUnknown(place, f"it is on file, but not where it ends: {exc}") from exc


def recordable(entry: LogEntry) -> LogEntry:
    """Return an entry that may be appended as it is; refuse those that only a verb of their own may write."""
    if isinstance(entry, SegmentStart):
        raise InvalidEntry("$.kind", "a segment_start is the first line of a segment; use create_segment")
    if isinstance(entry, e.Extension):
        if entry.domain == e.ROLLBACK_DOMAIN:
            raise InvalidEntry("$.domain", "a rollback must fit the lines before it; use SegmentWriter.rollback")
        if entry.domain == e.POD_SCOPE_DOMAIN:
            pod_scope_of(entry.payload)
    if isinstance(entry, e.UserInput):
        for extension in entry.extensions:
            if extension.domain == e.POD_SCOPE_DOMAIN:
                pod_scope_of(extension.payload)
    return entry


def record(store: Store, session_id: str, segment_id: str, make: Callable[[int], Iterable[LogEntry]]) -> int:
    """Append what ``make(ts)`` returns, ``ts`` not being before that of the last line; return the new length."""
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    for _ in range(_RETRIES):
        length = store.length(session_id, segment_id)
        lines = [prepare(entry)[0] for entry in make(max(now_ms(), _last_ts(store, session_id, segment_id, length)))]
        if not lines:
            return length
        try:
            return store.append(session_id, segment_id, lines, expected=length)
        except HeadMoved:
            continue
    raise SegmentBusy(where(store, session_id, segment_id), "many other writers")


def _last_ts(store: Store, session_id: str, segment_id: str, length: int) -> int:
    last_line = getattr(store, "last_line", None)  # a store of files finds it from the end
    lines = (
        [last_line(session_id, segment_id)]
        if last_line is not None
        else store.read(session_id, segment_id, max(0, length - 1), length)
    )
    for line in lines:
        if line.strip():
            try:
                return clock_time(decode_line(line))
            except InvalidEntry:
                return 0
    return 0


def save_invoke(store: Store, session_id: str, segment_id: str, trigger: str) -> int:
    """Record that idle became active (``user_send``, ``notify``, ``pod_event``, ``system_reminder``, ``wakeup``)."""
    return record(store, session_id, segment_id, lambda ts: [e.Invoke(ts=ts, trigger=trigger)])


def save_user_input(
    store: Store,
    session_id: str,
    segment_id: str,
    segments_or_text: str | Sequence[InputSegment],
    *,
    idem: str | None = None,
) -> int:
    """Record what the user sent: a text, or typed segments. ``idem``: as in :func:`append_entries`."""
    segments = input_segments(segments_or_text)
    if idem is None:
        return record(store, session_id, segment_id, lambda ts: [e.UserInput(ts=ts, segments=segments)])

    def entries(length: int) -> list[LogEntry]:
        ts = max(now_ms(), _last_ts(store, session_id, segment_id, length))
        return [e.UserInput(ts=ts, segments=segments)]

    return record_keyed(store, session_id, segment_id, entries, idem)


def input_segments(segments_or_text: str | Sequence[InputSegment]) -> tuple[InputSegment, ...]:
    """Return typed segments; a text is one."""
    if isinstance(segments_or_text, str):
        return (TextInput(segments_or_text),)
    if not isinstance(segments_or_text, (list, tuple)):
        raise InvalidEntry(
            "$.segments", f"must be text or a sequence of segments, not {type(segments_or_text).__name__}"
        )
    return tuple(segments_or_text)


def save_delta(store: Store, session_id: str, segment_id: str, items: Iterable[Item]) -> int:
    """Record new history items in one write; user messages are skipped: ``save_user_input`` recorded them."""
    kept = delta(items)
    return record(store, session_id, segment_id, lambda ts: [e.classify_history_item(item, ts) for item in kept])


def delta(items: Iterable[Item]) -> list[Item]:
    """Return the items that are not user messages."""
    return [item for item in items if not (isinstance(item, Message) and item.role == "user")]


def append_system_item(store: Store, session_id: str, segment_id: str, item: SystemItem) -> int:
    """Record what the runtime put into the history."""
    return record(store, session_id, segment_id, lambda ts: [e.SystemItemEntry(ts=ts, item=item)])


def save_turn_end(store: Store, session_id: str, segment_id: str, turn_count: int) -> int:
    """Record that a turn ended; ``turn_count`` includes it."""
    return record(store, session_id, segment_id, lambda ts: [e.TurnEnd(ts=ts, turn_count=turn_count)])


def save_run_completed(store: Store, session_id: str, segment_id: str, result: str, interrupted: bool = False) -> int:
    """Record that a run returned (``finished``, ``paused``, ``limit_reached``, ``yielded``)."""
    return record(
        store, session_id, segment_id, lambda ts: [e.RunCompleted(ts=ts, interrupted=interrupted, result=result)]
    )


def save_run_errored(store: Store, session_id: str, segment_id: str, message: str, interrupted: bool = False) -> int:
    """Record that a run failed."""
    return record(
        store, session_id, segment_id, lambda ts: [e.RunErrored(ts=ts, interrupted=interrupted, message=message)]
    )


def save_usage(
    store: Store,
    session_id: str,
    segment_id: str,
    history_len: int,
    input_total_tokens: int,
    cache_read_tokens: int,
    cache_write_tokens: int,
    output_tokens: int,
    **extras: Any,
) -> int:
    """Record the tokens of one model call. ``extras``: model, source, reasoning_tokens, latency_ms, node_id."""
    tokens = (history_len, input_total_tokens, cache_read_tokens, cache_write_tokens, output_tokens)
    return record(store, session_id, segment_id, lambda ts: [usage_entry(ts, *tokens, **extras)])


def usage_entry(
    ts: int,
    history_len: int,
    input_total_tokens: int,
    cache_read_tokens: int,
    cache_write_tokens: int,
    output_tokens: int,
    **extras: Any,
) -> e.LlmUsage:
    """Return an ``llm_usage`` entry.

    Raises:
        InvalidEntry: an extra that is none of the known ones.
    """
    unknown = sorted(set(extras) - {"model", "source", "reasoning_tokens", "latency_ms", "node_id"})
    if unknown:
        raise InvalidEntry(f"$.{unknown[0]}", "is no field of llm_usage; record it with save_extension")
    return e.LlmUsage(
        ts=ts,
        history_len=history_len,
        input_total_tokens=input_total_tokens,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
        output_tokens=output_tokens,
        **extras,
    )


def save_config_changed(store: Store, session_id: str, segment_id: str, config: e.RequestConfig) -> int:
    """Record the request parameters from here on."""
    return record(store, session_id, segment_id, lambda ts: [e.ConfigChanged(ts=ts, config=config)])


def save_extension(store: Store, session_id: str, segment_id: str, domain: str, payload: Any) -> int:
    """Record any JSON value under a domain; domains that start with ``session_log.`` are the library's own."""
    check_domain(domain)
    return record(
        store, session_id, segment_id, lambda ts: [recordable(e.Extension(ts=ts, domain=domain, payload=payload))]
    )


def check_domain(domain: object) -> None:
    """Refuse a domain that is no text, or the library's own."""
    if not isinstance(domain, str) or not domain or domain.startswith("session_log."):
        raise InvalidEntry(
            "$.domain", f"{domain!r} is no domain of yours: a text that does not start with 'session_log.'"
        )


def save_pod_scope(store: Store, session_id: str, segment_id: str, snapshot: e.PodScope) -> int:
    """Record what a pod may touch, under the domain ``pod.scope``; the last one counts."""
    return record(store, session_id, segment_id, lambda ts: [scope_entry(ts, snapshot)])


def scope_entry(ts: int, snapshot: e.PodScope) -> e.Extension:
    """Return the entry of a pod scope."""
    if not isinstance(snapshot, e.PodScope):
        raise InvalidEntry("$.payload", f"a pod scope is a PodScope, not a {type(snapshot).__name__}")
    return e.Extension(ts=ts, domain=e.POD_SCOPE_DOMAIN, payload=msgspec.to_builtins(snapshot))


def append_trace(store: Store, session_id: str, segment_id: str, trace_entry: TraceEntry) -> None:
    """Append one line to the segment's trace. Raises what a store raises; a writer's own trace never stops a run."""
    store.append_trace(session_id, segment_id, [encode_trace(trace_entry)])


def read_trace(store: Store, session_id: str, segment_id: str) -> list[TraceEntry]:
    """Return the trace of a segment; empty if there is none."""
    return [decode_trace(line) for line in store.read_trace(session_id, segment_id) if line.strip()]
