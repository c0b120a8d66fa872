"""The writer: a handle on one segment that knows its position and its state.

It appends only where it believes the segment ends. If somebody else wrote meanwhile, it goes on in a fork from exactly what
it had written (or raises, if so asked), so nothing of either is lost. What an append raised is not in the state; what is in
the state is on file.
"""

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from session_log import _entries as e
from session_log import _session as verbs
from session_log._appender import StoreAppender
from session_log._clock import now_ms
from session_log._codec import prepare
from session_log._entries import LogEntry, SegmentOrigin
from session_log._errors import (
    AppendUnknown,
    CallerError,
    HeadMoved,
    InvalidCut,
    SegmentBusy,
    SessionLogError,
    WriterClosed,
)
from session_log._fold import Fold
from session_log._forking import create_child, cuts_for, fork_from, remember_cuts
from session_log._frame import check_lines, mark
from session_log._ids import parse_id
from session_log._items import Item, ToolResult
from session_log._lineage import Restored, lineage, restore_span
from session_log._reader import where
from session_log._state import Head, RestoredState, SegmentStartState
from session_log._store import Appender, AppenderSource, Store
from session_log._trace import TraceEntry
from session_log._tree import MAX_FORK_DEPTH, Cuts, refuse_bad_cut, tail_hash

OnConflict = Literal["fork", "raise"]
_Doubt = tuple[tuple[int, int, bytes], int, Sequence[bytes], Sequence[LogEntry]]
_FINAL = frozenset({e.TurnEnd, e.RunCompleted, e.RunErrored})


class SegmentWriter:
    """Record into one segment. Safe for threads; a context manager. Make one with :meth:`create` or :meth:`resume`."""

    def __init__(
        self, store: Store, restored: Restored, *, on_conflict: OnConflict, exclusive: bool, trace: bool, depth: int
    ) -> None:
        self._store = store
        self._on_conflict = on_conflict
        self._exclusive = exclusive
        self._trace = trace
        self._trace_failed = False
        self._lock = threading.RLock()
        self._batches: dict[int, list[tuple[bytes, LogEntry]]] = {}
        self._closed: str | None = None
        self._depth = depth
        self._adopt(restored)
        if exclusive:
            try:
                self._appender.hold()
            except SegmentBusy:
                if on_conflict == "raise":
                    raise
                self._fork_here([], [])

    def _adopt(self, restored: Restored, cuts: Cuts | None = None) -> None:
        """Stand at the end of what was restored."""
        head = restored.head
        self._session_id, self._segment_id = head.session_id, head.segment_id
        self._fold: Fold | None = restored.fold
        self._stand(head.entries, head.byte_offset, restored.last_line, restored.last_ts)
        self._cuts = cuts
        self._take(self._grip())

    def _take(self, appender: Appender) -> None:
        self._appender = appender
        self._append = appender.append

    @property
    def _entries(self) -> int:
        return self._position[0]

    def _stand(self, entries: int, byte_offset: int, last_line: bytes, last_ts: int) -> None:
        self._position = entries, byte_offset, last_line
        self._last_ts = last_ts
        self._fresh: list[LogEntry] = []
        self._fresh_bytes: list[int] = []
        self._doubt: _Doubt | None = None

    def _grip(self) -> Appender:
        if isinstance(self._store, AppenderSource):
            return self._store.appender(self._session_id, self._segment_id, self._position[:2])
        return StoreAppender(self._store, self._session_id, self._segment_id)

    @classmethod
    def create(
        cls,
        store: Store,
        state: SegmentStartState = SegmentStartState(),  # noqa: B008  (frozen)
        *,
        on_conflict: OnConflict = "fork",
        exclusive: bool = False,
        trace: bool = False,
    ) -> "SegmentWriter":
        """Start a new session with one segment, and write to it."""
        session_id, segment_id = verbs.create_segment(store, state)
        return cls.resume(store, session_id, segment_id, on_conflict=on_conflict, exclusive=exclusive, trace=trace)

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
    ) -> "SegmentWriter":
        """Restore a segment and write behind it. Writes nothing itself: a torn tail goes with the first append.

        ``exclusive`` keeps others from appending until :meth:`close`. ``on_conflict``: what to do when somebody else wrote
        or holds the segment, ``"fork"`` (go on in a fork) or ``"raise"`` (HeadMoved, SegmentBusy).

        Raises:
            NotFound, CorruptSegment, BrokenLineage, UnsupportedVersion: as :func:`session_log.restore`.
        """
        if on_conflict not in ("fork", "raise"):
            raise CallerError(f"on_conflict={on_conflict!r}: is neither 'fork' nor 'raise'")
        session_id, segment_id = parse_id(session_id), parse_id(segment_id)
        restored = restore_span(store, session_id, segment_id)
        depth = len(lineage(store, session_id, segment_id))
        return cls(store, restored, on_conflict=on_conflict, exclusive=exclusive, trace=trace, depth=depth)

    # ── where and what ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def session_id(self) -> str:
        """The session."""
        return self._session_id

    @property
    def segment_id(self) -> str:
        """The segment; another one after an automatic fork or a compaction."""
        return self._segment_id

    @property
    def head(self) -> Head:
        """The position behind the last entry this writer recorded."""
        with self._lock:
            self._settle()
            return Head(self._session_id, self._segment_id, *self._position[:2])

    @property
    def state(self) -> RestoredState:
        """The state at :attr:`head`. Folds what was recorded since the last look; the caller's own."""
        with self._lock:
            self._settle()
            return self._folded().freeze(self.head, entries_count=self._entries)

    def _folded(self) -> Fold:
        fold = self._fold
        if fold is None:  # after a rollback
            fold = self._fold = restore_span(self._store, self._session_id, self._segment_id, self._entries).fold
        else:
            fold.extend(self._fresh)
        if self._cuts is not None:
            self._cuts.extend(zip(self._fresh, self._fresh_bytes, strict=True))
        self._fresh.clear()
        self._fresh_bytes.clear()
        return fold

    # ── append ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, entry: LogEntry) -> int:
        """Append one entry as it is (its ``ts``, too) and return the new length in entries.

        Raises:
            InvalidEntry: it would not read back the same.
            HeadMoved, SegmentBusy: somebody else wrote, and ``on_conflict`` is ``"raise"``.
            StoreUnavailable: it could not be written, and was not.
            AppendUnknown: the outcome is unknown; this writer is of no use any more.
        """
        if type(entry) is e.SegmentStart or type(entry) is e.Extension:
            verbs.recordable(entry)
        line, entry = prepare(entry)
        lock = self._lock
        lock.acquire()
        try:
            if self._batches or self._doubt is not None or self._closed is not None:
                return self._append_carefully([line], [entry])
            data = line + b"\n"
            before = self._position
            fresh = self._fresh
            self._doubt = before, len(fresh), [line], [entry]
            try:
                length = self._append(data, 1, before[0], type(entry) in _FINAL)
            except BaseException as exc:
                return self._failed(exc)
            self._position = length, before[1] + len(data), line
            self._last_ts = entry.ts  # type: ignore[union-attr]
            fresh.append(entry)
            self._fresh_bytes.append(len(data))
            self._doubt = None
            return length
        finally:
            lock.release()

    def append_entries(self, entries: Iterable[LogEntry]) -> int:
        """Append entries in one write, all or nothing, and return the new length in entries."""
        prepared = [prepare(verbs.recordable(entry)) for entry in entries]
        with self._lock:
            return self._append_carefully([line for line, _ in prepared], [entry for _, entry in prepared])

    @contextmanager
    def batch(self) -> Iterator["SegmentWriter"]:
        """Collect what this thread records inside into one write at the end: all of it is on file, or nothing.

        An exception inside discards it. The state does not have it before the end.
        """
        me = threading.get_ident()
        with self._lock:
            if me in self._batches:
                raise CallerError(f"{self!r}: a batch is open already; batches do not nest")
            self._batches[me] = []
        collected: list[tuple[bytes, LogEntry]] = []
        try:
            yield self
            collected = self._batches[me]
        finally:
            with self._lock:
                del self._batches[me]
        if collected:
            with self._lock:
                self._append_carefully([line for line, _ in collected], [entry for _, entry in collected])

    def _append_carefully(self, lines: Sequence[bytes], entries: Sequence[LogEntry]) -> int:
        batch = self._batches.get(threading.get_ident()) if self._batches else None
        self._settle()
        if batch is not None:
            batch.extend(zip(lines, entries, strict=True))
            return self._entries + len(batch)
        if self._closed is not None:
            raise WriterClosed(self._where(), self._closed)
        if not lines:
            return self._entries
        check_lines(lines)
        lines = mark(lines)
        self._doubt = self._position, len(self._fresh), lines, entries
        final = any(type(entry) in _FINAL for entry in entries)
        try:
            length = self._append(b"\n".join(lines) + b"\n", len(lines), self._position[0], final)
        except BaseException as exc:
            return self._failed(exc)
        self._advance(lines, entries, length)
        return length

    def _advance(self, lines: Sequence[bytes], entries: Sequence[LogEntry], length: int) -> None:
        """Take into position and state what is on file."""
        sizes = [len(line) + 1 for line in lines]
        self._position = length, self._position[1] + sum(sizes), lines[-1]
        self._last_ts = max(self._last_ts, *(getattr(entry, "ts", 0) for entry in entries))
        self._fresh.extend(entries)
        self._fresh_bytes.extend(sizes)
        self._doubt = None

    def _failed(self, exc: BaseException) -> int:
        """Go on in a fork if that is what the error asks for; else raise it. What is left in doubt is settled later."""
        doubt = self._doubt
        if isinstance(exc, SessionLogError):
            self._doubt = None
        if isinstance(exc, (HeadMoved, SegmentBusy)) and self._on_conflict == "fork" and doubt is not None:
            return self._fork_here(*doubt[2:])
        if isinstance(exc, AppendUnknown):
            self._closed = "an append had an unknown outcome"
            self._appender.close()
        raise exc

    def _settle(self) -> None:
        """After an interrupt in the middle of an append: find out whether its lines are on file."""
        if self._doubt is None:
            return
        self._position, known, lines, entries = self._doubt
        del self._fresh[known:], self._fresh_bytes[known:]
        start = self._position[0]
        if list(self._store.read(self._session_id, self._segment_id, start, start + len(lines))) == list(lines):
            self._advance(lines, entries, start + len(lines))
        self._doubt = None

    def _fork_here(self, lines: Sequence[bytes], entries: Sequence[LogEntry]) -> int:
        """Go on in a fork from exactly what this writer has recorded, with ``lines`` in it from the beginning."""
        fold = self._folded()
        self._appender.close()
        if self._depth > MAX_FORK_DEPTH:  # too long a chain to refer to: the fork stands alone, the chain begins anew
            child = fork_from(
                self._store, self._session_id, self._segment_id, self._entries, copy_history=True, anywhere=True
            )
            self._depth = 1
            self._adopt(restore_span(self._store, self._session_id, child))
            return self._append_carefully(lines, entries)
        entries_count, byte_offset, last_line = self._position
        origin = SegmentOrigin(self._segment_id, fold.turn_count, entries_count, byte_offset, tail_hash(last_line))
        made = create_child(
            self._store, self._session_id, origin, fold.system_prompt, fold.config, lines, self._last_ts
        )
        self._segment_id = made.segment_id
        self._depth += 1
        self._stand(1, len(made.line) + 1, made.line, made.start.ts)
        self._fresh, self._fresh_bytes = [made.start], [len(made.line) + 1]
        self._cuts = Cuts()
        if lines:
            self._advance(lines, entries, 1 + len(lines))
        self._take(self._grip())
        if self._exclusive:
            self._appender.hold()
        return self._entries

    # ── the verbs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _now(self) -> int:
        return max(now_ms(), self._last_ts)

    def save_invoke(self, trigger: str = "user_send") -> int:
        """Record that idle became active."""
        return self.append(e.Invoke(ts=self._now(), trigger=trigger))

    def save_user_input(self, segments_or_text: str | Sequence[e.InputSegment]) -> int:
        """Record what the user sent: a text, or typed segments."""
        return self.append(e.UserInput(ts=self._now(), segments=verbs.input_segments(segments_or_text)))

    def save_delta(self, items: Iterable[Item]) -> int:
        """Record new history items in one write; user messages are skipped: ``save_user_input`` recorded them."""
        ts = self._now()
        return self.append_entries([e.classify_history_item(item, ts) for item in verbs.delta(items)])

    def append_system_item(self, item: e.SystemItem) -> int:
        """Record what the runtime put into the history."""
        return self.append(e.SystemItemEntry(ts=self._now(), item=item))

    def save_turn_end(self, turn_count: int | None = None) -> int:
        """Record that a turn ended; without ``turn_count``, the one after the last."""
        with self._lock:
            if turn_count is None:
                self._settle()
                pending = self._batches.get(threading.get_ident(), [])
                turn_count = self._folded().turn_count + 1
                turn_count += sum(isinstance(entry, e.TurnEnd) for _, entry in pending)
            return self.append(e.TurnEnd(ts=self._now(), turn_count=turn_count))

    def save_run_completed(self, result: str = "finished", interrupted: bool = False) -> int:
        """Record that a run returned (``finished``, ``paused``, ``limit_reached``, ``yielded``)."""
        return self.append(e.RunCompleted(ts=self._now(), interrupted=interrupted, result=result))

    def save_run_errored(self, message: str, interrupted: bool = False) -> int:
        """Record that a run failed."""
        return self.append(e.RunErrored(ts=self._now(), interrupted=interrupted, message=message))

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
        return self.append(verbs.usage_entry(self._now(), *tokens, **extras))

    def save_config_changed(self, config: e.RequestConfig) -> int:
        """Record the request parameters from here on."""
        return self.append(e.ConfigChanged(ts=self._now(), config=config))

    def save_extension(self, domain: str, payload: Any) -> int:
        """Record any JSON value under a domain; domains that start with ``session_log.`` are the library's own."""
        verbs.check_domain(domain)
        return self.append(e.Extension(ts=self._now(), domain=domain, payload=payload))

    def save_pod_scope(self, snapshot: e.PodScope) -> int:
        """Record what a pod may touch; the last one counts."""
        return self.append(verbs.scope_entry(self._now(), snapshot))

    # ── history is never rewritten ─────────────────────────────────────────────────────────────────────────────────

    def rollback(self, to_entries: int) -> int:
        """Go back to the state after the first ``to_entries`` lines of this segment, by a line that says so.

        A later rollback to a greater number is a redo. Nothing is removed.

        Raises:
            InvalidCut: there is no such line, or it would part a tool call from its result.
        """
        with self._lock:
            self._settle()
            if self._batches.get(threading.get_ident()) is not None:
                raise CallerError(f"{self!r}: no rollback inside a batch; leave the batch, or raise to discard it")
            self._own_cuts()
            cuts = cuts_for(self._store, self._session_id, self._segment_id)
            if type(to_entries) is not int or not 1 <= to_entries <= self._entries:
                raise InvalidCut(self._where(), f"there are no {to_entries!r} entries", (self._entries,))
            refuse_bad_cut(cuts, self._where(), to_entries)
            entry = e.Extension(ts=self._now(), domain=e.ROLLBACK_DOMAIN, payload={"to_entries": to_entries})
            line, entry = prepare(entry)  # type: ignore[assignment]
            policy, self._on_conflict = self._on_conflict, "raise"
            try:
                length = self._append_carefully([line], [entry])
            except (HeadMoved, SegmentBusy):
                if policy == "raise":
                    raise
                return self._fork_back(to_entries)
            finally:
                self._on_conflict = policy
            self._fold = self._cuts = None
            self._fresh.clear()
            self._fresh_bytes.clear()
            return length

    def _fork_back(self, to_entries: int) -> int:
        """Roll back where somebody else has written: a fork at that place is the same state."""
        child = fork_from(self._store, self._session_id, self._segment_id, to_entries)
        self._appender.close()
        self._depth += 1
        self._adopt(restore_span(self._store, self._session_id, child))
        if self._exclusive:
            self._appender.hold()
        return self._entries

    def _own_cuts(self) -> None:
        """Let the verbs know where this segment can be cut, if this writer has seen all of it."""
        self._folded()
        if self._cuts is not None and self._cuts.entries == self._entries:
            remember_cuts(self._store, self._session_id, self._segment_id, self._cuts)

    def fork_at(self, at_turn_index: int, *, copy_history: bool = False) -> str:
        """Fork after a turn and return the new segment's id; this writer stays where it is."""
        with self._lock:
            self._settle()
            self._own_cuts()
            return verbs.fork_at(
                self._store, self._session_id, self._segment_id, at_turn_index, copy_history=copy_history
            )

    def fork_at_entry(self, entries: int, *, copy_history: bool = False) -> str:
        """Fork after the first ``entries`` lines and return the new segment's id; this writer stays where it is."""
        with self._lock:
            self._settle()
            self._own_cuts()
            return verbs.fork_at_entry(
                self._store, self._session_id, self._segment_id, entries, copy_history=copy_history
            )

    def compact(self, state: SegmentStartState) -> str:
        """Start a segment whose history is ``state.history`` instead of what was, go on in it, and return its id."""
        with self._lock:
            self._settle()
            turns = self._folded().turn_count
            made = verbs.compact_from(
                self._store, state, self._session_id, self._segment_id, self._entries, turns
            )
            restored = restore_span(self._store, self._session_id, made)
            self._appender.close()
            self._depth = 1
            self._adopt(restored)
            if self._exclusive:
                self._appender.hold()
            return made

    # ── trace, end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def trace_event(self, event: Any, *, llm_call: int = 0) -> None:
        """Trace one event of a provider's stream, if tracing is on. Never raises for what a trace could do wrong."""
        if self._trace:
            with self._lock:
                turn = self._folded().turn_count
            self._append_trace(TraceEntry.stream_event(ts=now_ms(), turn=turn, llm_call=llm_call, event=event))

    def trace_lifecycle(self, label: str, data: Any = None, *, llm_call: int | None = None) -> None:
        """Trace a marker such as ``request_start``, if tracing is on. Never raises for what a trace could do wrong."""
        if self._trace:
            with self._lock:
                turn = self._folded().turn_count
            self._append_trace(
                TraceEntry.lifecycle(ts=now_ms(), turn=turn, label=label, llm_call=llm_call, data=data)
            )

    def _append_trace(self, entry: TraceEntry) -> None:
        try:
            verbs.append_trace(self._store, self._session_id, self._segment_id, entry)
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
            self._closed = self._closed or "it was closed"
            self._appender.close()

    def _where(self) -> str:
        return where(self._store, self._session_id, self._segment_id)

    def __repr__(self) -> str:
        return f"SegmentWriter({self._session_id}/{self._segment_id} at {self._entries})"

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


INTERRUPTED_SUMMARY = "interrupted: the run ended before this tool returned"


def close_interrupted(writer: SegmentWriter) -> tuple[ToolResult, ...]:
    """Answer every pending tool call with an error result, in one write, so that a provider accepts the history again."""
    calls = writer.state.pending_tool_calls
    results = tuple(ToolResult(call.call_id, INTERRUPTED_SUMMARY, is_error=True) for call in calls)
    if results:
        writer.save_delta(results)
    return results
