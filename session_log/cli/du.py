"""``session-log du``."""

from collections.abc import Iterable

import click
import msgspec

from session_log import FsStore
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output
from session_log.cli.ls import size
from session_log.disk import Amount, DiskUsage, disk_usage


@click.command(
    epilog=examples(
        "session-log du",
        "session-log du a1aa a2aa --bytes",
        "session-log du -n 5",
        "session-log du @last --json | jq .entries",
    )
)
@click.argument("refs", metavar="[REF]...", type=REF, nargs=-1)
@click.option("-n", "limit", type=click.IntRange(min=0), default=20, show_default=True, help="So many sessions.")
@click.option("--bytes", "exact", is_flag=True, help="Sizes in bytes, not in kB and MB.")
@shared()
def du_command(given: Shared, refs: tuple[str, ...], limit: int, exact: bool) -> int:
    """Show what takes how much: by kind of file, by session, largest first, and by kind of entry.

    With --json, an object for all, or for each session of REF; it names all sessions.
    """
    out = given.output
    found: dict[str | None, DiskUsage] = {}
    if not refs:
        with out.progress("reading") as progress:
            found[None] = disk_usage(given.store, progress=progress.tell)
    for ref in refs:
        address = given.resolve(ref)
        if not isinstance(address.store, FsStore):
            raise click.UsageError("what lies in no store takes nothing there.")
        found[address.session_id] = disk_usage(address.store, address.session_id)
    for session_id, usage in found.items():
        if out.json:
            out.record(usage, session_id=session_id, total=msgspec.to_builtins(usage.total))
        else:
            _print(out, session_id, usage, limit, exact)
    return Exit.YES


def _print(out: Output, session_id: str | None, usage: DiskUsage, limit: int, exact: bool) -> None:
    out.line(_row(usage.total, "total" if session_id is None else f"session {out.id(session_id)}", exact))
    _table(out, "by kind of file", _largest(usage.files), exact)
    if session_id is None:
        sessions = [(out.id(name), amount) for name, amount in _largest(usage.sessions)]
        _table(out, "by session", sessions[:limit], exact)
        if len(sessions) > limit:
            out.note(f"{len(sessions) - limit} sessions more (-n)")
    _table(out, "by kind of entry", _largest(usage.entries), exact)
    _table(out, "by kind of entry in traces", _largest(usage.trace_entries), exact)


def _largest(found: dict[str, Amount]) -> list[tuple[str, Amount]]:
    return sorted(found.items(), key=lambda item: (-item[1].bytes, item[0]))


def _table(out: Output, title: str, rows: Iterable[tuple[str, Amount]], exact: bool) -> None:
    lines = [_row(amount, out.text(name), exact) for name, amount in rows]
    if lines:
        out.line(out.style(title, bold=True))
        out.lines(lines, page=False)


def _row(amount: Amount, name: str, exact: bool) -> str:
    return f"{amount.bytes if exact else size(amount.bytes):>12}  {amount.count:>9,}  {name}"
