"""The laws of the codec: an entry becomes one line, and that line becomes the same entry again."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from session_log import (
    AssistantItem,
    Carried,
    ConfigChanged,
    LogEntry,
    Message,
    PodEvent,
    RequestConfig,
    SegmentStart,
    SystemItemEntry,
    Text,
    TextInput,
    ToolResult,
    ToolResultEntry,
    Unknown,
    UnknownEntry,
    UserInput,
    WorkerEvent,
    decode_line,
    encode_line,
)
from session_log import _tolerant as tolerant
from session_log._codec import decode_plain_lines
from session_log._frame import mark
from strategies import entries, later_objects, plain_payloads

CONFIG = RequestConfig()


# ── there and back ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(entries())
def test_an_entry_comes_back_from_its_line_and_the_line_from_the_entry(entry: LogEntry) -> None:
    """Any entry encodes, decodes to an equal one of the same class, and that encodes to the same bytes."""
    line = encode_line(entry)
    found = decode_line(line)

    assert (type(found), found) == (type(entry), entry)
    assert encode_line(found) == line


@given(entries(), st.sampled_from([b"\n", b"\r\n", b""]))
def test_the_end_of_a_line_is_no_part_of_the_entry(entry: LogEntry, end: bytes) -> None:
    """A newline or CRLF behind the line is tolerated."""
    assert decode_line(encode_line(entry) + end) == entry


@given(entries())
def test_a_line_is_one_line_of_utf8_with_kind_first_and_the_fields_in_order(entry: LogEntry) -> None:
    """No newline, carriage return or NUL; keys as the class declares them, behind ``kind``."""
    line = encode_line(entry)

    assert not {b"\n", b"\r", b"\0"} & {line[at : at + 1] for at in range(len(line))}
    if not isinstance(entry, UnknownEntry):
        keys = list(json.loads(line.decode()))
        declared = ["kind", *entry.__struct_fields__]
        assert keys == [key for key in declared if key in keys]
        assert keys[:2] == ["kind", "ts"]


def test_a_line_is_compact_and_its_text_is_raw() -> None:
    """No spaces between tokens, no escapes but those that JSON needs: what a developer greps for is there."""
    item = Message.assistant('東京 🙂 \u2028 \u0085 "q" \\ \n \0')

    line = encode_line(AssistantItem(ts=1, item=item))

    expected = '{"kind":"assistant_item","ts":1,"item":{"kind":"message","role":"assistant","content":['
    expected += '{"kind":"text","text":"東京 🙂 \u2028 \u0085 \\"q\\" \\\\ \\n \\u0000"}]}}'
    assert line.decode() == expected


def test_an_integer_where_a_float_belongs_is_written_as_it_will_be_read() -> None:
    """``temperature=1`` means 1.0: the line does not change when its entry is encoded again."""
    line = encode_line(ConfigChanged(ts=1, config=RequestConfig(temperature=1, top_p=0)))

    assert encode_line(decode_line(line)) == line


@given(st.lists(entries().filter(lambda entry: not isinstance(entry, UnknownEntry)), min_size=1, max_size=3))
def test_the_framing_keys_are_no_part_of_an_entry(found: list[LogEntry]) -> None:
    """What was appended as a batch or under a token is read as what was given."""
    lines = mark([encode_line(entry) for entry in found], "token-1")

    assert [decode_line(line) for line in lines] == found


@given(later_objects())
def test_the_framing_keys_are_no_part_of_an_entry_of_a_later_kind(later: tuple[str, bytes]) -> None:
    """What is read from a batch can be appended again elsewhere: the old marks do not come along."""
    entry = UnknownEntry(kind=later[0], raw=later[1])

    assert decode_line(mark([encode_line(entry)] * 2, "token-1")[0]) == entry
    assert decode_line(mark([encode_line(entry)] * 2, "token-1")[1]) == entry


@given(entries())
def test_the_fast_and_the_tolerant_reader_agree(entry: LogEntry) -> None:
    """Reading field by field gives what the typed decoder gives, where that can read the line at all."""
    line = encode_line(entry)

    assert tolerant.decode(line) == entry
    fast = decode_plain_lines(line + b"\n")
    if fast is None:
        assert b"\\u" in line or isinstance(entry, UnknownEntry) or b"Unknown(" in repr(entry).encode()
    else:
        assert fast == [entry]


# ── what later writers add ─────────────────────────────────────────────────────────────────────────────────────────

PLACES: dict[str, Callable[[Unknown], LogEntry]] = {
    "item": lambda it: AssistantItem(ts=1, item=it),
    "result": lambda it: ToolResultEntry(ts=1, item=it),
    "system item": lambda it: SystemItemEntry(ts=1, item=it),
    "history": lambda it: SegmentStart(ts=1, session_id="s", config=CONFIG, history=(Message.user("a"), it)),
    "content part": lambda it: AssistantItem(ts=1, item=Message("assistant", (Text("a"), it, Text("b")))),
    "attachment": lambda it: ToolResultEntry(ts=1, item=ToolResult("c", "s", attachments=(it, it))),
    "input": lambda it: UserInput(ts=1, segments=(TextInput("a"), it)),
    "carried input": lambda it: SegmentStart(
        ts=1, session_id="s", config=CONFIG, history=(), carried=Carried(user_segments=((), (it,)))
    ),
    "pod event": lambda it: SystemItemEntry(ts=1, item=PodEvent(it, "body")),
    "worker event": lambda it: SystemItemEntry(ts=1, item=WorkerEvent(it, "body")),
}


@pytest.mark.parametrize("place", PLACES)
@given(later=later_objects())
@example(later=("x", b'{"a":1.50,"kind":"x","b":[1,  2],"c":"\\u00e9","n":123456789012345678901234567890}'))
def test_a_variant_of_a_later_kind_is_kept_byte_for_byte(place: str, later: tuple[str, bytes]) -> None:
    """F5: wherever a tagged value can stand, one that we do not know comes back as the bytes it was."""
    entry = PLACES[place](Unknown(*later))

    line = encode_line(entry)

    assert later[1] in line
    assert decode_line(line) == entry
    assert encode_line(decode_line(line)) == line


@pytest.mark.parametrize("place", PLACES)
def test_a_variant_of_a_later_kind_with_a_lone_surrogate_is_kept_byte_for_byte(place: str) -> None:
    """F5, F18: also with something in it that UTF-8 cannot say; the spelling of its numbers is kept, too."""
    entry = PLACES[place](Unknown("x", b'{"kind":"x","text":"\\ud83d", "n":1.50,"\\udfff":[ 0 ]}'))

    line = encode_line(entry)

    assert decode_line(line) == entry
    assert encode_line(decode_line(line)) == line


@given(later_objects())
def test_an_entry_of_a_later_kind_is_kept_byte_for_byte(later: tuple[str, bytes]) -> None:
    """F5: it is neither refused nor changed."""
    kind, raw = later

    assert decode_line(raw) == UnknownEntry(kind=kind, raw=raw)
    assert encode_line(UnknownEntry(kind=kind, raw=raw)) == raw


@pytest.mark.parametrize("field", ["trigger", "result", "role", "permission"])
def test_a_later_value_of_an_enumeration_is_text(field: str) -> None:
    """Enumerations of the format are open: a later writer's value is read as it is."""
    lines = {
        "trigger": b'{"kind":"invoke","ts":1,"trigger":"telepathy"}',
        "result": b'{"kind":"run_completed","ts":1,"interrupted":false,"result":"telepathy"}',
        "role": b'{"kind":"assistant_item","ts":1,"item":{"kind":"message","role":"telepathy","content":[]}}',
        "permission": b'{"kind":"system_item","ts":1,"item":{"kind":"pod_event","event":{"kind":"scope_sub_delegated",'
        b'"sub_socket":"s","scope":[{"target":"t","permission":"telepathy","recursive":true}]},"body":"b"}}',
    }

    assert encode_line(decode_line(lines[field])) == lines[field]


def _with_more_keys(value: Any, more: Any) -> Any:
    """Add a key to every object whose keys are ours to know."""
    if isinstance(value, list):
        return [_with_more_keys(inner, more) for inner in value]
    if not isinstance(value, dict):
        return value
    kept = {key: inner if key == "payload" else _with_more_keys(inner, more) for key, inner in value.items()}
    return {"zz_before": more, **kept, "zz_later": more}


@given(entries(), plain_payloads())
def test_keys_of_later_writers_are_ignored_at_every_level(entry: LogEntry, more: Any) -> None:
    """An additional key, whatever its value, in any object of ours never fails and never changes what is read."""
    assume("Unknown(" not in repr(entry) and "msgspec.Raw" not in repr(entry) and not isinstance(entry, UnknownEntry))
    grown = _with_more_keys(json.loads(encode_line(entry)), more)

    assert decode_line(json.dumps(grown, ensure_ascii=False).encode("utf-8", "backslashreplace")) == entry
    assert decode_line(json.dumps(grown, ensure_ascii=True, indent=None).encode()) == entry
