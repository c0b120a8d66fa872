"""Hostile bytes: whatever a line holds, it is an entry or InvalidEntry says what is wrong and where. Nothing else."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_log import InvalidEntry, LogEntry, collect_state, decode_line, encode_line
from session_log._trace import decode_trace
from strategies import entries


def assert_entry_or_refused(line: bytes) -> None:
    """Fail unless the line is an entry, which then can be folded, or is refused with the one error that says so."""
    try:
        state = collect_state([decode_line(line)])
    except InvalidEntry as exc:
        assert exc.path.startswith("$") and exc.reason
    else:
        assert state.entries_count == 1


@given(st.binary(max_size=60))
@example(b"")
@example(b"\xff\xfe{\x00}\x00")
def test_any_bytes_are_an_entry_or_refused(line: bytes) -> None:
    """Hostile bytes raise InvalidEntry and nothing else."""
    assert_entry_or_refused(line)


PIECES = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\0", b"\n", b"\xff", b"\xed\xa0\x80", b"\\ud83d", b"NaN",
          b"1e999", b"-", b"null", b'"kind":', b'"ts":', b'"batch":3', b"9" * 30, b"\xef\xbb\xbf", b" "]  # fmt: skip


@given(entries(), st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(PIECES), st.integers(0, 4)), max_size=3))
def test_a_damaged_line_is_an_entry_or_refused(entry: LogEntry, edits: list[tuple[int, bytes, int]]) -> None:
    """Whatever is put in, cut out or overwritten: a typed answer, and what is accepted can be folded."""
    line = encode_line(entry)
    for place, piece, cut in edits:
        at = place % (len(line) + 1)
        line = line[:at] + piece + line[at + cut :]

    assert_entry_or_refused(line)


@given(entries(), st.data())
def test_a_line_with_a_key_given_twice_is_an_entry_or_refused(entry: LogEntry, draw: st.DataObject) -> None:
    """The last one counts, as in every JSON library; it never takes the reader down."""
    line = encode_line(entry)
    keys = sorted(json.loads(line))
    key = draw.draw(st.sampled_from(keys))
    value = draw.draw(st.sampled_from([b"null", b"5", b'"turn_end"', b'"x"', b"[]", b"{}"]))

    assert_entry_or_refused(line[:-1] + b",%b:%b}" % (json.dumps(key).encode(), value))
    assert_entry_or_refused(b"{%b:%b,%b" % (json.dumps(key).encode(), value, line[1:]))


NO_ENTRY = {
    "empty": (b"", "$"),
    "blank": (b"  ", "$"),
    "array": (b"[]", "$"),
    "text": (b'"kind"', "$"),
    "no kind": (b'{"ts":1}', "$"),
    "kind null": (b'{"kind":null,"ts":1}', "$.kind"),
    "kind number": (b'{"kind":5,"ts":1}', "$.kind"),
    "byte order mark": (b'\xef\xbb\xbf{"kind":"paused_turn_abandoned","ts":1}', "$"),
    "utf-16": ('{"kind":"paused_turn_abandoned","ts":1}'.encode("utf-16"), "$"),
    "nul": (b'{"kind":"paused_turn_abandoned","ts":1}\0', "$"),
    "nul inside": (b'{"kind":"invoke","ts":1,"trigger":"\0"}', "$"),
    "control character": (b'{"kind":"invoke","ts":1,"trigger":"\1"}', "$"),
    "two entries": (b'{"kind":"paused_turn_abandoned","ts":1}{"kind":"paused_turn_abandoned","ts":1}', "$"),
    "more behind": (b'{"kind":"paused_turn_abandoned","ts":1}x', "$"),
    "cut": (b'{"kind":"paused_turn_abandoned","ts":', "$"),
    "not utf-8": (b'{"kind":"invoke","ts":1,"trigger":"\xff"}', "$.trigger"),
    "not utf-8, later kind": (b'{"kind":"hologram","x":"\xff"}', "$"),
    "not utf-8, later variant": (b'{"kind":"system_item","ts":1,"item":{"kind":"x","body":"\xff"}}', "$.item"),
    "not a number": (b'{"kind":"extension","ts":1,"domain":"d","payload":NaN}', "$"),
    "not a number, later kind": (b'{"kind":"hologram","x":Infinity}', "$"),
    "missing field": (b'{"kind":"invoke","ts":1}', "$.trigger"),
    "missing ts": (b'{"kind":"invoke","trigger":"x"}', "$.ts"),
    "wrong type": (b'{"kind":"turn_end","ts":"1","turn_count":1}', "$.ts"),
    "float": (b'{"kind":"turn_end","ts":1.5,"turn_count":1}', "$.ts"),
    "wrong inner type": (
        b'{"kind":"assistant_item","ts":1,"item":{"kind":"message","role":"user","content":[{"kind":"text","text":5}]}}',
        "$.item.content[0].text",
    ),
    "item without kind": (b'{"kind":"assistant_item","ts":1,"item":{}}', "$.item"),
    "item no object": (b'{"kind":"assistant_item","ts":1,"item":[]}', "$.item"),
    "config": (b'{"kind":"config_changed","ts":1,"config":{"max_tokens":"many"}}', "$.config.max_tokens"),
}


@pytest.mark.parametrize("case", NO_ENTRY)
def test_what_is_no_entry_is_refused_with_its_place(case: str) -> None:
    """F4: the error names the value that is wrong, as far as there is one."""
    line, path = NO_ENTRY[case]

    with pytest.raises(InvalidEntry) as caught:
        decode_line(line)
    assert caught.value.path == path


@pytest.mark.parametrize("levels", [1_000, 100_000, 5_000_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_without_end_is_refused(levels: int, opening: bytes) -> None:
    """A reader's stack is not for the file to choose: a known kind, a later one, a later key, and bare brackets."""
    closing = b"]" if opening == b"[" else b"}"
    deep = opening * levels + b"1" + closing * levels

    for line in (
        b'{"kind":"extension","ts":1,"domain":"d","payload":%b}' % deep,
        b'{"kind":"hologram","payload":%b}' % deep,
        b'{"kind":"invoke","ts":1,"trigger":"x","later":%b}' % deep,
        b'{"kind":"assistant_item","ts":1,"item":{"kind":"x","later":%b}}' % deep,
        deep,
        opening * levels,
    ):
        assert_entry_or_refused(line)


@pytest.mark.parametrize("value", [None, 5, ["{}"], "junk"], ids=repr)
def test_a_line_is_bytes(value: Any) -> None:
    """A wrong argument is a typed error."""
    with pytest.raises(InvalidEntry):
        decode_line(value)


@given(st.binary(max_size=40))
@example(b"[" * 100_000)
@example(b'{"ts":1,"turn":0,"kind":"x","event":NaN}')
def test_any_bytes_are_a_trace_entry_or_refused(line: bytes) -> None:
    """Hostile bytes raise InvalidEntry and nothing else."""
    try:
        decode_trace(line)
    except InvalidEntry as exc:
        assert exc.path == "$"
