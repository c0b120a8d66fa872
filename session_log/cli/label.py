"""``session-log label``."""

import re

import click

from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared, writes
from session_log.facts import change_labels, read_facts

_OURS = re.compile(r"-[hy]\Z|--")


class Signed(click.Command):
    """A command to which ``+x`` means ``--add x``, and ``-x`` means ``--remove x``; ``-y`` and ``-h`` stay options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell the options out."""
        spelled: list[str] = []
        for at, arg in enumerate(args):
            if arg == "--":
                spelled += args[at:]
                break
            if len(arg) > 1 and arg[0] in "+-" and not _OURS.match(arg) and (not spelled or _is_free(spelled[-1])):
                spelled += ["--add" if arg[0] == "+" else "--remove", arg[1:]]
            else:
                spelled.append(arg)
        return super().parse_args(ctx, spelled)


def _is_free(before: str) -> bool:
    """Tell whether what comes next is not the value of this option."""
    return before not in ("--add", "--remove", "--root", "--color")


@click.command(
    cls=Signed,
    epilog=examples(
        "session-log label a1aa +pinned -nightly",
        "session-log label @last --add a --add b --remove c -y --json",
        "session-log label a1aa +x --dry-run",
    ),
)
@click.argument("session", metavar="SESSION [+LABEL|-LABEL]...", type=REF)
@click.option("--add", multiple=True, metavar="LABEL", help="As +LABEL (again for more).")
@click.option("--remove", multiple=True, metavar="LABEL", help="As -LABEL; for those that are called y or h.")
@writes
@shared()
def label_command(
    given: Shared, session: str, add: tuple[str, ...], remove: tuple[str, ...], dry_run: bool, yes: bool
) -> int:
    """Add labels to SESSION and remove some; print those it has then. What is labelled pinned is never pruned."""
    out, found = given.output, given.resolve(session)
    old = read_facts(found.store, found.session_id).labels
    changes = [f"+{label}" for label in add] + [f"-{label}" for label in remove]
    if dry_run:
        out.note(out.text(f"would change {' '.join(old) or 'no labels'}: {' '.join(changes) or 'nothing'}"))
        return Exit.YES
    if changes and not out.confirm(f"Change labels {out.text(' '.join(changes))}?", yes=yes):
        return Exit.NO
    labels = change_labels(found.store, found.session_id, add=add, remove=remove).labels
    if out.json:
        out.record({"session_id": found.session_id, "labels": labels})
    else:
        for label in labels:
            out.line(out.text(label))
    return Exit.YES
