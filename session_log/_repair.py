"""The only module that makes a file shorter or writes into its middle, and it keeps what it takes away.

Torn bytes go to ``<segment>.torn``, damaged lines to ``<segment>.damage``; both only ever grow.
"""

import os
from collections.abc import Sequence

from session_log._errors import AppendUnknown, StorageError
from session_log._layout import beside, open_file, sync_folder, unavailable

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
    if torn and not torn[-1].endswith(b"\n"):
        torn.append(b"\n")
    _keep(beside(path, ".torn"), torn, durable=durable)
    try:
        os.ftruncate(fd, committed)
        if durable:
            sync(fd)
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


def take_back_unsynced(fd: int, path: str, durable: int, unit: int) -> None:
    """After a failed sync, drop the unit that begins at ``unit`` and put the bytes before it on the disk anew.

    A failed sync loses the data, and the next sync says OK: only pages written again are written at all. So the file is
    cut back to its last durable length, and the bytes between, which were acknowledged to this or other processes
    without a sync, are written behind it again. They are saved to ``<segment>.torn`` first: a crash in between may cost
    them their place, never their existence.
    """
    between = b"".join(os.pread(fd, min(_CHUNK, unit - at), at) for at in range(durable, unit, _CHUNK))
    if between:
        _keep(beside(path, ".torn"), [between], durable=True)
    os.ftruncate(fd, durable)
    try:
        sync(fd)
    finally:  # a disk that fails again must not cost what was acknowledged its place in the file
        if between:
            write_all(fd, between)
    sync(fd)


def blank_lines(fd: int, path: str, spans: Sequence[tuple[int, int]]) -> None:
    """Overwrite damaged lines (offset, length without newline) with spaces, after saving them to ``<segment>.damage``.

    Offsets, line numbers and the references of children stay right. ``fd`` is not in append mode; the lock is held.
    """
    pieces = []
    for offset, length in spans:
        pieces.append(b"# byte %d, %d bytes\n" % (offset, length))
        pieces.append(os.pread(fd, length, offset) + b"\n")
    _keep(beside(path, ".damage"), pieces, durable=True)
    try:
        for offset, length in spans:
            os.pwrite(fd, b" " * length, offset)
        os.fsync(fd)
    except OSError as exc:
        raise unavailable(path, exc) from exc
