"""Sessions of pi (versions 1 to 3), as JSON lines.

From version 2 on, records have an ``id`` and a ``parentId``. Before, each goes on from the one above, and a compaction
names the first record it keeps by its number, the header being number 0.
"""

from typing import Any

from session_log import Message, Reasoning, RequestConfig, ToolCall
from session_log.importers._reader import Reader
from session_log.importers._shapes import (
    blocks_of,
    json_text,
    left,
    message,
    result,
    said,
    take_block_text,
    take_text,
    take_time,
    text_field,
    tokens,
    user_texts,
    word,
)
from session_log.importers._steps import (
    LAST,
    NUMBERED,
    Compacted,
    Configured,
    Drifted,
    Ended,
    Node,
    Put,
    Step,
    Used,
)


class PiReader(Reader):
    """Reads the lines of a session of pi."""

    format = "pi"

    def __init__(self) -> None:
        super().__init__()
        self._count = -1
        self._level: str | None = None

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what a line means."""
        self._count += 1
        kind = value.get("type")
        if kind == "session":
            return self._header(line, value)
        found, parent = text_field(value, "id"), value.get("parentId")
        if found is None or not (parent is None or isinstance(parent, str)):
            found, parent = f"{NUMBERED}{self._count}", LAST
        elif "parentId" not in value or parent == "":
            parent = LAST
        handle = {
            "message": self._message,
            "compaction": self._compaction,
            "branch_summary": self._summary,
            "custom_message": self._custom_message,
            "thinking_level_change": self._level_change,
            "model_change": self._model_change,
            "session_info": self._info,
        }.get(kind if isinstance(kind, str) else "")
        if handle is None:
            return Node(line=line, kind=str(kind), kept="", id=found, parent=parent, ts=take_time(value, "timestamp"))
        name, steps = handle(value)
        inner = value.get("message")
        ts = take_time(value, "timestamp")
        if ts is None and isinstance(inner, dict):
            ts = take_time(inner, "timestamp")
        if not steps and kind == "message":
            return Node(line=line, kind=f"{name} (empty)", kept="", id=found, parent=parent, ts=ts)
        for key in ("type", "id", "parentId"):
            value.pop(key, None)
        if not value.get("message", True):
            del value["message"]
        return Node(line=line, kind=name, steps=tuple(steps), id=found, parent=parent, ts=ts, rest=value or None)

    def _header(self, line: int, value: dict[str, Any]) -> Node:
        if self.source_id is None:
            self.source_id = text_field(value, "id")
            self.version = str(value.get("version", 1))
            self.fact("workspace", value.get("cwd"))
            self.fact("model", value.get("modelId"))
        steps = self._configured(value.pop("thinkingLevel")) if "thinkingLevel" in value else ()
        del value["type"]
        return Node(line=line, kind="session", steps=steps, rest=value or None)

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _message(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        inner = value.get("message")
        if not isinstance(inner, dict):
            raise Drifted("message is no object")
        role = inner.get("role")
        handle = {
            "user": self._user,
            "assistant": self._assistant,
            "toolResult": self._tool_result,
            "bashExecution": self._bash,
            "custom": self._as_user,
            "hookMessage": self._as_user,
            "branchSummary": self._as_summary,
            "compactionSummary": self._as_summary,
            "system": self._system,
            "developer": self._system,
        }.get(role if isinstance(role, str) else "")
        if handle is None:
            raise Drifted(f"a message of the role {role!r:.80}")
        steps = handle(inner)
        if steps:
            del inner["role"]
            if role in {"custom", "hookMessage", "branchSummary", "compactionSummary", "developer"}:
                inner["role"] = role
        return str(role), steps

    def _user(self, inner: dict[str, Any]) -> list[Step]:
        return list(said(_texts(inner)))

    def _as_user(self, inner: dict[str, Any]) -> list[Step]:
        return [Put(found) for found in message("user", _texts(inner))]

    def _system(self, inner: dict[str, Any]) -> list[Step]:
        return [Put(found) for found in message("system", _texts(inner))]

    def _as_summary(self, inner: dict[str, Any]) -> list[Step]:
        return [Put(Message.user(take_text(inner, "summary")))]

    def _bash(self, inner: dict[str, Any]) -> list[Step]:
        """Take a command of the user's own, which the model is told of, unless it is excluded."""
        if inner.get("excludeFromContext") is True:
            return []
        command, output = take_text(inner, "command"), take_text(inner, "output")
        return [Put(Message.user(f"Ran `{command}`\n```\n{output}\n```"))]

    def _tool_result(self, inner: dict[str, Any]) -> list[Step]:
        call_id = take_text(inner, "toolCallId")
        is_error = inner.get("isError")
        found, rest = result(call_id, inner.pop("content", None), is_error=is_error is True)
        if isinstance(is_error, bool):
            del inner["isError"]
        if rest:
            inner["content"] = rest
        usage = inner.pop("usage") if isinstance(inner.get("usage"), dict) else None
        return [*_used(usage, None), Put(found)]

    def _assistant(self, inner: dict[str, Any]) -> list[Step]:
        blocks = blocks_of(inner.pop("content", None))
        model = text_field(inner, "model")
        self.fact("model", model)
        usage = inner.get("usage")
        steps: list[Step] = []
        texts: list[str] = []
        for block in blocks:
            text = take_block_text(block)
            if text is not None:
                texts.append(text)
                continue
            item = _item(block)
            if item is not None:
                steps += [Put(found) for found in message("assistant", texts)]
                steps.append(Put(item))
                texts = []
        steps += [Put(found) for found in message("assistant", texts)]
        spent = _used(usage, model)
        if rest := left(blocks):
            inner["content"] = rest
        if word(inner, "stopReason") in {"aborted", "error"}:
            steps.append(Ended(text_field(inner, "errorMessage") or str(inner["stopReason"])))
        return [*spent, *steps] if steps or spent else []

    # ── other records ──────────────────────────────────────────────────────────────────────────────────────────────

    def _compaction(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        keep = text_field(value, "firstKeptEntryId")
        index = value.get("firstKeptEntryIndex")
        if keep is None and isinstance(index, int) and 0 < index < self._count:
            keep = f"{NUMBERED}{index}"
        usage = value.pop("usage") if isinstance(value.get("usage"), dict) else None
        summary = Message.user(take_text(value, "summary"))
        return "compaction", [Compacted((summary,), keep), *_used(usage, None)]

    def _summary(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        usage = value.pop("usage") if isinstance(value.get("usage"), dict) else None
        return "branch_summary", [*_used(usage, None), Put(Message.user(take_text(value, "summary")))]

    def _custom_message(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        steps = self._as_user(value)
        if not steps:
            raise Drifted("custom_message without a text")
        return "custom_message", steps

    def _level_change(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        return "thinking_level_change", list(self._configured(take_text(value, "thinkingLevel")))

    def _configured(self, level: object) -> tuple[Step, ...]:
        effort = level if isinstance(level, str) and level != "off" else None
        return (Configured(RequestConfig(reasoning=effort)),)

    def _model_change(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        self.fact("model", value.get("modelId"))
        return "model_change", []

    def _info(self, value: dict[str, Any]) -> tuple[str, list[Step]]:
        self.title(value.get("name"), 1)
        return "session_info", []


def _texts(inner: dict[str, Any]) -> list[str]:
    blocks = blocks_of(inner.pop("content", None))
    texts = user_texts([text for block in blocks if (text := take_block_text(block)) is not None], blocks)
    if rest := left(blocks):
        inner["content"] = rest
    return texts


def _item(block: Any) -> ToolCall | Reasoning | None:
    """Take a call or a piece of reasoning from a block."""
    if not isinstance(block, dict):
        return None
    kind = block.get("type")
    if kind == "toolCall" and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
        del block["type"]
        return ToolCall(block.pop("id"), block.pop("name"), json_text(block.pop("arguments", None)))
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        del block["type"]
        signature = block.pop("thinkingSignature") if isinstance(block.get("thinkingSignature"), str) else None
        return Reasoning(block.pop("thinking"), signature=signature)
    return None


def _used(usage: Any, model: str | None) -> list[Step]:
    """Return the tokens of a call; of one that was never made, nothing."""
    if not isinstance(usage, dict):
        return []
    read, written = tokens(usage, "cacheRead"), tokens(usage, "cacheWrite")
    total, output = tokens(usage, "input") + read + written, tokens(usage, "output")
    if not total + output:
        return []
    return [Used(input_total=total, cache_read=read, cache_write=written, output=output, model=model)]
