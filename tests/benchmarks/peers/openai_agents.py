"""OpenAI Agents SDK: ``SQLiteSession`` on a file, one object a conversation, kept; ``add_items`` and ``get_items``.

``add_items`` is one transaction, in a thread of the event loop's pool. The session sets ``journal_mode=WAL`` and leaves
``synchronous`` as SQLite was built: FULL nearly everywhere, that is an fsync of the WAL a commit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.peers.interface import Clock, NoSuchCall, Role, Survives
from benchmarks.peers.material import Exchange
from benchmarks.peers.sqlite_wal import pragmas_of

ITEMS_PER_TURN = 7


@dataclass(frozen=True)
class AgentsDriver:
    """A row an item, as the Responses API takes it (7 a turn)."""

    key: str = "openai-agents"
    title: str = "OpenAI Agents SQLiteSession"
    role: Role = "system"
    survives: Survives = "power"
    modules: tuple[str, ...] = ("agents",)
    distribution: str = "openai-agents"
    statement: str = "from agents import SQLiteSession"
    forking: str = "by hand: get_items, and add_items to a new session"

    def start(self, folder: Path) -> "AgentsSessions":
        """Use the database in ``folder``."""
        return AgentsSessions(folder / "conversations.db")


class AgentsSessions:
    """A database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = import_module("agents").SQLiteSession
        self._opened: dict[str, AgentsSession] = {}

    def items(self, exchange: Exchange) -> list[dict[str, Any]]:
        """Return input items of the Responses API."""
        reasoning = {
            "type": "reasoning",
            "id": f"rs_{uuid4().hex}",
            "summary": [{"type": "summary_text", "text": exchange.thought}],
            "encrypted_content": exchange.signature,
        }
        answer = {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "id": f"msg_{uuid4().hex}",
            "content": [{"type": "output_text", "text": exchange.answer, "annotations": []}],
        }
        calls: list[dict[str, Any]] = []
        for call in exchange.calls:
            named = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            calls.append({"type": "function_call", **named})
            calls.append({"type": "function_call_output", "call_id": call.call_id, "output": call.output})
        return [{"role": "user", "content": exchange.question}, reasoning, *calls, answer]

    def create(self) -> "AgentsSession":
        """Name a new session."""
        return self.open(uuid4().hex)

    def open(self, name: str) -> "AgentsSession":
        """Make the object of a session, once; it makes the tables if they are missing."""
        if name not in self._opened:
            self._opened[name] = AgentsSession(self, self._new(name, self._path))
        return self._opened[name]

    def shared(self, name: str) -> "AgentsSession":
        """Open it as for oneself."""
        return self.open(name)

    async def restore(self, name: str) -> list[Any]:
        """Get all items."""
        return await self.open(name).all_items()

    def fill(self, exchanges: Iterable[Exchange]) -> "AgentsSession":
        """Add all items at once."""
        session = self.create()
        clock = Clock()
        clock.wait(session.append([item for exchange in exchanges for item in self.items(exchange)]))
        clock.close()
        return session

    def populate(self, count: int) -> None:
        """Refuse."""
        raise NoSuchCall("no call lists sessions; its tables can be asked by SQL")

    def recent(self, limit: int) -> list[str]:
        """Refuse."""
        raise NoSuchCall("no call lists sessions")

    def mode(self) -> str:
        """Return the pragmas that hold."""
        return f"{pragmas_of(self._path)} (not set by the session)"

    def close(self) -> None:
        """Close every session's connections."""
        for session in self._opened.values():
            session.close()
        self._opened.clear()


class AgentsSession:
    """A session."""

    def __init__(self, sessions: AgentsSessions, session: Any) -> None:
        self.name: str = session.session_id
        self._sessions = sessions
        self._session = session

    async def append(self, items: Sequence[Any]) -> None:
        """Add the items in one call."""
        await self._session.add_items(items)

    async def append_each(self, items: Sequence[Any]) -> None:
        """Add each item in a call of its own."""
        for item in items:
            await self._session.add_items([item])

    async def all_items(self) -> list[Any]:
        """Get all items."""
        items: list[Any] = await self._session.get_items()
        return items

    async def fork(self, turns: int) -> "AgentsSession":
        """Add the first items to a new session."""
        child = self._sessions.create()
        await child.append((await self.all_items())[: turns * ITEMS_PER_TURN])
        return child

    def refresh(self) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


DRIVERS = (AgentsDriver(),)
