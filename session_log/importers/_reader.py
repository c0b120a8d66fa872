"""What the readers of all formats have in common: whatever a record is, it becomes a node. Pure."""

from typing import Any, ClassVar

import msgspec

from session_log.importers._steps import Drifted, Node, Record


class Reader:
    """Reads the records of one source, in order. ``facts`` and ``source_id`` are what they said of the session."""

    format: ClassVar[str]

    def __init__(self) -> None:
        self.source_id: str | None = None
        self.version: str | None = None
        self.facts: dict[str, str] = {}
        self._title_rank = 0

    def read(self, record: Record) -> Node:
        """Return what a record means; one of no known shape is kept, with the reason."""
        if record.problem is not None:
            return Node(line=record.line, kind="damaged", kept=record.problem)
        try:
            node = self.node(record.line, record.value)
        except Drifted as exc:
            node = Node(line=record.line, kind="drifted", kept=str(exc))
        return msgspec.structs.replace(node, parent=None) if record.begins else node

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what an object means, taking from it what the node says.

        Raises:
            Drifted: it has not the shape of this format.
        """
        raise NotImplementedError

    def fact(self, name: str, value: object) -> None:
        """Note what is known of the session; the last one counts."""
        if isinstance(value, str) and value:
            self.facts[name] = value

    def title(self, value: object, rank: int) -> None:
        """Note a title; of several, the last of the highest rank counts."""
        if isinstance(value, str) and value.strip() and rank >= self._title_rank:
            self._title_rank = rank
            self.facts["title"] = value.strip()
