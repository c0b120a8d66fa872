"""Offspring: work done in forked children, whose end harms nobody."""

import faulthandler
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Self, TypeVar

Result = TypeVar("Result")


class Died(Exception):
    """The child ended before its work; the message says how."""


class Child:
    """A forked child at work; a context manager that ends it if it has not ended."""

    def __init__(self, work: Callable[[], Iterable[object]]) -> None:
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            faulthandler.disable()  # some children are made to die; the parent says so, and nobody needs their stack
            _work(work, writing)
        os.close(writing)
        self._pipe: BinaryIO = os.fdopen(reading, "rb")
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._ended:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        self._pipe.close()

    def results(self) -> Iterator[Any]:
        """Yield what the work yields.

        Raises:
            Died: it was killed, or raised, or ended on its own.
        """
        while True:
            try:
                kind, value = pickle.load(self._pipe)
            except (EOFError, pickle.UnpicklingError):
                kind, value = "silence", None
            if kind == "result":
                yield value
                continue
            status = self._wait()
            if os.WIFSIGNALED(status):
                raise Died(f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
            if kind != "end":
                raise Died(value or f"ended with {os.waitstatus_to_exitcode(status)} and said nothing")
            return

    def _wait(self) -> int:
        self._ended = True
        return os.waitpid(self._pid, 0)[1]


def _work(work: Callable[[], Iterable[object]], writing: int) -> None:
    """Do the work, send its results, and end without what the parent would do at its own end."""
    try:
        with os.fdopen(writing, "wb") as pipe:
            try:
                for result in work():
                    _say(pipe, "result", result)
                _say(pipe, "end", None)
            except BaseException:  # noqa: BLE001  reported to the parent
                _say(pipe, "error", traceback.format_exc())
    finally:
        os._exit(0)


def _say(pipe: BinaryIO, kind: str, value: object) -> None:
    pickle.dump((kind, value), pipe)
    pipe.flush()


def in_child(work: Callable[[], Result]) -> Result:
    """Return what ``work`` returns in a forked child.

    Raises:
        Died: the child was killed, or the work raised.
    """
    with Child(lambda: (each() for each in (work,))) as child:
        result: Result = next(child.results())
        return result
