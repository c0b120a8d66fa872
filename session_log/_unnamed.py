"""What to say of a text that names nothing: that it is the beginning of ids, that it was deleted, how to go on."""

from session_log._errors import CallerError, NotFound, SessionLogError
from session_log._file_store import FsStore
from session_log.facts import MIN_SUFFIX_DIGITS
from session_log.trash import list_trash


def unnamed(store: FsStore, text: str, found: str | None) -> NotFound | CallerError:
    """Return the error for a text that names nothing; ``found`` is the text if it could be of an id."""
    digits = (found or "").replace("-", "").lower()
    if not digits:
        return NotFound(f"{text!r:.200}", "no title, key or pod is that")
    if len(digits) < MIN_SUFFIX_DIGITS:
        return NotFound(f"{text!r}", f"the end of an id has at least {MIN_SUFFIX_DIGITS} digits")
    if deleted := in_trash(store, digits):
        return NotFound(f"{text!r:.200}", deleted.removeprefix("; "))
    ids = [session_id.replace("-", "") for session_id in store.list_sessions()]
    beginning = sum(session_id.startswith(digits) for session_id in ids)
    if beginning:
        return CallerError(
            f"{text!r}: is how {beginning} session ids begin; ids begin with the time, and what was made in the same "
            "minute begins alike: give digits of the end"
        )
    inside = sum(digits in session_id for session_id in ids)
    hint = f"; {inside} ids have it inside: give digits of the end" if inside else ""
    return NotFound(f"{text!r:.200}", f"no id, end of an id, title, key or pod is that{hint}")


def in_trash(store: FsStore, digits: str) -> str:
    """Return the remedy for an id, or the end of one, that was deleted; nothing if the trash does not have it."""
    digits = digits.replace("-", "")
    try:
        trashed = list_trash(store)
    except (SessionLogError, OSError):
        return ""
    for found in trashed:
        if found.session_id.replace("-", "").endswith(digits):
            return f"; session {found.session_id} was deleted and is in the trash: undelete_session() brings it back"
        if found.segment_id is not None and found.segment_id.replace("-", "").endswith(digits):
            return f"; segment {found.segment_id} was deleted and is in the trash: undelete_segment() brings it back"
    return ""
