"""Resolving: the whole payload back in place of what a line kept of it; the opposite of spilling."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, TypeVar

import msgspec

from session_log._blob_ref import BlobRef, BlobSpan
from session_log._entries import AssistantItem, LogEntry, SegmentStart, ToolResultEntry, UserInput
from session_log._errors import CorruptBlob, InvalidEntry, NotFound, UnresolvedBlob, UnsafePath
from session_log._inputs import PasteInput, TextInput
from session_log._items import Attachment, Item, Message, Text, ToolResult
from session_log._lineage import lineage
from session_log._reader import where
from session_log._state import Damage, Head, RestoredState
from session_log._store import Store
from session_log._system_items import FileAttachment
from session_log._unspilled import ATTACHMENT_TEXT

T = TypeVar("T")
_HASH = re.compile(rb"[0-9A-Fa-f]{64}")


def resolve_blobs(store: Store, state: RestoredState, *, salvage: bool = False) -> RestoredState:
    """Return a state with every item as it was handed to the writer; what is not in a blob stays as it is.

    With ``salvage``, what cannot be had keeps its short form and its reference, and is listed in ``state.damage``.

    Raises:
        UnresolvedBlob: a blob is missing or damaged.
        StoreUnavailable: the store cannot be read.
    """
    damage: list[Damage] | None = [] if salvage else None
    resolver = _Resolver(store, state.head, damage)
    history = resolver.items(state.history, "history")
    user_segments = tuple(
        tuple(resolver.segment(segment, f"user_segments[{at}][{n}]") for n, segment in enumerate(segments))
        for at, segments in enumerate(state.user_segments)
    )
    found = (*state.damage, *(damage or ()))
    return msgspec.structs.replace(state, history=history, user_segments=user_segments, damage=found)


def resolve_items(store: Store, items: Iterable[Item]) -> tuple[Item, ...]:
    """Return items as they were handed to the writer.

    Raises:
        UnresolvedBlob: a blob is missing or damaged.
        StoreUnavailable: the store cannot be read.
    """
    return _Resolver(store, None, None).items(items, "items")


def resolve_value(store: Store, value: T) -> T:
    """Return an item, a part of one, an input segment or an attached file as it was handed to the writer.

    Raises:
        UnresolvedBlob: a blob is missing or damaged.
        StoreUnavailable: the store cannot be read.
    """
    found: T = _Resolver(store, None, None).value(value)
    return found


def resolve_entry(store: Store, entry: LogEntry) -> LogEntry:
    """Return an entry as it was handed to the writer.

    Raises:
        UnresolvedBlob: a blob is missing or damaged.
        StoreUnavailable: the store cannot be read.
    """
    if isinstance(entry, (AssistantItem, ToolResultEntry)):
        (item,) = resolve_items(store, (entry.item,))
        return msgspec.structs.replace(entry, item=item) if item is not entry.item else entry
    if isinstance(entry, UserInput):
        resolver = _Resolver(store, None, None)
        segments = [resolver.segment(segment, f"segments[{at}]") for at, segment in enumerate(entry.segments)]
        return msgspec.structs.replace(entry, segments=tuple(segments))
    if isinstance(entry, SegmentStart) and entry.history:
        return msgspec.structs.replace(entry, history=resolve_items(store, entry.history))
    return entry


class _Unfit(Exception):
    """A reference cannot be followed; damage is listed already."""


class _Resolver:
    """One look at a state: a text that stands in it twice is read once, and kept once."""

    def __init__(self, store: Store, head: Head | None, damage: list[Damage] | None) -> None:
        self._store = store
        self._head = head
        self._damage = damage
        self._texts: dict[str, str] = {}
        self._places: dict[bytes, Damage] | None = None  # where each hash is named; looked for if it matters

    def items(self, items: Iterable[Item], name: str) -> tuple[Item, ...]:
        """Return items with what was spilled of them back in its place; ``name`` is the field they are in."""
        return tuple([self._item(item, f"{name}[{at}]") for at, item in enumerate(items)])

    def _item(self, item: Any, place: str) -> Any:
        if type(item) is ToolResult and (item.content_blob is not None or item.attachments):
            item = self._field(item, "content", place)
            parts = [self._attachment(part, f"{place}.attachments[{at}]") for at, part in enumerate(item.attachments)]
            return msgspec.structs.replace(item, attachments=tuple(parts))
        if type(item) is Message:
            parts = [self._part(part, f"{place}.content[{at}]") for at, part in enumerate(item.content)]
            return msgspec.structs.replace(item, content=tuple(parts)) if parts != list(item.content) else item
        return item

    def value(self, value: Any) -> Any:
        if type(value) is FileAttachment:
            return self._field(value, "body", "file")
        return self.segment(self._part(self._item(value, "item"), "part"), "segment")

    def segment(self, segment: T, place: str) -> T:
        """Return a segment of an input with its text back in its place."""
        return self._field(segment, "content", place) if type(segment) in (TextInput, PasteInput) else segment

    def _field(self, value: T, name: str, place: str) -> T:
        ref = getattr(value, f"{name}_blob")
        if ref is None:
            return value
        try:
            text = self._text(ref, f"{place}.{name}")
        except _Unfit:
            return value
        return msgspec.structs.replace(value, **{name: text, f"{name}_blob": None})  # type: ignore[type-var]

    def _part(self, part: Any, place: str) -> Any:
        if type(part) is not Text or not part.text_blobs:
            return part
        try:
            return Text(self._joined(part.text, part.text_blobs, f"{place}.text"))
        except _Unfit:
            return part

    def _joined(self, short: str, spans: tuple[BlobSpan, ...], place: str) -> str:
        pieces: list[str] = []
        at = 0
        for span in spans:
            if not at <= span.at <= span.at + span.chars <= len(short):
                self._fail(span.blob, place, "stands for a span that the text does not have")
            pieces += short[at : span.at], self._text(span.blob, place)
            at = span.at + span.chars
        return "".join((*pieces, short[at:]))

    def _attachment(self, part: Any, place: str) -> Any:
        if type(part) is not Attachment or part.data_blob is None:
            return part
        import base64  # here, because most sessions have no attachments

        try:
            if part.data_blob.kind == ATTACHMENT_TEXT:
                data = self._text(part.data_blob, f"{place}.data")
            else:
                data = base64.b64encode(self._bytes(part.data_blob, f"{place}.data")).decode()
        except _Unfit:
            return part
        return Attachment(part.mime_type, data)

    def _text(self, ref: BlobRef, place: str) -> str:
        found = self._texts.get(ref.sha256)
        if found is None:
            try:
                found = self._texts[ref.sha256] = self._bytes(ref, place).decode()
            except UnicodeDecodeError:
                self._fail(ref, place, "is no text in UTF-8")
        return found

    def _bytes(self, ref: BlobRef, place: str) -> bytes:
        try:
            return self._store.get_blob(ref)
        except NotFound:
            self._fail(ref, place, "is not there")
        except (CorruptBlob, InvalidEntry, UnsafePath) as exc:
            self._fail(ref, place, str(exc), exc)

    def _fail(self, ref: BlobRef, place: str, reason: str, cause: Exception | None = None) -> NoReturn:
        found = self._place_of(ref.sha256)
        if self._damage is None:
            raise UnresolvedBlob(found.path, found.line or None, place, ref.sha256, reason) from cause
        self._damage.append(msgspec.structs.replace(found, reason=f"{place}: blob {ref.sha256}: {reason}"))
        raise _Unfit from cause

    def _place_of(self, sha256: str) -> Damage:
        """Return the line that names a blob first."""
        head = self._head
        if head is None:
            return Damage("items", 0, 0, 0, "")
        if self._places is None:
            self._places = {}
            for name, place in self._named(head):
                self._places.setdefault(name, place)
        path = where(self._store, head.session_id, head.segment_id)
        return self._places.get(sha256.lower().encode(errors="replace"), Damage(path, 0, 0, 0, ""))

    def _named(self, head: Head) -> Iterator[tuple[bytes, Damage]]:
        """Yield every hash that the lines of the segment and its ancestors name, and where."""
        for span in lineage(self._store, head.session_id, head.segment_id, head.entries, []):
            path, byte_offset = where(self._store, head.session_id, span.segment_id), 0
            for number, line in enumerate(self._store.read(head.session_id, span.segment_id, 0, span.entries), 1):
                place = Damage(path, number, byte_offset, len(line), "")
                yield from ((sha256.lower(), place) for sha256 in _HASH.findall(line))
                byte_offset += len(line) + 1
