"""Recordings of real sessions, where there are some: SESSION_LOG_REAL names their folder. None of them is kept here."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from importing import accounted, state_of, story
from session_log import FsStore, restore
from session_log.importers import Unreadable, detect_format, import_file

ROOT = os.environ.get("SESSION_LOG_REAL")
FILES = sorted(path for path in Path(ROOT).rglob("*") if path.suffix in {".jsonl", ".json", ".traj"}) if ROOT else []
pytestmark = pytest.mark.skipif(not FILES, reason="SESSION_LOG_REAL names no folder with recordings")


@pytest.fixture(params=FILES, ids=str)
def source(request: pytest.FixtureRequest) -> Path:
    """Return each recording."""
    path: Path = request.param
    return path


def test_every_line_of_it_is_accounted_for(source: Path, tmp_path: Path) -> None:
    """Every line is taken, kept or dropped with a reason, and every segment can be restored."""
    store = FsStore(tmp_path)
    try:
        report = import_file(store, source)
    except Unreadable as exc:
        pytest.fail(str(exc))
    data = source.read_bytes()
    lines = data.count(b"\n") + (not data.endswith(b"\n"))

    assert report.records == accounted(report)
    assert report.format not in {"pi", "codex", "claude", "session-log"} or report.records == lines
    assert all(told.reason in {"blank", "torn"} for told in report.dropped)
    for segment_id in report.segments:
        restore(store, report.session_id, segment_id)


def texts_of(content: Any) -> str:
    """Return the text of content, read plainly."""
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block.get("type") == "text")


def plain_pi(records: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Read a session of pi without ids plainly: what the model is told at its end."""
    start = 0
    found: list[tuple[str, ...]] = []
    cuts = [at for at, one in enumerate(records) if one["type"] == "compaction"]
    if cuts:
        found.append(("user", records[cuts[-1]]["summary"]))
        start = records[cuts[-1]]["firstKeptEntryIndex"]
    for one in records[start:]:
        message = one.get("message", {})
        role = message.get("role")
        if role == "bashExecution":
            found.append(("user", "Ran `{command}`\n```\n{output}\n```".format(**message)))
        elif role == "toolResult":
            found.append(("result", message["toolCallId"], texts_of(message["content"])))
        elif role == "user":
            found.append(("user", texts_of(message["content"])))
        elif role == "assistant":
            for block in message["content"]:
                if block["type"] == "text":
                    found.append(("assistant", block["text"]))
                elif block["type"] == "thinking":
                    found.append(("reasoning", block["thinking"]))
                else:
                    found.append(("call", block["id"], block["name"]))
    return found


def test_a_session_of_pi_tells_the_same_conversation(source: Path, tmp_path: Path) -> None:
    """Texts, roles, call ids and order are those of an independent reading of the lines."""
    if detect_format(source) != "pi":
        pytest.skip("no session of pi")
    records = [json.loads(line) for line in source.read_text().splitlines()]
    if any("parentId" in one for one in records):
        pytest.skip("a session with branches")
    store = FsStore(tmp_path)
    report = import_file(store, source)
    seen = [one[:3] for one in story(state_of(store, report).history)]

    assert seen == plain_pi(records)
    usage = [one["message"].get("usage", {}) for one in records if one.get("message", {}).get("role") == "assistant"]
    spent = state_of(store, report).usage_history
    assert sum(one.output_tokens for one in spent) == sum(one.get("output", 0) for one in usage)
    assert sum(one.input_total_tokens for one in spent) == sum(
        one.get("input", 0) + one.get("cacheRead", 0) + one.get("cacheWrite", 0) for one in usage
    )


def test_a_trajectory_tells_the_same_conversation(source: Path, tmp_path: Path) -> None:
    """Texts, roles, call ids and order are those of the history of the trajectory."""
    if detect_format(source) != "swe-agent":
        pytest.skip("no trajectory")
    history = json.loads(source.read_bytes())["history"]
    found: list[tuple[str, ...]] = []
    for one in history[1:] if history[0]["role"] == "system" else history:
        content = texts_of(one["content"]) if one["content"] is not None else None
        if one["role"] == "tool":
            found.append(("result", one["tool_call_ids"][0], content or ""))
            continue
        if content is not None:
            found.append((one["role"], content))
        found += [("call", call["id"], call["function"]["name"]) for call in one.get("tool_calls") or ()]
    store = FsStore(tmp_path)
    report = import_file(store, source)

    assert [one[:3] for one in story(state_of(store, report).history)] == found


def test_a_rollout_tells_the_same_messages(source: Path, tmp_path: Path) -> None:
    """The messages are those of the items since the last compaction, and of what replaced the history then."""
    if detect_format(source) != "codex":
        pytest.skip("no rollout")
    found: list[tuple[str, ...]] = []
    for line in source.read_text().splitlines():
        record = json.loads(line) if line.strip() else {}
        payload = record.get("payload", record)
        if record.get("type") == "compacted":
            messages = [one for one in payload["replacement_history"] if "role" in one]
            found = [(one["role"], plain_parts(one["content"])) for one in messages]
        elif "role" in payload:
            found.append((payload["role"], plain_parts(payload.get("content", payload.get("message")))))
    store = FsStore(tmp_path)
    report = import_file(store, source)
    seen = [one for one in story(state_of(store, report).history) if one[0] in {"user", "assistant", "system"}]

    assert seen == [("system" if role == "developer" else role, text) for role, text in found]


def plain_parts(content: Any) -> str:
    """Return the text of an item's content, read plainly."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def test_a_transcript_without_branches_tells_the_same_conversation(source: Path, tmp_path: Path) -> None:
    """Texts, roles, call ids and order are those of the lines; a line of another shape says nothing."""
    if detect_format(source) != "claude":
        pytest.skip("no transcript")
    store = FsStore(tmp_path)
    report = import_file(store, source)
    if len(report.segments) > 1 or "tool_use" in report.taken:
        pytest.skip("a transcript with branches, or calls on lines of their own")
    found: list[tuple[str, ...]] = []
    for line in source.read_text().splitlines():
        record = json.loads(line)
        message = record.get("message") if isinstance(record, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
            if isinstance(block, str):
                found.append((message["role"], block))  # type: ignore[index]
            elif block["type"] == "text":
                found.append((message["role"], block["text"]))  # type: ignore[index]
            elif block["type"] == "tool_use":
                found.append(("call", block["id"], block["name"]))
            elif block["type"] == "tool_result":
                found.append(("result", block["tool_use_id"], texts_of(block["content"])))

    assert [one[:3] for one in story(state_of(store, report).history)] == found
