"""The trace: debugging detail beside a segment, never read by ``restore``."""

import msgspec

from session_log._check import scrub
from session_log._errors import InvalidEntry
from session_log._items import JsonValue
from session_log._payload import from_raw, to_raw


class TraceEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of ``.trace.jsonl``, linked to its ``turn`` and ``llm_call`` (both count from 0).

    ``kind`` is ``stream_event`` (``event``: what the provider sent) or ``lifecycle`` (``label`` and ``data``).
    """

    ts: int
    turn: int
    llm_call: int | None = None
    kind: str
    event: JsonValue = msgspec.UNSET
    label: str | None = None
    data: JsonValue = None

    @classmethod
    def stream_event(cls, *, ts: int, turn: int, llm_call: int, event: JsonValue) -> "TraceEntry":
        """Return the record of one event of a provider's stream."""
        return cls(ts=ts, turn=turn, llm_call=llm_call, kind="stream_event", event=event)

    @classmethod
    def lifecycle(
        cls, *, ts: int, turn: int, label: str, llm_call: int | None = None, data: JsonValue = None
    ) -> "TraceEntry":
        """Return a marker such as ``request_start``."""
        return cls(ts=ts, turn=turn, llm_call=llm_call, kind="lifecycle", label=label, data=data)


def encode_trace(entry: TraceEntry) -> bytes:
    """Return the line of a trace entry, without its newline.

    Raises:
        InvalidEntry: it would not read back the same.
    """
    if not isinstance(entry, TraceEntry):
        raise InvalidEntry("$", f"{type(entry).__name__} is no TraceEntry")
    changes: dict[str, JsonValue] = {}
    if isinstance(entry.label, str):
        changes["label"] = scrub(entry.label)
    if entry.event is not msgspec.UNSET:
        changes["event"] = to_raw(entry.event, "$.event")
    if entry.data is not None:
        changes["data"] = to_raw(entry.data, "$.data")
    try:
        line = msgspec.json.encode(msgspec.structs.replace(entry, **changes))
    except (TypeError, ValueError) as exc:
        raise InvalidEntry("$", f"is no trace entry ({exc})") from None
    decode_trace(line)
    return line


def decode_trace(line: bytes) -> TraceEntry:
    """Return the trace entry of a line.

    Raises:
        InvalidEntry: it is none.
    """
    try:
        return msgspec.json.decode(line, type=TraceEntry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        value = from_raw(line)
        return msgspec.convert(value, TraceEntry)
    except (ValueError, msgspec.ValidationError, RecursionError) as exc:
        raise InvalidEntry("$", f"is no trace entry ({exc})") from None
