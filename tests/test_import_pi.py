"""Sessions of pi: trees, compactions, versions without ids."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from importing import (
    PI_HEADER,
    PI_USAGE,
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
from session_log import (
    LlmUsage,
    MemoryStore,
    Reasoning,
    RequestConfig,
    SegmentStartState,
    create_compacted_segment,
    read_entries,
    restore,
)

V1: dict[str, Any] = {"type": "session", "id": "old", "timestamp": "2025-12-01T10:00:00.000Z", "cwd": "/w"}


def old_message(role: str, value: str) -> dict[str, Any]:
    """Return a message of version 1, which has no id."""
    return {"type": "message", "timestamp": "2025-12-01T10:00:01.000Z", "message": {"role": role, "content": value}}


def path_story(data: bytes) -> list[tuple[str, str]]:
    """Read the texts of the last record's path plainly: from record to parent, no compaction."""
    records = {one["id"]: one for one in map(json.loads, data.splitlines()) if one["type"] != "session"}
    at = list(records)[-1]
    found: list[tuple[str, str]] = []
    while at is not None:
        message = records[at].get("message")
        if message is not None and message["role"] in {"user", "assistant"}:
            content = message["content"]
            blocks = [text(content)] if isinstance(content, str) else content
            found.append((message["role"], "".join(one["text"] for one in blocks if one["type"] == "text")))
        at = records[at]["parentId"]
    return found[::-1]


def test_the_conversation_is_that_of_the_last_record_s_path() -> None:
    """What is restored tells the same texts, of the same roles, in the same order as the source's own path."""
    data = b"".join(pi_sample().splitlines(keepends=True)[:11])  # before the compaction
    texts = [one[:2] for one in told(data) if one[0] in {"user", "assistant"}]

    assert texts == path_story(data)


def test_each_branch_is_a_segment_forked_by_reference() -> None:
    """A record that goes on from further up begins a segment, which inherits what was before it and copies nothing."""
    store, report = imported(pi_sample())
    first, second = (story(state_of(store, report, at).history) for at in (0, 1))

    assert first[:5] == second[:5]
    assert first[5:] == [("assistant", "it says one"), ("user", "and now?"), ("assistant", "nothing")]
    assert second[6:] == [("user", "another way"), ("assistant", "this way")]
    assert read_entries(store, report.session_id, report.segments[1])[0].forked_from.entries  # type: ignore[union-attr]


def test_a_branch_begins_behind_the_end_of_the_turn_it_goes_on_from() -> None:
    """The turns before a branch are whole in it: it counts them, and none of them is open."""
    store, report = imported(pi_sample())

    assert [state_of(store, report, at).turn_count for at in (0, 1)] == [2, 2]
    assert not state_of(store, report, 1).last_run_interrupted


def test_a_compaction_keeps_the_summary_and_what_comes_from_the_record_it_names() -> None:
    """The history of a compacted segment is the summary, then the records from the first kept one on; turns go on."""
    store, report = imported(pi_sample())
    state = state_of(store, report)

    assert story(state.history) == [
        ("user", "sum"), ("user", "another way"), ("assistant", "this way"), ("user", "go on"),
    ]  # fmt: skip
    assert state.turn_count == 2
    assert state.usage_before_compaction == 3
    assert len(state.user_segments) == 3


def test_a_compaction_is_what_the_verb_would_have_made() -> None:
    """Of usage, typed inputs, turns and interruption, it carries what create_compacted_segment carries."""
    store, report = imported(pi_sample().rpartition(b'{"type": "message", "id": "p12"')[0])
    made = state_of(store, report)
    source = state_of(store, report, 1)
    verb = create_compacted_segment(
        store, SegmentStartState(history=made.history), report.session_id, report.segments[1], source.turn_count
    )
    other = restore(store, report.session_id, verb)

    for name in ("turn_count", "usage_history", "usage_before_compaction", "user_segments", "last_run_interrupted"):
        assert getattr(made, name) == getattr(other, name)


def test_an_old_compaction_counts_records_the_header_being_number_zero() -> None:
    """In version 1, the first kept record is named by its number."""
    data = jsonl(
        V1,
        old_message("user", "one"),
        old_message("assistant", "two"),
        old_message("user", "three"),
        {"type": "compaction", "timestamp": "2025-12-01T10:00:02Z", "summary": "sum", "firstKeptEntryIndex": 2},
        old_message("assistant", "four"),
    )

    assert [one[1] for one in told(data)] == ["sum", "two", "three", "four"]


def test_what_an_older_compaction_dropped_is_kept_if_a_later_one_names_it() -> None:
    """Pi goes by the path alone: a second compaction may keep records from before the first."""
    data = jsonl(
        V1,
        old_message("user", "one"),
        old_message("assistant", "two"),
        {"type": "compaction", "summary": "first", "firstKeptEntryIndex": 2},
        old_message("user", "three"),
        {"type": "compaction", "summary": "second", "firstKeptEntryIndex": 2},
        old_message("assistant", "four"),
    )

    assert [one[1] for one in told(data)] == ["second", "two", "three", "four"]


def test_tokens_are_counted_once_each_and_all_of_the_prompt() -> None:
    """Pi's input leaves out what was cached; a call that was aborted before it began has no tokens."""
    nothing = dict.fromkeys(PI_USAGE, 0)
    aborted = pi_answer(usage=nothing, stopReason="aborted", errorMessage="stopped")
    data = jsonl(
        PI_HEADER,
        pi_line(1, None, {"role": "user", "content": "a"}),
        pi_line(2, 1, pi_answer(text("b"))),
        pi_line(3, 2, aborted),
    )
    store, report = imported(data)
    usage = [one for one in read_entries(store, report.session_id, report.segments[0]) if isinstance(one, LlmUsage)]

    assert [(one.input_total_tokens, one.cache_read_tokens, one.cache_write_tokens) for one in usage] == [(29, 11, 13)]
    assert usage[0].model == "m-1"
    assert state_of(store, report).last_run_interrupted


def test_signatures_and_levels_survive() -> None:
    """The signature of reasoning stays with it, and the level of thinking is the reasoning of the request."""
    store, report = imported(pi_sample())
    state = state_of(store, report, 0)

    assert Reasoning("hm", signature="s") in state.history
    assert state.config == RequestConfig(reasoning="high")
    assert state_of(store, report, 1).config == RequestConfig()  # the branch begins before the change


def test_what_the_user_ran_is_told_as_the_model_was_told_unless_it_was_excluded() -> None:
    """A command of the user's own is a message; one that the model was not told of is kept beside the conversation."""
    ran = {"role": "bashExecution", "command": "ls", "output": "a\n", "exitCode": 0}
    data = jsonl(PI_HEADER, pi_line(1, None, ran), pi_line(2, 1, {**ran, "excludeFromContext": True}))
    store, report = imported(data)

    assert story(state_of(store, report).history) == [("user", "Ran `ls`\n```\na\n\n```")]
    assert report.kept == {"bashExecution (empty)": 1}


def test_everything_a_record_says_is_there() -> None:
    """What items, usage and times do not say of a record stands in the extension beside it."""
    message = pi_answer(text("b"), cost={"total": 0.5})
    store, report = imported(jsonl(PI_HEADER, pi_line(1, None, message, label="x")))
    payloads = [record.payload for record in state_of(store, report).extensions if record.domain == "import.pi"]

    assert payloads[-1]["id"] == "p1"
    assert payloads[-1]["rest"]["label"] == "x"
    assert payloads[-1]["rest"]["message"]["cost"] == {"total": 0.5}
    assert payloads[-1]["rest"]["message"]["usage"] == PI_USAGE


def test_times_are_the_source_s_and_never_go_back() -> None:
    """A record that is older than the one before it gets that one's time; its own is kept."""
    first, second = pi_line(5, None, {"role": "user", "content": "a"}), pi_line(2, 5, pi_answer(text("b")))
    store, report = imported(jsonl(PI_HEADER, first, second))
    entries = read_entries(store, report.session_id, report.segments[0])
    times = [entry.ts for entry in entries]  # type: ignore[union-attr]

    assert times == sorted(times)
    assert times[0] == 1764583205000
    rest = [record.payload for record in state_of(store, report).extensions if record.payload.get("id") == "p2"]
    assert rest[0]["ts"] == 1764583202000


@pytest.mark.parametrize(
    "break_it",
    [
        lambda message: message.update(role="robot"),
        lambda message: message.update(content=7),
        lambda message: message.pop("content"),
        lambda message: message.update(role=["user"]),
    ],
)
def test_a_message_of_another_shape_is_kept_and_reported(break_it: Callable[[dict[str, Any]], Any]) -> None:
    """A drifted record stays verbatim in an extension, and the report names its line."""
    message: dict[str, Any] = {"role": "user", "content": "a"}
    break_it(message)
    line = pi_line(1, None, message)
    store, report = imported(jsonl(PI_HEADER, line))
    payload = state_of(store, report).extensions[-1].payload

    assert payload["kept"] == line
    assert [told.line for told in report.problems] == [2]


def test_forks_deeper_than_a_restore_goes_are_copied() -> None:
    """A source may branch more often than references may follow each other: then the history is written out."""
    records = [PI_HEADER, pi_line(0, None, {"role": "user", "content": "0"})]
    for number in range(1, 300, 2):
        records += [
            {**pi_line(0, 0, pi_answer(text(f"left {number}"))), "id": f"p{number}", "parentId": f"p{number - 1}"},
            {**pi_line(0, 0, pi_answer(text(f"right {number}"))), "id": f"p{number + 1}", "parentId": f"p{number - 1}"},
        ]
    store, report = imported(jsonl(*records), store=MemoryStore())
    texts = [one[1] for one in story(state_of(store, report).history)]

    assert texts == ["0", *(f"right {number}" for number in range(1, 300, 2))]
