"""``session-log trash``."""

import click

from session_log.addresses import resolve_trashed
from session_log.cli._exits import Exit
from session_log.cli._options import Duration, Shared, examples, shared, writes
from session_log.cli._output import Output, columns
from session_log.cli.ls import age, size
from session_log.trash import Trashed, list_trash, purge, undelete_segment, undelete_session


@click.group(
    epilog=examples(
        "session-log trash ls",
        "session-log rm a3aa && session-log trash ls --json",
        "session-log rm a3aa && session-log trash restore a3aa -y",
        "session-log trash purge --older-than 28d --dry-run",
        "session-log rm a3aa && session-log trash purge --json",
    )
)
def trash_command() -> None:
    """List, bring back, or remove for good what was deleted."""


@trash_command.command("ls", epilog=examples("session-log trash ls --json"))
@shared()
def ls_command(given: Shared) -> int:
    """List what is in the trash, what was deleted last first."""
    out, found = given.output, list_trash(given.store)
    _print(out, found)
    if not found and not out.json:
        out.note("the trash is empty")
    return Exit.YES if found else Exit.NO


@trash_command.command("restore", epilog=examples("session-log rm a3aa && session-log trash restore a3aa"))
@click.argument("name", metavar="ID")
@writes
@shared()
def restore_command(given: Shared, name: str, dry_run: bool, yes: bool) -> int:
    """Bring back a session or segment, as it was; ID is its id, the end of it, or the name that ls shows."""
    out, found = given.output, resolve_trashed(given.store, name)
    what = f"session {found.session_id}" if found.segment_id is None else f"segment {found.segment_id}"
    if dry_run:
        out.note(f"would bring back {what}")
        return Exit.YES
    if not out.confirm(f"Bring back {what}?", yes=yes):
        return Exit.NO
    if found.segment_id is None:
        undelete_session(given.store, found.session_id, name=found.name)
    else:
        undelete_segment(given.store, found.session_id, found.segment_id)
    if out.json:
        out.record({"session_id": found.session_id, "segment_id": found.segment_id})
    else:
        out.line(what)
    return Exit.YES


@trash_command.command("purge", epilog=examples("session-log trash purge --older-than 28d -y"))
@click.option("--older-than", type=Duration(), metavar="TIME", help="Only what was deleted longer ago: 28d, 2h.")
@writes
@shared()
def purge_command(given: Shared, older_than: float | None, dry_run: bool, yes: bool) -> int:
    """Remove what is in the trash for good: nothing brings it back. Payloads are left to gc."""
    out = given.output
    bound = int(older_than * 1000) if older_than is not None else None
    doomed = purge(given.store, bound, dry_run=True)
    if not doomed:
        out.note("nothing to purge")
        return Exit.NO
    taken = size(sum(found.size_bytes for found in doomed))
    if not dry_run:
        if not out.confirm(f"Remove {len(doomed)} deleted things ({taken}) for good?", yes=yes):
            return Exit.NO
        with out.progress("purging") as progress:
            doomed = purge(given.store, bound, progress=progress.tell)
    _print(out, doomed)
    out.note(f"{'would remove' if dry_run else 'removed'} {len(doomed)} for good, {taken}")
    return Exit.YES


def _print(out: Output, found: tuple[Trashed, ...]) -> None:
    if out.json:
        for trashed in found:
            out.record(trashed)
    else:
        out.lines(columns([_row(out, trashed) for trashed in found]))


def _row(out: Output, found: Trashed) -> tuple[str, ...]:
    return (
        "session" if found.segment_id is None else "segment",
        out.style(out.id(found.segment_id or found.session_id), fg="yellow"),
        age(found.deleted_ts),
        size(found.size_bytes),
        out.text(found.name),
    )
