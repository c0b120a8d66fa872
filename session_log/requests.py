"""Requests to models: what was sent and came back, how long it took, and what it cost in tokens, in the trace.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.requests import RequestLog, list_requests, read_prompt
>>> store = MemoryStore()
>>> with SegmentWriter.create(store, trace=True) as writer:
...     log = RequestLog(writer)
...     prompt = [{"role": "user", "content": "hello"}]
...     _ = log.record("m-1", prompt, {"text": "hi"}, latency_ms=812, input_tokens=9, output_tokens=1)
>>> found = list_requests(store, writer.session_id)
>>> read_prompt(store, found.requests[0]), found.summary().p95_latency_ms
([{'role': 'user', 'content': 'hello'}], 812)

The rules:

1. A request is a ``lifecycle`` marker of the trace, so every reader of traces reads on, and ``restore`` never sees it.
   A log behind a writer records only if the writer traces; one that was opened on a segment always does.
2. A prompt that begins as one of the last requests did is not stored again: its marker says which, and how many
   messages of it, and holds what is new; blobs refer to nothing. After MAX_PREFIX_DEPTH such steps it is stored whole.
3. References stay within one trace. A log that is opened again looks there for what it can go on from; in another
   segment, or if the trace is longer than MAX_LOOK_BACK_BYTES, the first prompt is stored whole.
4. What a trace could do wrong never stops a run: it is reported as a RuntimeWarning, once, and ``record`` returns None.
"""

import secrets
import threading
import warnings
from collections.abc import Sequence
from typing import Any, overload

import msgspec

from session_log._at_fork import renew_after_fork
from session_log._check import MAX_INTEGER, scrub
from session_log._clock import now_ms
from session_log._codec import encode_struct
from session_log._errors import CallerError, InvalidEntry, SessionLogError
from session_log._ids import parse_id
from session_log._kept import keep, shaped
from session_log._recent_prompts import MAX_LOOK_BACK_BYTES, Recent, RecentPrompts
from session_log._request_lines import (
    MAX_PREFIX_DEPTH,
    REQUEST_LABEL,
    BrokenPrompt,
    Request,
    RequestRecord,
    Requests,
    RequestSummary,
    Totals,
    all_requests,
    by_id,
    messages_of,
    read_requests,
    response_of,
)
from session_log._store import Store
from session_log._trace import TraceEntry, encode_trace
from session_log._writer import SegmentWriter

__all__ = [
    "BrokenPrompt",
    "DEFAULT_INLINE_BYTES",
    "MAX_LOOK_BACK_BYTES",
    "MAX_PREFIX_DEPTH",
    "Request",
    "RequestLog",
    "RequestSummary",
    "Requests",
    "Totals",
    "list_requests",
    "read_prompt",
    "read_response",
]
DEFAULT_INLINE_BYTES = 4096
"""Up to here what is new of a prompt, and a response, stand in the line; what is longer is a blob."""


class RequestLog:
    """Records requests into the trace of a segment. Safe for threads, and for many logs on one trace.

    ``RequestLog(writer)`` follows the writer, into forks and compactions too, and does nothing unless the writer was
    made with ``trace=True``. ``RequestLog(store, session_id, segment_id)`` always records, into that segment's trace.
    """

    @overload
    def __init__(self, writer: SegmentWriter, /, *, max_inline_bytes: int = DEFAULT_INLINE_BYTES) -> None: ...
    @overload
    def __init__(
        self, store: Store, session_id: str, segment_id: str, /, *, max_inline_bytes: int = DEFAULT_INLINE_BYTES
    ) -> None: ...
    def __init__(self, target: Any, /, *ids: str, max_inline_bytes: int = DEFAULT_INLINE_BYTES) -> None:
        if (len(ids) != 0) if isinstance(target, SegmentWriter) else (len(ids) != 2):
            raise CallerError("RequestLog takes a writer, or a store, a session id and a segment id")
        if type(max_inline_bytes) is not int or max_inline_bytes < 0:
            raise CallerError(f"max_inline_bytes={max_inline_bytes!r}: is no number of bytes")
        self._writer = target if isinstance(target, SegmentWriter) else None
        self._store: Store = target._store if isinstance(target, SegmentWriter) else target
        self._place = (parse_id(ids[0]), parse_id(ids[1])) if ids else ("", "")
        self._max_inline_bytes = max_inline_bytes
        self._recent = RecentPrompts(self._store, max_inline_bytes)
        self._warned = False
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a signal handler of this thread may record, too

    # ── record ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def record(
        self,
        model: str,
        prompt: Sequence[Any] | str | None = None,
        response: Any = None,
        *,
        latency_ms: float | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        node_id: str | None = None,
        source: str | None = None,
        error: str | BaseException | None = None,
        llm_call: int | None = None,
        turn: int | None = None,
    ) -> str | None:
        """Record a request that is over, and return its id, or None if it was not recorded. Never stops a run.

        ``prompt`` is the list of messages as the provider got them, or a text; what is None was not there. ``turn``
        is the writer's own, else 0. What a writer's entries go through (redaction), prompt and response do, too.
        """
        if self._writer is not None and not self._writer._traces:
            return None
        try:
            record = RequestRecord(
                id=secrets.token_hex(8),
                model=_text("model", model) or "",
                source=_text("source", source),
                node_id=_text("node_id", node_id),
                latency_ms=_count("latency_ms", latency_ms),
                input_tokens=_count("input_tokens", input_tokens),
                output_tokens=_count("output_tokens", output_tokens),
                error=_text("error", error if not isinstance(error, BaseException) else _said(error)),
            )
            with self._lock:
                self._record(record, prompt, response, _count("llm_call", llm_call), _count("turn", turn))
        except (SessionLogError, OSError) as exc:
            self._report(exc)
            return None
        return record.id

    def _record(
        self, record: RequestRecord, prompt: Any, response: Any, llm_call: int | None, turn: int | None
    ) -> None:
        place, turns = self._stand()
        known: Recent | None = None
        changes: dict[str, Any] = {"error": self._shaped(record.error)}
        if prompt is not None:
            changes["prompt"], known = self._recent.prompt(record.id, self._shaped(prompt))
        if response is not None:
            changes["response"] = keep(self._store, self._shaped(response), "$.response", self._max_inline_bytes)
        data = msgspec.Raw(encode_struct(msgspec.structs.replace(record, **changes)))
        entry = TraceEntry.lifecycle(
            ts=now_ms(), turn=turns if turn is None else turn, label=REQUEST_LABEL, llm_call=llm_call, data=data
        )
        self._store.append_trace(*place, [encode_trace(entry)])
        if known is not None:  # not before: nobody may refer to what is not on file
            self._recent.add(known)

    def _stand(self) -> tuple[tuple[str, str], int]:
        """Return the trace to write to, and the turn; in another trace than before, look for what to go on from."""
        place, turns = self._place, 0
        if self._writer is not None:
            with self._writer._lock:
                place, turns = (self._writer.session_id, self._writer.segment_id), self._writer._turn_count()
        self._recent.look_in(place)
        return place, turns

    def _shaped(self, value: Any) -> Any:
        return shaped(self._writer._shape if self._writer is not None else None, "session_log.request", value)

    def _report(self, exc: Exception) -> None:
        """Warn once: of a writer, together with what its own trace events could not do."""
        owner, name = (self, "_warned") if self._writer is None else (self._writer, "_trace_failed")
        if not getattr(owner, name):
            setattr(owner, name, True)
            warnings.warn(f"the trace is incomplete: {exc}", RuntimeWarning, stacklevel=3)


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidEntry(f"$.{name}", f"{value!r:.100} is no text")
    return scrub(value) if value is not None else None


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_INTEGER:
        raise InvalidEntry(f"$.{name}", f"{value!r:.100} is no count")
    return round(value)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# ── look ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_requests(store: Store, session_id: str, segment_id: str | None = None) -> Requests:
    """Return the requests of a session, or of one of its segments, oldest first; no blob is read.

    A line that is damaged is listed, not raised: a trace is detail.

    Raises:
        NotFound: there is no such session or segment.
    """
    if segment_id is None:
        return all_requests(store, parse_id(session_id))
    return read_requests(store, parse_id(session_id), parse_id(segment_id))


def read_prompt(store: Store, request: Request, found: Requests | None = None) -> Any:
    """Return the whole prompt of a request: its list of messages, its text, or None; the caller's own.

    ``found``, if given, is where the requests it goes on from are looked up; else its trace is read again.

    Raises:
        BrokenPrompt: a blob, or a request it goes on from, is gone or damaged.
        NotFound: there is no such segment any more.
    """
    if request.prompt is None:
        return None
    if found is None:
        found = read_requests(store, request.session_id, request.segment_id)
    others = by_id(other for other in found if other.segment_id == request.segment_id)
    messages = messages_of(store, request, others)
    return messages if request.prompt.form == "messages" else "".join(messages)


def read_response(store: Store, request: Request) -> Any:
    """Return the response of a request, or None; the caller's own.

    Raises:
        BrokenPrompt: its blob is gone or damaged.
    """
    return response_of(store, request)
