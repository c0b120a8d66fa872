"""The files that a store keeps open for appending: the last used ones, each with a descriptor of its own."""

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from session_log._at_fork import renew_after_fork
from session_log._errors import CallerError, StoreUnavailable, WriterClosed
from session_log._feed_file import FeedFile, RunEnds
from session_log._file_reader import FileReader
from session_log._segment_file import SegmentFile

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package

MAX_OPEN_FILES: Final = 64
"""Segments kept open for appending; the least recently used is closed. With their traces, half of macOS's 256."""
Key = tuple[str, str]
Result = TypeVar("Result")
_RETRIES: Final = 64
"""How often an append begins anew because another thread's failed sync closed the descriptor that they share."""


class OpenFiles(FileReader):
    """A reader of files that can append to them as well. Safe for threads; renewed after ``os.fork``."""

    def __init__(self, root: "Path", *, durability: str, feed: bool) -> None:
        super().__init__(root)
        self._durability = durability
        self._files: OrderedDict[Key, SegmentFile] = OrderedDict()
        self._traces: OrderedDict[Key, SegmentFile] = OrderedDict()
        self._lock = threading.RLock()
        self.feed: FeedFile | None = FeedFile(self._root) if feed else None
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def _with_file(
        self, files: "OrderedDict[Key, SegmentFile]", key: Key, attempt: Callable[[SegmentFile], Result]
    ) -> Result:
        """Append through a cached descriptor; after an error it is dropped, and the next append looks anew."""
        for again in range(_RETRIES, -1, -1):
            file = self._file(files, key)
            try:
                return attempt(file)
            except WriterClosed:  # by a failed sync of another thread; nothing was written here
                self._forget(files, key, file)
                if not again:
                    raise
            except CallerError:
                raise
            except StoreUnavailable as exc:
                self._forget(files, key, file)
                if not again or not self._spare_descriptors(exc):
                    raise
            except BaseException:
                self._forget(files, key, file)
                raise
        raise AssertionError("the last attempt returns or raises")

    def _file(self, files: "OrderedDict[Key, SegmentFile]", key: Key) -> SegmentFile:
        with self._lock:
            file = files.get(key)
            if file is not None:
                try:
                    files.move_to_end(key)
                except KeyError:  # a signal handler may have closed the store
                    pass
                return file
            if files is self._traces:
                file = SegmentFile(self._trace_path(*key), durability="process", create=True)
            else:
                file = SegmentFile(self._path(*key), durability=self._durability)
                if self.feed is not None:
                    announced(file, self.feed, key)
            files[key] = file
            while len(files) > MAX_OPEN_FILES:
                files.popitem(last=False)[1].release()
            return file

    def _last_known(self, key: Key) -> tuple[int, int, int] | None:
        file = self._files.get(key)
        written = file.known() if file is not None else None
        counted = super()._last_known(key)
        if written is None or counted is None:
            return written or counted
        return max(written, counted, key=lambda known: known[2])

    def _spare_descriptors(self, exc: StoreUnavailable) -> bool:
        if getattr(exc.__cause__, "errno", None) not in (errno.EMFILE, errno.ENFILE):
            return False
        with self._lock:
            kept = [*self._files.values(), *self._traces.values()]
            for file in kept:
                file.release()
        return bool(kept)

    def _forget(self, files: "OrderedDict[Key, SegmentFile]", key: Key, file: SegmentFile) -> None:
        """Drop a descriptor after an error: the next append opens and looks anew."""
        with self._lock:
            if files.get(key) is file:
                del files[key]
        file.release()

    def _release_session(self, session_id: str) -> None:
        """Close what is open of a session."""
        with self._lock:
            for files in (self._files, self._traces):
                for key in [key for key in files if key[0] == session_id]:
                    files.pop(key).release()

    def close(self) -> None:
        """Close every descriptor. Idempotent; a later append opens them again."""
        with self._lock:
            for files in (self._files, self._traces):
                while files:
                    files.popitem()[1].release()
        if self.feed is not None:
            self.feed.close()


def announced(file: SegmentFile, feed: FeedFile, key: Key) -> SegmentFile:
    """Have the ends of runs announced before they are appended."""
    file.announce, file.in_turns = RunEnds(feed, *key), True
    return file
