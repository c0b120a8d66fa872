"""Shapes that foreign records share: times, tokens, blocks of text, and what is left when they are taken. Pure."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from session_log import Attachment, Message, Refusal, Text, TextInput, ToolResult
from session_log.importers._source import dumps
from session_log.importers._steps import Drifted, Said

LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01: a later time is wrong, and those after it would have to wait for it."""
MAX_SUMMARY_CHARS: Final = 2_000
"""What a tool answered stands in the summary alone up to here; of more, the summary is the beginning."""
_MS_FROM: Final = 100_000_000_000
_SHOWN: Final = frozenset({"image", "document", "input_image", "image_url", "file", "input_file", "input_audio"})
_MAX_INTEGER: Final = (1 << 63) - 1
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)


def millis(value: object) -> int | None:
    """Return milliseconds since 1970 of an ISO time, or of a number of seconds or milliseconds; None if it is none."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
        try:
            value = round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
        except (OverflowError, ValueError):
            return None
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not value < _MAX_INTEGER:
        return None
    elif value < _MS_FROM:
        value = round(value * 1000)
    value = int(value)
    return value if 0 < value < LATEST_MS else None


def take_time(record: dict[str, Any], *names: str) -> int | None:
    """Take the first of these fields that is a time; one that is none stays where it is."""
    for name in names:
        if (found := millis(record.get(name))) is not None:
            del record[name]
            return found
    return None


def tokens(usage: dict[str, Any], *names: str) -> int:
    """Return the first of these fields that is a count, or 0."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_INTEGER:
            return value
    return 0


def text_field(record: dict[str, Any], name: str) -> str | None:
    """Return a field that is a text, else None."""
    value = record.get(name)
    return value if isinstance(value, str) and value else None


def word(record: dict[str, Any], name: str) -> str:
    """Return a field that is a text, else an empty one: to look it up, whatever stands there."""
    value = record.get(name)
    return value if isinstance(value, str) else ""


def take_text(record: dict[str, Any], name: str) -> str:
    """Take a field that must be a text.

    Raises:
        Drifted: it is none.
    """
    if not isinstance(value := record.get(name), str):
        raise Drifted(f"{name} is no text")
    del record[name]
    return value


def json_text(value: object) -> str:
    """Return the arguments of a call as JSON text: a text is taken for that."""
    return value if isinstance(value, str) else dumps({} if value is None else value).decode()


def blocks_of(content: object) -> list[Any]:
    """Return content as a list of blocks: a text is one, and so is a text in a list.

    Raises:
        Drifted: it is neither.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Drifted("content is neither text nor a list of blocks")
    return [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]


def take_block_text(block: object, kinds: Iterable[str] = ("text", "input_text", "output_text")) -> str | None:
    """Take the text of a block of text; None if it is another block."""
    if not isinstance(block, dict) or not isinstance(block.get("text"), str):
        return None
    if not isinstance(kind := block.get("type"), str) or kind not in kinds:
        return None
    del block["type"]
    text: str = block.pop("text")
    return text


def user_texts(texts: list[str], blocks: list[Any]) -> list[str]:
    """Return the texts of a user's message; one that only shows something (an image, a file) says an empty one.

    Else the history would lack the message; what it shows stays in the blocks.
    """
    shown = any(isinstance(block, dict) and word(block, "type") in _SHOWN for block in blocks)
    return [""] if shown and not texts else texts


def left(blocks: list[Any]) -> list[dict[str, Any]]:
    """Return what is left of blocks after their texts were taken, each with its place."""
    return [{"at": at, "block": block} for at, block in enumerate(blocks) if block not in ({}, None)]


def said(texts: list[str]) -> tuple[Said, ...]:
    """Return the input of these texts, if there are any."""
    return (Said(tuple(TextInput(text) for text in texts)),) if texts else ()


def message(role: str, texts: list[str], refusals: Iterable[str] = ()) -> tuple[Message, ...]:
    """Return a message of these texts, if there are any."""
    parts = tuple(Text(text) for text in texts) + tuple(Refusal(text) for text in refusals)
    return (Message(role, parts),) if parts else ()


def result(call_id: str, content: object, *, is_error: bool = False) -> tuple[ToolResult, list[dict[str, Any]]]:
    """Return the result of a call and what its content says besides texts and images.

    Raises:
        Drifted: the content is neither text nor a list of blocks.
    """
    blocks = [] if content is None else blocks_of(content)
    texts, images = [], []
    for block in blocks:
        text = take_block_text(block)
        if text is not None:
            texts.append(text)
        elif (image := _take_image(block)) is not None:
            images.append(image)
    text = "\n".join(texts)
    summary = text if len(text) <= MAX_SUMMARY_CHARS else f"{text[: MAX_SUMMARY_CHARS - 1]}…"
    found = ToolResult(call_id, summary, None if summary == text else text, is_error, tuple(images))
    return found, left(blocks)


def _take_image(block: object) -> Attachment | None:
    """Take an image in base64, as the APIs of both makers and pi spell it."""
    if not isinstance(block, dict):
        return None
    source: dict[str, Any] = block["source"] if isinstance(block.get("source"), dict) else block
    data = source.get("data")
    mime = source.get("media_type") or source.get("mimeType")
    if block.get("type") == "image" and isinstance(data, str) and isinstance(mime, str):
        block.clear()
        return Attachment(mime, data)
    url = block.get("image_url")
    if isinstance(url, dict):
        url = url.get("url")
    if isinstance(url, str) and (found := _DATA_URL.fullmatch(url)):
        block.clear()
        return Attachment(found[1], found[2])
    return None


class Sticky:
    """Fields that stand on every record: only their changes are worth keeping."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._known: dict[str, Any] = {}

    def take(self, record: dict[str, Any]) -> None:
        """Take the fields that say what they said before."""
        for name in self._names:
            if name in record:
                if name in self._known and self._known[name] == record[name]:
                    del record[name]
                else:
                    self._known[name] = record[name]
