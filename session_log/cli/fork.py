"""``session-log fork``."""

import click

from session_log import FsStore, fork_at, fork_at_entry, restore
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.facts import move_active, rename


@click.command(
    epilog=examples(
        "session-log fork b1bbb@1",
        "session-log fork b1bbb:10 --copy --title 'The folder, again' -y",
        "session-log fork @last --dry-run",
        "session-log fork b1bbb@1 --activate --json",
    )
)
@click.argument("ref", metavar="REF[@TURN|:LINE]", type=REF)
@click.option("--copy", is_flag=True, help="With the history in it, instead of a reference to it.")
@click.option("--title", help="Rename the session.")
@click.option("--activate", is_flag=True, help="The conversation goes on there: move the active pointer.")
@writes
@shared()
def fork_command(
    given: Shared, ref: str, copy: bool, title: str | None, activate: bool, dry_run: bool, yes: bool
) -> int:
    """Fork after a turn or line (else at the end), and print the new segment's id. The source stays as it is."""
    out, found = given.output, given.resolve(ref)
    segment_id = found.segment()
    if not isinstance(found.store, FsStore):
        raise click.UsageError("what lies in no store cannot be forked; import it first.")
    turn, line = _cut(found, segment_id)
    place = f"{out.id(segment_id)}" + (f"@{turn}" if line is None else f":{line}")
    if dry_run:
        restore(found.store, found.session_id, segment_id, at_turn=turn, at_entries=line)
        out.note(f"would fork {place}")
        return Exit.YES
    if not out.confirm(f"Fork {place}?", yes=yes):
        return Exit.NO
    if line is not None:
        child = fork_at_entry(found.store, found.session_id, segment_id, line, copy_history=copy)
    else:
        assert turn is not None
        child = fork_at(found.store, found.session_id, segment_id, turn, copy_history=copy)
    if activate:
        move_active(found.store, found.session_id, child)
    if title is not None:
        rename(found.store, found.session_id, title)
    if out.json:
        out.record({"session_id": found.session_id, "segment_id": child})
    else:
        out.line(child)
    return Exit.YES


def _cut(found: Address, segment_id: str) -> tuple[int | None, int | None]:
    if found.turn is not None or found.line is not None:
        return found.turn, found.line
    return None, found.store.length(found.session_id, segment_id)
