"""Records of a Struct type: payload and back, and many into one. Pure.

A record is written as what it is read back as; unknown fields of a payload are ignored, anything else that does not fit
the type is an error that names the value.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from session_log._check import scrubbed
from session_log._errors import CallerError, InvalidEntry
from session_log._state import Damage

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")
MAX_REASON_CHARS = 500
"""How much of a reason is kept: a decoder quotes the value it refuses, which may be as long as a line."""


class Placed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A record and what is known of its place.

    ``index`` is its position in ``state.extensions``, ``ts`` the time of its entry; a record that a copy or compaction
    took along has the place of the line it stands in now, and no ``ts``.
    """

    value: T
    index: int | None = None
    path: str | None = None
    line: int | None = None
    byte_offset: int | None = None
    ts: int | None = None


class Malformed(msgspec.Struct, frozen=True):
    """A payload that is no record: the ``index`` in ``state.extensions``, the ``path`` of the value, and why."""

    index: int
    path: str
    reason: str


class Salvaged(NamedTuple, Generic[V]):
    """A value without the records that are damaged, and these."""

    value: V
    malformed: tuple[Malformed, ...]


class Found(NamedTuple, Generic[T]):
    """The records of a segment and what it inherits, in order, and the damage met on the way."""

    records: tuple[Placed[T], ...]
    damage: tuple[Damage, ...]


def check_type(name: str, record_type: Any) -> None:
    """Refuse what no records can be of.

    Raises:
        CallerError: no Struct, not frozen, or closed to the fields of later versions.
    """
    if not isinstance(record_type, type) or not issubclass(record_type, msgspec.Struct):
        raise CallerError(f"domain {name!r}: {record_type!r} is no msgspec Struct")
    config = record_type.__struct_config__
    if not config.frozen:
        raise CallerError(f"domain {name!r}: {record_type.__name__} must be frozen; a record does not change")
    if config.forbid_unknown_fields:
        raise CallerError(f"domain {name!r}: {record_type.__name__} forbids unknown fields, which later versions add")


def to_payload(value: msgspec.Struct) -> Any:
    """Return the payload that records a value.

    Raises:
        InvalidEntry: it would not read back the same; ``path`` names the field.
    """
    try:
        payload = msgspec.to_builtins(value, str_keys=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidEntry("$.payload", f"has no JSON form ({exc})") from exc
    read = from_payload(payload, type(value), "$.payload")
    if read != value:
        path = _difference(value, read, "$.payload")
        if path is not None:
            raise InvalidEntry(path, "would not read back the same")
    return payload


def from_payload(payload: Any, record_type: type[T], path: str) -> T:
    """Return the record of a payload; ``path`` is how errors name it.

    Raises:
        InvalidEntry: it is none.
    """
    try:
        return _convert(payload, record_type, path)
    except UnicodeEncodeError:  # msgspec, over a lone surrogate where it looks for a field or an enum
        try:
            return _convert(scrubbed(payload), record_type, path)
        except RecursionError:
            raise InvalidEntry(path, "nested too deeply") from None


def _convert(payload: Any, record_type: type[T], path: str) -> T:
    try:
        return msgspec.convert(payload, record_type, str_keys=True)
    except msgspec.ValidationError as exc:
        reason, _, place = str(exc).rpartition(" - at `$")
        if not reason:
            reason, place = place, ""
        raise InvalidEntry((path + place.rstrip("`"))[:MAX_REASON_CHARS], reason[:MAX_REASON_CHARS]) from None
    except RecursionError:
        raise InvalidEntry(path, "nested too deeply") from None


def _difference(one: Any, other: Any, path: str) -> str | None:
    """Return where two values differ. A list where a tuple is kept does not; what is no number the core refuses."""
    if isinstance(one, msgspec.Struct) and type(one) is type(other):
        names = one.__struct_fields__
        found = [_difference(getattr(one, name), getattr(other, name), f"{path}.{name}") for name in names]
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        found = [_difference(*pair, f"{path}[{at}]") for at, pair in enumerate(zip(one, other, strict=True))]
    else:
        return path if one != other and one == one else None  # noqa: PLR0124  NaN is the one value that is not itself
    return next((place for place in found if place is not None), None)


def merged(records: Sequence[T], adds: frozenset[str] | None) -> T:
    """Return one record of many: fields of ``adds`` (None: all that hold numbers) are added, of others the last counts.

    What a record leaves None (or UNSET) it does not say.
    """
    first = records[0]
    return type(first)(**{
        name: _field([getattr(record, name) for record in records], None if adds is None else name in adds)
        for name in first.__struct_fields__
    })  # fmt: skip


def _field(values: list[Any], added: bool | None) -> Any:
    said = [value for value in values if value is not None and value is not msgspec.UNSET]
    if not said:
        return values[-1]
    if added is None:
        added = all(type(value) in (int, float) for value in said)
    return reduce(operator.add, said) if added else said[-1]  # from left to right; the built-in sum rounds otherwise
