"""Rollback: a line that takes others back, and which lines count in the end. Pure.

A rollback line (``session_log.rollback``, ``{"to_entries": N}``) means: the state after the first N lines of this
segment. So the state at a line depends on the lines before it alone, and redo is a rollback to a later N.
"""

from collections.abc import Sequence

from session_log._entries import ROLLBACK_DOMAIN, Extension, LogEntry
from session_log._errors import InvalidEntry


class RolledBack(Exception):
    """A rollback was met while folding line by line: the order of the lines must be found first."""


class BadRollback(InvalidEntry):
    """A rollback that points nowhere; ``at`` is its position."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__("$.payload.to_entries", reason)
        self.at = at


def rollback_target(entry: LogEntry, before: int) -> int | None:
    """Return how many lines a rollback that has ``before`` lines before it keeps; None for any other entry.

    Raises:
        BadRollback: it keeps nothing, or more than there is.
    """
    if type(entry) is not Extension or entry.domain != ROLLBACK_DOMAIN:
        return None
    target = entry.payload.get("to_entries") if isinstance(entry.payload, dict) else None
    if type(target) is not int or not 1 <= target <= before:
        raise BadRollback(before, f"{target!r} is not between 1 and {before}, the lines before it")
    return target


def effective_order(entries: Sequence[LogEntry | None]) -> list[int]:
    """Return the positions of the entries that make up the state after the last one, rollbacks followed.

    ``entries`` are those of one segment, ``None`` where a line holds none.
    """
    order = []
    at = len(entries) - 1
    while at >= 0:
        entry = entries[at]
        target = rollback_target(entry, at) if entry is not None else None
        if target is None:
            order.append(at)
            at -= 1
        else:
            at = target - 1
    order.reverse()
    return order
