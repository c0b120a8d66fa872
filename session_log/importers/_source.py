"""A source in bytes: its lines, or the elements of its document, as records. Pure."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import orjson

from session_log import StorageError
from session_log.importers._steps import Record

MAX_SOURCE_LINE_BYTES: Final = 48 << 20
"""A record that is kept in a line of ours, with what we write around it; text in base64 would be a third longer."""
_BOM: Final = b"\xef\xbb\xbf"
_INK: Final = re.compile(rb"\S")
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}:,\n]|[^\s"\[\]{}:,]+', re.DOTALL)


class Unreadable(StorageError):
    """A source is no document of any kind that could be imported; nothing was written. ``line`` counts from 1."""

    def __init__(self, where: str, line: int, reason: str) -> None:
        super().__init__(f"{where}:{line}: {reason}; nothing was imported")
        self.where = where
        self.line = line
        self.reason = reason


class NotJson(ValueError):
    """Bytes that are no JSON value; the text says why."""


def parse(raw: bytes) -> Any:
    """Return the value of JSON; also what orjson refuses, but is JSON: lone surrogates, and deep nesting.

    Raises:
        NotJson: it is none.
    """
    raw = raw.removeprefix(_BOM)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        reason = str(exc)
    try:
        return json.loads(raw.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as exc:
        raise NotJson(f"byte {exc.start} is not UTF-8") from None
    except RecursionError:
        raise NotJson("nested too deep") from None
    except ValueError:
        raise NotJson("NUL bytes" if b"\0" in raw else f"no JSON ({reason})") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def is_blank(data: bytes) -> bool:
    """Tell whether a source holds nothing but white space, without copying it."""
    return _INK.search(data) is None


def are_lines(data: bytes) -> bool:
    """Tell whether a source is JSON lines, not one document: its first line is a value, and there are more."""
    begins = _INK.search(data)
    ends = data.find(b"\n", begins.start()) if begins is not None else -1
    if begins is None or ends < 0 or _INK.search(data, ends) is None:
        return False
    try:
        parse(data[begins.start() : ends])
    except NotJson:
        return False
    return True


def line_records(data: bytes) -> Iterator[Record]:
    """Yield the records of JSON lines; ``end`` is where the next one begins.

    A last line without its newline is torn, unless it is a whole object: another program may still be writing it.
    """
    start, number = (len(_BOM) if data.startswith(_BOM) else 0), 0
    while start < len(data):
        number += 1
        stop = data.find(b"\n", start)
        end = len(data) if stop < 0 else stop + 1
        raw = data[start : len(data) if stop < 0 else stop].strip(b" \t\r")
        start = end
        yield _record(number, raw, end, torn=stop < 0)


def _record(line: int, raw: bytes, end: int, *, torn: bool) -> Record:
    if not raw:
        return Record(line, raw, problem="blank", end=end)
    try:
        value = parse(raw)
    except NotJson as exc:
        return Record(line, raw, problem="torn" if torn else str(exc), end=end)
    if torn and not isinstance(value, dict):
        return Record(line, raw, problem="torn", end=end)
    if not isinstance(value, dict):
        return Record(line, raw, value, problem=f"{_name(value)}, no object", end=end)
    return Record(line, raw, value, end=end)


def _name(value: object) -> str:
    names = {list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def element(line: int, value: Any) -> Record:
    """Return an element of a document as a record."""
    problem = None if isinstance(value, dict) else f"{_name(value)}, no object"
    return Record(line, dumps(value), value, problem=problem)


def dumps(value: Any) -> bytes:
    """Return JSON on one line, of any value that :func:`parse` returns."""
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, lone surrogates, or deeper than orjson goes
        return json.dumps(value, separators=(",", ":")).encode()


def element_lines(data: bytes, path: tuple[str, ...]) -> list[int]:
    """Return on which line each element of the array at ``path`` of a document begins.

    The elements of the document itself are at ``()``.
    """
    lines: list[int] = []
    keys: list[bytes | None] = []
    wanted = [b'"' + key.encode() + b'"' for key in path]
    key, line, fresh = None, 1, False
    for token in _TOKENS.finditer(data):
        text = token.group()
        if text == b"\n":
            line += 1
            continue
        inside = len(keys) == len(wanted) + 1 and keys[1:] == wanted
        if fresh and inside and text != b"]":
            lines.append(line)
        fresh = False
        if text in {b"{", b"["}:
            keys.append(key)
            key, fresh = None, text == b"["
        elif text in {b"}", b"]"}:
            keys.pop() if keys else None
        elif text == b",":
            key, fresh = None, inside
        elif text != b":":
            key = text
    return lines
