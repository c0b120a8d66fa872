"""The recorder: where a writer stands in its segment, and how it gets an entry behind that.

It appends only where it believes the segment ends. If somebody else wrote meanwhile, it goes on in a fork from
exactly what it had recorded (or raises, if so asked), so nothing of either is lost. What an append raised is not in
the state; what is in the state is on file.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from session_log._appender import StoreAppender
from session_log._at_fork import renew_after_fork
from session_log._check import PLAIN
from session_log._codec import encode_struct, encode_with_newlines, prepare
from session_log._entries import LogEntry, RunCompleted, RunErrored, SegmentOrigin, TurnEnd, UnknownEntry
from session_log._errors import (
    AppendUnknown,
    CallerError,
    CorruptSegment,
    HeadMoved,
    SegmentBusy,
    SessionLogError,
    StoreUnavailable,
    WriterClosed,
)
from session_log._flow import current_flow
from session_log._forking import create_child, fork_from, refuse_rewritten
from session_log._frame import MAX_LINE_BYTES, batch_of, framed, unmarked
from session_log._held_file import EXCLUSIVE, UNLOCK
from session_log._lineage import Restored, restore_span
from session_log._recorded import Recorded
from session_log._recording import recordable
from session_log._segment_file import UNTOUCHED_S, SegmentFile
from session_log._state import Head, RestoredState
from session_log._store import Appender, AppenderSource, Store
from session_log._tree import MAX_FORK_DEPTH, tail_hash

OnConflict = Literal["fork", "raise"]
_FINAL: Final[frozenset[type]] = frozenset((TurnEnd, RunCompleted, RunErrored))
_flock, _lseek, _write, _monotonic = fcntl.flock, os.lseek, os.write, time.monotonic


def quick_checks(file: SegmentFile | None) -> Mapping[type, Callable[[Any], bool]]:
    """Return how to tell that an entry may go the quick way: none that is to be synced, none without a file."""
    if file is None or file.durability == "power":
        return {}
    return PLAIN if file.durability == "process" else {kind: PLAIN[kind] for kind in PLAIN.keys() - _FINAL}


def release_if_owned(lock: "threading.RLock") -> None:
    """Release a lock, if this thread has it."""
    with contextlib.suppress(RuntimeError):
        lock.release()


class Recorder(Recorded):
    """Position and state of one writer, and appends behind it. Safe for threads; each method takes the lock."""

    def __init__(
        self, store: Store, restored: Restored, *, on_conflict: OnConflict, exclusive: bool, depth: int
    ) -> None:
        self._on_conflict = on_conflict
        self._exclusive = exclusive
        self._lock = threading.RLock()
        self._batches: dict[tuple[int, int], list[tuple[bytes, LogEntry]]] = {}
        self._closed: str | None = None
        self._guarded = False  # closed, collecting a batch, or an append in doubt: append takes the careful way
        self._busy = False
        self._doubt: tuple[bytes, Sequence[LogEntry]] | None = None  # interrupted before it was known
        self._moving: tuple[str, int] | None = None  # on the way into another segment
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
        self._append = getattr(grip, "append_alone", grip.append)  # the lock of this object keeps other threads off
        self._file = grip if isinstance(grip, SegmentFile) else None
        self._quick = quick_checks(self._file).get
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
        # The quick way: what append_entries and SegmentFile do, step by step in one function, while nothing is unusual.
        now = _monotonic()
        check_of = self._quick
        check = check_of(type(entry))
        if check is None or not check(entry):
            return self.append_entries((entry,))
        try:
            data = encode_with_newlines((entry,))
        except UnicodeEncodeError:
            return self.append_entries((entry,))
        lock = self._lock
        locked, written = False, -1
        try:
            lock.acquire()  # (a with statement would cost twice as much)
            locked = True
            file, position, length = self._file, self._position, len(data)
            if self._guarded or self._busy or length > MAX_LINE_BYTES:
                return self._append_many([data[:-1]], [entry])
            if file is None or now > file.trusted_until or now > file.look_again:
                return self._put(data, [entry], type(entry) in _FINAL)
            entries, size = position
            fd, held = file.fd, file.held
            try:
                self._busy = True
                if not held:
                    _flock(fd, EXCLUSIVE)
                if _lseek(fd, 0, 2) != size:
                    raise BlockingIOError
                written = 0
                written = _write(fd, data)
                if written != length:
                    raise StoreUnavailable(file.path, f"only {written} of {length} bytes could be written")
                self._fresh.append(entry)
                file.trusted_until = _monotonic() + UNTOUCHED_S
                if not held:
                    _flock(fd, UNLOCK)
                entries += 1  # from here on nothing is called: no signal comes between
                file.position = self._position = entries, size + length
                self._tail = data
                self._busy = False
                if self._closed is not None:
                    self._close_if_closed()
            except BaseException as exc:  # noqa: BLE001  raised again, or answered with a fork
                return self._stopped(exc, position, data, entry, written)
            return entries
        finally:
            if locked:
                lock.release()
            else:  # interrupted, while it waited or just behind that
                release_if_owned(lock)

    def _stopped(self, exc: BaseException, before: tuple[int, int], data: bytes, entry: LogEntry, written: int) -> int:
        """Answer whatever stopped the quick way as the careful way would; ``written``: -1 before it came to that."""
        file = self._file
        assert file is not None
        if isinstance(exc, OSError) and written == len(data):  # it is on file, and closing frees the lock as well
            file.position = before[0] + 1, before[1] + written
            file.release()
            self._advance(before[0] + 1, data, (entry,))
            self._busy = False
            self._close_if_closed()
            return self._position[0]
        if isinstance(exc, OSError) and written < 0:
            file.stopped(before, exc, writing=False)
            self._busy = False  # others are at it, or something is wrong with the file: the careful way finds out
            return self._put(data, [entry], type(entry) in _FINAL)
        tail = self._tail
        try:
            file.stopped(before, exc, writing=0 <= written < len(data))
        except SessionLogError as later:
            return self._failed(later, before, tail, data, (entry,))
        return self._failed(exc, before, tail, data, (entry,))

    def append_entries(self, entries: Iterable[LogEntry]) -> int:
        """Append entries in one write, all or nothing, and return the new length in entries."""
        kept = list(entries)
        checks = PLAIN.get
        for entry in kept:
            check = checks(type(entry))
            if check is None or not check(entry):
                break
        else:
            try:
                lines = [*map(encode_struct, kept)]
            except UnicodeEncodeError:  # lone surrogates
                return self._append_carefully(kept)
            with self._lock:
                return self._append_many(lines, kept)
        return self._append_carefully(kept)

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
            batch = self._batches.get(current_flow())
            if batch is not None:
                batch.extend(zip(lines, entries, strict=True))
                return self._position[0] + len(batch)
            if self._closed is not None:
                raise WriterClosed(self._where(), self._closed)
        if self._guarded:
            self._settle()
        if not lines:
            return self._position[0]
        if len(lines) == 1 or UnknownEntry in map(type, entries):  # raw lines may carry marks of their own
            data = b"\n".join(framed(lines)) + b"\n"
        else:
            data = batch_of(lines)
        return self._put(data, entries, not _FINAL.isdisjoint(map(type, entries)))

    def _put(self, data: bytes, entries: Sequence[LogEntry], final: bool) -> int:
        """Append lines as they are; ``final``: they end a turn or run."""
        before, tail = self._position, self._tail
        try:
            self._busy = True
            length = self._append(data, len(entries), before[0], final)
            self._advance(length, data, entries)
            self._busy = False
            if self._closed is not None:
                self._close_if_closed()
        except BaseException as exc:  # noqa: BLE001  raised again, or answered with a fork
            return self._failed(exc, before, tail, data, entries)
        return length

    def _failed(
        self, exc: BaseException, before: tuple[int, int], tail: bytes, data: bytes, entries: Sequence[LogEntry]
    ) -> int:
        """Go on in a fork if that is what the error asks for; else raise it, with position and state as they were.

        Whether the lines are on file is certain after an error of ours. After an interrupt it is found out later.
        """
        self._busy = False
        self._close_if_closed()
        self._retreat(before, tail)
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
        reasons = (self._doubt, self._moving, self._closed)
        self._guarded = bool(self._batches) or any(reason is not None for reason in reasons)

    # ── go on elsewhere ────────────────────────────────────────────────────────────────────────────────────────────

    def _fork_here(self, data: bytes, entries: Sequence[LogEntry]) -> int:
        """Go on in a fork from exactly what this writer has recorded, with ``data`` in it from the beginning."""
        fold = self._folded()
        lines = data[:-1].split(b"\n") if data else []
        length, byte_offset = self._position
        if self._depth > MAX_FORK_DEPTH:  # too long a chain to refer to: the fork stands alone, the chain begins anew
            child = fork_from(self._store, self._session_id, self._segment_id, length, copy_history=True, anywhere=True)
            self._go_on_in(child, depth=1)
            return self._append_many([unmarked(line) for line in lines], list(entries))
        try:
            refuse_rewritten(self._store, self._session_id, self._segment_id, self._position, self._tail)
        except CorruptSegment as exc:
            self._close(exc.reason)
            raise
        origin = SegmentOrigin(self._segment_id, fold.turn_count, length, byte_offset, tail_hash(self._last_line()))
        made = create_child(
            self._store, self._session_id, origin, fold.system_prompt, fold.config, lines, self._last_ts()
        )
        self._guarded, self._moving = True, (made.segment_id, self._depth + 1)
        self._appender.close()  # not before the child is there: on a full disk this writer can try again
        self._segment_id = made.segment_id
        self._depth += 1
        self._stand((1, len(made.line) + 1), made.line + b"\n", made.start.ts)
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
        self._stand_behind(restored)
        self._take_hold()
        self._moving = None
        self._guard()
