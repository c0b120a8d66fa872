"""``session-log ls``."""

import time

import click

from session_log import SessionLogError
from session_log.branches import Branch, read_tree
from session_log.cli._exits import Exit, code_of
from session_log.cli._options import REF, Shared, examples, shared, times
from session_log.cli._output import Output, columns
from session_log.overviews import (
    SegmentOverview,
    SessionOverview,
    read_overview,
    read_segment_overview,
    recent_sessions,
    unknown_segment,
)

_COLORS = {"running": "green", "interrupted": "yellow", "failed": "red", "damaged": "red", "archived": "bright_black"}


@click.command(
    epilog=examples(
        "session-log ls",
        "session-log ls -n 5 --status interrupted --label nightly",
        "session-log ls --since 2h --until 2030-01-01 --json",
        "session-log ls @last",
        "session-log ls --full-ids --color never",
    )
)
@click.argument("session", type=REF, required=False)
@click.option("-n", "limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--status", "statuses", multiple=True, help="Sessions of this status (again for more).")
@click.option("--label", "labels", multiple=True, help="Sessions with this label (all that are given).")
@times
@shared()
def ls_command(
    given: Shared,
    session: str | None,
    limit: int,
    statuses: tuple[str, ...],
    labels: tuple[str, ...],
    since: int | None,
    until: int | None,
) -> int:
    """List sessions by last activity, newest first; or the segments of one SESSION."""
    out = given.output
    if session is not None:
        return _segments(given, session)
    found = recent_sessions(
        given.store, limit=limit, statuses=frozenset(statuses), labels=frozenset(labels), since=since, until=until
    )
    if out.json:
        for overview in found:
            out.record(overview)
    else:
        out.lines(columns([_row(out, overview) for overview in found], room=out.room))
    for overview in found:
        if overview.damage is not None:
            out.note(out.text(overview.damage))
    if found.reason is not None and found:
        out.note(out.text(f"every session was read: {found.reason}"))
    if not found and not out.json:
        out.note(f"no session in {given.store.root}" + (" is so" if statuses or labels or since or until else ""))
    return Exit.YES if found else Exit.NO


def _row(out: Output, found: SessionOverview) -> tuple[str, ...]:
    return (
        out.style(out.id(found.session_id), fg="yellow"),
        age(found.last_ts) if found.last_ts else "?",
        f"{found.turns} turns" if found.turns != 1 else "1 turn",
        f"{len(found.segments)} seg",
        size(found.size_bytes),
        out.style(found.status, fg=_COLORS.get(found.status)),
        out.text(found.title or "") + "".join(out.style(f" #{out.text(label)}", fg="cyan") for label in found.labels),
    )


def _segments(given: Shared, session: str) -> int:
    out, found = given.output, given.resolve(session)
    active = read_overview(found.store, found.session_id).segment_id
    tree = read_tree(found.store, found.session_id, salvage=True)
    rows, code = [], Exit.CORRUPT if tree.damage else Exit.YES
    for branch in reversed(list(tree)):
        damage = None
        try:
            seen = read_segment_overview(found.store, found.session_id, branch.segment_id)
        except SessionLogError as exc:
            damage, code = str(exc), code_of(exc)
            out.note(damage)
            seen = unknown_segment(found.session_id, branch.segment_id)
        is_active = seen.segment_id == active
        if out.json:
            out.record(seen, active=is_active, link=branch.link, parent=branch.parent, damage=damage)
        else:
            rows.append(_segment_row(out, seen, branch, is_active, damage))
    out.lines(columns(rows, room=out.room))
    for found_damage in tree.damage:
        out.note(f"{found_damage.path}: {found_damage.reason}")
    return code


def _segment_row(
    out: Output, found: SegmentOverview, branch: Branch, active: bool, damage: str | None
) -> tuple[str, ...]:
    state = "running" if found.held_by is not None else "interrupted" if found.run_open else ""
    if damage is not None:
        state = "damaged"
    link = branch.link if branch.parent is None else f"{branch.link} of {out.id(branch.parent)}@{branch.at_turn}"
    return (
        out.style(out.id(found.segment_id), fg="yellow"),
        age(found.last_ts) if found.last_ts else "?",
        f"{found.turns} turns" if found.turns != 1 else "1 turn",
        size(found.size_bytes),
        out.style(state, fg=_COLORS.get(state)),
        link + (out.style(" ← active", fg="green") if active else ""),
    )


def age(ts: int) -> str:
    """Return how long ago a time was, in the largest unit that fits; a time to come is ``in …``."""
    seconds = time.time() - ts / 1000
    ahead, seconds = seconds < -1, abs(seconds)
    for unit, length in (("y", 31_557_600), ("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"in {seconds // length:.0f}{unit}" if ahead else f"{seconds // length:.0f}{unit}"
    return f"in {seconds:.0f}s" if ahead else f"{seconds:.0f}s"


def size(count: int) -> str:
    """Return a size in bytes in the largest unit that fits: ``1.2 MB``."""
    if count < 1000:
        return f"{count} B"
    number = float(count)
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.5:
            return f"{number:.1f} {unit}" if number < 99.95 else f"{number:.0f} {unit}"
    return f"{number / 1000:.1f} TB"
