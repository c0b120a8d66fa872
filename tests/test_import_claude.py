"""Transcripts of Claude Code: one message in several records, side chains, boundaries."""

import json
from typing import Any

from importing import (
    claude_answer,
    claude_line,
    claude_sample,
    claude_user,
    imported,
    jsonl,
    state_of,
    story,
    text,
    told,
    tool_result,
    tool_use,
)
from session_log import FsStore, Reasoning, ToolCall, ToolResult
from session_log.facts import read_facts


def plain_story(data: bytes) -> list[tuple[str, str]]:
    """Read the texts of a transcript without branches plainly, line by line."""
    found = []
    for line in data.splitlines():
        message = json.loads(line).get("message")
        if message is None:
            continue
        blocks = [text(message["content"])] if isinstance(message["content"], str) else message["content"]
        for block in blocks:
            if block["type"] == "text":
                found.append((message["role"], block["text"]))
            elif block["type"] == "tool_result":
                found.append(("result", block["content"]))
            elif block["type"] == "tool_use":
                found.append(("call", block["id"]))
    return found


def test_the_conversation_is_that_of_the_lines() -> None:
    """Without branches, what is restored is what the lines say, in their order."""
    lines = claude_sample().splitlines(keepends=True)
    data = b"".join(line for line in lines[:9])
    seen = [(one[0], one[2] if one[0] == "result" else one[1]) for one in told(data) if one[0] != "reasoning"]

    assert seen == plain_story(data)


def test_parallel_calls_and_their_results_are_no_branches() -> None:
    """A result hangs on the record of its call, not on the last one: it meets its call in the same segment."""
    store, report = imported(claude_sample())
    state = state_of(store, report, 0)

    assert [one[:2] for one in story(state.history)[2:6]] == [
        ("call", "t1"), ("call", "t2"), ("result", "t1"), ("result", "t2"),
    ]  # fmt: skip
    assert state.pending_tool_calls == ()
    assert not report.warnings


def test_a_call_that_came_after_a_result_is_no_branch_of_its_message() -> None:
    """The blocks of a message may be written while tools answer already."""
    data = jsonl(
        claude_user(1, None, "a"),
        claude_answer(2, 1, tool_use("t1"), "m1", 1),
        claude_user(3, 2, tool_result("t1", "one")),
        claude_answer(4, 2, tool_use("t2"), "m1", 2),
        claude_user(5, 4, tool_result("t2", "two")),
    )

    assert [one[:2] for one in told(data)[1:]] == [
        ("call", "t1"), ("result", "t1"), ("call", "t2"), ("result", "t2"),
    ]  # fmt: skip
    assert len(imported(data)[1].segments) == 1


def test_usage_repeated_for_each_block_is_one_call() -> None:
    """Of a message written in several records, the tokens count once, as they were known last."""
    store, report = imported(claude_sample())
    usage = state_of(store, report, 0).usage_history

    assert [(one.input_total_tokens, one.cache_read_tokens, one.cache_write_tokens) for one in usage] == [
        (15, 5, 7)
    ] * 3
    assert [one.output_tokens for one in usage] == [9, 4, 2]
    assert [one.history_len for one in usage] == [1, 6, 8]


def test_a_side_chain_is_a_segment_of_its_own_that_inherits_nothing() -> None:
    """What a sub-agent said stands in its own segment, and the conversation does not go on from there."""
    store, report = imported(claude_sample())

    assert story(state_of(store, report, 1).history) == [("user", "a task of its own"), ("assistant", "side")]
    last = jsonl(claude_user(1, None, "a"), claude_answer(2, 1, text("b"), "m1", 1),
                 claude_user(3, None, "task", isSidechain=True))  # fmt: skip
    assert told(last) == [("user", "a"), ("assistant", "b")]


def test_a_prompt_that_was_rewound_is_a_branch() -> None:
    """Two messages that go on from the same one: two segments, and the last one is where the conversation goes on."""
    data = b"".join(claude_sample().splitlines(keepends=True)[:15])

    assert [one[1] for one in told(data)[-2:]] == ["second try", "second answer"]


def test_a_compaction_begins_with_the_summary() -> None:
    """Behind a boundary, the history is the summary and what came after it."""
    store, report = imported(claude_sample())
    state = state_of(store, report)

    assert story(state.history) == [("user", "what was said"), ("user", "go on")]
    assert state.turn_count == 2
    assert len(state.usage_history) == 3  # of its own branch alone


def test_a_compaction_leaves_what_it_says_it_preserves() -> None:
    """The preserved records come behind the summary, and what goes on from the last of them goes on there."""
    boundary = claude_line(5, None, "system", subtype="compact_boundary",
                           compactMetadata={"preservedSegment": {"headUuid": "u3", "tailUuid": "u4"}})  # fmt: skip
    data = jsonl(
        claude_user(1, None, "a"),
        claude_answer(2, 1, text("b"), "m1", 1),
        claude_user(3, 2, "c"),
        claude_answer(4, 3, text("d"), "m2", 1),
        {**boundary, "logicalParentUuid": "u4"},
        claude_user(6, 5, "sum", isCompactSummary=True),
        claude_user(7, 4, "e"),
    )

    assert [one[1] for one in told(data)] == ["sum", "c", "d", "e"]


def test_a_file_whose_records_name_no_parents_is_one_conversation() -> None:
    """A beginning of its own is believed only where parents are named at all."""
    data = jsonl(*[claude_user(number, None, f"{number}") for number in range(1, 4)])

    assert [one[1] for one in told(data)] == ["1", "2", "3"]


def test_titles_places_and_models_are_facts(tmp_path: Any) -> None:
    """A title that the user gave counts more than one that was made up, whatever came last."""
    store, report = imported(claude_sample(), store=FsStore(tmp_path))
    facts = read_facts(store, report.session_id)

    assert (facts.title, facts.workspace, facts.model, facts.source) == ("Lists", "/w", "m-1", "claude")
    assert facts.external_key == "import:claude:claude-1"


def test_calls_and_results_without_ids_meet() -> None:
    """A call without an id gets one of its line, and a result without one is taken for the oldest open call's."""
    bare = {"type": "tool_use", "name": "ls", "input": {}}
    data = jsonl(
        claude_answer(1, None, bare, "m1", 1),
        claude_user(2, 1, [{"type": "tool_result", "content": [text("x"), text("y")]}]),
    )
    store, report = imported(data)

    assert [told.line for told in report.warnings] == [1, 2]
    assert state_of(store, report).history == (ToolCall("line-1-0", "ls", "{}"), ToolResult("line-1-0", "x\ny"))


def test_a_result_of_an_unknown_call_is_kept_and_said() -> None:
    """What answers no call is part of the history nevertheless, and the report says so; so is a call without result."""
    data = jsonl(
        claude_user(1, None, tool_result("lost", "x")),
        claude_answer(2, 1, tool_use("t9"), "m1", 1),
    )
    store, report = imported(data)

    assert [one[:2] for one in story(state_of(store, report).history)] == [("result", "lost"), ("call", "t9")]
    assert "'lost'" in report.warnings[0].reason and report.warnings[0].line == 1
    assert "'t9'" in report.warnings[1].reason


def test_images_and_hidden_reasoning_survive() -> None:
    """An image that a tool returned is an attachment, one of the user's stays in the extension, reasoning is kept."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    data = jsonl(
        claude_answer(1, None, {"type": "redacted_thinking", "data": "xyz"}, "m1", 1),
        claude_answer(2, 1, tool_use("t1"), "m1", 1),
        claude_user(3, 2, [{"type": "tool_result", "tool_use_id": "t1", "content": [text("see"), image]}]),
        claude_user(4, 3, [text("and this"), image]),
    )
    store, report = imported(data)
    state = state_of(store, report)

    assert state.history[0] == Reasoning("", encrypted_content="xyz")
    result = state.history[2]
    assert isinstance(result, ToolResult) and result.attachments[0].data == "AAAA"  # type: ignore[union-attr]
    assert state.extensions[-1].payload["rest"]["message"]["content"] == [{"at": 1, "block": image}]


def test_a_record_that_was_written_twice_is_said_once() -> None:
    """The same line again is no branch: it is kept, and reported."""
    line = claude_user(1, None, "a")
    answer = claude_answer(2, 1, text("b"), "m1", 1)
    store, report = imported(jsonl(line, answer, answer, line, claude_user(3, 2, "c")))

    assert [one[1] for one in story(state_of(store, report).history)] == ["a", "b", "c"]
    assert [told.line for told in report.problems] == [3, 4]
    assert len(report.segments) == 1


def test_agents_of_one_session_are_sources_of_their_own() -> None:
    """A sub-agent's file has the session's id: its own id tells it apart."""
    agent = claude_user(1, None, "task", isSidechain=True, agentId="x7")

    assert imported(jsonl(agent))[1].source_id == "claude-1/x7"
