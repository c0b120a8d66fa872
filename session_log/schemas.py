"""Schemas: the lines as JSON Schema (draft 2020-12), generated from the types they are decoded with.

>>> from session_log.schemas import json_schema
>>> schema = json_schema("segment")
>>> sorted(schema["$defs"]["TurnEnd"]["properties"])
['chain', 'idem', 'kind', 'ts', 'turn_count']

A schema allows what a reader must tolerate: unknown keys anywhere, and tagged values of an unknown kind. It is for one
line: what is said of several (batches, forks, the order of time) is in FORMAT.md.
"""

import typing
from typing import Any, Final, Literal

import msgspec

from session_log._entries import KnownEntry
from session_log._errors import CallerError
from session_log._facts import FACT_NAMES, SessionFacts
from session_log._trace import TraceEntry
from session_log.pods import PodMetadata

Subject = Literal["segment", "trace", "facts", "pods"]
SUBJECTS: Final[tuple[Subject, ...]] = ("segment", "trace", "facts", "pods")
"""What there is a schema of: the lines of a segment, a trace, a session's facts; the file of a pod."""
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
"""A schema is foreign JSON: objects of a standard that is not ours."""


class FactLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every line of a session's facts has."""

    ts: int


class SessionLine(FactLine, frozen=True, kw_only=True, tag="session"):
    """The first line of a session's facts; ``ts`` is when the session began."""

    session_id: str
    v: int | None = None


class PointLine(FactLine, frozen=True, kw_only=True, tag="point"):
    """A name stands for a segment from here on; null: no longer."""

    name: str
    segment_id: str | None = None


class ArchiveLine(FactLine, frozen=True, kw_only=True, tag="archive"):
    """The session is archived."""


class UnarchiveLine(FactLine, frozen=True, kw_only=True, tag="unarchive"):
    """The session has the status again that it had before it was archived."""


def json_schema(subject: Subject = "segment") -> Schema:
    """Return the schema of a line of ``subject``, one of :data:`SUBJECTS`; a new object each time.

    Raises:
        CallerError: there is no such subject.
    """
    if subject not in SUBJECTS:
        raise CallerError(f"{subject!r:.200}: there is no schema of that; those are {', '.join(SUBJECTS)}")
    types, said = _types_of(subject)
    (root,), components = msgspec.json.schema_components([types], ref_template="#/$defs/{name}")
    if subject == "pods":  # the keys that are not known stand beside the others in the file
        del components["PodMetadata"]["properties"]["extra"]
    tags = {f"#/$defs/{name}": tag for name, found in components.items() if (tag := _tag_of(found)) is not None}
    definitions = {name: _opened(found, tags) for name, found in components.items()}
    return {"$schema": DRAFT, "title": f"session_log: {said}", **_opened(root, tags), "$defs": definitions}


def _types_of(subject: Subject) -> tuple[Any, str]:
    match subject:
        case "segment":
            return KnownEntry, "a line of a segment"
        case "trace":
            return TraceEntry, "a line of a trace"
        case "facts":
            return SessionLine | _set_line() | PointLine | ArchiveLine | UnarchiveLine, "a line of a session's facts"
        case "pods":
            return PodMetadata, "the file of a pod"
        case _:
            typing.assert_never(subject)


def _set_line() -> Any:
    """Return the type of a line that sets facts: any of them, each of the type it has, or null."""
    types = typing.get_type_hints(SessionFacts)
    fields = [(name, types[name] | None, None) for name in sorted(FACT_NAMES)]
    namespace = {"__doc__": "Facts that change; null brings the default back."}
    return msgspec.defstruct(
        "SetLine", fields, bases=(FactLine,), tag="set", frozen=True, kw_only=True, namespace=namespace
    )


def _tag_of(component: Schema) -> str | None:
    """Return the tag of a component, if it is a tagged type."""
    kind = component.get("properties", {}).get("kind", {}).get("enum", ())
    return str(kind[0]) if len(kind) == 1 else None


def _opened(schema: Schema, tags: dict[str, str]) -> Schema:
    """Return a schema in which every tagged value may also be of a kind that is not known yet."""
    if schema.get("$ref") in tags:
        return _tolerant([schema], tags)
    if "anyOf" in schema:
        options = schema["anyOf"]
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "discriminator")}
        if any(option.get("$ref") in tags for option in options):
            return {**_tolerant(options, tags), **rest}
        return {**rest, "anyOf": [_opened(option, tags) for option in options]}
    opened = dict(schema)
    if "description" in opened:
        opened["description"] = " ".join(opened["description"].split())
    if isinstance(opened.get("items"), dict):
        opened["items"] = _opened(opened["items"], tags)
    if "properties" in opened:
        opened["properties"] = {name: _opened(value, tags) for name, value in opened["properties"].items()}
    return opened


def _tolerant(options: list[Schema], tags: dict[str, str]) -> Schema:
    known = [tags[option["$ref"]] for option in options if option.get("$ref") in tags]
    later = {
        "title": "Unknown",
        "description": "A kind that this version does not know; it is kept as it is.",
        "type": "object",
        "properties": {"kind": {"type": "string", "not": {"enum": known}}},
        "required": ["kind"],
    }
    return {"anyOf": [*options, later]}
