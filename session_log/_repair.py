"""The only module that makes a file shorter or writes into its middle, and it keeps what it takes away.

Torn bytes go to ``<segment>.torn``, damaged lines to ``<segment>.damage``; both only ever grow.
"""

import contextlib
import os
from collections.abc import Sequence

from session_log._errors import AppendUnknown, StorageError
from session_log._layout import beside, open_file, reported, sync_folder, unavailable

_CHUNK = 1 << 20


def sync(fd: int) -> None:
    """Bring a file's data to the disk: ``fdatasync``, or what the platform has instead."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
        return
    import fcntl

    fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC"))  # noqa: B009  macOS: fsync leaves the data in the drive's cache


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _keep(path: str, pieces: Sequence[bytes], *, durable: bool) -> None:
    fd = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        length = os.lseek(fd, 0, os.SEEK_END)
        try:
            for piece in pieces:
                write_all(fd, piece)
            if durable:
                os.fsync(fd)
                if length == 0:  # new, or made by somebody who died before this
                    sync_folder(os.path.dirname(path))
        except (OSError, StorageError):
            os.ftruncate(fd, length)
            if durable:
                with contextlib.suppress(OSError):  # or the next ones would go into the blocks that were just lost
                    os.fsync(fd)
            raise
    except OSError as exc:
        raise unavailable(path, exc) from exc
    finally:
        os.close(fd)


def remove_torn_tail(fd: int, path: str, committed: int, size: int, *, durable: bool) -> None:
    """Cut ``fd`` back to ``committed`` bytes, after saving what follows to ``<segment>.torn``. The lock is held.

    Raises:
        StoreUnavailable: the bytes could not be saved; the file is as it was.
    """
    torn = [os.pread(fd, min(_CHUNK, size - at), at) for at in range(committed, size, _CHUNK)]
    newline = [] if torn and torn[-1].endswith(b"\n") else [b"\n"]
    _keep(beside(path, ".torn"), [*torn, *newline], durable=durable)
    try:
        os.ftruncate(fd, committed)
        if durable:
            try:
                sync(fd)
            except OSError:  # nobody may write there as long as the old bytes might come back
                for piece in torn:
                    write_all(fd, piece)
                raise
    except OSError as exc:
        raise unavailable(path, exc) from exc


def take_back(fd: int, path: str, length: int) -> None:
    """Cut a write that failed, or was cut short, off again; those bytes were acknowledged to nobody.

    Raises:
        AppendUnknown: even that failed.
    """
    try:
        if os.lseek(fd, 0, os.SEEK_END) != length:  # a full btrfs has no room to cut off nothing
            os.ftruncate(fd, length)
    except OSError as exc:
        raise AppendUnknown(path, f"a write failed, and taking it back failed too ({exc.strerror})") from exc


def put_anew(fd: int, path: str, length: int) -> None:
    """After a failed sync, put the first ``length`` bytes into a new file in place of this one. The lock is held.

    A failed sync loses the data, though the page cache still shows it; the next sync says OK, and what is written into
    the same blocks later is lost with them. In a new file all of it is written again, and of the old one nothing is
    taken that is on the disk. A blank is left at its end: other writers see that, look at the path, and go on there.

    Raises:
        OSError, StorageError: the disk fails again; the old file is in its place, cut to ``length``.
    """
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    try:
        new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for at in range(0, length, _CHUNK):
                write_all(new, os.pread(fd, min(_CHUNK, length - at), at))
            os.fsync(new)
        finally:
            os.close(new)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        os.ftruncate(fd, length)
        raise
    os.ftruncate(fd, length)
    os.write(fd, b" ")
    sync_folder(folder)


def blank_lines(fd: int, path: str, spans: Sequence[tuple[int, int]]) -> None:
    """Overwrite damaged lines (offset, length without newline) with spaces, after saving them to ``<segment>.damage``.

    Offsets, line numbers and the references of children stay right. ``fd`` is not in append mode; the lock is held, and
    the caller syncs.
    """
    pieces = []
    with reported(path):
        for offset, length in spans:
            pieces.append(b"# byte %d, %d bytes\n" % (offset, length))
            pieces.append(os.pread(fd, length, offset) + b"\n")
    _keep(beside(path, ".damage"), pieces, durable=True)
    with reported(path):
        for offset, length in spans:
            end = offset + length
            while offset < end:
                offset += os.pwrite(fd, b" " * (end - offset), offset)  # noqa: PLW2901
