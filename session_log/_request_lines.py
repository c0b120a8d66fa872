"""Requests to models: the marker in a trace that records one, how traces are read, and how a prompt is put together.

A prompt is a list of messages; a text is a list of its lines, each but the first with the newline before it. A marker
holds the messages that are new, and says how many of an earlier request's come before them.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from session_log._errors import InvalidEntry, NotFound, StorageError
from session_log._kept import UNREADABLE, Count, Kept, kept_value
from session_log._layout import TRACE_SUFFIX
from session_log._reader import where
from session_log._state import Damage
from session_log._store import Store
from session_log._trace import TraceEntry, decode_trace
from session_log._typed import from_payload

REQUEST_LABEL = "llm_request"
MAX_PREFIX_DEPTH = 64
"""How many requests a prompt may be put together from; the one after that is stored in full."""
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Prefix(msgspec.Struct, frozen=True, kw_only=True):
    """The first ``messages`` of the whole prompt of an earlier ``request`` in the same trace."""

    request: Name
    messages: Annotated[int, msgspec.Meta(ge=1)]


class Prompt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prompt of ``messages`` (of a text: lines): those of ``prefix``, then ``new``. ``depth``: prefixes in a row."""

    messages: Count
    form: Literal["messages", "text"] = "messages"
    prefix: Prefix | None = None
    depth: Count = 0
    new: Kept


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the marker of a request says, in its ``data``. ``latency_ms`` is the whole call's."""

    id: Name
    model: str
    source: str | None = None
    node_id: str | None = None
    latency_ms: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    error: str | None = None
    prompt: Prompt | None = None
    response: Kept | None = None


class Request(RequestRecord, frozen=True, kw_only=True):
    """A recorded request: line ``line`` (from 1) of the trace of ``segment_id``, at ``ts``, when it was over."""

    session_id: str
    segment_id: str
    line: int
    ts: int
    turn: int
    llm_call: int | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.error is not None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Requests in sum. Of the latencies that are known: the median and the 95th percentile, by nearest rank.

    That is the least latency that so many percent of the requests did not exceed: always one that was measured.
    """

    requests: int
    failed: int
    input_tokens: int
    output_tokens: int
    median_latency_ms: int | None
    p95_latency_ms: int | None


class RequestSummary(Totals, frozen=True, kw_only=True):
    """All of them in sum, and by model."""

    models: dict[str, Totals]


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, segment by segment, oldest first, and what could not be read.

    ``damage`` has a place for each line that is no trace entry, or no request where it says so; ``torn_bytes`` counts
    what is not committed at the ends of the traces.
    """

    requests: tuple[Request, ...]
    damage: tuple[Damage, ...] = ()
    torn_bytes: int = 0

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)

    def slowest(self, limit: int) -> tuple[Request, ...]:
        """Return the slowest, slowest first, of those whose latency is known; of equal ones the oldest first."""
        timed = [request for request in self.requests if request.latency_ms is not None]
        return tuple(sorted(timed, key=lambda request: -(request.latency_ms or 0))[: max(0, limit)])

    def failed(self) -> tuple[Request, ...]:
        """Return those that ended with an error."""
        return tuple(request for request in self.requests if request.failed)

    def of(self, *, model: str | None = None, source: str | None = None, node_id: str | None = None) -> "Requests":
        """Return those of a model, a source, a node: of all that are given. Damage stays listed."""
        given = {"model": model, "source": source, "node_id": node_id}
        wanted = {name: value for name, value in given.items() if value is not None}
        kept = [each for each in self.requests if all(getattr(each, name) == wanted[name] for name in wanted)]
        return msgspec.structs.replace(self, requests=tuple(kept))

    def summary(self) -> RequestSummary:
        """Return counts, tokens and latencies of all, and by model, in order of first appearance."""
        models: dict[str, list[Request]] = {}
        for request in self.requests:
            models.setdefault(request.model, []).append(request)
        total = msgspec.structs.asdict(_totals(self.requests))
        return RequestSummary(**total, models={model: _totals(found) for model, found in models.items()})


def _totals(found: Sequence[Request]) -> Totals:
    latencies = sorted(request.latency_ms for request in found if request.latency_ms is not None)
    return Totals(
        requests=len(found),
        failed=sum(request.failed for request in found),
        input_tokens=sum(request.input_tokens or 0 for request in found),
        output_tokens=sum(request.output_tokens or 0 for request in found),
        median_latency_ms=nearest_rank(latencies, 50),
        p95_latency_ms=nearest_rank(latencies, 95),
    )


def nearest_rank(ordered: list[int], percent: int) -> int | None:
    """Return the value at rank ``ceil(percent/100 * n)``, from 1; None of no values."""
    return ordered[max(1, -(-len(ordered) * percent // 100)) - 1] if ordered else None


class BrokenPrompt(StorageError):
    """A prompt or response cannot be had as a whole: a blob, or a request it goes on from, is gone or damaged."""

    def __init__(self, path: str, request: str, reason: str) -> None:
        super().__init__(f"{path}: what request {request!r} sent or got cannot be read whole ({reason})")
        self.path = path
        self.request = request
        self.reason = reason


# ── traces ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def trace_where(store: Store, session_id: str, segment_id: str) -> str:
    """Return how to name a trace in a message: its path, if it has one."""
    path_of = getattr(store, "trace_path", None)
    return str(path_of(session_id, segment_id)) if path_of else f"{where(store, session_id, segment_id)}{TRACE_SUFFIX}"


def read_requests(store: Store, session_id: str, segment_id: str) -> Requests:
    """Return the requests of one trace.

    Raises:
        NotFound: there is no such segment.
    """
    path = trace_where(store, session_id, segment_id)
    requests: list[Request] = []
    damage: list[Damage] = []
    offset = 0
    for number, line in enumerate(store.read_trace(session_id, segment_id), 1):
        if line.strip():
            try:
                entry = decode_trace(line)
                if entry.kind == "lifecycle" and entry.label == REQUEST_LABEL:
                    requests.append(_request(entry, session_id, segment_id, number))
            except InvalidEntry as exc:
                damage.append(Damage(path, number, offset, len(line), str(exc)))
        offset += len(line) + 1
    torn = _size(path) - offset if hasattr(store, "trace_path") else 0
    return Requests(requests=tuple(requests), damage=tuple(damage), torn_bytes=max(0, torn))


def _size(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0


def _request(entry: TraceEntry, session_id: str, segment_id: str, line: int) -> Request:
    record = from_payload(entry.data, RequestRecord, "$.data")
    return Request(
        **{name: getattr(record, name) for name in record.__struct_fields__},
        session_id=session_id,
        segment_id=segment_id,
        line=line,
        ts=entry.ts,
        turn=entry.turn,
        llm_call=entry.llm_call,
    )


# ── prompts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def messages_of(store: Store, request: Request, others: dict[str, Request]) -> list[Any]:
    """Return the messages of a prompt, put together from those of ``others``, by id; the caller's own.

    Raises:
        BrokenPrompt: a blob or a request is gone or damaged.
    """
    pieces: list[list[Any]] = []
    at, wanted, seen = request, None, {request.id}
    while at.prompt is not None:
        prompt = at.prompt
        inherited = prompt.prefix.messages if prompt.prefix is not None else 0
        if wanted is None:
            wanted = prompt.messages
        if wanted > prompt.messages or inherited > prompt.messages:
            raise _broken(store, request, f"request {at.id!r} has {prompt.messages} messages, not {wanted}")
        if wanted > inherited or at is request:
            new = _new(store, request, at, prompt)
            if len(new) != prompt.messages - inherited:
                raise _broken(store, request, f"request {at.id!r} holds {len(new)} messages of its own")
            pieces.append(new[: wanted - inherited])
        wanted = min(wanted, inherited)
        if prompt.prefix is None or not wanted:
            return [message for piece in reversed(pieces) for message in piece]
        found = others.get(prompt.prefix.request)
        if found is None or found.id in seen:
            why = "is not in the trace" if found is None else "goes on from itself"
            raise _broken(store, request, f"request {prompt.prefix.request!r} {why}")
        at = found
        seen.add(at.id)
    raise _broken(store, request, f"request {at.id!r} has no prompt")


def _new(store: Store, request: Request, at: Request, prompt: Prompt) -> list[Any]:
    try:
        new = kept_value(store, prompt.new)
    except UNREADABLE as exc:
        raise _broken(store, request, f"request {at.id!r}: {exc}") from exc
    if not isinstance(new, list):
        raise _broken(store, request, f"request {at.id!r} holds a {type(new).__name__} in place of messages")
    if request.prompt is not None and request.prompt.form == "text" and not all(isinstance(each, str) for each in new):
        raise _broken(store, request, f"request {at.id!r} holds no text")
    return new


def response_of(store: Store, request: Request) -> Any:
    """Return a response, or None; the caller's own.

    Raises:
        BrokenPrompt: its blob is gone or damaged.
    """
    try:
        return kept_value(store, request.response) if request.response is not None else None
    except UNREADABLE as exc:
        raise _broken(store, request, str(exc)) from exc


def _broken(store: Store, request: Request, reason: str) -> BrokenPrompt:
    path = trace_where(store, request.session_id, request.segment_id)
    return BrokenPrompt(f"{path}:{request.line}", request.id, reason)


def by_id(requests: Iterable[Request]) -> dict[str, Request]:
    """Return requests of one trace by their ids; where one comes twice (a copied line), the first counts."""
    found: dict[str, Request] = {}
    for request in requests:
        found.setdefault(request.id, request)
    return found


def all_requests(store: Store, session_id: str) -> Requests:
    """Return the requests of all traces of a session, segment by segment, oldest first.

    Raises:
        NotFound: there is no such session.
    """
    requests: list[Request] = []
    damage: list[Damage] = []
    torn = 0
    for segment_id in sorted(store.list_segments(session_id)):
        try:
            found = read_requests(store, session_id, segment_id)
        except NotFound:
            continue  # deleted since it was listed
        requests += found.requests
        damage += found.damage
        torn += found.torn_bytes
    return Requests(requests=tuple(requests), damage=tuple(damage), torn_bytes=torn)
