"""A record as it is, in the payload of an extension. Pure."""

import base64
import re
from typing import Any, Final

import msgspec

from session_log import MAX_PAYLOAD_DEPTH, InvalidEntry
from session_log.importers._source import MAX_SOURCE_LINE_BYTES, dumps
from session_log.importers._steps import Record

_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


def _too_deep(raw: bytes) -> bool:
    """Tell whether JSON nests deeper than a payload may."""
    if raw.count(b"[") + raw.count(b"{") < MAX_PAYLOAD_DEPTH:
        return False
    depth = deepest = 0
    for found in _BRACKETS.finditer(raw):
        depth += (found[0] in {b"[", b"{"}) - (found[0] in {b"]", b"}"})
        deepest = max(deepest, depth)
    return deepest >= MAX_PAYLOAD_DEPTH  # the payload is one deeper


def verbatim(record: Record, why: str | None) -> msgspec.Raw:
    """Return the payload that keeps a record as it is.

    Raises:
        InvalidEntry: it is too long.
    """
    if len(record.raw) > MAX_SOURCE_LINE_BYTES:
        size = f"{len(record.raw)} bytes, at most {MAX_SOURCE_LINE_BYTES}"
        raise InvalidEntry("$.payload", f"too long to be kept ({size}: MAX_SOURCE_LINE_BYTES)")
    head: dict[str, Any] = {"line": record.line}
    if why:
        head["why"] = why
    if (record.value is not None or record.raw == b"null") and not _too_deep(record.raw):
        return msgspec.Raw(dumps(head)[:-1] + b',"kept":' + record.raw + b"}")
    try:
        head["text"] = record.raw.decode()
    except UnicodeDecodeError:
        head["base64"] = base64.b64encode(record.raw).decode()
    return msgspec.Raw(dumps(head))
