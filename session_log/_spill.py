"""Spilling: what is too long for a line goes into a blob, before the line that names it is written.

The line keeps the two ends of a text with a mark between them, so that grep finds it and an older reader has something
to show; an extra key beside the text refers to the blob, which holds all of it. An image leaves nothing behind: half of
one would be a wrong image. Only what is text for the model is spilled: the arguments of a tool call are JSON, a
reasoning block is signed, and a payload is not ours; none of them can be shortened.
"""

import operator
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from session_log._blob_ref import BlobRef, BlobSpan
from session_log._check import scrub
from session_log._entries import AssistantItem, LogEntry, SystemItemEntry, ToolResultEntry, UserInput
from session_log._errors import AppendUnknown, CallerError, StoreUnavailable
from session_log._inputs import PasteInput, TextInput
from session_log._items import Attachment, Message, Text, ToolResult
from session_log._system_items import FileAttachment
from session_log._unspilled import ATTACHMENT, ATTACHMENT_TEXT, MIN_INLINE_BYTES, decoded

T = TypeVar("T")
MAX_END_BYTES: Final = 2048
"""How much of either end of a text stays, at most; and never more than a quarter of what may stay inline."""


def spilling(put: Callable[[bytes], BlobRef], max_inline_bytes: int) -> "Spill":
    """Return what every entry goes through before it is encoded.

    Raises:
        CallerError: it is no number of bytes from ``MIN_INLINE_BYTES`` on.
    """
    if type(max_inline_bytes) is not int or max_inline_bytes < MIN_INLINE_BYTES:
        reason = f"is no number of bytes from {MIN_INLINE_BYTES} on (MIN_INLINE_BYTES)"
        raise CallerError(f"max_inline_bytes={max_inline_bytes!r}: {reason}")
    return Spill(put, max_inline_bytes)


class Spill:
    """Make entries short: each text of more than ``max_inline_bytes`` in UTF-8, and each attachment of so many."""

    def __init__(self, put: Callable[[bytes], BlobRef], max_inline_bytes: int) -> None:
        self._put_blob = put
        self._limit = max_inline_bytes
        self._end = min(max_inline_bytes // 4, MAX_END_BYTES)

    def __call__(self, entry: LogEntry) -> LogEntry:
        """Return the entry that is to be recorded, its blobs being in the store; the same one if it is short.

        Raises:
            InvalidEntry: more than a blob may hold.
            StoreUnavailable: a blob cannot be kept.
        """
        match entry:
            case ToolResultEntry() | AssistantItem():
                return _with(entry, item=self._item(entry.item))
            case UserInput(segments=tuple() | list() as segments):
                return _with(entry, segments=_same(segments, [self._input(segment) for segment in segments]))
            case SystemItemEntry(item=FileAttachment(body_blob=None) as item):
                return _with(entry, item=self._field(item, "body", "body_blob", "file"))
        return entry

    def value(self, value: Any) -> Any:
        """Return an item, a part of a message, an input segment or an attached file short; see :meth:`__call__`."""
        match value:
            case Text():
                return self._part(value)
            case FileAttachment():
                return self._field(value, "body", "body_blob", "file")
        return self._input(self._item(value))

    def _item(self, item: Any) -> Any:
        match item:
            case ToolResult(attachments=tuple() | list() as attachments):
                if item.content_blob is None:
                    item = self._field(item, "content", "content_blob", "tool_output")
                return _with(item, attachments=_same(attachments, [self._attachment(part) for part in attachments]))
            case Message(content=tuple() | list() as content):
                return _with(item, content=_same(content, [self._part(part) for part in content]))
        return item

    def _input(self, segment: Any) -> Any:
        match segment:
            case TextInput(content_blob=None):
                return self._field(segment, "content", "content_blob", "message")
            case PasteInput(content_blob=None):
                return self._field(segment, "content", "content_blob", "paste")
        return segment

    def _field(self, value: T, name: str, ref_name: str, kind: str) -> T:
        found = self._short(getattr(value, name), kind)
        return value if found is None else _with(value, **{name: found[0], ref_name: found[1]})

    def _part(self, part: Any) -> Any:
        if type(part) is not Text or part.text_blobs:
            return part
        found = self._short(part.text, "message")
        return part if found is None else Text(found[0], (BlobSpan(0, len(found[0]), found[1]),))

    def _short(self, text: object, kind: str) -> tuple[str, BlobRef] | None:
        """Return what stays of a text and where all of it is; None if it is short."""
        if not isinstance(text, str) or len(text) * 4 <= self._limit:  # UTF-8 takes four bytes at most
            return None
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = scrub(text).encode()  # as the line would have it
        if len(data) <= self._limit:
            return None
        ref = msgspec.structs.replace(self._put(data), kind=kind)
        head, tail = data[: self._end].decode(errors="ignore"), data[-self._end :].decode(errors="ignore")
        return f"{head}\n[… {len(data)} bytes in all, in blob {ref.sha256} …]\n{tail}", ref

    def _attachment(self, part: Any) -> Any:
        if type(part) is not Attachment or part.data_blob is not None or not isinstance(part.data, str):
            return part
        if len(part.data if part.data.isascii() else scrub(part.data).encode()) <= self._limit:
            return part
        content, kind = _content_of(part.data)
        media_type = part.mime_type if isinstance(part.mime_type, str) and kind == ATTACHMENT else None
        ref = msgspec.structs.replace(self._put(content), kind=kind, media_type=media_type)
        return _with(part, data="", data_blob=ref)

    def _put(self, data: bytes) -> BlobRef:
        try:
            return self._put_blob(data)
        except AppendUnknown as exc:  # of the blob; no line names it, and none will
            raise StoreUnavailable(exc.where, exc.reason) from exc


def _content_of(data: str) -> tuple[bytes, str]:
    """Return what an attachment's blob holds, and its kind."""
    content = decoded(data)
    return (scrub(data).encode(), ATTACHMENT_TEXT) if content is None else (content, ATTACHMENT)


def _same(before: Any, after: list[Any]) -> Any:
    """Return ``before`` if nothing of it has changed: most entries are short."""
    return before if all(map(operator.is_, before, after)) else tuple(after)


def _with(value: T, **changes: Any) -> T:
    if all(getattr(value, name) is new for name, new in changes.items()):
        return value
    return msgspec.structs.replace(value, **changes)  # type: ignore[type-var]  # a Struct
