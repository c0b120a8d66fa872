"""``session-log verify``."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator

import click

from session_log import Store
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output, Progress
from session_log.verify import Finding, VerifyProgress, VerifyReport, verify

_COMMANDS = {"damaged_line": "repair", "interrupted": "close"}
"""The command that does what a remedy says, where there is one."""
_COLORS = {"error": "red", "warning": "yellow", "note": "bright_black"}


@click.command(
    epilog=examples(
        "session-log verify",
        "session-log verify a1aa a3aa --no-blobs",
        "session-log verify @last --errors",
        "session-log verify --json | jq -r .remedy",
    )
)
@click.argument("refs", metavar="[REF]...", type=REF, nargs=-1)
@click.option("--no-blobs", is_flag=True, help="Do not read the payloads.")
@click.option("--errors", is_flag=True, help="Show what is damaged or lost; no warnings, no notes.")
@shared()
def verify_command(given: Shared, refs: tuple[str, ...], no_blobs: bool, errors: bool) -> int:
    """Check the sessions of REF, or all and what is beside them: each finding with its place, and what to do.

    Ends with 5 if anything is damaged or lost. Writes nothing, and may run while others write.
    """
    out, sound, several = given.output, True, False
    targets: list[tuple[Store, str | None]] = [(given.store, None)]
    if refs:
        found = [given.resolve(ref) for ref in refs]
        targets = list({(repr(one.store), one.session_id): (one.store, one.session_id) for one in found}.values())
        several = len(targets) > 1
    for store, session_id in targets:
        with out.progress("verifying") as progress:
            report = verify(store, session_id, blobs=not no_blobs, progress=_shown(progress))
        shown = [one for one in report.findings if not errors or one.severity == "error"]
        if out.json:
            for finding in shown:
                out.record(finding)
        else:
            out.lines(line for finding in shown for line in _drawn(out, finding))
        out.note((f"{out.id(session_id)}: " if several and session_id is not None else "") + _summary(report))
        sound = sound and report.is_sound
    return Exit.YES if sound else Exit.CORRUPT


def _shown(progress: Progress) -> Callable[[VerifyProgress], None]:
    """Return what shows the progress of a verification: sessions, or, of one, megabytes."""

    def show(at: VerifyProgress) -> None:
        if at.sessions > 1:
            progress(at.sessions_done, at.sessions)
        else:
            progress(at.read_bytes)

    return show


def _drawn(out: Output, found: Finding) -> Iterator[str]:
    place = found.path if found.line is None else f"{found.path}:{found.line} (byte {found.byte_offset})"
    head = out.style(found.severity, fg=_COLORS.get(found.severity), bold=found.severity == "error")
    yield f"{head} {found.kind} {out.text(place)}: {out.text(found.what)}"
    command = _COMMANDS.get(found.kind)
    hint = f"; here: session-log {command} {shlex.quote(found.path)}" if command is not None else ""
    yield f"  → {out.text(found.remedy + hint)}"


def _summary(report: VerifyReport) -> str:
    counts = Counter(str(finding.severity) for finding in report.findings)
    said = ", ".join(f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in _COLORS if counts[name])
    left = f", {report.findings_left_out} more findings" if report.findings_left_out else ""
    blobs = f", {report.blobs} payloads" if report.blobs else ""
    unnamed = f" ({report.unreferenced_blobs} more that no line names)" if report.unreferenced_blobs else ""
    looked = ", ".join(
        f"{count} {what}{'' if count == 1 else 's'}"
        for count, what in ((report.sessions, "session"), (report.segments, "segment"), (report.lines, "line"))
    )
    chained = f", {report.chained_segments} segments chained" if report.chained_segments else ""
    return f"{said or 'sound'}{left}: {looked}{chained}{blobs}{unnamed}"
