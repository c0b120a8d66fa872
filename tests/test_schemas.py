"""Schemas: what reads as a line is what the schema allows, whatever later versions add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import session_log as sl
from commands import NOON, SESSION, sample
from schema_check import is_valid
from session_log._trace import encode_trace
from session_log.facts import archive, move_active, set_facts, unarchive
from session_log.pods import PodActiveSegmentRef, PodMetadata, PodSpawnedChild, PodSpawnedScopeRule, encode_pod_metadata
from session_log.schemas import DRAFT, SUBJECTS, Subject, json_schema
from strategies import entries, histories, plain_payloads, trace_entries

VALID = sorted((Path(__file__).parent / "golden" / "valid").glob("*.jsonl"))
SCHEMA = json_schema("segment")
CHANGES = [
    None,
    True,
    5,
    -1.5,
    "x",
    [],
    {},
    [5],
    {"kind": 5},
    {"kind": "later"},
    {"kind": "text"},
    [{"kind": "message"}],
]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_every_golden_line_is_allowed(path: Path) -> None:
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]

    assert lines
    assert [line for line in lines if not is_valid(json.loads(line), SCHEMA)] == []


@settings(max_examples=200)
@given(entries())
def test_every_line_that_is_written_is_allowed(entry: sl.LogEntry) -> None:
    assert is_valid(json.loads(sl.encode_line(entry)), SCHEMA)


@given(trace_entries())
def test_every_line_of_a_trace_is_allowed(entry: sl.TraceEntry) -> None:
    assert is_valid(json.loads(encode_trace(entry)), json_schema("trace"))


@settings(max_examples=400)
@given(st.data())
def test_what_is_allowed_is_what_reads(data: st.DataObject) -> None:
    """A value of another type, a key less, a key more: the schema and the reader say the same of the line.

    But for a missing kind where only one is known: the reader makes do without it, nobody may leave it out.
    """
    line = json.loads(sl.encode_line(data.draw(entries())))
    holder = data.draw(st.sampled_from(list(objects_in(line))))
    name = data.draw(st.sampled_from([*holder, "later_key"]))
    if data.draw(st.booleans()):
        holder.pop(name, None)
    else:
        holder[name] = data.draw(st.sampled_from(CHANGES))
    try:
        sl.decode_line(json.dumps(line).encode())
        reads = True
    except sl.InvalidEntry:
        reads = False

    allowed = is_valid(line, SCHEMA)
    assert allowed is reads or (reads and "kind" not in holder)


def objects_in(value: Any) -> Any:
    """Yield the objects in a line, but for those in what is opaque: there everything is allowed."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name not in ("payload", "unknown"):
                yield from objects_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects_in(inner)


def test_facts_that_are_written_are_allowed(tmp_path: Path) -> None:
    store, schema = sl.FsStore(sample(tmp_path)), json_schema("facts")
    set_facts(store, SESSION, title="x", labels=["a"], custom={"a": [1]}, status="paused", external_key=None)
    move_active(store, SESSION, store.list_segments(SESSION)[0])
    archive(store, SESSION)
    unarchive(store, SESSION)

    lines = (tmp_path / SESSION / "session.jsonl").read_bytes().splitlines()

    assert {json.loads(line)["kind"] for line in lines} == {"session", "set", "point", "archive", "unarchive"}
    assert all(is_valid(json.loads(line), schema) for line in lines)
    wrongs: tuple[dict[str, Any], ...] = ({"title": 5}, {"labels": "a"}, {"custom": []}, {"status": 1})
    for wrong in wrongs:
        assert not is_valid({"kind": "set", "ts": NOON, **wrong}, schema)
    assert is_valid({"kind": "later", "ts": NOON}, schema)


@given(plain_payloads())
def test_metadata_of_pods_that_is_written_is_allowed(snapshot: Any) -> None:
    schema = json_schema("pods")
    child = PodSpawnedChild("kid", "/tmp/s", (PodSpawnedScopeRule("/", "read", recursive=True),), "cb")
    metadata = PodMetadata("pod", PodActiveSegmentRef(SESSION), (child,), snapshot, extra={"later": 1})

    written = json.loads(encode_pod_metadata(metadata))

    assert is_valid(written, schema)
    assert "extra" not in schema["$defs"]["PodMetadata"]["properties"]
    assert not is_valid({**written, "active": {"segment_id": 5}}, schema)


def test_schemas_name_their_draft_and_nothing_that_is_not_there() -> None:
    for subject in SUBJECTS:
        schema = json_schema(subject)
        assert schema["$schema"] == DRAFT
        named = set(json.dumps(schema).split('"#/$defs/')[1:])
        assert {name.partition('"')[0] for name in named} == set(schema["$defs"])
        assert schema == json_schema(subject)
    with pytest.raises(sl.CallerError, match="no schema of that"):
        json_schema("nothing")  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_they_are_schemas(subject: Subject) -> None:
    """Of the draft that they name, says a validator that others wrote; and it says the same of lines."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

    jsonschema.Draft202012Validator.check_schema(json_schema(subject))

    for path in VALID if subject == "segment" else ():
        for line in path.read_bytes().split(b"\n"):
            if line.strip():
                jsonschema.validate(json.loads(line), SCHEMA, cls=jsonschema.Draft202012Validator)


@given(histories(max_turns=1))
def test_the_validator_of_these_tests_says_no(found: list[sl.LogEntry]) -> None:
    """A line without its time is none; or all of the above would hold of a schema that allows everything."""
    for entry in found:
        line = json.loads(sl.encode_line(entry))
        if not isinstance(entry, sl.UnknownEntry):
            del line["ts"]
            assert not is_valid(line, SCHEMA)
