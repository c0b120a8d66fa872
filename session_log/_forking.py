"""Forking: where a segment can be cut, found once and remembered, and the child's first line."""

from collections.abc import Callable, Iterator

import msgspec

from session_log._check import MAX_INTEGER
from session_log._clock import new_segment_id, now_ms
from session_log._codec import encode_struct
from session_log._entries import FORMAT_VERSION, LogEntry, RequestConfig, SegmentOrigin, SegmentStart
from session_log._errors import CorruptSegment, InvalidCut, InvalidEntry, InvalidId, NotFound
from session_log._frame import MAX_LINE_BYTES, newlines
from session_log._idem import keys_among
from session_log._ids import parse_id
from session_log._inline import Inlined
from session_log._lineage import Restored, Span, in_steady_lineage, last_line_of, lineage, restore_span, span_blocks
from session_log._reader import read_blocks, where
from session_log._remembered import Remembered
from session_log._rollback import BadRollback, effective_order
from session_log._shape import Shape, prepare_shaped
from session_log._store import Store
from session_log._tree import MAX_FORK_DEPTH, Cut, Cuts, cuts_of, nearest_turns, refuse_bad_cut, tail_hash

MAX_REMEMBERED = 64
"""Segments whose cuts are remembered for each store; a turn costs about a hundred bytes."""


_memory: Remembered[tuple[str, str], Cuts] = Remembered(MAX_REMEMBERED)


def cuts_for(store: Store, session_id: str, segment_id: str) -> Cuts:
    """Return the cuts of a segment up to its present end: the first time all of it is read, later what is new."""
    cuts = _memory.get(store, (session_id, segment_id))
    position = getattr(store, "position", None)
    length, size = position(session_id, segment_id) if position else (store.length(session_id, segment_id), None)
    if cuts is not None and cuts.entries == length and size in (None, cuts.byte_offset):
        return cuts
    grown = cuts is not None and cuts.entries < length and (size is None or cuts.byte_offset < size)
    if cuts is None or cuts.rolled_back or not grown:
        cuts = _all_cuts(store, session_id, segment_id)
    else:
        cuts = _grown(cuts, store, session_id, segment_id, length)
        if cuts is None or cuts.rolled_back:
            cuts = _all_cuts(store, session_id, segment_id)
    _memory.put(store, (session_id, segment_id), cuts)
    return cuts


def _grown(cuts: Cuts, store: Store, session_id: str, segment_id: str, length: int) -> Cuts | None:
    """Return the cuts with what is new; None if the lines are not where they were: the segment was detached."""
    try:
        fresh = list(_lines(store, session_id, segment_id, cuts.entries, cuts.byte_offset))
    except CorruptSegment:
        return None
    if cuts.entries + len(fresh) < length:
        return None
    cuts = cuts.copy()
    cuts.extend(fresh)
    return cuts


def _all_cuts(store: Store, session_id: str, segment_id: str, entries: int | None = None) -> Cuts:
    lines = list(_lines(store, session_id, segment_id, 0, 0))[:entries]
    try:
        return cuts_of(lines)
    except BadRollback as exc:
        offset = sum(size for _, size in lines[: exc.at])
        raise CorruptSegment(where(store, session_id, segment_id), exc.at + 1, offset, str(exc)) from None


def _lines(
    store: Store, session_id: str, segment_id: str, start: int, offset: int
) -> Iterator[tuple[LogEntry | None, int]]:
    for block in read_blocks(store, session_id, segment_id, start, offset=offset):
        for entry, line in zip(block.entries, block.lines(), strict=True):
            yield entry, len(line) + 1


def locate(store: Store, session_id: str, segment_id: str, turn: int) -> tuple[str, Cut]:
    """Return the segment (this one, or an ancestor it inherits from) and the cut after ``turn``.

    Raises:
        InvalidCut: there is no such turn.
    """
    path = where(store, session_id, segment_id)
    if type(turn) is not int or turn < 0:
        raise InvalidCut(path, f"{turn!r} is no turn; turns count from 0, the start")
    segment: str | None = segment_id
    bound: int | None = None
    tail: tuple[str, Cut] | None = None  # where the turn goes on, if it is the last one that a child inherits
    seen: list[tuple[Cuts, str | None]] = []
    for _ in range(MAX_FORK_DEPTH + 2):
        if segment is None:
            break
        try:
            cuts = cuts_for(store, session_id, segment)
            if bound is not None and cuts.rolled_back:  # as the child inherits it
                cuts = _all_cuts(store, session_id, segment, bound)
            parent, parent_bound = _parent(cuts)
        except (NotFound, InvalidId):
            lineage(store, session_id, segment_id)  # says whose parent is not there
            raise
        seen.append((cuts, parent))
        if turn == 0 and parent is None:
            return segment, cuts.first()
        cut = cuts.at_turn(turn) if turn > cuts.turn_base or parent is None else None
        if cut is None and turn == cuts.turn_base:
            cut = cuts.at_base()
        if cut is not None and (bound is None or cut.entries < bound):
            tail = segment, cut
        if tail is not None and (turn > cuts.turn_base or parent is None):
            return tail
        segment, bound = parent, parent_bound
    lineage(store, session_id, segment_id)  # says what is wrong, if it is too deep, or a circle
    raise InvalidCut(path, f"there is no turn {turn}", nearest_turns(_nameable(seen), turn))


def _nameable(seen: list[tuple[Cuts, str | None]]) -> list[int]:
    """Return the turns that a segment and its ancestors have, those inherited included."""
    turns: set[int] = set()
    ceiling = MAX_INTEGER
    for cuts, parent in seen:
        turns.update(n for n in cuts.turns() if n <= ceiling and (n > cuts.turn_base or parent is None))
        ceiling = cuts.turn_base
    return sorted(turns)


def _parent(cuts: Cuts) -> tuple[str | None, int | None]:
    origin = cuts.start.forked_from if cuts.start is not None else None
    if origin is None or origin.entries is None:
        return None, None
    return parse_id(origin.segment_id), origin.entries


def fork_from(
    store: Store,
    session_id: str,
    segment_id: str,
    entries: int,
    *,
    copy_history: bool = False,
    anywhere: bool = False,
    byte_offset: int | None = None,
    shape: Shape | None = None,
) -> str:
    """Create a child of a segment's first ``entries`` lines, which end at ``byte_offset``, if that is known.

    ``anywhere``: also between a call and its result.
    """
    cuts = cuts_for(store, session_id, segment_id)
    if not 1 <= entries <= cuts.entries:
        reason = f"there are no {entries} entries"
        raise InvalidCut(where(store, session_id, segment_id), reason, (min(max(entries, 1), cuts.entries),))
    before = cuts
    if cuts.rolled_back:  # rare: what was rolled back may be cut as well, and was a state of its own
        before = _all_cuts(store, session_id, segment_id, entries)
    if not anywhere:
        refuse_bad_cut(cuts, where(store, session_id, segment_id), entries)
    if copy_history:
        return _fork_alone(store, session_id, segment_id, entries, shape)
    if cuts.depth is None:
        cuts.depth = len(lineage(store, session_id, segment_id))
    if cuts.depth > MAX_FORK_DEPTH:
        reason = f"{cuts.depth} generations of forks (MAX_FORK_DEPTH is {MAX_FORK_DEPTH}); fork with copy_history=True"
        raise InvalidCut(where(store, session_id, segment_id), reason)
    line, end = _line_at(store, session_id, segment_id, entries, cuts)
    if byte_offset not in (None, end):
        reason = f"line {entries} ends at byte {end}, not at {byte_offset}: it was rewritten by something else"
        raise CorruptSegment(where(store, session_id, segment_id), entries, end, reason)
    origin = SegmentOrigin(segment_id, before.turn_at(entries), entries, end, tail_hash(line))
    start = cuts.start
    prompt = start.system_prompt if start is not None else None
    return create_child(store, session_id, origin, prompt, before.config_at(entries), shape=shape).segment_id


class Child(msgspec.Struct, frozen=True):
    """A new segment, its first entry and that entry's line, and the lines behind it."""

    segment_id: str
    start: SegmentStart
    line: bytes
    data: bytes


def create_child(
    store: Store,
    session_id: str,
    origin: SegmentOrigin,
    system_prompt: str | None,
    config: RequestConfig,
    data: bytes = b"",
    ts: int = 0,
    *,
    shape: Shape | None = None,
    linked: Callable[[str, bytes], bytes] | None = None,
) -> Child:
    """Create a segment that goes on from ``origin``, with the lines of ``data`` in it from the beginning.

    ``linked`` returns them anew when the id and the first line are known.
    """
    segment_id = new_segment_id(after=origin.segment_id)
    entry = SegmentStart(
        ts=ts if data else max(now_ms(), ts),  # the lines that come with it were stamped before it
        session_id=session_id,
        system_prompt=system_prompt,
        config=config,
        history=(),
        forked_from=origin,
        v=FORMAT_VERSION,
    )
    line = encode_struct(entry)  # every part of it was read, or checked, before
    if shape is not None:
        line, shaped = prepare_shaped(entry, shape)
        assert isinstance(shaped, SegmentStart)
        entry = shaped
    settle = getattr(store, "settle", None)
    if settle is not None:
        settle(session_id, origin.segment_id)  # a reference must not survive a power cut that its parent does not
    if linked is not None:
        data = linked(segment_id, line)
    store.create_segment(session_id, segment_id, [line, *data[:-1].split(b"\n")] if data else [line])
    confirm = getattr(store, "confirm_parent", None)
    if confirm is not None:
        confirm(session_id, origin.segment_id, segment_id)
    return Child(segment_id, entry, line, data)


def _line_at(store: Store, session_id: str, segment_id: str, entries: int, cuts: Cuts) -> tuple[bytes, int]:
    """Return the last of the first ``entries`` lines, and where it ends."""
    cut = cuts.cut_at(entries)
    span = getattr(store, "read_span", None)
    if cut is not None and span is not None:
        data = span(session_id, segment_id, cut.byte_offset - cut.tail_bytes, cut.byte_offset)
        if data[-1:] == b"\n" and newlines(data) == 1:
            return data[:-1], cut.byte_offset
    line, byte_offset = b"", 0
    for block in read_blocks(store, session_id, segment_id, 0, entries):
        line, byte_offset = last_line_of(block.data), block.byte_offset + len(block.data)
    return line, byte_offset


def inlined(store: Store, session_id: str, segment_id: str, entries: int | None) -> tuple[Inlined, Restored]:
    """Return a segment's history and the rest as raw JSON, with the state they fold to."""
    restored = restore_span(store, session_id, segment_id, entries)

    def gather(spans: list[Span]) -> Inlined:
        gathered = Inlined()
        for span in spans:
            _gather(gathered, store, session_id, span)
        return gathered

    return in_steady_lineage(store, session_id, segment_id, entries, gather), restored


def _gather(gathered: Inlined, store: Store, session_id: str, span: Span) -> None:
    found: list[tuple[LogEntry | None, bytes]] = []
    for block in span_blocks(store, session_id, span, None):
        found += zip(block.entries, block.lines(), strict=True)
    order = effective_order([entry for entry, _ in found])
    for at in order:
        entry, line = found[at]
        if entry is not None:
            gathered.add(entry, line)
    gathered.add_keys(keys_among(found, order))


def _fork_alone(store: Store, session_id: str, segment_id: str, entries: int, shape: Shape | None = None) -> str:
    """Create a child with the history inline: the reference's own form, readable by any reader of the format."""
    gathered, restored = inlined(store, session_id, segment_id, entries)
    state = restored.state
    child = new_segment_id(after=segment_id)
    entry = SegmentStart(
        ts=max(now_ms(), restored.last_ts),
        session_id=session_id,
        system_prompt=state.system_prompt,
        config=state.config,
        history=tuple(gathered.history),  # type: ignore[arg-type]  # raw JSON of items
        forked_from=SegmentOrigin(segment_id, state.turn_count),
        turn_count=state.turn_count,
        carried=gathered.carried(),
        v=FORMAT_VERSION,
    )
    line = encode_struct(entry)
    if len(line) > MAX_LINE_BYTES:
        raise InvalidEntry(
            "$.history", f"the line would have {len(line)} bytes, at most {MAX_LINE_BYTES}; fork by reference"
        )
    if shape is not None:
        line = prepare_shaped(entry, shape)[0]
    store.create_segment(session_id, child, [line])
    return child


def refuse_rewritten(store: Store, session_id: str, segment_id: str, position: tuple[int, int], tail: bytes) -> None:
    """Make sure that a segment still holds what a writer recorded: a fork is about to refer to it.

    ``position``: entries and bytes; ``tail``: the last of these bytes, whole lines.

    Raises:
        CorruptSegment: it was rewritten by something else.
    """
    length, byte_offset = position
    span = getattr(store, "read_span", None)
    if span is not None:
        found = span(session_id, segment_id, byte_offset - len(tail), byte_offset)
    else:
        lines = store.read(session_id, segment_id, length - newlines(tail), length)
        found = b"".join(line + b"\n" for line in lines)
    if found != tail:
        reason = f"was rewritten by something else; this writer had left {length} lines in {byte_offset} bytes"
        raise CorruptSegment(where(store, session_id, segment_id), length, byte_offset, reason)
