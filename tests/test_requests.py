"""Requests: what was recorded is listed, whole, from any store; traces that are damaged are counted, never a crash."""

from __future__ import annotations

import json
import math
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from lookers import Watched
from session_log.requests import Request, RequestLog, Requests, list_requests, read_prompt, read_response
from strategies import payloads

GOLDEN = Path(__file__).with_name("golden") / "trace" / "requests.jsonl"
KINDS = ["memory", "files", "lines"]
ASKED = {"role": "user", "content": "x" * 300}
SAID = {"role": "assistant", "content": "größer"}


@contextmanager
def opened(kind: str) -> Iterator[Any]:
    """A store; "lines" is one that offers the protocol and nothing more."""
    if kind == "files":
        with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
            yield store
        return
    yield sl.MemoryStore() if kind == "memory" else Watched(sl.MemoryStore())


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with opened(request.param) as found:
        yield found


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── what comes back ────────────────────────────────────────────────────────────────────────────────────────────────

texts_or_none = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)
counts_or_none = st.none() | st.integers(0, 10**6)
calls = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["m-1", "m-2", ""]),
        "prompt": st.none() | st.lists(payloads(), max_size=4) | st.text(max_size=20),
        "response": payloads(),
        "latency_ms": counts_or_none,
        "input_tokens": counts_or_none,
        "output_tokens": counts_or_none,
        "node_id": texts_or_none,
        "source": texts_or_none,
        "error": texts_or_none,
        "llm_call": counts_or_none,
    }
)


@pytest.mark.parametrize("kind", KINDS)
@given(made=st.lists(calls, max_size=5), max_inline_bytes=st.sampled_from([0, 10, 4096]))
def test_what_was_recorded_comes_back_deep_equal(kind: str, made: list[dict[str, Any]], max_inline_bytes: int) -> None:
    """Whether it stands in the line or in blobs; and the trace is one for every reader of traces."""
    with opened(kind) as store, sl.SegmentWriter.create(store, trace=True) as writer:
        log = RequestLog(writer, max_inline_bytes=max_inline_bytes)
        writer.trace_lifecycle("request_start")
        ids = [log.record(**call) for call in made]
        found = list_requests(store, writer.session_id)
        trace = sl.read_trace(store, writer.session_id, writer.segment_id)

        assert [request.id for request in found] == ids
        assert found.damage == () and found.torn_bytes == 0 and len(found) == len(made)
        for request, call in zip(found, made, strict=True):
            names = call.keys() - {"prompt", "response"}
            assert {name: getattr(request, name) for name in names} == {name: call[name] for name in names}
            assert repr(read_prompt(store, request)) == repr(call["prompt"])
            assert repr(read_prompt(store, request, found)) == repr(call["prompt"])
            assert repr(read_response(store, request)) == repr(call["response"])
            assert (request.segment_id, request.turn) == (writer.segment_id, 0)
        assert {entry.kind for entry in trace} == {"lifecycle"} and len(trace) == len(made) + 1
        assert sl.restore(store, writer.session_id, writer.segment_id).entries_count == 1


def test_the_golden_lines_are_read_and_written(fs: sl.FsStore) -> None:
    """What FORMAT-BESIDE.md shows: byte for byte, but for times and random ids."""
    with sl.SegmentWriter.create(fs, trace=True) as writer:
        log = RequestLog(writer)
        log.record(
            "m-1", [ASKED], {"text": "y" * 5000}, latency_ms=811.6, input_tokens=90, output_tokens=7, node_id="n1",
            source="main",
        )  # fmt: skip
        log.record("m-1", [ASKED, SAID], error=TimeoutError("no answer"), llm_call=1)
        log.record("m-2", "one\ntwo", "three")
        writer.save_turn_end()
        log.record("m-2", input_tokens=0)
    other = sl.create_segment(fs)
    fs.append_trace(*other, GOLDEN.read_bytes().splitlines())
    found = list_requests(fs, *other)

    def without_chance(line: bytes) -> bytes:
        return re.sub(rb'"ts":\d+|"[0-9a-f]{16}"', b"", line)

    written = list(fs.read_trace(writer.session_id, writer.segment_id))
    assert [without_chance(line) for line in written] == [without_chance(line) for line in fs.read_trace(*other)]
    assert [read_prompt(fs, request) for request in found] == [[ASKED], [ASKED, SAID], "one\ntwo", None]
    assert [read_response(fs, request) for request in found] == [{"text": "y" * 5000}, None, "three", None]
    assert [request.turn for request in found] == [0, 0, 0, 1]
    assert [request.error for request in found.failed()] == ["TimeoutError: no answer"]


def test_a_session_has_the_requests_of_all_its_segments_oldest_first(store: sl.Store) -> None:
    """A log behind a writer goes on where the writer goes on: in forks and compactions."""
    with sl.SegmentWriter.create(store, trace=True) as writer:
        log = RequestLog(writer)
        first = writer.segment_id
        log.record("a", [ASKED])
        sl.save_user_input(store, writer.session_id, first, "somebody else")
        writer.save_user_input("so this is a fork")
        log.record("b", [ASKED, SAID])
        writer.compact(sl.SegmentStartState())
        log.record("c", [ASKED, SAID, SAID])
        RequestLog(store, writer.session_id, first).record("d", turn=7)

        found = list_requests(store, writer.session_id)
        assert [request.model for request in found] == ["a", "d", "b", "c"]
        assert len({request.segment_id for request in found}) == 3
        assert [request.model for request in list_requests(store, writer.session_id, first)] == ["a", "d"]
        assert [read_prompt(store, each) for each in found] == [[ASKED], None, [ASKED, SAID], [ASKED, SAID, SAID]]
        assert found.requests[1].turn == 7
        with pytest.raises(sl.NotFound):
            list_requests(store, sl.new_session_id())
        with pytest.raises(sl.NotFound):
            list_requests(store, writer.session_id, sl.new_segment_id())


# ── chosen and summed up ───────────────────────────────────────────────────────────────────────────────────────────


@given(made=st.lists(calls, max_size=12), limit=st.integers(-1, 14))
def test_the_summary_is_what_counting_by_hand_gives(made: list[dict[str, Any]], limit: int) -> None:
    """Nearest rank: the least measured latency that at least so many percent did not exceed."""
    store = sl.MemoryStore()
    key = sl.create_segment(store)
    log = RequestLog(store, *key)
    for call in made:
        log.record(**call)
    found = list_requests(store, *key)
    summary = found.summary()

    def percentile(latencies: list[int], percent: int) -> int | None:
        reached = [
            one for one in latencies if sum(other <= one for other in latencies) * 100 >= percent * len(latencies)
        ]
        return min(reached, default=None)

    models = dict.fromkeys(call["model"] for call in made)
    assert list(summary.models) == list(models)
    groups = [(summary, made), *((summary.models[name], [c for c in made if c["model"] == name]) for name in models)]
    for totals, group in groups:
        latencies = [call["latency_ms"] for call in group if call["latency_ms"] is not None]
        assert totals.requests == len(group)
        assert totals.failed == sum(call["error"] is not None for call in group)
        assert totals.input_tokens == sum(call["input_tokens"] or 0 for call in group)
        assert totals.output_tokens == sum(call["output_tokens"] or 0 for call in group)
        assert totals.median_latency_ms == percentile(latencies, 50)
        assert totals.p95_latency_ms == percentile(latencies, 95)
    timed = [request for request in found if request.latency_ms is not None]
    slowest = found.slowest(limit)
    assert list(slowest) == sorted(timed, key=lambda one: (-(one.latency_ms or 0), one.line))[: max(0, limit)]
    assert [one.line for one in found.failed()] == [at for at, c in enumerate(made, 1) if c["error"] is not None]
    for names in ({"model": ""}, {"source": "a"}, {"model": "m-1", "node_id": "a"}, {}):
        assert [one.line for one in found.of(**names)] == [
            at for at, call in enumerate(made, 1) if all(call[name] == value for name, value in names.items())
        ]


# ── off, and never in the way ──────────────────────────────────────────────────────────────────────────────────────


def test_behind_a_writer_that_does_not_trace_nothing_is_done(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        assert RequestLog(writer).record("m", ["x" * 9999], object()) is None

        assert not fs.trace_path(writer.session_id, writer.segment_id).exists()
        assert list(fs.root.glob("blobs/*/*")) == []
        assert list_requests(fs, writer.session_id) == Requests(requests=())


BAD: list[dict[str, Any]] = [
    {"model": 7},
    {"model": "m", "prompt": {"role": "user"}},
    {"model": "m", "prompt": [math.nan]},
    {"model": "m", "response": object()},
    {"model": "m", "latency_ms": -1},
    {"model": "m", "latency_ms": math.inf},
    {"model": "m", "latency_ms": math.nan},
    {"model": "m", "latency_ms": 1e300},
    {"model": "m", "input_tokens": "7"},
    {"model": "m", "output_tokens": True},
    {"model": "m", "llm_call": 1 << 64},
    {"model": "m", "source": b"x"},
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_what_cannot_be_recorded_is_warned_of_once_and_stops_nothing(store: sl.Store, bad: dict[str, Any]) -> None:
    with sl.SegmentWriter.create(store, trace=True) as writer:
        for log in (RequestLog(writer), RequestLog(store, writer.session_id, writer.segment_id)):
            with pytest.warns(RuntimeWarning, match="the trace is incomplete") as warned:
                assert log.record(**bad) is None
            assert warned[0].filename == __file__
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert log.record(**bad) is None
                assert log.record("sound") is not None
        assert [request.model for request in list_requests(store, writer.session_id)] == ["sound", "sound"]


def test_a_trace_that_cannot_be_written_stops_nothing(fs: sl.FsStore) -> None:
    """What was not written is nothing to go on from either."""
    with sl.SegmentWriter.create(fs, trace=True) as writer:
        log = RequestLog(writer)
        trace = fs.trace_path(writer.session_id, writer.segment_id)
        trace.mkdir()
        with pytest.warns(RuntimeWarning, match="the trace is incomplete"):
            assert log.record("lost", [ASKED]) is None
        trace.rmdir()

        assert log.record("kept", [ASKED, SAID]) is not None
        (request,) = list_requests(fs, writer.session_id)
        assert read_prompt(fs, request) == [ASKED, SAID]
        writer.save_user_input("the run goes on")


def test_surrogates_and_errors_of_any_kind_are_recorded(store: sl.Store) -> None:
    key = sl.create_segment(store)
    RequestLog(store, *key).record("m\ud800", ["\ud800"], "\udfff", error=KeyError("\ud801"), source="s\udc00")
    (request,) = list_requests(store, *key)

    assert (request.model, request.source, request.error) == ("m\ufffd", "s\ufffd", "KeyError: '\\ud801'")
    assert (read_prompt(store, request), read_response(store, request)) == (["\ud800"], "\udfff")
    assert all(b"\\ud8" not in line.replace(b"\\\\ud8", b"") for line in store.read_trace(*key))


@pytest.mark.parametrize("arguments", [(), ("x",), ("x", "y", "z")])
def test_a_log_is_opened_on_a_writer_or_a_segment(store: sl.Store, arguments: tuple[str, ...]) -> None:
    with pytest.raises(sl.CallerError):
        RequestLog(store, *arguments)
    with sl.SegmentWriter.create(store) as writer, pytest.raises(sl.CallerError):
        RequestLog(writer, "x", "y")  # type: ignore[call-overload]
    with pytest.raises(sl.CallerError):
        RequestLog(store, *sl.create_segment(store), max_inline_bytes=-1)


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.lists(
        payloads().map(lambda value: json.dumps(value).encode())
        | st.builds(
            lambda data: json.dumps({"ts": 1, "turn": 0, "kind": "lifecycle", "label": "llm_request", "data": data}),
            payloads()
            | st.fixed_dictionaries(
                {"id": st.sampled_from(["a", "b", ""]), "model": st.sampled_from(["m", 7])},
                optional={
                    "prompt": payloads()
                    | st.fixed_dictionaries(
                        {"messages": st.integers(-1, 3), "new": st.sampled_from([{"json": [1, 2]}, {"json": 7}, {}])},
                        optional={
                            "prefix": st.fixed_dictionaries(
                                {"request": st.sampled_from(["a", "b", "c"]), "messages": st.integers(0, 3)}
                            ),
                            "form": st.sampled_from(["text", "x"]),
                        },
                    ),
                    "response": payloads(),
                },
            ),
        ).map(str.encode)
        | st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\0" not in line),
        max_size=6,
    )
)
def test_any_line_is_a_request_another_entry_or_counted_damage(lines: list[bytes]) -> None:
    """A trace edited by hand never crashes a reader; a prompt is whole, or an error that says why not."""
    with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
        key = sl.create_segment(store)
        RequestLog(store, *key).record("first", [ASKED])
        with store.trace_path(*key).open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines) + b'{"torn')
        whole = store.trace_path(*key).read_bytes()
        found = list_requests(store, *key)

        assert found.requests[0].model == "first" and read_prompt(store, found.requests[0]) == [ASKED]
        numbers = {one.line for one in found.damage}
        assert numbers.isdisjoint(request.line for request in found)
        assert all(number in numbers for number, line in enumerate(lines, 2) if line.strip() and line[:1] != b"{")
        for one in found.damage:
            assert whole[one.byte_offset :].startswith(lines[one.line - 2] + b"\n") and one.reason
            assert one.path == str(store.trace_path(*key))
        assert found.torn_bytes == 6
        for request in found:
            for read in (read_prompt, read_response):
                try:
                    read(store, request)
                except sl.StorageError as exc:
                    assert request.id in str(exc)
        for prompt in ([ASKED, SAID], [1, 2, *[SAID] * 9], [SAID] * 9):
            assert RequestLog(store, *key).record("after", prompt) is not None
            assert read_prompt(store, list_requests(store, *key).requests[-1]) == prompt


def test_a_trace_cut_anywhere_has_the_requests_of_its_whole_lines(fs: sl.FsStore) -> None:
    """And a log that is opened on it goes on behind the last whole line."""
    key = sl.create_segment(fs)
    log = RequestLog(fs, *key)
    for number in range(3):
        log.record("m", [ASKED, *[SAID] * number])
    trace = fs.trace_path(*key)
    whole = trace.read_bytes()
    for end in range(len(whole) + 1):
        trace.write_bytes(whole[:end])
        with sl.FsStore(fs.root, durability="process") as again:
            found = list_requests(again, *key)
            last = whole[:end].rfind(b"\n") + 1

            assert len(found) == whole[:end].count(b"\n") and found.torn_bytes == end - last
            if end % 50 == 0:
                RequestLog(again, *key).record("next", [ASKED, SAID, SAID])
                prompts = [read_prompt(again, each) for each in list_requests(again, *key)]
                assert prompts == [[ASKED, *[SAID] * number] for number in range(len(found))] + [[ASKED, SAID, SAID]]


def test_threads_may_share_a_log(store: sl.Store) -> None:
    key = sl.create_segment(store)
    log = RequestLog(store, *key)

    def work(name: str) -> None:
        for number in range(20):
            log.record(name, [ASKED, name, *range(number)])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list_requests(store, *key)

    def of(name: str) -> list[Request]:
        return list(found.of(model=name))

    assert [len(of(name)) for name in "abc"] == [20, 20, 20]
    for name in "abc":
        assert [read_prompt(store, each, found) for each in of(name)] == [[ASKED, name, *range(n)] for n in range(20)]
