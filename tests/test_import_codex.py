"""Rollouts of the Codex CLI: items and events, counts of tokens, rollbacks, compactions, older versions."""

import json
from typing import Any

import pytest

from importing import codex_line, codex_sample, codex_text, codex_tokens, imported, jsonl, state_of, story, told
from session_log import FsStore, Reasoning, RequestConfig, ToolResult
from session_log.facts import read_facts


def plain_story(data: bytes) -> list[tuple[str, str]]:
    """Read the messages of a rollout without rollbacks plainly."""
    found = []
    for line in map(json.loads, data.splitlines()):
        payload = line["payload"]
        if line["type"] == "response_item" and payload["type"] == "message":
            found.append((payload["role"], "".join(part["text"] for part in payload["content"])))
    return found


def test_the_conversation_is_that_of_the_items() -> None:
    """The items are the conversation, in their order; the events that repeat them add nothing."""
    data = b"".join(codex_sample().splitlines(keepends=True)[:14])
    seen = [one for one in told(data) if one[0] in {"user", "assistant"}]

    assert seen == plain_story(data)


def test_a_call_meets_its_result_and_reasoning_stays() -> None:
    """Calls, results and encrypted reasoning are items of the history."""
    store, report = imported(codex_sample())
    state = state_of(store, report, 0)

    assert state.history[2] == Reasoning("", ("hm",), "e")
    assert story(state.history)[3:5] == [("call", "c1", "sh", '{"a":1}'), ("result", "c1", "a.txt")]
    assert state.pending_tool_calls == ()


def test_instructions_are_the_prompt_and_effort_the_reasoning(tmp_path: Any) -> None:
    """What the header and the turns say of the request is there; where and with what it ran are facts."""
    store, report = imported(codex_sample(), store=FsStore(tmp_path))
    state = state_of(store, report)
    facts = read_facts(store, report.session_id)

    assert (state.system_prompt, state.config) == ("be good", RequestConfig(reasoning="high"))
    assert (facts.workspace, facts.model, report.source_id) == ("/w", "m-1", "codex-1")


def test_tokens_count_once_although_events_repeat_them() -> None:
    """An event whose total has not grown repeats the last call; the totals themselves count nothing."""
    store, report = imported(codex_sample())

    assert [one.input_total_tokens for one in state_of(store, report, 0).usage_history] == [10, 15]
    assert report.kept["event_msg token_count"] == 1


def test_totals_alone_are_told_apart() -> None:
    """Older events say the total alone: a call is what it has grown by."""
    events = [codex_tokens(4, 10, 0), codex_tokens(5, 25, 0)]
    for event in events:
        del event["payload"]["info"]["last_token_usage"]
    data = jsonl(codex_line(0, "session_meta", id="x"), codex_text(1, "user", "a"), *events)
    store, report = imported(data)

    assert [one.output_tokens for one in state_of(store, report).usage_history] == [10, 15]


def test_what_was_rolled_back_is_a_branch_left_behind() -> None:
    """After a rollback, the conversation goes on before the user's last inputs; what followed stays in its segment."""
    data = b"".join(codex_sample().splitlines(keepends=True)[:17])
    store, report = imported(data)

    assert [one[1] for one in story(state_of(store, report).history)[-3:]] == ["one file", "better", "a good answer"]
    assert [one[1] for one in story(state_of(store, report, 0).history)[-2:]] == ["a mistake", "a wrong answer"]
    assert state_of(store, report).turn_count == 2


def test_a_rollback_goes_back_through_branches() -> None:
    """Turns are counted along the branch, also where it inherits them; of more than there are, it says so."""
    again = codex_line(20, "event_msg", type="thread_rolled_back", num_turns=2)
    beyond = codex_line(21, "event_msg", type="thread_rolled_back", num_turns=9)
    base = b"".join(codex_sample().splitlines(keepends=True)[:17])
    store, report = imported(base + jsonl(again, codex_text(21, "user", "anew")))

    assert [one[1] for one in story(state_of(store, report).history)] == [
        "<environment_context>here</environment_context>", "anew",
    ]  # fmt: skip
    report = imported(base + jsonl(beyond, codex_text(22, "user", "anew")))[1]
    assert any("rolled back" in one.reason for one in report.warnings)


def test_a_compaction_replaces_the_history() -> None:
    """The compacted segment starts with the replacement; of an older record, with the user's words and the summary."""
    store, report = imported(codex_sample())
    assert [one[1] for one in story(state_of(store, report).history)] == ["better", "the summary", "go on"]

    old = jsonl(codex_line(0, "session_meta", id="x"), codex_text(1, "user", "a"), codex_text(2, "assistant", "b"),
                codex_line(3, "compacted", message="sum"), codex_text(4, "user", "c"))  # fmt: skip
    assert [one[1] for one in told(old)] == ["a", "sum", "c"]


def test_bare_items_of_the_first_versions_are_read() -> None:
    """Before there was an envelope, the header and the items stood on the lines themselves."""
    data = jsonl(
        {"id": "old-1", "timestamp": "2025-05-01T10:00:00.000Z", "instructions": None, "git": {"branch": "main"}},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call", "name": "sh", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": '{"output":"x"}'},
    )

    report = imported(data)[1]
    assert (report.format, report.source_id) == ("codex", "old-1")
    assert told(data) == [("user", "a"), ("call", "c", "sh", "{}"), ("result", "c", '{"output":"x"}')]


def test_events_are_the_conversation_where_there_are_no_items() -> None:
    """A rollout that holds events alone loses nothing of what was said."""
    data = jsonl(
        codex_line(0, "session_meta", id="x"),
        codex_line(1, "event_msg", type="user_message", message="a"),
        codex_line(2, "event_msg", type="agent_message", message="b"),
    )

    assert told(data) == [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(
    ("output", "content"),
    [
        ("x", "x"),
        ({"content": "x", "success": False}, "x"),
        ([{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}], "x\ny"),
        ({"type": "input_text", "text": "x"}, "x"),
        ({"any": [1]}, '{"any":[1]}'),
        (None, ""),
        (7, "7"),
    ],
)
def test_outputs_of_every_shape_are_results(output: Any, content: str) -> None:
    """A text, blocks, a block, an object: what a tool answered is told as text."""
    line = codex_line(1, "response_item", type="function_call_output", call_id="c", output=output)
    store, report = imported(jsonl(codex_line(0, "session_meta", id="x"), line))
    item = state_of(store, report).history[0]

    assert isinstance(item, ToolResult)
    assert item.summary == content
    assert item.is_error == (isinstance(output, dict) and output.get("success") is False)


def test_a_long_output_has_a_summary() -> None:
    """Of what is too long for a glance, the summary is the beginning, and the content all of it."""
    line = codex_line(1, "response_item", type="function_call_output", call_id="c", output="x" * 5000)
    store, report = imported(jsonl(codex_line(0, "session_meta", id="x"), line))
    item = state_of(store, report).history[0]

    assert isinstance(item, ToolResult)
    assert (len(item.summary), item.content) == (2000, "x" * 5000)
