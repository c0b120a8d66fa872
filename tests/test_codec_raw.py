"""Raw JSON from a caller is what it says, or refused: it must not change the line around it."""

from typing import Any

import msgspec
import pytest

from session_log import (
    AssistantItem,
    Carried,
    Extension,
    FsStore,
    InvalidEntry,
    LogEntry,
    Message,
    PodEvent,
    RequestConfig,
    SegmentStart,
    SegmentWriter,
    SessionExtension,
    SystemItemEntry,
    ToolCall,
    Unknown,
    UnknownEntry,
    UserInput,
    encode_line,
)


def refused(entry: Any) -> InvalidEntry:
    """Return the error for an entry that must not encode."""
    with pytest.raises(InvalidEntry) as caught:
        encode_line(entry)
    return caught.value


NO_OBJECT = [b"", b"junk", b"5", b"[]", b"null", b'{"kind":"y"}', b'{"kind":5}', b'{"a":1}', b'{"kind":"x"', b"\xff"]
NOT_ONE_LINE = [b'{"kind":"x"}\n', b'{"kind":\n"x"}', b'\n{"kind":"x"}', b'{"kind":"x"}\r\n']
INJECTED = [b'{"kind":"x"},"ts":7', b'{"kind":"x"},"batch":3', b'{"kind":"x"}}\n{"kind":"y"', b' {"kind":"x"}']


@pytest.mark.parametrize("raw", NO_OBJECT + NOT_ONE_LINE + INJECTED + [None, "x", 5], ids=repr)
def test_an_unknown_variant_is_raw_json_of_its_kind_on_one_line(raw: Any) -> None:
    """Anything else in its bytes would change the line around it, or make two of it."""
    assert refused(AssistantItem(ts=1, item=Unknown("x", raw))).reason
    assert refused(SystemItemEntry(ts=1, item=PodEvent(Unknown("x", raw), "b"))).reason


@pytest.mark.parametrize("kind", ["message", "tool_call", "reasoning"])
def test_an_unknown_variant_is_of_no_known_kind(kind: str) -> None:
    """It would come back as that kind."""
    known = {"message": Message.user("a"), "tool_call": ToolCall("a", "b", "c")}.get(kind)
    raw = msgspec.json.encode(known) if known is not None else b'{"kind":"reasoning","text":"a"}'

    assert refused(AssistantItem(ts=1, item=Unknown(kind, raw))).path == "$.item"


@pytest.mark.parametrize("raw", [*NO_OBJECT, *NOT_ONE_LINE, b'{"kind":"x","n":NaN}', None, "x", 5], ids=repr)
def test_an_unknown_entry_is_one_line_of_its_kind(raw: Any) -> None:
    """Its bytes are the line: paths in it are paths in the entry."""
    assert refused(UnknownEntry(kind="x", raw=raw)).path in ("$.raw", "$", "$.kind")
    assert refused(UnknownEntry(kind=5, raw=b'{"kind":"x"}')).path in ("$.raw", "$.kind")  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", [b'"batch":2', b'"batch":0', b'"token":"t"', b'"batch":3,"token":"t"'])
def test_an_unknown_entry_brings_no_framing_keys(mark: bytes) -> None:
    """They say how a line was appended; given by a caller, they would uncommit it, or the lines behind it."""
    assert refused(UnknownEntry(kind="x", raw=b'{"kind":"x",%b}' % mark)).path == "$.raw"
    assert refused(UnknownEntry(kind="x", raw=b'{%b,"kind":"x"}' % mark)).path == "$.raw"


@pytest.mark.parametrize("raw", [b"junk", b"", b"NaN", b"1 2", b"[1,\n2]", b'1,"batch":7', b'1,"ts":7', b"\xff"])
def test_a_payload_of_raw_json_is_one_value_on_one_line(raw: bytes) -> None:
    """``msgspec.Raw`` is taken as it is, so it must be what it says."""
    payload = msgspec.Raw(raw)
    own = (SessionExtension("d", payload),)
    start = SegmentStart(ts=1, session_id="s", config=RequestConfig(), history=(), carried=Carried(extensions=own))

    assert refused(Extension(ts=1, domain="d", payload=payload)).path == "$.payload"
    assert refused(UserInput(ts=1, segments=(), extensions=own)).path == "$.extensions[0].payload"
    assert refused(start).path == "$.carried.extensions[0].payload"


@pytest.mark.parametrize(
    "entry",
    [
        SystemItemEntry(ts=1, item=Unknown("x", b'{"kind":"x","body":"\xff"}')),
        SystemItemEntry(ts=1, item=Unknown("x", b'{"kind":"x","n":%b}' % (b"9" * 5_000))),
        AssistantItem(ts=1, item=Unknown("x", b'{"kind":\n"x"}')),
        UnknownEntry(kind="x", raw=b'{"kind":"x","batch":2}'),
    ],
    ids=["not utf-8", "large number", "newline", "batch mark"],
)
def test_what_an_append_acknowledged_restores(tmp_path: Any, entry: LogEntry) -> None:
    """An entry is refused before it is written, or it can be restored: raw bytes of unknown kinds are no exception."""
    with FsStore(tmp_path) as store, SegmentWriter.create(store) as writer:
        try:
            length = writer.append(entry)
        except InvalidEntry:
            length = 1
        state = writer.state

        again = SegmentWriter.resume(store, writer.session_id, writer.segment_id)

        assert again.head.entries == length == state.entries_count
        assert again.state.history == state.history
