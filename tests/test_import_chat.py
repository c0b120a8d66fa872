"""Messages of the two APIs, and trajectories of SWE-agent."""

import json
from typing import Any

import pytest

from importing import (
    anthropic_sample,
    imported,
    jsonl,
    openai_sample,
    state_of,
    story,
    text,
    told,
    tool_result,
    tool_use,
    trajectory_sample,
)
from session_log import Reasoning, RequestConfig, ToolCall
from session_log.importers import Unreadable


def test_a_request_of_the_chat_api_is_a_conversation() -> None:
    """Roles, texts, calls and results are those of the messages; the first system message is the prompt."""
    store, report = imported(openai_sample())
    state = state_of(store, report)
    plain = []
    for message in json.loads(openai_sample())["messages"][1:]:
        plain += [("call", call["id"]) for call in message.get("tool_calls", ())]
        if message["content"] is not None:
            content = message["content"]
            value = content if isinstance(content, str) else "".join(one["text"] for one in content)
            plain.append(("result" if message["role"] == "tool" else message["role"], value))

    seen = [(one[0], one[2] if one[0] == "result" else one[1]) for one in story(state.history)]
    assert seen == plain
    assert (state.system_prompt, state.config) == ("be brief", RequestConfig(temperature=0.5))


def test_a_request_of_the_messages_api_is_a_conversation() -> None:
    """System, reasoning with its signature, calls and results in messages of the user: all have their place."""
    store, report = imported(anthropic_sample())
    state = state_of(store, report)

    assert story(state.history) == [
        ("user", "what is 1+1?"), ("reasoning", "hm"), ("assistant", "so"), ("call", "t1", "ls", '{"p":"t1"}'),
        ("result", "t1", "2"), ("user", "well?"), ("assistant", "two"),
    ]  # fmt: skip
    assert state.history[1] == Reasoning("hm", signature="s")
    assert (state.system_prompt, state.config) == ("be brief", RequestConfig(max_tokens=100))


def test_a_response_adds_its_answer_and_its_tokens() -> None:
    """A response of either API is the answer it holds; what a request and its response say is one conversation."""
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    answer = {"id": "r", "choices": [{"message": {"role": "assistant", "content": "b"}}], "usage": usage}
    both = json.dumps({"request": {"messages": [{"role": "user", "content": "a"}]}, "response": answer}).encode()
    store, report = imported(both)
    state = state_of(store, report)

    assert story(state.history) == [("user", "a"), ("assistant", "b")]
    assert [(one.input_total_tokens, one.cache_read_tokens) for one in state.usage_history] == [(9, 3)]


def test_items_of_the_responses_api_are_read() -> None:
    """Input and output are one conversation, instructions the prompt."""
    data = json.dumps(
        {
            "instructions": "be brief",
            "input": "a",
            "output": [
                {"type": "reasoning", "summary": [], "encrypted_content": "e"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
            ],
        }
    ).encode()
    store, report = imported(data)

    assert report.format == "openai"
    assert told(data) == [("user", "a"), ("reasoning", ""), ("call", "c", "f", "{}"), ("assistant", "b")]
    assert state_of(store, report).system_prompt == "be brief"


def test_older_and_odd_calls_are_read() -> None:
    """A function_call from before there were tools, a custom call, a call without an id, a developer's message."""
    data = jsonl(
        {"role": "user", "content": "a"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "g", "input": "raw"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [text("2")]},
        {"role": "developer", "content": "mind"},
        {"role": "assistant", "content": None, "refusal": "no"},
    )
    store, report = imported(data, "openai")
    history = state_of(store, report).history

    assert [one[0] for one in story(history)] == ["user", "call", "result", "call", "result", "system", "assistant"]
    assert history[1] == ToolCall("line-2-0", "f", "{}")
    assert story(history)[2] == ("result", "line-2-0", "1")
    assert "no" in repr(history[-1])


def test_each_line_of_training_data_is_a_segment_of_its_own() -> None:
    """A file may hold many conversations: none of them goes on from another."""
    lines = [{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
             for n in range(3)]  # fmt: skip
    store, report = imported(jsonl(*lines))

    assert [[one[1] for one in story(state_of(store, report, at).history)] for at in range(3)] == [
        [f"q{n}", f"a{n}"] for n in range(3)
    ]


def test_a_trajectory_is_its_history_with_the_steps_beside_it() -> None:
    """The history is the conversation; the steps are kept, and the tokens of the run counted."""
    store, report = imported(trajectory_sample())
    state = state_of(store, report)
    step = json.loads(trajectory_sample())["trajectory"][0]

    assert story(state.history) == [
        ("user", "the issue"), ("assistant", "look"), ("call", "c1", "bash", '{"command":"ls"}'), ("result", "c1", "a"),
    ]  # fmt: skip
    assert state.system_prompt == "a setting"
    assert step in [record.payload.get("kept") for record in state.extensions]
    assert [(one.input_total_tokens, one.output_tokens) for one in state.usage_history] == [(20, 4)]


def test_the_lines_of_elements_are_named() -> None:
    """What is wrong in a document is reported with the line where the element begins."""
    data = b'{"messages": [\n {"role": "user", "content": "a, [b] {c}"},\n\n 7,\n {"role": "robot", "content": ""}\n]}'
    report = imported(data, "openai")[1]

    assert [(one.line, one.reason) for one in report.problems] == [
        (4, "a number, no object"), (5, "a message of the role 'robot'"),
    ]  # fmt: skip


def test_scalars_in_a_list_are_elements() -> None:
    """Whatever stands in a list of messages has a line: it is kept, and reported with it."""
    report = imported(b'\xef\xbb\xbf[{"role": "user", "content": "a"},\n1,\ntrue, null,\n"x"\n]', "openai")[1]

    assert [one.line for one in report.problems] == [2, 3, 3, 4]
    assert report.records == 5


@pytest.mark.parametrize("data", [b"[1, 2", b'{"messages": [\n{"role": "user"', b"\xff\xfe[", b"hello"])
def test_a_document_that_is_none_is_refused_with_its_line(data: bytes) -> None:
    """A torn or foreign document is a typed error, and nothing is written."""
    with pytest.raises(Unreadable) as caught:
        imported(data, "openai")

    assert caught.value.line >= 1


def test_makers_are_told_apart() -> None:
    """Blocks and roles that one of the two APIs has alone decide; a plain chat is either's."""
    plain: list[Any] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    assert imported(json.dumps(plain).encode())[1].format == "openai"
    blocks = [
        *plain,
        {"role": "assistant", "content": [tool_use("t")]},
        {"role": "user", "content": tool_result("t", "x")},
    ]
    assert imported(json.dumps(blocks).encode())[1].format == "anthropic"
    assert (
        imported(json.dumps([*plain, {"role": "tool", "tool_call_id": "x", "content": ""}]).encode())[1].format
        == "openai"
    )
