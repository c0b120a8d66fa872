"""Keyed appends: the same key and content again is the append that was, not another one.

Looking for the key and appending are one step, because the append is a compare-and-append: it goes in only where
everything before it was searched. What others appended meanwhile is searched before anything else is done about it.

Readers see the lines of an append that is under way and may yet be taken back. So what is found at the very end counts
only after an appender has looked there, which waits for others: by an append with an expectation that cannot hold.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from session_log._codec import prepare
from session_log._entries import LogEntry
from session_log._errors import CallerError, HeadMoved, IdempotencyConflict, SegmentBusy, WriterClosed
from session_log._idem import Uses, check_idem, content_of, idem_of, keyed
from session_log._ids import parse_id
from session_log._lineage import lineage, restore_span
from session_log._reader import raw_blocks, where
from session_log._store import Store

if TYPE_CHECKING:
    from session_log._recorder import Recorder

_RETRIES = 1_000
"""As in _recording: each round, somebody else's append succeeded."""


class KeyedAppend(msgspec.Struct, frozen=True, kw_only=True):
    """An append that was recorded under an idempotency key, seen from one segment.

    ``entries`` is the length of that segment from which on its state has the append: what the verbs return. For one
    that the segment inherits by reference, or that a copy or compaction carries, it is 1: the first line brings it in.
    The lines themselves are those from ``start`` to before ``stop`` of ``segment_id``; of a carried key they are not
    known (None), and ``segment_id`` is the segment that carries it.
    """

    key: str
    entries: int
    segment_id: str
    start: int | None
    stop: int | None


class KnownKeys:
    """The keys of a segment and of what it inherits, learned as far as somebody asked. Not safe for threads."""

    def __init__(self, store: Store, session_id: str, segment_id: str) -> None:
        self._store = store
        self._session_id = session_id
        self.segment_id = segment_id
        self._own = Uses()
        self._inherited: list[tuple[str, int, Uses]] | None = None

    def read_on(self, entries: int | None = None) -> int:
        """Learn what is in the segment up to line ``entries`` (None: its end), and return how far that is."""
        if entries is None or self._own.position[0] < entries:
            self._read(self.segment_id, self._own, entries)
        return self._own.position[0]

    def _read(self, segment_id: str, uses: Uses, stop: int | None) -> None:
        at = uses.position
        for block in raw_blocks(self._store, self._session_id, segment_id, at[0], stop, at[1]):
            at = uses.add(block, at)

    def beyond(self, entries: int | None) -> "KnownKeys":
        """Return what is known when one reads on; this one stays as it is: what others append may be taken back."""
        other = KnownKeys(self._store, self._session_id, self.segment_id)
        other._own, other._inherited = self._own.copy(), self._inherited
        other.read_on(entries)
        return other

    def find(self, key: str, entries: int) -> KeyedAppend | None:
        """Return the append under ``key`` that is part of the state after the first ``entries`` lines."""
        use = self._own.find(key, entries)
        if use is not None:
            return KeyedAppend(key=key, entries=use.stop, segment_id=self.segment_id, start=use.first, stop=use.stop)
        if self._inherited is None:
            self._inherited = self._ancestors()
        for segment_id, bound, uses in self._inherited:
            use = uses.find(key, bound)
            if use is not None:
                return KeyedAppend(key=key, entries=1, segment_id=segment_id, start=use.first, stop=use.stop)
        root_id, _, root = self._inherited[-1] if self._inherited else (self.segment_id, 0, self._own)
        if key in root.carried:
            return KeyedAppend(key=key, entries=1, segment_id=root_id, start=None, stop=None)
        return None

    def _ancestors(self) -> list[tuple[str, int, Uses]]:
        """Return the spans that are inherited, and what is in them, parent first."""
        found = []
        for span in reversed(lineage(self._store, self._session_id, self.segment_id)[:-1]):
            uses, bound = Uses(), span.entries or 0
            self._read(span.segment_id, uses, bound)
            found.append((span.segment_id, bound, uses))
        return found

    def refuse_other(self, found: KeyedAppend, lines: Sequence[bytes]) -> None:
        """Make sure that ``lines`` say what was recorded.

        Raises:
            IdempotencyConflict: they say something else.
        """
        if self._content(found) != content_of(lines):
            place = where(self._store, self._session_id, found.segment_id)
            raise IdempotencyConflict(place, found.key, found.stop or 1)

    def _content(self, found: KeyedAppend) -> str:
        if found.start is None:
            root = self._inherited[-1][2] if self._inherited else self._own
            return root.carried[found.key]
        return content_of(list(self._store.read(self._session_id, found.segment_id, found.start, found.stop)))

    def settle(self, found: KeyedAppend) -> None:
        """Let an append that is found survive what one survives that returned: its process may have died before."""
        settle = getattr(self._store, "settle", None)
        if settle is not None:
            settle(self._session_id, found.segment_id)


def find_idem(store: Store, session_id: str, segment_id: str, key: str) -> KeyedAppend | None:
    """Return where a segment, or what it inherits, has an append under an idempotency key, or None if it has none.

    Reads the segment and its ancestors as bytes; only lines with a key are decoded.

    Raises:
        InvalidEntry: ``key`` is none.
    """
    check_idem(key)
    known = KnownKeys(store, parse_id(session_id), parse_id(segment_id))
    return known.find(key, known.read_on())


# ── without a writer ───────────────────────────────────────────────────────────────────────────────────────────────


def record_keyed(
    store: Store,
    session_id: str,
    segment_id: str,
    make: Callable[[int], Iterable[LogEntry]],
    key: str,
    *,
    expected: int | None = None,
    token: str | None = None,
) -> int:
    """Append what ``make(length)`` returns, unless it is there under ``key``; return the length in entries behind it.

    Raises:
        IdempotencyConflict: the key was used for something else.
        HeadMoved: the segment is not at ``expected`` entries, and the key was not used.
    """
    check_idem(key)
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    known = KnownKeys(store, session_id, segment_id)
    for _ in range(_RETRIES):
        length = known.read_on()
        lines = [prepare(entry)[0] for entry in make(length)]
        found = known.find(key, length)
        if found is not None:
            known.refuse_other(found, lines)
            if found.segment_id == segment_id and found.stop == length > _end(store, session_id, segment_id, length):
                known = KnownKeys(store, session_id, segment_id)
                continue
            known.settle(found)
            return found.entries
        if expected not in (None, length):
            raise HeadMoved(where(store, session_id, segment_id), expected or 0, length)
        if not lines:
            return length
        try:
            return store.append(session_id, segment_id, keyed(lines, key), expected=length, token=token)
        except HeadMoved as exc:
            if exc.actual < length:  # a failed append was taken back
                known = KnownKeys(store, session_id, segment_id)
    raise SegmentBusy(where(store, session_id, segment_id), "many other writers")


def _end(store: Store, session_id: str, segment_id: str, known: int) -> int:
    """Return how many lines there are while nobody is in the middle of an append; ``known`` if somebody holds it."""
    try:
        return store.append(session_id, segment_id, [b"{}"], expected=0)  # never: a segment has a first line
    except HeadMoved as exc:
        return exc.actual
    except SegmentBusy:
        return known


# ── through a writer ───────────────────────────────────────────────────────────────────────────────────────────────


def append_keyed(recorder: "Recorder", lines: list[bytes], entries: list[LogEntry], key: str) -> int:
    """Append lines under ``key``, unless its state has them under it; return the length in entries behind them."""
    check_idem(key)
    with recorder._lock:
        if recorder._batches.current() is not None:
            raise CallerError(f"{recorder!r}: a batch is one append and has one key; give it to batch(idem={key!r})")
        if recorder._closed is not None:
            raise WriterClosed(recorder._where(), recorder._closed)
        if recorder._busy:
            return recorder._append_many(lines, entries)  # refuses: this is a signal handler
        recorder._settle()
        known = _known(recorder)
        found = known.find(key, recorder._position[0])
        if found is not None:
            known.refuse_other(found, lines)
            if found.segment_id == recorder._segment_id and found.stop == recorder._position[0]:
                with contextlib.suppress(HeadMoved, SegmentBusy):
                    recorder._appender.append(b"{}\n", 1, 0)
            known.settle(found)
            return found.entries
        if not lines:
            return recorder._position[0]
        recorder._keyed = key
        return recorder._append_many(keyed(lines, key), entries)


def _known(recorder: "Recorder") -> KnownKeys:
    """Return what a writer knows of keys, its own lines included."""
    known = recorder._known_keys
    if known is None or known.segment_id != recorder._segment_id:
        known = recorder._known_keys = KnownKeys(recorder._store, recorder._session_id, recorder._segment_id)
    known.read_on(recorder._position[0])
    return known


def appended_by_others(recorder: "Recorder", data: bytes, moved: HeadMoved | SegmentBusy) -> int | None:
    """Return the length behind a keyed append, if others got ``data`` in before it; the writer then goes on behind it.

    So the state has it after this, as after an append of its own; what the others appended before it comes along.

    Raises:
        IdempotencyConflict: the key was used for something else.
    """
    key = recorder._keyed
    if key is None or idem_of(data[: data.index(b"\n")]) != key:
        return None
    segment_id, position = recorder._segment_id, recorder._position[0]
    known = _known(recorder).beyond(moved.actual if isinstance(moved, HeadMoved) else None)
    found = known.find(key, known.read_on())
    if found is None or found.segment_id != segment_id or found.stop is None or found.stop <= position:
        return None
    known.settle(found)
    known.refuse_other(found, data[:-1].split(b"\n"))
    restored = restore_span(recorder._store, recorder._session_id, segment_id, found.stop)
    recorder._go_on_in(segment_id, depth=recorder._depth, restored=restored)
    return found.stop if recorder._segment_id == segment_id else 1
