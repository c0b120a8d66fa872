"""Which texts a redaction sees: a decision for every field, and a walk that keeps to it."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

import session_log as sl
from session_log import _blob_ref, _entries, _inputs, _items, _system_items
from session_log._json_text import changed_in_json
from session_log._redact import DECISIONS, LATER_KEPT
from session_log._trace import TraceEntry, encode_trace
from session_log.redaction import RedactionFailed, redacted
from strategies import entries, payloads, trace_entries

FUNCTIONAL = (
    _entries.SegmentOrigin,
    _entries.UsageRecord,
    _system_items.ScopeRule,
    _system_items.PromptProvenance,
    _blob_ref.BlobRef,
    _blob_ref.BlobSpan,
)
"""Structs that are kept as a whole: places, counts, permissions, hashes and what refers by them."""
NOT_ON_FILE = (_items.Tagged, _entries.Entry, _entries.PodScope)
"""Bases, and the typed form of a payload."""


def structs() -> Iterator[type[Any]]:
    """Every struct that the modules of values declare."""
    for module in (_entries, _items, _inputs, _system_items):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__:
                yield value
    yield TraceEntry


def leaves(kind: inspect.Type) -> Iterator[inspect.Type]:
    """What a field may hold, looked into unions and tuples."""
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from leaves(one)
    elif isinstance(kind, inspect.VarTupleType):
        yield from leaves(kind.item_type)
    else:
        yield kind


@pytest.mark.parametrize("struct", sorted(set(structs()) - {*FUNCTIONAL, *NOT_ON_FILE}, key=repr))
def test_every_field_of_everything_on_file_has_a_decision(struct: type[Any]) -> None:
    """A new field is seen by the hook or is not, on purpose: without a decision this fails."""
    assert set(DECISIONS[struct]) == set(struct.__struct_fields__)


def test_nothing_else_has_a_decision() -> None:
    """What is gone from the format is gone from the table; the one class that is no struct is there."""
    assert set(DECISIONS) == set(structs()) - {*FUNCTIONAL, *NOT_ON_FILE} | {_items.Unknown}


@pytest.mark.parametrize("struct", [found for found in DECISIONS if issubclass(found, msgspec.Struct)])
def test_a_decision_fits_the_type_of_its_field(struct: type[Any]) -> None:
    """Texts are seen as texts; nothing with structs in it is kept, but for those that are kept as a whole."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        decision = DECISIONS[struct][field.name]
        held = list(leaves(field.type))
        inner = [one.cls for one in held if isinstance(one, inspect.StructType)]
        if decision in ("text", "json"):
            assert any(isinstance(one, inspect.StrType) for one in held), field.name
        if decision == "kept":
            assert all(cls in FUNCTIONAL for cls in inner), field.name
            assert not any(isinstance(one, (inspect.AnyType, inspect.RawType)) for one in held), field.name
        if decision == "within":
            assert inner and all(cls in DECISIONS for cls in inner), field.name


@given(entries() | trace_entries())
def test_a_hook_that_changes_nothing_changes_nothing(entry: Any) -> None:
    """What went through the walk is written as the same line."""
    encode: Any = encode_trace if isinstance(entry, TraceEntry) else sl.encode_line

    assert encode(redacted(entry, lambda text: text)) == encode(entry)


@given(entries())
def test_what_is_redacted_encodes_and_reads_back(entry: sl.LogEntry) -> None:
    """Whatever a hook makes of the texts, the entry stays one of its kind, with its ids, numbers and order."""
    found = redacted(entry, lambda text: f"<{len(text)}>")
    read = sl.decode_line(sl.encode_line(found))

    assert type(read) is type(entry)
    assert sl.encode_line(redacted(read, lambda _: "x")) == sl.encode_line(redacted(found, lambda _: "x"))


@given(payloads(), st.sampled_from(["[*]", "", '"quoted" \\ \n', "\ud83d"]))
def test_a_payload_keeps_its_shape(payload: Any, mask: str) -> None:
    """Every text and key becomes what the hook says; numbers, order and the number of members stay."""

    def masked(value: Any) -> Any:
        if isinstance(value, str):
            return mask
        if isinstance(value, list):
            return [masked(inner) for inner in value]
        return [masked(inner) for inner in value.values()] if isinstance(value, dict) else value

    def unkeyed(value: Any) -> Any:
        if isinstance(value, list):
            return [unkeyed(inner) for inner in value]
        return [unkeyed(inner) for inner in value.values()] if isinstance(value, dict) else value

    found = redacted(sl.Extension(ts=1, domain="test", payload=payload), lambda _: mask)
    read = sl.decode_line(sl.encode_line(found))
    assert isinstance(read, sl.Extension)
    assert unkeyed(read.payload) == masked(payload)


def test_keys_that_become_the_same_are_numbered() -> None:
    """No member hides another: a reader of the JSON would take the last one."""
    text = '{"ann":1,"bob":2,"x":{"ann":3},"ann":4}'

    assert changed_in_json(text, lambda _, key: "p" if key in ("ann", "bob") else key, lambda *_: "") == (
        '{"p":1,"p (2)":2,"x":{"p":3},"p (3)":4}'
    )


@given(payloads())
def test_json_in_which_nothing_changes_is_the_same_text(payload: Any) -> None:
    """Spaces, escapes and the form of numbers are the writer's own."""
    text = json.dumps(payload, indent=1)

    assert changed_in_json(text, lambda _, key: key, lambda _depth, _name, value: value) is text


def test_tool_arguments_stay_json_and_what_is_none_is_seen_as_text() -> None:
    """Only the texts inside change; arguments that a model broke off are no JSON, and may hold a secret, too."""

    def arguments(text: str) -> str:
        call = redacted(sl.ToolCall("c", "sh", text), lambda found: found.replace("SECRET", 'a "b" \\'))
        return call.arguments

    assert arguments('{ "cmd" : "echo SECRET", "n": 1.50 }') == '{ "cmd" : "echo a \\"b\\" \\\\", "n": 1.50 }'
    assert arguments('{"cmd": "echo SECRET') == '{"cmd": "echo a "b" \\'


def test_what_goes_back_to_a_provider_or_names_something_is_not_seen() -> None:
    """Ids, kinds, names, opaque blocks, images and what a pod may touch stay as they are."""
    scope = {"allow": [{"target": "/t", "permission": "read", "recursive": True}], "deny": []}
    sha = "ab" * 32
    values: list[Any] = [
        sl.AssistantItem(ts=1, idem="k", item=sl.ToolCall("call_1", "sh", "{}")),
        sl.ToolResultEntry(ts=1, item=sl.ToolResult("call_1", "", attachments=(sl.Attachment("image/png", "UE5H"),))),
        sl.AssistantItem(ts=1, item=sl.Reasoning("", (), "opaque", "signed")),
        sl.LlmUsage(
            ts=1, history_len=1, input_total_tokens=1, cache_read_tokens=0, cache_write_tokens=0, output_tokens=1,
            model="m", source="main", node_id="n",
        ),
        sl.TurnEnd(ts=1, turn_count=1, chain=sha),
    ]  # fmt: skip

    for value in values:
        assert redacted(value, lambda text: "x" if text else "") == value
    kept = sl.Extension(ts=1, domain="pod.scope", payload=scope)
    assert redacted(kept, lambda _: "x") is kept
    own = redacted(sl.Extension(ts=1, domain="session_log.blob", payload={"b": [sha, "t"]}), lambda t: t.upper())
    assert bytes(own.payload) == json.dumps({"B": [sha, "T"]}, separators=(",", ":")).encode()


def test_values_of_later_kinds_are_seen_but_for_what_names_them() -> None:
    """Nobody knows what their members mean: a secret in them is one."""
    raw = b'{"kind":"hologram", "call_id":"SECRET","deep":{"kind":"SECRET"},"n":[1,"SECRET"]}'
    entry = sl.UnknownEntry(kind="hologram", raw=raw)

    found = redacted(entry, lambda text: text.replace("SECRET", "x"))
    assert found.raw == b'{"kind":"hologram", "call_id":"SECRET","deep":{"kind":"x"},"n":[1,"x"]}'
    assert sl.decode_line(sl.encode_line(found)) == found
    assert "call_id" in LATER_KEPT
    item = redacted(sl.AssistantItem(ts=1, item=sl.Unknown("hologram", raw)), lambda text: text.replace("SECRET", "x"))
    assert isinstance(item.item, sl.Unknown)
    assert item.item.raw == found.raw


@pytest.mark.parametrize("answer", [None, b"x", 7])
def test_a_hook_that_returns_no_text_is_told_where(answer: Any) -> None:
    """The path names the text; the text itself is in no message."""
    with pytest.raises(RedactionFailed, match=r"^\$\.item\.content\[0\]\.text: the redact= hook returned a ") as caught:
        redacted(sl.AssistantItem(ts=1, item=sl.Message.assistant("SECRET")), lambda _: answer)
    assert "SECRET" not in str(caught.value)


def test_a_text_of_a_class_of_its_own_becomes_a_plain_one() -> None:
    """What a hook returns is written, and read back the same."""

    class Marked(str):
        __slots__ = ()

    found = redacted(sl.RunErrored(ts=1, interrupted=False, message="a"), lambda _: Marked("b"))
    assert type(found.message) is str
    assert sl.decode_line(sl.encode_line(found)) == found
