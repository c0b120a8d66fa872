"""The guard: what one input may cost and touch. What it may raise and must leave true is said by the targets.

An input may take processor time and memory in proportion to its size, and no more. A hang ends by an alarm, and if the
interpreter cannot even run that, by the kernel. Every path that Python opens, makes, moves or removes meanwhile is
looked at: below the store's root, one plain name after the other, is where it must be.
"""

import gc
import os
import resource
import signal
import stat
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from session_log import SessionLogError

MIB = 1 << 20
CPU_S = 0.5
CPU_S_PER_MIB = 3.0
"""Processor time for an input: twenty operations that read it, with room for a slow machine."""
TRACED = 12
"""How much slower it may be while its memory is traced."""
HANG_S = 30.0
"""Beyond its processor time, how long an input may wait for anything before it counts as hung."""
HEAP = 4 * MIB
HEAP_PER_BYTE = 600
HEAP_PER_FURTHER_BYTE = 80
"""What Python may allocate for an input: so much for each byte of the first MiB, and for each byte behind it. The worst
is ``[],[],[],...``, three bytes that become 64, of which the checks hold a dozen copies at a time: entries read in
three ways, states, what is written again."""
RSS = 64 * MIB
"""How much the process may grow for an input beyond that: what the allocators keep."""
ADDRESS_SPACE = 8 << 30
"""What a worker may have at all."""
_PATHS = {
    "open": 1, "os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.rmdir": 1,
    "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "os.scandir": 1, "os.listdir": 1,
}  # fmt: skip
"""Audit events, and how many of their first arguments are paths."""
_PER_UNIT = 1 if sys.platform == "darwin" else 1024


class Broken(AssertionError):
    """A promise that did not hold; the message says which."""


class Hung(BaseException):
    """An input took longer than any input may. No ``except Exception`` keeps it from being reported."""


class Guard:
    """Watches over the inputs of one process, one at a time."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._armed = False
        self._outside: list[str] = []
        self.slowest_s = 0.0
        self.heap_bytes = 0
        self._spare_fd = _lowest_free_fd()
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.getrlimit(resource.RLIMIT_AS)[1]))
        signal.signal(signal.SIGALRM, _hung)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        sys.addaudithook(self._audit)

    def watch(self, size: int, act: Callable[[], Any], *, traced: bool) -> str | None:
        """Do ``act`` with an input of ``size`` bytes; return what was wrong with it, or None."""
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        allowed = (CPU_S + CPU_S_PER_MIB * size / MIB) * (TRACED if traced else 1)
        started = time.process_time()
        try:
            with self._watched(allowed, traced):
                act()
        except Broken as exc:
            return str(exc)
        except SessionLogError as exc:
            return f"raised {type(exc).__name__}, which is not promised: {exc}"[:2000]
        except (Exception, Hung) as exc:  # noqa: BLE001  whatever it is, it is what was wrong
            return f"raised {_described(exc)}"[:2000]
        spent = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown) * _PER_UNIT
        if not traced:
            self.slowest_s = max(self.slowest_s, spent)
        return self._fault(size, spent, allowed, grown)

    @contextmanager
    def _watched(self, allowed_s: float, traced: bool) -> Iterator[None]:
        self._outside.clear()
        self._peak = 0
        if traced:
            tracemalloc.start()
        try:
            signal.setitimer(signal.ITIMER_PROF, 2 * allowed_s + HANG_S)  # for what runs no Python: it kills
            signal.setitimer(signal.ITIMER_REAL, allowed_s + HANG_S)
            self._armed = True
            yield
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if traced:
                self._peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()

    def _fault(self, size: int, spent: float, allowed: float, grown: int) -> str | None:
        self.heap_bytes = max(self.heap_bytes, self._peak)
        heap = HEAP + HEAP_PER_BYTE * min(size, MIB) + HEAP_PER_FURTHER_BYTE * max(0, size - MIB)
        if self._outside:
            return f"touched {', '.join(self._outside[:5])}, outside the root"
        if spent > allowed:
            return f"took {spent:.2f} s of processor time for {size} bytes, {allowed:.2f} s are allowed"
        if self._peak > heap:
            return f"took {self._peak} bytes of memory for {size} bytes, {heap} are allowed"
        if grown > heap + RSS:
            return f"grew the process by {grown} bytes for {size} bytes, {heap + RSS} are allowed"
        if not gc.isenabled():
            gc.enable()
            return "left the garbage collector off"
        spare, self._spare_fd = self._spare_fd, _lowest_free_fd()
        if self._spare_fd != spare:
            return "left a file open"
        return None

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._armed or event not in _PATHS:
            return
        for path in args[: _PATHS[event]]:
            if not isinstance(path, int) and not self._is_inside(os.fsdecode(path), event):
                self._outside.append(f"{path!r} ({event})")

    def _is_inside(self, path: str, event: str) -> bool:
        """Tell whether a path is below the root, or one name in a folder that was opened before.

        The folders above the root are opened to be synced, and who holds a lock is found out in /proc.
        """
        if not path.startswith("/"):
            return "/" not in path and path != ".."
        if event == "open" and (path.startswith("/proc/") or self._root.startswith(path.rstrip("/") + "/")):
            return True
        return path == self._root or (path.startswith(self._root + "/") and ".." not in path.split("/"))


class Canary:
    """A tree beside the root that nothing may change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._seen()

    def _seen(self) -> dict[str, tuple[object, ...]]:
        seen: dict[str, tuple[object, ...]] = {}
        for path in sorted(self._folder.rglob("*")):
            found = path.lstat()
            seen[str(path)] = (found.st_ino, found.st_mode)
            if stat.S_ISREG(found.st_mode):
                seen[str(path)] += (found.st_mtime_ns, path.read_bytes())
        return seen

    def harmed(self) -> str | None:
        """Return what was changed, or None."""
        now = self._seen()
        changed = [path for path in {**self._before, **now} if self._before.get(path) != now.get(path)]
        self._before = now
        return f"changed {', '.join(sorted(changed)[:5])}, which nothing may" if changed else None


def _described(exc: BaseException) -> str:
    """Return an exception in one line: what, and where in the library."""
    places = []
    at = exc.__traceback__
    while at is not None:
        places.append(f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}")
        at = at.tb_next
    return f"{type(exc).__name__}: {str(exc)[:500]} ({' < '.join(reversed(places[-6:]))})"


def _hung(signum: int, frame: FrameType | None) -> None:
    raise Hung("it hung, and was stopped by the alarm")


def _lowest_free_fd() -> int:
    fd = os.dup(1)
    os.close(fd)
    return fd
