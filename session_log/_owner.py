"""Who holds a segment exclusively: a note beside it, which counts only while the lock is held.

The kernel frees the lock when its owner dies; the note stays. So a note is believed only if the process it names lives
(the same process id *and* the same start time, where the system tells one).
"""

import contextlib
import os
import stat

import msgspec

from session_log._layout import beside

_MAX_PID = 1 << 22
"""The greatest process id there is: Linux has 4,194,304, others less."""


class Owner(msgspec.Struct, frozen=True):
    """The process that holds a segment."""

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _started(pid: int) -> str:
    """When a process started, in a form that differs for a reused process id; empty where that cannot be known."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # (open() is gone when the interpreter ends)
        try:
            return os.read(fd, 4096).rpartition(b")")[2].split()[19].decode()
        finally:
            os.close(fd)
    except (OSError, IndexError):
        return ""


def note_path(segment_path: str) -> str:
    """Return where the note of a segment is."""
    return beside(segment_path, ".owner")


def leave_note(segment_path: str) -> None:
    """Write down that this process holds the segment. Without the note, others wait longer before they say busy."""
    owner = Owner(os.getpid(), os.uname().nodename, _started(os.getpid()))
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        fd = os.open(note_path(segment_path), flags, 0o600)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.ftruncate(fd, 0)
                note = msgspec.json.encode(owner) + b"\n"
                try:
                    whole = os.write(fd, note) == len(note)
                except OSError:
                    whole = False
                if not whole:  # no room: half a note would say nothing, and be nobody's to take away
                    os.unlink(note_path(segment_path))
        finally:
            os.close(fd)


def remove_note(segment_path: str) -> None:
    """Take our note away; what somebody else put in its place is left alone."""
    owner = _read_note(segment_path)
    if owner is not None and owner.pid == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(note_path(segment_path))


def _read_note(segment_path: str) -> Owner | None:
    try:
        fd = os.open(note_path(segment_path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return msgspec.json.decode(os.read(fd, 4096), type=Owner)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        os.close(fd)


def living_owner(segment_path: str) -> Owner | None:
    """Return the owner noted beside a segment, if that process lives on this machine."""
    owner = _read_note(segment_path)
    if owner is None or owner.host != os.uname().nodename or not 0 < owner.pid <= _MAX_PID:
        return None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, and is somebody else's
    started = _started(owner.pid)
    return owner if started == owner.started or not started else None
