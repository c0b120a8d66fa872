"""The recorder: where a writer stands in its segment, and how it gets an entry behind that.

It appends only where it believes the segment ends. If somebody else wrote meanwhile, it goes on in a fork from
exactly what it had recorded (or raises, if so asked), so nothing of either is lost. What an append raised is not in
the state; what is in the state is on file.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from session_log._appender import StoreAppender
from session_log._at_fork import renew_after_fork
from session_log._check import PLAIN
from session_log._codec import encode_struct, prepare, ts_of
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
from session_log._flow import current_flow
from session_log._fold import Fold, RolledBack
from session_log._forking import create_child, fork_from, refuse_rewritten
from session_log._frame import MAX_LINE_BYTES, batch_of, framed, unmarked
from session_log._lineage import Restored, last_line_of, restore_span
from session_log._reader import where
from session_log._recording import recordable
from session_log._state import Head, RestoredState
from session_log._store import Appender, AppenderSource, Store
from session_log._tree import MAX_FORK_DEPTH, tail_hash

OnConflict = Literal["fork", "raise"]
_FINAL: Final[frozenset[type]] = frozenset((TurnEnd, RunCompleted, RunErrored))
_plain = PLAIN.get


class Recorder:
    """Position and state of one writer. Safe for threads; each method takes the lock."""

    def __init__(
        self, store: Store, restored: Restored, *, on_conflict: OnConflict, exclusive: bool, depth: int
    ) -> None:
        self._store = store
        self._on_conflict = on_conflict
        self._exclusive = exclusive
        self._lock = threading.RLock()
        self._batches: dict[tuple[int, int], list[tuple[bytes, LogEntry]]] = {}
        self._closed: str | None = None
        self._guarded = False  # the writer is closed, or an append in doubt: append takes the careful way
        self._busy = False
        self._moving: tuple[str, int] | None = None  # on the way into another segment
        self._depth = depth
        renew_after_fork(self)
        self._adopt(restored)

    def _after_fork(self) -> None:
        """In the child: what another thread of the parent was about to record is the parent's."""
        self._lock = threading.RLock()
        self._busy = False
        del self._fresh[self._position[0] - self._fresh_from :]

    def _adopt(self, restored: Restored) -> None:
        """Stand at the end of what was restored."""
        head = restored.head
        self._session_id, self._segment_id = head.session_id, head.segment_id
        self._fold: Fold | None = restored.fold
        self._stand(head.entries, head.byte_offset, restored.last_line + b"\n", restored.last_ts)
        self._take_hold()

    def _stand(self, entries: int, byte_offset: int, tail: bytes, last_ts: int) -> None:
        """``tail`` is the end of what is recorded: at least the last line, with its newline."""
        self._position = entries, byte_offset, tail
        self._last_ts = last_ts
        self._fresh: list[LogEntry] = []  # recorded, not folded yet
        self._fresh_from = entries
        self._doubt: tuple[bytes, Sequence[LogEntry]] | None = None  # interrupted before it was known

    def _take_hold(self) -> None:
        """Open the segment for appending; exclusively, if so asked, or go on in a fork if somebody else has it so."""
        if isinstance(self._store, AppenderSource):
            grip = self._store.appender(self._session_id, self._segment_id, self._position[:2])
        else:
            grip = StoreAppender(self._store, self._session_id, self._segment_id)
        self._appender: Appender = grip
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
            return Head(self._session_id, self._segment_id, *self._position[:2])

    @property
    def state(self) -> RestoredState:
        """The state at :attr:`head`. Folds what was recorded since the last look; the caller's own."""
        with self._lock:
            self._settle()
            return self._folded().freeze(self.head, entries_count=self._position[0])

    def _folded(self) -> Fold:
        fold, self._fold = self._fold, None  # half folded, if this is interrupted
        try:
            if fold is not None:
                fold.extend(self._fresh)
        except RolledBack:  # left by an interrupted rollback
            fold = None
        if fold is None:
            fold = restore_span(self._store, self._session_id, self._segment_id, self._position[0]).fold
        self._fresh = []
        self._fresh_from = self._position[0]
        self._fold = fold
        return fold

    def _where(self) -> str:
        return where(self._store, self._session_id, self._segment_id)

    # ── append ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, entry: LogEntry) -> int:
        """Append one entry as it is (its ``ts``, too) and return the new length in entries.

        Raises:
            InvalidEntry: it would not read back the same.
            HeadMoved, SegmentBusy: somebody else wrote, and ``on_conflict`` is ``"raise"``.
            StoreUnavailable: it could not be written, and was not.
            AppendUnknown: the outcome is unknown; this writer is of no use any more.
        """
        kind = type(entry)
        check = _plain(kind)
        if check is None or not check(entry):
            return self.append_entries((entry,))
        try:
            line = encode_struct(entry)
        except UnicodeEncodeError:
            return self.append_entries((entry,))
        if len(line) > MAX_LINE_BYTES:
            prepare(entry)  # says so
        with self._lock:
            if self._guarded or self._batches or self._busy:
                return self._append_many([line], [entry])
            before = self._position
            data = line + b"\n"
            try:
                self._busy = True
                length = self._append(data, 1, before[0], kind in _FINAL)
                if entry.ts > self._last_ts:  # type: ignore[union-attr]  # noqa: PLR1730  (a call would cost more)
                    self._last_ts = entry.ts  # type: ignore[union-attr]
                self._fresh.append(entry)
                self._position = length, before[1] + len(data), data
                self._busy = False
                if self._closed is not None:
                    self._close_if_closed()
            except BaseException as exc:  # noqa: BLE001  raised again, or answered with a fork
                return self._failed(exc, before, data, (entry,))
            return length

    def append_entries(self, entries: Iterable[LogEntry]) -> int:
        """Append entries in one write, all or nothing, and return the new length in entries."""
        kept = list(entries)
        lines: list[bytes] = []
        plain, encode, add = _plain, encode_struct, lines.append
        for at, entry in enumerate(kept):
            check = plain(type(entry))
            if check is not None and check(entry):
                try:
                    add(encode(entry))
                    continue
                except UnicodeEncodeError:
                    pass  # lone surrogates: the careful way below
            line, kept[at] = prepare(recordable(entry))
            add(line)
        with self._lock:
            return self._append_many(lines, kept)

    def _append_many(self, lines: list[bytes], entries: list[LogEntry]) -> int:
        if self._busy:
            raise CallerError(
                f"{self._where()}: an append of this thread is under way; do not append in a signal handler"
            )
        if self._guarded or self._batches:
            batch = self._batches.get(current_flow())
            if batch is not None:
                batch.extend(zip(lines, entries, strict=True))
                return self._position[0] + len(batch)
            if self._closed is not None:
                raise WriterClosed(self._where(), self._closed)
        self._settle()
        if not lines:
            return self._position[0]
        kinds = set(map(type, entries))
        plain = len(lines) > 1 and UnknownEntry not in kinds  # raw lines from elsewhere may carry marks of their own
        data = batch_of(lines) if plain else b"\n".join(framed(lines)) + b"\n"
        before = self._position
        try:
            self._busy = True
            length = self._append(data, len(lines), before[0], not kinds.isdisjoint(_FINAL))
            self._advance(length, data, entries)
            self._busy = False
            if self._closed is not None:
                self._close_if_closed()
        except BaseException as exc:  # noqa: BLE001  raised again, or answered with a fork
            return self._failed(exc, before, data, entries)
        return length

    def _advance(self, length: int, data: bytes, entries: Sequence[LogEntry]) -> None:
        """Take into state and position what is on file."""
        self._last_ts = max(self._last_ts, *map(ts_of, entries))
        self._fresh[self._position[0] - self._fresh_from :] = entries  # (a slice: an interrupt, and it is done again)
        self._position = length, self._position[1] + len(data), data

    def _failed(
        self, exc: BaseException, before: tuple[int, int, bytes], data: bytes, entries: Sequence[LogEntry]
    ) -> int:
        """Go on in a fork if that is what the error asks for; else raise it, with position and state as they were.

        Whether the lines are on file is certain after an error of ours. After an interrupt it is found out later.
        """
        self._position = before
        self._busy = False
        self._close_if_closed()
        del self._fresh[before[0] - self._fresh_from :]
        if isinstance(exc, (HeadMoved, SegmentBusy)) and self._on_conflict == "fork":
            return self._fork_here(data, entries)
        if isinstance(exc, AppendUnknown):
            self._close("an append had an unknown outcome")
        elif not isinstance(exc, SessionLogError):
            self._doubt = data, entries
            self._guarded = True
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
        start = self._position[0]
        lines = data[:-1].split(b"\n")
        if list(self._store.read(self._session_id, self._segment_id, start, start + len(lines))) == lines:
            self._advance(start + len(lines), data, recorded)
        self._doubt = None
        self._guard()

    def _guard(self) -> None:
        """Have appends take the careful way while there is a reason to."""
        self._guarded = self._doubt is not None or self._moving is not None or self._closed is not None

    # ── go on elsewhere ────────────────────────────────────────────────────────────────────────────────────────────

    def _fork_here(self, data: bytes, entries: Sequence[LogEntry]) -> int:
        """Go on in a fork from exactly what this writer has recorded, with ``data`` in it from the beginning."""
        fold = self._folded()
        lines = data[:-1].split(b"\n") if data else []
        length, byte_offset, tail = self._position
        if self._depth > MAX_FORK_DEPTH:  # too long a chain to refer to: the fork stands alone, the chain begins anew
            child = fork_from(self._store, self._session_id, self._segment_id, length, copy_history=True, anywhere=True)
            self._go_on_in(child, depth=1)
            return self._append_many([unmarked(line) for line in lines], list(entries))
        try:
            refuse_rewritten(self._store, self._session_id, self._segment_id, self._position)
        except CorruptSegment as exc:
            self._close(exc.reason)
            raise
        origin = SegmentOrigin(self._segment_id, fold.turn_count, length, byte_offset, tail_hash(last_line_of(tail)))
        made = create_child(
            self._store, self._session_id, origin, fold.system_prompt, fold.config, lines, self._last_ts
        )
        self._guarded, self._moving = True, (made.segment_id, self._depth + 1)
        self._appender.close()  # not before the child is there: on a full disk this writer can try again
        self._segment_id = made.segment_id
        self._depth += 1
        self._stand(1, len(made.line) + 1, made.line + b"\n", made.start.ts)
        fold.extend((made.start,))
        if lines:
            self._advance(1 + len(lines), data, entries)
        self._take_hold()
        self._moving = None
        self._guard()
        return self._position[0]

    def _go_on_in(self, segment_id: str, *, depth: int) -> None:
        """Leave the segment for another one of the session. Interrupted, it is done again before anything else."""
        self._guarded, self._moving = True, (segment_id, depth)
        restored = restore_span(self._store, self._session_id, segment_id)
        self._appender.close()
        self._depth = depth
        self._adopt(restored)
        self._moving = None
        self._guard()
