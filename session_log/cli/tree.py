"""``session-log tree``."""

from collections.abc import Iterator

import click

from session_log import NotFound, SessionLogError
from session_log.cli._exits import Exit, code_of
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output
from session_log.forest import Row, dot, read_rows
from session_log.overviews import recent_sessions

MAX_SESSIONS = 20
"""How many sessions are drawn where none is named."""


@click.command(
    epilog=examples(
        "session-log tree @last",
        "session-log tree",
        "session-log tree a1aa --dot > session.dot",
        "session-log tree a1aa --json --full-ids",
    )
)
@click.argument("session", type=REF, required=False)
@click.option("--dot", "as_dot", is_flag=True, help="As a graph in Graphviz' language.")
@shared()
def tree_command(given: Shared, session: str | None, as_dot: bool) -> int:
    """Draw the fork tree of SESSION, or of the sessions with the newest activity."""
    if session is not None:
        found = given.resolve(session)
        return _tree(given.output, read_rows(found.store, found.session_id), as_dot)
    if as_dot:
        raise click.UsageError("a graph is of one session; name it.")
    return _trees(given)


def _trees(given: Shared) -> int:
    """Draw those with the newest activity; one that cannot be drawn is told of, and stops no other."""
    out, code = given.output, int(Exit.YES)
    recent = recent_sessions(given.store, MAX_SESSIONS)
    if recent.reason is not None and recent:
        out.note(out.text(f"every session was read: {recent.reason}"))
    for overview in recent:
        try:
            rows = read_rows(given.store, overview.session_id)
        except NotFound:
            continue  # deleted since it was listed
        except SessionLogError as exc:
            out.note(str(exc))
            code = code_of(exc)
            continue
        if not out.json:
            title = f"  {out.text(overview.title)}" if overview.title else ""
            out.line(out.style(out.id(overview.session_id), fg="yellow") + title)
        code = _tree(out, rows, False) or code
    return code


def _tree(out: Output, rows: list[Row], as_dot: bool) -> int:
    _print(out, rows, as_dot)
    code = Exit.YES
    for row in rows:
        if row.damage is not None:
            out.note(out.text(row.damage))
        if row.damage is not None or (row.branch.orphan and row.branch.link == "fork"):
            code = Exit.CORRUPT
    return code


def _print(out: Output, rows: list[Row], as_dot: bool) -> None:
    if as_dot:
        out.lines((out.text(line, block=True) for line in dot(rows)), page=False)
    elif out.json:
        for row in rows:
            out.record(row)
    else:
        out.lines(_drawn(out, rows))


def _drawn(out: Output, rows: list[Row]) -> Iterator[str]:
    for row in rows:
        branch = row.branch
        parts = [out.style(out.id(branch.segment_id), fg="yellow")]
        if branch.parent is not None:
            parts.append(f"@{branch.at_turn} {branch.link}")
        if branch.orphan:
            parts.append(out.style(f"of {out.id(str(branch.parent))}, which is missing", fg="red"))
        if row.said is not None:
            parts.append(f'"{out.text(row.said)}"')
        turns = "?" if row.turns is None else row.turns
        parts.append(f"{turns} turn" + ("" if turns == 1 else "s"))
        if row.damage is not None:
            parts.append(out.style("damaged", fg="red"))
        elif row.run_open:
            parts.append(out.style("run open", fg="yellow"))
        if row.active:
            parts.append(out.style("← active", fg="green"))
        prefix = row.prefix[:-3] + row.prefix[-3:].replace("─", "╌") if branch.link == "compaction" else row.prefix
        yield prefix + " ".join(parts)
