"""``session-log prune``."""

import sys

import click

from session_log.cli._exits import Exit
from session_log.cli._options import Duration, Shared, Size, examples, shared, writes
from session_log.cli._output import Output, columns
from session_log.cli.ls import age, size
from session_log.prune import Candidate, PrunePlan, apply_prune, plan_prune


@click.command(
    epilog=examples(
        "session-log prune --older-than 28d",
        "session-log prune --keep-last 100 --max-bytes 5GB --without-label nightly --dry-run",
        "session-log prune --label nightly --status idle --keyed --apply",
        "session-log prune --keep-last 2 -y --json",
    )
)
@click.option("--older-than", type=Duration(), metavar="TIME", help="Those whose last entry is older: 28d, 2h.")
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="The N used last stay, whatever else holds.")
@click.option("--max-bytes", type=Size(), metavar="SIZE", help="Those used longest ago, until what stays takes this.")
@click.option("--label", "labels", multiple=True, help="Only sessions with this label (all that are given).")
@click.option("--without-label", "without", multiple=True, metavar="LABEL", help="Only sessions without this label.")
@click.option("--status", "statuses", multiple=True, help="Only sessions of this status (again for more).")
@click.option("--keyed", is_flag=True, help="Also sessions with an external key.")
@click.option("--apply", "apply", is_flag=True, help="Do it, and do not ask (as -y).")
@writes
@shared()
def prune_command(
    given: Shared,
    older_than: float | None,
    keep_last: int | None,
    max_bytes: int | None,
    labels: tuple[str, ...],
    without: tuple[str, ...],
    statuses: tuple[str, ...],
    keyed: bool,
    apply: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Show which sessions would go to the trash, and why; move them there with --apply, or if a terminal says so.

    What is pinned, running, keyed, unreadable, or has a pod in it, stays. The limits are joined: --keep-last protects.
    """
    out = given.output
    with out.progress("looking at sessions") as progress:
        plan = plan_prune(
            given.store,
            older_than_ms=int(older_than * 1000) if older_than is not None else None,
            keep_last=keep_last,
            max_bytes=max_bytes,
            labels=labels,
            without_labels=without,
            statuses=statuses,
            keyed=keyed,
            progress=progress.tell,
        )
    _print(out, plan)
    if not plan.doomed:
        out.note("nothing to prune" + (f", {len(plan.protected)} protected" if plan.protected else ""))
        return Exit.NO
    what = f"{len(plan.doomed)} sessions, {size(plan.size_bytes)}"
    asked = not (apply or yes or dry_run) and sys.stdin.isatty()
    if dry_run or not (apply or yes or asked):
        out.note(f"would move {what} to the trash" + ("" if dry_run else "; --apply does it"))
        return Exit.YES
    if asked and not out.confirm(f"Move {what} to the trash?", yes=False):
        return Exit.NO
    with out.progress("deleting") as progress:
        pruned = apply_prune(given.store, plan, progress=progress.tell)
    for left in pruned.left:
        out.note(out.text(f"{out.id(left.session_id)} was left: {left.why}"))
    out.note(f"moved {len(pruned.deleted)} sessions to the trash; `session-log trash` brings back and purges")
    return Exit.YES


def _print(out: Output, plan: PrunePlan) -> None:
    if out.json:
        for found in plan.doomed:
            out.record(found, action="delete")
        for found in plan.protected:
            out.record(found, action="keep")
        return
    rows = [_row(out, "delete", found) for found in plan.doomed]
    out.lines(columns(rows + [_row(out, "keep", found) for found in plan.protected]))


def _row(out: Output, action: str, found: Candidate) -> tuple[str, ...]:
    return (
        out.style(action, fg="red" if action == "delete" else "green"),
        out.style(out.id(found.session_id), fg="yellow"),
        age(found.last_ts) if found.last_ts is not None else "?",
        size(found.size_bytes),
        out.text(found.why),
    )
