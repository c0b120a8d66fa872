"""What a writer does to its entries before they are encoded. Pure."""

from collections.abc import Callable
from typing import TypeAlias

from session_log._codec import prepare
from session_log._entries import LogEntry

Shape: TypeAlias = Callable[[LogEntry], LogEntry]
"""What every entry goes through before it is encoded: redaction, for one. It may raise, and nothing is written then."""


def in_turn(*stages: Shape | None) -> Shape | None:
    """Return one shape that is all ``stages``, the first one first; None if there is none."""
    wanted = tuple(stage for stage in stages if stage is not None)
    if len(wanted) < 2:
        return wanted[0] if wanted else None

    def shape(entry: LogEntry) -> LogEntry:
        for stage in wanted:
            entry = stage(entry)
        return entry

    return shape


def prepare_shaped(entry: LogEntry, shape: Shape | None) -> tuple[bytes, LogEntry]:
    """Return the line of a first entry that went through ``shape``, and the entry a reader will get from it.

    What a copy takes along as raw JSON is shaped as the entry that it is, and stays raw if nothing in it changes.
    """
    line, entry = prepare(entry)
    if shape is None:
        return line, entry
    shaped_line, shaped = prepare(shape(entry))
    return (line, entry) if shaped == entry else (shaped_line, shaped)
