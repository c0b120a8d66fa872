"""Recordings: what scenarios did to the disk, as strace saw it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from proof.disk import ROOT, Cut, Disk, Enter, Leave, Move, Op, Sync, Told, Write, whole
from proof.lab import Skipped
from proof.play import Durability, Said

TESTS = Path(__file__).resolve().parent.parent
_MODELLED = (
    "?open ?creat openat close write pwrite64 ftruncate fsync fdatasync ?rename renameat ?renameat2 ?link linkat "
    "?unlink unlinkat ?mkdir mkdirat"
)
_FOREIGN = (
    "?dup ?dup2 dup3 writev pwritev ?pwritev2 truncate fallocate copy_file_range sendfile sync_file_range sync syncfs "
    "?rmdir ?symlink symlinkat"
)
"""Calls that would change what is on the disk and are not in the model: on a file of ours, they are an error."""
_LONGEST_STRING = 1 << 24
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_PATH_CALLS = frozenset({"open", "creat", "rename", "link", "unlink", "mkdir", "rmdir", "symlink", "truncate"})


@dataclass(frozen=True)
class Job:
    """A scenario and the durability of its stores."""

    scenario: str
    durability: Durability

    def __str__(self) -> str:
        return f"{self.scenario}/{self.durability}"


class Unmodelled(Exception):
    """The program did something to its files that the model of the disk does not know."""


def require_strace() -> str:
    """Return the command.

    Raises:
        Skipped: it is not there, or may not watch a process here.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise Skipped("there is no strace (Debian package strace)")
    probe = subprocess.run([strace, "-f", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        raise Skipped(f"strace does not work here: {probe.stderr.decode(errors='replace').strip()}")
    return strace


def record(folder: Path, jobs: Sequence[Job], fault: str | None = None) -> dict[Job, list[Op]]:
    """Perform the jobs below ``folder`` and return what each did.

    ``fault`` is what strace injects into each of them, such as ``fsync:error=EIO:when=2``.
    """
    strace = require_strace()
    prompts = folder / "prompts"
    places = {folder / str(at): job for at, job in enumerate(jobs)}
    for place in places:
        place.mkdir()
    calls = ",".join((_MODELLED + " " + _FOREIGN).split())
    command = [
        strace,
        "-ff",
        "-qq",
        "-xx",
        "-s",
        str(_LONGEST_STRING),
        "-o",
        str(folder / "calls"),
        "-e",
        f"trace={calls}",
    ]
    # What is really synced matters to nobody here: the model has a disk of its own.
    command += ["-e", "inject=fsync,fdatasync:retval=0", *(["-e", f"inject={fault}"] if fault else [])]
    command += [sys.executable, "-m", "proof.performance", str(prompts)]
    command += [f"{job.scenario}:{job.durability}:{place}" for place, job in places.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path[1:]])
    failed, errors = _run(command, environment, folder)
    if failed:
        raise Unmodelled(f"{failed} scenarios failed: {errors}")
    found = dict(_found(folder, prompts, places))
    if len(found) != len(jobs):
        raise Unmodelled(f"{len(jobs) - len(found)} scenarios were not recorded: {errors}")
    return found


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Run it to its end, or, if interrupted, end it with all that it started."""
    with subprocess.Popen(
        command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            errors = process.communicate()[1]
            return process.returncode, errors
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def _found(folder: Path, prompts: Path, places: Mapping[Path, Job]) -> Iterable[tuple[Job, list[Op]]]:
    for calls in folder.glob("calls.*"):
        with calls.open(encoding="ascii") as lines:
            tape = Tape(str(prompts))
            for line in lines:
                tape.take(line)
        if tape.folder is not None:
            yield places[Path(tape.folder)], tape.ops


@dataclass
class _Open:
    """A descriptor: of a file or folder of ours, or of the prompts (inode None)."""

    inode: int | None
    append: bool
    position: int = 0


class Tape:
    """Turns the lines of one process into operations on the disk below its folder."""

    def __init__(self, prompts: str) -> None:
        self.ops: list[Op] = []
        self.folder: str | None = None
        self._prompts = prompts
        self._disk = Disk()
        self._open: dict[int, _Open] = {}
        self._inodes = ROOT
        self._said = msgspec.json.Decoder(Said)

    def take(self, line: str) -> None:
        """Take one line; what is not about our files, and what failed, changes nothing."""
        found = _CALL.match(line)
        if found is None:
            return
        name, rest, outcome, detail = found[1], found[2], found[3], found[4]
        result = -1 if outcome == "?" else int(outcome)
        arguments = rest.split(", ")
        if name in _PATH_CALLS:  # the older spelling: the same, from the working folder
            arguments = [part for text in arguments for part in (("AT_FDCWD", text) if text[:1] == '"' else (text,))]
            name += "at"
        if name in ("fsync", "fdatasync"):
            self._sync(arguments, ok=result == 0)
        elif result >= 0:
            act = getattr(self, f"_on_{name}", None)
            if act is not None:
                act(arguments, result)
            elif self._is_ours(arguments):
                raise Unmodelled(f"{name} is not in the model: {line[:200]}{detail}")

    # ── the calls ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_openat(self, arguments: Sequence[str], fd: int) -> None:
        flags = arguments[2].split("|")
        self._open.pop(fd, None)
        if os.fsdecode(_text(arguments[1])) == self._prompts:
            self._open[fd] = _Open(None, append=True)
        place = self._place(*arguments[:2])
        if place is None:
            return
        folder, name = place
        inode = self._disk.folder(folder).get(name) if name else folder
        if inode is None:
            if "O_CREAT" not in flags:
                raise Unmodelled(f"{name} was opened, but nothing made it")
            inode = self._enter(folder, name)
        if "O_TRUNC" in flags:
            self._do(Cut(inode, 0))
        self._open[fd] = _Open(inode, "O_APPEND" in flags)

    def _on_close(self, arguments: Sequence[str], result: int) -> None:
        self._open.pop(int(arguments[0]), None)

    def _on_write(self, arguments: Sequence[str], written: int) -> None:
        file = self._open.get(int(arguments[0]))
        if file is None:
            return
        data = _text(arguments[1])[:written]
        if file.inode is None:
            self._told(data)
            return
        at = len(self._disk.files[file.inode]) if file.append else file.position
        file.position = at + written
        self._do(Write(file.inode, at, data))

    def _on_pwrite64(self, arguments: Sequence[str], written: int) -> None:
        file = self._open.get(int(arguments[0]))
        if file is not None and file.inode is not None:
            self._do(Write(file.inode, int(arguments[3]), _text(arguments[1])[:written]))

    def _on_ftruncate(self, arguments: Sequence[str], result: int) -> None:
        file = self._open.get(int(arguments[0]))
        if file is not None and file.inode is not None:
            self._do(Cut(file.inode, int(arguments[1])))

    def _sync(self, arguments: Sequence[str], *, ok: bool) -> None:
        file = self._open.get(int(arguments[0]))
        if file is not None and file.inode is not None:
            self._do(Sync(file.inode, ok))

    def _on_mkdirat(self, arguments: Sequence[str], result: int) -> None:
        place = self._place(*arguments[:2])
        if place is not None and place[1]:
            self._enter(*place, is_folder=True)

    def _on_linkat(self, arguments: Sequence[str], result: int) -> None:
        source, target = self._place(*arguments[:2]), self._place(*arguments[2:4])
        if source is not None and target is not None:
            self._do(Enter(*target, self._disk.folder(source[0])[source[1]]))

    def _on_unlinkat(self, arguments: Sequence[str], result: int) -> None:
        place = self._place(*arguments[:2])
        if place is not None:
            self._do(Leave(*place))

    _on_rmdirat = _on_unlinkat

    def _on_renameat(self, arguments: Sequence[str], result: int) -> None:
        source, target = self._place(*arguments[:2]), self._place(*arguments[2:4])
        if source is not None and target is not None:
            self._do(Move(*source, *target))

    _on_renameat2 = _on_renameat

    # ── what they are about ────────────────────────────────────────────────────────────────────────────────────────

    def _do(self, op: Op) -> None:
        self.ops.append(op)
        self._disk.apply(op, whole(op))

    def _told(self, data: bytes) -> None:
        if self.folder is None:
            self.folder = os.fsdecode(data)
        else:
            self.ops.append(Told(self._said.decode(data)))

    def _enter(self, folder: int, name: str, *, is_folder: bool = False) -> int:
        self._inodes += 1
        self._do(Enter(folder, name, self._inodes, is_folder))
        return self._inodes

    def _place(self, folder: str, text: str) -> tuple[int, str] | None:
        """Return folder and name of a path of ours; the name is empty for our folder itself."""
        path = os.fsdecode(_text(text))
        if folder != "AT_FDCWD" and not path.startswith("/"):
            held = self._open.get(int(folder))
            return None if held is None or held.inode is None else (held.inode, path)
        if self.folder is None or not f"{path}/".startswith(f"{self.folder}/"):
            return None
        *above, name = path[len(self.folder) :].lstrip("/").split("/")
        inode = ROOT
        for part in above:
            inode = self._disk.folder(inode)[part]
        return inode, name

    def _is_ours(self, arguments: Sequence[str]) -> bool:
        held = arguments[0].isdigit() and self._open.get(int(arguments[0]))
        places = (self._place(*pair) for pair in pairwise(arguments) if pair[1][:1] == '"' != pair[0][:1])
        return bool(held) or any(place is not None for place in places)


def _text(argument: str) -> bytes:
    """Return the bytes of a string that strace printed in hexadecimal."""
    if not argument.endswith('"'):
        raise Unmodelled("strace did not print all of a string")
    return bytes.fromhex(argument[1:-1].replace("\\x", ""))
