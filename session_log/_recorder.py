"""The recorder: where a writer stands in its segment, and how it gets an entry behind that.

It appends only where it believes the segment ends. If somebody else wrote meanwhile, it goes on in a fork from
exactly what it had recorded (or raises, if so asked), so nothing of either is lost. What an append raised is not in
the state; what is in the state is on file.
"""

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Literal

from session_log._appender import StoreAppender
from session_log._at_fork import renew_after_fork
from session_log._batches import Batches
from session_log._chained import Chain
from session_log._check import PLAIN
from session_log._codec import clock_time, encode_struct, prepare
from session_log._entries import LogEntry, RunCompleted, RunErrored, SegmentOrigin, TurnEnd, UnknownEntry
from session_log._errors import (
    AppendUnknown,
    CallerError,
    CorruptSegment,
    HeadMoved,
    SegmentBusy,
    SessionLogError,
    WriterClosed,
)
from session_log._forking import create_child, fork_from, refuse_rewritten
from session_log._frame import batch_of, framed, unmarked
from session_log._keyed import KnownKeys, append_keyed, appended_by_others
from session_log._lineage import Restored, restore_span
from session_log._recorded import MAX_FRESH, Recorded
from session_log._recording import recordable
from session_log._shape import Shape
from session_log._state import Head, RestoredState
from session_log._store import Appender, AppenderSource, Store
from session_log._tree import MAX_FORK_DEPTH, tail_hash

OnConflict = Literal["fork", "raise"]
FINAL: Final[frozenset[type]] = frozenset((TurnEnd, RunCompleted, RunErrored))


class Recorder(Recorded):
    """Position and state of one writer, and appends behind it. Safe for threads; each method takes the lock."""

    def __init__(
        self,
        store: Store,
        restored: Restored,
        *,
        on_conflict: OnConflict,
        exclusive: bool,
        depth: int,
        shape: Shape | None = None,
        chain: Chain | None = None,
    ) -> None:
        self._shape = shape
        self._chain = chain
        self._on_conflict = on_conflict
        self._exclusive = exclusive
        self._lock = threading.RLock()
        self._batches = Batches()
        self._closed: str | None = None
        self._guarded = False  # closed, collecting a batch, or an append in doubt: append takes the careful way
        self._busy = False
        self._doubt: tuple[bytes, Sequence[LogEntry]] | None = None  # interrupted before it was known
        self._moving: tuple[str, int] | None = None  # on the way into another segment
        self._keyed: str | None = None  # the last idempotency key that this appended under, or tried to
        self._known_keys: KnownKeys | None = None  # from the first use of one on
        self._depth = depth
        super().__init__(store, restored)
        renew_after_fork(self)
        self._take_hold()

    def _after_fork(self) -> None:
        """In the child: what another thread of the parent was about to record is the parent's."""
        self._lock = threading.RLock()
        self._busy = False
        self._retreat(self._position, self._tail)

    def _take_hold(self) -> None:
        """Open the segment for appending; exclusively, if so asked, or go on in a fork if somebody else has it so."""
        self._doubt = None
        if isinstance(self._store, AppenderSource):
            grip = self._store.appender(self._session_id, self._segment_id, self._position)
        else:
            grip = StoreAppender(self._store, self._session_id, self._segment_id)
        self._appender: Appender = grip
        self._in_turns = getattr(grip, "in_turns", True)  # whether it matters that a turn ends
        self._append = getattr(grip, "append_alone", grip.append)  # the lock of this object keeps other threads off
        if self._exclusive:
            try:
                grip.hold()
            except SegmentBusy:
                if self._on_conflict == "raise":
                    raise
                self._fork_here(b"", ())

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
            return Head(self._session_id, self._segment_id, *self._position)

    @property
    def state(self) -> RestoredState:
        """The state at :attr:`head`. Folds what was recorded since the last look; the caller's own."""
        with self._lock:
            self._settle()
            return self._folded().freeze(self.head, entries_count=self._position[0])

    # ── append ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, entry: LogEntry) -> int:
        """Append one entry as it is (its ``ts``, too) and return the new length in entries.

        Raises:
            InvalidEntry: it would not read back the same.
            HeadMoved, SegmentBusy: somebody else wrote, and ``on_conflict`` is ``"raise"``.
            StoreUnavailable: it could not be written, and was not.
            AppendUnknown: the outcome is unknown; this writer is of no use any more.
        """
        return self.append_entries((entry,))

    def append_entries(self, entries: Iterable[LogEntry], *, idem: str | None = None) -> int:
        """Append entries in one write, all or nothing, and return the new length in entries.

        ``idem`` makes a retry safe: the same key and content again writes nothing and returns the length behind the
        first append, or 1 if that was inherited, or carried over a compaction. What was rolled back counts as new.

        Raises:
            IdempotencyConflict: the key was used for other content. Else as :meth:`append`.
        """
        kept = list(entries) if self._shape is None else [*map(self._shape, entries)]
        if idem is not None:
            prepared = [prepare(recordable(entry)) for entry in kept]
            return append_keyed(self, [line for line, _ in prepared], [entry for _, entry in prepared], idem)
        checks = PLAIN
        try:
            for entry in kept:
                if not checks[type(entry)](entry):
                    return self._append_carefully(kept)
            lines = [*map(encode_struct, kept)]
        except (KeyError, UnicodeEncodeError):  # other kinds; lone surrogates
            return self._append_carefully(kept)
        with self._lock:
            if self._guarded or self._busy or len(lines) < 2:
                return self._append_many(lines, kept)
            return self._put(batch_of(lines), kept, self._in_turns and not FINAL.isdisjoint(map(type, kept)))

    def _append_carefully(self, entries: list[LogEntry]) -> int:
        prepared = [prepare(recordable(entry)) for entry in entries]
        with self._lock:
            return self._append_many([line for line, _ in prepared], [entry for _, entry in prepared])

    def _append_many(self, lines: list[bytes], entries: list[LogEntry]) -> int:
        if self._busy:
            raise CallerError(
                f"{self._where()}: an append of this thread is under way; do not append in a signal handler"
            )
        if self._guarded:
            batch = self._batches.current()
            if batch is not None:
                return self._position[0] + batch.collect(lines, entries)
            if self._closed is not None:
                raise WriterClosed(self._where(), self._closed)
            self._settle()
        if not lines:
            return self._position[0]
        if len(lines) == 1 or UnknownEntry in map(type, entries):  # raw lines may carry marks of their own
            data = b"\n".join(framed(lines)) + b"\n"
        else:
            data = batch_of(lines)
        return self._put(data, entries, not FINAL.isdisjoint(map(type, entries)))

    def _put(self, data: bytes, entries: Sequence[LogEntry], final: bool) -> int:
        """Append lines as they are; ``final``: they end a turn or run."""
        before, tail, bare = self._position, self._tail, data
        try:
            self._busy = True
            if self._chain is not None:
                data = self._chain.linked(self._here(), tail, bare, entries)
            append = self._append
            length = append(data, len(entries), before[0], final)
            self._advance(length, data, entries)
            if len(self._fresh) > MAX_FRESH:
                self._note()
            self._busy = False
            if self._closed is not None:
                self._close_if_closed()
        except BaseException as exc:  # noqa: BLE001  raised again, or answered with a fork
            self._busy, self._guarded, self._doubt = False, True, (data, entries)
            return self._failed(exc, before, tail, bare, entries)
        return length

    def _here(self) -> Head:
        return Head(self._session_id, self._segment_id, *self._position)

    def _failed(
        self, exc: BaseException, before: tuple[int, int], tail: bytes, data: bytes, entries: Sequence[LogEntry]
    ) -> int:
        """Go on in a fork if that is what the error asks for; else raise it, with position and state as they were.

        Whether the lines are on file is certain after an error of ours. After an interrupt it is found out later.
        """
        self._close_if_closed()
        self._retreat(before, tail)
        if isinstance(exc, SessionLogError):
            self._no_doubt()
        if isinstance(exc, (HeadMoved, SegmentBusy)):
            length = appended_by_others(self, data, exc) if self._keyed is not None else None
            if length is not None:
                return length
            if self._on_conflict == "fork":
                return self._fork_here(data, entries)
        if isinstance(exc, AppendUnknown):
            self._close("an append had an unknown outcome")
        raise exc

    def _close(self, reason: str) -> None:
        self._closed = self._closed or reason
        self._guarded = True
        self._close_if_closed()

    def _close_if_closed(self) -> None:
        """Let go, but not while an append of this thread is under way: a signal handler may ask for it."""
        if self._closed is not None and not self._busy:
            self._appender.close()

    def _settle(self) -> None:
        """After an interrupt: find out whether the lines of an append are on file, and finish a change of segment."""
        if self._moving is not None:
            segment_id, depth = self._moving
            self._go_on_in(segment_id, depth=depth)
        if self._doubt is None:
            return
        data, recorded = self._doubt
        self._retreat(self._position, self._tail)  # an interrupt may have come between the parts of an append
        start = self._position[0]
        lines = data[:-1].split(b"\n")
        if list(self._store.read(self._session_id, self._segment_id, start, start + len(lines))) == lines:
            self._advance(start + len(lines), data, recorded)
        self._no_doubt()

    def _no_doubt(self) -> None:
        self._doubt = None
        self._guard()

    def _guard(self) -> None:
        """Have appends take the careful way while there is a reason to."""
        reasons = (self._doubt, self._moving, self._closed)
        self._guarded = bool(self._batches) or any(reason is not None for reason in reasons)

    # ── go on elsewhere ────────────────────────────────────────────────────────────────────────────────────────────

    def _fork_here(self, data: bytes, entries: Sequence[LogEntry]) -> int:
        """Go on in a fork from exactly what this writer has recorded, ``data`` (without links) in it from the start."""
        fold = self._folded()
        lines = data[:-1].split(b"\n") if data else []
        length, byte_offset = self._position
        in_doubt = getattr(self._store, "is_in_doubt", None)
        if self._depth > MAX_FORK_DEPTH or (in_doubt is not None and in_doubt(self._session_id, self._segment_id)):
            # too long a chain to refer to, or its last link may break: the fork stands alone, the chain begins anew
            ids, shape = (self._session_id, self._segment_id), self._shape
            child = fork_from(self._store, *ids, length, copy_history=True, anywhere=True, shape=shape)
            self._go_on_in(child, depth=1)
            return self._append_many([unmarked(line) for line in lines], list(entries))
        try:
            refuse_rewritten(self._store, self._session_id, self._segment_id, self._position, self._tail)
        except CorruptSegment as exc:
            self._close(exc.reason)
            raise
        origin = SegmentOrigin(self._segment_id, fold.turn_count, length, byte_offset, tail_hash(self._last_line()))
        linked = None
        if self._chain is not None:
            linked = partial(self._chain.linked_in_fork, self._here(), self._tail, data=data, entries=entries)
        began = clock_time(entries[0]) if entries else 0  # it begins when it is made, not when this wrote last
        ts, prompt, config = max(self._last_ts(), began), fold.system_prompt, fold.config
        made = create_child(
            self._store, self._session_id, origin, prompt, config, data, ts, shape=self._shape, linked=linked
        )
        self._guarded, self._moving = True, (made.segment_id, self._depth + 1)
        self._appender.close()  # not before the child is there: on a full disk this writer can try again
        self._segment_id = made.segment_id
        self._depth += 1
        fold.extend((made.start,))
        self._stand((1, len(made.line) + 1), made.line + b"\n", made.start.ts, fold)
        if lines:
            self._advance(1 + len(lines), made.data, entries)
        self._take_hold()
        self._moving = None
        self._guard()
        return self._position[0]

    def _go_on_in(self, segment_id: str, *, depth: int, restored: Restored | None = None) -> None:
        """Leave the segment for another one of the session. Interrupted, it is done again before anything else."""
        self._guarded, self._moving = True, (segment_id, depth)
        if self._chain is not None:
            self._chain.forget()
        if restored is None:
            restored = restore_span(self._store, self._session_id, segment_id)
        self._appender.close()
        self._depth = depth
        self._stand_behind(restored)
        self._take_hold()
        self._moving = None
        self._guard()
