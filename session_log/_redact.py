"""Which texts of an entry a redaction sees, decided field by field, and the walk that shows them to it. Pure.

Seen is what people, models, tools and programs say. Not seen is what the log or a provider needs back as it was: ids,
kinds, names of models, tools and pods, hashes, opaque blocks of a provider, images, and what a pod may touch (a rule
that reads otherwise permits otherwise). A field without a decision is an error, in the tests and here.
"""

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from session_log import _entries as e
from session_log import _inputs as i
from session_log import _items as m
from session_log import _system_items as s
from session_log._errors import CallerError, RedactionFailed
from session_log._json_text import changed_in_json
from session_log._payload import from_raw, to_raw
from session_log._trace import TraceEntry

T = TypeVar("T")
Redact: TypeAlias = Callable[[str], str]
"""From a text to what of it may be on file. It may have a method ``member(key, text)``, for the members of objects."""
Whole: TypeAlias = Callable[[Any, Callable[[Any], Any]], Any]
"""From a value that refers to blobs, and what redacts one that does not, to the value that is to be on file."""
Decision: TypeAlias = Literal["kept", "text", "json", "payload", "within", "raw"]
"""``json``: a text that is JSON, if it is; ``payload``: any JSON value; ``within``: structs; ``raw``: JSON of ours."""


def _fields(**decided: str) -> dict[str, Decision]:
    return {name: decision for decision, names in decided.items() for name in names.split()}  # type: ignore[misc]


_HEAD: Final = "ts idem"
_TOKENS: Final = "history_len input_total_tokens cache_read_tokens cache_write_tokens output_tokens"
_USAGE: Final = f"{_TOKENS} model source reasoning_tokens latency_ms node_id"
DECISIONS: Final[dict[type[Any], dict[str, Decision]]] = {
    e.SegmentStart: _fields(
        kept=f"{_HEAD} session_id forked_from compacted_from turn_count v detached",
        text="system_prompt",
        within="config history carried",
    ),
    e.Invoke: _fields(kept=f"{_HEAD} trigger"),
    e.UserInput: _fields(kept=_HEAD, within="segments extensions"),
    e.AssistantItem: _fields(kept=_HEAD, within="item"),
    e.ToolResultEntry: _fields(kept=_HEAD, within="item"),
    e.SystemItemEntry: _fields(kept=_HEAD, within="item"),
    e.TurnEnd: _fields(kept=f"{_HEAD} turn_count chain"),
    e.RunCompleted: _fields(kept=f"{_HEAD} interrupted result"),
    e.RunErrored: _fields(kept=f"{_HEAD} interrupted", text="message"),
    e.PausedTurnAbandoned: _fields(kept=_HEAD),
    e.ConfigChanged: _fields(kept=_HEAD, within="config"),
    e.LlmUsage: _fields(kept=f"{_HEAD} {_USAGE}"),
    e.Extension: _fields(kept=f"{_HEAD} domain", payload="payload"),
    e.UnknownEntry: _fields(kept="kind", raw="raw"),
    e.RequestConfig: _fields(kept="max_tokens temperature top_p top_k reasoning", text="stop_sequences"),
    e.Carried: _fields(
        kept="interrupted usage usage_before_compaction extensions_before_compaction",
        within="user_segments extensions idem",
        raw="unknown",
    ),
    e.CarriedKey: _fields(kept="key content"),
    e.SessionExtension: _fields(kept="domain", payload="payload"),
    m.Message: _fields(kept="role", within="content"),
    m.Text: _fields(kept="text_blobs", text="text"),
    m.Refusal: _fields(text="refusal"),
    m.ToolCall: _fields(kept="call_id name", json="arguments"),
    m.ToolResult: _fields(kept="call_id is_error content_blob", text="summary content", within="attachments"),
    m.Attachment: _fields(kept="mime_type data data_blob"),
    m.Reasoning: _fields(kept="encrypted_content signature", text="text summary"),
    m.Unknown: _fields(kept="kind", raw="raw"),
    i.TextInput: _fields(kept="content_blob", text="content"),
    i.PasteInput: _fields(kept="id chars lines content_blob", text="content"),
    i.FileRef: _fields(text="path"),
    i.KnowledgeRef: _fields(text="slug"),
    i.WorkflowInvoke: _fields(text="slug"),
    i.FlowInvoke: _fields(text="selector"),
    i.UnknownInput: {},
    s.Notification: _fields(kept="prompt_provenance", text="message body"),
    s.PodEvent: _fields(text="body", within="event"),
    s.WorkerEvent: _fields(text="body", within="event"),
    s.FileAttachment: _fields(kept="body_blob", text="path body"),
    s.Knowledge: _fields(text="slug body"),
    s.Workflow: _fields(text="slug body"),
    s.TaskReminder: _fields(kept="source", text="body"),
    s.Interrupt: _fields(text="body"),
    s.SkillActivation: _fields(kept="name", text="body"),
    s.TurnEnded: _fields(kept="pod_name worker_name"),
    s.Errored: _fields(kept="pod_name worker_name", text="message"),
    s.ShutDown: _fields(kept="pod_name worker_name"),
    s.ScopeSubDelegated: _fields(kept="parent_pod sub_pod parent_worker sub_worker sub_socket scope"),
    TraceEntry: _fields(kept="ts turn llm_call kind", text="label", payload="event data"),
}
"""The decision for every field of everything that a segment or a trace holds."""
IN_BLOBS: Final[dict[type[Any], tuple[str, str]]] = {
    m.Text: ("text", "text_blobs"),
    m.ToolResult: ("content", "content_blob"),
    i.TextInput: ("content", "content_blob"),
    i.PasteInput: ("content", "content_blob"),
    s.FileAttachment: ("body", "body_blob"),
}
"""The texts that may be in a blob, whole, and what refers to it."""
LATER_KEPT: Final = frozenset(
    ("kind", "call_id", "encrypted_content", "signature", "role", "name", "mime_type", "idem")
)
"""Members of values of later kinds that are not seen; their other texts are, as nobody knows what they mean."""
_REFERENCE: Final = re.compile(r"[0-9a-f]{64}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""What the library's own extensions refer to something by: hashes and ids."""


class Redaction:
    """A stage of a writer: shows the texts of what it is given to a hook. Safe for threads."""

    def __init__(self, redact: Redact, whole: Whole | None = None) -> None:
        if not callable(redact):
            raise CallerError(f"redact={redact!r:.80}: is no function from text to text")
        self._redact = redact
        self._whole = whole

    def __call__(self, value: T) -> T:
        """Return an entry (of a segment, or a trace) of which the hook has seen every text.

        Raises:
            RedactionFailed: the hook raised, returned no text, or recorded into its own writer.
        """
        self._refuse_to_nest()
        return redacted(value, self._redact, self._whole)

    def _refuse_to_nest(self) -> None:
        # Frames, and not a flag: nothing an interrupt could leave behind.
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code is _CALL and frame.f_locals.get("self") is self:
                raise RedactionFailed("$", "recorded into the writer that it redacts for; record elsewhere, or later")
            frame = frame.f_back


_CALL: Final = Redaction.__call__.__code__


def redacted(value: T, redact: Redact, whole: Whole | None = None) -> T:
    """Return an entry, item or trace entry whose texts went through ``redact``; payloads become raw JSON.

    Of a text that is in a blob ``redact`` sees what ``whole`` gets of it; without that, what stands in the line, and if
    it changes that, the reference goes.

    Raises:
        RedactionFailed: ``redact`` raised, or returned no text. InvalidEntry: a payload is no JSON value.
    """
    found: T = _Walk(redact, whole).within(value, "$")
    return found


def unreferenced(before: T, after: T) -> T:
    """Return a redacted value that refers to the blob of its text only if that text is as before."""
    text, reference = IN_BLOBS[type(before)]
    if getattr(after, text) == getattr(before, text):
        return after
    return _replace(after, {reference: () if isinstance(before, m.Text) else None})  # type: ignore[no-any-return]


class _Walk:
    def __init__(self, redact: Redact, whole: Whole | None) -> None:
        self._redact = redact
        self._whole = whole or (lambda value, seen: unreferenced(value, seen(value)))
        self._member: Callable[[str, str], str] | None = getattr(redact, "member", None)

    def within(self, value: Any, path: str) -> Any:
        """Return a struct with its fields redacted, or a tuple of such; what is none of ours is refused elsewhere."""
        if isinstance(value, (tuple, list)):
            return self._each(value, path, self.within)
        decisions = DECISIONS.get(type(value))
        if decisions is None:
            return value
        if type(value) in IN_BLOBS and getattr(value, IN_BLOBS[type(value)][1]):
            return self._whole(value, lambda found: self._struct(found, decisions, path))
        return self._struct(value, decisions, path)

    def _struct(self, value: Any, decisions: dict[str, Decision], path: str) -> Any:
        changes = {}
        for name, decision in decisions.items():
            if decision == "kept":
                continue
            before = getattr(value, name)
            if decision == "payload":
                after = self._payload(value, before, f"{path}.{name}")
            else:
                after = _VISITS[decision](self, before, f"{path}.{name}")
            if after is not before:
                changes[name] = after
        if not changes:
            return value
        return m.Unknown(value.kind, changes["raw"]) if isinstance(value, m.Unknown) else _replace(value, changes)

    def _each(self, values: "tuple[Any, ...] | list[Any]", path: str, visit: Callable[[Any, str], Any]) -> Any:
        found = tuple(visit(value, f"{path}[{at}]") for at, value in enumerate(values))
        return values if all(one is other for one, other in zip(found, values, strict=True)) else found

    def text(self, value: Any, path: str) -> Any:
        """Return a text, or each of several, as the hook leaves it; anything else as it is."""
        if isinstance(value, (tuple, list)):
            return self._each(value, path, self.text)
        return self._seen(value, path) if isinstance(value, str) else value

    def json(self, value: Any, path: str) -> Any:
        """Redact inside a JSON text, so that it stays one; a text that is none (a model broke off) as any other."""
        if not isinstance(value, str):
            return value
        if not _is_json(value.encode("utf-8", "surrogatepass")):
            return self._seen(value, path)
        return self._in_json(value, path, keep=None)

    def raw(self, value: Any, path: str) -> Any:
        """Redact what is of a later kind, or the lines that are: the names at the top are the format's."""
        if isinstance(value, tuple):
            return self._each(value, path, self.raw)
        if not isinstance(value, (bytes, msgspec.Raw)) or not _is_json(bytes(value)):
            return value  # refused elsewhere
        text = bytes(value).decode()
        found = self._in_json(text, path, keep=LATER_KEPT)
        return value if found is text else type(value)(found.encode())

    def _payload(self, owner: Any, value: Any, path: str) -> Any:
        """Redact a payload as it will be written: what was seen is what is on file."""
        domain = getattr(owner, "domain", None)
        if value is None or value is msgspec.UNSET or domain == e.POD_SCOPE_DOMAIN:
            return value
        text = bytes(to_raw(value, path)).decode()
        own = isinstance(domain, str) and domain.startswith("session_log.")
        return msgspec.Raw(self._in_json(text, path, keep=None, references=own).encode())

    def _in_json(self, text: str, path: str, *, keep: frozenset[str] | None, references: bool = False) -> str:
        def key(depth: int, name: str) -> str:
            return name if keep is not None and depth == 1 else self._seen(name, path)

        def value(depth: int, name: str | None, found: str) -> str:
            if keep is not None and depth == 1 and name in keep:
                return found
            if references and _REFERENCE.fullmatch(found):
                return found
            return self._seen(found, f"{path}.{name}" if name is not None else path, name)

        return changed_in_json(text, key, value)

    def _seen(self, text: str, path: str, name: str | None = None) -> str:
        """Ask the hook. Its errors are told without the text, which is what must not get anywhere."""
        try:
            found = self._redact(text) if name is None or self._member is None else self._member(name, text)
        except RedactionFailed:
            raise
        except Exception as exc:
            raise RedactionFailed(path[:200], f"raised {type(exc).__name__}") from exc
        if not isinstance(found, str):
            raise RedactionFailed(path[:200], f"returned a {type(found).__name__}, and no text")
        if found == text:
            return text
        return found if type(found) is str else str.__str__(found)


_VISITS: Final[dict[str, Callable[[_Walk, Any, str], Any]]] = {
    "text": _Walk.text,
    "json": _Walk.json,
    "within": _Walk.within,
    "raw": _Walk.raw,
}


def _replace(value: Any, changes: dict[str, Any]) -> Any:
    return msgspec.structs.replace(value, **changes)


def _is_json(data: bytes) -> bool:
    try:
        from_raw(data)
    except ValueError:
        return False
    return True
