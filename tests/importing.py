"""Sources for the importers, made here in the shapes of the tools, and plain ways to look at what they became."""

import io
import json
from typing import Any

from session_log import (
    Item,
    MemoryStore,
    Message,
    Reasoning,
    RestoredState,
    Store,
    ToolCall,
    ToolResult,
    restore,
)
from session_log.importers import ImportReport, import_file

Story = list[tuple[str, ...]]


def jsonl(*records: Any) -> bytes:
    """Return JSON lines; a text is a line as it is."""
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in records)


def imported(data: bytes, fmt: str = "auto", store: Store | None = None, **more: Any) -> tuple[Store, ImportReport]:
    """Import a source into a store and return both."""
    store = MemoryStore() if store is None else store
    return store, import_file(store, io.BytesIO(data), format=fmt, **more)


def state_of(store: Store, report: ImportReport, segment: int | None = None) -> RestoredState:
    """Restore the segment where the conversation goes on, or the one of that number."""
    return restore(store, report.session_id, report.active_segment if segment is None else report.segments[segment])


def story(items: tuple[Item, ...]) -> Story:
    """Return items as role or kind, and texts, in order."""
    found: Story = []
    for item in items:
        if isinstance(item, Message):
            found.append((item.role, item.text))
        elif isinstance(item, ToolCall):
            found.append(("call", item.call_id, item.name, item.arguments))
        elif isinstance(item, ToolResult):
            found.append(("result", item.call_id, item.content if item.content is not None else item.summary))
        elif isinstance(item, Reasoning):
            found.append(("reasoning", item.text))
    return found


def told(data: bytes, fmt: str = "auto") -> Story:
    """Import a source and return the story that its conversation tells."""
    store, report = imported(data, fmt)
    return story(state_of(store, report).history)


def accounted(report: ImportReport) -> int:
    """Return how many records the account of an import names."""
    return sum(report.taken.values()) + sum(report.kept.values()) + len(report.dropped)


# ── sources ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pi_line(number: int, parent: int | None, message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a message of pi, version 3; the ids are made of the numbers."""
    return {
        "type": "message",
        "id": f"p{number}",
        "parentId": None if parent is None else f"p{parent}",
        "timestamp": f"2025-12-01T10:00:{number:02d}.000Z",
        "message": message,
        **more,
    }


PI_HEADER: dict[str, Any] = {"type": "session", "version": 3, "id": "pi-1", "timestamp": "2025-12-01T10:00:00.000Z"}
PI_USAGE: dict[str, Any] = {"input": 5, "output": 7, "cacheRead": 11, "cacheWrite": 13, "totalTokens": 36}


def pi_answer(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a message of pi's assistant."""
    return {
        "role": "assistant",
        "content": list(blocks),
        "model": "m-1",
        "usage": PI_USAGE,
        "stopReason": "stop",
        **more,
    }


def text(value: str) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": value}


def pi_sample() -> bytes:
    """Return a session of pi with a call, a branch, a compaction, and records that are no conversation."""
    call = {"type": "toolCall", "id": "c1", "name": "read", "arguments": {"path": "a"}}
    return jsonl(
        {**PI_HEADER, "cwd": "/w"},
        pi_line(1, None, {"role": "user", "content": "read it"}),
        pi_line(2, 1, pi_answer({"type": "thinking", "thinking": "hm", "thinkingSignature": "s"}, text("ok"), call)),
        pi_line(3, 2, {"role": "toolResult", "toolCallId": "c1", "content": [text("one")], "isError": False}),
        pi_line(4, 3, pi_answer(text("it says one"))),
        {"type": "thinking_level_change", "id": "p5", "parentId": "p4", "thinkingLevel": "high"},
        pi_line(6, 5, {"role": "user", "content": [text("and now?")]}),
        pi_line(7, 6, pi_answer(text("nothing"))),
        pi_line(8, 4, {"role": "user", "content": "another way"}),
        {"type": "custom", "id": "p9", "parentId": "p8", "customType": "x", "data": {"k": [1, None]}},
        pi_line(10, 9, pi_answer(text("this way"))),
        {"type": "compaction", "id": "p11", "parentId": "p10", "summary": "sum", "firstKeptEntryId": "p8"},
        pi_line(12, 11, {"role": "user", "content": "go on"}),
        {"type": "session_info", "id": "p13", "parentId": "p12", "name": "A title"},
    )


def claude_line(number: int, parent: int | None, kind: str, **more: Any) -> dict[str, Any]:
    """Return a record of a transcript; the ids are made of the numbers."""
    return {
        "parentUuid": None if parent is None else f"u{parent}",
        "isSidechain": False,
        "sessionId": "claude-1",
        "version": "2.1.0",
        "cwd": "/w",
        "type": kind,
        "uuid": f"u{number}",
        "timestamp": f"2025-12-01T10:00:{number:02d}.000Z",
        **more,
    }


def claude_user(number: int, parent: int | None, content: Any, **more: Any) -> dict[str, Any]:
    """Return a message of the user."""
    return claude_line(number, parent, "user", message={"role": "user", "content": content}, **more)


def claude_answer(number: int, parent: int | None, block: dict[str, Any], name: str, out: int, **more: Any) -> Any:
    """Return one block of a message of the model, with its usage as known by then."""
    usage = {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": out}
    message = {"id": name, "type": "message", "role": "assistant", "model": "m-1", "content": [block], "usage": usage}
    return claude_line(number, parent, "assistant", message=message, **more)


def tool_use(call_id: str) -> dict[str, Any]:
    """Return a call, as a block."""
    return {"type": "tool_use", "id": call_id, "name": "ls", "input": {"p": call_id}}


def tool_result(call_id: str, value: str) -> list[dict[str, Any]]:
    """Return the content of a message that answers a call."""
    return [{"type": "tool_result", "tool_use_id": call_id, "content": value}]


def claude_sample() -> bytes:
    """Return a transcript with parallel calls, a side chain, a rewound prompt, a compaction, and other records."""
    return jsonl(
        {"type": "permission-mode", "permissionMode": "default", "sessionId": "claude-1"},
        claude_user(1, None, "list both"),
        claude_answer(2, 1, {"type": "thinking", "thinking": "hm", "signature": "s"}, "m1", 1),
        claude_answer(3, 2, tool_use("t1"), "m1", 2),
        claude_answer(4, 3, tool_use("t2"), "m1", 9),
        claude_user(5, 3, tool_result("t1", "one"), sourceToolAssistantUUID="u3"),
        claude_user(6, 4, tool_result("t2", "two"), sourceToolAssistantUUID="u4"),
        claude_line(7, 6, "attachment", attachment={"type": "todo", "content": []}),
        claude_answer(8, 7, text("both listed"), "m2", 4),
        claude_user(9, None, "a task of its own", isSidechain=True),
        claude_answer(10, 9, text("side"), "m3", 2, isSidechain=True),
        claude_user(11, 8, "first try"),
        claude_answer(12, 11, text("first answer"), "m4", 2),
        claude_user(13, 8, "second try"),
        claude_answer(14, 13, text("second answer"), "m5", 2),
        {"type": "custom-title", "customTitle": "Lists", "sessionId": "claude-1"},
        {
            **claude_line(15, None, "system", subtype="compact_boundary", content="compacted"),
            "logicalParentUuid": "u14",
        },
        claude_user(16, 15, "what was said", isCompactSummary=True),
        claude_user(17, 16, "go on"),
        {"type": "summary", "summary": "Earlier", "leafUuid": "u14"},
    )


def codex_line(number: int, kind: str, **payload: Any) -> dict[str, Any]:
    """Return a line of a rollout."""
    return {"timestamp": f"2025-12-01T10:00:{number:02d}.000Z", "type": kind, "payload": payload}


def codex_text(number: int, role: str, value: str) -> dict[str, Any]:
    """Return a message."""
    kind = "output_text" if role == "assistant" else "input_text"
    return codex_line(number, "response_item", type="message", role=role, content=[{"type": kind, "text": value}])


def codex_tokens(number: int, total: int, last: int) -> dict[str, Any]:
    """Return the count of tokens after a call."""
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
    info = {
        "total_token_usage": dict.fromkeys(names, total),
        "last_token_usage": dict.fromkeys(names, last),
    }
    return codex_line(number, "event_msg", type="token_count", info=info)


def codex_sample() -> bytes:
    """Return a rollout with context, calls, counts of tokens, a rollback, and a compaction."""
    return jsonl(
        codex_line(0, "session_meta", id="codex-1", cwd="/w", cli_version="1", instructions="be good"),
        codex_line(0, "turn_context", model="m-1", effort="high", cwd="/w"),
        codex_text(1, "user", "<environment_context>here</environment_context>"),
        codex_text(2, "user", "list"),
        codex_line(2, "event_msg", type="user_message", message="list"),
        codex_line(3, "response_item", type="reasoning", summary=[{"type": "summary_text", "text": "hm"}],
                   encrypted_content="e"),
        codex_line(3, "response_item", type="function_call", name="sh", arguments='{"a":1}', call_id="c1"),
        codex_tokens(4, 10, 10),
        codex_tokens(4, 10, 10),
        codex_line(5, "response_item", type="function_call_output", call_id="c1", output="a.txt"),
        codex_text(6, "assistant", "one file"),
        codex_tokens(7, 25, 15),
        codex_text(8, "user", "a mistake"),
        codex_text(9, "assistant", "a wrong answer"),
        codex_line(10, "event_msg", type="thread_rolled_back", num_turns=1),
        codex_text(11, "user", "better"),
        codex_text(12, "assistant", "a good answer"),
        codex_line(13, "compacted", message="", replacement_history=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "better"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "the summary"}]},
        ]),
        codex_text(14, "user", "go on"),
    )  # fmt: skip


def openai_sample() -> bytes:
    """Return a request of the chat API."""
    call = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": '{"a":1}'}}
    return json.dumps(
        {
            "model": "m-1",
            "temperature": 0.5,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [text("what is "), text("1+1?")]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "2"},
                {"role": "assistant", "content": "two"},
            ],
        },
        indent=1,
    ).encode()


def anthropic_sample() -> bytes:
    """Return a request of the messages API."""
    return json.dumps(
        {
            "model": "m-1",
            "max_tokens": 100,
            "system": [text("be brief")],
            "messages": [
                {"role": "user", "content": "what is 1+1?"},
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, text("so"), tool_use("t1")],
                },
                {"role": "user", "content": [*tool_result("t1", "2"), text("well?")]},
                {"role": "assistant", "content": "two"},
            ],
        }
    ).encode()


def trajectory_sample() -> bytes:
    """Return a trajectory of SWE-agent."""
    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command":"ls"}'}}
    return json.dumps(
        {
            "environment": "main",
            "trajectory": [{"action": "ls", "observation": "a", "response": "look", "thought": "look", "state": {}}],
            "history": [
                {"role": "system", "content": "a setting", "agent": "main", "message_type": "system_prompt"},
                {"role": "user", "content": "the issue", "agent": "main", "message_type": "observation"},
                {"role": "assistant", "content": "look", "thought": "look", "action": "ls", "tool_calls": [call]},
                {"role": "tool", "content": "a", "tool_call_ids": ["c1"]},
            ],
            "info": {"exit_status": "submitted", "model_stats": {"tokens_sent": 20, "tokens_received": 4}},
        }
    ).encode()


SAMPLES = {
    "pi": pi_sample,
    "claude": claude_sample,
    "codex": codex_sample,
    "openai": openai_sample,
    "anthropic": anthropic_sample,
    "swe-agent": trajectory_sample,
}
