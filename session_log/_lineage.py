"""Restoring through the tree: a segment, and the prefixes of its ancestors that it inherits by reference."""

import gc
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from session_log._codec import clock_time, decode_line
from session_log._entries import LogEntry, PodScope, SegmentOrigin, SegmentStart
from session_log._errors import (
    BrokenLineage,
    CorruptSegment,
    InvalidEntry,
    InvalidId,
    MissingAncestor,
    NotFound,
    SessionLogError,
)
from session_log._fold import Fold
from session_log._ids import parse_id
from session_log._reader import Block, read_blocks, read_start, report, where
from session_log._rollback import BadRollback, RolledBack, effective_order
from session_log._state import Damage, Head, RestoredState
from session_log._store import BlockReader, Store
from session_log._tree import MAX_FORK_DEPTH, check_reference, tail_hash

T = TypeVar("T")


class Span(msgspec.Struct, frozen=True):
    """The first ``entries`` lines of a segment (None: all), and the reference that says so."""

    segment_id: str
    entries: int | None
    origin: SegmentOrigin | None


def inherits(start: SegmentStart) -> bool:
    """Tell whether a segment goes on from lines of its parent, by reference."""
    return start.forked_from is not None and start.forked_from.entries is not None


def lineage(
    store: Store, session_id: str, segment_id: str, entries: int | None = None, damage: list[Damage] | None = None
) -> list[Span]:
    """Return the spans that make up a segment, root first.

    Raises:
        BrokenLineage: a cycle, or deeper than MAX_FORK_DEPTH.
        MissingAncestor: a parent is not there.
    """
    spans = [Span(segment_id, entries, None)]
    seen = {segment_id}
    while True:
        child = spans[-1].segment_id
        try:
            start = read_start(store, session_id, child)
        except NotFound:
            if len(spans) == 1:
                raise
            _broken(
                store, session_id, spans[-2].segment_id, damage, MissingAncestor, f"its parent {child} is not there"
            )
            spans.pop()
            break
        except CorruptSegment as exc:
            if damage is None:
                raise
            damage.append(Damage(exc.path, exc.line, exc.byte_offset, 0, exc.reason))
            break
        if start.detached is not None and (referred := spans[-1].origin) is not None:
            spans[-1] = msgspec.structs.replace(spans[-1], origin=as_before(referred, start.detached))
        origin = start.forked_from
        if origin is None or origin.entries is None:
            break
        try:
            parent = parse_id(origin.segment_id)
        except InvalidId:
            _broken(store, session_id, child, damage, BrokenLineage, f"its parent {origin.segment_id!r} is no id")
            break
        if parent in seen:
            _broken(store, session_id, child, damage, BrokenLineage, f"its ancestors go in a circle through {parent}")
            break
        if origin.entries < 1:
            _broken(store, session_id, child, damage, BrokenLineage, f"it inherits {origin.entries} lines of {parent}")
            break
        if len(spans) > MAX_FORK_DEPTH:
            reason = f"more than {MAX_FORK_DEPTH} ancestors (MAX_FORK_DEPTH); fork with copy_history=True"
            _broken(store, session_id, child, damage, BrokenLineage, reason)
            break
        seen.add(parent)
        spans.append(Span(parent, origin.entries, origin))
    spans.reverse()
    return spans


def in_steady_lineage(
    store: Store, session_id: str, segment_id: str, entries: int | None, act: Callable[[list[Span]], T]
) -> T:
    """Return what ``act`` makes of the spans of a segment; anew, if one was detached meanwhile: its bytes moved."""
    before: list[Span] | None = None
    while True:
        spans = lineage(store, session_id, segment_id, entries)
        try:
            made = act(spans)
        except SessionLogError:
            if spans == before:
                raise
        else:
            if lineage(store, session_id, segment_id, entries) == spans:
                return made
        before = spans


def as_before(origin: SegmentOrigin, first_line: str) -> SegmentOrigin:
    """Return what a reference says of a segment whose first line was replaced when it was detached.

    Its lines have their numbers still, but not their offsets; the one that was replaced has another hash.
    """
    tail_sha256 = origin.tail_sha256
    if origin.entries == 1 and tail_sha256 == tail_hash(first_line.encode()):
        tail_sha256 = None
    return msgspec.structs.replace(origin, byte_offset=None, tail_sha256=tail_sha256)


def _broken(
    store: Store, session_id: str, segment_id: str, damage: list[Damage] | None, error: type[BrokenLineage], reason: str
) -> None:
    path = where(store, session_id, segment_id)
    if damage is None:
        raise error(path, 1, 0, reason)
    damage.append(Damage(path, 1, 0, 0, reason))


class Restored(msgspec.Struct, frozen=True):
    """A state, the fold it came from, and what a writer needs to go on behind it."""

    state: RestoredState
    fold: Fold
    head: Head
    last_line: bytes
    last_ts: int


def begun(session_id: str, segment_id: str, line: bytes) -> Restored:
    """Return what is in a segment that was created with this line just now: to look there again could only fail."""
    entry = decode_line(line)
    fold = Fold()
    fold.extend((entry,))
    head = Head(session_id, segment_id, 1, len(line) + 1)
    return Restored(fold.freeze(head, entries_count=1), fold, head, line, clock_time(entry))


def restore_span(
    store: Store, session_id: str, segment_id: str, entries: int | None = None, *, salvage: bool = False
) -> Restored:
    """Fold a segment up to ``entries`` lines, with what it inherits."""
    before: list[Span] | None = None
    while True:
        damage: list[Damage] | None = [] if salvage else None
        spans = lineage(store, session_id, segment_id, entries, damage)
        known = list(damage or ())
        try:
            with _collector_paused():
                try:
                    return _restore(store, session_id, spans, damage, ordered=False)
                except (RolledBack, CorruptSegment):
                    # rare: then every line is held until it is known which of them count; a rollback may undo a
                    # damaged one
                    return _restore(store, session_id, spans, known if salvage else None, ordered=True)
        except (BrokenLineage, NotFound):
            if spans == before:
                raise
            before = spans  # a segment may have been detached since its first line was read


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector: entries hold no cycles, and looking for them costs a tenth of a restore."""
    global _pausing  # noqa: PLW0603  the collector is one of the process
    if not gc.isenabled():
        yield
        return
    try:
        _pausing = True
        gc.disable()
        yield
    finally:
        _pausing = False
        gc.enable()


_pausing = False


def _resume_collector() -> None:
    """In a child that was forked while another thread had paused it."""
    global _pausing  # noqa: PLW0603  the collector is one of the process
    if _pausing:
        _pausing = False
        gc.enable()


os.register_at_fork(after_in_child=_resume_collector)


def _restore(
    store: Store, session_id: str, spans: list[Span], damage: list[Damage] | None, *, ordered: bool
) -> Restored:
    fold = Fold()
    block: Block | None = None
    for span in spans:
        block = None
        blocks: list[Block] = []
        path = where(store, session_id, span.segment_id)
        for block in span_blocks(store, session_id, span, damage):
            if ordered:
                blocks.append(block)
            else:
                fold_block(fold, block, path, damage)
        if ordered:
            _fold_in_order(fold, blocks, path, damage)
    if block is None:
        raise CorruptSegment(where(store, session_id, spans[-1].segment_id), 1, 0, "the segment has no committed line")
    head = Head(
        session_id, spans[-1].segment_id, block.first_line + len(block.entries), block.byte_offset + len(block.data)
    )
    torn = 0
    if span.entries is None and isinstance(store, BlockReader):
        torn = store.torn_bytes(session_id, head.segment_id, head.byte_offset)
    state = fold.freeze(head, entries_count=head.entries, damage=damage or (), torn_bytes=torn)
    last_ts = max(map(clock_time, block.entries), default=0)
    return Restored(state, fold, head, last_line_of(block.data), last_ts)


def span_blocks(store: Store, session_id: str, span: Span, damage: list[Damage] | None) -> Iterator[Block]:
    """Yield the blocks of a span, and check at its end that they are what the child refers to."""
    block = None
    for block in read_blocks(store, session_id, span.segment_id, 0, span.entries, damage=damage):
        yield block
    if span.origin is None:
        return
    entries, byte_offset, line = 0, 0, b""
    if block is not None:
        entries, byte_offset = block.first_line + len(block.entries), block.byte_offset + len(block.data)
        line = last_line_of(block.data)
    path = where(store, session_id, span.segment_id)
    try:
        check_reference(path, span.origin, entries, byte_offset, line)
    except BrokenLineage as exc:
        if damage is None:
            raise
        damage.append(Damage(path, exc.line, exc.byte_offset, 0, exc.reason))


def last_line_of(data: bytes) -> bytes:
    """Return the last line of a block, without its newline."""
    return data[data.rfind(b"\n", 0, len(data) - 1) + 1 : -1]


def fold_block(fold: Fold, block: Block, path: str, damage: list[Damage] | None) -> None:
    """Fold the entries of a block.

    Raises:
        CorruptSegment: a payload of ours is malformed, and ``damage`` was not given.
        RolledBack: there is a rollback in it; the fold is of no use any more.
    """
    entries = iter(block.entries)
    while True:
        try:
            return fold.extend(entries)
        except InvalidEntry as exc:
            at = len(block.entries) - operator.length_hint(entries) - 1
            report(block.places(path)[at], str(exc), damage)
            _close_scope(fold)


def _close_scope(fold: Fold) -> None:
    """After a malformed pod scope, allow nothing: the scope before it may be wider."""
    if fold.pod_scope is not None:
        fold.pod_scope = PodScope()


def _fold_in_order(fold: Fold, blocks: list[Block], path: str, damage: list[Damage] | None) -> None:
    entries = [entry for block in blocks for entry in block.entries]
    places = [place for block in blocks for place in block.places(path)]
    order = sound_order(entries, places, damage)
    remaining = iter(order)
    while True:
        try:
            return fold.extend(entries[at] for at in remaining)
        except InvalidEntry as exc:
            at = order[len(order) - operator.length_hint(remaining) - 1]
            report(places[at], str(exc), damage)
            _close_scope(fold)


def sound_order(entries: list[LogEntry | None], places: list[Damage], damage: list[Damage] | None) -> list[int]:
    """Return the effective order; a rollback that points nowhere is an error with its place, or listed and ignored."""
    while True:
        try:
            return effective_order(entries)
        except BadRollback as exc:
            report(places[exc.at], str(exc), damage)
            entries[exc.at] = None
