"""``session-log name``."""

import click

from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.facts import read_facts, rename


@click.command(
    epilog=examples(
        "session-log name @last 'The folder, again' -y",
        "session-log name a1aa --clear --json",
        "session-log name a1aa 'Notes' --dry-run",
    )
)
@click.argument("session", type=REF)
@click.argument("title", required=False)
@click.option("--clear", is_flag=True, help="Take the title away.")
@writes
@shared()
def name_command(given: Shared, session: str, title: str | None, clear: bool, dry_run: bool, yes: bool) -> int:
    """Give SESSION a TITLE. The former one stays in its facts' history."""
    out, found = given.output, given.resolve(session)
    if (title is None) != clear:
        raise click.UsageError("give a TITLE, or --clear.")
    old = read_facts(found.store, found.session_id).title
    change = f"{out.id(found.session_id)}: {_quoted(given, old)} → {_quoted(given, title)}"
    if dry_run:
        out.note(f"would rename {change}")
        return Exit.YES
    if old is not None and not out.confirm(f"Rename {change}?", yes=yes):
        return Exit.NO
    facts = rename(found.store, found.session_id, title)
    if out.json:
        out.record({"session_id": facts.session_id, "title": facts.title})
    return Exit.YES


def _quoted(given: Shared, title: str | None) -> str:
    return f'"{given.output.text(title)}"' if title is not None else "no title"
