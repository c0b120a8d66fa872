"""LangGraph: ``SqliteSaver``, called as a compiled graph of ``MessagesState`` calls it (checked against langgraph 1.2).

With ``durability="exit"`` a graph puts one checkpoint at the end of a turn: that is ``append``. With
``durability="sync"`` it puts, for each message, the message (``put_writes``) and then a checkpoint: ``append_each``. A
checkpoint has the values of all channels in it, so all messages so far. The saver sets ``journal_mode=WAL`` and leaves
``synchronous`` as SQLite was built: FULL nearly everywhere, that is an fsync of the WAL a commit.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.peers.interface import Role, Survives
from benchmarks.peers.material import Exchange
from benchmarks.peers.sqlite_wal import pragmas

ITEMS_PER_TURN = 6


@dataclass(frozen=True)
class LangGraphDriver:
    """A checkpoint a turn or a message, of LangChain messages (6 a turn)."""

    key: str = "langgraph"
    title: str = "LangGraph SqliteSaver"
    role: Role = "system"
    survives: Survives = "power"
    modules: tuple[str, ...] = ("langgraph.checkpoint.sqlite", "langchain_core.messages")
    distribution: str = "langgraph-checkpoint-sqlite"
    statement: str = "from langgraph.checkpoint.sqlite import SqliteSaver"
    forking: str = "as update_state does it: the checkpoint of that turn is put again, with all its messages"

    def start(self, folder: Path) -> "LangGraphSessions":
        """Open the database in ``folder``."""
        return LangGraphSessions(folder / "checkpoints.sqlite")


class LangGraphSessions:
    """A saver on its connection."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self.saver: Any = import_module("langgraph.checkpoint.sqlite").SqliteSaver(self._connection)
        self.saver.setup()
        self._messages = import_module("langchain_core.messages")

    def items(self, exchange: Exchange) -> list[Any]:
        """Return LangChain messages; the reasoning is in the message that calls the first tool."""
        ai, tool, human = (getattr(self._messages, f"{kind}Message") for kind in ("AI", "Tool", "Human"))
        thinking: Any = [{"type": "thinking", "thinking": exchange.thought, "signature": exchange.signature}]
        said = [human(exchange.question, id=str(uuid4()))]
        for call in exchange.calls:
            wanted = {"id": call.call_id, "name": call.name, "args": call.values, "type": "tool_call"}
            said.append(ai(thinking, tool_calls=[wanted], id=str(uuid4())))
            said.append(tool(call.output, tool_call_id=call.call_id, name=call.name, id=str(uuid4())))
            thinking = ""
        return [*said, ai(exchange.answer, id=str(uuid4()))]

    def create(self) -> "LangGraphSession":
        """Name a new thread."""
        return LangGraphSession(self, str(uuid4()))

    def open(self, name: str) -> "LangGraphSession":
        """Load the last checkpoint of a thread."""
        session = LangGraphSession(self, name)
        session.refresh()
        return session

    def shared(self, name: str) -> "LangGraphSession":
        """Open it as for oneself."""
        return self.open(name)

    def restore(self, name: str) -> list[Any]:
        """Return the messages of the last checkpoint."""
        found = self.saver.get_tuple({"configurable": {"thread_id": name, "checkpoint_ns": ""}})
        messages: list[Any] = found.checkpoint["channel_values"]["messages"] if found else []
        return messages

    def fill(self, exchanges: Iterable[Exchange]) -> "LangGraphSession":
        """Put two checkpoints: before the last three turns, where forks are made, and the last; no other is read."""
        session = self.create()
        turns = [self.items(exchange) for exchange in exchanges]
        if len(turns) > 3:
            session.append([item for turn in turns[:-3] for item in turn])
        session.append([item for turn in turns[-3:] for item in turn])
        return session

    def populate(self, count: int) -> None:
        """Put threads of one checkpoint with one message."""
        self._connection.execute("PRAGMA synchronous=OFF")
        human = self._messages.HumanMessage
        for number in range(count):
            self.create().append([human(f"question {number}", id=str(number))])
        self._connection.execute("PRAGMA synchronous=FULL")

    def recent(self, limit: int) -> list[str]:
        """Return the threads of the newest checkpoints: there is no call for threads. Each has one checkpoint here."""
        return [found.config["configurable"]["thread_id"] for found in self.saver.list(None, limit=limit)]

    def mode(self) -> str:
        """Return the pragmas."""
        return f"{pragmas(self._connection)} (not set by the saver)"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class LangGraphSession:
    """A thread, with the values of its channels, as a running graph holds them."""

    def __init__(self, sessions: LangGraphSessions, name: str, config: Any = None) -> None:
        self.name = name
        self._sessions = sessions
        self._saver = sessions.saver
        self._base = import_module("langgraph.checkpoint.base")
        self._config = config or {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self._messages: list[Any] = []
        self._cuts: dict[int, Any] = {}
        self._step = -1
        self._version: Any = None

    def append(self, items: Sequence[Any]) -> None:
        """Put one checkpoint."""
        self._messages.extend(items)
        self._put("loop")

    def append_each(self, items: Sequence[Any]) -> None:
        """Put the write of each message, and a checkpoint."""
        for item in items:
            self._saver.put_writes(self._config, [("messages", [item])], str(uuid4()))
            self._messages.append(item)
            self._put("loop")

    def _put(self, source: str) -> None:
        self._step += 1
        self._version = self._saver.get_next_version(self._version, None)
        checkpoint = self._base.empty_checkpoint()
        checkpoint["channel_values"] = {"messages": self._messages}
        checkpoint["channel_versions"] = {"messages": self._version}
        checkpoint["updated_channels"] = ["messages"]
        metadata = {"source": source, "step": self._step, "parents": {}}
        self._config = self._saver.put(self._config, checkpoint, metadata, {"messages": self._version})

    def fork(self, turns: int) -> "LangGraphSession":
        """Put the checkpoint with that many turns again: it is the thread's last one then. The others stay."""
        if turns not in self._cuts:
            self._cuts[turns] = self._after(turns)
        found = self._saver.get_tuple(self._cuts[turns])
        child = LangGraphSession(self._sessions, self.name, found.config)
        child._messages = found.checkpoint["channel_values"]["messages"]
        child._put("fork")
        return child

    def _after(self, turns: int) -> Any:
        """Return the place of a checkpoint, which whoever forks has at hand."""
        for found in self._saver.list({"configurable": {"thread_id": self.name, "checkpoint_ns": ""}}):
            if len(found.checkpoint["channel_values"]["messages"]) == turns * ITEMS_PER_TURN:
                return found.config
        raise LookupError(f"thread {self.name}: no checkpoint after {turns} turns")

    def refresh(self) -> None:
        """Load the last checkpoint, as ``invoke`` does at its start; after a refusal, what was not put is not there."""
        found = self._saver.get_tuple({"configurable": {"thread_id": self.name, "checkpoint_ns": ""}})
        if found is None:
            self._messages = []
            return
        self._config = found.config
        self._messages = list(found.checkpoint["channel_values"]["messages"])
        self._version = found.checkpoint["channel_versions"]["messages"]
        self._step = found.metadata["step"]


DRIVERS = (LangGraphDriver(),)
