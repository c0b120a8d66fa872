"""What the codec refuses: values that would not read back the same, and bytes that are no entry. Nothing else."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from session_log import (
    MAX_LINE_BYTES,
    MAX_PAYLOAD_DEPTH,
    AssistantItem,
    Carried,
    ConfigChanged,
    Extension,
    InvalidEntry,
    LogEntry,
    Message,
    RequestConfig,
    SegmentStart,
    SessionExtension,
    Text,
    TraceEntry,
    TurnEnd,
    UnknownEntry,
    UserInput,
    decode_line,
    encode_line,
)
from session_log._codec import prepare
from session_log._entries import Entry
from session_log._trace import decode_trace, encode_trace
from strategies import entries

CONFIG = RequestConfig()


def refused(entry: Any) -> InvalidEntry:
    """Return the error for an entry that must not encode."""
    with pytest.raises(InvalidEntry) as caught:
        encode_line(entry)
    return caught.value


# ── payloads that JSON cannot say ──────────────────────────────────────────────────────────────────────────────────

WRAPPERS: dict[str, tuple[Callable[[Any], LogEntry], str]] = {
    "extension": (lambda it: Extension(ts=1, domain="d", payload=it), "$.payload"),
    "user_input": (
        lambda it: UserInput(ts=1, segments=(), extensions=(SessionExtension("a", 1), SessionExtension("d", it))),
        "$.extensions[1].payload",
    ),
    "carried": (
        lambda it: SegmentStart(
            ts=1, session_id="s", config=CONFIG, history=(), carried=Carried(extensions=(SessionExtension("d", it),))
        ),
        "$.carried.extensions[0].payload",
    ),
}
CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})
UNSAYABLE = {
    "nan": math.nan,
    "infinity": math.inf,
    "-infinity": -math.inf,
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "memoryview": memoryview(b"x"),
    "int key": {1: 2},
    "none key": {None: 2},
    "tuple key": {(): 2},
    "bytes key": {b"a": 2},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("what", UNSAYABLE)
@pytest.mark.parametrize("beside", [0, 2**70, "\ud83d", None], ids=["plain", "large", "surrogate", "null"])
def test_a_payload_that_json_cannot_say_is_refused_by_its_path(wrapper: str, what: str, beside: Any) -> None:
    """NaN, infinity, bytes and keys that are no text: named to the element, on the fast path and on the slow one."""
    make, path = WRAPPERS[wrapper]

    error = refused(make({"beside": beside, "a": [0, {"b": UNSAYABLE[what]}]}))

    assert error.path == path + ".a[1].b"
    assert error.reason


def test_a_not_a_number_inside_an_object_of_python_is_refused() -> None:
    """It must not become null on the way: a dataclass that holds one would not read back the same."""
    import dataclasses

    point = dataclasses.make_dataclass("Point", ["x"])

    for value in (point(math.nan), [point({"a": math.inf})], {"a": point(math.nan), "big": 2**70}):
        assert refused(Extension(ts=1, domain="d", payload=value)).path.startswith("$.payload")


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("value", [{1, 2}, object(), len, 1j], ids=["set", "object", "function", "complex"])
def test_a_payload_of_foreign_objects_is_refused(wrapper: str, value: Any) -> None:
    """What neither JSON nor orjson knows is an error that names the payload."""
    make, path = WRAPPERS[wrapper]

    assert refused(make([value])).path.startswith(path)


def nested(levels: int, *, as_objects: bool) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = {"k": value} if as_objects else [value]
    return value


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("as_objects", [True, False])
def test_payloads_nest_to_a_limit(wrapper: str, as_objects: bool) -> None:
    """MAX_PAYLOAD_DEPTH levels come back; one more, a thousand more, or a cycle is refused, the path named."""
    make, path = WRAPPERS[wrapper]
    too_deep = nested(MAX_PAYLOAD_DEPTH, as_objects=as_objects), nested(5_000, as_objects=as_objects), CYCLE

    for beside in (0, 2**70):
        deepest = make([nested(MAX_PAYLOAD_DEPTH - 1, as_objects=as_objects), beside])
        assert decode_line(encode_line(deepest)) == deepest
        for value in too_deep:
            error = refused(make([value, beside]))
            assert error.path.startswith(f"{path}[0]") and "MAX_PAYLOAD_DEPTH" in error.reason


# ── lines too long ─────────────────────────────────────────────────────────────────────────────────────────────────

LONG: dict[str, Callable[[str], LogEntry]] = {
    "plain": lambda text: AssistantItem(ts=1, item=Message.assistant(text)),
    "checked": lambda text: Extension(ts=1, domain="d", payload=text),
    "later kind": lambda text: UnknownEntry(kind="x", raw=b'{"kind":"x","d":"%b"}' % text.encode()),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_line_has_at_most_max_line_bytes(kind: str) -> None:
    """The longest line comes back; one byte more is refused."""
    fill = MAX_LINE_BYTES - len(encode_line(LONG[kind]("")))
    longest = LONG[kind]("x" * fill)

    assert len(encode_line(longest)) == MAX_LINE_BYTES
    assert str(MAX_LINE_BYTES) in refused(LONG[kind]("x" * (fill + 1))).reason


# ── values of the wrong type ───────────────────────────────────────────────────────────────────────────────────────

WRONG = [None, True, 5, 1.5, math.nan, "x", b"x", [5], ("x",), {"a": 1}, object(), Text("x"), 2**63, -(2**70), {1}]
Put = Callable[[Any], Any]


def places(value: Any, type_: Any, path: str = "$") -> Iterator[tuple[str, Any, Put]]:
    """Yield every place in an entry: its path, its declared type, and how to put another value there."""
    if type_ is not None:
        yield path, type_, lambda new: new
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(type(value)):
            inner_type = None if field.name == "payload" else field.type
            inner = places(getattr(value, field.name), inner_type, f"{path}.{field.name}")
            yield from ((where, kind, _into_field(value, field.name, put)) for where, kind, put in inner)
    elif isinstance(value, tuple) and type_ is not None:
        for at in range(len(value)):
            inner = places(value[at], type_.__args__[0], f"{path}[{at}]")
            yield from ((where, kind, _into_tuple(value, at, put)) for where, kind, put in inner)


def _into_field(value: msgspec.Struct, name: str, put: Put) -> Put:
    return lambda new: msgspec.structs.replace(value, **{name: put(new)})


def _into_tuple(value: tuple[Any, ...], at: int, put: Put) -> Put:
    return lambda new: (*value[:at], put(new), *value[at + 1 :])


def fits(value: Any, type_: Any) -> bool:
    """Tell whether a value of this type could be written and read back."""
    if type(value) is int and type_ != float | None:
        return -(2**63) < value < 2**63 and _converts(value, type_)
    return not (isinstance(value, float) and math.isnan(value)) and _converts(value, type_)


def _converts(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return True


@given(entries(), st.sampled_from(WRONG), st.data())
def test_a_value_of_the_wrong_type_is_refused_by_its_path(entry: LogEntry, wrong: Any, draw: st.DataObject) -> None:
    """In every field of every class, however deep: InvalidEntry names exactly that place."""
    assume(not isinstance(entry, UnknownEntry))
    path, type_, put = draw.draw(st.sampled_from(list(places(entry, None))), label="place")
    assume(not fits(wrong, type_))

    error = refused(put(wrong))

    if isinstance(wrong, (msgspec.Struct, list, tuple)):  # of another union, perhaps tagged as one that belongs here
        assert error.path.startswith(path), (error.reason, put(wrong))
    else:
        assert error.path == path, (error.reason, put(wrong))
    assert str(error) == f"{error.path}: {error.reason}"


@pytest.mark.parametrize("wrong", [5, None, "ab", {"a": 1}, [{"domain": "d", "payload": 1}], object()], ids=repr)
def test_extensions_of_the_wrong_type_are_refused_by_their_path(wrong: Any) -> None:
    """What holds payloads is looked at before the rest; it is refused in the same way."""
    for entry, path in (
        (UserInput(ts=1, segments=(), extensions=wrong), "$.extensions"),
        (
            SegmentStart(ts=1, session_id="s", config=CONFIG, history=(), carried=Carried(extensions=wrong)),
            "$.carried.extensions",
        ),
    ):
        assert refused(entry).path.startswith(path)


@pytest.mark.parametrize("ts", [-1, -(2**63), 2**63])
def test_a_time_is_not_before_1970_and_fits_64_bits(ts: int) -> None:
    """``ts`` is integer milliseconds since 1970, in every kind of entry."""
    for entry in (TurnEnd(ts=ts, turn_count=1), Extension(ts=ts, domain="d", payload=1)):
        assert refused(entry).path == "$.ts"


@pytest.mark.parametrize("value", [None, 5, "x", b"{}", {"kind": "invoke"}, Text("x"), Entry(ts=1), TurnEnd], ids=repr)
def test_what_is_no_entry_is_refused(value: Any) -> None:
    """Whatever stands where an entry belongs, the error is typed."""
    assert refused(value).path == "$"


# ── traces ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", UNSAYABLE)
def test_a_trace_payload_that_json_cannot_say_is_refused_by_its_path(what: str) -> None:
    """The rules of payloads hold for the trace, too."""
    for entry, path in (
        (TraceEntry.stream_event(ts=1, turn=0, llm_call=0, event=[UNSAYABLE[what]]), "$.event[0]"),
        (TraceEntry.lifecycle(ts=1, turn=0, label="x", data={"a": UNSAYABLE[what]}), "$.data.a"),
    ):
        with pytest.raises(InvalidEntry) as caught:
            encode_trace(entry)
        assert caught.value.path == path


@pytest.mark.parametrize("value", [None, {}, TurnEnd(ts=1, turn_count=1)], ids=repr)
def test_what_is_no_trace_entry_is_refused(value: Any) -> None:
    """Whatever stands where a trace entry belongs, the error is typed."""
    with pytest.raises(InvalidEntry, match="no TraceEntry"):
        encode_trace(value)


@pytest.mark.parametrize("field", ["ts", "turn", "llm_call", "kind", "label"])
def test_a_field_of_the_wrong_type_in_a_trace_entry_is_refused(field: str) -> None:
    """It would not read back."""
    entry = TraceEntry(ts=1, turn=0, llm_call=0, kind="lifecycle", label="x")

    with pytest.raises(InvalidEntry):
        encode_trace(msgspec.structs.replace(entry, **{field: [object()]}))


def test_a_lone_surrogate_in_a_label_becomes_a_replacement_character() -> None:
    """F18: the label is our own text."""
    line = encode_trace(TraceEntry.lifecycle(ts=1, turn=0, label="a\ud83d"))

    assert decode_trace(line).label == "a\ufffd"


def test_what_was_prepared_is_what_is_recorded() -> None:
    """F19: the entry that enters a state is the one a reader will get, not the one that was passed."""
    passed = ConfigChanged(ts=1, config=RequestConfig(stop_sequences=["END"]))  # type: ignore[arg-type]

    line, recorded = prepare(passed)

    assert recorded == decode_line(line) == ConfigChanged(ts=1, config=RequestConfig(stop_sequences=("END",)))
