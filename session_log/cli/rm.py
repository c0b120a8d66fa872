"""``session-log rm``."""

import click

from session_log import FsStore
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.lifecycle import Deletion, delete_segment, delete_session, plan_deletion


@click.command(
    epilog=examples(
        "session-log rm a3aa -y",
        "session-log rm b2bbb --dry-run",
        "session-log rm @last --session --force --json",
        "session-log rm b1bbb --detach",
        "session-log rm b2bbb --recursive",
    )
)
@click.argument("refs", metavar="REF...", type=REF, nargs=-1, required=True)
@click.option("--session", "whole", is_flag=True, help="The whole session that REF is in.")
@click.option("--detach", is_flag=True, help="Make forks of the segment stand alone first.")
@click.option("--recursive", is_flag=True, help="With the forks of the segment, and theirs.")
@click.option("--force", is_flag=True, help="Although it is running.")
@writes
@shared()
def rm_command(
    given: Shared,
    refs: tuple[str, ...],
    whole: bool,
    detach: bool,
    recursive: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Move sessions or segments to the trash: `session-log trash` lists it, brings back, and purges.

    A segment that forks, pointers or pods refer to is refused with the list of them; so is one that somebody writes.
    """
    out = given.output
    targets: dict[tuple[str, str, str | None], Address] = {}
    for ref in refs:
        found = given.resolve(ref)
        if not isinstance(found.store, FsStore):
            raise click.UsageError("what lies in no store cannot be deleted here.")
        if found.line is not None or found.turn is not None:
            raise click.UsageError("a line or turn cannot be deleted; name a session or segment.")
        found = found._replace(segment_id=None) if whole else found
        targets[repr(found.store), found.session_id, found.segment_id] = found
    for found in targets.values():
        if (detach or recursive) and found.segment_id is None:
            raise click.UsageError("--detach and --recursive are for a segment; a session goes as a whole.")
    for found in targets.values():
        plan = plan_deletion(
            found.store,
            found.session_id,
            found.segment_id,
            detach=detach,
            recursive=recursive,
            even_if_running=force,
        )
        what = _what(given, found, plan)
        if dry_run:
            out.note(f"would move {what} to the trash")
            continue
        if not out.confirm(f"Move {what} to the trash?", yes=yes):
            return Exit.NO
        _print(given, _delete(given, found, detach=detach, recursive=recursive, force=force), found)
    return Exit.YES


def _delete(given: Shared, found: Address, *, detach: bool, recursive: bool, force: bool) -> Deletion:
    if found.segment_id is None:
        return delete_session(found.store, found.session_id, even_if_running=force)
    with given.output.progress("deleting") as progress:
        return delete_segment(
            found.store,
            found.session_id,
            found.segment_id,
            detach=detach,
            recursive=recursive,
            even_if_running=force,
            progress=progress.tell,
        )


def _what(given: Shared, found: Address, plan: Deletion) -> str:
    out = given.output
    if found.segment_id is None:
        return f"session {out.id(found.session_id)} ({len(plan.segments)} segments)"
    said = "segment " + ", ".join(out.id(segment_id) for segment_id in plan.segments)
    if plan.detached:
        said += ", of which " + ", ".join(map(out.id, plan.detached)) + " would stand alone,"
    return said


def _print(given: Shared, deletion: Deletion, found: Address) -> None:
    out = given.output
    if out.json:
        out.record(deletion)
        return
    for segment_id in deletion.detached:
        out.note(f"{out.id(segment_id)} stands alone now")
    if found.segment_id is None:
        out.line(f"session {deletion.session_id}")
    else:
        for segment_id in deletion.segments:
            out.line(f"segment {segment_id}")
