"""Idempotency keys in their lines: where they stand, what the same content is, and files that were written once."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log._frame import framed, mark, marks_of, unmarked
from session_log._idem import content_of, idem_of, keyed
from strategies import entries as any_entry
from test_golden import GOLDEN, SESSION_ID

ASCII = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=200
)


@given(entry=any_entry(), key=ASCII, count=st.integers(1, 4), token=st.none() | ASCII)
def test_the_key_survives_marking_and_unmarking(entry: Any, key: str, count: int, token: str | None) -> None:
    """Whatever a store marks, the first line says the key, the others do not, and the entry is as it was."""
    line = sl.encode_line(entry)
    if idem_of(line) is not None:
        with pytest.raises(sl.InvalidEntry, match="has the key"):
            keyed([line], key)
        return

    found = mark(keyed([line] * count, key), token)

    assert [idem_of(one) for one in found] == [key] + [None] * (count - 1)
    assert marks_of(found[0]) == marks_of(mark([line] * count, token)[0])
    assert unmarked(found[0]) == keyed([line], key)[0]
    assert framed(found, token) == found
    decoded = sl.decode_line(found[0])
    if not isinstance(entry, sl.UnknownEntry):
        assert msgspec.structs.replace(decoded, idem=None) == sl.decode_line(line)
        assert getattr(decoded, "idem") == key  # noqa: B009


@given(entry=any_entry(), key=ASCII, ts=st.integers(0, 2**62))
def test_content_is_what_an_entry_says(entry: Any, key: str, ts: int) -> None:
    """The time, the key and the marks are no content, nor are white space and the order of keys; a field is."""
    if isinstance(entry, sl.UnknownEntry):
        return
    plain = msgspec.structs.replace(entry, idem=None)
    line = sl.encode_line(plain)
    said = content_of([line])
    later = sl.encode_line(msgspec.structs.replace(plain, ts=ts))

    assert content_of(mark(keyed([later], key), "token")) == said
    assert content_of([b" " + line.replace(b'{"kind"', b'{ "kind"', 1)]) == said
    assert content_of([line[:-1] + b',"extra":1}']) != said
    assert content_of([line, line]) != said


def test_the_number_of_a_turn_is_no_content() -> None:
    """A turn repeated later has another number, and another chain; its end is the same. A text is not."""

    def said(**fields: Any) -> str:
        return content_of([sl.encode_line(sl.TurnEnd(ts=1, **fields))])

    assert said(turn_count=1) == said(turn_count=2) == said(turn_count=3, chain="c")
    assert said(turn_count=1) != content_of([sl.encode_line(sl.PausedTurnAbandoned(ts=1))])


def test_numbers_and_texts_of_a_payload_are_told_apart() -> None:
    """1, 1.0, "1" and true are four payloads; integers beyond 64 bits and lone surrogates are told apart too."""
    payloads: list[Any] = [1, 1.0, "1", True, None, [], {}, {"ts": 1}, {"ts": 2}, 1 << 80, (1 << 80) + 1, "\ud83d", "?"]

    found = {content_of([sl.encode_line(sl.Extension(ts=1, domain="d", payload=one))]) for one in payloads}

    assert len(found) == len(payloads)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"idem":5}', b'{"x":{"idem":"k"}}', b'"idem"', b'{"x":"idem"}'])
def test_what_has_no_key_has_none(line: bytes) -> None:
    """A nested key, a value, and what is no text, are no key; whatever is no object has a content of its own."""
    assert idem_of(line) is None
    assert content_of([line])


def test_a_key_is_read_anywhere_in_the_line() -> None:
    """As other marks: first, spaced, behind the batch."""
    surrogate = rb'{"idem":"k","payload":"\ud800"}'  # which a fast decoder refuses
    for line in (
        b'{"idem":"k","kind":"x"}',
        b'{"x":1, "idem" : "k" }',
        b'{"kind":"x","batch":2,"idem":"k"}',
        surrogate,
    ):
        assert idem_of(line) == "k"


def test_the_golden_files_hold_their_keys(tmp_path: Path) -> None:
    """Each use is at its place for ever, and the hash of a content, which a compaction keeps, is what it was."""
    golden = sl.FsStore(tmp_path)
    places = {"idem": (("req-1", 1, 2), ("req-2", 2, 5), ("req-3", 5, 6), ("req-6", 9, 10)), "idem-carried": ()}
    found = []
    for name, uses in places.items():
        path = golden.segment_path(SESSION_ID, sl.new_segment_id())
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((GOLDEN / "valid" / f"{name}.jsonl").read_bytes())
        for key, start, stop in uses:
            use = sl.KeyedAppend(key=key, entries=stop, segment_id=path.stem, start=start, stop=stop)
            assert sl.find_idem(golden, SESSION_ID, path.stem, key) == use
        for key in ("req-4", "req-5"):
            assert sl.find_idem(golden, SESSION_ID, path.stem, key) is None
        found.append(sl.SegmentWriter.resume(golden, SESSION_ID, path.stem))

    assert [each.save_user_input("alone", idem="req-1") for each in found] == [2, 1]
    for each in found:
        with pytest.raises(sl.IdempotencyConflict):
            each.save_user_input("other", idem="req-1")
    assert found[0].save_user_input("undone", idem="req-4") == 11
