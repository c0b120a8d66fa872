"""Small files that are replaced whole: a reader sees the old one or the new one, never a part.

A new file is written under a temporary name of its own, synced, moved over the old one, and the folder synced. A crash
leaves the old file or the new one, and at most a temporary file, which no listing shows. Everything happens relative to
the descriptor of an open folder, so that no symlink below the root is followed, not even one put there meanwhile.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from session_log._at_fork import parent_locks
from session_log._errors import AppendUnknown, SessionLogError
from session_log._folder_lock import folder_lock
from session_log._layout import CANNOT_SYNC_FOLDERS, sync_above
from session_log._plain import PLAIN, reported, unsafe

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package


TEMPORARY_PREFIX = ".tmp-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _sync_folder(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in CANNOT_SYNC_FOLDERS:  # some network file systems have no such operation
            raise


_settled: set[str] = set()
"""Roots that this process has synced into the folders above: who made them may not have done so."""


def _make_root(root: "Path", *, durable: bool) -> None:
    """Make ``root`` and the folders above it that are missing; durable: each synced into the one above."""
    missing = []
    at = root
    while not at.exists():
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    if durable and (missing or str(root) not in _settled):
        sync_above(str(root))
        _settled.add(str(root))


class Folder:
    """An open folder; a context manager that closes it. Names are single path components.

    All of it raises as :func:`reported` says: NotFound, UnsafePath, StoreUnavailable.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: "Path") -> None:
        self.path = path
        self._fd = -1

    @classmethod
    def open(cls, root: "Path", *below: str) -> "Folder":
        """Open ``root/*below``. ``root`` may be reached through symlinks; nothing below it may."""
        with reported(root):
            folder = cls(root)
            folder._fd = os.open(root, _FOLDER)  # (an interrupt between opening and a call would leave it open)
        for name in below:
            folder = folder._enter(name)
        return folder

    @classmethod
    def make(cls, root: "Path", *below: str, durable: bool = True) -> "Folder":
        """Open ``root/*below`` and make what is missing, for the owner only (0700).

        With ``durable``, each folder is synced into the one above even if it existed: who made it may have died
        before doing so.
        """
        with reported(root):
            _make_root(root, durable=durable)
            folder = cls(root)
            folder._fd = os.open(root, _FOLDER)  # (an interrupt between opening and a call would leave it open)
        for name in below:
            try:
                with reported(folder.path / name):
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=folder._fd)
                    if durable:
                        _sync_folder(folder._fd)
            except SessionLogError:
                folder.close()
                raise
            folder = folder._enter(name)
        return folder

    def _enter(self, name: str) -> "Folder":
        below = Folder(self.path / name)
        with self, reported(below.path):
            below._fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._fd)
        return below

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                parent_locks.discard(fd)
            finally:
                os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0 and os.close is not None:  # (None: the interpreter is almost gone)
            self.close()

    def names(self) -> list[str]:
        """Return the names of the plain files, unordered, temporary ones included."""
        with reported(self.path), os.scandir(self._fd) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]

    def holds(self, name: str) -> bool:
        """Tell whether anything of this name is there."""
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return False  # what cannot be looked at is met by whoever opens it
        return True

    def read(self, name: str, *, max_bytes: int | None = None) -> bytes:
        """Return the content of a plain file; of one over ``max_bytes``, the first ``max_bytes + 1``."""
        with self.opened(name) as fd:
            size = os.fstat(fd).st_size
            wanted = (size if max_bytes is None else min(size, max_bytes)) + 1
            chunks = []
            while wanted > 0 and (chunk := os.read(fd, wanted)):
                chunks.append(chunk)
                wanted -= len(chunk)
            return b"".join(chunks)

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Put ``data`` in place of the file ``name``, or make it (0600). If this raises, the old file stands.

        Raises:
            AppendUnknown: but for this: the new file is in place, and may not be after a power cut.
        """
        with reported(self.path / name), self.temporary((data,), durable=durable) as temporary:
            self.move(temporary, self, name, durable=durable)

    @contextlib.contextmanager
    def temporary(self, chunks: Iterable[bytes], *, durable: bool = True) -> Iterator[str]:
        """Write a file under a name of its own, for the block to move or drop; if anything is raised, it is dropped.

        Raises:
            OSError: not in our words: the caller knows what the file was to be.
        """
        name = TEMPORARY_PREFIX + os.urandom(8).hex()
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, 0o600, dir_fd=self._fd)
        try:
            try:
                for chunk in chunks:
                    _write_all(fd, chunk)
                if durable:
                    os.fsync(fd)  # before the move: a name must never stand for bytes that are not on disk
            finally:
                os.close(fd)
            yield name
        except BaseException:
            self.discard(name)
            raise

    def move(self, temporary: str, to: "Folder", name: str, *, durable: bool = True) -> None:
        """Put a temporary file of this folder in place of the file ``name`` of a folder, this one or another.

        Raises:
            AppendUnknown: it is in place, and may not be after a power cut.
        """
        with reported(to.path / name):
            to._refuse_foreign(name)
            os.replace(temporary, name, src_dir_fd=self._fd, dst_dir_fd=to._fd)
        if durable:
            to._settle(name)

    def discard(self, temporary: str) -> None:
        """Remove a temporary file, if it is there and the system lets us."""
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove the file ``name``, for good when this returns; nothing happens if it is not there.

        Raises:
            AppendUnknown: it is gone, but may be back after a power cut.
        """
        with reported(self.path / name):
            self._refuse_foreign(name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)
        self._settle(name)

    def sync(self, name: str) -> None:
        """Make a file that somebody else may have written without a sync survive a power cut.

        Raises:
            AppendUnknown: it may not survive.
        """
        with self.opened(name) as fd:
            os.fsync(fd)
        self._settle(name)

    def _settle(self, name: str) -> None:
        try:
            _sync_folder(self._fd)
        except OSError as exc:
            raise AppendUnknown(str(self.path / name), f"the folder cannot be synced ({exc.strerror})") from exc

    def _refuse_foreign(self, name: str) -> None:
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise unsafe(self.path / name)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """Open a plain file for reading and give its descriptor."""
        path = self.path / name
        with reported(path):
            fd = os.open(name, os.O_RDONLY | PLAIN, dir_fd=self._fd)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise unsafe(path)
                yield fd
            finally:
                os.close(fd)

    def share(self) -> None:
        """Keep whoever collects garbage in this folder (:meth:`claim`) from doing so until it is closed.

        Raises:
            StoreUnavailable: it cannot be locked.
        """
        with reported(self.path):
            parent_locks.add(self._fd)
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def claim(self) -> bool:
        """Keep everybody who shares this folder out until it is closed; False if somebody is in."""
        with reported(self.path):
            parent_locks.add(self._fd)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def stat(self, name: str) -> os.stat_result:
        """Return what the system knows of a name; a symlink is not followed."""
        with reported(self.path / name):
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def drop(self, name: str) -> None:
        """Remove a plain file, if it is there; after a power cut it may be back."""
        with reported(self.path / name):
            self._refuse_foreign(name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)

    def renew(self, name: str) -> None:
        """Give a file the present time.

        Raises:
            NotFound: it is not there.
        """
        with reported(self.path / name):
            os.utime(name, dir_fd=self._fd, follow_symlinks=False)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Exclude every other thread and process that locks this folder, until the block ends or the process dies.

        Raises:
            StoreUnavailable: it cannot be locked; or this thread holds it already and would wait for itself.
        """
        return folder_lock(self._fd, self.path)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
