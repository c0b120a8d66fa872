"""Counting what an operation costs: system calls, Python calls, bytes read, lines decoded, memory kept.

Counts do not depend on how busy a machine is, so each can be pinned. They are taken in processes of their own, without
coverage: one under strace, which sees every system call, also of functions bound at import; one without, for the rest.
In both the monotonic clock stands still until a case lets it go on, so "at once" and "after a pause" are exact.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec

MARK = "counted:"
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((?:AT_FDCWD, )?(?:\"([^\"]*)\")?")
OF_THE_INTERPRETER = re.compile(r"brk|m(map|unmap|remap|advise|protect)|futex|rt_sig\w+|clock_gettime|gettimeofday")
"""Calls that come and go with the allocator, the threads and the clock of a platform; they are not counted."""
SAME = {
    "newfstatat": "stat",
    "fstat": "stat",
    "lstat": "stat",
    "statx": "stat",
    "openat": "open",
    "mkdirat": "mkdir",
    "linkat": "link",
    "unlinkat": "unlink",
    "pread64": "pread",
    "getdents64": "getdents",
    "clock_nanosleep": "sleep",
    "nanosleep": "sleep",
}
"""One call goes by several names, by architecture and by version of the C library."""


class Work(NamedTuple):
    """What a block of code did: functions called, bytes taken from files and given to them, JSON values decoded."""

    python_calls: int
    c_calls: int
    bytes_read: int
    bytes_written: int
    lines_decoded: int


# ── in the process that is counted ─────────────────────────────────────────────────────────────────────────────────


class Clock:
    """The monotonic clock: it stands still but for :meth:`pause`. Read by C code alone, which costs no Python call."""

    def __init__(self) -> None:
        self._now = [1_000.0]
        vars(time)["monotonic"] = functools.partial(self._now.__getitem__, 0)

    def pause(self) -> None:
        """Let more time pass than any appender trusts its last look."""
        self._now[0] += 60.0


class Decoder:
    """What stands in for msgspec's decoders: it counts the values it returns, each entry of a list as one."""

    decoded = 0
    real = msgspec.json.Decoder
    real_once = staticmethod(msgspec.json.decode)

    def __init__(self, *types: Any, **options: Any) -> None:
        self._decoder = Decoder.real(*types, **options)

    def __class_getitem__(cls, type_: object) -> type[Decoder]:
        return cls

    def decode(self, data: bytes) -> Any:
        """Decode, and count."""
        value = self._decoder.decode(data)
        Decoder.decoded += len(value) if isinstance(value, list) else 1
        return value

    @staticmethod
    def decode_once(data: bytes, **options: Any) -> Any:
        """Stand in for ``msgspec.json.decode``."""
        Decoder.decoded += 1
        return Decoder.real_once(data, **options)


class Traced:
    """Marks the beginning and the end of a block in the trace that strace writes of this process."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kept: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Count from here on, under this name."""
        self._mark(name)

    def end(self) -> None:
        """Stop counting."""
        self._mark("")

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what happens inside."""
        self.begin(name)
        yield
        self.end()

    def _mark(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.stat(MARK + name)


class Worked(Traced):
    """Counts everything but system calls. Calls are those into the library and out of it: others' insides vary."""

    def __init__(self) -> None:
        super().__init__()
        vars(msgspec.json).update(Decoder=Decoder, decode=Decoder.decode_once)
        self.work: dict[str, Work] = {}
        self._io = os.open("/proc/self/io", os.O_RDONLY)

    def begin(self, name: str) -> None:
        """Count from here on, under this name."""
        self._name, self._python, self._c, self._lines = name, 0, 0, Decoder.decoded
        self._read, self._written, self._own = self._bytes()
        sys.setprofile(self._called)

    def end(self) -> None:
        """Stop counting."""
        sys.setprofile(None)
        read, written, _ = self._bytes()
        lines = Decoder.decoded - self._lines
        read -= self._read + self._own
        self.work[self._name] = Work(self._python, self._c, read, written - self._written, lines)

    def _called(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            self._python += _is_ours(frame) or _is_ours(frame.f_back)
        elif event == "c_call":
            self._c += _is_ours(frame)

    def _bytes(self) -> tuple[int, int, int]:
        """Return the bytes this process read and wrote so far, and how many it has to read to know."""
        text = os.pread(self._io, 1 << 12, 0)
        read, written = (int(line.split()[1]) for line in text.splitlines()[:2])
        return read, written, len(text)


@functools.cache
def _home() -> str:
    found = find_spec("session_log")
    assert found is not None and found.origin is not None
    return os.path.dirname(found.origin)


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_home())


def main(arguments: list[str]) -> None:
    """Run the cases in a directory and print what was counted."""
    how, directory = arguments
    count = Traced() if how == "traced" else Worked()
    import counted_cases  # not before clock and decoders are in their places

    counted_cases.run(count, Path(directory))
    if isinstance(count, Worked):
        sys.stdout.write(json.dumps({"work": count.work, "kept": count.kept}))


# ── in the process that wants to know ──────────────────────────────────────────────────────────────────────────────


def why_not_traced() -> str | None:
    """Return why system calls cannot be seen here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {probe.stderr.strip()}" if probe.returncode else None


def why_not_worked() -> str | None:
    """Return why bytes read cannot be counted here, or None."""
    return None if os.access("/proc/self/io", os.R_OK) else "/proc/self/io is not there"


def system_calls(directory: Path) -> dict[str, str]:
    """Return the system calls of each case in their order."""
    trace = directory / "trace"
    tracing = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(trace)]
    _run(tracing, "traced", directory)
    found: dict[str, list[str]] = {}
    now: list[str] | None = None
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        call = CALL.match(line)
        if call is None:
            continue
        name, path = call.groups()
        if path is not None and path.startswith(MARK):
            now = found.setdefault(path.removeprefix(MARK), []) if path != MARK else None
        elif now is not None and not OF_THE_INTERPRETER.fullmatch(name):
            now.append(SAME.get(name, name))
    return {name: " ".join(calls) for name, calls in found.items()}


def work(directory: Path) -> tuple[dict[str, Work], dict[str, float]]:
    """Return the work of each case, and what is kept in memory, in allocated blocks per repetition."""
    answer = json.loads(_run([], "worked", directory))
    return {name: Work(*numbers) for name, numbers in answer["work"].items()}, answer["kept"]


def _run(before: list[str], how: str, directory: Path) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    variables["PYTHONPATH"] = os.pathsep.join(sys.path)  # what was imported here is imported there
    command = [*before, sys.executable, __file__, how, str(directory)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command} returned {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
