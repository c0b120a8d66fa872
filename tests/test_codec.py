"""The laws of the codec: an entry becomes one line, and that line becomes the same entry again."""

import dataclasses
import datetime
import enum
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from session_log import (
    AssistantItem,
    Carried,
    ConfigChanged,
    Errored,
    Extension,
    Invoke,
    LogEntry,
    Message,
    PodEvent,
    RequestConfig,
    RunErrored,
    SegmentStart,
    SessionExtension,
    SystemItemEntry,
    Text,
    TextInput,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TraceEntry,
    TurnEnd,
    Unknown,
    UnknownEntry,
    UserInput,
    WorkerEvent,
    decode_line,
    encode_line,
)
from session_log import _tolerant as tolerant
from session_log._codec import decode_plain_lines, prepare
from session_log._frame import mark
from session_log._trace import decode_trace, encode_trace
from strategies import entries, later_objects, payloads, plain_payloads, texts, trace_entries

CONFIG = RequestConfig()


def same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are deep-equal, the types of numbers and the order of keys included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


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


@given(trace_entries())
def test_a_trace_entry_comes_back_from_its_line(entry: TraceEntry) -> None:
    """Stream events and markers, with any payload, keep every value and its type."""
    line = encode_trace(entry)
    found = decode_trace(line)

    assert found == entry
    assert same(found.event, entry.event) and same(found.data, entry.data)
    assert encode_trace(found) == line
    assert b"\n" not in line and b"\0" not in line


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
    assume("Unknown(" not in repr(entry) and not isinstance(entry, UnknownEntry))
    grown = _with_more_keys(json.loads(encode_line(entry)), more)

    assert decode_line(json.dumps(grown, ensure_ascii=False).encode("utf-8", "backslashreplace")) == entry
    assert decode_line(json.dumps(grown, ensure_ascii=True, indent=None).encode()) == entry


# ── payloads ───────────────────────────────────────────────────────────────────────────────────────────────────────


@given(payloads())
@example([2**63, 2**64, 2**200, -(2**63) - 1, 1e300, -0.0, 0.1, True, 1, 1.0])
@example({"\ud83d": "\ude42", "": [], "a\udfff": {}})
def test_a_payload_comes_back_deep_equal(payload: Any) -> None:
    """F18: any JSON value, integers beyond 64 bits and lone surrogates too, in every place that holds a payload."""
    own = SessionExtension("d", payload)
    places: list[LogEntry] = [
        Extension(ts=1, domain="d", payload=payload),
        UserInput(ts=1, segments=(), extensions=(own,)),
        SegmentStart(ts=1, session_id="s", config=CONFIG, history=(), carried=Carried(extensions=(own,))),
    ]

    found: list[Any] = [decode_line(encode_line(entry)) for entry in places]

    assert same(_as_read(payload), found[0].payload)
    assert same(_as_read(payload), found[1].extensions[0].payload)
    assert same(_as_read(payload), found[2].carried.extensions[0].payload)


def _as_read(value: Any) -> Any:
    """A surrogate pair given as two halves is the character they spell, in JSON as in UTF-16."""
    if isinstance(value, str):
        return json.loads(json.dumps(value))
    if isinstance(value, dict):
        return {_as_read(key): _as_read(inner) for key, inner in value.items()}
    return [_as_read(inner) for inner in value] if isinstance(value, list) else value


@given(payloads())
def test_what_is_read_shares_nothing_with_what_was_given_or_read_before(payload: Any) -> None:
    """F31: changing a payload after the append, or a read one, never changes what the next read returns."""
    given_in = [{"a": [payload]}]
    before = json.dumps(given_in)
    line, recorded = prepare(Extension(ts=1, domain="d", payload=given_in))
    assert isinstance(recorded, Extension)

    given_in[0]["a"].append("changed")
    given_in.append({})
    recorded.payload[0]["a"].append("changed")
    one, other = decode_line(line), decode_line(line)
    assert isinstance(one, Extension) and isinstance(other, Extension)
    one.payload[0]["a"].clear()

    assert json.dumps(other.payload) == json.dumps(json.loads(before))


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: list[float]


def test_a_payload_may_hold_what_orjson_can_say() -> None:
    """Dataclasses, datetimes, UUIDs, enums and tuples become JSON, once and for all."""
    moment = datetime.datetime(2025, 5, 29, 9, 52, 25, tzinfo=datetime.UTC)
    payload = (Point(1, [0.5]), moment, uuid.UUID(int=7), Colour.RED, {"big": 2**70, "point": Point(2, [])})

    found = decode_line(encode_line(Extension(ts=1, domain="d", payload=payload)))

    assert isinstance(found, Extension)
    assert found.payload == [
        {"x": 1, "y": [0.5]},
        "2025-05-29T09:52:25+00:00",
        "00000000-0000-0000-0000-000000000007",
        "red",
        {"big": 2**70, "point": {"x": 2, "y": []}},
    ]


# ── surrogates in our own text ─────────────────────────────────────────────────────────────────────────────────────

OWN_TEXTS: dict[str, Callable[[str], LogEntry]] = {
    "message": lambda text: AssistantItem(ts=1, item=Message.assistant(text)),
    "arguments": lambda text: AssistantItem(ts=1, item=ToolCall(text, text, text)),
    "result": lambda text: ToolResultEntry(ts=1, item=ToolResult("c", text, text)),
    "input": lambda text: UserInput(ts=1, segments=(TextInput(text),)),
    "nested": lambda text: SystemItemEntry(ts=1, item=PodEvent(Errored(pod_name=text, message=text), text)),
    "error": lambda text: RunErrored(ts=1, interrupted=True, message=text),
    "trigger": lambda text: Invoke(ts=1, trigger=text),
    "domain": lambda text: Extension(ts=1, domain="d" + text, payload=None),
    "idem": lambda text: TurnEnd(ts=1, turn_count=1, idem="i" + text),
    "stop": lambda text: ConfigChanged(ts=1, config=RequestConfig(stop_sequences=(text,), reasoning=text)),
    "prompt": lambda text: SegmentStart(
        ts=1, session_id="s", system_prompt=text, config=CONFIG, history=(Message.user(text),)
    ),
}


@pytest.mark.parametrize("place", OWN_TEXTS)
@given(text=st.text(st.characters(), max_size=5) | texts())
@example(text="\ud83d")
@example(text="a\udfff\ud800b \ud83d\ude42")
def test_a_lone_surrogate_in_our_own_text_becomes_a_replacement_character(place: str, text: str) -> None:
    """F18: a bad byte in a tool's output costs one character, not the turn; pairs are joined, the rest stays."""
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    make = OWN_TEXTS[place]

    line, recorded = prepare(make(text))

    assert recorded == decode_line(line) == make(expected)
    assert encode_line(recorded) == line


@pytest.mark.parametrize("place", OWN_TEXTS)
def test_an_escaped_surrogate_of_another_writer_is_read_as_a_replacement_character(place: str) -> None:
    """JSON can spell what UTF-8 cannot: such a line is read, too."""
    line = encode_line(OWN_TEXTS[place]("MARK"))

    assert decode_line(line.replace(b"MARK", b"a\\ud83d")) == OWN_TEXTS[place]("a\ufffd")
