"""Strands Agents: ``FileSessionManager``, called as an ``Agent``'s hooks call it: ``append_message``, ``sync_agent``.

Each message is a file of its own: written to a temporary name, renamed, never synced. The agent keeps its whole history
(``NullConversationManager``) and has a model that is never asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.peers.interface import NoSuchCall, Role, Survives
from benchmarks.peers.material import Exchange

ITEMS_PER_TURN = 6
AGENT_ID = "agent"


@dataclass(frozen=True)
class StrandsDriver:
    """A file a message, as the Converse API has it (6 a turn)."""

    key: str = "strands"
    title: str = "Strands FileSessionManager"
    role: Role = "system"
    survives: Survives = "process"
    modules: tuple[str, ...] = ("strands",)
    distribution: str = "strands-agents"
    statement: str = "from strands.session.file_session_manager import FileSessionManager"
    forking: str = "by hand: an agent with the messages is given a new session, which writes them all"

    def start(self, folder: Path) -> "StrandsSessions":
        """Use the folder."""
        return StrandsSessions(folder)


class StrandsSessions:
    """A folder of session folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._new = import_module("strands.session.file_session_manager").FileSessionManager
        self._agent = import_module("strands").Agent
        self._manager = import_module("strands.agent.conversation_manager").NullConversationManager
        model = import_module("strands.models").Model
        self._silent = type("Silent", (model,), dict.fromkeys(model.__abstractmethods__, _nothing))

    def items(self, exchange: Exchange) -> list[dict[str, Any]]:
        """Return messages; the reasoning is in the message that calls the first tool."""
        reasoning = {"text": exchange.thought, "signature": exchange.signature}
        before: list[dict[str, Any]] = [{"reasoningContent": {"reasoningText": reasoning}}]
        said: list[dict[str, Any]] = [_message("user", {"text": exchange.question})]
        for call in exchange.calls:
            wanted = {"toolUseId": call.call_id, "name": call.name, "input": call.values}
            result = {"toolUseId": call.call_id, "status": "success", "content": [{"text": call.output}]}
            said.append(_message("assistant", *before, {"toolUse": wanted}))
            said.append(_message("user", {"toolResult": result}))
            before = []
        return [*said, _message("assistant", {"text": exchange.answer})]

    def agent(self, name: str, messages: Sequence[Any] = ()) -> Any:
        """Return an agent with a session: restored, if there is one of that name, else written with its messages."""
        return self._agent(
            model=self._silent(),
            agent_id=AGENT_ID,
            messages=list(messages),
            conversation_manager=self._manager(),
            session_manager=self._new(name, storage_dir=str(self._folder)),
            callback_handler=None,
        )

    def create(self) -> "StrandsSession":
        """Make the folders of a new session."""
        return self.open(uuid4().hex)

    def open(self, name: str) -> "StrandsSession":
        """Restore an agent from a session."""
        return StrandsSession(self, name)

    def shared(self, name: str) -> "StrandsSession":
        """Open it as for oneself."""
        return self.open(name)

    def restore(self, name: str) -> list[Any]:
        """Return the messages of a new agent; half a millisecond of it is the agent."""
        messages: list[Any] = self.agent(name).messages
        return messages

    def fill(self, exchanges: Iterable[Exchange]) -> "StrandsSession":
        """Append message by message, without ``sync_agent``: it goes through all messages, and finds nothing new."""
        name = self.create().name
        agent = self.agent(name)
        for exchange in exchanges:
            for item in self.items(exchange):
                agent._session_manager.append_message(item, agent)
        return self.open(name)

    def populate(self, count: int) -> None:
        """Refuse."""
        raise NoSuchCall("no call lists sessions; the names of its folders are their ids")

    def recent(self, limit: int) -> list[str]:
        """Refuse."""
        raise NoSuchCall("no call lists sessions")

    def mode(self) -> str:
        """Return what its source says."""
        return "a temporary file a message, renamed; no sync"

    def close(self) -> None:
        """Do nothing: nothing is kept open."""


class StrandsSession:
    """A session with its agent."""

    def __init__(self, sessions: StrandsSessions, name: str, messages: Sequence[Any] = ()) -> None:
        self.name = name
        self._sessions = sessions
        self._agent = sessions.agent(name, messages)

    def append_each(self, items: Sequence[Any]) -> None:
        """Append each message, as the hooks do; a turn has no call of its own."""
        agent = self._agent
        manager = agent._session_manager
        for item in items:
            agent.messages.append(item)
            manager.append_message(item, agent)
            manager.sync_agent(agent)

    append = append_each

    def fork(self, turns: int) -> "StrandsSession":
        """Write the first messages into a new session."""
        return StrandsSession(self._sessions, uuid4().hex, self._agent.messages[: turns * ITEMS_PER_TURN])

    def refresh(self) -> None:
        """Restore the agent."""
        self._agent = self._sessions.agent(self.name)


def _message(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _nothing(*_: object, **__: object) -> None:
    """Stand in for what only a model that is asked would do."""


DRIVERS = (StrandsDriver(),)
