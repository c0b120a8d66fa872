"""session_log: ``FsStore`` and ``SegmentWriter``; forks by reference; ``append_entry`` where many write one log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.interface import Role, Survives
from benchmarks.peers.material import Exchange
from session_log import (
    FsStore,
    Item,
    LogEntry,
    SegmentStartState,
    SegmentWriter,
    append_entry,
    create_segment,
    fork_at,
    read_entries,
    restore,
)


@dataclass(frozen=True)
class OurDriver:
    """The log, with one durability; every entry is recorded, also those that are not said (11 a turn)."""

    key: str
    title: str
    role: Role
    survives: Survives
    forks: bool = False
    """In a shared segment: each writer goes on in a fork of its own as soon as another one wrote."""
    modules: tuple[str, ...] = ("session_log",)
    distribution: str = "session-log"
    statement: str = "import session_log"
    forking: str = "fork_at: by reference, one line is written"

    def start(self, folder: Path) -> "OurSessions":
        """Open the conversations in ``folder``."""
        return OurSessions(FsStore(folder, durability=self.survives), forks=self.forks)


class OurSessions:
    """A store of files."""

    def __init__(self, store: FsStore, *, forks: bool) -> None:
        self._store = store
        self._forks = forks

    def items(self, exchange: Exchange) -> list[LogEntry]:
        """Return the entries."""
        return list(exchange.entries)

    def create(self) -> "Written":
        """Start a session."""
        return Written(self._store, SegmentWriter.create(self._store))

    def open(self, name: str) -> "Written":
        """Resume a session."""
        return Written(self._store, SegmentWriter.resume(self._store, *name.split("/")))

    def shared(self, name: str) -> "Written | Shared":
        """Return a writer that forks, or one segment for all."""
        return self.open(name) if self._forks else Shared(self._store, name)

    def restore(self, name: str) -> Sequence[Item | LogEntry]:
        """Return the history of the restored state; what is in all segments, if every writer has its own."""
        session_id, segment_id = name.split("/")
        if not self._forks:
            return restore(self._store, session_id, segment_id).history
        segments = self._store.list_segments(session_id)
        return [entry for segment in segments for entry in read_entries(self._store, session_id, segment)]

    def fill(self, exchanges: Iterable[Exchange]) -> "Written":
        """Append turn by turn."""
        session = self.create()
        for exchange in exchanges:
            session.append(exchange.entries)
        return session

    def populate(self, count: int) -> None:
        """Create segments."""
        store = FsStore(self._store.root, durability="process")
        for _ in range(count):
            create_segment(store, SegmentStartState())

    def recent(self, limit: int) -> list[str]:
        """Return the newest, by creation."""
        return self._store.list_sessions(limit=limit)

    def mode(self) -> str:
        """Return what is synced."""
        synced = {"process": "no sync", "turn": "fdatasync at the end of a turn and of a run", "power": "fdatasync"}
        return f"one O_APPEND write a call, {synced[self._store.durability]}"

    def close(self) -> None:
        """Close the descriptors."""
        self._store.close()


class Written:
    """A session, with its writer."""

    def __init__(self, store: FsStore, writer: SegmentWriter) -> None:
        self._store = store
        self.writer = writer
        self.name = f"{writer.session_id}/{writer.segment_id}"

    def append(self, items: Sequence[LogEntry]) -> None:
        """Append a batch: one write."""
        self.writer.append_entries(items)

    def append_each(self, items: Sequence[LogEntry]) -> None:
        """Append entry by entry."""
        append = self.writer.append
        for item in items:
            append(item)

    def fork(self, turns: int) -> "Shared":
        """Fork by reference."""
        child = fork_at(self._store, self.writer.session_id, self.writer.segment_id, turns)
        return Shared(self._store, f"{self.writer.session_id}/{child}")

    def refresh(self) -> None:
        """Do nothing: an append finds out by itself."""


class Shared:
    """One segment into which everybody appends, without asking what the others wrote."""

    def __init__(self, store: FsStore, name: str) -> None:
        self._store = store
        self.name = name
        session_id, segment_id = name.split("/")
        self._ids = session_id, segment_id

    def append(self, items: Sequence[LogEntry]) -> None:
        """Append."""
        self.append_each(items)

    def append_each(self, items: Sequence[LogEntry]) -> None:
        """Append one by one."""
        for item in items:
            append_entry(self._store, *self._ids, item)

    def fork(self, turns: int) -> "Shared":
        """Fork by reference."""
        return Shared(self._store, f"{self._ids[0]}/{fork_at(self._store, *self._ids, turns)}")

    def refresh(self) -> None:
        """Do nothing."""


DRIVERS = (
    OurDriver("ours", "session_log, process", "system", "process"),
    OurDriver("ours-turn", "session_log, turn", "durability", "turn"),
    OurDriver("ours-power", "session_log, power", "durability", "power"),
    OurDriver("ours-forks", "session_log, writers that fork", "conflict", "process", forks=True),
)
