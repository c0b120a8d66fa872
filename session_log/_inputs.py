"""What a user typed: text, pastes and references, as the reference's ``Segment``."""

from typing import TYPE_CHECKING, TypeAlias

from session_log._items import Tagged, Unknown


class TextInput(Tagged, frozen=True, gc=False, tag="text"):
    """Typed text."""

    content: str


class PasteInput(Tagged, frozen=True, gc=False, tag="paste"):
    """Pasted text, shown as a chip: the ``id``-th paste, with its size in characters and lines."""

    id: int
    chars: int
    lines: int
    content: str


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
