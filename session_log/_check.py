"""Would it read back the same? What an entry must be before it is written. Pure."""

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from session_log._entries import (
    POD_SCOPE_DOMAIN,
    AssistantItem,
    Extension,
    Invoke,
    LlmUsage,
    RunCompleted,
    ToolResultEntry,
    TurnEnd,
    UserInput,
)
from session_log._errors import InvalidEntry
from session_log._inputs import (
    TextInput,
)
from session_log._items import Message, Reasoning, Text, ToolCall, ToolResult, Unknown
from session_log._payload import Own

MAX_INTEGER = (1 << 63) - 1
"""Integers of our own fields: what a signed 64-bit reader holds."""


# ── the shapes a turn is made of: surely right, at a glance ────────────────────────────────────────────────────────


# (One function a kind, nothing called from it: these run before every append. ``n >> 63`` is 0 for the integers from 0
# to MAX_INTEGER alone.)


def _assistant_item(entry: AssistantItem) -> bool:
    ts = entry.ts
    if type(ts) is not int or ts >> 63 or entry.idem is not None:
        return False
    item: Any = entry.item
    kind = type(item)
    if kind is Message:
        content = item.content
        if type(item.role) is not str or type(content) is not tuple:
            return False
        for part in content:
            if type(part) is not Text or type(part.text) is not str or part.text_blobs != ():
                return False
        return True
    if kind is ToolCall:
        return type(item.call_id) is str and type(item.name) is str and type(item.arguments) is str
    return kind is Reasoning and _reasoning(item)


def _reasoning(item: Reasoning) -> bool:
    content, signature = item.encrypted_content, item.signature
    return (
        type(item.text) is str
        and item.summary == ()
        and (content is None or type(content) is str)
        and (signature is None or type(signature) is str)
    )


def _tool_result(entry: ToolResultEntry) -> bool:
    ts = entry.ts
    if type(ts) is not int or ts >> 63 or entry.idem is not None:
        return False
    item = entry.item
    if type(item) is not ToolResult:
        return False
    content = item.content
    return (
        type(item.call_id) is str
        and type(item.summary) is str
        and (content is None or type(content) is str)
        and type(item.is_error) is bool
        and item.attachments == ()
        and item.content_blob is None
    )


def _user_input(entry: UserInput) -> bool:
    ts = entry.ts
    if type(ts) is not int or ts >> 63 or entry.idem is not None:
        return False
    if type(entry.segments) is not tuple or entry.extensions != ():
        return False
    for segment in entry.segments:
        if type(segment) is not TextInput or type(segment.content) is not str or segment.content_blob is not None:
            return False
    return True


def _invoke(entry: Invoke) -> bool:
    ts = entry.ts
    return type(ts) is int and not ts >> 63 and entry.idem is None and type(entry.trigger) is str


def _turn_end(entry: TurnEnd) -> bool:
    ts, count, chain = entry.ts, entry.turn_count, entry.chain
    if type(ts) is not int or type(count) is not int or (ts | count) >> 63:
        return False
    return entry.idem is None and (chain is None or type(chain) is str)


def _run_completed(entry: RunCompleted) -> bool:
    ts = entry.ts
    if type(ts) is not int or ts >> 63 or entry.idem is not None:
        return False
    return type(entry.interrupted) is bool and type(entry.result) is str


def _llm_usage(entry: LlmUsage) -> bool:
    ts, history_len, output = entry.ts, entry.history_len, entry.output_tokens
    total, read, written = entry.input_total_tokens, entry.cache_read_tokens, entry.cache_write_tokens
    reasoning, latency, model = entry.reasoning_tokens, entry.latency_ms, entry.model
    if type(ts) is not int or type(history_len) is not int or type(output) is not int:
        return False
    if type(total) is not int or type(read) is not int or type(written) is not int:
        return False
    if (ts | history_len | output | total | read | written) >> 63:
        return False
    if reasoning is not None and (type(reasoning) is not int or reasoning >> 63):
        return False
    if latency is not None and (type(latency) is not int or latency >> 63):
        return False
    if model is not None and type(model) is not str:
        return False
    return entry.idem is None and (entry.source is entry.node_id is None or _named(entry))


def _named(entry: LlmUsage) -> bool:
    return all(name is None or type(name) is str for name in (entry.source, entry.node_id))


def _extension(entry: Extension) -> bool:
    """Tell it of a record of a domain: a flat object, and no other, because a payload of the caller's may change."""
    ts, domain, payload = entry.ts, entry.domain, entry.payload
    if type(payload) is not Own or type(ts) is not int or ts >> 63 or entry.idem is not None:
        return False
    if type(domain) is not str or domain.startswith("session_log.") or domain == POD_SCOPE_DOMAIN:
        return False
    for value in payload.values():
        kind = type(value)
        if kind is int:
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                return False
        elif kind is float:
            if value - value != 0.0:  # infinite, or no number
                return False
        elif kind is not str and kind is not bool and value is not None:
            return False
    return True


PLAIN: Final[dict[type[Any], Callable[[Any], bool]]] = {
    AssistantItem: _assistant_item,
    ToolResultEntry: _tool_result,
    UserInput: _user_input,
    Invoke: _invoke,
    TurnEnd: _turn_end,
    RunCompleted: _run_completed,
    LlmUsage: _llm_usage,
    Extension: _extension,
}
"""True: the entry certainly reads back the same. False, or no check: write it, read it back and compare."""


# ── everything else ────────────────────────────────────────────────────────────────────────────────────────────────


def refuse_difference(written: Any, read: Any, path: str = "$") -> None:
    """Raise InvalidEntry for the first value of ``written`` that came back as another one in ``read``.

    A list where we keep a tuple is the same; opaque payloads (raw by now) were checked when they were encoded.
    """
    if isinstance(written, msgspec.Raw):
        return
    if isinstance(written, msgspec.Struct) and type(written) is type(read):
        for name in written.__struct_fields__:
            refuse_difference(getattr(written, name), getattr(read, name), f"{path}.{name}")
    elif isinstance(written, (tuple, list)) and isinstance(read, tuple) and len(written) == len(read):
        for at, (one, other) in enumerate(zip(written, read, strict=True)):
            refuse_difference(one, other, f"{path}[{at}]")
    elif type(written) is int and type(read) is float and written == read:
        return
    elif type(written) is not type(read) or written != read:
        raise InvalidEntry(path, f"{written!r:.200} would read back as {read!r:.200}")
    elif type(written) is int and not -MAX_INTEGER <= written <= MAX_INTEGER:
        raise InvalidEntry(path, f"{written} does not fit into 64 bits")
    elif type(written) is int and written < 0 and not path.endswith(".reasoning"):
        raise InvalidEntry(path, f"{written} is negative; other readers of the format have no sign there")


def explain(entry: Any, reason: str, path: str = "$") -> InvalidEntry:
    """Return the error for an entry that cannot be encoded or read back, naming the value if it can be found."""
    return next(_foreign(entry, "$"), None) or InvalidEntry(path, reason)


def _foreign(value: Any, path: str) -> Any:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _foreign(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (tuple, list)):
        for at, inner in enumerate(value):
            yield from _foreign(inner, f"{path}[{at}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield InvalidEntry(path, f"{value!r} has no JSON form")
    elif not isinstance(value, (str, int, float, type(None), msgspec.Raw, Unknown)):
        yield InvalidEntry(path, f"a {type(value).__name__} has no place in an entry")


def scrub(text: str) -> str:
    """Return ``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def scrubbed(value: Any) -> Any:
    """Return a JSON value with every text in it scrubbed."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub(key): scrubbed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [scrubbed(inner) for inner in value]
    return value


def without_surrogates(value: Any) -> Any:
    """Return an entry with every text of its own fields scrubbed."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, (tuple, list)):
        return tuple(without_surrogates(inner) for inner in value)
    if isinstance(value, msgspec.Struct):
        return type(value)(**{name: without_surrogates(getattr(value, name)) for name in value.__struct_fields__})
    return value
