"""What a line says, whether its long texts stand in it or in blobs. Pure.

A text of which a writer may keep but the two ends in the line (:mod:`session_log._spill`) is named by its hash here,
wherever it is. So the same content is the same to writers with another ``max_inline_bytes``, or none.
"""

import hashlib
from typing import Any, Final

MIN_INLINE_BYTES: Final = 1024
"""The least that can be asked to stay in a line: below, what takes the place of a text could be longer than it."""
ATTACHMENT, ATTACHMENT_TEXT = "attachment", "attachment_text"
"""The kinds of an attachment's blob: what its base64 says, or, of a base64 that is not canonical, its letters."""
_REFERENCES: Final = {"content": "content_blob", "body": "body_blob", "data": "data_blob"}
_SPILLED: Final = {"user_input": "segments", "assistant_item": "item", "tool_result": "item", "system_item": "item"}


def without_spilling(said: dict[str, Any]) -> dict[str, Any]:
    """Return the members of an entry's line as they are to be compared."""
    name = _SPILLED.get(said["kind"]) if isinstance(said.get("kind"), str) else None
    return said if name is None or name not in said else {**said, name: _whole(said[name])}


def decoded(data: str) -> bytes | None:
    """Return what the base64 of an attachment says, or None if it is not the canonical one of anything."""
    import base64  # here, because most sessions have no attachments

    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return None
    return content if base64.b64encode(content).decode() == data else None


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if not isinstance(value, dict):
        return value
    said = {name: _named(name, each) for name, each in value.items()}
    for name, reference in _REFERENCES.items():
        if (sha256 := _sha256(value.get(reference))) is not None:
            said[name] = {"sha256": sha256}
            del said[reference]
    spans = value.get("text_blobs")
    if isinstance(spans, list) and len(spans) == 1 and _is_all(spans[0], value.get("text")):
        said["text"] = {"sha256": _sha256(spans[0].get("blob"))}
        del said["text_blobs"]
    return said


def _named(name: str, value: Any) -> Any:
    if not isinstance(value, str) or name not in ("text", *_REFERENCES):
        return _whole(value)
    data = value.encode("utf-8", "surrogatepass")
    if len(data) <= MIN_INLINE_BYTES:
        return value
    content = decoded(value) if name == "data" else None
    return {"sha256": hashlib.sha256(data if content is None else content).hexdigest()}


def _sha256(reference: Any) -> str | None:
    sha256 = reference.get("sha256") if isinstance(reference, dict) else None
    return sha256 if isinstance(sha256, str) else None


def _is_all(span: Any, text: Any) -> bool:
    """Tell whether a span stands for all of a text."""
    if not isinstance(span, dict) or not isinstance(text, str):
        return False
    return (span.get("at"), span.get("chars")) == (0, len(text)) and _sha256(span.get("blob")) is not None
