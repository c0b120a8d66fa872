"""``session-log close``."""

import click

from session_log import FsStore
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.closing import CLOSED_MESSAGE, close_run, open_run


@click.command(
    epilog=examples(
        "session-log close c1ccc --dry-run",
        "session-log close a2aa -m 'the machine was restarted' -y --json",
        "session-log close a2aa --force",
    )
)
@click.argument("ref", type=REF)
@click.option("-m", "--message", default=CLOSED_MESSAGE, show_default=True, help="What its end says.")
@click.option("--force", is_flag=True, help="Although the status in its facts says that it runs.")
@writes
@shared()
def close_command(given: Shared, ref: str, message: str, force: bool, dry_run: bool, yes: bool) -> int:
    """End the run of REF that was interrupted: answer calls without a result with an error, and write its end.

    A run that somebody writes is refused (6). What is closed already stays as it is (1).
    """
    out, found = given.output, given.resolve(ref)
    segment_id = found.segment()
    if not isinstance(found.store, FsStore):
        raise click.UsageError("what lies in no store cannot be closed; import it first.")
    opened = open_run(found.store, found.session_id, segment_id, even_if_running=force)
    if not opened.pending and not opened.run_open:
        out.note(f"{out.id(segment_id)} has no open run")
        return Exit.NO
    what = " and ".join(
        [f"answer {len(opened.pending)} calls"] * bool(opened.pending) + ["end the run"] * opened.run_open
    )
    if dry_run:
        out.note(f"would {what} of {out.id(segment_id)}")
        return Exit.YES
    if not out.confirm(f"{what.capitalize()} of {out.id(segment_id)}?", yes=yes):
        return Exit.NO
    closed = close_run(found.store, found.session_id, segment_id, message=message, even_if_running=force)
    if out.json:
        out.record(closed)
        return Exit.YES
    for result in closed.answered:
        out.line(out.text(f"{out.id(segment_id)}: answered call {result.call_id}: {result.summary}"))
    if closed.ended:
        out.line(out.text(f"{out.id(segment_id)}: ended the run: {message}"))
    return Exit.YES
