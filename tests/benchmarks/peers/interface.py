"""What a system must do to take part, and the clock that times it, in one running event loop or without one."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from inspect import iscoroutine
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from benchmarks.peers.material import Exchange

T = TypeVar("T")
Item: TypeAlias = Any
"""What a system records: its schema is the system's own."""
Later: TypeAlias = T | Coroutine[Any, Any, T]
"""A result, or what the event loop makes one of."""
Survives: TypeAlias = Literal["process", "turn", "power"]
"""What an acknowledged append survives: the process' death; a power cut, from the end of its turn on; a power cut."""
Role: TypeAlias = Literal["system", "durability", "conflict"]
"""Takes part in everything; only where durability matters; only where others write, too."""


class NoSuchCall(Exception):
    """The system has no call for it; the message says what there is instead."""


class Session(Protocol):
    """One conversation, open. What is timed may be a coroutine."""

    name: str
    """Finds it again, in another process, too."""

    def append(self, items: Sequence[Item]) -> Later[None]:
        """Record the items in as few calls as the system allows."""

    def append_each(self, items: Sequence[Item]) -> Later[None]:
        """Record the items one by one, each acknowledged before the next."""

    def fork(self, turns: int) -> Later["Session"]:
        """Return a new conversation with the first so many turns of this one."""

    def refresh(self) -> Later[None]:
        """See what others wrote, if the system wants that before a turn or after a refusal."""


class Sessions(Protocol):
    """The conversations in one folder."""

    def items(self, exchange: Exchange) -> list[Item]:
        """Return what the system records of a turn, its texts the same as in every other system."""

    def create(self) -> Session:
        """Start a conversation."""

    def open(self, name: str) -> Session:
        """Open a conversation."""

    def shared(self, name: str) -> Session:
        """Open a conversation into which other processes write, too."""

    def restore(self, name: str) -> Later[Sequence[Item]]:
        """Return what the system gives an agent that goes on, read from the disk."""

    def fill(self, exchanges: Iterable[Exchange]) -> Session:
        """Start a conversation of these turns, in any way that leaves for readers what appends would have left."""

    def populate(self, count: int) -> None:
        """Start that many conversations of one item each, as cheaply as possible; or raise NoSuchCall."""

    def recent(self, limit: int) -> Later[Sequence[str]]:
        """Return the names of the most recent conversations; or raise NoSuchCall."""

    def mode(self) -> str:
        """Return how it writes, asked of the system itself where it can tell."""

    def close(self) -> None:
        """Let go of everything that is open."""


class Driver(Protocol):
    """A system, with one setting of its durability."""

    @property
    def key(self) -> str:
        """Names it on command lines."""

    @property
    def title(self) -> str:
        """Names it in the table."""

    @property
    def role(self) -> Role:
        """In what it takes part."""

    @property
    def survives(self) -> Survives:
        """What an acknowledged append survives."""

    @property
    def modules(self) -> tuple[str, ...]:
        """What must be installed."""

    @property
    def distribution(self) -> str | None:
        """What to install; None if it comes with Python or with the log."""

    @property
    def statement(self) -> str:
        """What a program imports to use it."""

    @property
    def forking(self) -> str:
        """How a fork is made."""

    def start(self, folder: Path) -> Sessions:
        """Open the conversations in ``folder``, which is there."""


class Timed(NamedTuple):
    """What an action returned, after how long on the wall, and what all threads of the process took of a processor."""

    seconds: float
    cpu_s: float
    value: Any


class Clock:
    """Times actions; the coroutines among them in one event loop, which is running when the clock starts."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def time(self, action: Callable[[], object]) -> Timed:
        """Run the action to its end."""
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        value = action()
        timed = _timed(value, cpu_s, wall_s)
        return self._loop.run_until_complete(_awaited(value)) if iscoroutine(value) else timed

    def wait(self, value: object) -> Any:
        """Return the value, or what the coroutine returns."""
        return self._loop.run_until_complete(value) if iscoroutine(value) else value

    def close(self) -> None:
        """End the loop and its threads."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def _awaited(coroutine: Coroutine[Any, Any, object]) -> Timed:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    return _timed(await coroutine, cpu_s, wall_s)


def _timed(value: object, cpu_s: float, wall_s: float) -> Timed:
    return Timed(time.perf_counter() - wall_s, time.process_time() - cpu_s, value)
