"""``session-log repair``."""

import click

from session_log import Damage, FsStore, repair
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.verify import SessionRepair, repair_session, verify

_REPAIRED = ("damaged_line", "damaged_facts")
"""The findings that a repair is for."""


@click.command(
    epilog=examples(
        "session-log repair a1aa --dry-run",
        "session-log repair b1bbb -y --json",
    )
)
@click.argument("ref", type=REF)
@writes
@shared()
def repair_command(given: Shared, ref: str, dry_run: bool, yes: bool) -> int:
    """Blank the damaged lines of a session (its segments and facts), or of one segment; keep their bytes beside it.

    Nothing moves: numbers and bytes of lines stay. What was blanked is printed; the bytes are in the .damage file.
    """
    out, found = given.output, given.resolve(ref)
    if not isinstance(found.store, FsStore):
        raise click.UsageError("what lies in no store cannot be repaired; import it first.")
    if dry_run:
        return _plan(given, found)
    if not out.confirm(f"Blank the damaged lines of {out.text(ref)}?", yes=yes):
        return Exit.NO
    if found.segment_id is not None:
        blanked = repair(found.store, found.session_id, found.segment_id)
        report = SessionRepair(blanked=blanked, left=())
    else:
        report = repair_session(found.store, found.session_id)
    for damage in report.blanked:
        _print(given, damage)
    for reason in report.left:
        out.note(out.text(f"left as it is: {reason}"))
    if not report.blanked and not report.left:
        out.note("no line is damaged")
        return Exit.NO
    for path in dict.fromkeys(damage.path.removesuffix(".jsonl") + ".damage" for damage in report.blanked):
        out.note(out.text(f"the bytes are in {path}"))
    return Exit.CORRUPT if report.left else Exit.YES


def _plan(given: Shared, found: Address) -> int:
    out = given.output
    assert isinstance(found.store, FsStore)
    only = str(found.store.segment_path(found.session_id, found.segment_id)) if found.segment_id is not None else None
    findings = [
        finding
        for finding in verify(found.store, found.session_id, blobs=False).findings
        if finding.kind in _REPAIRED and only in (None, finding.path)
    ]
    for finding in findings:
        if out.json:
            out.record({"path": finding.path, "line": finding.line, "reason": finding.what})
        else:
            out.line(out.text(f"{finding.path}:{finding.line}: {finding.what}"))
    out.note(f"would blank {len(findings)} lines" if findings else "no line is damaged")
    return Exit.YES if findings else Exit.NO


def _print(given: Shared, damage: Damage) -> None:
    if given.output.json:
        given.output.record(damage)
    else:
        given.output.line(given.output.text(f"{damage.path}:{damage.line}: {damage.reason}"))
