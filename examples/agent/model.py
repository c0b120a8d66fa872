"""What the loop asks of a model, and which model it gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from session_log import Item, Message, RestoredState, ToolCall, UsageRecord


class ModelError(Exception):
    """The model could not be reached, or answered with something that is no reply."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a model answered: items in order, and what they cost."""

    items: tuple[Item, ...]
    usage: UsageRecord

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools it asks for."""
        return tuple(item for item in self.items if isinstance(item, ToolCall))

    @property
    def text(self) -> str:
        """What it says."""
        return "\n".join(item.text for item in self.items if isinstance(item, Message))


class Model(Protocol):
    """Anything that continues a conversation."""

    name: str

    def complete(self, state: RestoredState) -> Reply:
        """Return the next items for a conversation that stands at ``state``.

        Raises:
            ModelError: no reply.
        """


def model_from(environ: Mapping[str, str]) -> Model:
    """Return the HTTP model if ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` are set, else the scripted one."""
    url, key = environ.get("OPENAI_BASE_URL"), environ.get("OPENAI_API_KEY")
    if url and key:
        from agent.endpoint import DEFAULT_MODEL, HttpModel

        return HttpModel(url, key, environ.get("OPENAI_MODEL") or DEFAULT_MODEL)
    from agent.scripted import ScriptedModel

    return ScriptedModel()
