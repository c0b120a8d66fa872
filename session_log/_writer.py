"""The writer: a handle on one segment that knows its position and its state.

The recorder gets entries behind the position; the verbs here make the entries.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from session_log import _entries as e
from session_log import _recording as make
from session_log import _session as verbs
from session_log._batch import Batch
from session_log._chained import Chain, restored_with_chain
from session_log._clock import now_ms
from session_log._codec import prepare
from session_log._entries import LogEntry
from session_log._errors import AppendUnknown, CallerError, HeadMoved, InvalidCut, SegmentBusy, SessionLogError
from session_log._forking import cuts_for, fork_from
from session_log._ids import parse_id
from session_log._inputs import InputSegment
from session_log._items import Item, ToolResult
from session_log._lineage import begun, lineage, restore_span
from session_log._quick import QuickRecorder
from session_log._recorder import OnConflict
from session_log._stages import stages_of
from session_log._state import SegmentStartState
from session_log._store import Store
from session_log._system_items import SystemItem
from session_log._trace import TraceEntry
from session_log._tree import refuse_bad_cut

if TYPE_CHECKING:
    from session_log._redact import Redact, Redaction


def check_policy(on_conflict: str) -> None:
    """Refuse what is no way to answer a conflict.

    Raises:
        CallerError: neither ``"fork"`` nor ``"raise"``.
    """
    if on_conflict not in ("fork", "raise"):
        raise CallerError(f"on_conflict={on_conflict!r}: is neither 'fork' nor 'raise'")


class SegmentWriter(QuickRecorder):
    """Record into one segment. Safe for threads; a context manager. Make one with :meth:`create` or :meth:`resume`."""

    _traces = False
    _trace_failed = False
    _redaction: "Redaction | None" = None

    @classmethod
    def create(
        cls,
        store: Store,
        state: SegmentStartState = SegmentStartState(),  # noqa: B008  (frozen)
        *,
        on_conflict: OnConflict = "fork",
        exclusive: bool = False,
        trace: bool = False,
        redact: "Redact | None" = None,
        max_inline_bytes: int | None = None,
        chain: bool = False,
    ) -> "SegmentWriter":
        """Start a new session with one segment, and write to it. The keywords are those of :meth:`resume`."""
        check_policy(on_conflict)
        redaction, shape = stages_of(store, redact, max_inline_bytes)
        restored = begun(*verbs.begin(store, state, shape))
        links = Chain(store, restored.head, restored.last_line) if chain else None
        writer = cls(store, restored, on_conflict=on_conflict, exclusive=exclusive, depth=1, shape=shape, chain=links)
        writer._traces, writer._redaction = trace, redaction
        return writer

    @classmethod
    def resume(
        cls,
        store: Store,
        session_id: str,
        segment_id: str,
        *,
        on_conflict: OnConflict = "fork",
        exclusive: bool = False,
        trace: bool = False,
        redact: "Redact | None" = None,
        max_inline_bytes: int | None = None,
        chain: bool = False,
    ) -> "SegmentWriter":
        """Restore a segment and write behind it. Writes nothing itself: a torn tail goes with the first append.

        ``exclusive`` keeps others from appending until :meth:`close`. ``on_conflict``: what to do when somebody else
        wrote or holds the segment, ``"fork"`` or ``"raise"`` (HeadMoved, SegmentBusy). ``trace`` turns
        :meth:`trace_event` and :meth:`trace_lifecycle` on. ``redact``, from text to text, sees every text before it is
        on file, in the trace too (see :mod:`session_log.redaction`); what it says is also what :attr:`state` has.
        ``max_inline_bytes``: longer texts and images of tools and users go into blobs, their lines keep the two ends;
        ``restore(resolve_blobs=True)`` puts them back.
        ``chain`` links each end of a turn or run to all bytes before it, for :func:`session_log.verify.verify`; what
        others write without, the next link covers.

        Raises:
            NotFound, CorruptSegment, BrokenLineage, UnsupportedVersion: as :func:`session_log.restore`.
        """
        check_policy(on_conflict)
        redaction, shape = stages_of(store, redact, max_inline_bytes)
        session_id, segment_id = parse_id(session_id), parse_id(segment_id)
        links: Chain | None = None
        if chain:
            restored, links = restored_with_chain(store, session_id, segment_id)
        else:
            restored = restore_span(store, session_id, segment_id)
        depth = len(lineage(store, session_id, segment_id))
        writer = cls(
            store, restored, on_conflict=on_conflict, exclusive=exclusive, depth=depth, shape=shape, chain=links
        )
        writer._traces, writer._redaction = trace, redaction
        return writer

    def batch(self, idem: str | None = None) -> "Batch":
        """Collect what this thread (or asyncio task) records inside into one write at the end: all or nothing.

        A context manager. An exception inside discards it; leave it before you record that. The state does not have
        it before the end. ``idem``: as in :meth:`append_entries`; the whole of the batch is compared, at its end.
        """
        return Batch(self, idem)

    # ── the verbs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _now(self) -> int:
        """Return the time, not before that of anything recorded, in the open batch either."""
        batch = self._batches.current() if self._batches else None
        return max(now_ms(), self._last_ts(), batch.latest if batch is not None else 0)

    def _record(self, entry_at: Callable[[int], LogEntry]) -> int:
        with self._lock:  # from the look at the clock on: another thread's later time must not get in first
            return self.append(entry_at(self._now()))

    def save_invoke(self, trigger: str = "user_send") -> int:
        """Record that idle became active."""
        return self._record(lambda ts: e.Invoke(ts=ts, trigger=trigger))

    def save_user_input(self, segments_or_text: str | Sequence[InputSegment], *, idem: str | None = None) -> int:
        """Record what the user sent: a text, or typed segments. ``idem``: as in :meth:`append_entries`."""
        if idem is None:
            return self._record(lambda ts: e.UserInput(ts=ts, segments=make.input_segments(segments_or_text)))
        with self._lock:
            entry = e.UserInput(ts=self._now(), segments=make.input_segments(segments_or_text))
            return self.append_entries((entry,), idem=idem)

    def save_delta(self, items: Iterable[Item]) -> int:
        """Record new history items in one write; user messages are skipped: ``save_user_input`` recorded them."""
        kept = make.delta(items)
        with self._lock:
            ts = self._now()
            return self.append_entries([e.classify_history_item(item, ts) for item in kept])

    def append_system_item(self, item: SystemItem) -> int:
        """Record what the runtime put into the history."""
        return self._record(lambda ts: e.SystemItemEntry(ts=ts, item=item))

    def save_turn_end(self, turn_count: int | None = None) -> int:
        """Record that a turn ended; without ``turn_count``, the one after the last."""
        with self._lock:
            if turn_count is None:
                self._settle()
                batch = self._batches.current()
                turn_count = self._turn_count() + 1
                turn_count += sum(isinstance(entry, e.TurnEnd) for entry in batch.entries) if batch is not None else 0
            line, entry = prepare(e.TurnEnd(ts=self._now(), turn_count=turn_count))
            return self._append_many([line], [entry])

    def save_run_completed(self, result: str = "finished", interrupted: bool = False) -> int:
        """Record that a run returned (``finished``, ``paused``, ``limit_reached``, ``yielded``)."""
        return self._record(lambda ts: e.RunCompleted(ts=ts, interrupted=interrupted, result=result))

    def save_run_errored(self, message: str, interrupted: bool = False) -> int:
        """Record that a run failed."""
        return self._record(lambda ts: e.RunErrored(ts=ts, interrupted=interrupted, message=message))

    def save_usage(
        self,
        history_len: int,
        input_total_tokens: int,
        cache_read_tokens: int,
        cache_write_tokens: int,
        output_tokens: int,
        **extras: Any,
    ) -> int:
        """Record the tokens of one model call. ``extras``: model, source, reasoning_tokens, latency_ms, node_id."""
        tokens = (history_len, input_total_tokens, cache_read_tokens, cache_write_tokens, output_tokens)
        return self._record(lambda ts: make.usage_entry(ts, *tokens, **extras))

    def save_config_changed(self, config: e.RequestConfig) -> int:
        """Record the request parameters from here on."""
        return self._record(lambda ts: e.ConfigChanged(ts=ts, config=config))

    def save_extension(self, domain: str, payload: Any) -> int:
        """Record any JSON value under a domain; domains that start with ``session_log.`` are the library's own."""
        make.check_domain(domain)
        return self._record(lambda ts: e.Extension(ts=ts, domain=domain, payload=payload))

    def save_pod_scope(self, snapshot: e.PodScope) -> int:
        """Record what a pod may touch; the last one counts."""
        return self._record(lambda ts: make.scope_entry(ts, snapshot))

    # ── history is never rewritten ─────────────────────────────────────────────────────────────────────────────────

    def rollback(self, to_entries: int) -> int:
        """Go back to the state after the first ``to_entries`` lines of this segment, by a line that says so.

        A later rollback to a greater number is a redo. Nothing is removed.

        Raises:
            InvalidCut: there is no such line, or it would part a tool call from its result.
        """
        with self._lock:
            self._settle()
            if self._batches.current() is not None:
                raise CallerError(f"{self!r}: no rollback inside a batch; leave the batch, or raise to discard it")
            cuts = cuts_for(self._store, self._session_id, self._segment_id)
            if type(to_entries) is not int or not 1 <= to_entries <= self._position[0]:
                raise InvalidCut(self._where(), f"there are no {to_entries!r} entries", (self._position[0],))
            refuse_bad_cut(cuts, self._where(), to_entries)
            entry = e.Extension(ts=self._now(), domain=e.ROLLBACK_DOMAIN, payload={"to_entries": to_entries})
            line, entry = prepare(entry)  # type: ignore[assignment]
            policy, self._on_conflict = self._on_conflict, "raise"
            try:
                length = self._append_many([line], [entry])
            except (HeadMoved, SegmentBusy):
                if policy == "raise":
                    raise
                # somebody else has written: a fork at that place is the same state
                child = fork_from(self._store, self._session_id, self._segment_id, to_entries, shape=self._shape)
                try:
                    self._go_on_in(child, depth=self._depth + 1)
                except SessionLogError as exc:
                    reason = f"the fork {child} was made, and this writer goes on there ({exc})"
                    raise AppendUnknown(self._where(), reason) from exc
                return self._position[0]
            finally:
                self._on_conflict = policy
            self._note()
            self._forget()
            return length

    def fork_at(self, at_turn_index: int, *, copy_history: bool = False) -> str:
        """Fork after a turn and return the new segment's id; this writer stays where it is."""
        with self._lock:
            self._settle()
            ids = self._session_id, self._segment_id
            return verbs.fork_at(self._store, *ids, at_turn_index, copy_history=copy_history, shape=self._shape)

    def fork_at_entry(self, entries: int, *, copy_history: bool = False) -> str:
        """Fork after the first ``entries`` lines and return the new segment's id; this writer stays where it is."""
        with self._lock:
            self._settle()
            return verbs.fork_at_entry(
                self._store, self._session_id, self._segment_id, entries, copy_history=copy_history, shape=self._shape
            )

    def compact(self, state: SegmentStartState) -> str:
        """Start a segment whose history is ``state.history`` instead of what was, go on in it, and return its id."""
        with self._lock:
            self._settle()
            turns = self._turn_count()
            made, line = verbs.compact_from(
                self._store, state, self._session_id, self._segment_id, self._position[0], turns, shape=self._shape
            )
            self._go_on_in(made, depth=1, restored=begun(self._session_id, made, line))
            return made

    # ── trace, end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def trace_event(self, event: Any, *, llm_call: int = 0) -> None:
        """Trace one event of a provider's stream, if tracing is on. Never raises for what a trace could do wrong."""
        self._append_trace(lambda turn: TraceEntry.stream_event(ts=now_ms(), turn=turn, llm_call=llm_call, event=event))

    def trace_lifecycle(self, label: str, data: Any = None, *, llm_call: int | None = None) -> None:
        """Trace a marker such as ``request_start``, if tracing is on. Never raises for what a trace could do wrong."""
        self._append_trace(
            lambda turn: TraceEntry.lifecycle(ts=now_ms(), turn=turn, label=label, llm_call=llm_call, data=data)
        )

    def _append_trace(self, entry_of: Callable[[int], TraceEntry]) -> None:
        if not self._traces:
            return
        try:
            with self._lock:
                turn = self._turn_count()
            entry = entry_of(turn) if self._redaction is None else self._redaction(entry_of(turn))
            make.append_trace(self._store, self._session_id, self._segment_id, entry)
        except (SessionLogError, OSError) as exc:
            if not self._trace_failed:
                self._trace_failed = True
                warnings.warn(f"the trace is incomplete: {exc}", RuntimeWarning, stacklevel=3)

    def sync(self) -> None:
        """Bring everything recorded so far to the disk, whatever the store's durability."""
        with self._lock:
            self._appender.sync()

    def close(self) -> None:
        """Let go of the segment. Idempotent; ``state`` and ``head`` stay readable."""
        with self._lock:
            self._close("it was closed")

    def __repr__(self) -> str:
        return f"SegmentWriter({self._session_id}/{self._segment_id} at {self._position[0]})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


INTERRUPTED_SUMMARY = "interrupted: the run ended before this tool returned"


def close_interrupted(writer: SegmentWriter) -> tuple[ToolResult, ...]:
    """Answer every pending tool call with an error result, in one write, so that a provider accepts the history."""
    calls = writer.state.pending_tool_calls
    results = tuple(ToolResult(call.call_id, INTERRUPTED_SUMMARY, is_error=True) for call in calls)
    if results:
        writer.save_delta(results)
    return results
