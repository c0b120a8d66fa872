"""Kept values: a JSON value or bytes that a line holds itself, or names as a blob. Blobs name nothing.

A value that is small stands in the line, where ``grep`` finds it, and costs no file and no sync. What is large is a
blob, once, however many lines name it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from session_log._check import MAX_INTEGER
from session_log._entries import Extension, LogEntry
from session_log._errors import CorruptBlob, InvalidEntry, NotFound
from session_log._items import JsonValue
from session_log._payload import from_raw, own, to_raw
from session_log._store import Store
from session_log.blobs import BlobRef

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
MAX_INLINE_BRACKETS = 64
"""How many arrays and objects a value in a line may have: so it never makes its line nest too deeply."""
UNREADABLE = (NotFound, CorruptBlob, InvalidEntry, ValueError)
"""What :func:`kept_value` raises if the value cannot be had any more."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value: ``json`` itself, or the blob ``sha256`` of ``size_bytes``; ``form`` says what the blob's bytes are."""

    json: JsonValue = msgspec.UNSET
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    size_bytes: Count | None = None
    form: Literal["json", "bytes"] = "json"

    def __post_init__(self) -> None:
        if (self.json is msgspec.UNSET) == (self.sha256 is None) or (self.sha256 is None) != (self.size_bytes is None):
            raise ValueError("a value is `json`, or `sha256` with `size_bytes`")

    @property
    def is_inline(self) -> bool:
        """Whether the value stands in the line itself."""
        return self.sha256 is None


def keep(store: Store, value: Any, path: str, max_inline_bytes: int) -> Kept:
    """Keep bytes, or any JSON value: in place if it is small, else as a blob, which is durable when this returns.

    Raises:
        InvalidEntry: it would not read back the same; ``path`` extended to the value.
        StoreUnavailable, AppendUnknown: the blob cannot be written.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        ref = store.put_blob(bytes(value))
        return Kept(sha256=ref.sha256, size_bytes=ref.size_bytes, form="bytes")
    return keep_raw(store, bytes(to_raw(value, path)), max_inline_bytes)


def keep_raw(store: Store, raw: bytes, max_inline_bytes: int) -> Kept:
    """Keep a value that is JSON already; see :func:`keep`. In place it is a ``msgspec.Raw`` until it is read again.

    A lone surrogate goes into a blob, however small: other readers of the format would refuse its line.
    """
    brackets = raw.count(b"[") + raw.count(b"{")
    if len(raw) <= max_inline_bytes and brackets <= MAX_INLINE_BRACKETS and b"\\ud" not in raw.lower():
        return Kept(json=msgspec.Raw(raw))
    ref = store.put_blob(raw)
    return Kept(sha256=ref.sha256, size_bytes=ref.size_bytes)


def kept_value(store: Store, kept: Kept) -> Any:
    """Return the value, the caller's own; a blob is checked against its hash.

    Raises:
        NotFound, CorruptBlob, InvalidEntry, ValueError: there is no such blob, or it is not what the line says.
    """
    if kept.sha256 is None or kept.size_bytes is None:
        return own(kept.json)
    data = store.get_blob(BlobRef(kept.sha256, kept.size_bytes))
    return data if kept.form == "bytes" else from_raw(data)


def shaped(shape: Callable[[LogEntry], LogEntry] | None, domain: str, value: Any) -> Any:
    """Return what a writer's ``shape`` (redaction) makes of a JSON value that does not reach it in an entry."""
    if shape is None or value is None or isinstance(value, (bytes, bytearray, memoryview)):
        return value
    entry = shape(Extension(ts=0, domain=domain, payload=value))
    if not isinstance(entry, Extension):
        raise InvalidEntry("$.payload", f"was made a {type(entry).__name__} by what shapes the writer's entries")
    payload = entry.payload
    return from_raw(bytes(payload)) if isinstance(payload, msgspec.Raw) else payload
