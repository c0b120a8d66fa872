"""``session-log export``."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from session_log import FsStore, MemoryStore, Store, resolve_blobs, restore
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output, dumps
from session_log.exports import Change, export_blobs, export_lines, export_markdown
from session_log.facts import read_facts
from session_log.lines import read_lines
from session_log.messages import anthropic_messages, openai_messages

FORMATS = ("jsonl", "md", "openai", "anthropic")


@click.command(
    epilog=examples(
        "session-log export b2bbb",
        "session-log export b2bbb@1 --format jsonl -o conversation.jsonl",
        "session-log export a1aa --format md -o conversation.md --force",
        "session-log export @last --format anthropic --redact | jq .messages",
        "session-log export a3aa --format md --raw",
    )
)
@click.argument("ref", type=REF)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="jsonl", show_default=True, help="What it becomes."
)
@click.option("-o", "--output", "target", type=click.Path(dir_okay=False), help="A file; blobs go to FILE's .blobs.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option("--redact", is_flag=True, help="Without secrets of known forms, and without blobs.")
@shared(json=False, raw=True)
def export_command(given: Shared, ref: str, form: str, target: str | None, force: bool, redact: bool) -> int:
    """Export a conversation with what it inherits: as lines that stand alone, or as text to read or to send."""
    out, found = given.output, given.resolve(ref)
    if target is not None and os.path.lexists(target) and not force:
        raise click.UsageError(f"{target!r} is there already; --force overwrites it")
    blobs: list[str] = []
    pieces = _pieces(out, found, form, redact, blobs, Path(target) if target is not None else None)
    if target is None:
        for piece in pieces:
            out.bytes(piece)
    else:
        _write(Path(target), pieces)
    if blobs and (target is None or redact):
        why = "nobody looked into them for secrets" if redact else "give -o"
        out.note(f"{len(blobs)} blob{'s' if len(blobs) != 1 else ''} not exported: {why}")
    return Exit.YES


def _write(target: Path, pieces: Iterator[bytes]) -> None:
    """Put the export in place as a whole: whoever interrupts it leaves what was there."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines(pieces)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _pieces(
    out: Output, found: Address, form: str, redact: bool, blobs: list[str], target: Path | None
) -> Iterator[bytes]:
    segment_id = found.segment()
    change = _redaction(found.store) if redact else None
    lines = export_lines(
        found.store, found.session_id, segment_id, at_turn=found.turn, at_entries=found.line, change=change
    )
    if form == "jsonl":
        beside = target.with_suffix(".blobs") if target is not None else None

        def put(name: str, data: bytes) -> None:
            blobs.append(name)
            if beside is not None and not redact:
                path = beside / name[:2] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

        yield from (line + b"\n" for line in export_blobs(found.store, lines, put))
        return
    alone, whole = _alone(found, lines), None if redact else found.store
    if form == "md":
        title = read_facts(found.store, found.session_id).title if isinstance(found.store, FsStore) else None
        texts = export_markdown(read_lines(alone.store, alone.session_id, alone.segment()), title=title, blobs=whole)
        yield from (f"{out.text(text, block=True)}\n".encode("utf-8", "replace") for text in texts)
        return
    state = restore(alone.store, alone.session_id, alone.segment())
    state = resolve_blobs(whole, state) if whole is not None else state
    made = (openai_messages if form == "openai" else anthropic_messages)(state.history, state.system_prompt)
    system = {"system": made.system} if form == "anthropic" and made.system is not None else {}
    yield dumps({**system, "messages": made.messages}) + b"\n"
    for name, count in made.left_out.items():
        out.note(f"left out, because it has no place there: {count} {name}")


def _alone(found: Address, lines: Iterator[bytes]) -> Address:
    """Return the exported lines as a segment in memory."""
    store, segment_id = MemoryStore(), found.segment()
    store.adopt(found.session_id, segment_id, list(lines))
    return Address(store, found.session_id, segment_id)


def _redaction(store: Store) -> Change:
    from session_log.redaction import redact_secrets, redacted, seen_whole

    return lambda entry: redacted(entry, redact_secrets, seen_whole(store))
