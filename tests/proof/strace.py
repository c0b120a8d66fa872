"""strace: system calls that fail when they are told to, and a list of those that were made."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proof.lab import Skipped

_PATIENCE_S = 20
_LINE = re.compile(r"\d+ +(?P<text>(?P<name>\w+)\(.*)")
_MARK = re.compile(r"fadvise64(?:_64)?\(-1, (?P<number>\d+), (?P<length>\d+), ")


@dataclass(frozen=True)
class Call:
    """A system call, as strace prints it: with the paths of descriptors."""

    name: str
    text: str

    @property
    def injected(self) -> bool:
        """Whether strace made it fail."""
        return self.text.endswith("(INJECTED)")


class Log:
    """What strace wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def errands(self) -> dict[int, list[Call]]:
        """Return the calls between the two marks of each errand, by its number."""
        found: dict[int, list[Call]] = {}
        inside: list[Call] | None = None
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if mark := _MARK.search(line):
                    inside = found.setdefault(int(mark["number"]), []) if mark["length"] == "1" else None
                elif inside is not None and (call := _LINE.match(line)):
                    inside.append(Call(call["name"], call["text"].rstrip()))
        return found


def need_strace() -> None:
    """Make sure that there is one.

    Raises:
        Skipped: there is none.
    """
    if shutil.which("strace") is None:
        raise Skipped("strace is missing; install the package strace")


@contextmanager
def traced(pid: int, path: Path, names: Sequence[str], inject: str = "") -> Iterator[Log]:
    """Trace a process and the children it makes meanwhile; with ``inject``, some of their calls fail.

    ``names``: the calls to list; those that this machine does not have are passed over. ``inject``: an expression such
    as ``write:error=EIO:when=3``; each process has a count of its own.

    Raises:
        Skipped: tracing is not allowed here.
    """
    shown = ",".join(f"?{name}" for name in (*names, "fadvise64", "fadvise64_64"))
    command = ["strace", "-f", "-q", "-y", "-o", str(path), "-e", "signal=none", "-e", f"trace={shown}"]
    if inject:
        command += ["-e", f"inject={inject}"]
    tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    attached = False
    try:
        attached = _attached(tracer, pid)
        if attached:
            yield Log(path)
    finally:
        tracer.terminate()
        said = tracer.communicate()[1]
    if not attached:
        raise Skipped(f"strace cannot trace here: {' '.join(said.split()) or 'it does not begin'}")


def _attached(tracer: "subprocess.Popen[str]", pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    give_up = time.monotonic() + _PATIENCE_S
    while f"TracerPid:\t{tracer.pid}\n" not in status.read_text(encoding="utf-8"):
        if tracer.poll() is not None or time.monotonic() > give_up:
            return False
        time.sleep(0.001)
    return True
