"""``session-log checkpoints``."""

import click
import msgspec

from session_log import NotFound
from session_log.addresses import Address
from session_log.checkpoints import Checkpoint, Checkpoints, checkpoint_at, list_checkpoints, load_checkpoint, read_part
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output, columns, dumps
from session_log.cli.ls import age


@click.command(
    epilog=examples(
        "session-log checkpoints a1aa",
        "session-log checkpoints @last --past --json",
        "session-log checkpoints a1aa --part state || true",
    )
)
@click.argument("ref", metavar="REF[:LINE]", type=REF)
@click.argument("name", metavar="[ID]", required=False)
@click.option("--past", is_flag=True, help="All that were ever saved, overwritten and deleted ones, too.")
@click.option("--part", metavar="PART", help="Print this part alone: JSON, or its bytes.")
@shared()
def checkpoints_command(given: Shared, ref: str, name: str | None, past: bool, part: str | None) -> int:
    """List the checkpoints of REF, newest first; or show the newest one called ID, or the one at REF:LINE."""
    out, found = given.output, given.resolve(ref)
    if name is None and part is None and found.line is None:
        return _list(given, found, past=past)
    if past:
        raise click.UsageError("--past lists; name a past one by REF:LINE.")
    checkpoint = _one(found, name)
    if part is not None:
        if part not in checkpoint.parts:
            known = ", ".join(checkpoint.parts) or "none"
            raise NotFound(f"part {part!r:.100} of checkpoint {checkpoint.id!r}", f"its parts: {known}")
        _print_part(out, read_part(found.store, checkpoint, part))
        return Exit.YES
    if out.json:
        out.record(checkpoint)
        return Exit.YES
    text = msgspec.json.format(dumps(out.plain(checkpoint)), indent=2).decode()
    out.lines(out.text(line, block=True) for line in text.split("\n"))
    return Exit.YES


def _one(found: Address, name: str | None) -> Checkpoint:
    segment_id = found.segment()
    if found.line is not None:
        checkpoint = checkpoint_at(found.store, found.session_id, segment_id, found.line)
        if name not in (None, checkpoint.id):
            raise NotFound(f"checkpoint {name!r:.100}", f"line {found.line} saved {checkpoint.id!r}")
        return checkpoint
    return load_checkpoint(found.store, found.session_id, segment_id, name).checkpoint


def _list(given: Shared, found: Address, *, past: bool) -> int:
    out = given.output
    listed: Checkpoints = list_checkpoints(found.store, found.session_id, found.segment(), past=past)
    if out.json:
        for checkpoint in listed.checkpoints:
            out.record(checkpoint)
    else:
        out.lines(columns([_row(out, checkpoint) for checkpoint in listed.checkpoints]))
    for damage in listed.damage:
        out.note(out.text(f"{damage.path}:{damage.line}: {damage.reason}"))
    if listed.damage:
        return Exit.CORRUPT
    return Exit.YES if listed.checkpoints else Exit.NO


def _row(out: Output, found: Checkpoint) -> tuple[str, ...]:
    return (
        out.style(f"{out.id(found.segment_id)}:{found.line}", fg="yellow"),
        age(found.ts) if found.ts is not None else "carried",
        out.text(found.id),
        out.text(", ".join(found.parts) or "no parts"),
        out.text(found.label or ""),
    )


def _print_part(out: Output, value: object) -> None:
    if isinstance(value, bytes):
        if out.is_terminal:
            raise click.UsageError(f"it is {len(value)} bytes, not for a terminal; send them into a file.")
        out.bytes(value)
        return
    text = dumps(value) if out.json else msgspec.json.format(dumps(value), indent=2)
    out.lines(out.text(line, block=True) for line in text.decode().split("\n"))
