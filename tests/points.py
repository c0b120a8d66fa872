"""Points: the places at which the interpreter looks for signals and lets other threads run.

That is when a function begins, when a loop goes round, and when a call of C code returns. :class:`Points` does
something at the n-th of them, in any frame of the library. (At the other opcodes nothing ever arrives.)
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import session_log as sl

HOME = str(Path(sl.__file__).parent)


@functools.cache
def _handlers(code: CodeType) -> list[tuple[int, int, int]]:
    """Return (start, stop, handler) of a code's exception table (CPython's Objects/exception_handling_notes.txt)."""
    numbers: list[int] = []
    value = 0
    for byte in code.co_exceptiontable:
        value = value << 6 | byte & 63
        if not byte & 64:
            numbers.append(value)
            value = 0
    fields = zip(*[iter(numbers)] * 4, strict=True)
    return [(2 * start, 2 * (start + length), 2 * target) for start, length, target, _ in fields]


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    """Return the instructions of a code by their offsets."""
    return {found.offset: found.opname for found in dis.get_instructions(code)}


def _handler_at(code: CodeType, offset: int) -> int | None:
    return next((target for start, stop, target in _handlers(code) if start <= offset < stop), None)


class Points:
    """Runs code in this thread, and calls ``then`` at the ``at``-th point (0: never), which may raise."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        self.at = at
        self.then = then
        self.count = 0
        self.place = "nowhere"
        self._called: dict[int, int] = {}  # frame -> offset of the C call that has just returned

    def run(self, act: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            act()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_back is not None:
            self._called.pop(id(frame.f_back), None)  # it was no C code that was called
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        called = self._called.pop(id(frame), None)
        if event == "opcode":
            code, offset = frame.f_code, frame.f_lasti
            name = _names(code).get(offset, "")
            if name.startswith("CALL") and "INTRINSIC" not in name:
                self._called[id(frame)] = offset
            returned = called is not None and _handler_at(code, called) == _handler_at(code, offset)
            if returned or name in ("RESUME", "JUMP_BACKWARD"):
                self.count += 1
                if self.count == self.at:
                    self.place = f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name} at {name} {offset}"
                    self.then()
        return self._step
