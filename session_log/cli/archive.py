"""``session-log archive``."""

import click

from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.facts import archive, read_facts, unarchive


@click.command(
    epilog=examples(
        "session-log archive a1aa -y",
        "session-log archive a1aa --undo --json",
        "session-log archive @last --dry-run",
    )
)
@click.argument("session", type=REF)
@click.option("--undo", is_flag=True, help="Take it out of the archive, with the status it had.")
@writes
@shared()
def archive_command(given: Shared, session: str, undo: bool, dry_run: bool, yes: bool) -> int:
    """Archive SESSION: it stays where it is, and says that it is over. Ends with 1 if there is nothing to do."""
    out, found = given.output, given.resolve(session)
    what = "unarchive" if undo else "archive"
    if read_facts(found.store, found.session_id).archived != undo:
        out.note(f"{out.id(found.session_id)} is {'not' if undo else 'already'} archived")
        return Exit.NO
    if dry_run:
        out.note(f"would {what} {out.id(found.session_id)}")
        return Exit.YES
    if not out.confirm(f"{what.capitalize()} {out.id(found.session_id)}?", yes=yes):
        return Exit.NO
    facts = (unarchive if undo else archive)(found.store, found.session_id)
    if out.json:
        out.record({"session_id": facts.session_id, "status": facts.status})
    return Exit.YES
