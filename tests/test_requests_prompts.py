"""Prompts: what an earlier one began with is not stored again, and every prompt comes back whole; by any process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log._recent_prompts import MAX_RECENT, MIN_PREFIX_BYTES
from session_log.requests import (
    DEFAULT_INLINE_BYTES,
    MAX_LOOK_BACK_BYTES,
    MAX_PREFIX_DEPTH,
    BrokenPrompt,
    RequestLog,
    list_requests,
    read_prompt,
)

LONG = "x" * MIN_PREFIX_BYTES


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


def message(number: int, text: str = LONG) -> dict[str, Any]:
    return {"role": "user", "content": f"{number}: {text}"}


def data_of(store: sl.Store, key: tuple[str, str]) -> list[dict[str, Any]]:
    """What the markers say, line by line."""
    return [entry.data for entry in sl.read_trace(store, *key)]


Steps = list[tuple[int, int, bool, bool]]
STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans(), st.booleans()), max_size=12)


@given(steps=STEPS, max_inline_bytes=st.sampled_from([0, 600, 4096]))
def test_every_prompt_comes_back_whole_however_they_share_their_beginnings(steps: Steps, max_inline_bytes: int) -> None:
    """Several conversations in one trace: grown, cut back, changed, as text or messages; the log opened again."""
    store = sl.MemoryStore()
    key = sl.create_segment(store)
    log = RequestLog(store, *key, max_inline_bytes=max_inline_bytes)
    talks: list[list[Any]] = [[message(0)] for _ in range(4)]
    prompts: list[Any] = []
    for number, (which, keep, as_text, opens_again) in enumerate(steps, 1):
        if opens_again:
            log = RequestLog(store, *key, max_inline_bytes=max_inline_bytes)
        talks[which] = [*talks[which][:keep], message(number), {"n": number, "big": 1 << 80}]
        prompts.append("\n".join(map(json.dumps, talks[which])) if as_text else list(talks[which]))
        assert log.record("m", prompts[-1]) is not None
    found = list_requests(store, *key)

    assert found.damage == ()
    assert [read_prompt(store, request, found) for request in found] == prompts
    assert all(request.prompt is not None and request.prompt.depth <= MAX_PREFIX_DEPTH for request in found)


@pytest.mark.parametrize("as_text", [False, True], ids=["messages", "text"])
def test_a_conversation_costs_what_is_new_not_its_length(fs: sl.FsStore, as_text: bool) -> None:
    """A hundred calls of a growing prompt: full twice, because references are no deeper than the limit."""
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    talk: list[Any] = []
    prompts: list[Any] = []
    for number in range(100):
        talk.append(message(number))
        prompts.append("\n".join(map(json.dumps, talk)) if as_text else list(talk))
        log.record("m", prompts[-1])
    found = list_requests(fs, *key)
    depths = [request.prompt.depth for request in found if request.prompt is not None]
    blobs = sum(path.stat().st_size for path in fs.root.glob("blobs/*/*"))
    in_full = sum(len(json.dumps(prompt)) for prompt in prompts)

    assert [at for at, depth in enumerate(depths) if depth == 0] == [0, MAX_PREFIX_DEPTH + 1]
    assert max(depths) == MAX_PREFIX_DEPTH
    assert fs.trace_path(*key).stat().st_size + blobs < in_full / 10
    assert [read_prompt(fs, request, found) for request in found] == prompts


def test_a_log_that_is_opened_again_goes_on_from_what_is_in_the_trace(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    first = RequestLog(fs, *key).record("m", [message(1), message(2)])
    with sl.FsStore(fs.root) as again, sl.SegmentWriter.resume(again, *key, trace=True) as writer:
        second = RequestLog(writer).record("m", [message(1), message(2), message(3)])
    third = RequestLog(fs, *key).record("m", [message(1), message(2), message(4)])
    data = data_of(fs, key)

    assert [one["id"] for one in data] == [first, second, third]
    assert data[1]["prompt"]["prefix"] == data[2]["prompt"]["prefix"] == {"request": first, "messages": 2}
    assert data[1]["prompt"]["new"] == {"json": [message(3)]}
    assert [one["prompt"].get("depth", 0) for one in data] == [0, 1, 1]


def test_the_same_prompt_again_goes_on_from_the_first_and_no_chain_grows(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    prompt = [message(1), message(2)]
    for _ in range(MAX_PREFIX_DEPTH + 5):
        log.record("m", prompt)
    data = data_of(fs, key)

    assert {one["prompt"].get("depth", 0) for one in data[1:]} == {1}
    assert {one["prompt"]["prefix"]["request"] for one in data[1:]} == {data[0]["id"]}


def test_a_prompt_that_shares_little_or_with_none_of_the_last_is_stored_in_full(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    log.record("m", ["short", message(1)])
    log.record("m", ["short", message(2)])
    for number in range(10, 10 + MAX_RECENT):
        log.record("m", [message(number)])
    log.record("m", [message(10), "again"])
    log.record("m", ["short", message(2)])
    data = data_of(fs, key)

    assert "prefix" not in data[1]["prompt"] and "prefix" not in data[-1]["prompt"]
    assert data[-2]["prompt"]["prefix"] == {"request": data[2]["id"], "messages": 1}


def test_what_is_new_and_large_is_a_blob_that_the_line_names(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    fits, over = "x" * (DEFAULT_INLINE_BYTES - 4), "y" * (DEFAULT_INLINE_BYTES - 3)
    log.record("m", [fits], over + "yy")
    log.record("m", [fits, over])
    data = data_of(fs, key)

    assert data[0]["prompt"]["new"] == {"json": [fits]}
    for kept, value in ((data[1]["prompt"]["new"], [over]), (data[0]["response"], over + "yy")):
        assert json.loads(fs.get_blob(sl.BlobRef(kept["sha256"], kept["size_bytes"]))) == value
    assert len(list(fs.root.glob("blobs/*/*"))) == 2


def test_a_trace_that_is_too_long_to_look_through_is_not_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first prompt of a log that is opened on it is stored in full."""
    monkeypatch.setattr("session_log._recent_prompts.MAX_LOOK_BACK_BYTES", 500)
    store = sl.MemoryStore()
    key = sl.create_segment(store)
    RequestLog(store, *key).record("m", [message(1)])
    RequestLog(store, *key).record("m", [message(1), 2])
    log = RequestLog(store, *key)
    log.record("m", [message(1), 2, 3])
    log.record("m", [message(1), 2, 3, 4])
    data = data_of(store, key)

    assert [one["prompt"].get("depth", 0) for one in data] == [0, 1, 0, 1]
    assert MAX_LOOK_BACK_BYTES >= 1 << 20


# ── what is broken ─────────────────────────────────────────────────────────────────────────────────────────────────


def without(lines: list[bytes], *gone: int) -> list[bytes]:
    return [line for at, line in enumerate(lines) if at not in gone]


def test_a_prompt_whose_beginning_is_gone_is_an_error_that_says_which(fs: sl.FsStore) -> None:
    """And the log goes on from others, or stores in full."""
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    ids = [log.record("m", [message(n) for n in range(count)]) for count in (1, 2, 3)]
    trace = fs.trace_path(*key)
    lines = trace.read_bytes().splitlines(keepends=True)
    fs.close()
    trace.write_bytes(b"".join(without(lines, 1)))
    found = list_requests(fs, *key)

    assert read_prompt(fs, found.requests[0]) == [message(0)]
    with pytest.raises(BrokenPrompt, match=f"request '{ids[1]}' is not in the trace") as raised:
        read_prompt(fs, found.requests[1])
    assert raised.value.request == ids[2] and raised.value.path == f"{trace}:2"
    RequestLog(fs, *key).record("m", [message(n) for n in range(4)])
    assert data_of(fs, key)[-1]["prompt"]["prefix"] == {"request": ids[0], "messages": 1}
    assert read_prompt(fs, list_requests(fs, *key).requests[-1]) == [message(n) for n in range(4)]


def test_of_two_lines_with_one_id_none_is_gone_on_from_but_the_first(fs: sl.FsStore) -> None:
    """A trace that was put together by hand: what a reference means must not depend on who looks."""
    key = sl.create_segment(fs)
    for number in (1, 2):
        data = {"id": "a", "model": "m", "prompt": {"messages": 1, "new": {"json": [message(number)]}}}
        sl.append_trace(fs, *key, sl.TraceEntry.lifecycle(ts=1, turn=0, label="llm_request", data=data))
    RequestLog(fs, *key).record("m", [message(2), "more"])
    RequestLog(fs, *key).record("m", [message(1), "more"])
    requests = list_requests(fs, *key).requests

    assert [read_prompt(fs, request)[0] for request in requests] == [message(n) for n in (1, 2, 2, 1)]
    assert requests[2].prompt is not None and requests[2].prompt.prefix is None
    assert requests[3].prompt is not None and requests[3].prompt.prefix is not None


def test_a_blob_that_is_gone_breaks_the_prompts_that_need_it_and_no_other(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key, max_inline_bytes=600)
    large = message(2, LONG * 9)
    for prompt in ([message(1)], [message(1), large], [message(1), large, 3], [message(1), 4]):
        log.record("m", prompt)
    (blob,) = fs.root.glob("blobs/*/*")
    blob.unlink()
    requests = list_requests(fs, *key).requests

    for at in (1, 2):
        with pytest.raises(BrokenPrompt):
            read_prompt(fs, requests[at])
    assert read_prompt(fs, requests[0]) == [message(1)] and read_prompt(fs, requests[3]) == [message(1), 4]
    assert log.record("m", [message(1), large, 5]) is not None


def test_prompts_that_refer_to_each_other_in_a_circle_end(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    for one, other in (("a", "b"), ("b", "a"), ("c", "c")):
        prompt = {"messages": 2, "prefix": {"request": other, "messages": 2}, "new": {"json": []}}
        data = {"id": one, "model": "m", "prompt": prompt}
        sl.append_trace(fs, *key, sl.TraceEntry.lifecycle(ts=1, turn=0, label="llm_request", data=data))

    for request in list_requests(fs, *key):
        with pytest.raises(BrokenPrompt, match="goes on from itself"):
            read_prompt(fs, request)


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────

RECORDS = """
import sys
import session_log as sl
from session_log.requests import RequestLog
store = sl.FsStore(sys.argv[1], durability="process")
log = RequestLog(store, *sys.argv[2:4])
print("ready", flush=True)
sys.stdin.readline()
talk = ["shared " * 60, sys.argv[4]]
for number in range(50):
    talk.append("x" * 5000 if number % 9 == 0 else number)
    assert log.record(sys.argv[4], talk, number, latency_ms=number) is not None
    if number % 20 == 7:
        log = RequestLog(store, *sys.argv[2:4])
"""


def test_processes_that_record_into_one_trace_lose_nothing(fs: sl.FsStore) -> None:
    """And go on from what each other recorded, where they are opened again."""
    key = sl.create_segment(fs)
    names = ("one", "two")
    workers = [
        subprocess.Popen([sys.executable, "-c", RECORDS, fs.root, *key, name], stdin=-1, stdout=-1, text=True)
        for name in names
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    found = list_requests(fs, *key)

    assert found.damage == () and len(found) == 100
    for name in names:
        talk: list[Any] = ["shared " * 60, name]
        for number, request in enumerate(found.of(model=name)):
            talk.append("x" * 5000 if number % 9 == 0 else number)
            assert read_prompt(fs, request, found) == talk
            assert request.latency_ms == number


KILLED = """
import os, signal, sys
import session_log as sl
from session_log.requests import RequestLog
store = sl.FsStore(sys.argv[1])
log = RequestLog(store, *sys.argv[2:4])
log.record("first", ["x" * 9000])
store.append_trace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
log.record("second", ["x" * 9000, "y" * 9000])
"""


def test_a_process_killed_between_blob_and_line_leaves_a_blob_that_nobody_names(fs: sl.FsStore) -> None:
    key = sl.create_segment(fs)
    done = subprocess.run([sys.executable, "-c", KILLED, fs.root, *key], check=False)

    assert done.returncode == -signal.SIGKILL
    assert len(list(fs.root.glob("blobs/*/*"))) == 2
    found = list_requests(fs, *key)
    assert [request.model for request in found] == ["first"] and found.damage == ()
    RequestLog(fs, *key).record("again", ["x" * 9000, "y" * 9000])
    assert len(list(fs.root.glob("blobs/*/*"))) == 2
    assert read_prompt(fs, list_requests(fs, *key).requests[1]) == ["x" * 9000, "y" * 9000]
