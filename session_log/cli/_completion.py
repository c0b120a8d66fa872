"""What a shell may complete an address to: ids of sessions and their titles, newest first."""

from typing import Final

from click.shell_completion import CompletionItem

from session_log import FsStore, SessionLogError
from session_log.addresses import LAST, short
from session_log.cli._output import one_line
from session_log.overviews import recent_sessions

MAX_COMPLETIONS: Final = 50
"""More than a screen of them helps nobody, and each costs a look at its session."""


def addresses(root: str | None, incomplete: str) -> list[CompletionItem]:
    """Return what may be meant by the beginning of an address. Never raises: a shell waits for it."""
    try:
        found = recent_sessions(FsStore(root), limit=MAX_COMPLETIONS)
    except (SessionLogError, OSError):
        return []
    items = [CompletionItem(LAST, help="the newest activity")]
    for session in found:
        title = one_line(session.title) if session.title is not None else ""
        items.append(CompletionItem(short(session.session_id), help=title or session.status))
        if title:
            items.append(CompletionItem(title, help=short(session.session_id)))
    return [item for item in items if str(item.value).lower().startswith(incomplete.lower())]
