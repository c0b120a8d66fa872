"""``session-log import``."""

import sys
from typing import Any, BinaryIO, Literal

import click

from session_log import FsStore, MemoryStore, NotFound, Store
from session_log.addresses import STDIN
from session_log.cli._exits import Exit
from session_log.cli._options import Shared, examples, shared, writes
from session_log.cli._output import Output

OnExisting = Literal["refuse", "update", "new"]
SHOWN = 20
"""How many lines of a kind are listed where a person reads; all are with ``--json``."""


FORMATS = ("auto", "pi", "codex", "claude", "openai", "anthropic", "swe-agent", "session-log")
"""What ``--from`` takes: help and completion do not import the importers for that."""


@click.command(
    epilog=examples(
        "session-log export a1aa > export.jsonl && session-log import export.jsonl --root copy",
        "session-log state a1aa --messages openai > chat.json && session-log import chat.json --from openai --json",
        "session-log state a1aa --messages openai | session-log import - --source-id chat-7 --dry-run",
        "session-log state a1aa --messages openai | session-log import - --update --source-id chat-7 -y",
        "session-log state a1aa --messages openai | session-log import - --again",
    )
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--from", "form", type=click.Choice(FORMATS), default="auto", show_default=True, help="What wrote it.")
@click.option("--update", is_flag=True, help="Append what a source has grown by since it was imported.")
@click.option("--again", is_flag=True, help="Make one more session of what was imported before.")
@click.option("--source-id", metavar="ID", help="What the source is known by, if it does not say so itself.")
@writes
@shared()
def import_command(
    given: Shared,
    files: tuple[str, ...],
    form: str,
    update: bool,
    again: bool,
    source_id: str | None,
    dry_run: bool,
    yes: bool,
) -> int:
    """Import recordings of other tools, or exports of ours, as sessions with their branches; - is standard input.

    Prints the new session, and what became of the lines: taken, kept verbatim, or dropped, with their numbers. What
    was imported before is refused (1), unless --update or --again. A dry run does all of it in memory.
    """
    out = given.output
    if update and again:
        raise click.UsageError("--update goes on with the session, --again makes another; give one of them.")
    if source_id is not None and len(files) > 1:
        raise click.UsageError("--source-id is of one FILE.")
    if not dry_run and not out.confirm(f"Import {len(files)} files into {given.store.root}?", yes=yes):
        return Exit.NO
    existing: OnExisting = "update" if update else "new" if again else "refuse"
    store: Store = MemoryStore() if dry_run else given.store
    code = Exit.YES
    for file in files:
        report = _import(out, store, file, form=form, on_existing=existing, source_id=source_id)
        if report is None:
            code = Exit.NO
        elif dry_run and existing == "refuse" and _is_known(given.store, report.session_id):
            out.note(out.text(f"{file} was imported before, as {report.session_id}; --update or --again"))
            code = Exit.NO
        elif out.json:
            out.record(report, file=file)
        else:
            _print(out, file, report, dry_run=dry_run)
    return code


def _is_known(store: FsStore, session_id: str) -> bool:
    try:
        return bool(store.list_segments(session_id))
    except NotFound:
        return False


def _import(out: Output, store: Store, file: str, *, form: str, on_existing: OnExisting, source_id: str | None) -> Any:
    from session_log.importers import AlreadyImported, import_file

    source: str | BinaryIO = sys.stdin.buffer if file == STDIN else file
    with out.progress(f"importing {out.text(file)}") as progress:
        try:
            return import_file(
                store, source, format=form, on_existing=on_existing, source_id=source_id, progress=progress
            )
        except AlreadyImported as exc:
            out.note(out.text(str(exc)))
            return None


def _print(out: Output, file: str, report: Any, *, dry_run: bool) -> None:
    """Print an ``ImportReport``."""
    made = "session" if report.created else "updated"
    session = "would be imported" if dry_run else f"{made} {report.session_id}"
    segments = f"{len(report.segments)} segment" + ("" if len(report.segments) == 1 else "s")
    out.line(f"{out.text(file)}: {session}, {segments}, from {report.records} {report.format} records")
    for name in ("taken", "kept"):
        counts = getattr(report, name)
        if counts:
            listed = ", ".join(f"{count} {out.text(kind)}" for kind, count in sorted(counts.items()))
            out.line(f"  {name}: {sum(counts.values())} ({listed})")
    for name in ("dropped", "problems", "warnings"):
        told = getattr(report, name)
        if not told:
            continue
        out.line(f"  {name}: {len(told)}")
        for one in told[:SHOWN]:
            out.line(f"    {f'line {one.line}: ' if one.line else ''}{out.text(one.reason)}")
        if len(told) > SHOWN:
            out.line(f"    and {len(told) - SHOWN} more (--json lists all)")
