"""What a user typed: text, pastes and references, as the reference's ``Segment``."""

from typing import TYPE_CHECKING, TypeAlias

from session_log._blob_ref import BlobRef, BlobSpan
from session_log._items import Tagged, Text, Unknown


class TextInput(Tagged, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True, tag="text"):
    """Typed text; with ``content_blob``, what is left of it in the line."""

    content: str
    content_blob: BlobRef | None = None


class PasteInput(Tagged, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True, tag="paste"):
    """Pasted text, shown as a chip: the ``id``-th paste, with its size in characters and lines.

    With ``content_blob``, ``content`` is what is left of it in the line.
    """

    id: int
    chars: int
    lines: int
    content: str
    content_blob: BlobRef | None = None


class FileRef(Tagged, frozen=True, gc=False, tag="file_ref"):
    """``@path``."""

    path: str


class KnowledgeRef(Tagged, frozen=True, gc=False, tag="knowledge_ref"):
    """``#slug``."""

    slug: str


class WorkflowInvoke(Tagged, frozen=True, gc=False, tag="workflow_invoke"):
    """``/slug``."""

    slug: str


class FlowInvoke(Tagged, frozen=True, gc=False, tag="flow"):
    """``/selector``, the later spelling of a workflow."""

    selector: str


class UnknownInput(Tagged, frozen=True, gc=False, tag="unknown"):
    """What the reference writes for an input it did not know itself."""


if TYPE_CHECKING:
    InputSegment: TypeAlias = (
        TextInput | PasteInput | FileRef | KnowledgeRef | WorkflowInvoke | FlowInvoke | UnknownInput | Unknown
    )
    """One piece of what a user typed."""
else:  # see _items: the unknown variant is for the type checker
    InputSegment = TextInput | PasteInput | FileRef | KnowledgeRef | WorkflowInvoke | FlowInvoke | UnknownInput


def flatten_input(segments: tuple[InputSegment, ...]) -> str:
    """Return the text the model receives for what the user typed (references in their sigil form, as the reference)."""
    if len(segments) == 1 and type(segments[0]) is TextInput:
        return segments[0].content
    texts = []
    for segment in segments:
        match segment:
            case TextInput(content=text) | PasteInput(content=text):
                texts.append(text)
            case FileRef(path=path):
                texts.append(f"@{path}")
            case KnowledgeRef(slug=slug):
                texts.append(f"#{slug}")
            case WorkflowInvoke(slug=slug):
                texts.append(f"/{slug}")
            case FlowInvoke(selector=selector):
                texts.append(f"/{selector}")
            case _:
                texts.append("[unknown input segment]")
    return "".join(texts)


def input_text(segments: tuple[InputSegment, ...]) -> Text:
    """Return the text of :func:`flatten_input`, and which spans of it are in blobs."""
    if len(segments) == 1 and type(first := segments[0]) is TextInput and first.content_blob is None:
        return Text(first.content)
    text = ""
    spans: list[BlobSpan] = []
    for segment in segments:
        piece = flatten_input((segment,))
        if (blob := getattr(segment, "content_blob", None)) is not None:
            spans.append(BlobSpan(len(text), len(piece), blob))
        text += piece
    return Text(text, tuple(spans))
