"""Items of the responses API, which Codex records, too. Pure."""

from typing import Any, Final

from session_log import Item, Reasoning, TextInput, ToolCall
from session_log.importers._shapes import (
    blocks_of,
    json_text,
    left,
    message,
    result,
    said,
    take_block_text,
    take_text,
    text_field,
    user_texts,
    word,
)
from session_log.importers._steps import Drifted, Put, Said, Step

CALLS: Final = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "local_shell_call": "action",
    "tool_search_call": "arguments",
    "mcp_call": "arguments",
    "computer_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
"""The kinds of calls, and where their arguments stand."""
RESULTS: Final = {
    "function_call_output": "output",
    "custom_tool_call_output": "output",
    "local_shell_call_output": "output",
    "tool_search_output": "tools",
    "computer_call_output": "output",
    "shell_call_output": "output",
    "apply_patch_call_output": "output",
}
ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
"""The roles of messages; those of a developer are the system's."""


class Calls:
    """Calls that wait for their result, for records that do not say which call they mean."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []

    def opened(self, call_id: str, name: str) -> None:
        """Note a call."""
        self._open.append((call_id, name))

    def answered(self, call_id: str) -> None:
        """Note a result."""
        self._open = [call for call in self._open if call[0] != call_id]

    def oldest(self, name: str | None = None) -> str | None:
        """Return the oldest open call, of this name if there is one."""
        named = [call_id for call_id, of in self._open if of == name]
        return next(iter(named or [call_id for call_id, _ in self._open]), None)


def steps_of(value: dict[str, Any], line: int, calls: Calls, warnings: list[str]) -> list[Step] | None:
    """Take the steps of an item from it; None if it is of a kind that is no part of the history we know.

    Raises:
        Drifted: it has not the shape of its kind.
    """
    kind = word(value, "type")
    if kind == "message" or ("type" not in value and "role" in value):
        return _message(value)
    if kind == "reasoning":
        return [Put(_reasoning(value))]
    if kind in CALLS:
        return _call(value, kind, line, calls, warnings)
    if kind in RESULTS:
        return [Put(_result(value, kind, line, calls, warnings))]
    return None


def _message(value: dict[str, Any]) -> list[Step]:
    role = word(value, "role")
    if role not in ROLES:
        raise Drifted(f"a message of the role {value.get('role')!r:.80}")
    blocks = blocks_of(value.pop("content", None))
    texts: list[str] = []
    refusals: list[str] = []
    for block in blocks:
        if (text := take_block_text(block)) is not None:
            texts.append(text)
        elif isinstance(block, dict) and block.get("type") == "refusal" and isinstance(block.get("refusal"), str):
            refusals.append(block["refusal"])
            block.clear()
    if rest := left(blocks):
        value["content"] = rest
    if role == "user":
        return list(said(user_texts(texts, blocks)))
    if role != "developer":
        del value["role"]
    return [Put(found) for found in message(ROLES[role], texts, refusals)]


def _reasoning(value: dict[str, Any]) -> Reasoning:
    summary = _take_texts(value, "summary", "summary_text")
    texts = _take_texts(value, "content", "reasoning_text", "text")
    encrypted = value.pop("encrypted_content") if isinstance(value.get("encrypted_content"), str) else None
    return Reasoning("\n".join(texts), tuple(summary), encrypted)


def _take_texts(value: dict[str, Any], name: str, *kinds: str) -> list[str]:
    blocks = value.get(name)
    if not isinstance(blocks, list):
        return []
    blocks = blocks_of(blocks)
    texts = [text for block in blocks if (text := take_block_text(block, (*kinds, "text"))) is not None]
    del value[name]
    if rest := left(blocks):
        value[name] = rest
    return texts


def _call(value: dict[str, Any], kind: str, line: int, calls: Calls, warnings: list[str]) -> list[Step]:
    function = value.get("function")
    name = text_field(value, "name")
    if name is None and isinstance(function, dict):
        name = text_field(function, "name")
    if name is None:
        name = kind.removesuffix("_call")
    call_id = text_field(value, "call_id") or (text_field(value, "id") if kind == "mcp_call" else None)
    if call_id is None:
        call_id = text_field(value, "id") or f"line-{line}"
        warnings.append(f"a call of {name!r:.80} without call_id: it is {call_id!r:.80}")
    value.pop("call_id", None)
    field = CALLS[kind]
    arguments = json_text(value.pop(field, None))
    steps: list[Step] = [Put(ToolCall(call_id, name, arguments))]
    calls.opened(call_id, name)
    if kind == "mcp_call" and ("output" in value or "error" in value):  # the provider called it, and says both
        output, error = value.pop("output", None), value.get("error")
        found, rest = result(call_id, _content(output if output is not None else error), is_error=error is not None)
        if rest:
            value["output"] = rest
        calls.answered(call_id)
        steps.append(Put(found))
    return steps


def _result(value: dict[str, Any], kind: str, line: int, calls: Calls, warnings: list[str]) -> Item:
    call_id = text_field(value, "call_id")
    if call_id is None:
        name = text_field(value, "name")
        call_id = calls.oldest(name) or f"line-{line}"
        warnings.append(f"a result without call_id: taken for that of {call_id!r:.80}")
    value.pop("call_id", None)
    calls.answered(call_id)
    output = value.pop(RESULTS[kind], None)
    failed = False
    if isinstance(output, dict) and isinstance(output.get("success"), bool):
        failed = not output["success"]
    found, rest = result(call_id, _content(output), is_error=failed)
    if rest:
        value[RESULTS[kind]] = rest
    return found


def _content(output: Any) -> Any:
    """Return an output as content: a text, blocks, one block, an object with content, or any other JSON as its text."""
    if output is None or isinstance(output, str):
        return output
    if isinstance(output, dict):
        if isinstance(output.get("type"), str) and isinstance(output.get("text"), str):
            return [output]
        if isinstance(output.get("content"), str) and output.keys() <= {"content", "success"}:
            return output["content"]
    typed = isinstance(output, list) and all(isinstance(one, str) or _is_block(one) for one in output)
    return output if typed else json_text(output)


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and word(value, "type") in {
        "input_text",
        "text",
        "output_text",
        "input_image",
        "image",
    }


def items_of(steps: list[Step]) -> list[Item]:
    """Return the items of steps, inputs of the user as messages."""
    items: list[Item] = []
    for step in steps:
        if isinstance(step, Put):
            items.append(step.item)
        elif isinstance(step, Said):
            items += message("user", [part.content for part in step.segments if isinstance(part, TextInput)])
    return items


def take_message_text(value: dict[str, Any]) -> None:
    """Let a message say its text in ``content``, where an older writer said it in ``message``."""
    if "content" not in value and isinstance(value.get("message"), str):
        value["content"] = take_text(value, "message")
