"""Interrupts by the rules of the interpreter, and against them.

:class:`Pending` has a signal wait from just before the n-th bytecode on; the interpreter delivers it where it looks for
signals itself: when a function begins, when a loop goes round, when a call of C code returns. :class:`Raised` raises at
the n-th bytecode, wherever that is; most bytecodes can fail for want of memory, but at few of them a signal arrives.
Everything below the act is interrupted, what the library calls of other packages included.
"""

import ctypes
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_SET_INTERRUPT = ctypes.PYFUNCTYPE(None, ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.py_object)
_mark: Callable[..., None] = _SET_INTERRUPT(("PyErr_SetInterruptEx", ctypes.pythonapi))
"""A trace function without bytecode: in one of Python's own the signal would be delivered before it is left."""
_TRIP: Callable[..., Any] = functools.partial(_mark, int(signal.SIGINT))
_QUIET: Callable[..., Any] = functools.partial(_mark, 0)  # no signal has this number: it does nothing

Place = tuple[CodeType | None, int]
"""An instruction: its code and its offset there, -1 for the beginning of a function."""


def spot(place: Place) -> str:
    """Return a place as people read it."""
    code, offset = place
    if code is None:
        return "nowhere"
    line = next((line for start, stop, line in code.co_lines() if start <= offset < stop and line), code.co_firstlineno)
    return f"{Path(code.co_filename).name}:{line} in {code.co_name}, offset {offset}"


class Traced:
    """Runs code in the main thread and sees the bytecodes below it; subclasses do something at the ``at``-th instead.

    ``seen``: all of them, in order, if ``at`` is 0. ``reached``: it was done, at ``place``.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.seen: list[Place] = []
        self._count = 0
        self.place: Place = None, 0
        self.reached = False

    def run(self, act: Callable[[], Any]) -> Any:
        """Return what ``act`` returns."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return act()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step(frame, event, arg)

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event in {"opcode", "call"}:
            self._count += 1
            if not self.at:
                self.seen.append((frame.f_code, frame.f_lasti if event == "opcode" else -1))
            elif self._count == self.at:
                return self._at(frame)
        return self._step

    def _at(self, frame: FrameType) -> Any:
        return self._step


class Raised(Traced):
    """Raises ``error`` at the ``at``-th bytecode (0: never)."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        super().__init__(at)
        self._error = error

    def _at(self, frame: FrameType) -> Any:
        sys.settrace(None)
        self.reached = True
        self.place = frame.f_code, frame.f_lasti
        raise self._error


class Pending(Traced):
    """Has SIGINT wait behind the ``at``-th bytecode (0: never); ``reached``: it came before the act ended."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self._running = False

    def run(self, act: Callable[[], Any]) -> Any:
        """Return what ``act`` returns, or raise KeyboardInterrupt."""
        before = signal.signal(signal.SIGINT, self._arrived)
        try:
            self._running = True
            result = super().run(act)
            self._running = False
            return result
        finally:
            self._running = False
            signal.signal(signal.SIGINT, before)

    def _at(self, frame: FrameType) -> Any:
        sys.settrace(_QUIET)
        _untrace(frame.f_back)
        frame.f_trace = _TRIP  # runs at the next bytecode of this frame
        return _TRIP

    def _arrived(self, signum: int, frame: FrameType | None) -> None:
        sys.settrace(None)
        _untrace(frame)
        if not self._running or frame is None or frame.f_code is Traced.run.__code__:
            return  # the act had ended
        self.reached = True
        self.place = frame.f_code, frame.f_lasti
        raise KeyboardInterrupt

    def next_after(self, rehearsal: list[Place]) -> int:
        """Return where to wait next, so that the signal arrives behind this place; ``rehearsal`` saw all of the act."""
        code, offset = self.place
        later = range(self.at + 1, len(rehearsal) + 1)
        for same in ((code, offset), (code, -1)):
            for at in later:
                if rehearsal[at - 1] == same:
                    return at
        return next((at for at in later if rehearsal[at - 1][0] is code), self.at + 1)


def _untrace(frame: FrameType | None) -> None:
    while frame is not None:
        frame.f_trace = None
        frame = frame.f_back
