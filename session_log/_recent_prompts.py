"""Recent prompts: what a new one begins like, so that only what is new of it is stored."""

import re
from collections import deque
from typing import Any, Literal, TypeAlias

import msgspec

from session_log._errors import InvalidEntry, SessionLogError
from session_log._kept import keep_raw
from session_log._payload import to_raw
from session_log._request_lines import MAX_PREFIX_DEPTH, Prefix, Prompt, by_id, messages_of, read_requests
from session_log._store import Store

MIN_PREFIX_BYTES = 256
"""What a prompt must share with an earlier one to refer to it; the reference takes a third of that."""
MAX_RECENT = 8
"""Requests that a new one is compared with: those of a few agents and tools that take turns in one log."""
MAX_LOOK_BACK_BYTES = 16 * 1024 * 1024
"""How much of a trace is read to find what to go on from; of a longer one, the next prompt is stored whole."""
Form: TypeAlias = Literal["messages", "text"]


class Recent(msgspec.Struct, frozen=True):
    """A request to go on from: a hash for each message of its prompt, and what it goes on from itself."""

    id: str
    digests: list[bytes]
    depth: int
    prefix: Prefix | None


class RecentPrompts:
    """The prompts of the last requests in one trace, newest first. Not safe for threads: its owner keeps them out."""

    def __init__(self, store: Store, max_inline_bytes: int) -> None:
        self._store = store
        self._max_inline_bytes = max_inline_bytes
        self._recent: deque[Recent] = deque(maxlen=MAX_RECENT)
        self._place: tuple[str, str] | None = None

    def look_in(self, place: tuple[str, str]) -> None:
        """Be those of this trace: the first time, what there is to go on from is read."""
        if place != self._place:
            self._recent.clear()
            self._recent.extend(_recent_in(self._store, *place))
            self._place = place

    def add(self, recent: Recent) -> None:
        """Let later ones go on from a request, which must be on file by now."""
        self._recent.appendleft(recent)

    def prompt(self, request_id: str, prompt: Any) -> tuple[Prompt, Recent]:
        """Return how a prompt is recorded, its blob being on file, and what to :meth:`add` when its line is.

        Raises:
            InvalidEntry: it is no list of JSON values, and no text.
            StoreUnavailable, AppendUnknown: a blob cannot be written.
        """
        form, raws = _raw_messages(prompt)
        digests = _digests(raws)
        after, shared = self._longest(digests, raws)
        prefix, depth = None, 0
        if after is not None:
            prefix, depth = Prefix(request=after.id, messages=shared), after.depth + 1
            if after.prefix is not None and after.prefix.messages >= shared:  # all of it is from before that one
                prefix, depth = Prefix(request=after.prefix.request, messages=shared), after.depth
        if depth > MAX_PREFIX_DEPTH:
            prefix, depth, shared = None, 0, 0
        new = keep_raw(self._store, b"[" + b",".join(raws[shared:]) + b"]", self._max_inline_bytes)
        made = Prompt(messages=len(raws), form=form, prefix=prefix, depth=depth, new=new)
        return made, Recent(request_id, digests, depth, prefix)

    def _longest(self, digests: list[bytes], raws: list[bytes]) -> tuple[Recent | None, int]:
        """Return the recent request that begins most like this one (the newest of equal ones), and how far."""
        best, length = None, 0
        for recent in self._recent:
            shared = _shared(digests, recent.digests)
            if shared > length:
                best, length = recent, shared
        return (best, length) if sum(map(len, raws[:length])) >= MIN_PREFIX_BYTES else (None, 0)


def _shared(one: list[bytes], other: list[bytes]) -> int:
    """Return how many hashes two lists begin with in common; halving, because lists compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _raw_messages(prompt: Any) -> tuple[Form, list[bytes]]:
    if isinstance(prompt, str):
        lines = re.split("(?=\n)", prompt)  # the newline goes with what follows: what is appended changes no line
        return "text", [bytes(to_raw(line, "$.prompt")) for line in lines]
    if not isinstance(prompt, (list, tuple)):
        raise InvalidEntry("$.prompt", f"a {type(prompt).__name__} is no list of messages, and no text")
    return "messages", [bytes(to_raw(message, f"$.prompt[{at}]")) for at, message in enumerate(prompt)]


def _digests(raws: list[bytes]) -> list[bytes]:
    import hashlib

    return [hashlib.blake2b(raw, digest_size=16).digest() for raw in raws]


def _recent_in(store: Store, session_id: str, segment_id: str) -> list[Recent]:
    """Return what can be gone on from in a trace, newest first; nothing if it is too long to look."""
    size = 0
    for line in store.read_trace(session_id, segment_id):
        size += len(line) + 1
        if size > MAX_LOOK_BACK_BYTES:
            return []
    requests = read_requests(store, session_id, segment_id).requests
    others, found = by_id(requests), []
    for request in reversed(requests[-MAX_RECENT:]):
        if request.prompt is not None and others[request.id] is request:  # a copied line stands for nothing
            try:
                messages = messages_of(store, request, others)
                digests = _digests([bytes(to_raw(message, "$")) for message in messages])
            except SessionLogError:
                continue  # what cannot be read whole is nothing to go on from
            found.append(Recent(request.id, digests, request.prompt.depth, request.prompt.prefix))
    return found
