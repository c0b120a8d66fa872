"""A file that is appended to under a lock: opening, locking, letting go.

``flock`` excludes other descriptors, in this process and in others; the lock object excludes threads that share one.
POSIX locks would do neither: they exclude nothing inside a process, and vanish when any descriptor of the file closes.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from session_log._at_fork import renew_after_fork
from session_log._errors import CallerError, NotFound, SegmentBusy, WriterClosed
from session_log._layout import open_file, reported, unavailable
from session_log._owner import leave_note, living_owner, remove_note

LOCK_TIMEOUT_S: Final = 10.0
"""How long an append waits for other appends; an append takes microseconds, a sync milliseconds."""
EXCLUSIVE: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
UNLOCK: Final = fcntl.LOCK_UN
_flock, _lstat, _monotonic = fcntl.flock, os.lstat, time.monotonic


class HeldFile:
    """A descriptor that appends, and the lock on its file: for each append, or, if ``exclusive``, all the time.

    ``fd`` is the descriptor, -1 while there is none; ``held`` tells whether the lock is kept between appends. Until the
    monotonic time ``trusted_until`` an append need not look whether the file is still at its path.
    """

    __slots__ = (
        "__weakref__",
        "_broken",
        "_busy",
        "_identity",
        "_lock",
        "_unwanted",
        "create",
        "exclusive",
        "fd",
        "held",
        "path",
        "trusted_until",
    )

    def __init__(self, path: str, *, exclusive: bool, create: bool) -> None:
        self.path = path
        self.exclusive = exclusive
        self.create = create
        self.fd = -1
        self._identity: tuple[int, ...] = (0, 0)
        self.held = False
        self.trusted_until = 0.0
        self._lock = threading.RLock()
        self._busy = self._unwanted = False
        self._broken: str | None = None
        renew_after_fork(self)

    def hold(self) -> None:
        """Take the lock now and keep it until :meth:`close`; look at the file, write nothing.

        Raises:
            SegmentBusy: another writer holds it.
        """
        with self._lock:
            self.exclusive = True
            if self.fd < 0:
                self._open()

    def release(self) -> None:
        """Close the descriptor, which frees the lock; the next append opens it again."""
        with self._lock:
            self._unwanted = self._busy  # a signal handler that closes this object waits for the append to end
            if not self._busy:
                self._release()

    def close(self) -> None:
        """Close the descriptor for good. Idempotent."""
        with self._lock:
            self._broken = self._broken or "it was closed"
            self._unwanted = self._busy
            if not self._busy:
                self._release()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0 and os.close is not None:  # (None: the interpreter is almost gone)
            self._release()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Keep other threads out; refuse a signal handler that interrupted this very thread in here."""
        with self._lock:
            if self._busy:
                raise self._entered_twice()
            try:
                self._busy = True
                yield
            finally:
                self._busy = False
                if self._unwanted:
                    self._release()

    def _entered_twice(self) -> CallerError:
        return CallerError(f"{self.path}: an append of this thread is under way; do not append in a signal handler")

    def _open(self) -> int:
        if self._broken is not None:
            raise WriterClosed(self.path, self._broken)
        flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if self.create else 0)
        fd = open_file(self.path, flags)
        try:
            with reported(self.path):
                self._identity = os.fstat(fd)[1:3]
            self._opened()
            if self.exclusive:
                self._take_lock(fd)
                leave_note(self.path)
                self.held = True
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd
        return fd

    def _take_lock(self, fd: int) -> None:
        try:
            _flock(fd, EXCLUSIVE)
        except OSError as exc:
            self._wait(fd, exc)

    def _wait(self, fd: int, exc: OSError) -> None:
        """Wait for the lock with growing naps; a holder that says it will keep it is busy at once."""
        if not isinstance(exc, BlockingIOError):
            raise unavailable(self.path, exc) from exc
        give_up = _monotonic() + LOCK_TIMEOUT_S
        nap = 50e-6
        while True:
            time.sleep(nap)
            try:
                return _flock(fd, EXCLUSIVE)
            except BlockingIOError:
                owner = living_owner(self.path)
            if owner is not None or _monotonic() > give_up:
                raise SegmentBusy(self.path, str(owner) if owner is not None else None)
            nap = min(nap * 2, 2e-3)

    def _opened(self) -> None:
        """Take note that the file was opened; what was known of it before may be out of date."""

    def _path_identity(self) -> tuple[int, ...]:
        """Return inode and device of what is at the path."""
        try:
            return _lstat(self.path)[1:3]
        except FileNotFoundError:
            raise NotFound(self.path, "it was deleted while it was open for writing") from None
        except OSError as exc:
            raise unavailable(self.path, exc) from exc

    def _release(self) -> None:
        self._unwanted = False
        self.trusted_until = 0.0
        try:
            if self.held:
                remove_note(self.path)
                self.held = False  # not before: interrupted, the note is removed by the next close
                with contextlib.suppress(OSError, ValueError):
                    _flock(self.fd, UNLOCK)  # a child between fork and exec may have the descriptor, too
        finally:  # interrupted or not; with nothing called in between, the descriptor is closed once
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)

    def _after_fork(self) -> None:
        """In the child: the descriptor shares its lock with the parent's, and a thread may have held ours."""
        self._lock = threading.RLock()
        self._busy = self._unwanted = False
        self.trusted_until = 0.0
        fd, self.fd = self.fd, -1
        self.held = False
        if fd >= 0:
            os.close(fd)
