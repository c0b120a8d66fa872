"""Usage: what the model calls of sessions took, each counted once, where it was written.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.usage import read_ledger
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_usage(2, 900, 600, 0, 50, model="m-1")
>>> read_ledger(store).models["m-1"].input_tokens
900

The rules:

1. A call is an ``llm_usage`` line. A fork refers to lines of its parent and holds none of them: nothing is counted
   twice. A call that was rolled back was made all the same, and counts.
2. What a self-contained fork or a compaction carries was counted where it was written. Only what is written nowhere in
   the session, its segment being gone or damaged, counts where it is carried: without a time and a turn, and once,
   however many carry it. Such calls are told apart by all that is recorded of them: of equal ones, there are as many as
   are written, or as are carried by the one that carries most.
3. A segment whose parent is not in the session is listed in ``missing``: what nobody carries of it is not counted.
4. Totals without any token are left out.
5. Nothing costs anything but by a given price; ``cached_input``, ``cache_write`` and ``reasoning`` tokens are parts of
   the input and the output.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from session_log._chosen import Chosen, spans_of
from session_log._entries import LlmUsage, UsageRecord
from session_log._errors import CallerError, InvalidId, NotFound
from session_log._fold import usage_record
from session_log._ids import parse_id
from session_log._ledger import (
    MAX_PRICE_DIGITS,
    Ledger,
    MissingSource,
    Price,
    Sums,
    Taken,
    TurnOf,
    UsageCall,
    UsageTotal,
)
from session_log._state import Damage
from session_log._store import Store
from session_log._usage_lines import usage_of

__all__ = [
    "Chosen",
    "Ledger",
    "MAX_PRICE_DIGITS",
    "MissingSource",
    "Price",
    "TurnOf",
    "UsageCall",
    "UsageTotal",
    "ledger_of",
    "read_calls",
    "read_ledger",
    "read_prices",
]


class _Priced(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price as a file says it: a name that is misspelled would cost money."""


_prices = msgspec.json.Decoder(dict[str, _Priced]).decode


def read_prices(data: bytes) -> dict[str, Price]:
    """Return prices from JSON: an object of models, each ``{"input": 3, "output": 15, "cached_input": "0.30"}``.

    Numbers and texts are taken exactly as they are written; the fields are those of :class:`Price`.

    Raises:
        CallerError: it is no such object.
    """
    try:
        return {model: Price(**msgspec.structs.asdict(price)) for model, price in _prices(data).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        remedy = 'give {"MODEL": {"input": 3, "output": 15}}, for a million tokens'
        raise CallerError(f"the prices: are no table of prices ({exc}); {remedy}") from None


def read_calls(store: Store, session_id: str, *, damage: list[Damage] | None = None) -> list[UsageCall]:
    """Return the calls of a session, each once, segment by segment, oldest first; no texts are read.

    Damaged lines are appended to ``damage``, if it is given. Only those that hold usage, or could, are looked at.

    Raises:
        NotFound: there is no such session.
        CorruptSegment: a line is damaged, and ``damage`` was not given.
        UnsupportedVersion: a segment was written by a later format.
    """
    session_id = parse_id(session_id)
    return [
        UsageCall(
            session_id=session_id,
            segment_id=call.segment_id,
            line=call.line,
            ts=call.ts,
            turn=call.turn,
            record=usage_record(call.took) if isinstance(call.took, LlmUsage) else call.took,
        )
        for call in _calls(store, session_id, damage, [])
    ]


def read_ledger(
    store: Store,
    session_ids: Iterable[str] | None = None,
    *,
    prices: Mapping[str, Price] | None = None,
    salvage: bool = False,
    chosen: Iterable[Chosen] | None = None,
    since: int | None = None,
    until: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Ledger:
    """Total the usage of some sessions (None: of all), with the cost by ``prices``, a table by model.

    With ``salvage``, damaged lines are listed in ``damage`` instead of raised; a segment without a sound first line is
    not counted. ``chosen``: of these segments, or their first lines, alone, each line once (of their sessions, if none
    are given). ``since`` and ``until``: of this time alone, in milliseconds, UTC, both included; calls without a time
    are left out then. ``progress`` is told how many sessions are done, of how many.

    Raises:
        NotFound, CorruptSegment, UnsupportedVersion: as :func:`read_calls`.
        BrokenLineage, MissingAncestor: what a chosen segment inherits is not there.
        CallerError: a price is none.
    """
    damage: list[Damage] | None = [] if salvage else None
    missing: list[MissingSource] = []
    sums = Sums(prices)
    wanted = spans_of(store, chosen, damage) if chosen is not None else None
    if wanted is not None and session_ids is None:
        session_ids = [session_id for session_id, _ in wanted]
    given = session_ids is not None
    listed = dict.fromkeys(map(parse_id, session_ids if session_ids is not None else store.list_sessions()))
    for done, session_id in enumerate(listed, 1):
        lost: list[MissingSource] = []
        try:
            calls = list(_calls(store, session_id, damage, lost))
        except NotFound:
            if given:
                raise
            continue  # deleted since it was listed
        missing += (source for source in lost if wanted is None or (session_id, source.segment_id) in wanted)
        sums.extend(session_id, _within(calls, session_id, wanted, since, until))
        if progress is not None:
            progress(done, len(listed))
    return sums.ledger(tuple(missing), tuple(damage or ()))


def _within(
    calls: Iterable[Taken],
    session_id: str,
    wanted: Mapping[tuple[str, str], int | None] | None,
    since: int | None,
    until: int | None,
) -> Iterator[Taken]:
    for call in calls:
        stop = wanted.get((session_id, call.segment_id), 0) if wanted is not None else None
        if stop is not None and call.line > stop:
            continue
        if (since is None and until is None) or (
            call.ts is not None and (since is None or call.ts >= since) and (until is None or call.ts <= until)
        ):
            yield call


def ledger_of(calls: Iterable[UsageCall], *, prices: Mapping[str, Price] | None = None) -> Ledger:
    """Total calls that were read and chosen before: those of one node, say. Pure.

    Raises:
        CallerError: a price is none.
    """
    sums = Sums(prices)
    for session_id, group in itertools.groupby(calls, lambda call: call.session_id):
        sums.extend(session_id, [Taken(call.segment_id, call.line, call.turn, call.ts, call.record) for call in group])
    return sums.ledger((), ())


def _calls(store: Store, session_id: str, damage: list[Damage] | None, missing: list[MissingSource]) -> Iterator[Taken]:
    """Yield each call of a session once."""
    found = {}
    for segment_id in sorted(store.list_segments(session_id)):
        usage = usage_of(store, session_id, segment_id, damage)
        if usage is not None:
            found[segment_id] = usage
    counted: Counter[UsageRecord] = Counter()
    if any(usage.carried for usage in found.values()):
        counted.update(usage_record(spent.entry) for usage in found.values() for spent in usage.spent)
    for segment_id, usage in found.items():
        if usage.parent is not None and not _is_in(usage.parent, found):
            missing.append(MissingSource(session_id, segment_id, usage.parent))
        for record in _not_yet(usage.carried, counted):
            yield Taken(segment_id, 1, None, None, record)
        for line, turn, entry in usage.spent:
            yield Taken(segment_id, line, turn, entry.ts, entry)


def _is_in(parent: str, found: Mapping[str, object]) -> bool:
    with contextlib.suppress(InvalidId):
        return parse_id(parent) in found
    return False


def _not_yet(carried: Iterable[UsageRecord], counted: Counter[UsageRecord]) -> Iterator[UsageRecord]:
    """Yield the records that are carried more often than they were counted, and count them."""
    here: Counter[UsageRecord] = Counter()
    for record in carried:
        here[record] += 1
        if here[record] > counted[record]:
            counted[record] += 1
            yield record
