"""The fold of a session's facts: lines to what is known. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from session_log import _payload
from session_log._check import MAX_INTEGER
from session_log._errors import InvalidEntry, InvalidId
from session_log._facts import ARCHIVED, DEFAULT_STATUS, FACT_NAMES, SessionFacts
from session_log._ids import parse_id
from session_log._state import Damage

_FRAMING: Final = frozenset({"kind", "ts", "batch", "token"})


def decode_facts_line(line: bytes) -> dict[str, Any]:
    """Return the object of a line: of any kind, with a time.

    Raises:
        InvalidEntry: it is no such line.
    """
    found = _payload.object_of(line)
    if not isinstance(found.get("kind"), str):
        raise InvalidEntry("$.kind", "is missing, or no text")
    ts = found.get("ts")
    if type(ts) is not int or not 0 <= ts <= MAX_INTEGER:
        raise InvalidEntry("$.ts", f"{ts!r:.100} is no time in milliseconds")
    return found


class Folding:
    """The fold of the lines so far. The only thing here that changes; :meth:`facts` freezes it."""

    __slots__ = ("_active", "_before", "_created_ts", "_custom", "_extra", "_known", "session_id", "updated_ts")

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self._known: dict[str, Any] = {}
        self._custom: dict[str, Any] = {}
        self._active: dict[str, str] = {}
        self._extra: dict[str, Any] = {}
        self._before: str = DEFAULT_STATUS
        self._created_ts: int | None = None
        self.updated_ts = 0

    @property
    def archived(self) -> bool:
        """Tell whether the session is archived now."""
        return self._known.get("status") == ARCHIVED

    def apply(self, line: Mapping[str, Any]) -> None:
        """Fold one decoded line; kinds that are not known change nothing but the time.

        Raises:
            InvalidEntry: a value is none of its fact; nothing of the line was taken.
        """
        match line["kind"]:
            case "set":
                self._set({name: value for name, value in line.items() if name not in _FRAMING})
            case "archive":
                self._archive()
            case "unarchive":
                if self._known.get("status") == ARCHIVED:
                    self._known["status"] = self._before
            case "point":
                self._point(line)
            case "session":
                self._begin(line)
        ts = line["ts"]
        if self._created_ts is None:
            self._created_ts = ts
        self.updated_ts = max(self.updated_ts, ts)

    def _begin(self, line: Mapping[str, Any]) -> None:
        if line.get("session_id") != self.session_id:
            raise InvalidEntry("$.session_id", f"{line.get('session_id')!r:.100} is not the session of this folder")

    def _archive(self) -> None:
        status = self._known.get("status", DEFAULT_STATUS)
        if status != ARCHIVED:
            self._before = status
            self._known["status"] = ARCHIVED

    def _point(self, line: Mapping[str, Any]) -> None:
        name, segment_id = line.get("name"), line.get("segment_id")
        if not isinstance(name, str):
            raise InvalidEntry("$.name", f"{name!r:.100} is no text")
        if segment_id is None:
            self._active.pop(name, None)
            return
        try:
            self._active[name] = parse_id(segment_id)
        except InvalidId as exc:
            raise InvalidEntry("$.segment_id", str(exc)) from None

    def _set(self, changes: dict[str, Any]) -> None:
        for name, value in changes.items():  # all of them before the first is taken
            if value is not None:
                _refuse_type(name, value)
        custom = changes.pop("custom", ...)
        status = changes.pop("status", ...)
        labels = changes.pop("labels", ...)
        for name, value in changes.items():
            kept = self._known if name in FACT_NAMES else self._extra
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value
        if labels is not ...:
            self._known["labels"] = tuple(sorted(set(labels or ())))
        if status == ARCHIVED:
            self._archive()
        elif status is not ...:
            self._known["status"] = status or DEFAULT_STATUS
        if custom is None:
            self._custom.clear()
        elif custom is not ...:
            _merge(self._custom, custom)

    def facts(self, damage: tuple[Damage, ...] = ()) -> SessionFacts:
        """Return what is known now; it shares nothing with what comes later."""
        return SessionFacts(
            session_id=self.session_id,
            created_ts=self._created_ts or 0,
            updated_ts=self.updated_ts,
            custom=_payload.own(self._custom) if self._custom else {},
            active=self._active.copy(),
            extra=_payload.own(self._extra) if self._extra else {},
            damage=damage,
            **self._known,
        )


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = _payload.own(value)


def _refuse_type(name: str, value: object) -> None:
    """Refuse what no version writes for a fact that is known; an unknown status is a later version's."""
    match name:
        case "labels":
            sound = isinstance(value, (list, tuple)) and all(isinstance(label, str) for label in value)
        case "custom":
            sound = isinstance(value, dict)
        case _:
            sound = isinstance(value, str) or name not in FACT_NAMES
    if not sound:
        raise InvalidEntry(f"$.{name}", f"{value!r:.100} is none of that")
