r"""Opaque payloads: any JSON value to raw JSON and back, deep-equal. Pure.

orjson is the fast path. The standard library is the other one, for what orjson cannot say: integers beyond 64 bits and
lone surrogates, which are written as ``\ud83d`` escapes so that the line stays UTF-8.
"""

import json
import math
from enum import Enum
from typing import Any, NoReturn

import msgspec
import orjson

from session_log._errors import InvalidEntry

MAX_PAYLOAD_DEPTH = 200
"""How deep arrays and objects may nest in a payload: readers recurse, and theirs is no deeper stack than ours."""


class Own(dict[str, Any]):
    """A payload that was made for one entry and that nobody else holds: it may enter a state as it is."""

    __slots__ = ()


def to_raw(payload: Any, path: str) -> msgspec.Raw:
    """Return ``payload`` as raw JSON. Dataclasses, datetimes, UUIDs and enums become what orjson makes of them.

    Raises:
        InvalidEntry: NaN or infinity, a key that is no text, bytes, a cycle, too deep; ``path`` extended to the value.
    """
    if isinstance(payload, msgspec.Raw):
        return _sound(payload, path)
    try:
        raw = orjson.dumps(payload)
    except TypeError as exc:  # orjson.JSONEncodeError is a TypeError
        return _to_raw_slowly(payload, path, str(exc))
    if b"null" in raw or b"[[[[[[" in raw or raw.count(b"[") + raw.count(b"{") > MAX_PAYLOAD_DEPTH:
        _refuse(payload, path, 0)  # orjson writes NaN as null, and nests deeper than we allow
    return msgspec.Raw(raw)


def _sound(raw: msgspec.Raw, path: str) -> msgspec.Raw:
    """Return raw JSON as it is, if it is JSON on one line."""
    data = bytes(raw)
    if b"\n" in data:
        raise InvalidEntry(path, "is raw JSON on several lines; send it on one, or as a value")
    try:
        from_raw(data)
    except ValueError as exc:
        raise InvalidEntry(path, f"is raw, but no JSON ({exc})") from None
    return raw


def _to_raw_slowly(payload: Any, path: str, reason: str) -> msgspec.Raw:
    _refuse(payload, path, 0)
    try:
        text = json.dumps(payload, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_as_orjson)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidEntry(path, f"is no JSON value ({reason})") from exc
    return msgspec.Raw(text.encode())


def _as_orjson(value: Any) -> Any:
    if names := _dataclass_fields(value):
        return {name: getattr(value, name) for name in names}
    return value.value if isinstance(value, Enum) else orjson.loads(orjson.dumps(value))


def _refuse(value: Any, path: str, depth: int) -> None:
    """Raise for what JSON cannot say, naming its place."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidEntry(path, f"{value!r} has no JSON form; send None or a text")
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise InvalidEntry(path, f"{type(value).__name__} has no JSON form; put it into a blob or encode it as text")
    if depth > MAX_PAYLOAD_DEPTH:
        raise InvalidEntry(path[:200], f"nested deeper than {MAX_PAYLOAD_DEPTH} (MAX_PAYLOAD_DEPTH), or in a cycle")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidEntry(path, f"key {key!r} is {type(key).__name__}; JSON keys are text")
            _refuse(inner, f"{path}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            _refuse(inner, f"{path}[{at}]", depth + 1)
    elif isinstance(value, Enum):
        _refuse(value.value, path, depth + 1)
    else:
        for name in _dataclass_fields(value):
            _refuse(getattr(value, name), f"{path}.{name}", depth + 1)


def _dataclass_fields(value: Any) -> list[str]:
    """Return the field names of a dataclass, without the cost of importing ``dataclasses``."""
    return [] if isinstance(value, type) else list(getattr(value, "__dataclass_fields__", ()))


def from_raw(raw: bytes) -> Any:
    """Return the value of raw JSON, surrogates and large integers included.

    Raises:
        ValueError: it is no JSON (NaN and Infinity are not).
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def object_of(raw: bytes) -> dict[str, Any]:
    """Return the object of raw JSON.

    Raises:
        InvalidEntry: it is no JSON, or no object.
    """
    try:
        value = from_raw(raw)
    except ValueError as exc:
        raise InvalidEntry("$", f"is no JSON ({exc})") from None
    if not isinstance(value, dict):
        raise InvalidEntry("$", "is no JSON object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is out of range")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def own(value: Any) -> Any:
    """Return a copy of a JSON value that shares no mutable part with it."""
    if not isinstance(value, (dict, list)):
        return value
    copied: Any = value.copy()
    left = [copied]  # a list of what is left, because payloads of others may be nested deeper than Python calls
    while left:
        container = left.pop()
        for key, inner in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(inner, (dict, list)):
                container[key] = twin = inner.copy()
                left.append(twin)
    return copied
