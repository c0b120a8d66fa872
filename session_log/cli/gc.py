"""``session-log gc``."""

import click

from session_log.cli._exits import Exit
from session_log.cli._options import Duration, Shared, examples, shared, writes
from session_log.cli.ls import size
from session_log.collection import DEFAULT_GRACE_S, collect_blobs


@click.command(
    epilog=examples(
        "session-log gc --dry-run",
        "session-log gc --grace 1h -y --json",
    )
)
@click.option(
    "--grace",
    type=Duration(),
    default=DEFAULT_GRACE_S,
    metavar="TIME",
    help="What was put since stays; longer than any writer waits before it writes its line (a day).",
)
@writes
@shared()
def gc_command(given: Shared, grace: float, dry_run: bool, yes: bool) -> int:
    """Remove the payloads that no line refers to, in the trash or not. Writers may go on meanwhile."""
    out = given.output
    with out.progress("reading") as progress:
        found = collect_blobs(given.store, grace_s=grace, dry_run=True, progress=progress.tell)
    if found.removed and not dry_run:
        if not out.confirm(f"Remove {found.removed} payloads ({size(found.removed_bytes)}) for good?", yes=yes):
            return Exit.NO
        with out.progress("reading") as progress:
            found = collect_blobs(given.store, grace_s=grace, progress=progress.tell)
    if out.json:
        out.record(found)
    else:
        done = "would remove" if dry_run else "removed"
        out.line(f"{done} {found.removed} of {found.blobs} payloads, {size(found.removed_bytes)}")
    if found.busy:
        out.note(f"{found.busy} payloads were left, because others were putting into their folders all the time")
    return Exit.YES if found.removed else Exit.NO
