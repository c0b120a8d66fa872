"""One segment file: append to it, safe from threads, processes, failed writes and whoever deletes it.

Rules, in the order of DESIGN section 4:

1. One append is one ``write`` of whole lines on an ``O_APPEND`` descriptor.
2. It happens under ``flock``, on a descriptor of its own, and only if the file ends where the last look left it.
   ``flock`` excludes other descriptors, in this process and in others; the lock object excludes threads that share one.
3. A write that fails or falls short is taken back before the lock is released.
4. A failed sync is taken back too, what was there before is put into a new file, and this object is of no use
   afterwards: reopen.
5. Bytes behind the committed end are somebody's interrupted write. Under the lock nobody is writing, so they are moved
   aside before the next append.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from session_log import _repair
from session_log._committed import committed_end, count_lines
from session_log._errors import (
    AppendUnknown,
    CorruptSegment,
    HeadMoved,
    StorageError,
    StoreUnavailable,
    WriterClosed,
)
from session_log._held_file import EXCLUSIVE, UNLOCK, HeldFile
from session_log._layout import reported, sync_above, unavailable

_CHUNK: Final = 1 << 20
UNTOUCHED_S: Final = 5e-6
"""An append that begins as soon as this after the one before is not stopped for a look whether the file is still at its
path: that would cost a third of it. Who deletes a file within this time loses what is appended in it, too."""
_RECHECK_S: Final = 1e-3
"""Nor is it for longer than this, whatever others do: what goes in meanwhile went in just before the deletion."""
_flock, _lseek, _lstat, _write, _monotonic = fcntl.flock, os.lseek, os.lstat, os.write, time.monotonic


class SegmentFile(HeldFile):
    """A segment file open for appending. Safe for threads; opened at the first append, and again after ``os.fork``.

    ``position`` is (entries, bytes) after the last append or look; ``exclusive`` keeps the lock in between.
    ``announce`` is called with what ends a turn or run, before it is appended; ``in_turns``: it matters what does.
    """

    __slots__ = ("_always", "_final", "announce", "durability", "in_turns", "look_again", "position")

    def __init__(
        self,
        path: str,
        *,
        durability: str,
        position: tuple[int, int] = (0, 0),
        exclusive: bool = False,
        create: bool = False,
    ) -> None:
        super().__init__(path, exclusive=exclusive, create=create)
        self.position = position
        self.durability = durability
        self._always = durability == "power"
        self._final = durability != "process"
        self.look_again = 0.0
        self.announce: Callable[[bytes], None] | None = None
        self.in_turns = durability == "turn"

    def _opened(self) -> None:
        self.trusted_until = 0.0

    def append(self, data: bytes, count: int, expected: int | None = None, final: bool = False) -> int:
        """Append ``count`` lines in one write and return the new length in entries.

        ``data`` ends with a newline; a batch is marked already. ``final`` says that the lines end a turn or run.

        Raises:
            HeadMoved: the segment is not at ``expected`` entries; nothing was written.
            SegmentBusy: another writer holds it exclusively.
            NotFound: it was deleted.
            StoreUnavailable: the write failed and was taken back.
            AppendUnknown: a sync failed; the append was taken back, or, if even that failed, its outcome is unknown.
        """
        return self.append_placed(data, count, expected, final)[0]

    def append_placed(
        self, data: bytes, count: int, expected: int | None = None, final: bool = False
    ) -> tuple[int, int]:
        """Append, and return the new length in entries and in bytes. See :meth:`append`."""
        with self._lock:  # (what ``_entered`` does, for a third of its price)
            if self._busy:
                raise self._entered_twice()
            try:
                self._busy = True
                self.append_alone(data, count, expected, final)
                return self.position
            finally:
                self._busy = False
                if self._unwanted:
                    self._release()

    def append_once(
        self, data: bytes, count: int, expected: int | None, final: bool, already: Callable[[], int | None]
    ) -> int:
        """Append, unless ``already()``, asked under the lock, returns the length behind an earlier, equal append."""
        with self._locked():
            done = already()
            if done is None:
                return self.append_alone(data, count, expected, final)
            if self._always:
                with reported(self.path):
                    _repair.sync(self.fd)  # who wrote it may not have come so far
            return done

    def append_alone(  # noqa: C901, PLR0912  one path, every step of which can fail in its own way
        self, data: bytes, count: int, expected: int | None = None, final: bool = False
    ) -> int:
        """Append, for a caller that keeps all others, signal handlers too, off this object. See :meth:`append`."""
        fd = self.fd
        if fd < 0:
            fd = self._open()
        held = self.held
        try:
            if not held:
                try:
                    _flock(fd, EXCLUSIVE)
                except OSError as exc:
                    self._wait(fd, exc)
            now = _monotonic()
            before = entries, size = self.position
            if _lseek(fd, 0, 2) != size or not self._is_at_its_path(now):
                fd = self._look()
                before = entries, size = self.position
            if expected is not None and expected != entries:
                raise HeadMoved(self.path, expected, entries)
            if final and self.announce is not None:
                self.announce(data)  # not before: what is refused here goes elsewhere, or nowhere
            try:
                written = _write(fd, data)
                if written != len(data):
                    raise StoreUnavailable(self.path, f"only {written} of {len(data)} bytes could be written")
                entries += count
                self.position = entries, size + written
                if self._always or (final and self._final):
                    self._sync(fd, size)
            except BaseException as exc:
                self.undo(before, exc)
                raise
            self.trusted_until = _monotonic() + UNTOUCHED_S
            if not held:
                try:
                    _flock(fd, UNLOCK)
                except OSError:  # what was appended stays appended; closing the descriptor frees the lock, too
                    self._release()
            return entries
        except BaseException as exc:
            if not held:
                try:
                    _flock(self.fd, UNLOCK)
                except (OSError, ValueError):  # closing the descriptor frees it, too; -1: it is closed
                    self._release()
            if isinstance(exc, OSError):
                raise unavailable(self.path, exc) from exc
            raise

    def undo(self, before: tuple[int, int], exc: BaseException) -> None:
        """Take back what an append that failed with ``exc`` may have written; the lock is held.

        Raises:
            StoreUnavailable: ``exc`` was a failed call; what it wrote was taken back.
            AppendUnknown: taking it back failed.
        """
        self.position = before
        if self._broken is None:
            _repair.take_back(self.fd, self.path, before[1])
        if isinstance(exc, OSError):
            raise unavailable(self.path, exc) from exc

    def sync(self) -> None:
        """Bring everything in the file to the disk, and, for a store that does not do so itself, the file's names.

        Raises:
            SegmentBusy: another writer holds it exclusively.
            AppendUnknown: the sync failed; what was not yet durable was written anew.
        """
        with self._locked():
            self._look()  # so that what others wrote behind us is not taken for ours
            self._sync(self.fd, self.position[1])
            if not self._final:
                sync_above(self.path)

    def rescue(self, exc: OSError) -> None:
        """After a sync that failed with ``exc`` on another descriptor, keep everything in a new file.

        Raises:
            SegmentBusy: another writer holds it exclusively.
            AppendUnknown: the disk fails again.
        """
        with self._locked():
            self._look()
            self._put_anew(self.fd, self.position[1], exc)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep threads and processes out for a while."""
        with self._entered():
            fd = self.fd if self.fd >= 0 else self._open()
            try:
                if not self.held:
                    self._take_lock(fd)
                yield
            finally:
                if not self.held:
                    try:  # (in line: an interrupt at the entry of a function would leave it locked)
                        _flock(self.fd, UNLOCK)
                    except (OSError, ValueError):  # closing the descriptor frees it, too; -1: it is closed
                        self._release()

    def known(self) -> tuple[int, int, int] | None:
        """Return inode, entries and bytes after the last append, or None before the first."""
        inode = self._identity[0]
        return (inode, *self.position) if self.fd >= 0 and self.position[0] else None

    # ── the rest happens under the thread lock ─────────────────────────────────────────────────────────────────────

    def _is_at_its_path(self, now: float) -> bool:
        """Tell whether the file, which is sound, is still the one at its path; if it was so just now, it is."""
        if now < self.trusted_until and now < self.look_again:
            return True
        try:
            if self._broken is not None or _lstat(self.path)[1:3] != self._identity:
                return False
        except OSError:
            return False
        self.look_again = now + _RECHECK_S
        return True

    def _look(self) -> int:
        """Find out where the file ends and whether it is still the one at its path; the file lock is held."""
        if self._broken is not None:
            raise WriterClosed(self.path, self._broken)
        while self._path_identity() != self._identity:
            self._reopen()
        fd = self.fd
        try:
            size = _lseek(fd, 0, 2)
            entries, known = self.position
            if size < known:
                lines = count_lines(fd, 0, size)
                reason = f"was cut to {size} bytes by something else; this writer had left {known}"
                raise CorruptSegment(self.path, lines, size, reason)
            if size > known:
                if known and os.pread(fd, 1, known - 1) != b"\n":
                    reason = f"was rewritten by something else; this writer had left {entries} lines in {known} bytes"
                    raise CorruptSegment(self.path, entries, known, reason)
                end = committed_end(fd, size, known)
                self.position = entries + count_lines(fd, known, end), end
                if end == 0 and not self.create:
                    raise CorruptSegment(self.path, 1, 0, "the segment has no committed line")
                if end < size:
                    _repair.remove_torn_tail(fd, self.path, end, size, durable=self._final)
        except OSError as exc:
            raise unavailable(self.path, exc) from exc
        return fd

    def _reopen(self) -> None:
        """Go on in the file that replaced ours, if it begins with the same bytes."""
        entries, size = self.position
        ours, self.fd = self.fd, -1
        try:
            if self.held:
                self.held = False
            self._open()
            if not self.held:
                self._take_lock(self.fd)
            same = all(
                os.pread(ours, min(_CHUNK, size - at), at) == os.pread(self.fd, min(_CHUNK, size - at), at)
                for at in range(0, size, _CHUNK)
            )
        finally:
            os.close(ours)
        if not same:
            self._broken = f"was replaced by another file; this writer had left {entries} lines in {size} bytes"
            raise CorruptSegment(self.path, entries, size, self._broken)

    def _sync(self, fd: int, unit: int) -> None:
        try:
            _repair.sync(fd)
        except OSError as exc:
            self._put_anew(fd, unit, exc)
            raise AppendUnknown(self.path, str(self._broken)) from exc

    def _put_anew(self, fd: int, unit: int, exc: OSError) -> None:
        """After a failed sync, keep the first ``unit`` bytes in a new file; this object is of no use any more."""
        self._broken = f"a sync failed ({exc.strerror}); the append was taken back"
        self.trusted_until = 0.0
        try:
            _repair.put_anew(fd, self.path, unit)
        except (OSError, StorageError) as later:
            self._broken = f"a sync failed ({exc.strerror}), and taking the append back failed too ({later})"
            raise AppendUnknown(self.path, self._broken) from later
