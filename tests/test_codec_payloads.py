"""Opaque payloads come back deep-equal; our own texts come back as what UTF-8 can say of them."""

import dataclasses
import datetime
import enum
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
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
    TextInput,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TraceEntry,
    TurnEnd,
    UserInput,
    decode_line,
    encode_line,
)
from session_log._codec import prepare
from session_log._trace import decode_trace, encode_trace
from strategies import payloads, texts, trace_entries

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


@given(trace_entries())
def test_a_trace_entry_comes_back_from_its_line(entry: TraceEntry) -> None:
    """Stream events and markers, with any payload, keep every value and its type."""
    line = encode_trace(entry)
    found = decode_trace(line)

    assert found == entry
    assert same(found.event, entry.event) and same(found.data, entry.data)
    assert encode_trace(found) == line
    assert b"\n" not in line and b"\0" not in line


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
