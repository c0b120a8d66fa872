"""Where things are: paths below a root, and opening them safely.

Ids in paths are parsed UUIDs, re-printed. Folders are 0700, files 0600. No symlink is followed below the root: a
session folder and every file in it are opened with ``O_NOFOLLOW``.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from session_log._errors import InvalidId, NotFound, StoreUnavailable, UnsafePath
from session_log._ids import parse_id

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package


SEGMENT_SUFFIX = ".jsonl"
TRACE_SUFFIX = ".trace.jsonl"
_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
CANNOT_SYNC_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What network file systems say that have no such operation."""
_NOT_A_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EMLINK)


def default_root() -> "Path":
    """Return ``SESSION_LOG_ROOT``, or the user's data folder as the platform has it."""
    from pathlib import Path

    if root := os.environ.get("SESSION_LOG_ROOT"):
        return Path(root)
    import platformdirs  # here, because importing it costs more than the whole of this package

    return platformdirs.user_data_path("session-log") / "sessions"


def segment_name(segment_id: str) -> str:
    """Return the file name of a segment."""
    return segment_id + SEGMENT_SUFFIX


def trace_name(segment_id: str) -> str:
    """Return the file name of a segment's trace."""
    return segment_id + TRACE_SUFFIX


def beside(path: str, suffix: str) -> str:
    """Return the path of a file that accompanies a segment: ``<segment id>.torn`` for ``<segment id>.jsonl``."""
    return path.removesuffix(SEGMENT_SUFFIX) + suffix


def as_id(name: str) -> str | None:
    """Return ``name`` if it is a canonical id, else None: other names are none of ours."""
    try:
        return name if parse_id(name) == name else None
    except InvalidId:
        return None


def unavailable(path: str, exc: OSError) -> StoreUnavailable:
    """Return the error for a system call that failed and left nothing behind."""
    return StoreUnavailable(path, f"{exc.strerror or exc} (errno {errno.errorcode.get(exc.errno or 0, exc.errno)})")


@contextmanager
def reported(path: str) -> Iterator[None]:
    """Turn what a system call raises inside into StoreUnavailable."""
    try:
        yield
    except OSError as exc:
        raise unavailable(path, exc) from exc


def open_folder(path: str) -> int:
    """Return a descriptor of the folder at ``path``.

    Raises:
        NotFound: it is not there.
        UnsafePath: it is a symlink or no folder.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
    except FileNotFoundError:
        raise NotFound(path, "no such session") from None
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            raise UnsafePath(path, "is a symlink or no folder") from None
        raise unavailable(path, exc) from exc


@contextmanager
def folder(path: str) -> Iterator[int]:
    """Keep a folder open for a while."""
    fd = open_folder(path)
    try:
        yield fd
    finally:
        os.close(fd)


def open_file(path: str, flags: int) -> int:
    """Return a descriptor of the plain file at ``path``; its folder is opened without following a symlink, either.

    Raises:
        NotFound: it is not there.
        UnsafePath: it is a symlink, FIFO, device or folder.
        StoreUnavailable: permission, descriptor limit, or the like.
    """
    parent, name = os.path.split(path)
    fd = -1
    try:
        with folder(parent) as parent_fd:
            try:
                # O_NONBLOCK: opening a FIFO must not hang; it has no effect on plain files
                fd = os.open(name, flags | _NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=parent_fd)
            except FileNotFoundError:
                raise NotFound(path, "no such segment") from None
            except OSError as exc:
                if exc.errno in _NOT_A_FILE:
                    raise UnsafePath(path, "is a symlink, folder or device where a plain file belongs") from None
                raise unavailable(path, exc) from exc
        with reported(path):
            plain = stat.S_ISREG(os.fstat(fd).st_mode)
        if not plain:
            raise UnsafePath(path, "is a FIFO or device where a plain file belongs")
    except BaseException:  # an interrupt, too
        if fd >= 0:
            os.close(fd)
        raise
    return fd


def make_folder(path: str, *, durable: bool) -> bool:
    """Make the folder (0700) and those above it; return whether it is new. Durable: synced into its parent.

    Raises:
        UnsafePath: a symlink or file is in its place.
        StoreUnavailable: it cannot be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        with reported(path):
            plain = stat.S_ISDIR(os.lstat(path).st_mode)
        if not plain:
            raise UnsafePath(path, "is a symlink or file where a folder belongs") from None
        return False
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent == path:
            raise
        make_parents(parent, durable=durable)
        return make_folder(path, durable=durable)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    if durable:
        sync_folder(os.path.dirname(path))
    return True


def is_folder(path: str) -> bool:
    """Tell whether a folder, and no symlink to one, is there."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def is_there(path: str) -> bool:
    """Tell whether a plain file is there; what cannot be looked at is taken for one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _leads_to_folder(path: str) -> bool:
    """Tell whether there is a folder, or a symlink to one; what cannot be looked at is an error, not a file."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise unavailable(path, exc) from exc


def make_parents(path: str, *, durable: bool) -> None:
    """Make a root folder and those above it; symlinks in the root's own path are the caller's business."""
    if _leads_to_folder(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_parents(parent, durable=durable)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not _leads_to_folder(path):
            raise UnsafePath(path, "is a file where a folder belongs") from None
    except OSError as exc:
        raise unavailable(path, exc) from exc
    if durable:
        sync_folder(parent)


def sync_above(path: str) -> None:
    """Sync every folder above ``path`` on its file system, as far up as they may be opened."""
    folder = os.path.dirname(os.path.abspath(path))
    with reported(path):
        device = os.stat(folder).st_dev
        while os.stat(folder).st_dev == device:
            try:
                sync_folder(folder)
            except StoreUnavailable as exc:
                if not isinstance(exc.__cause__, PermissionError):  # who may not read it has not made it
                    raise
            if folder == (folder := os.path.dirname(folder)):
                return


def sync_folder(path: str) -> None:
    """Sync the entries of a folder to the disk."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno in CANNOT_SYNC_FOLDERS:
            return
        raise unavailable(path, exc) from exc
