"""Typed domains: a record type declared once, recorded as ``extension`` entries, folded into a value.

    DEPLOYS = Domain("acme.deploy", Deploy, fold="last_by_key", key="target")
    DEPLOYS.record(writer, Deploy(target="eu", status="done"))
    DEPLOYS.value(writer.state)["eu"].status

=============  ==============================  ==============================================================
``fold``       value, without ``key``          what a record does
=============  ==============================  ==============================================================
append         tuple of records                comes behind those before it
last           record or None                  stands for all before it
last_by_key    (with ``key`` alone)            stands for those before it of its key
merge          record or None                  what it says (not None) replaces, fields of ``adds`` are added
sum            record or None                  numbers are added, anything else it says (not None) replaces
a function     what it returns                 (without ``key``) it gets the tuple of all records
=============  ==============================  ==============================================================

With ``key``, the name of a text field, the value is a dict: such a value for each key, in order of first appearance.

Extensions are part of the state, so a value survives restart, forks, copies and compactions as they do; with
``carried=False``, a compaction begins it anew (its records stay on file, and count no more). A payload that
is no record of the type is damage: an error that names it, or listed and skipped with ``salvage=True``. A later version
may add fields; they are ignored. Where a skipped record could have been a refusal (an unknown status), the domain says
with ``closed`` what stands in its place, given what stood before it (None: nothing), of its key or, if that cannot be
read, of every key: so nothing older is taken for what holds.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

import msgspec

from session_log._errors import CallerError, InvalidEntry
from session_log._ids import parse_id
from session_log._payload import Own, own
from session_log._placed import placed_extensions
from session_log._recording import check_domain, save_extension
from session_log._state import Damage, RestoredState
from session_log._store import Store
from session_log._typed import Found, Malformed, Placed, Salvaged, check_type, from_payload, merged, to_payload

__all__ = ["Domain", "Found", "Malformed", "Placed", "Salvaged"]
T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")
FoldName = Literal["append", "last", "last_by_key", "merge", "sum"]
_FOLDS = ("append", "last", "last_by_key", "merge", "sum")


class Extends(Protocol):
    """What can record an extension: a :class:`session_log.SegmentWriter`."""

    def save_extension(self, domain: str, payload: Any) -> int:
        """Record any JSON value under a domain."""
        ...


class Domain(Generic[T, V]):
    """A kind of record: its name in the log, its type, and how records make a value.

    Raises:
        CallerError: the type is no frozen Struct, or refuses unknown fields; the fold, key or ``adds`` is none.
        InvalidEntry: the name is no domain, or the library's own.
    """

    __slots__ = ("adds", "carried", "closed", "fold", "key", "name", "record_type")

    @overload
    def __init__(
        self: "Domain[T, tuple[T, ...]]", name: str, record_type: type[T], *, fold: Literal["append"],
        key: None = None, carried: bool = True,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: "Domain[T, dict[str, tuple[T, ...]]]", name: str, record_type: type[T], *, fold: Literal["append"],
        key: str, carried: bool = True,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: "Domain[T, T | None]", name: str, record_type: type[T], *, fold: Literal["last", "merge", "sum"],
        key: None = None, adds: Sequence[str] = (), closed: Callable[[T | None], T | None] | None = None,
        carried: bool = True,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: "Domain[T, dict[str, T]]", name: str, record_type: type[T], *,
        fold: Literal["last_by_key", "merge", "sum"], key: str, adds: Sequence[str] = (),
        closed: Callable[[T | None], T | None] | None = None,
        carried: bool = True,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, name: str, record_type: type[T], *, fold: Callable[[tuple[T, ...]], V], carried: bool = True
    ) -> None: ...
    def __init__(
        self,
        name: str,
        record_type: type[T],
        *,
        fold: FoldName | Callable[[tuple[T, ...]], V],
        key: str | None = None,
        adds: Sequence[str] = (),
        closed: Callable[[T | None], T | None] | None = None,
        carried: bool = True,
    ) -> None:
        check_domain(name)
        check_type(name, record_type)
        if fold not in _FOLDS and not callable(fold):
            raise CallerError(f"domain {name!r}: fold={fold!r} is no function, and none of {', '.join(_FOLDS)}")
        if (fold == "last_by_key" and key is None) or ((fold == "last" or callable(fold)) and key is not None):
            raise CallerError(f"domain {name!r}: fold={fold!r} with key={key!r}; last_by_key has a key, last has none")
        if adds and fold != "merge":
            raise CallerError(f"domain {name!r}: fold={fold!r} with adds; these are for merge")
        if closed is not None and (fold == "append" or callable(fold)):
            raise CallerError(f"domain {name!r}: fold={fold!r} with closed; no record stands for another there")
        for field in (*adds, *(() if key is None else (key,))):
            if field not in record_type.__struct_fields__:
                raise CallerError(f"domain {name!r}: {record_type.__name__} has no field {field!r}")
        self.name = name
        self.record_type = record_type
        self.fold = fold
        self.key = key
        self.adds = frozenset(adds)
        self.closed = closed
        self.carried = carried

    def __repr__(self) -> str:
        return f"Domain({self.name!r}, {self.record_type.__name__}, fold={self.fold!r})"

    # ── record ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def record(self, writer: Extends, value: T, /) -> int: ...
    @overload
    def record(self, store: Store, session_id: str, segment_id: str, value: T, /) -> int: ...
    def record(self, target: Any, /, *rest: Any) -> int:
        """Record a value behind a writer, or at the end of a segment of a store; return the new length in entries.

        Raises:
            InvalidEntry: it is no record of this domain, or would not read back the same; nothing was written.
            Else what :meth:`session_log.SegmentWriter.append` raises.
        """
        payload = self.payload_of(rest[-1])
        if type(payload) is dict:  # and not a list, of a Struct that is written as one
            payload = Own(payload)
        if len(rest) == 1:
            length: int = target.save_extension(self.name, payload)
            return length
        session_id, segment_id, _ = rest
        return save_extension(target, session_id, segment_id, self.name, payload)

    def payload_of(self, value: T) -> Any:
        """Return the payload that records a value, for an entry of your own.

        Raises:
            InvalidEntry: it is no record of this domain, or would not read back the same; ``path`` names the field.
        """
        if type(value) is not self.record_type:
            kind = type(value).__name__
            raise InvalidEntry("$.payload", f"{self.name!r} takes {self.record_type.__name__}, not {kind}")
        self._check_key(value, "$.payload")
        return to_payload(value)

    def read_payload(self, payload: Any, path: str = "$.payload") -> T:
        """Return the record of a payload; ``path`` is how errors name it.

        Raises:
            InvalidEntry: it is none.
        """
        value = from_payload(payload, self.record_type, path)
        self._check_key(value, path)
        return value

    def _check_key(self, value: T, path: str) -> None:
        if self.key is not None and not isinstance(getattr(value, self.key), str):
            raise InvalidEntry(f"{path}.{self.key}", "is the key of the domain, and no text")

    # ── look ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def value(self, state: RestoredState, *, salvage: Literal[False] = False) -> V: ...
    @overload
    def value(self, state: RestoredState, *, salvage: Literal[True]) -> Salvaged[V]: ...
    def value(self, state: RestoredState, *, salvage: bool = False) -> V | Salvaged[V]:
        """Return what the records of a state make; with ``salvage``, without the damaged ones, and with their list.

        Raises:
            InvalidEntry: a payload is no record; ``path`` names it (``$.extensions[3].payload.status``).
        """
        found = self._records(state)
        malformed = tuple(record for record in found if isinstance(record, Malformed))
        if malformed and not salvage:
            raise InvalidEntry(malformed[0].path, malformed[0].reason)
        value = self._value(state, found)
        return Salvaged(value, malformed) if salvage else value

    def latest(self, state: RestoredState) -> T | None:
        """Return the last record of a state as it was recorded, or None.

        Raises:
            InvalidEntry: it is damaged.
        """
        positions = self._positions(state)
        return self._record_at(state, positions[-1]) if positions else None

    def history(self, state: RestoredState) -> tuple[Placed[T], ...]:
        """Return the records of a state in order, each with its position in ``state.extensions``.

        Raises:
            InvalidEntry: a payload is no record.
        """
        return tuple([Placed(value=self._record_at(state, index), index=index) for index in self._positions(state)])

    def read(self, store: Store, session_id: str, segment_id: str) -> Found[T]:
        """Return the records of a segment and what it inherits, with their lines, and all damage met on the way.

        These are the records of its state: what was rolled back is not among them. Writes nothing.

        Raises:
            NotFound, UnsupportedVersion: there is no such segment, or it is of a later format.
        """
        damage: list[Damage] = []
        records: list[Placed[T]] = []
        malformed: list[Damage] = []
        for found in placed_extensions(store, parse_id(session_id), parse_id(segment_id), damage):
            if found.domain == self.name and (self.carried or not found.stale):
                place = found.place
                try:
                    value = self.read_payload(own(found.payload), found.json_path)
                except InvalidEntry as exc:
                    malformed.append(msgspec.structs.replace(place, reason=str(exc)))
                    continue
                records.append(
                    Placed(
                        value=value, path=place.path, line=place.line, byte_offset=place.byte_offset, ts=found.ts
                    )
                )  # fmt: skip
        return Found(tuple(records), (*damage, *malformed))

    def _positions(self, state: RestoredState) -> list[int]:
        start = 0 if self.carried else state.extensions_before_compaction
        found = enumerate(state.extensions)
        return [index for index, extension in found if index >= start and extension.domain == self.name]

    def _record_at(self, state: RestoredState, index: int) -> T:
        return self.read_payload(own(state.extensions[index].payload), f"$.extensions[{index}].payload")

    def _records(self, state: RestoredState) -> list[T | Malformed]:
        found: list[T | Malformed] = []
        for index in self._positions(state):
            try:
                found.append(self._record_at(state, index))
            except InvalidEntry as exc:
                found.append(Malformed(index, exc.path, exc.reason))
        return found

    # ── fold ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _value(self, state: RestoredState, found: Iterable[T | Malformed]) -> V:
        groups: dict[str, list[T]] = {}
        for record in found:
            if not isinstance(record, Malformed):
                groups.setdefault(getattr(record, self.key) if self.key is not None else "", []).append(record)
            elif self.closed is not None:
                for key in self._meant(state.extensions[record.index].payload, groups):
                    closed = self.closed(self._one(groups.get(key, [])))
                    if closed is not None:
                        groups[key] = [closed]
                    else:
                        groups.pop(key, None)
        if self.key is None:
            return self._one(groups.get("", []))  # type: ignore[no-any-return]
        return {key: self._one(records) for key, records in groups.items()}  # type: ignore[return-value]

    def _meant(self, payload: Any, groups: dict[str, list[T]]) -> list[str]:
        """Return the keys that a damaged record may be of: the one it names, or else all of them."""
        if self.key is None:
            return [""]
        if isinstance(payload, dict):
            at = self.record_type.__struct_fields__.index(self.key)
            key = payload.get(self.record_type.__struct_encode_fields__[at])
            if isinstance(key, str):
                return [key]
        return list(groups)

    def _one(self, records: list[T]) -> Any:
        """Return what the records of one key make."""
        if self.fold == "append":
            return tuple(records)
        if callable(self.fold):
            return self.fold(tuple(records))
        if len(records) < 2 or self.fold in ("last", "last_by_key"):
            return records[-1] if records else None
        return merged(records, None if self.fold == "sum" else self.adds)
