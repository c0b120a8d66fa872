"""Any OpenAI-compatible chat-completions endpoint, with tool calling, over the standard library's HTTP client."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

import msgspec

from agent.model import ModelError, Reply
from agent.tools import tool_schemas
from session_log import Item, Message, RestoredState, ToolCall, ToolResult, UsageRecord

DEFAULT_MODEL = "gpt-4o-mini"
TIMEOUT_S = 120.0


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _Call(msgspec.Struct):
    id: str
    function: _Function


class _Answer(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Answer


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Response(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


class HttpModel:
    """A model behind ``{base_url}/chat/completions``."""

    def __init__(self, base_url: str, api_key: str, name: str) -> None:
        self.name = name
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def complete(self, state: RestoredState) -> Reply:
        """Ask the endpoint for the next items.

        Raises:
            ModelError: it did not answer, or not with a chat completion.
        """
        response = self._post(self._request(state))
        if not response.choices:
            raise ModelError(f"{self._url}: a reply without choices")
        answer = response.choices[0].message
        items: list[Item] = [Message.assistant(answer.content)] if answer.content else []
        items += [ToolCall(call.id, call.function.name, call.function.arguments) for call in answer.tool_calls or ()]
        return Reply(items=tuple(items), usage=self._usage(state, response))

    def _request(self, state: RestoredState) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": chat_messages(state.system_prompt, state.history),
            "tools": [{"type": "function", "function": schema} for schema in tool_schemas()],
        }
        for name in ("max_tokens", "temperature", "top_p"):
            value = getattr(state.config, name)
            if value is not None:
                body[name] = value
        return body

    def _post(self, body: dict[str, Any]) -> _Response:
        request = urllib.request.Request(self._url, data=json.dumps(body).encode(), headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return msgspec.json.decode(response.read(), type=_Response)
        except urllib.error.HTTPError as exc:
            detail = exc.read(500).decode(errors="replace")
            raise ModelError(f"{self._url}: status {exc.code} ({detail})") from exc
        except (OSError, HTTPException, ValueError, msgspec.MsgspecError) as exc:
            raise ModelError(f"{self._url}: {exc}") from exc

    def _usage(self, state: RestoredState, response: _Response) -> UsageRecord:
        usage = response.usage or _Usage()
        details = usage.prompt_tokens_details or _Cached()
        return UsageRecord(
            history_len=len(state.history),
            input_total_tokens=usage.prompt_tokens,
            cache_read_tokens=details.cached_tokens or 0,
            cache_write_tokens=0,
            output_tokens=usage.completion_tokens,
            model=response.model or self.name,
            source="provider" if response.usage else None,
        )


def chat_messages(system_prompt: str | None, history: Sequence[Item]) -> list[dict[str, Any]]:
    """Return a history in the shape of the API: the calls of one reply belong to one assistant message."""
    messages: list[dict[str, Any]] = []
    if system_prompt:
        messages.append({"role": "system", "content": system_prompt})
    for item in history:
        match item:
            case Message(role=role):
                messages.append({"role": role, "content": item.text})
            case ToolCall(call_id=call_id, name=name, arguments=arguments):
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                function = {"name": name, "arguments": arguments}
                calls = messages[-1].setdefault("tool_calls", [])
                calls.append({"id": call_id, "type": "function", "function": function})
            case ToolResult(call_id=call_id, summary=summary, content=content):
                text = summary if content is None else f"{summary}\n{content}"
                messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
            case _:
                pass  # reasoning is the provider's own, and this API does not take it back
    return messages
