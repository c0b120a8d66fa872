"""JSON lines by hand: open, append, close, each time; forks are copies; nobody locks."""

import itertools
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.peers.interface import Role, Survives
from benchmarks.peers.material import Exchange
from benchmarks.recording import sync_data


@dataclass(frozen=True)
class PlainDriver:
    """A file a conversation, a line an entry (11 a turn), encoded by orjson."""

    key: str
    title: str
    role: Role
    survives: Survives
    modules: tuple[str, ...] = ("orjson",)
    distribution: str | None = None
    statement: str = "import orjson, os"
    forking: str = "by hand: its lines are copied to a new file"

    def start(self, folder: Path) -> "PlainSessions":
        """Use the files in ``folder``."""
        return PlainSessions(folder, synced=self.survives == "power")


class PlainSessions:
    """A folder of files."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self._folder = folder
        self._synced = synced

    def items(self, exchange: Exchange) -> list[object]:
        """Return the entries as JSON values."""
        return exchange.values

    def create(self) -> "PlainSession":
        """Name a new file."""
        session = self.open(uuid.uuid4().hex)
        session.append([])
        return session

    def open(self, name: str) -> "PlainSession":
        """Name a file."""
        return PlainSession(self._folder / f"{name}.jsonl", synced=self._synced)

    def shared(self, name: str) -> "PlainSession":
        """Open it as for oneself."""
        return self.open(name)

    def restore(self, name: str) -> list[Any]:
        """Return every line as a JSON value."""
        with (self._folder / f"{name}.jsonl").open("rb") as file:
            return [orjson.loads(line) for line in file]

    def fill(self, exchanges: Iterable[Exchange]) -> "PlainSession":
        """Append all turns at once."""
        session = self.create()
        session.append([value for exchange in exchanges for value in exchange.values])
        return session

    def populate(self, count: int) -> None:
        """Write files of one line."""
        for _ in range(count):
            self.create().append([{"kind": "user_input"}])

    def recent(self, limit: int) -> list[str]:
        """Return the files that were written last, by their times."""
        with os.scandir(self._folder) as found:
            dated = [(entry.stat().st_mtime_ns, entry.name) for entry in found]
        return [name for _, name in sorted(dated, reverse=True)[:limit]]

    def mode(self) -> str:
        """Return what is synced."""
        return "open, write, fdatasync, close" if self._synced else "open, write, close; no sync"

    def close(self) -> None:
        """Do nothing: nothing is kept open."""


class PlainSession:
    """A file."""

    def __init__(self, path: Path, *, synced: bool) -> None:
        self.name = path.stem
        self._path = path
        self._synced = synced

    def append(self, items: Sequence[object]) -> None:
        """Open, write every line at once, close."""
        with open(self._path, "ab", buffering=0) as file:
            file.write(b"".join([orjson.dumps(item) + b"\n" for item in items]))
            if self._synced:
                sync_data(file.fileno())

    def append_each(self, items: Sequence[object]) -> None:
        """Open, write and close for each line."""
        for item in items:
            with open(self._path, "ab", buffering=0) as file:
                file.write(orjson.dumps(item) + b"\n")
                if self._synced:
                    sync_data(file.fileno())

    def fork(self, turns: int) -> "PlainSession":
        """Copy the lines."""
        child = PlainSession(self._path.with_stem(uuid.uuid4().hex), synced=self._synced)
        left = turns
        with open(self._path, "rb") as source, open(child._path, "wb") as copy:
            lines = itertools.takewhile(lambda _: left > 0, source)
            for line in lines:
                copy.write(line)
                left -= line.startswith(b'{"kind":"run_completed"')
            copy.flush()
            if self._synced:
                sync_data(copy.fileno())
        return child

    def refresh(self) -> None:
        """Do nothing: nothing is kept."""


DRIVERS = (
    PlainDriver("plain", "open, append, close", "system", "process"),
    PlainDriver("plain-power", "open, append, sync, close", "durability", "power"),
)
