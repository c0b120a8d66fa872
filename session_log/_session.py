"""The verbs: create, record, restore, fork. Free functions over any store, with the ids in hand.

A worker that records many entries uses :class:`session_log.SegmentWriter`, which knows its position; these functions
find it out each time. All time stamps are taken here, and never go back within a segment.
"""

from collections.abc import Callable, Iterator
from typing import Any

from session_log._clock import new_segment_id, new_session_id, now_ms
from session_log._codec import decode_line, prepare
from session_log._entries import FORMAT_VERSION, LogEntry, SegmentOrigin, SegmentStart
from session_log._errors import CallerError, CorruptSegment, InvalidCut, InvalidEntry, NotFound
from session_log._forking import fork_from, inlined, locate
from session_log._ids import parse_id
from session_log._lineage import restore_span
from session_log._reader import head_at, read_blocks, read_start, where
from session_log._resolve import resolve_blobs as whole_state
from session_log._shape import Shape, prepare_shaped
from session_log._state import Damage, Head, RestoredState, SegmentStartState
from session_log._store import Repairable, Store

# ── create ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def start_entry(session_id: str, state: SegmentStartState, **more: Any) -> SegmentStart:
    """Return the first entry of a new segment."""
    if not isinstance(state, SegmentStartState):
        raise InvalidEntry("$", f"a segment starts with a SegmentStartState, not with a {type(state).__name__}")
    ts = more.pop("ts", None) or now_ms()
    return SegmentStart(
        ts=ts,
        session_id=session_id,
        system_prompt=state.system_prompt,
        config=state.config,
        history=tuple(state.history),
        v=FORMAT_VERSION,
        **more,
    )


def create_segment(store: Store, state: SegmentStartState = SegmentStartState()) -> tuple[str, str]:  # noqa: B008
    """Start a new session with one segment and return (session_id, segment_id)."""
    return begin(store, state)[:2]


def begin(store: Store, state: SegmentStartState, shape: Shape | None = None) -> tuple[str, str, bytes]:
    """Start a new session with one segment and return (session_id, segment_id, its line)."""
    session_id, segment_id = new_session_id(), new_segment_id()
    entry = start_entry(session_id, state)
    line = prepare(entry)[0] if shape is None else prepare_shaped(entry, shape)[0]
    store.create_segment(session_id, segment_id, [line])
    return session_id, segment_id, line


def create_segment_with_ids(store: Store, session_id: str, segment_id: str, state: SegmentStartState) -> None:
    """Create a segment under ids that were drawn before.

    Raises:
        SegmentExists: the segment id is taken.
    """
    session_id = parse_id(session_id)
    store.create_segment(session_id, segment_id, [prepare(start_entry(session_id, state))[0]])


def fork(store: Store, state: SegmentStartState | RestoredState) -> tuple[str, str]:
    """Start a new session from a state, inline, without lineage; return (session_id, segment_id).

    Of a restored state, the prompt, the parameters and the history are taken.
    """
    if isinstance(state, RestoredState):
        state = SegmentStartState(state.system_prompt, state.config, state.history)
    return create_segment(store, state)


def create_compacted_segment(
    store: Store, state: SegmentStartState, source_session_id: str, source_segment_id: str, source_turn_count: int
) -> str:
    """Start a segment of the same session whose history is ``state.history`` instead of the source's; return its id.

    Turn count, usage, typed inputs, extensions and an interruption are carried over; the source is not touched.

    Raises:
        InvalidCut: the source does not have ``source_turn_count`` turns.
    """
    session_id, source = parse_id(source_session_id), parse_id(source_segment_id)
    return compact_from(store, state, session_id, source, None, source_turn_count)[0]


def compact_from(
    store: Store,
    state: SegmentStartState,
    session_id: str,
    source: str,
    entries: int | None,
    source_turn_count: int,
    *,
    shape: Shape | None = None,
) -> tuple[str, bytes]:
    """Compact the first ``entries`` lines of a segment (None: all); return the new segment's id and line."""
    gathered, restored = inlined(store, session_id, source, entries)
    if source_turn_count != restored.state.turn_count:
        reason = f"the source has {restored.state.turn_count} complete turns, not {source_turn_count!r}"
        raise InvalidCut(where(store, session_id, source), reason, (restored.state.turn_count,))
    segment_id = new_segment_id(after=source)
    entry = start_entry(
        session_id,
        state,
        ts=max(now_ms(), restored.last_ts),
        compacted_from=SegmentOrigin(source, source_turn_count),
        turn_count=source_turn_count,
        carried=gathered.carried(compacted=True),
    )
    line = prepare_shaped(entry, shape)[0]
    store.create_segment(session_id, segment_id, [line])
    return segment_id, line


# ── restore ────────────────────────────────────────────────────────────────────────────────────────────────────────


def restore(
    store: Store,
    session_id: str,
    segment_id: str,
    *,
    at_turn: int | None = None,
    at_entries: int | None = None,
    salvage: bool = False,
    resolve_blobs: bool = False,
) -> RestoredState:
    """Fold a segment, with what it inherits, into the state at its end, after a turn, or after a line. Writes nothing.

    ``resolve_blobs`` puts whole texts and images in place of what a writer with ``max_inline_bytes`` left in the line.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: with ``salvage``, damage is
        skipped and
            listed in ``state.damage`` instead, and a lineage that does not hold counts as damage.
        InvalidCut: there is no such turn or line.
        UnresolvedBlob: one of these cannot be had; with ``salvage``, that is damage, and the short form stays.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if at_turn is not None and at_entries is not None:
        raise InvalidCut(where(store, session_id, segment_id), "at_turn and at_entries exclude each other")
    if at_turn is not None:
        segment_id, cut = locate(store, session_id, segment_id, at_turn)
        at_entries = cut.entries
    elif at_entries is not None:
        _check_count(store, session_id, segment_id, at_entries)
    state = restore_span(store, session_id, segment_id, at_entries, salvage=salvage).state
    return whole_state(store, state, salvage=salvage) if resolve_blobs else state


def _check_count(store: Store, session_id: str, segment_id: str, entries: object) -> None:
    length = store.length(session_id, segment_id)
    if type(entries) is not int or not 1 <= entries <= length:
        nearest = min(max(entries, 1), length) if type(entries) is int else length
        raise InvalidCut(where(store, session_id, segment_id), f"there are no {entries!r} entries", (nearest,))


def restore_by_segment(
    store: Store,
    segment_id: str,
    *,
    at_turn: int | None = None,
    at_entries: int | None = None,
    salvage: bool = False,
    resolve_blobs: bool = False,
) -> RestoredState:
    """Restore a segment whose session is not known.

    Raises:
        NotFound: no session holds it. Else as :func:`restore`.
    """
    session_id = store.lookup_session_of(segment_id)
    if session_id is None:
        raise NotFound(f"segment {segment_id}", "no session holds it")
    return restore(
        store,
        session_id,
        segment_id,
        at_turn=at_turn,
        at_entries=at_entries,
        salvage=salvage,
        resolve_blobs=resolve_blobs,
    )


def read_entries(
    store: Store, session_id: str, segment_id: str, start: int = 0, stop: int | None = None
) -> list[LogEntry]:
    """Return the entries of the lines from ``start`` to before ``stop``; blank lines have none.

    Raises:
        CorruptSegment: a line is no entry.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    found = read_blocks(store, session_id, segment_id, start, stop)
    return [entry for block in found for entry in block.entries if entry is not None]


def follow_entries(
    store: Store, session_id: str, segment_id: str, start: int = 0, *, stop: Callable[[], bool] | None = None
) -> Iterator[LogEntry]:
    """Yield the entries from line ``start`` on as they are committed, until nothing is new and ``stop()`` is true.

    Raises:
        CorruptSegment: a line is no entry. Else as ``Store.follow``.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    for at, line in enumerate(store.follow(session_id, segment_id, start, stop=stop), start):
        if line.strip():
            try:
                entry = decode_line(line)
            except InvalidEntry as exc:
                place = head_at(store, session_id, segment_id, at).byte_offset
                raise CorruptSegment(where(store, session_id, segment_id), at + 1, place, str(exc)) from None
            yield entry


def head(store: Store, session_id: str, segment_id: str) -> Head:
    """Return where a segment ends."""
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    return head_at(store, session_id, segment_id, None)


# ── fork ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def fork_at(
    store: Store,
    session_id: str,
    segment_id: str,
    at_turn_index: int,
    *,
    copy_history: bool = False,
    shape: Shape | None = None,
) -> str:
    """Fork after a turn (0: right after the start) and return the new segment's id; the source is not touched.

    By reference: one line is written, nothing is copied. With ``copy_history``, the history stands in the new segment.
    ``shape``: what that line goes through first, as in a writer that redacts.

    Raises:
        InvalidCut: there is no such turn, or the cut would part a tool call from its result; names the nearest.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    source, cut = locate(store, session_id, segment_id, at_turn_index)
    return fork_from(store, session_id, source, cut.entries, copy_history=copy_history, shape=shape)


def fork_at_entry(
    store: Store,
    session_id: str,
    segment_id: str,
    entries: int,
    *,
    copy_history: bool = False,
    shape: Shape | None = None,
) -> str:
    """Fork after the first ``entries`` lines of this segment and return the new segment's id.

    Raises:
        InvalidCut: there is no such line, or the cut would part a tool call from its result; names the nearest.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    _check_count(store, session_id, segment_id, entries)
    return fork_from(store, session_id, segment_id, entries, copy_history=copy_history, shape=shape)


def ensure_head_or_fork(store: Store, head: Head) -> Head:
    """Return ``head`` if the segment still ends there, else the head of a new fork at ``head``.

    Nobody's lines are lost: those behind ``head`` stay in the segment, and the fork goes on from ``head``.
    """
    if not isinstance(head, Head):
        raise CallerError(f"{head!r} is no Head; take it from a writer, a restored state or head()")
    if store.length(head.session_id, head.segment_id) == head.entries:
        return head
    segment_id = fork_from(
        store, head.session_id, head.segment_id, head.entries, anywhere=True, byte_offset=head.byte_offset
    )
    length = sum(len(line) + 1 for line in store.read(head.session_id, segment_id))
    return Head(head.session_id, segment_id, 1, length)


# ── repair ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def repair(store: Store, session_id: str, segment_id: str) -> tuple[Damage, ...]:
    """Blank out the damaged lines of a segment, keeping their bytes in ``<segment>.damage``; return what was found.

    Offsets, line numbers and the references of children stay right. A damaged first line cannot be mended so: without
    it nobody knows what the segment starts with.

    Raises:
        CorruptSegment: the first line is damaged.
        CallerError: the store has no files.
        SegmentBusy: a writer holds the segment.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if not isinstance(store, Repairable):
        raise CallerError(f"{store!r}: has no files to repair")
    read_start(store, session_id, segment_id)
    found = restore_span(store, session_id, segment_id, salvage=True).state.damage
    path = str(store.segment_path(session_id, segment_id))
    for damage in found:
        if damage.path == path and damage.line == 1 and damage.length_bytes:  # an entry, but none that can be folded
            raise CorruptSegment(path, 1, 0, damage.reason)
    own = tuple(damage for damage in found if damage.path == path and damage.line > 1)
    if own:
        store.blank_lines(session_id, segment_id, own)
    return own
