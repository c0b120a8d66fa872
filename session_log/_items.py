"""Items: what a conversation is made of, as the model sees it.

The shapes are those of yoi's ``session-store`` (``logged_item``). Enumerations are plain text, so that a later
writer's value is read; the closed unions are the tagged ones. A variant we do not know becomes :class:`Unknown`.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from session_log._blob_ref import BlobRef, BlobSpan


class Unknown:
    """A tagged value of a kind this version does not know, kept as its raw JSON bytes."""

    __slots__ = ("kind", "raw")
    kind: str
    raw: bytes

    def __init__(self, kind: str, raw: bytes) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "raw", raw)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"immutable type: '{type(self).__name__}'")

    def __reduce__(self) -> tuple[type["Unknown"], tuple[str, bytes]]:
        return Unknown, (self.kind, self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown) and (self.kind, self.raw) == (other.kind, other.raw)

    def __hash__(self) -> int:
        return hash((self.kind, self.raw))

    def __repr__(self) -> str:
        return f"Unknown(kind={self.kind!r}, raw={self.raw!r})"


class Tagged(msgspec.Struct, frozen=True, gc=False, tag_field="kind"):
    """The base of the tagged values: ``kind`` first, immutable, without a cycle (``gc=False``)."""


class Text(Tagged, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True, tag="text"):
    """A piece of text in a message; spans of it may stand for longer ones, which are in blobs."""

    text: str
    text_blobs: tuple[BlobSpan, ...] = ()


class Refusal(Tagged, frozen=True, gc=False, tag="refusal"):
    """The model's refusal in a message."""

    refusal: str


class Attachment(Tagged, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True, tag="image"):
    """An image attached to a tool result; ``data`` is base64, or empty if the image is in a blob."""

    mime_type: str
    data: str
    data_blob: BlobRef | None = None


# An Unknown stands in these unions for the type checker only: msgspec decodes the known variants at full speed and
# refuses the rest, which _codec then reads tolerantly. (msgspec allows no foreign class in a union.)
if TYPE_CHECKING:
    ContentPart: TypeAlias = Text | Refusal | Unknown
    """A part of a message."""
    AttachmentPart: TypeAlias = Attachment | Unknown
else:
    ContentPart = Text | Refusal
    AttachmentPart = Attachment


class Message(Tagged, frozen=True, gc=False, tag="message"):
    """A message of a ``role``: ``user``, ``assistant`` or ``system``."""

    role: str
    content: tuple[ContentPart, ...]

    @classmethod
    def user(cls, text: str) -> "Message":
        """Return a user message of one text part."""
        return cls("user", (Text(text),))

    @classmethod
    def assistant(cls, text: str) -> "Message":
        """Return an assistant message of one text part."""
        return cls("assistant", (Text(text),))

    @classmethod
    def system(cls, text: str) -> "Message":
        """Return a system message of one text part."""
        return cls("system", (Text(text),))

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, Text))


class ToolCall(Tagged, frozen=True, gc=False, tag="tool_call"):
    """The model asks for a tool. ``arguments`` is a JSON *text*, as the provider sent it."""

    call_id: str
    name: str
    arguments: str


class ToolResult(Tagged, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True, tag="tool_result"):
    """What a tool answered: a ``summary`` for the eye, the full ``content`` if it differs.

    With ``content_blob``, ``content`` is what is left of it in the line.
    """

    call_id: str
    summary: str
    content: str | None = None
    is_error: bool = False
    attachments: tuple[AttachmentPart, ...] = ()
    content_blob: BlobRef | None = None


class Reasoning(Tagged, frozen=True, gc=False, omit_defaults=True, tag="reasoning"):
    """A reasoning block; ``encrypted_content`` and ``signature`` go back to the provider unchanged."""

    text: str
    summary: tuple[str, ...] = ()
    encrypted_content: str | None = None
    signature: str | None = None


if TYPE_CHECKING:
    Item: TypeAlias = Message | ToolCall | ToolResult | Reasoning | Unknown
    """One item of a conversation's history."""
else:
    Item = Message | ToolCall | ToolResult | Reasoning

JsonValue: TypeAlias = Any
"""A JSON value whose schema is not ours (an extension's payload, a trace event)."""
