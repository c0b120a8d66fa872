"""Messages of the OpenAI and Anthropic APIs, as a document (a request, a response, a list) or as JSON lines.

A line or element that holds a conversation of its own, as in data for fine-tuning, is a segment of its own.
"""

from typing import Any

from session_log import Reasoning, RequestConfig, ToolCall
from session_log.importers import _blocks, _responses
from session_log.importers._reader import Reader
from session_log.importers._responses import Calls
from session_log.importers._shapes import (
    blocks_of,
    json_text,
    left,
    message,
    result,
    said,
    take_block_text,
    take_time,
    text_field,
    tokens,
    user_texts,
    word,
)
from session_log.importers._steps import LAST, Configured, Drifted, Node, Prompted, Put, Step, Used

_ROLES = {"user", "assistant", "system", "developer", "tool", "function"}


class AnthropicReader(Reader):
    """Reads messages, a request, or a response of the Anthropic API."""

    format = "anthropic"

    def __init__(self) -> None:
        super().__init__()
        self._calls = Calls()
        self._begun = False

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what an element means."""
        if "role" not in value:
            return self._head(line, value)
        self._begun = True
        hints = _blocks.Hints(line, self._calls)
        role = value.get("role")
        ts = take_time(value, "created_at", "timestamp")
        steps = _blocks.steps_of(value, hints)
        if not steps:
            return Node(line=line, kind=f"{role} (empty)", kept="", ts=ts)
        if value.get("type") == "message":
            del value["type"]
        model = text_field(value, "model")
        self.fact("model", model)
        spent = _blocks.used(value.get("usage"), model, text_field(value, "id"))
        return Node(
            line=line, kind=str(role), steps=(*spent, *steps), ts=ts, rest=value or None, warnings=tuple(hints.warnings)
        )

    def _head(self, line: int, value: dict[str, Any]) -> Node:
        self.fact("model", value.get("model"))
        steps: list[Step] = []
        system = value.get("system")
        if isinstance(system, (str, list)) and not self._begun:
            blocks = blocks_of(system)
            texts = [text for block in blocks if (text := take_block_text(block)) is not None]
            if texts:
                steps.append(Prompted("\n\n".join(texts)))
                del value["system"]
                if rest := left(blocks):
                    value["system"] = rest
        thinking = value.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        config = config_of(value, "max_tokens", budget)
        if config != RequestConfig():
            steps.append(Configured(config))
        if not steps:
            return Node(line=line, kind="request", kept="")
        return Node(line=line, kind="request", steps=tuple(steps), rest=value or None)


class OpenAiReader(Reader):
    """Reads messages or items, a request, or a response of the OpenAI APIs."""

    format = "openai"

    def __init__(self) -> None:
        super().__init__()
        self._calls = Calls()
        self._begun = False

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what an element means."""
        warnings: list[str] = []
        ts = take_time(value, "created_at", "created", "timestamp")
        kind = word(value, "type")
        if word(value, "role") in _ROLES and ("type" not in value or kind == "message"):
            name, steps = str(value["role"]), self._message(value, line, warnings)
        elif "role" in value:
            raise Drifted(f"a message of the role {value['role']!r:.80}")
        elif kind:
            name = kind
            steps = _responses.steps_of(value, line, self._calls, warnings) or []
        else:
            name, steps = "request", self._head(value)
        if not steps:
            return Node(line=line, kind=name, kept="", ts=ts, warnings=tuple(warnings))
        value.pop("type", None)
        return Node(line=line, kind=name, steps=tuple(steps), ts=ts, rest=value or None, warnings=tuple(warnings))

    def _head(self, value: dict[str, Any]) -> list[Step]:
        self.fact("model", value.get("model"))
        steps: list[Step] = []
        if not self._begun and (prompt := text_field(value, "instructions")) is not None:
            steps.append(Prompted(prompt))
            del value["instructions"]
        reasoning = value.get("reasoning")
        effort = value.get("reasoning_effort") or (reasoning.get("effort") if isinstance(reasoning, dict) else None)
        names = [name for name in ("max_completion_tokens", "max_output_tokens", "max_tokens") if name in value]
        config = config_of(value, names[0] if names else "max_tokens", effort)
        if config != RequestConfig():
            steps.append(Configured(config))
        usage = value.get("usage")
        return [*steps, *_used(usage, text_field(value, "model"))]

    def _message(self, value: dict[str, Any], line: int, warnings: list[str]) -> list[Step]:
        role = value.pop("role")
        if role in {"tool", "function"}:
            return [self._result(value, line, warnings)]
        content = value.pop("content", None)
        blocks = [] if content is None else blocks_of(content)
        texts = [text for block in blocks if (text := take_block_text(block)) is not None]
        refusals = [text for block in blocks if (text := _take_refusal(block)) is not None]
        if rest := left(blocks):
            value["content"] = rest
        if role == "user":
            self._begun = True
            return list(said(user_texts(texts, blocks)))
        if role in {"system", "developer"}:
            if role == "developer":
                value["role"] = role
            first, self._begun = not self._begun, True
            if first and texts:
                return [Prompted("".join(texts))]
            return [Put(found) for found in message("system", texts)]
        self._begun = True
        if isinstance(value.get("refusal"), str):
            refusals.append(value.pop("refusal"))
        thought = text_field(value, "reasoning_content") or text_field(value, "reasoning")
        steps: list[Step] = [Put(Reasoning(thought))] if thought is not None else []
        if thought is not None:
            value.pop("reasoning_content" if "reasoning_content" in value else "reasoning")
        steps += [Put(found) for found in message("assistant", texts, refusals)]
        return [*steps, *self._tool_calls(value, line, warnings)]

    def _tool_calls(self, value: dict[str, Any], line: int, warnings: list[str]) -> list[Step]:
        found = value.get("tool_calls")
        calls = list(found) if isinstance(found, list) else []
        if isinstance(value.get("function_call"), dict):  # before there were tools
            calls.append({"function": value.pop("function_call")})
        steps: list[Step] = []
        for at, call in enumerate(calls):
            kind = "custom" if isinstance(call, dict) and isinstance(call.get("custom"), dict) else "function"
            function = call.get(kind) if isinstance(call, dict) else None
            name = text_field(function, "name") if isinstance(function, dict) else None
            if not isinstance(function, dict) or name is None:
                continue
            call_id = text_field(call, "id")
            if call_id is None:
                call_id = f"line-{line}-{at}"
                warnings.append(f"a call of {name!r:.80} without an id: it is {call_id!r}")
            for key in ("id", "type", kind):
                call.pop(key, None)
            arguments = function.get("arguments") if kind == "function" else function.get("input")
            self._calls.opened(call_id, name)
            steps.append(Put(ToolCall(call_id, name, json_text(arguments))))
        if isinstance(found, list):
            del value["tool_calls"]
            if rest := left(found):
                value["tool_calls"] = rest
        return steps

    def _result(self, value: dict[str, Any], line: int, warnings: list[str]) -> Step:
        name = text_field(value, "name")
        ids = value.get("tool_call_ids")
        call_id = text_field(value, "tool_call_id")
        if call_id is None and isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], str):
            call_id = ids[0]
            del value["tool_call_ids"]
        if call_id is None:
            call_id = self._calls.oldest(name) or f"line-{line}"
            warnings.append(f"a result without tool_call_id: taken for that of {call_id!r:.80}")
        value.pop("tool_call_id", None)
        self._calls.answered(call_id)
        content = value.pop("content", None)
        found, rest = result(call_id, content if isinstance(content, (str, list)) else json_text(content or ""))
        if rest:
            value["content"] = rest
        return Put(found)


def _take_refusal(block: Any) -> str | None:
    if isinstance(block, dict) and block.get("type") == "refusal" and isinstance(block.get("refusal"), str):
        text: str = block["refusal"]
        block.clear()
        return text
    return None


def config_of(value: dict[str, Any], limit: str, reasoning: Any) -> RequestConfig:
    """Return the parameters that a request names; what is none of the type it should be stays aside."""
    stop = value.get("stop_sequences", value.get("stop"))
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return RequestConfig(
        max_tokens=tokens(value, limit) or None,
        temperature=_number(value.get("temperature")),
        top_p=_number(value.get("top_p")),
        top_k=tokens(value, "top_k") or None,
        stop_sequences=tuple(text for text in stops if isinstance(text, str)),
        reasoning=reasoning if isinstance(reasoning, str) else tokens({"n": reasoning}, "n") or None,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _used(usage: Any, model: str | None) -> list[Used]:
    """Return the tokens of a response, in the words of either API."""
    if not isinstance(usage, dict):
        return []
    total, output = tokens(usage, "prompt_tokens", "input_tokens"), tokens(usage, "completion_tokens", "output_tokens")
    if not total + output:
        return []
    read = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    thought = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return [
        Used(
            input_total=total,
            cache_read=tokens(read, "cached_tokens") if isinstance(read, dict) else 0,
            output=output,
            reasoning=tokens(thought, "reasoning_tokens") or None if isinstance(thought, dict) else None,
            model=model,
        )
    ]


class TrajectoryReader(OpenAiReader):
    """Reads a trajectory of SWE-agent: the history is the conversation, the steps are kept beside it."""

    format = "swe-agent"

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what an element means."""
        if "role" not in value:
            if isinstance(value.get("action"), str) and ("observation" in value or "response" in value):
                return Node(line=line, kind="trajectory step", kept="")
            return self._about(line, value)
        thoughts = self._thoughts(value)
        found = super().node(line, value)
        if not thoughts or found.kept is not None:
            return found
        return Node(
            line=line, kind=found.kind, steps=(*thoughts, *found.steps), rest=found.rest, warnings=found.warnings
        )

    def _thoughts(self, value: dict[str, Any]) -> tuple[Step, ...]:
        blocks = value.get("thinking_blocks")
        if not isinstance(blocks, list) or value.get("role") != "assistant":
            return ()
        steps: list[Step] = []
        for block in blocks:
            if isinstance(block, dict) and isinstance(block.get("thinking"), str):
                steps.append(Put(Reasoning(block["thinking"], signature=text_field(block, "signature"))))
                block.clear()
        del value["thinking_blocks"]
        if rest := left(blocks):
            value["thinking_blocks"] = rest
        return tuple(steps)

    def _about(self, line: int, value: dict[str, Any]) -> Node:
        info = value.get("info")
        stats = info.get("model_stats") if isinstance(info, dict) else None
        if isinstance(stats, dict):
            total, output = tokens(stats, "tokens_sent"), tokens(stats, "tokens_received")
            if total + output:
                spent = Used(input_total=total, output=output, source="total of the run")
                return Node(line=line, kind="about", steps=(spent,), rest=value, parent=LAST)
        return Node(line=line, kind="about", kept="")
