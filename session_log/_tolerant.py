"""Reading a line that is not made of known variants only. Pure; the slow path of :mod:`session_log._codec`."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from session_log import _entries as entries
from session_log import _inputs as inputs
from session_log import _items as items
from session_log import _system_items as system_items
from session_log._check import scrubbed
from session_log._entries import KnownEntry, LogEntry, UnknownEntry
from session_log._errors import InvalidEntry
from session_log._frame import unmarked
from session_log._items import Unknown
from session_log._payload import from_raw

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_SCANNER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _by_tag(union: Any) -> dict[str, type[Any]]:
    members = getattr(union, "__args__", (union,))
    return {str(member.__struct_config__.tag): member for member in members}


_ENTRIES: Final = _by_tag(KnownEntry)
_ITEMS: Final = _by_tag(items.Item)
_PARTS: Final = _by_tag(items.ContentPart)
_ATTACHMENTS: Final = _by_tag(items.AttachmentPart)
_RESULTS: Final = _by_tag(system_items.ResultItem)
_SYSTEM_ITEMS: Final = _by_tag(system_items.SystemItem)
_EVENTS: Final = _by_tag(system_items.LifecycleEvent)
_INPUTS: Final = _by_tag(inputs.InputSegment)

Reader = Callable[[bytes, str], Any]


def decode(line: bytes) -> LogEntry:
    """Return the entry of ``line``, unknown kinds and variants kept.

    Raises:
        InvalidEntry: it is no entry.
    """
    line = line.rstrip(b"\r\n")
    fields = fields_of(line, "$")
    kind = _kind(fields, "$")
    known = _ENTRIES.get(kind)
    if known is None:
        _opaque(line, "$")  # the split above looks at structure only: bad UTF-8 and numbers show here
        return UnknownEntry(kind=kind, raw=unmarked(line))
    entry: LogEntry = _struct(known, fields, "$")
    return entry


def fields_of(raw: bytes, path: str = "$") -> dict[str, bytes]:
    """Return the members of a JSON object, each as the raw JSON it stands in.

    Raises:
        InvalidEntry: it is no JSON object.
    """
    if raw[:3] == b"\xef\xbb\xbf":
        raise InvalidEntry(path, "starts with a byte order mark; save the file as UTF-8 without one")
    if b"\0" in raw:
        raise InvalidEntry(path, "holds NUL bytes, the mark of a power cut")
    try:
        return {key: bytes(value) for key, value in _FIELDS.decode(raw).items()}
    except msgspec.ValidationError:
        raise InvalidEntry(path, "is no JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not isinstance(_opaque(raw, path), dict):
            raise InvalidEntry(path, "is no JSON object") from None
    return dict(_split(raw.decode()))


class Members(msgspec.Struct, frozen=True, gc=False):
    """Those members of lines that a copy takes along, each as the raw JSON it stands in."""

    item: bytes = b""
    segments: bytes = b"[]"
    extensions: bytes = b"[]"
    domain: bytes = b""
    payload: bytes = b"null"
    history: bytes = b"[]"
    carried: bytes = b"{}"
    user_segments: bytes = b"[]"
    unknown: bytes = b"[]"


class _RawMembers(msgspec.Struct, frozen=True, gc=False):
    item: msgspec.Raw = msgspec.Raw(b"")
    segments: msgspec.Raw = msgspec.Raw(b"[]")
    extensions: msgspec.Raw = msgspec.Raw(b"[]")
    domain: msgspec.Raw = msgspec.Raw(b"")
    payload: msgspec.Raw = msgspec.Raw(b"null")
    history: msgspec.Raw = msgspec.Raw(b"[]")
    carried: msgspec.Raw = msgspec.Raw(b"{}")
    user_segments: msgspec.Raw = msgspec.Raw(b"[]")
    unknown: msgspec.Raw = msgspec.Raw(b"[]")


def members_of(line: bytes) -> Members:
    """Return what a copy takes along of a line that was decoded before; like that, it passes over what it skips."""
    try:
        found = _MEMBERS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = fields_of(line)
        return Members(**{name: fields[name] for name in Members.__struct_fields__ if name in fields})
    return Members(*map(bytes, msgspec.structs.astuple(found)))


_MEMBERS = msgspec.json.Decoder(_RawMembers)


def _split(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield the members of an object, or the elements of an array, as raw JSON: what msgspec cannot split for us.

    It is JSON, but there is a lone surrogate in it.
    """
    value = _SCANNER.raw_decode
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    in_object = text[at] == "{"
    at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
    while text[at] not in "}]":
        key = ""
        if in_object:
            key, at = value(text, at)
            at = _SPACE.match(text, text.index(":", at) + 1).end()  # type: ignore[union-attr]
        start, at = at, value(text, at)[1]
        yield key, text[start:at].encode()
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if text[at] == ",":
            at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]


def _kind(fields: dict[str, bytes], path: str) -> str:
    if "kind" not in fields:
        raise InvalidEntry(path, "has no kind")
    kind = _value(str, fields["kind"], f"{path}.kind")
    return str(kind)


def _struct(cls: type[Any], fields: dict[str, bytes], path: str) -> Any:
    """Build a ``cls`` from the raw values of its fields; keys it does not have are ignored."""
    values = {}
    for field in msgspec.structs.fields(cls):
        where = f"{path}.{field.encode_name}"
        raw = fields.get(field.encode_name)
        if raw is None:
            if field.required:
                raise InvalidEntry(where, "is missing")
            continue
        reader = _READERS.get((cls, field.name))
        values[field.name] = reader(raw, where) if reader else _value(field.type, raw, where)
    return cls(**values)


def _value(type_: Any, raw: bytes, path: str) -> Any:
    """Decode one value of a fixed shape; a lone surrogate in it becomes U+FFFD."""
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.json.Decoder(type_)
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        reason, _, inner = str(exc).partition(" - at `$")
        raise InvalidEntry(path + inner.removesuffix("`"), reason[:1].lower() + reason[1:]) from None
    except RecursionError:
        raise InvalidEntry(path, "is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _scrubbed_value(type_, raw, path)


def _scrubbed_value(type_: Any, raw: bytes, path: str) -> Any:
    value = _opaque(raw, path)
    try:
        return msgspec.json.decode(json.dumps(scrubbed(value), ensure_ascii=False).encode(), type=type_)
    except msgspec.DecodeError as exc:
        raise InvalidEntry(path, str(exc)) from None
    except RecursionError:
        raise InvalidEntry(path, "is nested too deeply") from None


def _opaque(raw: bytes, path: str) -> Any:
    try:
        return from_raw(raw)
    except UnicodeDecodeError as exc:
        raise InvalidEntry(path, f"is not UTF-8 at byte {exc.start}") from None
    except json.JSONDecodeError as exc:
        raise InvalidEntry(path, f"is no JSON (at character {exc.pos}: {exc.msg[:1].lower()}{exc.msg[1:]})") from None
    except (ValueError, RecursionError) as exc:
        raise InvalidEntry(path, f"is no JSON ({exc})") from None


def elements_of(raw: bytes, path: str = "$") -> list[bytes]:
    """Return the elements of a JSON array, each as the raw JSON it stands in.

    Raises:
        InvalidEntry: it is no JSON array.
    """
    try:
        return [bytes(inner) for inner in _RAWS.decode(raw)]
    except msgspec.ValidationError:
        raise InvalidEntry(path, "is no JSON array") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not isinstance(_opaque(raw, path), list):
            raise InvalidEntry(path, "is no JSON array") from None
    return [element for _, element in _split(raw.decode())]


def _many(one: Reader) -> Reader:
    def read(raw: bytes, path: str) -> tuple[Any, ...]:
        return tuple(one(inner, f"{path}[{at}]") for at, inner in enumerate(elements_of(raw, path)))

    return read


def _variant(known: dict[str, type[Any]]) -> Reader:
    def read(raw: bytes, path: str) -> Any:
        fields = fields_of(raw, path)
        kind = _kind(fields, path)
        cls = known.get(kind)
        if cls is not None:
            return _struct(cls, fields, path)
        _opaque(raw, path)  # the split above looks at structure only: bad UTF-8 and numbers show here
        return Unknown(kind, raw)

    return read


def _verbatim(raw: bytes, path: str) -> msgspec.Raw:
    _opaque(raw, path)
    return msgspec.Raw(raw)


def _plain(cls: type[Any]) -> Reader:
    def read(raw: bytes, path: str) -> Any:
        return None if raw == b"null" else _struct(cls, fields_of(raw, path), path)

    return read


_ITEM = _variant(_ITEMS)
_SEGMENTS = _many(_variant(_INPUTS))
_EXTENSIONS = _many(lambda raw, path: _struct(entries.SessionExtension, fields_of(raw, path), path))
_READERS: Final[dict[tuple[type[Any], str], Reader]] = {
    (entries.SegmentStart, "history"): _many(_ITEM),
    (entries.SegmentStart, "carried"): _plain(entries.Carried),
    (entries.Carried, "user_segments"): _many(_SEGMENTS),
    (entries.Carried, "extensions"): _EXTENSIONS,
    (entries.Carried, "unknown"): _many(_verbatim),
    (entries.AssistantItem, "item"): _ITEM,
    (entries.ToolResultEntry, "item"): _variant(_RESULTS),
    (entries.SystemItemEntry, "item"): _variant(_SYSTEM_ITEMS),
    (entries.UserInput, "segments"): _SEGMENTS,
    (entries.UserInput, "extensions"): _EXTENSIONS,
    (entries.Extension, "payload"): _opaque,
    (entries.SessionExtension, "payload"): _opaque,
    (system_items.PodEvent, "event"): _variant(_EVENTS),
    (system_items.WorkerEvent, "event"): _variant(_EVENTS),
    (items.Message, "content"): _many(_variant(_PARTS)),
    (items.ToolResult, "attachments"): _many(_variant(_ATTACHMENTS)),
}
