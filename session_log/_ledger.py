"""The ledger: what model calls took and cost, added up. Pure; :mod:`session_log.usage` finds the calls."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, localcontext
from typing import Any, Final, NamedTuple

import msgspec

from session_log._entries import LlmUsage, UsageRecord
from session_log._errors import CallerError
from session_log._ids import parse_id
from session_log._state import Damage

_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MILLION_DIGITS: Final = 6
_EXACT_DIGITS: Final = 1000
MAX_PRICE_DIGITS: Final = 18
"""How many digits a price may have on either side of its point: sums are exact, and not to be made endless."""


class UsageCall(msgspec.Struct, frozen=True, kw_only=True):
    """One model call. ``line`` counts from 1; carried ones stand in line 1, and have neither ``ts`` nor ``turn``."""

    session_id: str
    segment_id: str
    line: int
    ts: int | None
    turn: int | None
    record: UsageRecord

    @property
    def day(self) -> str | None:
        """The day it was recorded on, UTC, as ``2025-07-02``; None if there is none."""
        return _day(None if self.ts is None else self.ts // _DAY_MS)


def _day(number: int | None) -> str | None:
    """Return the day of a number, counted from 1970, as text; None if no calendar has it."""
    try:
        return None if number is None else date.fromordinal(_EPOCH + number).isoformat()
    except (ValueError, OverflowError):
        return None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens of a model cost, in any currency. None: as the input, or the output, that they are of."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None


class UsageTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of some calls.

    ``input_tokens`` include ``cached_input_tokens`` and ``cache_write_tokens``, ``output_tokens`` include
    ``reasoning_tokens``. ``cost`` is that of the calls with a price, exactly; None if there are none. Calls that took
    tokens of a model without a price are counted in ``unpriced_calls``.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    latency_ms: int = 0
    cost: Decimal | None = None
    unpriced_calls: int = 0

    def __add__(self, other: "UsageTotal") -> "UsageTotal":
        costs = [total.cost for total in (self, other) if total.cost is not None]
        sums = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return UsageTotal(**sums, cost=_exact_sum(costs) if costs else None)


_COUNTS: Final = tuple(name for name in UsageTotal.__struct_fields__ if name != "cost")


class TurnOf(NamedTuple):
    """A turn of a segment: forks of one parent have turns of the same number."""

    segment_id: str
    turn: int


class MissingSource(NamedTuple):
    """A segment that names a parent which is not in its session."""

    session_id: str
    segment_id: str
    parent: str


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of the same calls, cut in every way. The key None holds calls that do not say.

    ``segments`` are a segment's own lines, ``sessions`` the whole tree of one, ``total`` everything. ``unpriced`` names
    the models that took tokens and have no price.
    """

    total: UsageTotal
    models: dict[str | None, UsageTotal]
    sources: dict[str | None, UsageTotal]
    days: dict[str | None, UsageTotal]
    turns: dict[TurnOf, UsageTotal]
    segments: dict[str, UsageTotal]
    sessions: dict[str, UsageTotal]
    unpriced: tuple[str | None, ...] = ()
    missing: tuple[MissingSource, ...] = ()
    damage: tuple[Damage, ...] = ()

    def over(self, segment_ids: Iterable[str]) -> UsageTotal:
        """Return the total of some segments, each counted once: of a part of a tree, say."""
        total = UsageTotal()
        for segment_id in dict.fromkeys(map(parse_id, segment_ids)):
            total += self.segments.get(segment_id, UsageTotal())
        return total


def _exact_sum(costs: list[Decimal]) -> Decimal:
    with localcontext() as context:
        context.prec = _EXACT_DIGITS
        return sum(costs, Decimal(0))


# ── adding up ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Kind(NamedTuple):
    """What calls differ in, but for their turn; the day as a number."""

    session_id: str
    segment_id: str
    model: str | None
    source: str | None
    day: int | None


class Taken(NamedTuple):
    """A call of a known session, on its way into the sums; what it took, as it was found."""

    segment_id: str
    line: int
    turn: int | None
    ts: int | None
    took: UsageRecord | LlmUsage


class _Rates(NamedTuple):
    """Prices as integers of one unit: sums of them are exact."""

    input: int
    cached_input: int
    cache_write: int
    output: int
    reasoning: int


class Sums:
    """Sums in the making, by all that calls of one session differ in."""

    def __init__(self, prices: Mapping[str, Price] | None) -> None:
        self._rates, self._scale = _rates(prices or {})
        self._turns: dict[TurnOf, list[int]] = {}
        self._kinds: dict[_Kind, list[int]] = {}

    def extend(self, session_id: str, calls: Iterable[Taken]) -> None:
        """Add calls of one session."""
        sums: dict[tuple[str, int | None, str | None, str | None, int | None], list[int]] = {}
        for segment_id, _, turn, ts, took in calls:
            key = segment_id, turn, took.model, took.source, None if ts is None else ts // _DAY_MS
            present = sums.get(key)
            if present is None:
                present = sums[key] = [0] * 10
            total, cached, written = took.input_total_tokens, took.cache_read_tokens, took.cache_write_tokens
            output, reasoning = took.output_tokens, took.reasoning_tokens or 0
            present[0] += 1
            present[1] += total
            present[2] += cached
            present[3] += written
            present[4] += output
            present[5] += reasoning
            present[6] += took.latency_ms or 0
            rates = self._rates.get(took.model) if took.model is not None else None
            if rates is not None:
                present[8] += 1
                present[9] += (
                    max(0, total - cached - written) * rates.input
                    + cached * rates.cached_input
                    + written * rates.cache_write
                    + max(0, output - reasoning) * rates.output
                    + reasoning * rates.reasoning
                )
            elif total or cached or written or output or reasoning:
                present[7] += 1
        for (segment_id, turn, model, source, day), amounts in sums.items():
            _add(self._kinds, _Kind(session_id, segment_id, model, source, day), amounts)
            if turn is not None:
                _add(self._turns, TurnOf(segment_id, turn), amounts)

    def ledger(self, missing: tuple[MissingSource, ...], damage: tuple[Damage, ...]) -> Ledger:
        """Return the totals so far."""
        total: dict[None, list[int]] = {}
        groups: tuple[dict[Any, list[int]], ...] = ({}, {}, {}, {}, {})
        for kind, sums in self._kinds.items():
            _add(total, None, sums)
            keys = kind.model, kind.source, _day(kind.day), kind.segment_id, kind.session_id
            for group, key in zip(groups, keys, strict=True):
                _add(group, key, sums)
        models, sources, days, segments, sessions = ({
            key: self._frozen(sums) for key, sums in group.items() if any(sums[1:6])} for group in groups
        )  # fmt: skip
        return Ledger(
            total=self._frozen(total[None]) if total else UsageTotal(),
            models=models,
            sources=sources,
            days=days,
            turns={key: self._frozen(sums) for key, sums in self._turns.items() if any(sums[1:6])},
            segments=segments,
            sessions=sessions,
            unpriced=tuple(sorted((model for model in models if models[model].unpriced_calls), key=str)),
            missing=missing,
            damage=damage,
        )

    def _frozen(self, sums: list[int]) -> UsageTotal:
        calls, total, cached, written, output, reasoning, latency_ms, unpriced, priced, cost = sums
        return UsageTotal(
            calls=calls,
            input_tokens=total,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=output,
            reasoning_tokens=reasoning,
            latency_ms=latency_ms,
            cost=Decimal(f"{cost}E-{self._scale}") if priced else None,
            unpriced_calls=unpriced,
        )


def _add(sums: dict[Any, list[int]], key: object, amounts: Iterable[int]) -> None:
    present = sums.get(key)
    sums[key] = list(amounts) if present is None else [a + b for a, b in zip(present, amounts, strict=True)]


def _rates(prices: Mapping[str, Price]) -> tuple[dict[str, _Rates], int]:
    """Return the prices of one token, as integers, and the power of ten by which they are too large."""
    digits = 0
    for model, price in prices.items():
        if not isinstance(price, Price):
            raise CallerError(f"the price of {model!r}: {price!r} is no Price")
        for name in Price.__struct_fields__:
            digits = max(digits, _digits_behind_point(getattr(price, name), f"the price of {model!r}: {name}"))
    return {model: _scaled(price, digits) for model, price in prices.items()}, digits + _MILLION_DIGITS


def _digits_behind_point(rate: object, where: str) -> int:
    if rate is None and not where.endswith((": input", ": output")):
        return 0
    if not isinstance(rate, Decimal) or not rate.is_finite() or rate < 0:
        raise CallerError(f"{where}={rate!r} is no price; give a Decimal from 0 up")
    exponent = int(rate.as_tuple().exponent)
    if -exponent > MAX_PRICE_DIGITS or rate.adjusted() >= MAX_PRICE_DIGITS:
        reason = f"more than {MAX_PRICE_DIGITS} digits on a side of its point (MAX_PRICE_DIGITS)"
        raise CallerError(f"{where}={rate!r} has {reason}")
    return max(0, -exponent)


def _scaled(price: Price, digits: int) -> _Rates:
    def whole(rate: Decimal | None, otherwise: Decimal) -> int:
        with localcontext() as context:
            context.prec = _EXACT_DIGITS
            return int((otherwise if rate is None else rate).scaleb(digits))

    return _Rates(
        input=whole(price.input, price.input),
        cached_input=whole(price.cached_input, price.input),
        cache_write=whole(price.cache_write, price.input),
        output=whole(price.output, price.output),
        reasoning=whole(price.reasoning, price.output),
    )
