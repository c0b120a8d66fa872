"""File systems to break: made in a file, mounted, shut down as if the power went, mounted again, gone afterwards.

A volume is there as long as its ``with`` block. The kernel frees the loop device with the last use of it, so that a
volume which is no longer mounted holds nothing, however the block ended. Nobody but this process and those it starts
sees the mounts: they go with the last of them, even after SIGKILL, and no copy of all mounts, as ``unshare --mount``
makes, keeps a file system going that was unmounted here. (One that was shut down would come back shut down.)
"""

import ctypes
import fcntl
import functools
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20
SHUT_DOWN = 0x8004587D
"""``FS_IOC_SHUTDOWN``, that is ``_IOR('X', 125, __u32)`` (Linux, fs/ext4/ext4.h; xfs has it as XFS_IOC_GOINGDOWN)."""
WITHOUT_LOG_FLUSH = 2
"""``EXT4_GOING_FLAGS_NOLOGFLUSH``: what is neither synced nor written back by now is gone, like in a power cut."""
CLONE_NEWNS, MS_REC, MS_SLAVE = 1 << 17, 1 << 14, 1 << 19
"""Of unshare(2) and mount(2)."""
MAKERS = {
    "ext4": ("e2fsprogs", 32 * MIB, ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0")),
    "xfs": ("xfsprogs", 320 * MIB, ("mkfs.xfs", "-q", "-f")),
    "btrfs": ("btrfs-progs", 128 * MIB, ("mkfs.btrfs", "-q", "-f")),
}
"""How to make each kind: the Debian package, a size (xfs wants 300 MiB; the file is sparse), the command."""
_FOR_ALL = ("/usr/sbin", "/sbin")
"""Where the tools of root are, which the PATH of a service may lack."""


class MountFailed(Exception):
    """A tool did not do what it was asked to; the message has its own words."""


@functools.cache
def withdraw() -> None:
    """Give this process mounts of its own, if it is root's; what others mount is still seen."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None):
            raise MountFailed(f"mounts of one's own: {os.strerror(ctypes.get_errno())}")


def tool(*command: str | Path) -> None:
    """Run a command to its end, whoever asks to stop meanwhile.

    Raises:
        MountFailed: it is missing, or said no.
    """
    with undisturbed():
        try:
            done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
        except OSError as exc:
            raise MountFailed(f"{command[0]}: {exc.strerror}") from exc
    if done.returncode:
        raise MountFailed(f"{' '.join(map(str, command))}: {' '.join((done.stderr or done.stdout).split())}")


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOR_ALL)), "LC_ALL": "C"}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM waiting until the end of the block, for this thread and what it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Volume:
    """A file system at ``place``; made and removed by :func:`volume`."""

    def __init__(self, folder: Path, kind: str, options: Sequence[str]) -> None:
        self.kind = kind
        self.place = folder / f"{kind}-mounted"
        self.image = folder / f"{kind}.image" if kind != "tmpfs" else None
        self._options = ("nodev", "nosuid", *options)
        self._mounted = False

    def mount(self) -> None:
        """Mount it; what a shutdown left in its log is recovered by that."""
        loop = ("loop",) if self.image else ()
        with undisturbed():
            tool("mount", "-t", self.kind, "-o", ",".join((*loop, *self._options)), self.image or "none", self.place)
            self._mounted = True

    def unmount(self) -> None:
        """Unmount it, if it is mounted. What still holds it keeps it for itself: nobody else will find it."""
        with undisturbed():
            if self._mounted:
                try:
                    tool("umount", self.place)
                except MountFailed:
                    tool("umount", "--lazy", self.place)
                    self._mounted = False
                    raise
                self._mounted = False

    def write_back(self) -> None:
        """Bring what is written so far to the disk, as the kernel does by itself after a while."""
        tool("sync", "--file-system", self.place)

    def shut_down(self) -> None:
        """Stop it in this instant: the log is not flushed, and every later call on it fails."""
        fd = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUT_DOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
        finally:
            os.close(fd)

    def remount(self) -> None:
        """Unmount and mount it: nothing of it stays in memory. A tmpfs has nowhere else to be, and stays."""
        if self.image:
            self.unmount()
            self.mount()

    def remove(self) -> None:
        """Unmount it and remove its file."""
        with undisturbed():
            try:
                self.unmount()
            finally:
                if self.image:
                    self.image.unlink(missing_ok=True)
            self.place.rmdir()


@contextmanager
def volume(
    folder: Path, kind: str, *, size_bytes: int = 0, making: Sequence[str] = (), options: Sequence[str] = ()
) -> Iterator[Volume]:
    """Lend a new file system: ``ext4``, ``xfs``, ``btrfs`` in a file in ``folder``, or a ``tmpfs``.

    ``making`` are more arguments of its mkfs, ``options`` more options of mount.

    Raises:
        MountFailed: it cannot be made or mounted here, or not unmounted.
    """
    withdraw()
    made = Volume(folder, kind, options)
    try:
        made.place.mkdir()
        if made.image:
            _, usual, command = MAKERS[kind]
            with made.image.open("wb") as file:
                file.truncate(size_bytes or usual)
            tool(*command, *making, made.image)
        made.mount()
        yield made
    except BaseException:
        with suppress(MountFailed):  # what was going on may hold it until the exception is dealt with: then it is gone
            made.remove()
        raise
    made.remove()


def missing(folder: Path, kind: str) -> str | None:
    """Say why there can be no such file system here, or return None; found out by trying."""
    if sys.platform != "linux":
        return f"{kind} is mounted on Linux only"
    if os.geteuid() != 0:
        return f"mounting {kind} needs root"
    if kind in MAKERS:
        package, _, (maker, *_) = MAKERS[kind]
        if shutil.which(maker, path=_environment()["PATH"]) is None:
            return f"{maker} is missing (Debian: {package})"
    try:
        with volume(folder, kind):
            return None
    except MountFailed as exc:
        return str(exc)
