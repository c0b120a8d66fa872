"""A source as records: lines, or the elements of a document that holds messages. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from session_log.importers._source import NotJson, Unreadable, are_lines, element, element_lines, line_records, parse
from session_log.importers._steps import Record

LINES: Final = frozenset({"pi", "codex", "claude", "session-log"})
"""The formats that are JSON lines and nothing else."""
_LISTS: Final = ("messages", "input", "history", "output", "trajectory")
"""Where a document has its elements, in the order of the conversation."""


def records_of(fmt: str, data: bytes, where: str) -> Iterator[Record]:
    """Yield the records of a source.

    Raises:
        Unreadable: a document is no JSON, or a single value that holds no messages.
    """
    if fmt in LINES:
        return line_records(data)
    if are_lines(data):
        return _each_line(line_records(data))
    try:
        value = parse(data)
    except NotJson as exc:
        lines = line_records(data)
        first = next(lines, None)
        if first is None or first.problem not in {None, "blank"}:
            raise Unreadable(where, _line_of(str(exc)), f"the document is {exc}") from None
        return _each_line(line_records(data))
    return _elements(value, data)


def _line_of(reason: str) -> int:
    """Return the line that a parser complains of; 1 if it does not say."""
    _, _, tail = reason.partition("line ")
    digits = tail.split(" ", 1)[0].strip("():,")
    return int(digits) if digits.isdecimal() else 1


def _each_line(lines: Iterator[Record]) -> Iterator[Record]:
    """Yield lines, and the elements of those that hold a conversation of their own."""
    found = False
    for record in lines:
        value = record.value
        if record.problem is not None or not isinstance(value, dict) or not _holds(value):
            yield record
            continue
        for at, inner in enumerate(_flat(value)):
            one = element(record.line, inner)
            yield msgspec.structs.replace(one, begins=found and at == 0)
        found = True


def _holds(value: dict[str, Any]) -> bool:
    return "role" not in value and any(isinstance(value.get(name), list) for name in _LISTS)


def _elements(value: Any, data: bytes) -> Iterator[Record]:
    if isinstance(value, dict) and _holds(value):
        lines = {name: element_lines(data, (name,)) for name in _LISTS if isinstance(value.get(name), list)}
        for name, inner in _named(value):
            yield element(lines[name].pop(0) if lines.get(name) else 1, inner)
    elif isinstance(value, list):
        for line, inner in zip(element_lines(data, ()), value, strict=True):
            if isinstance(inner, dict) and _holds(inner):  # a list of conversations
                for at, one in enumerate(_flat(inner)):
                    yield msgspec.structs.replace(element(line, one), begins=at == 0 and line > 1)
            else:
                yield element(line, inner)
    else:
        for inner in _flat(value) if isinstance(value, dict) else [value]:
            yield element(1, inner)


def _flat(value: dict[str, Any]) -> list[Any]:
    return [inner for _, inner in _named(value)]


def _named(value: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what a document says: first what is about all of it, then its elements in order, with their lists."""
    parts = [(name, value[name]) for name in ("request", "response") if isinstance(value.get(name), dict)]
    if parts and not _holds(value) and "role" not in value:
        rest = {name: inner for name, inner in value.items() if name not in {"request", "response"}}
        found = [("", rest)] if rest else []
        return found + [pair for _, part in parts for pair in _named(part)]
    if "role" in value:
        return [("", value)]
    head = dict(value)
    found = []
    if isinstance(head.get("input"), str):
        found.append(("", {"role": "user", "content": head.pop("input")}))
    for name in _LISTS:
        if isinstance(head.get(name), list):
            found += [(name, inner) for inner in head.pop(name)]
    choices = head.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        answer = choices[0].get("message")
        if isinstance(answer, dict):
            head["choices"] = [{**choices[0], "message": None}, *choices[1:]]
            found.append(("", answer))
    return [("", head), *found] if head else found
