"""What holds for every source, whatever was done to it: nothing is lost in silence, and nothing but a typed error."""

import base64
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importing import (
    PI_HEADER,
    SAMPLES,
    accounted,
    claude_user,
    codex_line,
    imported,
    jsonl,
    pi_answer,
    pi_line,
    state_of,
    story,
    text,
)
from session_log import FsStore, MemoryStore, SessionLogError, Store, read_entries, restore
from session_log.importers import FORMATS, AlreadyImported, ImportReport

LINES = ("pi", "claude", "codex")
ODD_LINES = (
    b"", b"42", b'"a text alone"', b"[1]", b"null", b"{", b"\xff\xfe{}", b'{"a":\x00}', b'{"type":7}', b"{}",
    b'{"type":"message","message":{"role":"user","content":[7,null,{"type":"text"}]}}',
    b'{"type":"user","uuid":3,"parentUuid":{},"message":{"role":"user","content":[["x"],{"type":["text"]}]}}',
    b'{"type":"response_item","payload":{"type":{"a":1},"content":1e400}}',
    b'{"type":"assistant","message":{"role":"assistant","usage":{"input_tokens":-1,"output_tokens":1e30},"content":"x"}}',
    b'{"type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":7,"last_token_usage":[]}}}',
    b'{"type":"compaction","summary":"s","firstKeptEntryId":"nowhere","timestamp":1e400}',
    b'{"type":"message","id":"p4","parentId":"p4","message":{"role":"user","content":"\\ud800"}}',
    b'{"big":123456789012345678901234567890,"deep":' + b"[" * 300 + b"]" * 300 + b"}",
    b'{"type":"session","id":7,"timestamp":"9999-12-31T23:59:59Z"}',
)  # fmt: skip


def whole(store: Store, report: ImportReport) -> list[Any]:
    """Return the payloads of all extensions of a session, after restoring each of its segments."""
    payloads = []
    for segment_id in report.segments:
        restore(store, report.session_id, segment_id)
        entries = read_entries(store, report.session_id, segment_id)
        times = [entry.ts for entry in entries]  # type: ignore[union-attr]
        assert times == sorted(times)
        payloads += [entry.payload for entry in entries if hasattr(entry, "payload")]
    return payloads


def changed(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    """Return lines of which some were dropped, doubled, moved, replaced, flipped, or cut."""
    lines = data.split(b"\n")[:-1]
    for kind, first, second, odd in changes:
        if not lines:
            break
        at, other = first % len(lines), second % len(lines)
        if kind == "drop":
            del lines[at]
        elif kind == "double":
            lines.insert(other, lines[at])
        elif kind == "move":
            lines.insert(other, lines.pop(at))
        elif kind == "odd":
            lines[at] = odd
        elif lines[at] and kind == "flip":
            byte = other % len(lines[at])
            lines[at] = (
                lines[at][:byte] + bytes([lines[at][byte] ^ 1 << odd[0] % 8 if odd else 0]) + lines[at][byte + 1 :]
            )
        elif kind == "cut":
            lines[at] = lines[at][:other]
    return b"".join(line + b"\n" for line in lines)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("drop", "double", "move", "odd", "flip", "cut")),
        st.integers(0, 1000),
        st.integers(0, 1000),
        st.sampled_from(ODD_LINES),
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LINES), CHANGES, st.integers(0, 200))
def test_every_line_is_accounted_for(fmt: str, changes: list[tuple[str, int, int, bytes]], torn: int) -> None:
    """Whatever became of its lines: each is taken, kept or dropped, and every segment can be restored."""
    data = changed(SAMPLES[fmt](), changes)
    data = data[: len(data) - torn] if torn < 100 else data
    if not data.strip():
        return
    store, report = imported(data, fmt)

    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    assert report.records == accounted(report) == lines
    assert all(1 <= told.line <= lines for told in report.problems + report.dropped)
    kept = [payload for payload in whole(store, report) if payload.keys() & {"kept", "text", "base64"}]
    assert len(kept) == sum(report.kept.values())


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(LINES), CHANGES)
def test_what_is_kept_is_kept_verbatim(fmt: str, changes: list[tuple[str, int, int, bytes]]) -> None:
    """A line that is no part of the conversation stands in an extension as it was, byte for byte or value for value."""
    data = changed(SAMPLES[fmt](), changes)
    if not data.strip():
        return
    store, report = imported(data, fmt)
    lines = data.split(b"\n")

    for payload in whole(store, report):
        line = lines[payload["line"] - 1].strip() if "line" in payload else b""
        if "kept" in payload:
            assert payload["kept"] == json.loads(line)
        elif "text" in payload:
            assert payload["text"].encode() == line
        elif "base64" in payload:
            assert base64.b64decode(payload["base64"]) == line


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(("openai", "anthropic", "swe-agent")), st.data())
def test_every_element_of_a_document_is_accounted_for(fmt: str, data: st.DataObject) -> None:
    """Elements of any shape are taken or kept; a document that is none is a typed error."""
    value = orjson.loads(SAMPLES[fmt]())
    name = "history" if "history" in value else "messages"
    odd = data.draw(st.lists(st.sampled_from([json.loads(one) for one in ODD_LINES[1:5]] + [{}, {"role": 7}])))
    for one in odd:
        value[name].insert(data.draw(st.integers(0, len(value[name]))), one)
    report = imported(json.dumps(value).encode(), fmt)[1]

    assert report.records == accounted(report) == 1 + len(value[name]) + len(value.get("trajectory", ()))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)), st.sampled_from(("auto", *FORMATS)), st.integers(0, 400), st.binary(max_size=40)
)
def test_any_format_reads_any_source_or_says_why_not(source: str, fmt: str, at: int, noise: bytes) -> None:
    """Read as another format than its own, with noise in it, a source is imported, or refused with a typed error."""
    data = SAMPLES[source]()
    data = data[:at] + noise + data[at:]
    try:
        report = imported(data, fmt)[1]
    except SessionLogError as exc:
        assert str(exc)
    else:
        assert report.records == accounted(report)


@pytest.mark.parametrize("fmt", sorted(SAMPLES))
def test_each_sample_is_known_by_its_looks(fmt: str) -> None:
    """A source of each format is told from the others."""
    assert imported(SAMPLES[fmt]())[1].format == fmt


@pytest.mark.parametrize("fmt", LINES)
def test_a_cut_at_every_byte_is_a_source(fmt: str) -> None:
    """However much of it is there: the whole lines are imported, and the torn one is reported with its number."""
    data = SAMPLES[fmt]()
    for end in range(1, len(data), 7):
        cut = data[:end]
        report = imported(cut, fmt)[1]
        torn = [told.line for told in report.dropped if told.reason == "torn"]

        assert report.records == accounted(report)
        assert torn in ([], [cut.count(b"\n") + 1])
        assert bool(torn) == (not cut.endswith((b"\n", b"}")) or not _ends_whole(cut))


def _ends_whole(cut: bytes) -> bool:
    last = cut.rpartition(b"\n")[2]
    try:
        return not last or isinstance(json.loads(last), dict)
    except ValueError:
        return False


def test_deep_values_and_large_numbers_are_kept() -> None:
    """What goes deeper than a payload may, is kept as text; numbers beyond 64 bits as they are."""
    deep = b'{"deep":' + b"[" * 250 + b"]" * 250 + b"}"
    big = b'{"big":123456789012345678901234567890}'
    store, report = imported(jsonl(PI_HEADER, deep, big), "pi")
    payloads = whole(store, report)

    assert report.records == accounted(report) == 3
    assert payloads[-1]["kept"] == {"big": 123456789012345678901234567890}
    assert deep.decode() in [payload.get("text") for payload in payloads]


def test_a_record_that_is_too_long_to_be_kept_is_dropped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what no line of ours could hold, the report says where it was."""
    monkeypatch.setattr("session_log.importers._verbatim.MAX_SOURCE_LINE_BYTES", 100)
    report = imported(jsonl(PI_HEADER, {"type": "custom", "data": "x" * 100}), "pi")[1]

    assert [told.line for told in report.dropped] == [2]
    assert "MAX_SOURCE_LINE_BYTES" in report.dropped[0].reason
    assert report.records == accounted(report)


def test_an_id_of_any_length_is_one(tmp_path: Path) -> None:
    """A source that gives itself an endless id is known by its hash."""
    data = jsonl({**PI_HEADER, "id": "x" * 2_000_000})
    store, report = imported(data, store=FsStore(tmp_path))

    assert report.source_id.startswith("sha256:")
    with pytest.raises(AlreadyImported):
        imported(data, store=store)


IMAGE: dict[str, Any] = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
SHOWN: dict[str, Any] = {
    "pi": [PI_HEADER, pi_line(1, None, {"role": "user", "content": [IMAGE]})],
    "claude": [claude_user(1, None, [IMAGE])],
    "codex": [codex_line(1, "response_item", type="message", role="user", content=[{"type": "input_image"}])],
    "openai": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    "anthropic": [{"role": "user", "content": [IMAGE]}],
}


@pytest.mark.parametrize("fmt", sorted(SHOWN))
def test_a_message_that_only_shows_an_image_is_a_message(fmt: str) -> None:
    """The history does not lack it: its text is empty, and what it shows stands in the extension."""
    store, report = imported(jsonl(*SHOWN[fmt]), fmt)

    assert [one[:2] for one in story(state_of(store, report).history)] == [("user", "")]
    assert "image" in repr(state_of(store, report).extensions[-1].payload["rest"])


def test_a_lone_surrogate_costs_no_record() -> None:
    """A text that is no Unicode is still said, with U+FFFD in its place."""
    line = json.dumps(pi_line(1, None, {"role": "user", "content": "a\ud800b"})).encode()
    store, report = imported(jsonl(PI_HEADER, line))

    assert state_of(store, report).history[0].text == "a\ufffdb"  # type: ignore[union-attr]


def test_a_wild_time_moves_no_other() -> None:
    """A time that cannot be is not taken for one: the records behind it have their own."""
    wild = {**pi_line(1, None, {"role": "user", "content": "a"}), "timestamp": "9999-01-01T00:00:00Z"}
    store, report = imported(jsonl(PI_HEADER, wild, pi_line(2, 1, pi_answer(text("b")))))
    entries = read_entries(store, report.session_id, report.segments[0])

    assert {entry.ts for entry in entries} == {1764583202000}  # type: ignore[union-attr]


def test_sources_are_read_alike_into_every_store(tmp_path: Any) -> None:
    """In memory or in files, the same source becomes the same session, line for line."""
    for fmt, sample in SAMPLES.items():
        first, one = imported(sample(), store=MemoryStore())
        second, other = imported(sample(), store=FsStore(tmp_path / fmt))

        assert (one.session_id, one.segments) == (other.session_id, other.segments)
        if fmt in LINES:
            for segment_id in one.segments:
                assert list(first.read(one.session_id, segment_id)) == list(second.read(one.session_id, segment_id))
