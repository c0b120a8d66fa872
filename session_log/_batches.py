"""The batches that are open on a writer: one for each thread or task at most."""

import sys
import weakref
from types import TracebackType
from typing import Protocol

from session_log._entries import LogEntry
from session_log._flow import current_flow

Collected = list[tuple[bytes, LogEntry]]
"""Lines and their entries."""


class Collecting(Protocol):
    """A batch in the making."""

    collected: Collected

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """End it."""


class Batches:
    """Open batches by flow. True while there is any.

    An interrupt at the very entry of its ``__exit__`` leaves a batch here that nobody will end: it would swallow
    whatever is appended from then on. So a batch counts only while somebody holds it, as the ``with`` statement does,
    and not for those who handle an exception that was raised at its end.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], weakref.ref[Collecting]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, batch: Collecting) -> None:
        """Let ``batch`` collect what this flow records."""
        self._open[current_flow()] = weakref.ref(batch)

    def end(self, batch: Collecting) -> None:
        """Let the flow that began ``batch`` record as before. Idempotent."""
        self._open = {flow: known for flow, known in self._open.items() if known() not in (batch, None)}

    def collected(self) -> Collected | None:
        """Return what the open batch of this flow has collected, if one is open."""
        known = self._open.get(current_flow())
        batch = known() if known is not None else None
        if batch is None:
            return None
        if _was_raised_at_the_end_of(batch):
            self.end(batch)
            return None
        return batch.collected


def _was_raised_at_the_end_of(batch: Collecting) -> bool:
    """Tell whether the exception that is being handled came out of the ``__exit__`` of ``batch``."""
    exc = sys.exc_info()[1]
    at = exc.__traceback__ if exc is not None else None
    while at is not None:
        frame = at.tb_frame
        if frame.f_code.co_name == "__exit__" and frame.f_locals.get("self") is batch:
            return True
        at = at.tb_next
    return False
