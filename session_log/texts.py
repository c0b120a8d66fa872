r"""Texts: what a person would call the text of an entry, without the JSON around it.

>>> from session_log import AssistantItem, ToolCall
>>> from session_log.texts import texts_of
>>> call = ToolCall("c", "shell", '{"command":"echo \\"a\\\\nb\\""}')
>>> [(text.what, text.text) for text in texts_of(AssistantItem(ts=0, item=call))]
[('call', 'shell command: echo "a\\nb"')]
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import orjson

from session_log._entries import (
    AssistantItem,
    Extension,
    LogEntry,
    PausedTurnAbandoned,
    RunErrored,
    SegmentStart,
    SystemItemEntry,
    ToolResultEntry,
    UnknownEntry,
    UserInput,
)
from session_log._fold import system_text
from session_log._inputs import flatten_input
from session_log._items import Item, Message, Reasoning, Refusal, Text, ToolCall, ToolResult
from session_log._trace import TraceEntry


class Said(NamedTuple):
    """A text of an entry, and what it is: ``user``, ``assistant``, ``call``, ``result``, ``reasoning``, and so on."""

    what: str
    text: str


def texts_of(entry: LogEntry) -> Iterator[Said]:
    """Yield the texts of an entry, in the order in which it holds them. Entries without a text have none."""
    match entry:
        case UserInput(segments=segments, extensions=extensions):
            yield Said("user", flatten_input(segments))
            for extension in extensions:
                yield Said("extension", f"{extension.domain} {flat(extension.payload)}".rstrip())
        case AssistantItem(item=item) | ToolResultEntry(item=item):
            yield from texts_of_item(item)
        case SystemItemEntry(item=item):
            yield Said("system", "\n".join(_unique((system_text(entry), *_named(item)))))
        case RunErrored(message=message):
            yield Said("error", message)
        case Extension(domain=domain, payload=payload):
            yield Said("extension", f"{domain} {flat(payload)}".rstrip())
        case SegmentStart(system_prompt=prompt, history=history):
            if prompt is not None:
                yield Said("system", prompt)
            for item in history:
                yield from texts_of_item(item)
        case UnknownEntry(raw=raw):
            yield Said("unknown", flat_json(raw))
        case PausedTurnAbandoned():
            yield Said("note", "paused turn abandoned")
        case _:
            return


def _named(item: object) -> Iterator[str]:
    """Yield the texts of a system item that its body may not repeat."""
    for holder in (item, getattr(item, "event", None)):
        for name in ("message", "path", "slug", "name"):
            text = getattr(holder, name, None)
            if isinstance(text, str):
                yield text


def _unique(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts that none before them holds."""
    said = ""
    for text in texts:
        if text and text not in said:
            said += text
            yield text


def texts_of_item(item: Item) -> Iterator[Said]:
    """Yield the texts of an item of a history."""
    match item:
        case Message(role=role, content=content):
            for part in content:
                match part:
                    case Text(text=text) | Refusal(refusal=text):
                        yield Said(role, text)
                    case _:
                        yield Said(role, flat_json(part.raw))
        case ToolCall(name=name, arguments=arguments):
            yield Said("call", f"{name} {flat_json(arguments)}".rstrip())
        case ToolResult(summary=summary, content=content):
            if content is None or summary not in content:
                yield Said("result", summary)
            if content is not None:
                yield Said("result", content)
        case Reasoning(text=text, summary=summary):
            yield Said("reasoning", text)
            yield from (Said("reasoning", short) for short in summary)
        case _:
            yield Said("unknown", flat_json(item.raw))


def text_of_trace(entry: TraceEntry) -> str:
    """Return the text of an entry of a trace: its label, and what it holds."""
    value = entry.event if entry.event is not msgspec.UNSET else entry.data
    return " ".join(part for part in (entry.label or "", flat(value) if value is not None else "") if part)


def flat_json(data: str | bytes) -> str:
    """Return the texts in a piece of JSON, names before values; what is no JSON comes back as it is."""
    try:
        return flat(orjson.loads(data))
    except orjson.JSONDecodeError:
        return data if isinstance(data, str) else data.decode("utf-8", "replace")


def flat(value: Any) -> str:
    """Return a JSON value as text: ``name: value`` for objects, one after the other; nothing is escaped."""
    match value:
        case str():
            return value
        case dict():
            return "; ".join(f"{key}: {flat(inner)}" for key, inner in value.items())
        case list() | tuple():
            return ", ".join(map(flat, value))
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
