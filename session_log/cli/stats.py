"""``session-log stats``."""

import functools
from collections.abc import Iterator

import click

from session_log import Damage
from session_log.cli._chosen import chosen_of
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, times
from session_log.cli._output import Output, columns
from session_log.cli._table import table
from session_log.cli.ls import size
from session_log.figures import LONGEST, Figures, ToolFigures, add_up, read_figures


@click.command(
    epilog=examples(
        "session-log stats",
        "session-log stats a1aa --longest 3",
        "session-log stats b2bbb --resolve --json | jq .tools",
        "session-log stats --since 2020-01-01 --until 2030-01-01",
    )
)
@click.argument("refs", metavar="[REF]...", type=REF, nargs=-1)
@click.option("--resolve", is_flag=True, help="Also what a fork inherits, each line once.")
@click.option(
    "--longest",
    type=click.IntRange(0, 1000),
    metavar="N",
    default=LONGEST,
    show_default=True,
    help="How many of the longest lines.",
)
@times
@shared()
def stats_command(
    given: Shared, refs: tuple[str, ...], resolve: bool, longest: int, since: int | None, until: int | None
) -> int:
    """Count entries and bytes by kind, turns, runs, and calls of tools; everywhere, or in sessions and segments.

    Each line counts once. Times of tools are from the line of the call to that of its result; half of the calls took no
    longer than p50, 95 % no longer than p95.
    """
    out, damage = given.output, list[Damage]()
    parts: list[Figures] = []
    with out.progress("counting") as progress:
        for store, chosen in chosen_of(given, refs, resolve=resolve):
            read = functools.partial(read_figures, store, chosen, damage=damage, progress=progress)
            parts.append(read(since=since, until=until, longest=longest))
    figures = add_up(parts, longest=longest)
    if out.json:
        tools = {name: _tool(tool) for name, tool in figures.tools.items()}
        out.record(figures, tools=tools)
    else:
        out.lines(_shown(out, figures))
    _say(out, figures, damage)
    return Exit.YES if figures.segments else Exit.NO


def _say(out: Output, figures: Figures, damage: list[Damage]) -> None:
    if damage:
        count = len({(found.path, found.line) for found in damage})
        first = damage[0]
        out.note(out.text(f"{count} damaged lines, the first is {first.path}:{first.line}: {first.reason}"))
    if figures.torn_bytes:
        out.note(f"{figures.torn_bytes} torn bytes, which were never committed, were not counted")
    if not figures.segments:
        out.note("there is no session")


def _tool(tool: ToolFigures) -> dict[str, int | None]:
    return {
        "calls": tool.calls,
        "errors": tool.errors,
        "unanswered": tool.unanswered,
        "p50_ms": tool.p50_ms,
        "p95_ms": tool.p95_ms,
    }


def _shown(out: Output, found: Figures) -> Iterator[str]:
    yield from columns(
        [
            ("segments", f"{found.segments:,}"),
            ("lines", f"{found.lines:,}" + (f" ({found.blank:,} blank)" if found.blank else "")),
            ("bytes", size(found.size_bytes)),
            ("turns", f"{found.turns:,}"),
            ("runs", ", ".join(f"{count:,} {what}" for what, count in _runs(found))),
            ("from", _time(found.first_ts)),
            ("to", _time(found.last_ts)),
        ]
    )
    if found.kinds:
        yield ""
        rows = [(out.text(name), f"{kind.entries:,}", size(kind.size_bytes)) for name, kind in found.kinds.items()]
        yield from table(out, ("kind", "entries", "bytes"), rows)
    if found.tools:
        yield ""
        yield from table(
            out,
            ("tool", "calls", "errors", "unanswered", "p50", "p95"),
            [
                (out.text(name), *(f"{count:,}" for count in (tool.calls, tool.errors, tool.unanswered)), *_took(tool))
                for name, tool in found.tools.items()
            ],
        )
    if found.longest:
        yield ""
        places = [(f"{out.id(line.segment_id)}:{line.line}", line) for line in found.longest]
        yield from table(
            out, ("longest", "bytes", "kind"), [(at, size(line.size_bytes), out.text(line.kind)) for at, line in places]
        )


def _runs(found: Figures) -> list[tuple[str, int]]:
    return [
        ("completed", found.runs_completed),
        ("errored", found.runs_errored),
        ("interrupted", found.runs_interrupted),
        ("open", found.runs_open),
    ]


def _took(tool: ToolFigures) -> tuple[str, str]:
    return _length(tool.p50_ms), _length(tool.p95_ms)


def _length(time_ms: int | None) -> str:
    if time_ms is None:
        return "-"
    if time_ms < 1000:
        return f"{time_ms} ms"
    return f"{time_ms / 1000:,.2f} s" if time_ms < 10_000 else f"{time_ms / 1000:,.0f} s"


def _time(ts: int | None) -> str:
    import datetime

    if ts is None:
        return "-"
    try:
        return f"{datetime.datetime.fromtimestamp(ts / 1000, datetime.UTC):%Y-%m-%d %H:%M:%S}Z"
    except (OverflowError, ValueError, OSError):
        return f"{ts} ms"
