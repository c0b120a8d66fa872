"""``session-log usage``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from session_log.cli._chosen import chosen_of
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, times
from session_log.cli._output import Output
from session_log.cli._table import table
from session_log.usage import Ledger, TurnOf, UsageTotal, read_ledger, read_prices

CUTS = ("model", "source", "day", "session", "segment", "turn")


@click.command(
    epilog=examples(
        "session-log usage",
        "session-log usage a1aa --by turn",
        "session-log usage b2bbb --resolve --by day --json",
        """echo '{"model-a": {"input": 3, "output": 15, "cached_input": 0.3}}' > prices.json; """
        "session-log usage --prices prices.json",
        "session-log usage --by session --since 2020-01-01 --until 2030-01-01",
    )
)
@click.argument("refs", metavar="[REF]...", type=REF, nargs=-1)
@click.option("--by", "cut", type=click.Choice(CUTS), default="model", show_default=True, help="A row for each.")
@click.option("--resolve", is_flag=True, help="Also what a fork inherits, each call once.")
@click.option(
    "--prices", "prices", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON, per million tokens."
)
@times
@shared()
def usage_command(
    given: Shared,
    refs: tuple[str, ...],
    cut: str,
    resolve: bool,
    prices: Path | None,
    since: int | None,
    until: int | None,
) -> int:
    """Add up the tokens of model calls, each once, where it was made; everywhere, or of sessions and segments.

    Input includes cached input, output includes reasoning. Prices are an object of models, each with "input" and
    "output", perhaps "cached_input", "cache_write", "reasoning".
    """
    out, places = given.output, chosen_of(given, refs, resolve=resolve)
    if len(places) > 1:
        raise click.UsageError("these are in several roots; give those of one at a time")
    ((store, chosen),) = places
    table_of_prices = read_prices(prices.read_bytes()) if prices is not None else None
    with out.progress("adding up") as progress:
        ledger = read_ledger(
            store, chosen=chosen, prices=table_of_prices, salvage=True, since=since, until=until, progress=progress
        )
    rows = _rows(ledger, cut)
    if out.json:
        for key, total in rows:
            out.record(total, by=cut, key=key._asdict() if isinstance(key, TurnOf) else key)
        out.record(ledger.total, by="total", key=None)
    else:
        out.lines(table(out, *_shown(out, ledger, rows, cut, prices is not None)))
    _say(out, ledger)
    return Exit.YES if ledger.total.calls else Exit.NO


def _rows(ledger: Ledger, cut: str) -> list[tuple[Any, UsageTotal]]:
    """Return the totals of a cut: days and turns in their order, others by their tokens, most first."""
    cuts: dict[str, Mapping[Any, UsageTotal]] = {
        "model": ledger.models,
        "source": ledger.sources,
        "day": ledger.days,
        "session": ledger.sessions,
        "segment": ledger.segments,
        "turn": ledger.turns,
    }
    totals = cuts[cut]
    if cut == "turn":
        return sorted(totals.items())
    if cut == "day":
        return sorted(totals.items(), key=lambda row: row[0] or "")
    return sorted(totals.items(), key=lambda row: (-row[1].input_tokens - row[1].output_tokens, str(row[0])))


def _shown(
    out: Output, ledger: Ledger, rows: list[tuple[Any, UsageTotal]], cut: str, priced: bool
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    names = (cut, "calls", "input", "cached", "output", "reasoning", *(["cost"] if priced else []))
    shown = [(_key(out, key, cut), *_cells(total, priced)) for key, total in rows]
    return names, [*shown, ("total", *_cells(ledger.total, priced))]


def _key(out: Output, key: Any, cut: str) -> str:
    if key is None:
        return "(none said)"
    if isinstance(key, TurnOf):
        return f"{out.id(key.segment_id)}@{key.turn}"
    return out.id(key) if cut in ("session", "segment") else out.text(key)


def _cells(total: UsageTotal, priced: bool) -> tuple[str, ...]:
    numbers = total.calls, total.input_tokens, total.cached_input_tokens, total.output_tokens, total.reasoning_tokens
    return (*(f"{number:,}" for number in numbers), *([_cost(total)] if priced else []))


def _cost(total: UsageTotal) -> str:
    """Return the cost, rounded to a millionth; ``--json`` has all of it."""
    if total.cost is None:
        return "unpriced" if total.unpriced_calls else "0"
    whole, _, fraction = f"{total.cost:,.6f}".partition(".")
    cost = f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    return f"{cost} + unpriced" if total.unpriced_calls else cost


def _say(out: Output, ledger: Ledger) -> None:
    if ledger.damage:
        first = ledger.damage[0]
        out.note(
            out.text(f"{len(ledger.damage)} damaged lines were not counted, the first is {first.path}:{first.line}")
        )
    for source in ledger.missing:
        lost = out.id(source.segment_id), out.id(source.parent)
        out.note(out.text(f"{lost[0]} comes from {lost[1]}, which is missing: what it took is not counted"))
    if not ledger.total.calls:
        out.note("no model call was recorded")
