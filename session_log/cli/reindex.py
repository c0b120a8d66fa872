"""``session-log reindex``."""

import click

from session_log.cli._exits import Exit
from session_log.cli._options import Shared, examples, shared, writes
from session_log.feed import reindex
from session_log.keys import reindex_keys


@click.command(
    epilog=examples(
        "session-log reindex -y",
        "session-log reindex --dry-run",
        "session-log reindex --json",
    )
)
@writes
@shared()
def reindex_command(given: Shared, dry_run: bool, yes: bool) -> int:
    """Make the feed and the index of external keys anew from the sessions. Others may write meanwhile.

    Ends with 5 if a session cannot be read whole, and with 4 if several have one key: both are listed.
    """
    out, store = given.output, given.store
    if dry_run:
        out.note(
            f"would make {store.root}/feed.jsonl and {store.root}/keys anew, of {len(store.list_sessions())} sessions"
        )
        return Exit.YES
    if not out.confirm(f"Make the feed and the keys of {store.root} anew?", yes=yes):
        return Exit.NO
    with out.progress("reading sessions") as progress:
        feed = reindex(store, progress)
    keys = reindex_keys(store)
    if out.json:
        out.record({"feed": out.plain(feed), "keys": out.plain(keys)})
    else:
        out.line(f"feed: {feed.lines} lines of {feed.sessions} sessions")
        out.line(f"keys: {keys.keys}")
    for session_id in dict.fromkeys((*feed.damaged, *keys.damaged)):
        out.note(out.text(f"{session_id} cannot be read whole; see session-log verify"))
    for collision in keys.collisions:
        out.note(out.text(f"key {collision.key!r} is that of {', '.join(collision.session_ids)}; change all but one"))
    if feed.damaged or keys.damaged:
        return Exit.CORRUPT
    return Exit.AMBIGUOUS if keys.collisions else Exit.YES
