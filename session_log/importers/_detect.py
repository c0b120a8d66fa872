"""Of which format a source is, told from its first records. Pure."""

from typing import Any, Final

from session_log import CallerError
from session_log.importers._source import NotJson, are_lines, line_records, parse

MAX_LOOKED_AT: Final = 200
"""Lines that are looked at: a source that does not show what it is by then does not."""
FORMATS: Final = ("pi", "codex", "claude", "openai", "anthropic", "swe-agent", "session-log")
_CODEX: Final = frozenset({"session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state"})
_PI: Final = frozenset(
    {"compaction", "branch_summary", "custom_message", "thinking_level_change", "model_change", "session_info"}
)
_KINDS: Final = frozenset(
    {
        "segment_start", "invoke", "user_input", "assistant_item", "tool_result", "system_item", "turn_end",
        "run_completed", "run_errored", "config_changed", "llm_usage", "extension",
    }
)  # fmt: skip
_CLAUDE: Final = frozenset({"sessionId", "parentUuid", "isSidechain", "leafUuid", "uuid"})
_ITEMS: Final = frozenset({"function_call", "function_call_output", "reasoning", "custom_tool_call", "function_result"})


class UnknownFormat(CallerError):
    """A source is of none of the formats that are known; nothing was written."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where}: is of no format that is known by its looks; name one of {', '.join(FORMATS)}")
        self.where = where


def detect(data: bytes, where: str) -> str:
    """Return the name of the format of a source.

    Raises:
        UnknownFormat: it is none that is known.
    """
    votes: dict[str, int] = {}
    try:
        values = [] if are_lines(data) else [parse(data)]
    except NotJson:
        values = []
    if not values:
        for record in line_records(data):
            if record.line > MAX_LOOKED_AT:
                break
            values.append(record.value)
    for value in values:
        for inner in value[:MAX_LOOKED_AT] if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                for fmt, weight in _votes(inner):
                    votes[fmt] = votes.get(fmt, 0) + weight
    if not votes:
        raise UnknownFormat(where)
    return max(FORMATS, key=lambda fmt: votes.get(fmt, 0))


def _votes(value: dict[str, Any]) -> list[tuple[str, int]]:
    kind, found = value.get("type"), []
    kind = kind if isinstance(kind, str) else ""
    if isinstance(value.get("kind"), str) and value["kind"] in _KINDS and "ts" in value:
        found.append(("session-log", 10 if value["kind"] == "segment_start" else 2))
    if "trajectory" in value or ("history" in value and "info" in value):
        found.append(("swe-agent", 10))
    if isinstance(value.get("payload"), dict) and kind:
        found.append(("codex", 4 if kind in _CODEX else 1))
    elif kind in _ITEMS and "timestamp" not in value:
        found.append(("codex" if "created_at" in value else "openai", 2))
    elif kind in _ITEMS or value.get("record_type") is not None:
        found.append(("codex", 5))
    elif {"id", "instructions", "timestamp"} <= value.keys() and not kind:  # the header of its first versions
        found.append(("codex", 20))
    if _CLAUDE & value.keys():
        found.append(("claude", 3))
    elif kind in _PI or (kind == "session" and "id" in value):
        found.append(("pi", 3))
    elif kind == "message" and isinstance(value.get("message"), dict) and "timestamp" in value:
        found.append(("pi", 2))
    elif "created_at" in value and ("role" in value or kind):
        found.append(("codex", 1))
    return found or _chat_votes(value)


def _chat_votes(value: dict[str, Any]) -> list[tuple[str, int]]:
    """Tell the two makers' messages apart: by blocks and roles that only one of them has."""
    if "role" in value:
        return _message_votes(value)
    votes: list[tuple[str, int]] = []
    for name in ("request", "response"):
        if isinstance(value.get(name), dict):
            votes += _chat_votes(value[name])
    if "choices" in value or "instructions" in value or isinstance(value.get("output"), list):
        votes.append(("openai", 5))
    if "system" in value and "messages" in value:
        votes.append(("anthropic", 5))
    for name in ("messages", "input"):
        inner = value.get(name)
        if isinstance(inner, list):
            votes.append(("openai", 1))
            for message in inner[:MAX_LOOKED_AT]:
                votes += _chat_votes(message) if isinstance(message, dict) else []
        elif isinstance(inner, str) and "model" in value:
            votes.append(("openai", 2))
    return votes


def _message_votes(value: dict[str, Any]) -> list[tuple[str, int]]:
    kinds = set()
    content = value.get("content")
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict) and isinstance(block.get("type"), str):
            kinds.add(block["type"])
    if kinds & {"tool_use", "tool_result", "thinking", "redacted_thinking", "document"} or "stop_reason" in value:
        return [("anthropic", 5)]
    role = value["role"] if isinstance(value["role"], str) else ""
    if role in {"tool", "developer", "system", "function"} or "tool_calls" in value:
        return [("openai", 3)]
    openai = bool(kinds & {"input_text", "output_text", "image_url", "refusal"}) or value.get("type") == "message"
    return [("openai", 3 if openai else 1), ("anthropic", 1 if "image" not in kinds else 4)]
