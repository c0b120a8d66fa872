"""The lock of a folder of small files: who updates them excludes every other thread and process that does.

A ``flock`` on a file of its own, which is left when the lock is freed. The kernel frees it when its holder dies.
"""

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from session_log._errors import StoreUnavailable
from session_log._plain import PLAIN, reported, unsafe

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME = ".lock"
_flock = fcntl.flock
_lock_fds: set[int] = set()


class _Mine(threading.local):
    """The locks of this thread, by device and inode: flock would let it wait for itself for ever."""

    def __init__(self) -> None:
        self.held: set[tuple[int, int]] = set()


_mine = _Mine()


@contextlib.contextmanager
def folder_lock(folder_fd: int, folder: "Path") -> Iterator[None]:
    """Exclude every other thread and process that locks the open folder, until the block ends or the process dies.

    Raises:
        StoreUnavailable: it cannot be locked; or this thread holds it already and would wait for itself.
    """
    fd, identity = -1, (0, 0)
    try:
        with reported(folder / LOCK_NAME):
            fd, identity = _acquire(folder_fd, folder / LOCK_NAME)
        _mine.held.add(identity)
        yield
    finally:  # in line: an interrupt at the entry of a function would leave it locked
        try:
            _mine.held.discard(identity)
        finally:
            if fd in _lock_fds:  # not in a child forked inside the block
                try:
                    with contextlib.suppress(OSError):  # closing frees it, unless a child being forked has a copy
                        _flock(fd, fcntl.LOCK_UN)
                finally:
                    try:
                        _lock_fds.remove(fd)
                    finally:
                        os.close(fd)


def _acquire(folder_fd: int, path: "Path") -> tuple[int, tuple[int, int]]:
    while True:
        fd = os.open(LOCK_NAME, os.O_RDWR | os.O_CREAT | PLAIN, 0o600, dir_fd=folder_fd)
        _lock_fds.add(fd)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise unsafe(path)
            identity = (found.st_dev, found.st_ino)
            if identity in _mine.held:
                raise StoreUnavailable(str(path), "this thread holds it already; write before or after the update")
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever removes a lock file while it is held would let a second writer in: look whether it is ours.
            with contextlib.suppress(FileNotFoundError):
                now = os.stat(LOCK_NAME, dir_fd=folder_fd, follow_symlinks=False)
                if (now.st_dev, now.st_ino) == identity:
                    return fd, identity
        except BaseException:
            _release(fd)
            raise
        _release(fd)


def _release(fd: int) -> None:
    if fd in _lock_fds:  # not in a child forked inside the block
        _lock_fds.discard(fd)
        try:
            with contextlib.suppress(OSError):  # closing frees it, unless a child that is being forked has a copy
                _flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)


def _drop_locks() -> None:
    """Close the copies of the parent's locks, which would otherwise hold them after the parent's death."""
    while _lock_fds:
        os.close(_lock_fds.pop())


os.register_at_fork(after_in_child=_drop_locks)
