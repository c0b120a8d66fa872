"""The rarer records of each format, and what is asked for wrongly."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from importing import (
    PI_HEADER,
    PI_USAGE,
    claude_user,
    codex_line,
    imported,
    jsonl,
    pi_answer,
    pi_line,
    pi_sample,
    state_of,
    story,
    text,
    told,
)
from session_log import Attachment, CallerError, FsStore, Reasoning, RequestConfig, ToolResult
from session_log.facts import active_segment
from session_log.importers import UnknownFormat, detect_format


def test_a_call_on_a_line_of_its_own_is_a_call() -> None:
    """Some transcripts have no message around a call and its result."""
    base = {"sessionId": "s", "timestamp": 1764583205}
    data = jsonl(
        claude_user(1, None, "a"),
        {**base, "type": "tool_use", "uuid": "c", "name": "ls", "input": {}},
        {**base, "type": "tool_result", "uuid": "r", "name": "ls", "output": "x"},
        {**base, "type": "tool_use", "uuid": "d"},
    )
    report = imported(data)[1]

    assert told(data) == [("user", "a"), ("call", "c", "ls", "{}"), ("result", "c", "x")]
    assert [one.line for one in report.problems] == [4]


def test_a_summary_without_a_boundary_is_a_compaction_once_something_was_said() -> None:
    """Older versions drew no boundary; at the beginning of a file, the summary is simply its first message."""
    summary = claude_user(2, 1, "sum", isCompactSummary=True)

    assert told(jsonl(claude_user(1, None, "a"), summary, claude_user(3, 2, "b"))) == [("user", "sum"), ("user", "b")]
    assert len(imported(jsonl(summary, claude_user(3, 2, "b")))[1].segments) == 1


def test_what_goes_on_from_a_boundary_without_a_summary_begins_anew() -> None:
    """A boundary whose summary is missing still ends what came before."""
    boundary = {
        "type": "system",
        "subtype": "compact_boundary",
        "uuid": "u2",
        "logicalParentUuid": "u1",
        "sessionId": "s",
    }

    assert told(jsonl(claude_user(1, None, "a"), boundary, claude_user(3, 2, "b"))) == [("user", "b")]


def test_other_messages_of_pi_are_told_as_the_model_was_told() -> None:
    """Summaries of branches and messages of extensions are messages of the user; their tokens count."""
    summary = {"type": "branch_summary", "id": "p2", "parentId": "p1", "summary": "left", "usage": PI_USAGE}
    custom = {"type": "custom_message", "id": "p3", "parentId": "p2", "content": "note", "display": True}
    empty = {"type": "custom_message", "id": "p4", "parentId": "p3", "content": []}
    data = jsonl(
        PI_HEADER,
        pi_line(1, None, {"role": "system", "content": "mind"}),
        summary,
        custom,
        empty,
        pi_line(5, 3, {"role": "compactionSummary", "summary": "old"}),
        pi_line(6, 5, {"role": "hookMessage", "content": [text("hook")]}),
    )
    store, report = imported(data)
    state = state_of(store, report)

    assert story(state.history) == [
        ("system", "mind"), ("user", "left"), ("user", "note"), ("user", "old"), ("user", "hook"),
    ]  # fmt: skip
    assert len(state.usage_history) == 1
    assert [one.line for one in report.problems] == [5]


def test_the_conversation_goes_on_where_the_source_went_last(tmp_path: Path) -> None:
    """If that is not the newest segment, the pointer of the session says so, and moves with an update."""
    store = FsStore(tmp_path)
    back = pi_line(30, 7, {"role": "user", "content": "back again"})
    away = pi_line(31, 12, pi_answer(text("away again")))
    report = imported(pi_sample() + jsonl(back), store=store)[1]
    assert report.active_segment == report.segments[0] == active_segment(store, report.session_id)

    report = imported(pi_sample() + jsonl(back, away), store=store, on_existing="update")[1]
    assert report.active_segment == report.segments[-1] == active_segment(store, report.session_id)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}", "output": "x"}, ["call", "result"]),
        ({"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}", "error": {"code": 1}}, ["call", "result"]),
        ({"type": "local_shell_call", "call_id": "l", "action": {"command": ["ls"]}}, ["call"]),
        ({"type": "web_search_call", "id": "w", "status": "completed"}, []),
        ({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]}, ["reasoning"]),
        ({"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ["assistant"]),
        ({"type": "message", "role": "developer", "content": "mind"}, ["system"]),
        ({"type": "message", "role": "robot", "content": "x"}, []),
    ],
)
def test_items_of_every_kind_have_their_place(item: dict[str, Any], expected: list[str]) -> None:
    """Calls that the provider made itself bring their result; what is no part of the history we know is kept."""
    data = jsonl(codex_line(0, "session_meta", id="x"), codex_line(1, "response_item", **item))
    store, report = imported(data)

    assert [one[0] for one in story(state_of(store, report).history)] == expected
    assert sum(report.kept.values()) == (not expected)


def test_images_in_results_are_attachments_however_they_are_spelled() -> None:
    """A data URL, as text or as an object, is an image in base64; another URL stays beside the result."""
    url = "data:image/png;base64,AAAA"
    blocks = [{"type": "input_image", "image_url": url}, {"type": "image_url", "image_url": {"url": url}},
              {"type": "input_image", "image_url": "https://x.invalid/a.png"}]  # fmt: skip
    item = {"type": "message", "role": "tool", "tool_call_id": "c", "content": blocks}
    store, report = imported(json.dumps([{"role": "user", "content": "a"}, item]).encode(), "openai")
    result = state_of(store, report).history[1]

    assert isinstance(result, ToolResult)
    assert result.attachments == (Attachment("image/png", "AAAA"),) * 2
    assert "x.invalid" in repr(state_of(store, report).extensions[-1].payload)


def test_reasoning_of_other_makers_is_reasoning() -> None:
    """Blocks of thought beside a message of a trajectory, and the field that some servers add, come before the text."""
    block = {"type": "thinking", "thinking": "hm", "signature": "s"}
    history = [{"role": "assistant", "content": "a", "thinking_blocks": [block, {"type": "other"}]}]
    data = json.dumps({"history": history, "trajectory": [], "info": {}}).encode()
    assert state_of(*imported(data)).history[0] == Reasoning("hm", signature="s")

    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "hm"}]
    assert told(json.dumps(chat).encode())[1:] == [("reasoning", "hm"), ("assistant", "a")]


def test_parameters_of_requests_are_those_of_the_session() -> None:
    """Limits, temperature, stops and thinking of either API are the request's; what is no number is not."""
    chat = {
        "messages": [],
        "max_completion_tokens": 9,
        "top_p": 0.5,
        "stop": "x",
        "reasoning_effort": "low",
        "top_k": "no",
    }
    claude = {"messages": [{"role": "user", "content": "a"}], "system": "s", "stop_sequences": ["x", 7],
              "thinking": {"type": "enabled", "budget_tokens": 100}, "temperature": True}  # fmt: skip

    assert state_of(*imported(json.dumps(chat).encode(), "openai")).config == RequestConfig(
        max_tokens=9, top_p=0.5, stop_sequences=("x",), reasoning="low"
    )
    state = state_of(*imported(json.dumps(claude).encode(), "anthropic"))
    assert state.config == RequestConfig(stop_sequences=("x",), reasoning=100)
    assert state.system_prompt == "s"


def test_a_list_of_conversations_is_a_segment_each() -> None:
    """A document may hold several conversations: each begins anew."""
    one = {"messages": [{"role": "user", "content": "a"}]}
    data = json.dumps([one, one], indent=1).encode()
    store, report = imported(data, "openai")

    assert len(report.segments) == 2
    assert [len(state_of(store, report, at).history) for at in range(2)] == [1, 1]


def test_a_response_of_the_messages_api_counts_its_tokens() -> None:
    """A single message is a conversation of one, and its usage that of one call."""
    usage = {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 2}}
    data = json.dumps({"type": "message", "id": "m", "role": "assistant", "model": "m-1", "stop_reason": "end_turn",
                       "content": [text("a")], "usage": usage}).encode()  # fmt: skip
    state = state_of(*imported(data))

    assert [(one.input_total_tokens, one.output_tokens, one.reasoning_tokens) for one in state.usage_history] == [
        (3, 4, 2)
    ]


def test_what_is_asked_for_wrongly_is_said(tmp_path: Path) -> None:
    """A format or a mode that there is not, and a source that is like none, are errors of the caller."""
    source = tmp_path / "a.json"
    source.write_bytes(b'{"a": 1}')
    with pytest.raises(CallerError, match="is none of auto"):
        imported(pi_sample(), "csv")
    with pytest.raises(CallerError, match="is none of refuse"):
        imported(pi_sample(), on_existing="maybe")
    with pytest.raises(UnknownFormat):
        detect_format(source)
    assert detect_format(io.BytesIO(pi_sample())) == "pi"


def test_progress_is_told() -> None:
    """Whoever waits sees how many records are done, and at the end that all are."""
    seen: list[tuple[int, int]] = []
    records = [PI_HEADER, *[pi_line(0, None, {"role": "user", "content": "a"}) | {"id": f"x{n}"} for n in range(1200)]]
    imported(jsonl(*records), progress=lambda done, total: seen.append((done, total)))

    assert seen == [(500, 1201), (1000, 1201), (1201, 1201)]
