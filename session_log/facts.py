"""Session facts: title, task, status, labels, external key and the like, beside the log of a session.

``{root}/{session_id}/session.jsonl`` is a line for each change, append-only; the last one wins. Any process may change
any fact at any time: changes are appended under a lock, and two that change different facts do not touch each other.
"""

from collections.abc import Iterable
from typing import Any, Final, Unpack

from session_log import _layout
from session_log._errors import CallerError, HeadMoved, InvalidId, NotFound
from session_log._facts import FactChange, FactChanges, SessionFacts, checked_changes, checked_pointer
from session_log._facts_file import blank_damage, created_ts, every_facts, facts_file, files_of, scan
from session_log._file_store import FsStore
from session_log._ids import parse_id
from session_log._state import Damage
from session_log._store import Store
from session_log.keys import MAIN, change_key, find_key, leaf

MIN_SUFFIX_DIGITS: Final = 4
"""How many hexadecimal digits of the end of an id name it; two of a thousand sessions share four in a case of 130."""
_PASSING: Final = frozenset({"status"})
"""What a run changes twice: not synced at once, as all else is in a store that survives a power cut."""
_HEX: Final = frozenset("0123456789abcdef")


class AmbiguousName(CallerError):
    """A text names several sessions; ``candidates`` are their ids, newest first."""

    def __init__(self, text: str, candidates: tuple[str, ...], listing: str) -> None:
        super().__init__(f"{text!r:.200}: names {len(candidates)} sessions: {listing}; give a whole id")
        self.text = text
        self.candidates = candidates


# ── change ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def set_facts(store: Store, session_id: str, **changes: Unpack[FactChanges]) -> SessionFacts:
    """Set facts of a session and return all of them; ``None`` brings a default back.

    ``labels`` are replaced. Of ``custom``, only the keys that are given change; one that is given as ``None`` goes. A
    status other than ``archived`` takes a session out of the archive. In a store that survives a power cut, all but a
    change of the status alone does so when this returns.

    Raises:
        InvalidEntry: a name is no fact, or a value none of it, such as an unknown status; nothing was written.
        NotFound: there is no such session.
        KeyTaken: the external key is another session's; nothing was written.
        CorruptFacts: the facts are damaged; nothing was written.
    """
    files, session_id = files_of(store), parse_id(session_id)
    checked = checked_changes(changes)
    if "external_key" in checked:
        return change_key(files, session_id, checked)
    return facts_file(files, session_id).change(files, "set", checked, final=not checked.keys() <= _PASSING)


def rename(store: Store, session_id: str, title: str | None) -> SessionFacts:
    """Set the title of a session. See :func:`set_facts`."""
    return set_facts(store, session_id, title=title)


def change_labels(
    store: Store, session_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> SessionFacts:
    """Add labels to those of a session, then remove some; nothing is written if that changes nothing.

    Whoever does so at the same time loses nothing. See :func:`set_facts`.

    Raises:
        InvalidEntry: a label is no text.
        CallerError: one text is given where several belong.
        NotFound: there is no such session.
        CorruptFacts: the facts are damaged; nothing was written.
    """
    files, session_id = files_of(store), parse_id(session_id)
    for name, labels in (("add", add), ("remove", remove)):
        if isinstance(labels, str):
            raise CallerError(f"{name}={labels!r:.100}: is one text; give a list of them")
    added, removed = set(add), set(remove)
    file = facts_file(files, session_id)
    while True:
        try:
            facts, lines = file.placed()
        except NotFound:
            facts, lines = read_facts(files, session_id), 1  # as soon as there are any
        wanted = (added | set(facts.labels)) - removed
        if wanted == set(facts.labels):
            return facts
        try:
            return file.change(files, "set", checked_changes({"labels": wanted}), final=True, expected=lines)
        except HeadMoved:
            continue


def archive(store: Store, session_id: str) -> SessionFacts:
    """Archive a session: its status is ``archived`` until :func:`unarchive` brings back the one it has now."""
    return _change(store, session_id, "archive")


def unarchive(store: Store, session_id: str) -> SessionFacts:
    """Bring back the status that a session had before it was archived; one that is not archived stays as it is."""
    return _change(store, session_id, "unarchive")


def move_active(store: Store, session_id: str, segment_id: str, name: str = MAIN) -> SessionFacts:
    """Let a named pointer of the session name this segment: ``main`` is where the conversation goes on.

    Raises:
        NotFound: the session has no such segment; nothing was written.
        InvalidEntry: the name is empty or too long.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    name = checked_pointer(name)
    if not store.exists(session_id, segment_id):
        raise NotFound(f"{session_id}/{segment_id}", "no such segment")
    return _change(store, session_id, "point", name=name, segment_id=segment_id)


def _change(store: Store, session_id: str, kind: str, **fields: Any) -> SessionFacts:
    files = files_of(store)
    return facts_file(files, parse_id(session_id)).change(files, kind, fields, final=True)


# ── read ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_facts(store: Store, session_id: str, *, salvage: bool = False) -> SessionFacts:
    """Return what is known of a session; of one without facts, the defaults. Writes nothing.

    A line that is not complete is not there yet.

    Raises:
        NotFound: there is no such session.
        CorruptFacts: a line is damaged; with ``salvage``, it is skipped and listed in ``damage``.
        UnsupportedVersion: a later version wrote them, in another format.
    """
    files, session_id = files_of(store), parse_id(session_id)
    try:
        if not salvage:
            return facts_file(files, session_id).facts()
        found = scan(files, session_id, salvage=True)
        return found.folding.facts(tuple(found.damage))
    except NotFound:
        ts = created_ts(files, session_id)
        return SessionFacts(session_id=session_id, created_ts=ts, updated_ts=ts)


def active_segment(store: Store, session_id: str, name: str = MAIN) -> str:
    """Return the segment that a pointer names; as long as ``main`` names none, the newest.

    Raises:
        NotFound: there is no such session, or no such pointer.
    """
    return leaf(files_of(store), read_facts(store, session_id), name)


def facts_history(store: Store, session_id: str, *, salvage: bool = False) -> tuple[FactChange, ...]:
    """Return every change of a session's facts, oldest first, those of unknown kinds included.

    Raises:
        NotFound: there is no such session.
        CorruptFacts: a line is damaged; with ``salvage``, it is skipped (:func:`read_facts` lists it).
    """
    files, session_id = files_of(store), parse_id(session_id)
    try:
        return tuple(scan(files, session_id, salvage=salvage).changes)
    except NotFound:
        created_ts(files, session_id)
        return ()


def repair_facts(store: Store, session_id: str) -> tuple[Damage, ...]:
    """Blank the damaged lines of a session's facts, keeping their bytes in ``session.damage``; return what was found.

    Raises:
        NotFound: there is no such session, or it has no facts.
        SegmentBusy: somebody else holds the file.
    """
    return blank_damage(files_of(store), session_id)


# ── find ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def find_sessions(store: Store, name: str) -> tuple[SessionFacts, ...]:
    """Return the sessions of this title, in any case, newest first; archived ones included.

    The facts of every session are read. Damage in them is listed in those that are returned.
    """
    wanted = name.casefold()
    return tuple(facts for facts in every_facts(files_of(store)) if (facts.title or "").casefold() == wanted)


def resolve_session(store: Store, text: str) -> str:
    """Return the id of the session that ``text`` names: its id, its external key, the end of its id, or its title.

    An id and a key are exact, and come first. At least four hexadecimal digits name an id by its end.

    Raises:
        AmbiguousName: several sessions end so or have this title; they are listed.
        NotFound: none does.
    """
    files = files_of(store)
    if not isinstance(text, str):
        raise CallerError(f"{text!r:.200}: is no text that could name a session")
    exact = _exact(files, text)
    if exact is not None:
        return exact
    title, end = text.casefold(), text.lower().replace("-", "")
    titles: dict[str, str | None] = {}
    if len(end) >= MIN_SUFFIX_DIGITS and _HEX.issuperset(end):
        titles = {found: None for found in files.list_sessions() if found.replace("-", "").endswith(end)}
    for facts in every_facts(files):
        if facts.external_key == text:  # of an index that is not there
            return facts.session_id
        if (facts.title is not None and facts.title.casefold() == title) or facts.session_id in titles:
            titles[facts.session_id] = facts.title
    if not titles:
        raise NotFound(f"session {text!r:.200}", "no id, key, end of an id or title is that")
    candidates = tuple(sorted(titles, reverse=True))
    if len(candidates) > 1:
        listing = ", ".join(f"{found} ({titles[found]!r:.60})" for found in candidates)
        raise AmbiguousName(text, candidates, listing)
    return candidates[0]


def _exact(store: FsStore, text: str) -> str | None:
    """Return the session whose id or external key this is."""
    try:
        session_id = parse_id(text)
    except InvalidId:
        session_id = ""
    if session_id and _layout.is_folder(f"{store.root}/{session_id}"):
        return session_id
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    found = find_key(store, text)
    return found.session_id if found is not None else None
