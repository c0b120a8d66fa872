"""The batches that are open on a writer: one for each thread or task at most."""

import weakref
from types import MethodType
from typing import TYPE_CHECKING

from session_log._codec import clock_time
from session_log._entries import LogEntry
from session_log._flow import current_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Collector:
    """What a batch collects, while it is open; ``latest`` is the greatest time in it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.entries: list[LogEntry] = []
        self.latest = 0
        self._exit: weakref.ref[MethodType] | None = None

    def collect(self, lines: "Sequence[bytes]", entries: "Sequence[LogEntry]") -> int:
        """Take lines and their entries, and return how many there are now."""
        self.lines += lines
        self.entries += entries
        for entry in entries:
            ts = clock_time(entry)
            self.latest = max(self.latest, ts)
        return len(self.lines)

    def held(self) -> "weakref.ref[Any]":
        """Return a weak reference to what lives as long as the ``with`` statement is in its block."""
        return self._exit if self._exit is not None else weakref.ref(self)


class Exit:
    """The ``__exit__`` of a collector: a bound method of which only the ``with`` statement keeps a reference.

    An interrupt at the very entry of an ``__exit__`` leaves a batch open that nobody will end, and that would swallow
    whatever is appended from then on. The batch itself may live on in a traceback; this method does not: the statement
    looks it up once, before the block, and drops it when it is left, however it is left.
    """

    def __init__(self, end: "Callable[..., None]") -> None:
        self._end = end

    def __get__(self, batch: Collector | None, owner: type | None = None) -> "Callable[..., None]":
        if batch is None:
            return self._end  # contextlib.ExitStack asks the type, and keeps the batch itself
        method = MethodType(self._end, batch)
        batch._exit = weakref.ref(method)
        return method


class Batches:
    """Open batches by flow. True while there is any."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], weakref.ref[Collector | MethodType]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, batch: Collector) -> None:
        """Let ``batch`` collect what this flow records."""
        self._open[current_flow()] = batch.held()

    def end(self, batch: Collector) -> None:
        """Let the flow that began ``batch`` record as before. Idempotent."""
        self._open = {flow: held for flow, held in self._open.items() if _batch(held) not in (batch, None)}

    def current(self) -> Collector | None:
        """Return the open batch of this flow, if there is one."""
        held = self._open.get(current_flow())
        return _batch(held) if held is not None else None


def _batch(held: "weakref.ref[Collector | MethodType]") -> Collector | None:
    found = held()
    if isinstance(found, MethodType):
        batch: Collector = found.__self__  # type: ignore[assignment]
        return batch
    return found
