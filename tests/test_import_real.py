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
