"""The standard library's sqlite3, as one would write it by hand: WAL, a row an entry, one transaction a call."""

import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from benchmarks.peers.interface import Role, Survives
from benchmarks.peers.material import Exchange
from benchmarks.turns import ENTRIES_PER_TURN

SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, updated REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_updated ON sessions (updated);
CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, session TEXT NOT NULL, line BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS entries_session ON entries (session, id);
"""
PRAGMA_NAMES = ("OFF", "NORMAL", "FULL", "EXTRA")


@dataclass(frozen=True)
class SqliteDriver:
    """One database for all conversations, one connection a process, entries (11 a turn) encoded by orjson."""

    key: str
    title: str
    role: Role
    survives: Survives
    synchronous: Literal["NORMAL", "FULL"]
    modules: tuple[str, ...] = ("sqlite3", "orjson")
    distribution: str | None = None
    statement: str = "import orjson, sqlite3"
    forking: str = "by hand: its rows are copied, INSERT … SELECT"

    def start(self, folder: Path) -> "SqliteSessions":
        """Open the database in ``folder``."""
        return SqliteSessions(folder / "sessions.db", self.synchronous)


class SqliteSessions:
    """A database, on one connection."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={synchronous}")
        self._connection.executescript(SCHEMA)

    def items(self, exchange: Exchange) -> list[object]:
        """Return the entries as JSON values."""
        return exchange.values

    def create(self) -> "SqliteSession":
        """Insert a session."""
        name = uuid.uuid4().hex
        self._connection.execute("INSERT INTO sessions VALUES (?, ?)", (name, time.time()))
        return self.open(name)

    def open(self, name: str) -> "SqliteSession":
        """Name a session."""
        return SqliteSession(self._connection, name)

    def shared(self, name: str) -> "SqliteSession":
        """Open it as for oneself."""
        return self.open(name)

    def restore(self, name: str) -> list[Any]:
        """Return every row as a JSON value."""
        rows = self._connection.execute("SELECT line FROM entries WHERE session = ? ORDER BY id", (name,))
        return [orjson.loads(line) for (line,) in rows]

    def fill(self, exchanges: Iterable[Exchange]) -> "SqliteSession":
        """Insert all turns in one transaction."""
        session = self.create()
        session.append([value for exchange in exchanges for value in exchange.values])
        return session

    def populate(self, count: int) -> None:
        """Insert sessions in one transaction."""
        rows = [(uuid.uuid4().hex, float(number)) for number in range(count)]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO sessions VALUES (?, ?)", rows)
        self._connection.executemany("INSERT INTO entries (session, line) VALUES (?, '{}')", [row[:1] for row in rows])
        self._connection.execute("COMMIT")

    def recent(self, limit: int) -> list[str]:
        """Return those that were written last, by the index."""
        rows = self._connection.execute("SELECT id FROM sessions ORDER BY updated DESC LIMIT ?", (limit,))
        return [name for (name,) in rows]

    def mode(self) -> str:
        """Return its pragmas."""
        return pragmas(self._connection)

    def close(self) -> None:
        """Close the connection; the last one to do so empties the WAL."""
        self._connection.close()


class SqliteSession:
    """The rows of a session."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.name = name
        self._connection = connection

    def append(self, items: Sequence[object]) -> None:
        """Insert the rows in one transaction."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            rows = [(self.name, orjson.dumps(item)) for item in items]
            self._connection.executemany("INSERT INTO entries (session, line) VALUES (?, ?)", rows)
            run("UPDATE sessions SET updated = ? WHERE id = ?", (time.time(), self.name))
        except BaseException:
            run("ROLLBACK")
            raise
        run("COMMIT")

    def append_each(self, items: Sequence[object]) -> None:
        """Insert each row in a transaction of its own."""
        for item in items:
            self.append((item,))

    def fork(self, turns: int) -> "SqliteSession":
        """Copy the rows in one transaction."""
        child = SqliteSession(self._connection, uuid.uuid4().hex)
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        run("INSERT INTO sessions VALUES (?, ?)", (child.name, time.time()))
        run(
            "INSERT INTO entries (session, line) SELECT ?, line FROM entries WHERE session = ? ORDER BY id LIMIT ?",
            (child.name, self.name, turns * ENTRIES_PER_TURN),
        )
        run("COMMIT")
        return child

    def refresh(self) -> None:
        """Do nothing: nothing is kept."""


def pragmas(connection: sqlite3.Connection) -> str:
    """Return how a connection writes."""
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return f"SQLite {sqlite3.sqlite_version}, journal_mode={journal.upper()}, synchronous={PRAGMA_NAMES[synchronous]}"


def pragmas_of(path: Path) -> str:
    """Return how a system writes that sets no ``synchronous`` itself: as any new connection to its database does."""
    connection = sqlite3.connect(path)
    try:
        return pragmas(connection)
    finally:
        connection.close()


DRIVERS = (
    SqliteDriver("sqlite", "sqlite3 by hand, NORMAL", "system", "process", "NORMAL"),
    SqliteDriver("sqlite-full", "sqlite3 by hand, FULL", "durability", "power", "FULL"),
)
