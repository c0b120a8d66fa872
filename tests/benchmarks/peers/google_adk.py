"""Google ADK: ``SqliteSessionService``; ``append_event`` and ``get_session``.

Each call opens a connection of its own, in a thread of its own, and closes it. The service sets no journal mode and no
``synchronous``: SQLite's rollback journal, synced at each commit as SQLite was built (FULL nearly everywhere). The
folder is not synced when the journal is removed, so a power cut right after a commit may still roll it back.
"""

import base64
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.peers.interface import Clock, Role, Survives
from benchmarks.peers.material import Exchange
from benchmarks.peers.sqlite_wal import pragmas_of

ITEMS_PER_TURN = 6
WHO = {"app_name": "benchmark", "user_id": "user"}


@dataclass(frozen=True)
class AdkDriver:
    """A row an event (6 a turn), a transaction an event."""

    key: str = "google-adk"
    title: str = "Google ADK SqliteSessionService"
    role: Role = "system"
    survives: Survives = "power"
    modules: tuple[str, ...] = ("google.adk.sessions.sqlite_session_service", "google.genai.types")
    distribution: str = "google-adk"
    statement: str = "from google.adk.sessions.sqlite_session_service import SqliteSessionService"
    forking: str = "by hand: create_session, and append_event for each event"

    def start(self, folder: Path) -> "AdkSessions":
        """Use the database in ``folder``."""
        return AdkSessions(folder / "session.db")


class AdkSessions:
    """A service."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.service: Any = import_module("google.adk.sessions.sqlite_session_service").SqliteSessionService(str(path))
        self._event = import_module("google.adk.events").Event
        self._types = import_module("google.genai.types")

    def items(self, exchange: Exchange) -> list[Any]:
        """Return events; the thought is in the event that calls the first tool."""
        part, function_call, function_response = (
            getattr(self._types, name) for name in ("Part", "FunctionCall", "FunctionResponse")
        )
        signature = base64.b64decode(exchange.signature)
        before = [part(text=exchange.thought, thought=True, thought_signature=signature)]
        run = f"e-{uuid4()}"
        said = [self.event(run, "user", "user", part(text=exchange.question))]
        for call in exchange.calls:
            wanted = function_call(id=call.call_id, name=call.name, args=call.values)
            result = function_response(id=call.call_id, name=call.name, response={"result": call.output})
            said.append(self.event(run, "agent", "model", *before, part(function_call=wanted)))
            said.append(self.event(run, "agent", "user", part(function_response=result)))
            before = []
        return [*said, self.event(run, "agent", "model", part(text=exchange.answer))]

    def event(self, run: str, author: str, role: str, *parts: Any) -> Any:
        """Return an event of now."""
        content = self._types.Content(role=role, parts=list(parts))
        return self._event(id=str(uuid4()), invocation_id=run, author=author, content=content)

    def create(self) -> "AdkSession":
        """Create a session."""
        return AdkSession(self, _waited(self.service.create_session(**WHO)))

    def open(self, name: str) -> "AdkSession":
        """Get a session."""
        return AdkSession(self, _waited(self.service.get_session(**WHO, session_id=name)))

    def shared(self, name: str) -> "AdkSession":
        """Open it as for oneself."""
        return self.open(name)

    async def restore(self, name: str) -> list[Any]:
        """Return the events of the session, got anew."""
        session = await self.service.get_session(**WHO, session_id=name)
        events: list[Any] = session.events
        return events

    def fill(self, exchanges: Iterable[Exchange]) -> "AdkSession":
        """Insert the events by SQL: the rows that ``append_event`` would have made, in one transaction."""
        name = self.create().name
        rows = (
            (event.id, *WHO.values(), name, event.invocation_id, event.timestamp, _dumped(event))
            for exchange in exchanges
            for event in self.items(exchange)
        )
        with sqlite3.connect(self._path) as connection:
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            connection.execute("UPDATE sessions SET update_time = ? WHERE id = ?", (time.time(), name))
        connection.close()
        return self.open(name)

    def populate(self, count: int) -> None:
        """Insert sessions by SQL: the rows that ``create_session`` would have made."""
        self.create()
        rows = [(*WHO.values(), str(uuid4()), "{}", float(number), float(number)) for number in range(count - 1)]
        with sqlite3.connect(self._path) as connection:
            connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.close()

    async def recent(self, limit: int) -> list[str]:
        """List all sessions, the oldest first, and take the last: the call has no limit."""
        listed = await self.service.list_sessions(**WHO)
        return [session.id for session in reversed(listed.sessions[-limit:])]

    def mode(self) -> str:
        """Return the pragmas that hold."""
        return f"{pragmas_of(self._path)} (not set by the service, which opens a connection a call)"

    def close(self) -> None:
        """Do nothing: nothing is kept open."""


class AdkSession:
    """A session object, which the service keeps up to date."""

    def __init__(self, sessions: AdkSessions, session: Any) -> None:
        self.name: str = session.id
        self._sessions = sessions
        self._session = session

    async def append_each(self, items: Sequence[Any]) -> None:
        """Append each event; a turn has no call of its own."""
        append, session = self._sessions.service.append_event, self._session
        for item in items:
            await append(session, item)

    append = append_each

    async def fork(self, turns: int) -> "AdkSession":
        """Append copies of the first events to a new session."""
        child = AdkSession(self._sessions, await self._sessions.service.create_session(**WHO))
        events = self._session.events[: turns * ITEMS_PER_TURN]
        await child.append_each([event.model_copy(update={"timestamp": time.time()}) for event in events])
        return child

    async def refresh(self) -> None:
        """Get the session anew."""
        self._session = await self._sessions.service.get_session(**WHO, session_id=self.name)


def _dumped(event: Any) -> str:
    text: str = event.model_dump_json(exclude_none=True)
    return text


def _waited(coroutine: Any) -> Any:
    clock = Clock()
    try:
        return clock.wait(coroutine)
    finally:
        clock.close()


DRIVERS = (AdkDriver(),)
