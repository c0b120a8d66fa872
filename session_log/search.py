r"""Search: where a pattern occurs in what was said, line by line of the texts, not of the JSON around them.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.search import Query, search
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input('say "größer"\nand no more')
>>> [(hit.line, hit.text) for hit in search(store, [(writer.session_id, writer.segment_id)], Query.of('"GRÖ', "iF"))]
[(2, 'say "größer"')]
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from session_log._errors import CallerError, NotFound, SessionLogError
from session_log._lineage import lineage
from session_log._seen import Seen, seen_entries, seen_trace
from session_log._state import Damage
from session_log._store import Store
from session_log.lines import Selection

MAX_PATTERN_CHARACTERS = 10_000
"""A pattern is typed, or read from a file of words; what is longer is a mistake."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for. ``before`` and ``after``: how many entries around a hit; ``turn``: all entries of its turn.

    ``most``: at most so many hits in a segment.
    """

    pattern: re.Pattern[str]
    selection: Selection = Selection()
    before: int = 0
    after: int = 0
    turn: bool = False
    most: int | None = None

    @classmethod
    def of(cls, pattern: str, flags: str = "", **more: object) -> "Query":
        """Return the query for a regular expression; ``flags``: ``i`` any case, ``F`` a plain text, ``w`` whole words.

        Raises:
            CallerError: it is no pattern.
        """
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise CallerError(f"a pattern of {len(pattern)} characters, at most {MAX_PATTERN_CHARACTERS}")
        source = re.escape(pattern) if "F" in flags else pattern
        if "w" in flags:
            source = rf"(?<!\w)(?:{source})(?!\w)"
        try:
            found = re.compile(source, re.MULTILINE | (re.IGNORECASE if "i" in flags else 0))
        except (re.error, OverflowError, RecursionError) as exc:
            raise CallerError(f"{pattern!r:.200} is no pattern ({exc}); -F takes it as it is") from None
        return cls(pattern=found, **more)  # type: ignore[arg-type]


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a text in which the pattern occurs, or, with ``context``, of an entry around one.

    ``line`` is the physical line, from 1. ``spans`` are where the pattern occurs in ``text``, in characters.
    """

    session_id: str
    segment_id: str
    line: int
    ts: int
    kind: str
    what: str
    text: str
    spans: tuple[tuple[int, int], ...] = ()
    context: bool = False


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries of a segment have a hit, and when the first of them was."""

    session_id: str
    segment_id: str
    count: int
    ts: int


def search(
    store: Store,
    segments: Iterable[tuple[str, str]],
    query: Query,
    *,
    resolve: bool = False,
    trace: bool = False,
    damage: list[Damage] | None = None,
    errors: list[SessionLogError] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Hit]:
    """Return the hits in segments, sorted by time; each line once, however many forks inherit it.

    ``resolve`` searches what the segments inherit, too; ``trace`` their traces instead. ``progress`` is told how many
    segments are done. Damaged lines are appended to ``damage``, segments that cannot be read to ``errors``, if these
    are given. ``selection.last`` hits are kept, if it says how many; else all, half a kilobyte each.

    Raises:
        NotFound: there is no such segment.
        CorruptSegment: a line is no entry, and ``damage`` was not given.
    """
    found = _found(store, segments, query, resolve, trace, damage, errors, progress)
    if query.selection.last is None:
        return sorted(found, key=_by_time)
    if query.selection.last == 0:
        return []
    return heapq.nlargest(query.selection.last, found, key=_by_time)[::-1]


def count_hits(
    store: Store,
    segments: Iterable[tuple[str, str]],
    query: Query,
    *,
    resolve: bool = False,
    trace: bool = False,
    damage: list[Damage] | None = None,
    errors: list[SessionLogError] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Count]:
    """Return how many entries of each segment have a hit, sorted by the time of the first; keeps none of them.

    Raises:
        NotFound, CorruptSegment: as :func:`search`.
    """
    counts: dict[str, Count] = {}
    last: tuple[str, int] | None = None
    for hit in _found(store, segments, query, resolve, trace, damage, errors, progress):
        if hit.context or last == (hit.segment_id, hit.line):
            continue
        last = hit.segment_id, hit.line
        known = counts.get(hit.segment_id)
        counts[hit.segment_id] = Count(
            session_id=hit.session_id,
            segment_id=hit.segment_id,
            count=known.count + 1 if known is not None else 1,
            ts=min(known.ts, hit.ts) if known is not None else hit.ts,
        )
    return sorted(counts.values(), key=lambda count: (count.ts, count.segment_id))


def _by_time(hit: Hit) -> tuple[int, str, int]:
    return hit.ts, hit.segment_id, hit.line


def _found(
    store: Store,
    segments: Iterable[tuple[str, str]],
    query: Query,
    resolve: bool,
    trace: bool,
    damage: list[Damage] | None,
    errors: list[SessionLogError] | None,
    progress: Callable[[int], None] | None,
) -> Iterator[Hit]:
    """Yield the hits, segment after segment."""
    wanted = _wanted(store, segments, resolve and not trace, damage, errors)
    for done, ((session_id, segment_id), stop) in enumerate(wanted.items(), 1):
        try:
            if trace:
                looked = seen_trace(store, session_id, segment_id, query.pattern, query.selection, damage)
            else:
                copied = {found for _, found in wanted}
                looked = seen_entries(
                    store, session_id, segment_id, copied, stop, query.pattern, query.selection, damage
                )
            yield from _hits(session_id, segment_id, looked, query)
        except SessionLogError as exc:
            if errors is None:
                raise
            errors.append(exc)
        if progress is not None:
            progress(done)


def _wanted(
    store: Store,
    segments: Iterable[tuple[str, str]],
    resolve: bool,
    damage: list[Damage] | None,
    errors: list[SessionLogError] | None,
) -> dict[tuple[str, str], int | None]:
    """Return which segments to look into, and how many lines of each (None: all)."""
    wanted: dict[tuple[str, str], int | None] = {}
    for session_id, segment_id in segments:
        try:
            spans = lineage(store, session_id, segment_id, damage=damage) if resolve else ()
        except SessionLogError as exc:
            if errors is None:
                raise
            errors.append(exc)
            continue
        for span in spans:
            key = session_id, span.segment_id
            known = wanted.get(key, 0)
            wanted[key] = None if known is None or span.entries is None else max(known, span.entries)
        if not spans:
            wanted[session_id, segment_id] = None
    return wanted


def _hits(session_id: str, segment_id: str, looked: Iterable[Seen], query: Query) -> Iterator[Hit]:
    """Yield what is found in a segment, and what stands around it."""
    before: list[Seen] = []
    after = found = 0
    in_turn = False
    for seen in looked:
        if seen.hit:
            found += 1
            for earlier in before:
                yield from _shown(session_id, segment_id, earlier, query, context=True)
            before.clear()
            yield from _shown(session_id, segment_id, seen, query, context=False)
            after, in_turn = query.after, query.turn
        elif after > 0 or in_turn:
            after -= 1
            yield from _shown(session_id, segment_id, seen, query, context=True)
        elif query.before or query.turn:
            before.append(seen)
            if not query.turn:
                del before[: -query.before]
        if seen.ends_turn:
            in_turn = False
            if query.turn:
                before.clear()
        if query.most is not None and found >= query.most and not after and not in_turn:
            return


def _shown(session_id: str, segment_id: str, seen: Seen, query: Query, *, context: bool) -> Iterator[Hit]:
    for said in seen.texts:
        for text in said.text.split("\n"):
            spans = () if context else tuple(found.span() for found in query.pattern.finditer(text))
            if not (spans or context):
                continue
            yield Hit(
                session_id=session_id,
                segment_id=segment_id,
                line=seen.line,
                ts=seen.ts,
                kind=seen.kind,
                what=said.what,
                text=text,
                spans=spans,
                context=context,
            )


def every_segment(store: Store, errors: list[SessionLogError] | None = None) -> list[tuple[str, str]]:
    """Return the ids of all segments, newest session first; what is deleted meanwhile is left out.

    Sessions that cannot be read are appended to ``errors``, if it is given.

    Raises:
        StoreUnavailable: one cannot be read, and ``errors`` was not given.
    """
    found = []
    for session_id in store.list_sessions():
        try:
            found += [(session_id, segment_id) for segment_id in store.list_segments(session_id)]
        except NotFound:
            continue
        except SessionLogError as exc:
            if errors is None:
                raise
            errors.append(exc)
    return found
