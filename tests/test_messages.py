"""Messages: what a provider's API takes, whatever history there is."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from item_strategies import items
from session_log.messages import anthropic_messages, arguments_of, openai_messages

CALL, RESULT = sl.ToolCall("c1", "shell", '{"command":"ls"}'), sl.ToolResult("c1", "2 files", "a\nb")
HISTORY: tuple[sl.Item, ...] = (
    sl.Message.user("What is here?"),
    sl.Reasoning("I look.", signature="sig"),
    sl.Message.assistant("Let me see."),
    CALL,
    RESULT,
    sl.Message.assistant("Two."),
)


def test_a_chat_completion_has_calls_in_the_message_that_made_them() -> None:
    found = openai_messages(HISTORY, "Be brief.")

    call = {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": '{"command":"ls"}'}}
    assert found.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is here?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a\nb"},
        {"role": "assistant", "content": "Two."},
    ]
    assert found.left_out == {"reasoning": 1}


def test_messages_have_blocks_and_roles_that_take_turns() -> None:
    found = anthropic_messages(HISTORY, "Be brief.")

    assert found.system == "Be brief."
    assert found.messages == [
        {"role": "user", "content": [{"type": "text", "text": "What is here?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I look.", "signature": "sig"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c1", "name": "shell", "input": {"command": "ls"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "a\nb"}]},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Two."}]},
    ]
    assert found.left_out == {}


def test_images_and_errors_of_tools_go_along() -> None:
    picture = sl.ToolResult("c1", "a picture", is_error=True, attachments=(sl.Attachment("image/png", "aGk="),))

    block = anthropic_messages([CALL, picture]).messages[1]["content"][0]

    assert block["is_error"] is True
    assert block["content"][1] == {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
    }
    assert openai_messages([CALL, picture]).left_out == {"attachment": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [("", {}), ("{}", {}), ('{"a":1}', {"a": 1}), ("[1]", {"arguments": [1]}), ("{bad", {"arguments": "{bad"})],
)
def test_arguments_are_an_object(text: str, value: dict[str, Any]) -> None:
    assert arguments_of(text) == value


@given(st.lists(items(), max_size=12))
def test_every_call_is_answered_before_anybody_else_speaks(history: list[sl.Item]) -> None:
    """What both providers refuse: a call without a result behind it, a result of no call, one role twice."""
    open_calls: list[str] = []
    for message in openai_messages(history).messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
        elif "tool_calls" not in message:
            assert open_calls == []
        open_calls += [call["id"] for call in message.get("tool_calls", ())]
    assert open_calls == []

    used: list[str] = []
    messages = anthropic_messages(history).messages
    for message in messages:
        for block in message["content"]:
            if block["type"] == "tool_use":
                used.append(block["id"])
            elif block["type"] == "tool_result":
                used.remove(block["tool_use_id"])
    assert used == []
    assert all(left["role"] != right["role"] for left, right in itertools.pairwise(messages))
    assert json.loads(json.dumps(messages)) == messages


@given(st.lists(items(), max_size=12))
def test_all_that_was_said_is_there_in_order(history: list[sl.Item]) -> None:
    """Texts and refusals of messages: none lost, none twice."""
    said = [
        part.text if isinstance(part, sl.Text) else part.refusal
        for item in history
        if isinstance(item, sl.Message)
        for part in item.content
        if isinstance(part, (sl.Text, sl.Refusal))
    ]

    blocks = [block for message in anthropic_messages(history).messages for block in message["content"]]
    contents = [found["content"] for found in openai_messages(history).messages if found["role"] != "tool"]

    assert "".join(block["text"] for block in blocks if block["type"] == "text") == "".join(said)
    assert "".join(_text(content) for content in contents) == "".join(said)


def _text(content: Any) -> str:
    """The text of a message's content: a text, parts, or nothing."""
    if isinstance(content, list):
        return "".join(part.get("text", part.get("refusal")) for part in content)
    return content or ""
