"""Child processes that write and read while others kill them: how they are started and heard, and what they do.

A child is told what to do on its command line, says what it did on its standard output, a line each, and ends when
its standard input does, so it never outlives whoever started it. A line is written at once and shorter than what a
pipe takes whole: a killed child has said all of it, or nothing.
"""

import os
import random
import select
import selectors
import signal
import subprocess
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import msgspec

import session_log as sl
from proof.filed import crc_of
from proof.ledger import Failed, Followed, Restored

_START: Final = "import sys; from proof.workers import main; main(*sys.argv[1:])"
_MOST_BYTES: Final = 4096
"""What POSIX lets a pipe take in one piece (PIPE_BUF of Linux)."""
_BETWEEN_LOOKS_S: Final = 0.01
_control = select.poll()


# ── in the child ───────────────────────────────────────────────────────────────────────────────────────────────────


def main(role: str, task: str) -> None:
    """Do what the command line says: call ``role``, module and function, with the task it takes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    _control.register(0)
    module, name = role.split(":")
    act: Callable[[Any], None] = getattr(import_module(f"proof.{module}"), name)
    try:
        act(msgspec.json.decode(task, type=act.__annotations__["task"]))
    except BaseException:  # noqa: BLE001  it is told, and then there is nothing left to do
        _fail()


def _fail() -> NoReturn:
    """Say what happened, if anybody listens, and end at once, whatever other threads are doing."""
    with suppress(BrokenPipeError):
        say(Failed(traceback.format_exc()[-2000:]))
    os._exit(1)


def say(report: msgspec.Struct) -> None:
    """Tell whoever started this process."""
    line = msgspec.json.encode(report) + b"\n"
    if len(line) > _MOST_BYTES:
        raise ValueError(f"{len(line)} bytes: a report has at most {_MOST_BYTES}")
    os.write(1, line)


def told_to_end(timeout_ms: int = 0) -> bool:
    """Tell whether the standard input has ended, after waiting so long for it."""
    return bool(_control.poll(timeout_ms))


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower does: follow ``most`` segments from somewhere on, and restore others meanwhile."""

    root: str
    seed: str
    most: int


def watch(task: Watch) -> None:
    """Follow and restore what others write, strictly, until told to end; say what was seen."""
    chance = random.Random(task.seed)
    ended = threading.Event()
    followers: dict[str, threading.Thread] = {}
    with sl.FsStore(task.root) as store:
        while not told_to_end(int(1000 * _BETWEEN_LOOKS_S)):
            found = store.list_sessions()
            if not found:
                continue
            session_id = chance.choice(found)
            segments = store.list_segments(session_id)
            if not segments:  # its creator was killed before the first was there, or has not come so far
                continue
            segment_id = chance.choice(segments)
            state = sl.restore(store, session_id, segment_id)
            say(Restored(segment_id, state.entries_count, crc_of(user_texts(state))))
            if len(followers) < task.most and segment_id not in followers:
                start = chance.choice((0, chance.randint(0, state.entries_count)))
                follower = threading.Thread(target=_follow, args=(store, session_id, segment_id, start, ended))
                followers[segment_id] = follower
                follower.start()
        ended.set()
        for follower in followers.values():
            follower.join()


def _follow(store: sl.Store, session_id: str, segment_id: str, start: int, ended: threading.Event) -> None:
    at, crc, told = start, 0, start

    def nothing_new() -> bool:
        nonlocal told
        if told != at:
            told = at
            say(Followed(segment_id, start, at, crc))
        return ended.is_set()

    try:
        for entry in sl.follow_entries(store, session_id, segment_id, start, stop=nothing_new):
            crc = zlib.crc32(sl.encode_line(entry) + b"\n", crc)
            at += 1
        say(Followed(segment_id, start, at, crc, last=True))
    except BaseException:  # noqa: BLE001  (as in main)
        _fail()


def user_texts(state: sl.RestoredState) -> list[str]:
    """Return the texts of the user messages of a state."""
    return [item.text for item in state.history if isinstance(item, sl.Message) and item.role == "user"]


# ── in the parent ──────────────────────────────────────────────────────────────────────────────────────────────────


class Worker:
    """One child process."""

    def __init__(self, name: str, role: str, task: msgspec.Struct) -> None:
        self.name = name
        self.wanted_dead = False
        command = [sys.executable, "-P", "-c", _START, role, msgspec.json.encode(task).decode()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor it is heard on."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> list[bytes] | None:
        """Return what it said meanwhile, or None if it is dead and has said all."""
        data = os.read(self.fileno(), 1 << 20)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def kill(self) -> None:
        """Send SIGKILL."""
        self.wanted_dead = True
        self.process.kill()

    def ask_to_end(self) -> None:
        """Have it finish what it is doing, and end by itself."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def bury(self) -> int:
        """Wait for its death and return its exit status."""
        status = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        return status


class Crew:
    """The children that are alive; a context manager that leaves none behind. ``kinds``: what they may say."""

    def __init__(self, kinds: Any) -> None:
        self._decoder = msgspec.json.Decoder(kinds)
        self._selector = selectors.DefaultSelector()
        self.alive: list[Worker] = []
        self.failures: list[str] = []

    def start(self, name: str, role: str, task: msgspec.Struct) -> Worker:
        """Start a child that does ``role`` (module and function), whose argument is ``task``."""
        worker = Worker(name, role, task)
        self.alive.append(worker)
        self._selector.register(worker, selectors.EVENT_READ, worker)
        return worker

    def listen(self, timeout_s: float) -> Iterator[tuple[Worker, Any]]:
        """Yield what is said within ``timeout_s``, but for failures; bury the dead."""
        for key, _ in self._selector.select(max(timeout_s, 0)):
            worker: Worker = key.data
            lines = worker.read()
            for line in lines or ():
                report = self._decoder.decode(line)
                if isinstance(report, Failed):
                    self.failures.append(f"{worker.name}: {report.what}")
                else:
                    yield worker, report
            if lines is None:
                self._selector.unregister(worker)
                self.alive.remove(worker)
                status = worker.bury()
                if status != (-signal.SIGKILL if worker.wanted_dead else 0) and not self.failures:
                    self.failures.append(f"{worker.name} ended by itself, with status {status}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.alive:
            worker.kill()
        for worker in self.alive:
            worker.bury()
        self._selector.close()
