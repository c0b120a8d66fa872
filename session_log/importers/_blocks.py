"""Messages of the Anthropic API, which Claude Code records, too. Pure."""

from typing import Any

from session_log import Item, Reasoning, ToolCall
from session_log.importers._responses import Calls
from session_log.importers._shapes import (
    blocks_of,
    json_text,
    left,
    message,
    result,
    said,
    take_block_text,
    text_field,
    tokens,
    user_texts,
    word,
)
from session_log.importers._steps import Drifted, Put, Step, Used


class Hints:
    """What stands beside a message and says what its blocks leave out."""

    def __init__(self, line: int, calls: Calls, result_of: str | None = None) -> None:
        self.line = line
        self.calls = calls
        self.result_of = result_of
        self.warnings: list[str] = []


def steps_of(value: dict[str, Any], hints: Hints) -> list[Step]:
    """Take the steps of a message from it; what is not known in it stays.

    Raises:
        Drifted: it has no role, or its content is neither text nor a list.
    """
    role = word(value, "role")
    if role not in {"user", "assistant", "system"}:
        raise Drifted(f"a message of the role {value.get('role')!r:.80}")
    if "content" not in value:
        raise Drifted("a message without content")
    blocks = blocks_of(value["content"])
    steps: list[Step] = []
    texts: list[str] = []
    for at, block in enumerate(blocks):
        text = take_block_text(block)
        if text is not None:
            texts.append(text)
            continue
        found = _item(block, at, hints)
        if found is not None:
            steps += _spoken(str(role), texts)
            texts = []
            steps += [Put(item) for item in found]
    if role == "user" and not steps:
        texts = user_texts(texts, blocks)
    steps += _spoken(str(role), texts)
    if not steps:
        return []
    del value["role"], value["content"]
    if rest := left(blocks):
        value["content"] = rest
    return steps


def _spoken(role: str, texts: list[str]) -> list[Step]:
    return list(said(texts)) if role == "user" else [Put(found) for found in message(role, texts)]


def _item(block: Any, at: int, hints: Hints) -> list[Item] | None:
    """Take the items of a block that is no text; None if it is of a kind we do not know."""
    if not isinstance(block, dict):
        return None
    kind = word(block, "type")
    if kind in {"tool_use", "server_tool_use", "mcp_tool_use"} and isinstance(block.get("name"), str):
        return [_call(block, at, hints)]
    if kind.endswith("tool_result"):
        return [_result(block, hints)]
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        del block["type"]
        signature = block.pop("signature") if isinstance(block.get("signature"), str) else None
        return [Reasoning(block.pop("thinking"), signature=signature)]
    if kind == "redacted_thinking" and isinstance(block.get("data"), str):
        del block["type"]
        return [Reasoning("", encrypted_content=block.pop("data"))]
    return None


def _call(block: dict[str, Any], at: int, hints: Hints) -> ToolCall:
    if block["type"] == "tool_use":
        del block["type"]
    name = block.pop("name")
    call_id = text_field(block, "id")
    block.pop("id", None)
    if call_id is None:
        call_id = f"line-{hints.line}-{at}"
        hints.warnings.append(f"a call of {name!r:.80} without an id: it is {call_id!r}")
    hints.calls.opened(call_id, name)
    return ToolCall(call_id, name, json_text(block.pop("input", None)))


def _result(block: dict[str, Any], hints: Hints) -> Item:
    if block["type"] == "tool_result":
        del block["type"]
    call_id = text_field(block, "tool_use_id")
    if call_id is None:
        call_id = hints.calls.oldest() or hints.result_of or f"line-{hints.line}"
        hints.warnings.append(f"a result without tool_use_id: taken for that of {call_id!r:.80}")
    block.pop("tool_use_id", None)
    hints.calls.answered(call_id)
    failed = block.get("is_error")
    if isinstance(failed, bool):
        del block["is_error"]
    content = block.pop("content", None)
    if content is not None and not isinstance(content, (str, list)):
        content = json_text(content)
    found, rest = result(call_id, content, is_error=failed is True)
    if rest:
        block["content"] = rest
    return found


def used(usage: Any, model: str | None, key: str | None) -> list[Used]:
    """Return the tokens of a call; of one that was never made, nothing."""
    if not isinstance(usage, dict):
        return []
    read, written = tokens(usage, "cache_read_input_tokens"), tokens(usage, "cache_creation_input_tokens")
    total = tokens(usage, "input_tokens") + read + written
    output = tokens(usage, "output_tokens")
    details = usage.get("output_tokens_details")
    thought = tokens(details, "thinking_tokens", "reasoning_tokens") if isinstance(details, dict) else 0
    if not total + output:
        return []
    return [
        Used(
            input_total=total,
            cache_read=read,
            cache_write=written,
            output=output,
            reasoning=thought or None,
            model=model,
            key=key,
        )
    ]
