"""The verbs: create, record, restore, fork. Free functions over any store, with the ids in hand.

A worker that records many entries uses :class:`session_log.SegmentWriter`, which knows its position; these functions find
it out each time. All time stamps are taken here, and never go back within a segment.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from session_log import _entries as e
from session_log._clock import new_segment_id, new_session_id, now_ms
from session_log._codec import decode_line, prepare
from session_log._entries import FORMAT_VERSION, LogEntry, SegmentOrigin, SegmentStart
from session_log._errors import CallerError, HeadMoved, InvalidCut, InvalidEntry, NotFound, SegmentBusy
from session_log._forking import fork_from, inlined, locate
from session_log._fold import pod_scope_of
from session_log._ids import parse_id
from session_log._items import Item, Message
from session_log._lineage import restore_span
from session_log._reader import read_blocks, read_start, where
from session_log._state import Damage, Head, RestoredState, SegmentStartState
from session_log._store import Repairable, Store
from session_log._trace import TraceEntry, decode_trace, encode_trace

_RETRIES = 1_000
"""How often an append without a known position is tried again while others append; each round, somebody succeeded."""

# ── create ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def start_entry(session_id: str, state: SegmentStartState, **more: Any) -> SegmentStart:
    """Return the first entry of a new segment."""
    if not isinstance(state, SegmentStartState):
        raise InvalidEntry("$", f"a segment starts with a SegmentStartState, not a {type(state).__name__}")
    ts = more.pop("ts", None) or now_ms()
    return SegmentStart(
        ts=ts,
        session_id=session_id,
        system_prompt=state.system_prompt,
        config=state.config,
        history=tuple(state.history),
        v=FORMAT_VERSION,
        **more,
    )


def create_segment(store: Store, state: SegmentStartState = SegmentStartState()) -> tuple[str, str]:  # noqa: B008
    """Start a new session with one segment and return (session_id, segment_id)."""
    session_id, segment_id = new_session_id(), new_segment_id()
    create_segment_with_ids(store, session_id, segment_id, state)
    return session_id, segment_id


def create_segment_with_ids(store: Store, session_id: str, segment_id: str, state: SegmentStartState) -> None:
    """Create a segment under ids that were drawn before.

    Raises:
        SegmentExists: the segment id is taken.
    """
    session_id = parse_id(session_id)
    store.create_segment(session_id, segment_id, [prepare(start_entry(session_id, state))[0]])


def fork(store: Store, state: SegmentStartState) -> tuple[str, str]:
    """Start a new session from a state, inline, without lineage; return (session_id, segment_id)."""
    return create_segment(store, state)


def create_compacted_segment(
    store: Store, state: SegmentStartState, source_session_id: str, source_segment_id: str, source_turn_count: int
) -> str:
    """Start a segment of the same session whose history is ``state.history`` instead of the source's; return its id.

    Turn count, usage, typed inputs, extensions and an interruption are carried over; the source is not touched.

    Raises:
        InvalidCut: the source does not have ``source_turn_count`` turns.
    """
    session_id, source = parse_id(source_session_id), parse_id(source_segment_id)
    return compact_from(store, state, session_id, source, None, source_turn_count)


def compact_from(
    store: Store, state: SegmentStartState, session_id: str, source: str, entries: int | None, source_turn_count: int
) -> str:
    """Compact the first ``entries`` lines of a segment (None: all)."""
    gathered, restored = inlined(store, session_id, source, entries)
    if source_turn_count != restored.state.turn_count:
        reason = f"the source has {restored.state.turn_count} complete turns, not {source_turn_count!r}"
        raise InvalidCut(where(store, session_id, source), reason, (restored.state.turn_count,))
    segment_id = new_segment_id(after=source)
    entry = start_entry(
        session_id,
        state,
        ts=max(now_ms(), restored.last_ts),
        compacted_from=SegmentOrigin(source, source_turn_count),
        turn_count=source_turn_count,
        carried=gathered.carried(compacted=True),
    )
    store.create_segment(session_id, segment_id, [prepare(entry)[0]])
    return segment_id


# ── restore ────────────────────────────────────────────────────────────────────────────────────────────────────────


def restore(
    store: Store,
    session_id: str,
    segment_id: str,
    *,
    at_turn: int | None = None,
    at_entries: int | None = None,
    salvage: bool = False,
) -> RestoredState:
    """Fold a segment, with what it inherits, into the state at its end, after a turn, or after a line. Writes nothing.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: with ``salvage``, damage is skipped and
            listed in ``state.damage`` instead, and a lineage that does not hold counts as damage.
        InvalidCut: there is no such turn or line.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if at_turn is not None and at_entries is not None:
        raise InvalidCut(where(store, session_id, segment_id), "at_turn and at_entries exclude each other")
    if at_turn is not None:
        segment_id, cut = locate(store, session_id, segment_id, at_turn)
        at_entries = cut.entries
    elif at_entries is not None:
        _check_count(store, session_id, segment_id, at_entries)
    return restore_span(store, session_id, segment_id, at_entries, salvage=salvage).state


def _check_count(store: Store, session_id: str, segment_id: str, entries: object) -> None:
    length = store.length(session_id, segment_id)
    if type(entries) is not int or not 1 <= entries <= length:
        nearest = min(max(entries, 1), length) if type(entries) is int else length
        raise InvalidCut(where(store, session_id, segment_id), f"there are no {entries!r} entries", (nearest,))


def restore_by_segment(
    store: Store,
    segment_id: str,
    *,
    at_turn: int | None = None,
    at_entries: int | None = None,
    salvage: bool = False,
) -> RestoredState:
    """Restore a segment whose session is not known.

    Raises:
        NotFound: no session holds it. Else as :func:`restore`.
    """
    session_id = store.lookup_session_of(segment_id)
    if session_id is None:
        raise NotFound(f"segment {segment_id}", "no session holds it")
    return restore(store, session_id, segment_id, at_turn=at_turn, at_entries=at_entries, salvage=salvage)


def read_entries(
    store: Store, session_id: str, segment_id: str, start: int = 0, stop: int | None = None
) -> list[LogEntry]:
    """Return the entries of the lines from ``start`` to before ``stop``; blank lines have none.

    Raises:
        CorruptSegment: a line is no entry.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    found = read_blocks(store, session_id, segment_id, start, stop)
    return [entry for block in found for entry in block.entries if entry is not None]


def follow_entries(
    store: Store, session_id: str, segment_id: str, start: int = 0, *, stop: Callable[[], bool] | None = None
) -> Iterator[LogEntry]:
    """Yield the entries from line ``start`` on as they are committed; ends when ``stop()`` says so and nothing new is there."""
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    for line in store.follow(session_id, segment_id, start, stop=stop):
        if line.strip():
            yield decode_line(line)


def head(store: Store, session_id: str, segment_id: str) -> Head:
    """Return where a segment ends."""
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    byte_offset = entries = 0
    for line in store.read(session_id, segment_id):
        entries += 1
        byte_offset += len(line) + 1
    return Head(session_id, segment_id, entries, byte_offset)


# ── record ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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
) -> Head:
    """Append entries in one write, all or nothing, and return the head behind them.

    Raises:
        HeadMoved: the segment is not at ``expected`` entries.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    lines = [prepare(recordable(entry))[0] for entry in entries]
    length = store.append(session_id, segment_id, lines, expected=expected, token=token)
    found = head(store, session_id, segment_id)
    return found if found.entries == length else head_at(store, session_id, segment_id, length)


def head_at(store: Store, session_id: str, segment_id: str, entries: int) -> Head:
    """Return the head after the first ``entries`` lines."""
    byte_offset = sum(len(line) + 1 for line in store.read(session_id, segment_id, 0, entries))
    return Head(session_id, segment_id, entries, byte_offset)


def recordable(entry: LogEntry) -> LogEntry:
    """Return an entry that may be appended as it is; refuse those that only a verb of their own may write."""
    if isinstance(entry, SegmentStart):
        raise InvalidEntry("$.kind", "a segment_start is the first line of a segment; use create_segment")
    if isinstance(entry, e.Extension):
        if entry.domain == e.ROLLBACK_DOMAIN:
            raise InvalidEntry("$.domain", "a rollback must fit the lines before it; use SegmentWriter.rollback")
        if entry.domain == e.POD_SCOPE_DOMAIN:
            pod_scope_of(entry.payload)
    return entry


def record(store: Store, session_id: str, segment_id: str, make: Callable[[int], Iterable[LogEntry]]) -> int:
    """Append what ``make(ts)`` returns, with a ``ts`` that is not before that of the last line; return the new length."""
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
    for line in store.read(session_id, segment_id, max(0, length - 1), length):
        if line.strip():
            try:
                return int(getattr(decode_line(line), "ts", 0))
            except InvalidEntry:
                return 0
    return 0


def save_invoke(store: Store, session_id: str, segment_id: str, trigger: str) -> int:
    """Record that idle became active (``user_send``, ``notify``, ``pod_event``, ``system_reminder``, ``wakeup``)."""
    return record(store, session_id, segment_id, lambda ts: [e.Invoke(ts=ts, trigger=trigger)])


def save_user_input(
    store: Store, session_id: str, segment_id: str, segments_or_text: str | Sequence[e.InputSegment]
) -> int:
    """Record what the user sent: a text, or typed segments."""
    segments = input_segments(segments_or_text)
    return record(store, session_id, segment_id, lambda ts: [e.UserInput(ts=ts, segments=segments)])


def input_segments(segments_or_text: str | Sequence[e.InputSegment]) -> tuple[e.InputSegment, ...]:
    """Return typed segments; a text is one."""
    if isinstance(segments_or_text, str):
        return (e.TextInput(segments_or_text),)
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


def append_system_item(store: Store, session_id: str, segment_id: str, item: e.SystemItem) -> int:
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


# ── fork ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def fork_at(store: Store, session_id: str, segment_id: str, at_turn_index: int, *, copy_history: bool = False) -> str:
    """Fork after a turn (0: right after the start) and return the new segment's id; the source is not touched.

    By reference: one line is written, nothing is copied. With ``copy_history``, the history stands in the new segment.

    Raises:
        InvalidCut: there is no such turn, or the cut would part a tool call from its result; names the nearest.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    source, cut = locate(store, session_id, segment_id, at_turn_index)
    return fork_from(store, session_id, source, cut.entries, copy_history=copy_history)


def fork_at_entry(store: Store, session_id: str, segment_id: str, entries: int, *, copy_history: bool = False) -> str:
    """Fork after the first ``entries`` lines of this segment and return the new segment's id.

    Raises:
        InvalidCut: there is no such line, or the cut would part a tool call from its result; names the nearest.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    _check_count(store, session_id, segment_id, entries)
    return fork_from(store, session_id, segment_id, entries, copy_history=copy_history)


def ensure_head_or_fork(store: Store, head: Head) -> Head:
    """Return ``head`` if the segment still ends there, else the head of a new fork at ``head``.

    Nobody's lines are lost: those behind ``head`` stay in the segment, and the fork goes on from ``head``.
    """
    if not isinstance(head, Head):
        raise CallerError(f"{head!r} is no Head; take it from a writer, a restored state or head()")
    if store.length(head.session_id, head.segment_id) == head.entries:
        return head
    segment_id = fork_from(store, head.session_id, head.segment_id, head.entries, anywhere=True)
    length = sum(len(line) + 1 for line in store.read(head.session_id, segment_id))
    return Head(head.session_id, segment_id, 1, length)


# ── trace, repair ──────────────────────────────────────────────────────────────────────────────────────────────────


def append_trace(store: Store, session_id: str, segment_id: str, trace_entry: TraceEntry) -> None:
    """Append one line to the segment's trace. Raises what a store raises; a writer's own trace never stops a run."""
    store.append_trace(session_id, segment_id, [encode_trace(trace_entry)])


def read_trace(store: Store, session_id: str, segment_id: str) -> list[TraceEntry]:
    """Return the trace of a segment; empty if there is none."""
    return [decode_trace(line) for line in store.read_trace(session_id, segment_id) if line.strip()]


def repair(store: Store, session_id: str, segment_id: str) -> tuple[Damage, ...]:
    """Blank out the damaged lines of a segment, keeping their bytes in ``<segment>.damage``; return what was found.

    Offsets, line numbers and the references of children stay right. A damaged first line cannot be mended so: without it
    nobody knows what the segment starts with.

    Raises:
        CorruptSegment: the first line is damaged.
        CallerError: the store has no files.
        SegmentBusy: a writer holds the segment.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if not isinstance(store, Repairable):
        raise CallerError(f"{store!r}: has no files to repair")
    read_start(store, session_id, segment_id)
    found = restore_span(store, session_id, segment_id, salvage=True).state.damage
    path = str(store.segment_path(session_id, segment_id))
    own = tuple(damage for damage in found if damage.path == path and damage.line > 1)
    if own:
        store.blank_lines(session_id, segment_id, own)
    return own
