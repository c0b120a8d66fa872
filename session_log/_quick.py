"""The quick way of one entry: what Recorder and SegmentFile do, step by step in one function.

It is taken while nothing is unusual: a shape of entry that surely reads back the same, nothing to sync, no batch open,
nobody else at the file, and a look at its path not long ago. Whatever else there is takes the careful way of
:class:`Recorder`, which does the same with a fifth more calls. (2.0 times encoding and writing, instead of 2.5.)
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from session_log._check import PLAIN
from session_log._codec import encode_with_newlines
from session_log._entries import LogEntry, RunCompleted, RunErrored
from session_log._errors import SessionLogError, StoreUnavailable
from session_log._frame import MAX_LINE_BYTES
from session_log._held_file import EXCLUSIVE, UNLOCK
from session_log._recorder import FINAL, Recorder
from session_log._segment_file import UNTOUCHED_S, SegmentFile

_ANNOUNCED: Final[frozenset[type]] = frozenset((RunCompleted, RunErrored))
"""What a store with a feed says in it, too."""
_flock, _lseek, _write, _monotonic = fcntl.flock, os.lseek, os.write, time.monotonic


def quick_checks(file: SegmentFile | None) -> Mapping[type, Callable[[Any], bool]]:
    """Return how to tell that an entry may go the quick way: none that is synced or announced, none without a file."""
    if file is None or file.durability == "power":
        return {}
    if file.durability == "process" and file.announce is None:
        return PLAIN
    slow = _ANNOUNCED if file.durability == "process" else FINAL
    return {kind: PLAIN[kind] for kind in PLAIN.keys() - slow}


def release_if_owned(lock: "threading.RLock") -> None:
    """Release a lock, if this thread has it."""
    with contextlib.suppress(RuntimeError):
        lock.release()


class QuickRecorder(Recorder):
    """A recorder whose ``append`` costs little more than encoding, locking and writing."""

    def _take_hold(self) -> None:
        super()._take_hold()
        self._file = self._appender if isinstance(self._appender, SegmentFile) else None
        self._quick = quick_checks(self._file) if self._shape is None and self._chain is None else {}

    def append(self, entry: LogEntry) -> int:  # noqa: C901, PLR0912  in one function: that is the point
        """Append one entry as it is (its ``ts``, too) and return the new length in entries.

        Raises:
            InvalidEntry, HeadMoved, SegmentBusy, StoreUnavailable, AppendUnknown: see :meth:`Recorder.append`.
        """
        now = _monotonic()
        try:
            if not self._quick[type(entry)](entry):
                return self.append_entries((entry,))
            data = encode_with_newlines([entry])  # (a list: msgspec 0.22 keeps the iterator of anything else for ever)
        except (KeyError, UnicodeEncodeError):
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
                return self._put(data, [entry], type(entry) in FINAL)
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
                # (in line, as the unlocking: an interrupt at the entry of a function must not keep it from being done)
                self._busy, self._guarded, self._doubt = False, True, (data, (entry,))
                try:
                    return self._stopped(exc, position, data, entry, written)
                finally:
                    if not held:
                        with contextlib.suppress(OSError, ValueError):  # -1: closed, which frees the lock
                            _flock(file.fd, UNLOCK)
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
            self._no_doubt()
            self._close_if_closed()
            return self._position[0]
        if isinstance(exc, OSError) and written < 0:
            self._no_doubt()  # others are at it, or something is wrong with the file: the careful way finds out
            return self._put(data, [entry], type(entry) in FINAL)
        if 0 <= written < len(data):
            try:
                file.undo(before, exc)
            except SessionLogError as later:
                exc = later
        return self._failed(exc, before, self._tail, data, (entry,))
