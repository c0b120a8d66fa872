"""Session facts: what is known of a session beside its log, and the lines that change it. Pure.

A change is a line, and the last one wins. ``null`` brings a fact back to its default; ``custom`` is changed key by key,
so that two programs that keep different keys there do not take each other's away.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

import msgspec

from session_log import _payload
from session_log._check import scrub
from session_log._errors import CallerError, CorruptSegment, InvalidEntry, StorageError
from session_log._items import JsonValue
from session_log._state import Damage

STATUSES: Final = ("running", "idle", "paused", "completed", "failed", "archived")
"""What a session may be said to be; nothing else is written. What a later version wrote is kept as it is."""
FACTS_VERSION: Final = 1
MAX_KEY_BYTES: Final = 4096
"""An external key, in UTF-8: it stands in the session's file and in the index of keys, which is searched."""
MAX_FACTS_LINE_BYTES: Final = 1 << 20
"""A line of facts: all of them are read to know the last. What is larger belongs into a blob."""
MAX_POINTER_BYTES: Final = 200
"""The name of a pointer, in UTF-8."""
ARCHIVED: Final = "archived"
DEFAULT_STATUS: Final = "idle"
_TEXTS: Final = (
    "external_key",
    "title",
    "task",
    "workspace",
    "source",
    "git_branch",
    "git_commit",
    "model",
    "memory_mode",
)


class CorruptFacts(CorruptSegment):
    """A committed line of a session's facts that is none. ``line`` counts from 1, ``byte_offset`` from 0."""

    def __init__(self, path: str, line: int, byte_offset: int, reason: str) -> None:
        place = f"{path}:{line} (byte {byte_offset}): {reason}"
        StorageError.__init__(self, f"{place}; read the rest with salvage=True, mend with repair_facts()")
        self.path = path
        self.line = line
        self.byte_offset = byte_offset
        self.reason = reason


class KeyTaken(CallerError):
    """The external key is another session's; nothing was changed."""

    def __init__(self, key: str, session_id: str) -> None:
        super().__init__(f"external key {key!r}: is that of session {session_id}; take it from there first")
        self.key = key
        self.session_id = session_id


class FactChanges(TypedDict, total=False):
    """What :func:`session_log.facts.set_facts` can change; ``None`` brings the default back."""

    external_key: str | None
    title: str | None
    task: str | None
    workspace: str | None
    status: str | None
    labels: tuple[str, ...] | list[str] | set[str] | frozenset[str] | None
    source: str | None
    git_branch: str | None
    git_commit: str | None
    model: str | None
    memory_mode: str | None
    custom: Mapping[str, Any] | None


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a session beside its log.

    ``active`` are named pointers to segments (``main``: where the conversation goes on), ``labels`` are sorted,
    ``custom`` is the caller's, ``extra`` keeps the facts of later versions. Times are milliseconds, UTC. ``damage``
    lists the lines that ``salvage=True`` skipped.
    """

    session_id: str
    created_ts: int
    updated_ts: int
    external_key: str | None = None
    title: str | None = None
    task: str | None = None
    workspace: str | None = None
    status: str = DEFAULT_STATUS
    labels: tuple[str, ...] = ()
    source: str | None = None
    git_branch: str | None = None
    git_commit: str | None = None
    model: str | None = None
    memory_mode: str | None = None
    custom: dict[str, JsonValue] = {}  # msgspec gives each its own
    active: dict[str, str] = {}
    extra: dict[str, JsonValue] = {}
    damage: tuple[Damage, ...] = ()

    @property
    def archived(self) -> bool:
        """Tell whether the session is archived."""
        return self.status == ARCHIVED

    @property
    def status_known(self) -> bool:
        """Tell whether ``status`` is one that this version knows; if not, treat the session as busy."""
        return self.status in STATUSES


class FactChange(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a session's facts: when, of which kind, and what it says besides."""

    ts: int
    kind: str
    changes: dict[str, JsonValue]


# ── to lines ───────────────────────────────────────────────────────────────────────────────────────────────────────


def first_line(session_id: str, ts: int) -> bytes:
    """Return the line that a session's facts begin with; ``ts`` is when the session was created."""
    return line_of("session", ts, {"session_id": session_id, "v": FACTS_VERSION})


def line_of(kind: str, ts: int, fields: Mapping[str, Any]) -> bytes:
    """Return a line, newline included, of fields that are checked.

    Raises:
        InvalidEntry: it is longer than ``MAX_FACTS_LINE_BYTES``.
    """
    data = msgspec.json.encode({"kind": kind, "ts": ts, **fields}) + b"\n"
    if len(data) > MAX_FACTS_LINE_BYTES:
        reason = f"the change has {len(data)} bytes, at most {MAX_FACTS_LINE_BYTES} (MAX_FACTS_LINE_BYTES)"
        raise InvalidEntry("$", f"{reason}; put large values into a blob")
    return data


def checked_key(key: object) -> str:
    """Return an external key that is read back as it is.

    Raises:
        InvalidEntry: it is no text, has lone surrogates, or more than ``MAX_KEY_BYTES``.
    """
    if not isinstance(key, str):
        raise InvalidEntry("$.external_key", f"{key!r:.200} is {type(key).__name__}; a key is text")
    key = _plain(key)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        reason = f"{key!r:.200} has lone surrogates; another key would take its place"
        raise InvalidEntry("$.external_key", reason) from None
    if size > MAX_KEY_BYTES:
        raise InvalidEntry("$.external_key", f"has {size} bytes, at most {MAX_KEY_BYTES} (MAX_KEY_BYTES)")
    return key


def checked_pointer(name: object) -> str:
    """Return the name of a pointer.

    Raises:
        InvalidEntry: it is no text, empty, or longer than ``MAX_POINTER_BYTES``.
    """
    if not isinstance(name, str) or not name or len(scrub(name).encode()) > MAX_POINTER_BYTES:
        raise InvalidEntry("$.name", f"{name!r:.300} is no name: 1 to {MAX_POINTER_BYTES} bytes (MAX_POINTER_BYTES)")
    return scrub(_plain(name))


def checked_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes as they are written and read back; ``custom`` is encoded.

    Raises:
        InvalidEntry: a name is no fact, or a value none of it; ``path`` names it.
    """
    if not changes:
        raise InvalidEntry("$", "nothing to set; give at least one fact")
    checked = {}
    for name, value in changes.items():
        check = _WRITERS.get(name)
        if check is None:
            raise InvalidEntry(f"$.{name}", f"is no fact to set; those are {', '.join(_WRITERS)}; else use custom")
        checked[name] = None if value is None else check(value, f"$.{name}")
    return checked


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidEntry(path, f"{value!r:.200} is {type(value).__name__}, no text")
    return scrub(_plain(value))


def _plain(value: str) -> str:
    return value if type(value) is str else f"{value}"  # of an enumeration's member, its text


def _status(value: object, path: str) -> str:
    status = _text(value, path)
    if status not in STATUSES:
        raise InvalidEntry(path, f"{status!r:.200} is no status; those are {', '.join(STATUSES)}")
    return status


def _labels(value: object, path: str) -> tuple[str, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, (tuple, list, set, frozenset)):
        raise InvalidEntry(path, f"{value!r:.200} is no list of texts")
    return tuple(sorted({_text(label, f"{path}[{at}]") for at, label in enumerate(value)}))


def _custom(value: object, path: str) -> msgspec.Raw:
    if not isinstance(value, Mapping):
        raise InvalidEntry(path, f"{value!r:.200} is {type(value).__name__}, no dict")
    return _payload.to_raw(dict(value), path)


_WRITERS: Final[dict[str, Callable[[object, str], Any]]] = {
    **dict.fromkeys(_TEXTS, _text),
    "external_key": lambda value, _: checked_key(value),
    "status": _status,
    "labels": _labels,
    "custom": _custom,
}
FACT_NAMES: Final = frozenset(_WRITERS)
