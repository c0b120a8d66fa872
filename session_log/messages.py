"""Messages: a history in the form that a provider's API takes, ready to send.

>>> from session_log import Message, ToolCall, ToolResult
>>> from session_log.messages import openai_messages
>>> items = (Message.user("2 + 2?"), ToolCall("c", "add", '{"a":2}'), ToolResult("c", "4"), Message.assistant("4."))
>>> [message["role"] for message in openai_messages(items).messages]
['user', 'assistant', 'tool', 'assistant']

The forms are those of the public API references: OpenAI "Create chat completion" (``messages``), Anthropic "Messages"
(``system`` and ``messages``). What a form has no place for is left out and counted by name in ``left_out``; a call
without a result gets an error result, because both refuse a history without one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from session_log._items import (
    Attachment,
    ContentPart,
    Item,
    JsonValue,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from session_log._writer import INTERRUPTED_SUMMARY

FORMS: Final = ("openai", "anthropic")
"""The forms there are."""


class Sendable(msgspec.Struct, frozen=True, kw_only=True):
    """A history as a provider takes it; ``left_out`` counts what it has no place for."""

    messages: list[dict[str, JsonValue]]
    system: str | None = None
    left_out: Mapping[str, int] = {}


def openai_messages(items: Iterable[Item], system_prompt: str | None = None) -> Sendable:
    """Return a history as the ``messages`` of a chat completion; the system prompt is the first of them.

    Reasoning is left out, attachments too: a tool message takes text alone.
    """
    left_out: Counter[str] = Counter()
    messages: list[dict[str, JsonValue]] = []
    if system_prompt is not None:
        messages.append({"role": "system", "content": system_prompt})
    for item in closed(items):
        match item:
            case Message(role=role):
                messages.append(_openai_message(item, role, left_out))
            case ToolCall(call_id=call_id, name=name, arguments=arguments):
                call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                messages[-1].setdefault("tool_calls", []).append(call)
            case ToolResult(call_id=call_id):
                left_out["attachment"] += len(item.attachments)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": result_text(item)})
            case Reasoning():
                left_out["reasoning"] += 1
            case _:
                left_out[item.kind] += 1
    return Sendable(messages=messages, left_out=+left_out)


def _openai_message(item: Message, role: str, left_out: Counter[str]) -> dict[str, JsonValue]:
    parts: list[dict[str, JsonValue]] = []
    for part in item.content:
        match part:
            case Text(text=text):
                parts.append({"type": "text", "text": text})
            case Refusal(refusal=refusal):
                parts.append({"type": "refusal", "refusal": refusal})
            case _:
                left_out[part.kind] += 1
    known = role if role in ("user", "assistant", "system", "developer") else "user"
    if all(part["type"] == "text" for part in parts):
        return {"role": known, "content": "".join(part["text"] for part in parts)}
    return {"role": known, "content": parts}


def anthropic_messages(items: Iterable[Item], system_prompt: str | None = None) -> Sendable:
    """Return a history as ``system`` and ``messages``, of which no two in a row have the same role.

    System messages within the history become text of the user. Reasoning goes back with its signature; without one it
    is left out, since the API refuses it.
    """
    left_out: Counter[str] = Counter()
    messages: list[dict[str, JsonValue]] = []
    for item in closed(items):
        role, blocks = _anthropic_blocks(item, left_out)
        if not blocks:
            continue
        if not messages or messages[-1]["role"] != role:
            messages.append({"role": role, "content": []})
        messages[-1]["content"] += blocks
    return Sendable(messages=messages, system=system_prompt, left_out=+left_out)


def _anthropic_blocks(item: Item, left_out: Counter[str]) -> tuple[str, list[dict[str, JsonValue]]]:
    match item:
        case Message(role=role):
            texts = [_text_of(part) for part in item.content]
            left_out["content"] += texts.count(None)
            blocks = [{"type": "text", "text": text} for text in texts if text]  # empty ones are refused
            return "assistant" if role == "assistant" else "user", blocks
        case ToolCall(call_id=call_id, name=name, arguments=arguments):
            return "assistant", [{"type": "tool_use", "id": call_id, "name": name, "input": arguments_of(arguments)}]
        case ToolResult(call_id=call_id, is_error=is_error):
            block: dict[str, JsonValue] = {
                "type": "tool_result", "tool_use_id": call_id, "content": _result_blocks(item, left_out),
            }  # fmt: skip
            return "user", [{**block, "is_error": True} if is_error else block]
        case Reasoning(encrypted_content=data) if data is not None:
            return "assistant", [{"type": "redacted_thinking", "data": data}]
        case Reasoning(text=text, signature=signature) if signature is not None:
            return "assistant", [{"type": "thinking", "thinking": text, "signature": signature}]
        case Reasoning():
            left_out["reasoning without a signature"] += 1
        case _:
            left_out[item.kind] += 1
    return "assistant", []


def _text_of(part: ContentPart) -> str | None:
    match part:
        case Text(text=text) | Refusal(refusal=text):
            return text
        case _:
            return None


def _result_blocks(item: ToolResult, left_out: Counter[str]) -> list[dict[str, JsonValue]]:
    blocks: list[dict[str, JsonValue]] = []
    if text := result_text(item):
        blocks.append({"type": "text", "text": text})
    for part in item.attachments:
        if isinstance(part, Attachment):
            source = {"type": "base64", "media_type": part.mime_type, "data": part.data}
            blocks.append({"type": "image", "source": source})
        else:
            left_out[part.kind] += 1
    return blocks


def result_text(item: ToolResult) -> str:
    """Return what a model is told of a tool's result: its content, or the summary where that is all."""
    return item.content if item.content is not None else item.summary


def arguments_of(text: str) -> dict[str, Any]:
    """Return the arguments of a call as an object; what is none, under the key ``arguments``."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        value = text
    return value if isinstance(value, dict) else {"arguments": value}


def closed(items: Iterable[Item]) -> Iterator[Item]:
    """Yield a history in which every call has a result behind it, before anybody else speaks."""
    waiting: list[ToolCall] = []
    for item in items:
        if isinstance(item, ToolCall):
            waiting.append(item)
        elif isinstance(item, ToolResult):
            at = next((at for at, call in enumerate(waiting) if call.call_id == item.call_id), None)
            if at is None:
                continue  # a result of no call, which a provider refuses
            del waiting[at]
        elif isinstance(item, Message) and waiting:
            yield from _interrupted(waiting)
        yield item
    yield from _interrupted(waiting)


def _interrupted(waiting: list[ToolCall]) -> Iterator[Item]:
    while waiting:
        yield ToolResult(waiting.pop(0).call_id, INTERRUPTED_SUMMARY, is_error=True)
