"""Writing the feed: a line in one write, before what it announces; what goes wrong is told once and stops nothing.

No lock keeps writers apart, and none keeps them from the rebuilder, which moves a new feed into the place of theirs:

1. A line is one ``write`` below ``MAX_FEED_LINE_BYTES`` on an ``O_APPEND`` descriptor.
2. Behind each write the number of names of the open file is looked at. If it changed, and the file is not the one at
   the path any more, the line is written again into the one that is.
3. The rebuilder takes over what is in the old file *after* it was replaced. So a line is there or is written again.

Nothing is synced: after a power cut the last lines may be missing.
"""

import os
import stat
import threading
import time
from typing import Final

from session_log import _layout
from session_log._at_fork import renew_after_fork
from session_log._clock import now_ms
from session_log._errors import SessionLogError, StoreUnavailable, UnsafePath
from session_log._feed import GAP, FeedKind, feed_line, header_line, last_run_end, start_kind, ts_of
from session_log._plain import PLAIN
from session_log._whole import create_whole

FEED_NAME: Final = "feed.jsonl"
LOOK_S: Final = 1.0
"""How often it is looked whether the feed is still at its path: for one that is renamed, which (2) does not notice. And
how long after a failure it is not tried again."""
_RETRIES: Final = 100
"""How often a line is written again because the feed was replaced meanwhile; each time, somebody made it anew."""
_write, _fstat, _monotonic = os.write, os.fstat, time.monotonic


def feed_path(root: str) -> str:
    """Return where the feed of a root is."""
    return f"{root}/{FEED_NAME}"


def holds_sessions(root: str) -> bool:
    """Tell whether there is a segment below a root."""
    try:
        with os.scandir(root) as found:
            return any(_holds_segments(entry) for entry in found)
    except FileNotFoundError:
        return False


def _holds_segments(entry: "os.DirEntry[str]") -> bool:
    if _layout.as_id(entry.name) is None or not entry.is_dir(follow_symlinks=False):
        return False
    try:
        names = os.listdir(entry.path)
    except OSError:  # gone meanwhile; or nobody knows what is in it
        return os.path.lexists(entry.path)
    return any(name[36:] == _layout.SEGMENT_SUFFIX and _layout.as_id(name[:36]) for name in names)


def open_feed(root: str) -> int:
    """Return a descriptor that reads and appends; a feed that is not there is made.

    Raises:
        UnsafePath: it is no plain file.
        OSError, StoreUnavailable: as the system says.
    """
    path = feed_path(root)
    flags = os.O_RDWR | os.O_APPEND | PLAIN
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        # Sessions are announced before they are there, so those that are there now are in no feed.
        header = header_line(now_ms(), whole=not holds_sessions(root))
        try:
            create_whole(path, header, durable=False)
        except FileExistsError:  # by another, just now
            pass
        fd = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UnsafePath(path, "is a FIFO or device where a plain file belongs")
    except BaseException:
        os.close(fd)
        raise
    return fd


class FeedFile:
    """The feed of a root, open for appending from the first line on. Safe for threads; its own in a forked child."""

    __slots__ = ("__weakref__", "_fd", "_identity", "_links", "_lock", "_look_at", "_prefix", "_root", "_warned")

    def __init__(self, root: str) -> None:
        self._root = root
        self._fd = -1
        self._identity: tuple[int, ...] = ()
        self._links = 1
        self._prefix = b""  # what has to come before the next line: the end of a torn one, word of a missing one
        self._warned = False
        self._look_at = 0.0
        self._lock = threading.RLock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._shut()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0 and os.close is not None:  # (None: the interpreter is almost gone)
            self._shut()

    def close(self) -> None:
        """Close the descriptor; the next line opens it again."""
        with self._lock:
            self._shut()

    def _shut(self) -> None:
        self._look_at = 0.0
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # ── what is announced ──────────────────────────────────────────────────────────────────────────────────────────

    def announce(self, kind: FeedKind, ts: int, session_id: str, segment_id: str | None = None) -> None:
        """Say what is about to happen to a canonical session."""
        self.write(feed_line(kind, ts, session_id, segment_id))

    def announce_start(self, session_id: str, segment_id: str, first_line: bytes) -> None:
        """Say that a segment with this first line is about to be there."""
        ts = ts_of(first_line)
        self.announce(start_kind(first_line), now_ms() if ts is None else ts, session_id, segment_id)

    def write(self, line: bytes) -> None:
        """Write a line; if that fails, warn, the first time, and go on.

        An interrupt is passed on.
        """
        with self._lock:
            try:
                if _monotonic() >= self._look_at:
                    self._look()
                if self._fd < 0:  # failed a moment ago
                    self._missed()
                    return
                for _ in range(_RETRIES):
                    if self._prefix:
                        self._put(self._prefix)
                        self._prefix = b""
                    self._put(line)
                    if _fstat(self._fd).st_nlink == self._links or not self._look():
                        return
                raise StoreUnavailable(feed_path(self._root), "is replaced again and again")
            except (OSError, SessionLogError) as exc:
                self._failed(exc)

    def _put(self, data: bytes) -> None:
        written = _write(self._fd, data)
        if written != len(data):
            raise StoreUnavailable(feed_path(self._root), f"only {written} of {len(data)} bytes could be written")

    def _look(self) -> bool:
        """Open what is at the path, if that is not open; tell whether it was not."""
        if self._fd >= 0:
            try:
                found = os.lstat(feed_path(self._root))
            except FileNotFoundError:
                found = None
            if found is not None and (found.st_dev, found.st_ino) == self._identity:
                self._links = found.st_nlink or 1
                self._look_at = _monotonic() + LOOK_S
                return False
            self._shut()
        self._fd = fd = open_feed(self._root)
        found = os.fstat(fd)
        self._identity = found.st_dev, found.st_ino
        self._links = found.st_nlink or 1  # 0: replaced just now, which the next write is to notice
        if found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
            self._prefix = b"\n" + self._prefix.lstrip(b"\n")
        self._look_at = _monotonic() + LOOK_S
        return True

    def _failed(self, exc: OSError | SessionLogError) -> None:
        self._shut()  # what is torn is seen when it is opened again
        self._look_at = _monotonic() + LOOK_S
        self._missed()
        if self._warned:
            return
        self._warned = True
        import warnings

        told = f"{feed_path(self._root)}: a change could not be announced ({exc}); sessions are not affected"
        try:
            warnings.warn(f"{told}; once it can be written again, session_log.feed.reindex mends it", RuntimeWarning, 4)
        except RuntimeWarning:  # raised where warnings are errors: the append goes on all the same
            pass

    def _missed(self) -> None:
        self._prefix = GAP % now_ms()


class RunEnds:
    """What one segment announces of the lines that are appended to it: that a run ended."""

    __slots__ = ("_feed", "_ids")

    def __init__(self, feed: FeedFile, session_id: str, segment_id: str) -> None:
        self._feed = feed
        self._ids = b'"session_id":"%b","segment_id":"%b"' % (session_id.encode(), segment_id.encode())

    def __call__(self, data: bytes) -> None:
        """Announce the last run end in lines that are about to be appended, if there is one."""
        at = last_run_end(data)
        if at >= 0:
            ts = ts_of(data, at)
            self._feed.write(b'{"kind":"run_end","ts":%d,%b}\n' % (now_ms() if ts is None else ts, self._ids))
