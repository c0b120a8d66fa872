"""A small validator of the part of JSON Schema that our schemas use; a keyword it does not know is an error."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_SAYING_NOTHING = {"$schema", "$defs", "title", "description", "default"}
_KNOWN = _SAYING_NOTHING | {"$ref", "anyOf", "type", "enum", "not", "items", "properties", "required"}


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> bool:
    """Tell whether a value is as a schema says."""
    root = schema if root is None else root
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    if "$ref" in schema and not is_valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root):
        return False
    if "anyOf" in schema and not any(is_valid(value, option, root) for option in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "not" in schema and is_valid(value, schema["not"], root):
        return False
    if "type" in schema and not _is_of(value, schema["type"]):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(is_valid(inner, schema["items"], root) for inner in value)
    if isinstance(value, dict):
        return all(name in value for name in schema.get("required", ())) and all(
            is_valid(value[name], inner, root) for name, inner in schema.get("properties", {}).items() if name in value
        )
    return True


def _is_of(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
