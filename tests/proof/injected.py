"""The program that is made to fail: it waits for jobs, and does each in a child of its own.

    python tests/proof/injected.py DIRECTORY    (standard input is a socket that jobs come from and reports go to)

A child first makes the system call that is to fail so often that the next one is the first to be counted, then says by
a call that nobody else makes (posix_fadvise on no descriptor, with the number of the job) that the errand begins. What
it finds out goes to the socket: no file is written, and no call made that is to fail. DIRECTORY is empty, for the calls
that are made in vain.
"""

import ctypes
import errno
import fcntl
import gc
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Clock:
    """The monotonic clock, which can be made to stand still."""

    def __init__(self) -> None:
        self._now = time.monotonic
        self._stopped_at: float | None = None

    def stop(self) -> None:
        """Stand still from now on."""
        self._stopped_at = self._now()

    def __call__(self) -> float:
        """Return the seconds."""
        return self._stopped_at if self._stopped_at is not None else self._now()


CLOCK = Clock()
HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script
    sys.path[0] = str(HERE.parent)
    sys.path.insert(1, str(HERE.parent.parent))
    time.monotonic = CLOCK  # before anybody keeps the other one

import resource  # noqa: E402

from proof.errands import ERRANDS  # noqa: E402
from proof.job import BEGIN, END, MAX_MESSAGE, PATIENCE_S, Job, Report  # noqa: E402
from proof.stage import Stage, lift_limit  # noqa: E402

MOST_DESCRIPTORS = 64


class Calls:
    """Each system call that may fail, as something that makes it once and does no harm."""

    def __init__(self, folder: str) -> None:
        """``folder`` is an empty one; the descriptors stay open until :meth:`close`."""
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._file = os.open("file", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=self._folder)
        self._null = os.open(os.devnull, os.O_RDWR)
        at, path = self._folder, f"{folder}/file"
        self.by_name: dict[str, Callable[[], object]] = {
            "write": lambda: os.write(self._null, b"x"),
            "pwrite64": lambda: os.pwrite(self._null, b"x", 0),
            "read": lambda: os.read(self._null, 1),
            "pread64": lambda: os.pread(self._file, 1, 0),
            "fsync": lambda: os.fsync(self._file),
            "fdatasync": lambda: os.fdatasync(self._file),
            "ftruncate": lambda: os.ftruncate(self._file, 0),
            "openat": lambda: os.close(os.open("file", os.O_RDONLY, dir_fd=at)),
            "flock": lambda: fcntl.flock(self._file, fcntl.LOCK_UN),
            "lseek": lambda: os.lseek(self._file, 0, os.SEEK_CUR),
            "fstat": lambda: os.fstat(self._file),
            "newfstatat": lambda: os.stat(path),
            "rename": lambda: os.rename(path, path),
            "renameat": lambda: os.rename("file", "file", src_dir_fd=at, dst_dir_fd=at),
            "link": _refused(lambda: os.link(path, path)),
            "linkat": _refused(lambda: os.link(path, path, follow_symlinks=False)),
            "mkdir": _refused(lambda: os.mkdir(path)),
            "mkdirat": _refused(lambda: os.mkdir("file", dir_fd=at)),
            "unlink": _refused(lambda: os.unlink(f"{folder}/none")),
            "unlinkat": _refused(lambda: os.unlink("none", dir_fd=at)),
        }

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self._folder, self._file, self._null):
            os.close(fd)


def _refused(act: Callable[[], object]) -> Callable[[], None]:
    def acted() -> None:
        with suppress(FileExistsError, FileNotFoundError):
            act()

    return acted


def mark(number: int, length: int) -> None:
    """Make the call that says where an errand begins or ends; it fails, and does nothing."""
    try:
        os.posix_fadvise(-1, number, length, os.POSIX_FADV_NORMAL)
    except OSError as exc:
        if exc.errno != errno.EBADF:
            raise


def perform(job: Job, calls: Calls) -> Report:
    """Do a job in this process."""
    stage = Stage(job.root, job.durability, job.account)
    stage.account.temporaries = job.call.startswith("unlink")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    before = _descriptors()
    for _ in range(job.skip):
        calls.by_name[job.call]()
    if job.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.limit, hard))
    if ERRANDS[job.errand].at_once and not job.inside:
        CLOCK.stop()
    mark(job.number, BEGIN)
    try:
        ERRANDS[job.errand].perform(stage)
    except Exception as exc:  # noqa: BLE001  whatever it is, it is what came of it
        stage.broken.append(f"{type(exc).__name__}: {exc}")
    mark(job.number, END)
    lift_limit()
    stage.compare("the end")
    for voice in stage.voices:
        voice.writer.close()
    gc.collect()
    if left := _descriptors() - before:
        stage.broken.append(f"descriptors left open: {sorted(left)}")
    return Report(number=job.number, account=stage.account, told=tuple(stage.told), broken=tuple(stage.broken))


def _descriptors() -> set[int]:
    """Return what is open, found without opening or listing anything."""
    found = set()
    for fd in range(MOST_DESCRIPTORS):
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_GETFD)
            found.add(fd)
    return found


def serve(connection: socket.socket, calls: Calls) -> None:
    """Do jobs until there are no more."""
    while message := connection.recv(MAX_MESSAGE):
        job: Job = pickle.loads(message)
        if job.inside:
            connection.send(pickle.dumps(perform(job, calls)))
            continue
        gc.freeze()  # a child that looks for its own garbage need not look through ours
        child = os.fork()
        if not child:
            try:
                signal.alarm(PATIENCE_S)
                connection.send(pickle.dumps(perform(job, calls)))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status:
            said = f"the process ended with {os.waitstatus_to_exitcode(status)}"
            connection.send(pickle.dumps(Report(number=job.number, account=None, told=(), broken=(said,))))


def main() -> int:
    """Serve the socket that is standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this ends it, by closing the socket
    with socket.socket(fileno=0) as connection, suppress(ConnectionError):  # whoever wanted to know is gone
        allow_tracing()
        serve(connection, Calls(sys.argv[1]))
    return 0


def allow_tracing() -> None:
    """Let any process of this user trace this one, where the system otherwise lets only its ancestors."""
    pr_set_ptracer, any_process = 0x59616D61, -1
    ctypes.CDLL(None).prctl(pr_set_ptracer, any_process, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
